# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Intersections against independent closed forms, one ray at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.sim.rays import Rays
from recon3r_ros.sim.shapes import Box, Capsule, face_half_sizes, Room, Solid, Sphere
import torch

Array = NDArray[np.float64]

X, Y = np.linspace(-0.6, 0.6, 61), np.linspace(-0.45, 0.45, 46)
DIRECTIONS = np.stack([*np.meshgrid(X, Y), np.ones((46, 61))], axis=-1)


def render_depth(solid: Solid, T_solid_cam: Array) -> Array:
    rays = Rays.grid(X, Y, torch.device('cpu'))
    nearness = torch.zeros(46, 61)
    for hit in solid.intersect(rays, T_solid_cam):
        old = nearness[hit.window]
        old.copy_(torch.where(hit.hit & (hit.nearness > old), hit.nearness, old))
    return (1.0 / nearness.double()).numpy()


def looking_at(distance: float, turn: Array) -> Array:
    """Pose T_solid_cam of a camera `distance` in front of a solid rotated by `turn` (3,)."""
    T_cam_solid = se3.from_rt(se3.so3_exp(turn), [0.1, -0.05, distance])
    return se3.inverse(T_cam_solid)


def test_wall_square_on_is_at_constant_depth() -> None:
    # the camera's z along the room's y: the wall at y = 3 is 2.2 m away
    T_room_cam = np.array([[1.0, 0, 0, 0.3], [0, 0, 1, 0.8], [0, -1, 0, 0.1], [0, 0, 0, 1]])
    depth = render_depth(Room(np.array([4.0, 3.0, 1.4])), T_room_cam)
    wall = np.full((46, 61), 2.2)
    # the floor is 1.5 m below, the ceiling 1.3 m above; y points down
    floor = 1.5 / np.maximum(DIRECTIONS[..., 1], 1e-9)
    ceiling = 1.3 / np.maximum(-DIRECTIONS[..., 1], 1e-9)
    assert np.allclose(depth, np.minimum(np.minimum(wall, floor), ceiling), rtol=1e-5)


def test_room_is_closed() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        pose = se3.from_rt(se3.so3_exp(rng.uniform(-2, 2, 3)), rng.uniform(-1, 1, 3))
        half = np.array([3.0, 2.5, 1.3])
        depth = render_depth(Room(half), pose)
        points = depth[..., None] * DIRECTIONS @ pose[:3, :3].T + pose[:3, 3]
        assert np.allclose((np.abs(points) / half).max(axis=-1), 1.0, atol=1e-4)


def test_sphere_matches_the_quadratic() -> None:
    radius = 0.7
    T_sphere_cam = looking_at(2.5, np.array([0.4, -0.8, 0.3]))
    centre = np.linalg.inv(T_sphere_cam)[:3, 3]
    a = (DIRECTIONS**2).sum(-1)
    b = -2 * DIRECTIONS @ centre
    c = centre @ centre - radius**2
    root = b * b - 4 * a * c
    expected = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / (2 * a), np.inf)
    depth = render_depth(Sphere(radius), T_sphere_cam)
    clear = np.abs(root) > 1e-3
    assert np.array_equal(np.isfinite(depth)[clear], np.isfinite(expected)[clear])
    assert np.allclose(depth[clear], expected[clear], rtol=1e-5)
    assert np.isfinite(depth).mean() > 0.15


@pytest.mark.parametrize('distance, turn', [(2.0, (0.0, 0.0, 0.0)), (1.6, (0.5, 0.9, -0.3)),
                                            (0.75, (-2.0, 0.4, 1.1))])
@pytest.mark.parametrize('box', [Box(np.array([0.3, 0.45, 0.2])), Capsule(0.35, 0.25)])
def test_solid_matches_points_stepped_along_the_ray(box: Solid, distance: float,
                                                    turn: tuple[float, float, float]) -> None:
    T_box_cam = looking_at(distance, np.array(turn))
    depth = render_depth(box, T_box_cam)
    steps = np.linspace(0.02, 3.0, 2981)  # 1 mm apart
    found = np.full(depth.shape, np.inf)
    for row in range(0, 46, 3):
        points = steps[:, None, None] * DIRECTIONS[row]
        inside = box.distance(se3.transform(T_box_cam, points)) < 0
        found[row] = np.where(inside.any(axis=0), steps[inside.argmax(axis=0)], np.inf)
    rows = slice(0, 46, 3)
    both = np.isfinite(depth[rows]) & np.isfinite(found[rows])
    assert both.sum() > 100
    assert (np.isfinite(depth[rows]) != np.isfinite(found[rows])).mean() < 0.02
    # a ray along an edge may slip through the first steps
    error = found[rows][both] - depth[rows][both]
    assert error.min() > -1e-5 and np.quantile(error, 0.99) < 1.1e-3


def test_solids_behind_the_camera_or_beside_the_view_are_not_hit() -> None:
    for solid in (Box(np.full(3, 0.3)), Sphere(0.3), Capsule(0.2, 0.1)):
        for place in ([0.0, 0.0, -2.0], [5.0, 0.0, 2.0]):
            T_cam_solid = se3.from_rt(np.eye(3), place)
            assert not np.isfinite(render_depth(solid, se3.inverse(T_cam_solid))).any()


@pytest.mark.parametrize('solid', [Box(np.array([0.3, 0.45, 0.2])), Sphere(0.35),
                                   Capsule(0.25, 0.3)])
def test_occlusion_agrees_with_points_along_the_segment(solid: Solid) -> None:
    rng = np.random.default_rng(1)
    starts = rng.uniform(-1, 1, (500, 3))
    starts = starts[solid.distance(starts) > 0.01]
    directions = rng.uniform(-1.5, 1.5, starts.shape)
    points = starts + np.linspace(0, 1, 500)[:, None, None] * directions
    deepest = solid.distance(points).min(axis=0)
    cut = solid.occludes(torch.from_numpy(starts), torch.from_numpy(directions)).numpy()
    clear = np.abs(deepest) > 3e-3
    assert np.array_equal(cut[clear], deepest[clear] < 0)
    assert 0.05 < cut.mean() < 0.6


@pytest.mark.parametrize('solid', [Box(np.array([0.3, 0.45, 0.2])), Sphere(0.35),
                                   Capsule(0.25, 0.3)])
def test_face_coordinates_stay_on_the_face(solid: Solid) -> None:
    rays = Rays.grid(X, Y, torch.device('cpu'))
    for hit in solid.intersect(rays, looking_at(1.2, np.array([0.7, -0.5, 0.2]))):
        if isinstance(solid, Sphere):
            limit = np.full(2, solid.radius * np.pi / 4)
        elif isinstance(solid, Capsule):
            limit = face_half_sizes(solid)[0]
        else:
            limit = np.delete(solid.half_size, int(hit.face) // 2)
        assert float(hit.u[hit.hit].abs().max()) <= limit[0] + 2e-5
        assert float(hit.v[hit.hit].abs().max()) <= limit[1] + 2e-5
        assert 0 <= float(hit.slant[hit.hit].min()) and float(hit.slant[hit.hit].max()) < 1.00001
