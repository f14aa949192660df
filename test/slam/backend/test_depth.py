# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Fusion of the depths that several keyframes vote for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera, pixel_grid
from recon3r_ros.slam.backend import depth
from recon3r_ros.slam.backend.compiled_depth import MIN_CONFIDENCE
from recon3r_ros.slam.backend.depth import ImageVote, TriangulatedVote

CAMERA = Camera(40, 30, 32.0, 33.0, 19.0, 14.5)
RAYS = CAMERA.unproject(pixel_grid(30, 40)).astype(np.float32)
DEPTH = (3 + np.sin(np.arange(40) / 7)[None] + np.cos(np.arange(30) / 5)[:, None]).astype(
    np.float32)
POSES = (se3.exp([0.01, 0.05, 0.0, -0.4, 0.0, 0.05]), se3.exp([0.0, -0.04, 0.02, 0.3, 0.1, 0.0]),
         se3.exp([0.03, 0.0, 0.01, 0.05, -0.35, 0.1]))


def vote(T_other_own: NDArray[np.float64], confidence: float = 400.0,
         true_depth: NDArray[np.float32] = DEPTH) -> TriangulatedVote:
    """Return exact correspondences in another camera."""
    points = se3.transform(T_other_own, (RAYS * true_depth[..., None]).reshape(-1, 3))
    targets = CAMERA.project(points).reshape(30, 40, 2).astype(np.float32)
    return TriangulatedVote(
        T_other_own, CAMERA, targets, np.full((30, 40), confidence, np.float32))


@pytest.mark.parametrize('count', [1, 2, 3])
def test_exact_votes_reproduce_the_depth(count: int) -> None:
    inverse_depth, confidence = depth.fuse(RAYS, [vote(T) for T in POSES[:count]])
    assert inverse_depth.dtype == confidence.dtype == np.float32
    assert np.allclose(inverse_depth * DEPTH, 1, atol=1e-4)
    assert (confidence > MIN_CONFIDENCE).all()


def test_confidence_grows_with_votes_that_agree() -> None:
    one = depth.fuse(RAYS, [vote(POSES[0])])[1]
    three = depth.fuse(RAYS, [vote(T) for T in POSES])[1]
    assert np.allclose(three / one, 3.0, atol=0.1)


def test_surer_votes_count_more() -> None:
    votes = [vote(POSES[0], 300.0), vote(POSES[1], 100.0, 1.05 * DEPTH)]
    inverse_depth, _ = depth.fuse(RAYS, votes)
    # the mean of the logarithms, with weights of about 3 to 1
    assert np.allclose(1 / inverse_depth / DEPTH, np.exp(np.log(1.05) / 4), atol=2e-3)


def test_a_contradicting_vote_costs_confidence_and_not_the_depth() -> None:
    agreed = depth.fuse(RAYS, [vote(POSES[0]), vote(POSES[1])])
    against = vote(POSES[2], 200.0, 1.6 * DEPTH)
    inverse_depth, confidence = depth.fuse(RAYS, [vote(POSES[0]), vote(POSES[1]), against])
    assert np.allclose(inverse_depth * DEPTH, 1, atol=1e-3)
    assert (confidence < 0.85 * agreed[1]).all()
    assert (confidence > 0).all()


def test_two_equal_votes_against_each_other_leave_nothing() -> None:
    votes = [vote(POSES[0], 100.0), vote(POSES[1], 100.0, 1.8 * DEPTH)]
    inverse_depth, confidence = depth.fuse(RAYS, votes)
    assert (confidence == 0).all() and (inverse_depth == 0).all()


def test_unknown_pixels_stay_unknown() -> None:
    known = np.zeros((30, 40), bool)
    known[5:20, 8:30] = True
    votes = [replace(v, confidence=np.where(known, v.confidence, 0).astype(np.float32),
                     targets=np.where(known[..., None], v.targets, 0).astype(np.float32))
             for v in (vote(POSES[0]), vote(POSES[1]))]
    inverse_depth, confidence = depth.fuse(RAYS, votes)
    assert (inverse_depth[~known] == 0).all() and (confidence[~known] == 0).all()
    assert np.allclose((inverse_depth * DEPTH)[known], 1, atol=1e-4)


def test_weak_votes_are_not_enough() -> None:
    inverse_depth, confidence = depth.fuse(RAYS, [vote(POSES[0], MIN_CONFIDENCE / 2)])
    assert (inverse_depth == 0).all() and (confidence == 0).all()


def test_points_behind_a_camera_do_not_count() -> None:
    backwards = se3.exp([0.0, 0.0, 0.0, 0.4, 0.0, -0.05])
    wrong = replace(vote(POSES[0]), T_other_own=backwards)
    inverse_depth, confidence = depth.fuse(RAYS, [wrong])
    assert (inverse_depth == 0).mean() > 0.95
    assert np.isfinite(inverse_depth).all() and np.isfinite(confidence).all()


def test_a_vote_without_baseline_has_no_depth() -> None:
    turned = vote(se3.exp([0.01, 0.02, 0, 0, 0, 0]))
    inverse_depth, confidence = depth.fuse(RAYS, [turned])
    assert np.isfinite(inverse_depth).all() and np.isfinite(confidence).all()


def test_votes_of_both_kinds_count_alike() -> None:
    triangulated = vote(POSES[0], 300.0)
    learned = ImageVote((1 / (1.05 * DEPTH)).astype(np.float32), np.full((30, 40), 100.0,
                                                                          np.float32))
    inverse_depth, _ = depth.fuse(RAYS, [learned, triangulated])
    assert np.allclose(1 / inverse_depth / DEPTH, np.exp(np.log(1.05) / 4), atol=2e-3)
    inverse_depth, confidence = depth.fuse(RAYS, [learned])
    assert np.allclose(inverse_depth, learned.inverse_depth) and (confidence > 90).all()


def test_no_votes() -> None:
    inverse_depth, confidence = depth.fuse(RAYS, [])
    assert inverse_depth.shape == confidence.shape == (30, 40)
    assert not inverse_depth.any() and not confidence.any()
