# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a depth camera measures of a scene: noise, holes and flying pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Standard deviation of a depth over its square, 1/m (Khoshelham and Elberink, Sensors 2012,
#: section 3.2: half a pixel of disparity)
NOISE = 1.42e-3
#: Range of the camera, metres
NEAREST, FARTHEST = 0.4, 8.0
#: Factor between the depths on both sides of a step
STEP = 1.05
#: Share of the pixels at a step that lie between its sides, and that are unknown
FLYING, UNKNOWN_AT_STEPS = 0.5, 0.3
#: Holes in an image: dark or reflecting surfaces; and their radius, share of the image's width
HOLES, HOLE_RADIUS = 4, 0.06


def measured(depth: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """
    Return true depth as a structured-light camera measures it.

    :param depth: (H, W) true, metres along the optical axis
    :return: (H, W) float32 metres, NaN where unknown
    """
    height, width = depth.shape
    around = np.lib.stride_tricks.sliding_window_view(np.pad(depth, 1, 'edge'), (3, 3))
    near, far = around.min(axis=(2, 3)), around.max(axis=(2, 3))
    step = far > STEP * near
    out = depth + NOISE * depth ** 2 * rng.normal(size=depth.shape)
    between = near + (far - near) * rng.random(depth.shape)
    out = np.where(step & (rng.random(depth.shape) < FLYING), between, out)
    out[step & (rng.random(depth.shape) < UNKNOWN_AT_STEPS)] = np.nan
    rows, columns = np.mgrid[:height, :width]
    for _ in range(HOLES):
        column, row = rng.integers(width), rng.integers(height)
        out[np.hypot(rows - row, columns - column) < HOLE_RADIUS * width] = np.nan
    out[(depth < NEAREST) | (depth > FARTHEST)] = np.nan
    return out.astype(np.float32)
