# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Flow predicted by depth and pose, against that of a plane, which is known everywhere."""

import numpy as np
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera, pixel_grid
from recon3r_ros.geometry.reprojection_flow import seeds

A = Camera(160, 120, 150.0, 155.0, 80.0, 59.0)
B = Camera(144, 120, 140.0, 140.0, 70.0, 61.0)
NORMAL, DISTANCE = np.array([0.2, -0.1, 1.0]), 4.0  # of the plane n x = d, in a's frame
T_B_A = se3.exp(np.array([0.03, -0.1, 0.05, 0.4, -0.1, 0.3]))


def flow_of_plane(camera, other, T_other_own, normal, distance):
    """Inverse depth (H, W) of a plane, and its flow (H, W, 2) to another camera."""
    pixels = pixel_grid(camera.height, camera.width)
    rays = camera.unproject(pixels)
    inverse_depth = rays @ normal / distance
    points = se3.transform(T_other_own, (rays / inverse_depth[..., None]).reshape(-1, 3))
    return inverse_depth.astype(np.float32), other.project(points).reshape(pixels.shape) - pixels


INVERSE_DEPTH, FORWARD = flow_of_plane(A, B, T_B_A, NORMAL, DISTANCE)
# n x = d in the other frame: R n, d + (R n) t
IN_B = T_B_A[:3, :3] @ NORMAL
_, BACKWARD = flow_of_plane(B, A, se3.inverse(T_B_A), IN_B, DISTANCE + IN_B @ T_B_A[:3, 3])


def errors(found, true, other):
    """Distances where the flow ends in the other image; elsewhere nothing is seen."""
    height, width = true.shape[:2]
    ends = pixel_grid(height, width) + true
    inside = ((ends >= 4) & (ends <= [other.width - 5, other.height - 5])).all(-1)
    assert inside.mean() > 0.3
    return np.linalg.norm(found - true, axis=-1)[inside]


def test_flow_of_a_plane_both_ways():
    forward, backward = seeds(INVERSE_DEPTH, A, B, T_B_A)
    assert forward.shape == (120, 160, 2) and backward.shape == (120, 144, 2)
    assert forward.dtype == backward.dtype == np.float32
    assert np.quantile(errors(forward, FORWARD, B), 0.95) < 0.3
    assert np.quantile(errors(backward, BACKWARD, A), 0.95) < 1.0


def test_holes_move_as_what_is_around_them():
    holed = INVERSE_DEPTH.copy()
    holed[30:60, 50:90] = 0
    forward, backward = seeds(holed, A, B, T_B_A)
    assert np.quantile(errors(forward, FORWARD, B), 0.99) < 2.0
    assert np.quantile(errors(backward, BACKWARD, A), 0.95) < 2.0


def test_a_depth_twice_as_large_would_be_noticed():
    forward, _ = seeds(INVERSE_DEPTH / 2, A, B, T_B_A)
    assert np.median(errors(forward, FORWARD, B)) > 3.0


@pytest.mark.parametrize('inverse_depth, T_b_a', [
    (np.zeros((120, 160), np.float32), T_B_A),
    (INVERSE_DEPTH, se3.exp(np.array([0, np.pi, 0, 0, 0, 0.0]))),
])
def test_without_depth_or_overlap_there_is_no_seed(inverse_depth, T_b_a):
    assert seeds(inverse_depth, A, B, T_b_a) is None
