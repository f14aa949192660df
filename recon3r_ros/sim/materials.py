# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Materials of surfaces: the parameters of the procedural texture, and a catalogue to draw from.

Colours are sRGB in [0, 1]; lengths are metres on the surface.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Color = tuple[float, float, float]

PALETTE_SIZE = 6


@dataclass(frozen=True)
class Material:
    """
    A pattern of cells (tiles, planks, bricks ...) under noise of many scales.

    :param palette: PALETTE_SIZE colours; each cell takes a random one
    :param seam_color: of the lines between cells
    :param border_color: of the face's border
    :param blotch_color: of the irregular patches
    :param cell: width and height of a cell
    :param row_shift: offset of a row against the one below, in cells
    :param seam: width of the lines between cells
    :param disc: radius of a disc of a second colour in the middle of each cell; negative for none
    :param border: width of the border along the face's edges; negative for none
    :param noise: strength of the noise, relative
    :param stretch: how many times longer noise is along u than along v, as grain
    :param blotch: opacity of the patches
    """

    palette: tuple[Color, ...]
    seam_color: Color
    border_color: Color
    blotch_color: Color
    cell: tuple[float, float]
    row_shift: float = 0.0
    seam: float = 0.006
    disc: float = -1.0
    border: float = -1.0
    noise: float = 0.35
    stretch: float = 1.0
    blotch: float = 0.0


_WOODS = ((0.76, 0.56, 0.36), (0.62, 0.42, 0.26), (0.80, 0.66, 0.47), (0.52, 0.36, 0.25))
_WALLS = ((0.86, 0.82, 0.72), (0.70, 0.79, 0.80), (0.83, 0.74, 0.66), (0.74, 0.80, 0.70),
          (0.80, 0.76, 0.83))
_VIVID = ((0.86, 0.34, 0.26), (0.20, 0.50, 0.66), (0.93, 0.72, 0.28), (0.28, 0.56, 0.42),
          (0.56, 0.34, 0.56), (0.90, 0.54, 0.30), (0.32, 0.64, 0.68), (0.78, 0.30, 0.46),
          (0.45, 0.60, 0.24), (0.24, 0.34, 0.60))
_CREAM = (0.95, 0.92, 0.84)


def _pick(rng: np.random.Generator, colors: tuple[Color, ...]) -> Color:
    return colors[int(rng.integers(len(colors)))]


def _shade(color: Color, hue: float = 0.0, saturation: float = 1.0, value: float = 1.0) -> Color:
    h, s, v = colorsys.rgb_to_hsv(*color)
    return colorsys.hsv_to_rgb((h + hue) % 1.0, min(s * saturation, 1.0), min(v * value, 1.0))


def _tones(rng: np.random.Generator, base: Color, spread: float) -> tuple[Color, ...]:
    # one colour in several tones
    return tuple(_shade(base, rng.normal(0.0, 0.05 * spread), 1 + rng.normal(0.0, 0.6 * spread),
                        1 + rng.uniform(-spread, spread)) for _ in range(PALETTE_SIZE))


def _medley(rng: np.random.Generator) -> tuple[Color, ...]:
    # several vivid colours and a pale one
    order = rng.permutation(len(_VIVID))[:PALETTE_SIZE - 1]
    return (*(_VIVID[i] for i in order), _CREAM)


def planks(rng: np.random.Generator) -> Material:
    """
    Draw wooden planks.

    :param rng: source of colour and size
    :returns: the material
    """
    wood = _pick(rng, _WOODS)
    width = rng.uniform(0.1, 0.16)
    return Material(_tones(rng, wood, 0.16), _shade(wood, value=0.45), _shade(wood, value=0.6),
                    _shade(wood, value=0.6), (rng.uniform(0.8, 1.2), width),
                    row_shift=0.37, seam=0.006, noise=0.55, stretch=5.0, blotch=0.35)


def bricks(rng: np.random.Generator) -> Material:
    """
    Draw a brick wall.

    :param rng: source of colour and size
    :returns: the material
    """
    base = _pick(rng, ((0.72, 0.42, 0.32), (0.78, 0.62, 0.48), (0.80, 0.76, 0.70)))
    height = rng.uniform(0.085, 0.12)
    return Material(_tones(rng, base, 0.2), (0.80, 0.77, 0.72), (0.90, 0.88, 0.84),
                    _shade(base, value=0.6), (2.6 * height, height), row_shift=0.5, seam=0.013,
                    border=0.09, noise=0.5, blotch=0.4)


def tiles(rng: np.random.Generator) -> Material:
    """
    Draw ceramic tiles with an ornament.

    :param rng: source of colour and size
    :returns: the material
    """
    base = _pick(rng, _VIVID)
    size = rng.uniform(0.15, 0.26)
    palette = (*_tones(rng, base, 0.2)[:4], _CREAM, _shade(_CREAM, value=0.85))
    return Material(palette, (0.88, 0.87, 0.84), _shade(base, value=0.6), _shade(base, value=0.5),
                    (size, size), seam=0.008, disc=size * rng.uniform(0.18, 0.34), border=0.05,
                    noise=0.35, blotch=0.45)


def wallpaper(rng: np.random.Generator) -> Material:
    """
    Draw a printed wallpaper.

    :param rng: source of colour and size
    :returns: the material
    """
    base = _pick(rng, _WALLS)
    width = rng.uniform(0.16, 0.3)
    return Material(_tones(rng, base, 0.1), _shade(base, value=0.72), (0.93, 0.91, 0.87),
                    _shade(base, hue=0.04, saturation=1.8, value=0.68),
                    (width, width * rng.uniform(1.0, 1.9)), row_shift=rng.choice([0.0, 0.5]),
                    seam=0.01, disc=width * rng.uniform(0.12, 0.26), border=0.1, noise=0.4,
                    blotch=0.55)


def plaster(rng: np.random.Generator) -> Material:
    """
    Draw a ceiling of painted panels.

    :param rng: source of colour and size
    :returns: the material
    """
    base = _shade(_pick(rng, _WALLS), saturation=0.5, value=1.1)
    return Material(_tones(rng, base, 0.07), _shade(base, value=0.7), _shade(base, value=0.85),
                    _shade(base, value=0.78), (0.6, 0.6), seam=0.014, border=0.12, noise=0.35,
                    blotch=0.4)


def painted(rng: np.random.Generator) -> Material:
    """
    Draw painted furniture with worn patches.

    :param rng: source of colour and size
    :returns: the material
    """
    base = _pick(rng, (*_VIVID, *_WOODS))
    return Material(_tones(rng, base, 0.18), _shade(base, value=0.45), _shade(base, value=0.55),
                    _shade(base, hue=0.08, saturation=0.5, value=1.4),
                    (rng.uniform(0.3, 0.5), rng.uniform(0.18, 0.34)), seam=0.012, border=0.02,
                    noise=0.55, stretch=rng.choice([1.0, 3.0]), blotch=0.5)


def mosaic(rng: np.random.Generator) -> Material:
    """
    Draw a colourful patchwork: dynamic objects, balls, cushions.

    :param rng: source of colour and size
    :returns: the material
    """
    size = rng.uniform(0.09, 0.15)
    return Material(_medley(rng), (0.16, 0.15, 0.2), (0.16, 0.15, 0.2), (0.98, 0.95, 0.88),
                    (size, size * rng.uniform(0.8, 1.3)), row_shift=rng.choice([0.0, 0.5]),
                    seam=0.008, disc=size * rng.uniform(0.15, 0.3), border=0.012, noise=0.45,
                    blotch=0.35)


def picture(rng: np.random.Generator) -> Material:
    """
    Draw a framed abstract painting.

    :param rng: source of colour and size
    :returns: the material
    """
    size = rng.uniform(0.12, 0.28)
    return replace(mosaic(rng), cell=(size, size * rng.uniform(0.6, 1.5)), seam=0.003,
                   seam_color=_CREAM, disc=size * rng.uniform(0.2, 0.38), border=0.04, blotch=0.6,
                   border_color=_pick(rng, ((0.18, 0.16, 0.15), (0.85, 0.8, 0.7), _WOODS[1])))


def carpet(rng: np.random.Generator) -> Material:
    """
    Draw a woven carpet.

    :param rng: source of colour and size
    :returns: the material
    """
    base = _pick(rng, _VIVID)
    size = rng.uniform(0.16, 0.24)
    palette = (*_tones(rng, base, 0.2)[:3], *_tones(rng, _pick(rng, _VIVID), 0.2)[:2], _CREAM)
    return Material(palette, _shade(base, value=0.5), _shade(base, value=0.65), _CREAM,
                    (size, size), row_shift=0.5, seam=0.015, disc=0.3 * size, border=0.1,
                    noise=0.6, blotch=0.3)
