# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The floor below a camera: metric scale from a known height of the camera above it.

Each keyframe's depth is searched for the plane that holds most points below the camera, that
hardly anything lies beneath, and that the camera's path is parallel to (RANSAC: Fischler and
Bolles 1981; scale by the camera's height: Kitt et al., ECMR 2011). Gravity is not known: the
camera is expected to be roughly upright. Where there is no such plane, nothing is said.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.slam.types import Keyframe, Map

Array = NDArray[np.float64]

#: Cosine between the camera's y axis and the direction down: it is tilted by 40 degrees at most
UPRIGHT = float(np.cos(np.radians(40)))
#: Points that are compared, and inverse variance of their relative depths
MAX_POINTS, MIN_CONFIDENCE = 2500, 25.0
#: Planes that are tried
HYPOTHESES = 200
#: Distance from the plane of its points, share of its distance; rounds of fitting it to them
NEAR, ROUNDS = 0.05, 5
#: Points look down by at least this much (sine) where they tell about the floor
DOWN = 0.12
#: Of those: number on the plane, their share, and the share beneath it (of those on it)
MIN_ON, MIN_SHARE, MAX_BENEATH = 150, 0.35, 0.05
#: Least extent of these points in each direction of the plane: standard deviation over height
MIN_EXTENT = 0.15
#: Keyframes before and after, whose positions are the path; its greatest slope to the plane, and
#: the least length over the height that has a slope
PATH, MAX_SLOPE, MIN_PATH = 4, 0.15, 0.1


def camera_height(keyframe: Keyframe, known: Map) -> float | None:
    """
    Height of a keyframe's camera above the floor, map units; None where no floor is clear.

    :param known: the map, with the keyframes around it
    """
    points = _points(keyframe)
    if len(points) < MIN_ON:
        return None
    path = _path(keyframe, known)
    rng = np.random.default_rng(keyframe.id)
    found = _plane(points, path, rng)
    return None if found is None else float(1 / np.linalg.norm(found))


def _points(keyframe: Keyframe) -> Array:
    """Confident static points (N, 3) in the camera's frame."""
    use = ((keyframe.inverse_depth > 0) & (keyframe.confidence > MIN_CONFIDENCE)
           & ~keyframe.mask)
    points = keyframe.pointmap()[use].astype(np.float64)
    return points[::max(1, -(-len(points) // MAX_POINTS))]


def _path(keyframe: Keyframe, known: Map) -> Array:
    """Positions (N, 3) of the keyframes of the same camera around it, in its frame."""
    ids = [i for i, k in known.keyframes.items() if k.camera_name == keyframe.camera_name]
    at = ids.index(keyframe.id)
    around = [known.keyframes[i].T_map_cam[:3, 3]
              for i in ids[max(at - PATH, 0):at + PATH + 1] if i != keyframe.id]
    return np.asarray(se3.transform(se3.inverse(keyframe.T_map_cam),
                                    np.array(around).reshape(-1, 3)))


def _plane(points: Array, path: Array, rng: np.random.Generator) -> Array | None:
    """
    Find the floor.

    :param points: (N, 3) in the camera's frame
    :param path: (M, 3) places of the camera
    :return: (3,) the direction down over the distance, so that n . x = 1 on it; None where it is
        not clear
    """
    chosen = points[rng.integers(0, len(points), (HYPOTHESES, 3))]
    steady = np.abs(np.linalg.det(chosen)) > 1e-9 * np.abs(chosen).max() ** 3
    planes = np.linalg.solve(chosen[steady], np.ones((int(steady.sum()), 3, 1)))[..., 0]
    planes = planes[planes[:, 1] > UPRIGHT * np.linalg.norm(planes, axis=1)]
    if len(planes) == 0:
        return None
    on, looking, beneath = _counts(points, planes)
    clear = beneath <= MAX_BENEATH * on
    best = planes[np.argmax(np.where(clear, on, -1))]
    rays, inverse = points / points[:, 2:], 1 / points[:, 2]
    for _ in range(ROUNDS):
        # Directions are exact, inverse depths are not: a fit to the points would be too far away
        expected = rays @ best
        near = np.abs(inverse - expected) < NEAR * expected
        if near.sum() < MIN_ON:
            return None
        weight = 1 / expected[near]
        best = np.linalg.lstsq(rays[near] * weight[:, None], inverse[near] * weight,
                               rcond=None)[0]
    size = float(np.linalg.norm(best))
    on, looking, beneath = _counts(points, best[None])
    if (best[1] < UPRIGHT * size or on[0] < max(MIN_ON, MIN_SHARE * looking[0])
            or beneath[0] > MAX_BENEATH * on[0]):
        return None
    near = np.abs(points @ best - 1) < NEAR
    across = points[near] - np.outer(points[near] @ best, best) / size ** 2
    extent = np.linalg.svd(across - across.mean(axis=0), compute_uv=False)[1]
    if extent / np.sqrt(near.sum()) < MIN_EXTENT / size:
        return None
    length = float(np.sqrt((path ** 2).sum(axis=1).max(initial=0)))
    climb = np.abs(path @ best).max(initial=0) / size
    # Without a way, nothing tells that it is not a table's top
    if length * size < MIN_PATH or climb > MAX_SLOPE * length:
        return None
    return best


def _counts(points: Array, planes: Array) -> tuple[Array, Array, Array]:
    """Points on each plane (P,), those that look down to it, and those beneath it."""
    height = planes @ points.T
    down = height > DOWN * np.linalg.norm(planes, axis=1)[:, None] * np.linalg.norm(points, axis=1)
    on = down & (np.abs(height - 1) < NEAR)
    beneath = down & (height > 1 + 3 * NEAR)
    return (on.sum(axis=1).astype(np.float64), down.sum(axis=1).astype(np.float64),
            beneath.sum(axis=1).astype(np.float64))
