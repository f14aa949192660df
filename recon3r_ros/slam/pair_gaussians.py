# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Gaussians of a finished map by SIU3R: each keyframe with the neighbour that sees most of it.

Each pair has a unit of length of its own, which the keyframe's depth in the map tells. Centres lie
on the rays of the keyframe's camera, which the map has refined, at the depth of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import pixel_grid
from recon3r_ros.models.h3r import Made
from recon3r_ros.models.pointmaps import finite
from recon3r_ros.models.siu3r import view_gaussians
from recon3r_ros.models.siu3r_engine import Siu3rEngine
from recon3r_ros.models.types import View
from recon3r_ros.slam.backend.learned import MIN_LANDMARKS, unit
from recon3r_ros.slam.learned_gaussians import depth_bounds, joined, LearnedGaussians
from recon3r_ros.slam.types import at, Keyframe
from recon3r_ros.slam.visibility import visible
from scipy.spatial.transform import Rotation

#: A keyframe's partner is among so many keyframes of its camera before it and after it
NEIGHBOURS = 4


def pair_gaussians(keyframes: Iterable[Keyframe], engine: Siu3rEngine,
                   advance: Callable[[], None] = lambda: None) -> LearnedGaussians:
    """
    Make Gaussians of keyframes, one for each static pixel of the network's grid.

    :param keyframes: of a map, in their order
    :param advance: called after each keyframe
    :returns: in the frame and unit of the keyframes' poses
    :raises InputError: where no keyframe has both known depth and a partner
    """
    keyframes = list(keyframes)
    cameras: dict[str, list[Keyframe]] = {}
    for keyframe in keyframes:
        cameras.setdefault(keyframe.camera_name, []).append(keyframe)
    made: list[Made] = []
    for own in cameras.values():
        for n, keyframe in enumerate(own):
            partner = partner_of(n, own)
            found = None if partner is None else _made(keyframe, partner, engine)
            if found is not None:
                made.append(found)
            advance()
    if not made:
        raise InputError(f'{len(keyframes)} keyframes, none with both known depth and a neighbour '
                         'that sees the same: a network needs two of a camera; run with more '
                         'images')
    return LearnedGaussians(joined(made), len(keyframes) - len(made))


def partner_of(n: int, keyframes: Sequence[Keyframe]) -> Keyframe | None:
    """
    Return the neighbour that sees most of a keyframe's landmarks, of several the nearest.

    :param n: position of the keyframe
    :param keyframes: of one camera, in their order
    :returns: None where each sees too few to estimate a scale
    """
    window = range(max(n - NEIGHBOURS, 0), min(n + NEIGHBOURS + 1, len(keyframes)))
    near = sorted((m for m in window if m != n), key=lambda m: abs(m - n))
    seen = [len(visible(keyframes[n], keyframes[m])[0]) for m in near]
    if max(seen, default=0) < MIN_LANDMARKS:
        return None
    return keyframes[near[int(np.argmax(seen))]]


def _made(keyframe: Keyframe, partner: Keyframe, engine: Siu3rEngine) -> Made | None:
    """Return a keyframe's Gaussians in the map; None where their scale is unknown."""
    bounds = depth_bounds(keyframe)
    if bounds is None:
        return None
    camera, found = view_gaussians(engine, View(keyframe.image, keyframe.camera),
                                   View(partner.image, partner.camera))
    rays = camera.unproject(pixel_grid(camera.height, camera.width)).reshape(-1, 3)
    # The keyframe's pixel at each of the network's grid
    last = [keyframe.camera.width - 1, keyframe.camera.height - 1]
    pixels = np.clip(np.rint(keyframe.camera.project(rays)), 0, last).astype(np.int32)
    static, inverse, sure = (at(field, pixels) for field in (
        ~keyframe.mask, keyframe.inverse_depth, keyframe.confidence))
    depth = finite(found.points)[..., 2].reshape(-1).astype(float)
    # The network has no confidence: that of the map's depth counts
    length = unit(depth, np.where(static, sure, 0).astype(float),
                  1 / np.where(inverse > 0, inverse, -1).astype(float))
    if length is None:
        return None
    opacities, scales, quats_xyzw, colors = (values.reshape(len(rays), -1) for values in (
        found.opacities, found.scales, found.quats_xyzw, found.colors))
    depth *= length
    keep = (static & (depth > bounds[0]) & (depth < bounds[1]) & (opacities[:, 0] > 0)
            & (scales > 0).all(1) & quats_xyzw.any(1)
            & np.isfinite(np.concatenate([opacities, scales, quats_xyzw, colors], 1)).all(1))
    T = keyframe.T_map_cam
    quats = (Rotation.from_matrix(T[:3, :3]) * Rotation.from_quat(quats_xyzw[keep])).as_quat()
    return Made(
        se3.transform(T, rays[keep] * depth[keep, None]).astype(np.float32),
        np.roll(quats, 1, axis=1).astype(np.float32), np.float32(length) * scales[keep],
        opacities[keep, 0], colors[keep])
