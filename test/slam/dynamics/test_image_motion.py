# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The dominant motion of an image, by exact flow of known scenes."""

from __future__ import annotations

import numpy as np
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.slam.dynamics.cells import Cells
from recon3r_ros.slam.dynamics.image_motion import (
    AGREES,
    dominant_motion,
    ImageMotion,
    MIN_SAMPLES,
    PARALLAX,
    RANDOM,
)

CAMERA = Camera(640, 480, 560.0, 560.0, 320.0, 240.0)
CELLS = Cells.of_camera(CAMERA)
VALID = np.ones(CELLS.shape, bool)
OBJECT = np.zeros(CELLS.shape, bool)
OBJECT[30:50, 40:60] = True


def static_flow(T_other_cam: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Flow (2, rows, columns) of a static scene of a depth, by projecting its points."""
    camera = CAMERA.resized(CELLS.width, CELLS.height)
    positions = np.moveaxis(CELLS.positions, 0, 2).reshape(-1, 2).astype(float)
    points = camera.unproject(positions) * depth.reshape(-1, 1)
    seen = camera.project(se3.transform(T_other_cam, points))
    return np.ascontiguousarray((seen - positions).T.reshape(2, *CELLS.shape), np.float32)


def moved(flow: np.ndarray, by: tuple[float, float]) -> np.ndarray:
    """Add the motion of an object."""
    out = flow.copy()
    out[:, OBJECT] += np.array(by, np.float32)[:, None]
    return out


@pytest.mark.parametrize('T', [
    se3.exp([0.01, -0.03, 0.02, 0, 0, 0]),  # a camera that turns
    se3.exp([0.0, 0.01, 0.0, 0.2, 0.05, -0.1])])  # one that moves before a wall
def test_a_homography_is_explained_and_what_deviates_is_not(T: np.ndarray) -> None:
    flow = moved(static_flow(T, np.full(CELLS.shape, 4.0)), (2.0, -1.5))
    motion = dominant_motion(CELLS.positions, flow, VALID)
    assert motion is not None and motion.residual is motion.plane
    assert motion.plane[~OBJECT].max() < 0.1
    np.testing.assert_allclose(motion.plane[OBJECT], np.hypot(2.0, 1.5), atol=0.1)


def test_parallax_is_explained_and_what_leaves_its_lines_is_not() -> None:
    rng = np.random.default_rng(0)
    depth = rng.uniform(2.0, 12.0, CELLS.shape)  # no plane at all
    depth[:, :45] = 8.0  # but for a wall
    T = se3.from_rt(np.eye(3), [0.25, 0.05, 0.1])
    motion = dominant_motion(CELLS.positions, moved(static_flow(T, depth), (0.0, 4.0)), VALID)
    assert motion is not None
    static = motion.residual[~OBJECT]
    assert np.median(motion.plane[:, 60:]) > 1.0, 'a homography does not explain it'
    assert np.percentile(static, 95) < 0.36 + float(PARALLAX) * np.percentile(motion.plane, 95)
    assert np.median(motion.residual[OBJECT]) > 3.0
    assert np.all(motion.residual <= motion.plane)


def after_some_frames(flow: np.ndarray) -> ImageMotion:
    """Return the dominant motion of the last of several frames of alike flow, with noise."""
    rng, agreement = np.random.default_rng(2), RANDOM
    for _ in range(15):
        noisy = flow + rng.normal(0, 0.05, flow.shape).astype(np.float32)
        motion = dominant_motion(CELLS.positions, noisy, VALID, agreement)
        assert motion is not None
        agreement = motion.agreement
    return motion


def test_a_near_post_has_parallax_where_the_wall_behind_it_has_some() -> None:
    depth = np.random.default_rng(3).uniform(5.0, 7.0, CELLS.shape)
    depth[OBJECT] = 0.7
    T = se3.from_rt(np.eye(3), [0.06, 0.0, 0.01])
    motion = after_some_frames(static_flow(T, depth))
    assert motion.agreement > AGREES
    assert np.median(motion.plane[OBJECT]) > 10
    assert np.median(motion.residual[OBJECT]) < 0.06 * np.median(motion.plane[OBJECT])


def test_an_object_has_none_where_the_camera_only_turns() -> None:
    flow = static_flow(se3.exp([0.0, 0.02, 0, 0, 0, 0]), np.full(CELLS.shape, 5.0))
    motion = after_some_frames(moved(flow, (9.0, 1.0)))
    assert motion.agreement < 0.75
    assert np.median(motion.residual[OBJECT]) > 8


def test_an_object_that_moves_slowly_does_not_bend_the_homography() -> None:
    """Its motion is within the threshold of a robust fit, its area a fifth of the image."""
    flow = np.zeros((2, *CELLS.shape), np.float32)
    flow[0, 20:60, 30:72] = 0.5
    noisy = flow + np.random.default_rng(4).normal(0, 0.05, flow.shape).astype(np.float32)
    motion = dominant_motion(CELLS.positions, noisy, VALID)
    assert motion is not None
    static = flow[0] == 0
    assert np.median(motion.plane[static]) < 0.08
    assert np.median(motion.plane[~static]) > 0.45


def test_too_little_flow_says_nothing() -> None:
    few = np.zeros(CELLS.shape, bool)
    few.ravel()[:MIN_SAMPLES // 2] = True
    flow = np.zeros((2, *CELLS.shape), np.float32)
    assert dominant_motion(CELLS.positions, flow, few) is None
    assert dominant_motion(CELLS.positions, flow, ~VALID) is None


def test_an_image_that_rests_has_no_residual() -> None:
    motion = dominant_motion(CELLS.positions, np.zeros((2, *CELLS.shape), np.float32), VALID)
    assert motion is not None and motion.residual.max() < 1e-3


def test_results_are_those_of_the_flow_alone() -> None:
    rng = np.random.default_rng(1)
    T = se3.from_rt(np.eye(3), [0.25, 0.05, 0.1])
    flow = static_flow(T, rng.uniform(2.0, 12.0, CELLS.shape))
    first, again = (dominant_motion(CELLS.positions, flow, VALID) for _ in range(2))
    assert first is not None and again is not None
    assert np.array_equal(first.residual, again.residual)


def test_a_camera_at_rest_sees_no_parallax() -> None:
    """Objects cover a third of what has flow, and move alike: an epipole would explain them."""
    flow = np.zeros((2, *CELLS.shape), np.float32)
    flow[0, 10:70, 30:72] = 3.0
    noisy = flow + np.random.default_rng(5).normal(0, 0.05, flow.shape).astype(np.float32)
    motion = dominant_motion(CELLS.positions, noisy, VALID)
    assert motion is not None
    assert np.median(motion.residual[flow[0] > 0]) > 2.5


def test_flow_that_agrees_with_no_homography_is_no_error() -> None:
    rng = np.random.default_rng(6)
    for scale in (1.0, 10.0, 60.0):
        flow = rng.normal(0, scale, (2, *CELLS.shape)).astype(np.float32)
        motion = dominant_motion(CELLS.positions, flow, VALID)
        assert motion is None or np.isfinite(motion.residual).all()
