# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Procedural textures, evaluated on a surface's own coordinates so that they move with it.

Antialiasing: the footprint of a pixel on the surface limits the band of the noise and softens
every edge of the patterns.
"""

from __future__ import annotations

import math
from typing import Sequence

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.sim.materials import Material, PALETTE_SIZE
import torch
from torch import Tensor

Array = NDArray[np.float64]

_LATTICE = 64  # cells before the noise repeats
_OVERSAMPLING = 8  # stored samples per cell
_COARSEST = 0.6  # size of the noise's first cells, metres
_LACUNARITY = 2.3
_OCTAVES = 7
_BLOTCH_OCTAVES = 3  # the patches' outlines come from the first octaves
_AMPLITUDE = 0.34  # of the first octave
_PERSISTENCE = 0.92
_CELL_HASHES = 4096


class Textures:
    """
    The textures of all faces of a scene.

    :param materials: one per face
    :param half_sizes: half the faces' extent (len(materials), 2), metres
    :param rng: source of the noise and of each face's offset in it
    :param device: where to evaluate
    """

    def __init__(self, materials: Sequence[Material], half_sizes: Array, rng: np.random.Generator,
                 device: torch.device) -> None:
        self._noise = _noise_tile(rng).to(device)
        self._hashes = torch.as_tensor(rng.integers(0, PALETTE_SIZE, _CELL_HASHES, dtype=np.int32),
                                       device=device)
        offsets = rng.uniform(0.0, 16.0, (len(materials), 2))
        rows = [[*half, *offset, *m.cell, m.row_shift, m.seam, m.disc, m.border, m.noise,
                 1.0 / m.stretch, m.blotch]
                for m, half, offset in zip(materials, half_sizes, offsets)]
        self._numbers = torch.tensor(np.array(rows), dtype=torch.float32, device=device)
        palettes = _linear([m.palette for m in materials])
        self._palette = palettes.reshape(-1, 3).to(device)
        seams, borders, blotches = (_linear([getattr(m, name) for m in materials]) for name in
                                    ('seam_color', 'border_color', 'blotch_color'))
        # mean colour of a cell, for a cell smaller than a pixel
        lined = torch.tensor([[1.3 * m.seam * (1 / m.cell[0] + 1 / m.cell[1])] for m in materials])
        means = torch.lerp(palettes.mean(1), seams, lined)
        self._colors = torch.cat([means, seams, borders, blotches], dim=1).to(device)

    def albedo(self, face: Tensor, u: Tensor, v: Tensor, footprint: Tensor) -> Tensor:
        """
        Evaluate.

        :param face: index into the materials (N,), int32
        :param u: (N,), metres from the face's centre
        :param v: (N,), metres from the face's centre
        :param footprint: extent of a pixel on the surface (N,), metres
        :returns: linear RGB (3, N)
        """
        (half_u, half_v, offset_u, offset_v, width, height, shift, seam, disc, border, strength,
         squeeze, blotch) = self._numbers.index_select(0, face).t().contiguous()
        mean, seam_color, border_color, blotch_color = \
            self._colors.index_select(0, face).t().contiguous().view(4, 3, -1)
        soft = 1.5 * footprint
        grain, patches = self._fractal((u + 32.0) * squeeze + offset_u, v + 32.0 + offset_v,
                                       footprint)

        row = torch.floor(v / height)
        column = u / width + shift * row
        across = (column - torch.floor(column) - 0.5) * width
        along = v - (row + 0.5) * height
        column = torch.floor(column)
        code = (row * 57.0 + column * 131.0 + face * 17.0).to(torch.int32) & (_CELL_HASHES - 1)
        base = self._hashes.index_select(0, code)
        first = face * PALETTE_SIZE
        color = self._palette.index_select(0, first + base).t()
        accent = self._palette.index_select(0, first + (base + 2) % PALETTE_SIZE).t()

        radius = (across * across + along * along).sqrt_()
        color = torch.lerp(color, accent, _ramp(disc - radius, soft))
        # lines thinner than a pixel get fainter, not thinner
        edge = torch.minimum(0.5 * width - across.abs(), 0.5 * height - along.abs())
        line = torch.lerp(mean, seam_color, (seam / footprint).clamp_(max=1.0))
        inside = ((edge - 0.5 * seam) / torch.maximum(soft, 0.3 * seam)).clamp_(0.0, 1.0)
        color = torch.lerp(line, color, inside)
        legible = ((torch.minimum(width, height) / footprint - 1.5) * 0.5).clamp_(0.0, 1.0)
        color = torch.lerp(mean, color, legible)

        color = torch.lerp(color, blotch_color, patches * blotch)
        rim = torch.minimum(half_u - u.abs(), half_v - v.abs())
        color = torch.lerp(color, border_color, _ramp(border - rim, soft))
        return color.mul_(1.0 + strength * grain).clamp_(0.0, 1.0)

    def _fractal(self, u: Tensor, v: Tensor, footprint: Tensor) -> tuple[Tensor, Tensor]:
        # grain: sum of the octaves, about [-1.5, 1.5]; patches: [0, 1] with soft outlines
        grain, patches = torch.zeros_like(u), torch.zeros_like(u)
        finest = float(footprint.min()) if footprint.numel() else 0.0
        straight = torch.stack([u, v], dim=-1)
        turned = torch.stack([0.8 * u - 0.6 * v + 64.0, 0.6 * u + 0.8 * v], dim=-1)
        size, amplitude = _COARSEST, _AMPLITUDE
        for octave in range(_OCTAVES):
            if size < finest:
                break
            grid = (turned if octave % 2 else straight) * (1.0 / (_LATTICE * size))
            grid = grid.add_(0.37 * octave).frac_().mul_(2.0).sub_(1.0)
            channels = 2 if octave < _BLOTCH_OCTAVES else 1
            value = torch.nn.functional.grid_sample(
                self._noise[:, :channels], grid[None, None], align_corners=True)[0, :, 0]
            visible = (size / footprint - 1.0).mul_(0.6).clamp_(0.0, 1.0).mul_(amplitude)
            grain.addcmul_(value[0], visible)
            if octave < _BLOTCH_OCTAVES:
                patches.addcmul_(value[1], visible)
            size, amplitude = size / _LACUNARITY, amplitude * _PERSISTENCE
        # the outlines are as soft as a pixel: the patches' noise changes by about 1 in `cell`
        cell = _COARSEST / _LACUNARITY ** (_BLOTCH_OCTAVES - 1)
        return grain, _ramp(patches - 0.12, (3.0 / cell * footprint).clamp_(min=0.06))


def _ramp(distance: Tensor, width: Tensor) -> Tensor:
    # 0 below -width / 2, 1 above width / 2
    return (distance / width + 0.5).clamp_(0.0, 1.0)


def _linear(colors: Sequence[object]) -> Tensor:
    # display gamma taken as 2: the renderer ends in a square root
    return torch.tensor(np.array(colors, dtype=np.float64) ** 2, dtype=torch.float32)


def _noise_tile(rng: np.random.Generator) -> Tensor:
    # periodic value noise in [-1, 1], quintic between lattice points, closed by its first row
    # and column: (1, 2, S + 1, S + 1)
    lattice = rng.uniform(-1.0, 1.0, (2, _LATTICE, _LATTICE))
    position = np.arange(_LATTICE * _OVERSAMPLING + 1) / _OVERSAMPLING
    cell = np.floor(position).astype(int)
    t = position - cell
    weight = t**3 * (t * (6.0 * t - 15.0) + 10.0)
    left, right = cell % _LATTICE, (cell + 1) % _LATTICE
    rows = lattice[:, left] * (1 - weight)[:, None] + lattice[:, right] * weight[:, None]
    tile = rows[:, :, left] * (1 - weight) + rows[:, :, right] * weight
    # bilinear interpolation averages; keep the contrast of the lattice
    return torch.tensor(tile[None] / math.sqrt(0.5), dtype=torch.float32)
