# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Gaussians of a finished map by a network: its keyframes, with refined poses, in windows.

A keyframe's pixels that are static, and that another one of its window sees at their depth, are a
Gaussian each. Depth of the map only bounds the network's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from recon3r_ros.errors import InputError
from recon3r_ros.models.h3r import H3rEngine, Made, PosedImage
from recon3r_ros.slam.types import Gaussians, Keyframe

#: Keyframes of a window
WINDOW = 4
#: Quantiles of a keyframe's depth, and factors of them, that bound the network's depth
_NEAR, _FAR = (0.02, 0.5), (0.98, 2.0)
#: Pixels of known depth that bounds need
_KNOWN = 100


@dataclass(frozen=True, eq=False)
class LearnedGaussians:
    """
    Gaussians of a map.

    :param gaussians: in the frame and unit of the keyframes' poses
    :param left_out: number of keyframes that have none: depth too little known, no partner, or
        no scale of the network's unit
    """

    gaussians: Gaussians
    left_out: int


def windows_of(count: int) -> list[tuple[range, range]]:
    """
    Return windows of consecutive keyframes, and of which of them each makes the Gaussians.

    :param count: number of keyframes; fewer than two have no window
    """
    if count < 2:
        return []
    found = []
    for start in range(0, count, WINDOW):
        own = range(start, min(start + WINDOW, count))
        # The last window is as large as the others, so that its views have as many sources
        found.append((range(max(own.stop - WINDOW, 0), own.stop), own))
    return found


def learned_gaussians(keyframes: Iterable[Keyframe], engine: H3rEngine,
                      advance: Callable[[], None] = lambda: None) -> LearnedGaussians:
    """
    Make Gaussians of keyframes.

    :param keyframes: of a map, in their order
    :param advance: called after each keyframe
    :raises InputError: where no two keyframes of a camera have known depth
    """
    keyframes = list(keyframes)
    used: dict[tuple[str, tuple[int, ...]], list[PosedImage]] = {}
    for keyframe in keyframes:
        view = _posed(keyframe)
        if view is not None:
            used.setdefault((keyframe.camera_name, view.image.shape[:2]), []).append(view)
    made: list[Made] = []
    count = 0
    for views in used.values():
        for window, own in windows_of(len(views)):
            found = engine.gaussians([views[i] for i in window])
            made += [found[i - window.start] for i in own]
            count += len(own)
            for _ in own:
                advance()
    if not count:
        raise InputError(f'{len(keyframes)} keyframes, of which no two have known depth: a '
                         'network needs two of a camera; run with more images')
    return LearnedGaussians(joined(made), len(keyframes) - count)


def depth_bounds(keyframe: Keyframe) -> tuple[float, float] | None:
    """Return the least and the largest depth to expect; None where depth is too little known."""
    known = keyframe.inverse_depth[(keyframe.inverse_depth > 0) & ~keyframe.mask]
    if len(known) < _KNOWN:
        return None
    near, far = (factor * float(np.quantile(1 / known, share)) for share, factor in (_NEAR, _FAR))
    return near, far


def _posed(keyframe: Keyframe) -> PosedImage | None:
    """Return a keyframe for the network; None where its depth is too little known."""
    bounds = depth_bounds(keyframe)
    return None if bounds is None else PosedImage(
        keyframe.image, keyframe.camera, keyframe.T_map_cam, *bounds, ~keyframe.mask)


def joined(made: Sequence[Made]) -> Gaussians:
    """Join the Gaussians of at least one image."""
    return Gaussians(*(np.concatenate([getattr(own, name) for own in made]) for name in (
        'means', 'quaternions_wxyz', 'scales', 'opacities', 'colors')))
