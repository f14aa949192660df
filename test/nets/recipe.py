# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Deterministic weights and inputs for numerical-parity tests.

A golden file holds no weights. Both sides build the same ones from parameter
names, so a test needs only the recipe, the parameter names and the expected
outputs. Arrays are float32; images are in [-1, 1], shape (B, 3, H, W).
"""

import zlib

import numpy as np


def parameter(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """
    Value of the parameter `name`: seeded by the CRC-32 of its name.

    Vectors named `*.bias` are 0.02 n, other vectors 1 + 0.05 n, and tensors of
    two or more axes n / sqrt(prod(shape[1:])), where n is standard normal.
    """
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    normal = rng.standard_normal(shape, dtype=np.float32)
    if len(shape) <= 1:
        return 0.02 * normal if name.endswith('bias') else 1.0 + 0.05 * normal
    return normal / np.float32(np.sqrt(np.prod(shape[1:])))


def image(seed: int, batch: int, height: int, width: int) -> np.ndarray:
    """Smooth random images in [-1, 1], shape (batch, 3, height, width)."""
    rng = np.random.Generator(np.random.PCG64(seed))
    coarse = rng.uniform(-1, 1, (batch, 3, height // 16 + 2, width // 16 + 2)).astype(np.float32)
    rows = np.linspace(0, coarse.shape[2] - 1.001, height, dtype=np.float32)
    cols = np.linspace(0, coarse.shape[3] - 1.001, width, dtype=np.float32)
    r0, c0 = rows.astype(int), cols.astype(int)
    fr, fc = (rows - r0)[:, None], (cols - c0)[None, :]
    tl, tr = coarse[:, :, r0][..., c0], coarse[:, :, r0][..., c0 + 1]
    bl, br = coarse[:, :, r0 + 1][..., c0], coarse[:, :, r0 + 1][..., c0 + 1]
    mixed = tl * (1 - fr) * (1 - fc) + tr * (1 - fr) * fc + bl * fr * (1 - fc) + br * fr * fc
    return mixed.astype(np.float32)
