# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Points of dynamic objects: a person on a floor before a wall, and a costmap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry.camera import Camera, pixel_grid
from recon3r_ros.slam.dynamics.movers import moving_points, static_points
from recon3r_ros.slam.types import Keyframe
from recon3r_ros.slam.visibility import Surface

CAMERA = Camera(640, 480, 520.0, 520.0, 319.5, 239.5)
SHAPE = (CAMERA.height, CAMERA.width)
#: The camera is a metre above the floor and 4.5 before a wall; a person stands between
HEIGHT, WALL, PERSON = 1.0, 4.5, 3.0
IMAGE = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), np.uint8)
#: Pixels from knee to head, and the feet, where the floor is three metres away
MASK = np.zeros(SHAPE, bool)
MASK[120:round(239.5 + 520 * HEIGHT / PERSON), 240:300] = True
CELL = 0.1


def empty_room() -> NDArray[np.float64]:
    """Depth (H, W) of floor and wall."""
    down = CAMERA.unproject(pixel_grid(*SHAPE))[..., 1]
    with np.errstate(divide='ignore'):
        return np.where(down > 0, np.minimum(HEIGHT / down, WALL), WALL)


def keyframe() -> Keyframe:
    depth = empty_room()
    return Keyframe(
        0, '0', 0, 0, CAMERA, IMAGE, np.zeros(SHAPE, np.uint8), np.ones(1, np.float32),
        np.zeros((0, 2), np.int32), np.eye(4), np.zeros(0), np.zeros(0),
        (1 / depth).astype(np.float32), np.full(SHAPE, 2500.0, np.float32), np.zeros(SHAPE, bool))


def surface() -> Surface:
    return Surface.seen(keyframe(), np.eye(4), CAMERA)


def measured(with_person: bool) -> NDArray[np.float32]:
    depth = empty_room()
    if with_person:
        depth[MASK] = PERSON
    return depth.astype(np.float32)


@pytest.mark.parametrize('depth', [surface(), measured(True)])
def test_a_person_is_where_he_stands(depth):
    cloud = moving_points(MASK, IMAGE, CAMERA, depth)
    assert 15_000 < len(cloud) <= 20_000
    assert np.median(cloud.points[:, 2]) == pytest.approx(PERSON, rel=0.06)
    assert cloud.confidences.dtype == np.float32 and (cloud.confidences > 0).all()


@pytest.mark.parametrize('depth', [surface(), measured(True)])
def test_the_static_scene_is_seen_around_him(depth):
    cloud = static_points(MASK, IMAGE, CAMERA, depth)
    assert 3000 < len(cloud) <= 5000
    pixels = np.rint(CAMERA.project(cloud.points.astype(float))).astype(int)
    u, v = pixels.T
    assert not MASK[v, u].any()
    assert np.allclose(cloud.points[:, 2], empty_room()[v, u], rtol=0.05)
    assert np.array_equal(cloud.colors, IMAGE[v, u])


def test_nothing_is_known_where_the_keyframe_knows_nothing():
    nothing = Keyframe(**{**vars(keyframe()), 'inverse_depth': np.zeros(SHAPE, np.float32)})
    unknown = Surface.seen(nothing, np.eye(4), CAMERA)
    for points_of in (moving_points, static_points):
        assert len(points_of(MASK, IMAGE, CAMERA, unknown)) == 0


def cells(points: NDArray[np.float32]) -> set[tuple[int, int]]:
    """Cells of a costmap, ahead and to the right, with points between floor and ceiling."""
    standing = points[(HEIGHT - points[:, 1] > 0.05) & (HEIGHT - points[:, 1] < 1.8)]
    return {(int(z // CELL), int(x // CELL)) for x, _, z in standing}


def crossed(points: NDArray[np.float32]) -> set[tuple[int, int]]:
    """Cells that the rays to points pass, as Nav2's layers clear them: all but the last."""
    steps = np.linspace(0, 1, 400)[:-4]
    along = points[:, None] * steps[None, :, None].astype(np.float32)
    return {(int(z // CELL), int(x // CELL)) for x, z in along[..., ::2].reshape(-1, 2)}


def test_a_costmap_forgets_people_who_went_away():
    """Marked while they are seen, cleared once the static scene is seen where they were."""
    there = moving_points(MASK, IMAGE, CAMERA, surface())
    marked = cells(there.points)
    assert len(marked) >= 3
    around = static_points(MASK, IMAGE, CAMERA, surface())
    # while he stands there only cells at his outline may be touched by rays beside and above him
    behind = static_points(np.zeros(SHAPE, bool), IMAGE, CAMERA, surface())
    assert marked <= crossed(behind.points)
    assert len(around) < len(behind)
