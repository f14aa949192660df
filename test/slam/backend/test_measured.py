# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Measured depth of keyframes, against the exact depth of a room."""

from __future__ import annotations

from dataclasses import replace

from keyframes_by_hand import keyframe
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry.camera import Camera, pixel_grid
from recon3r_ros.geometry.depth_noise import DepthNoise, STRUCTURED_LIGHT
from recon3r_ros.models.types import View
from recon3r_ros.slam.backend.learned import MIN_LANDMARKS
from recon3r_ros.slam.backend.measured import (
    depth_on_grid,
    MAX_INFORMATION,
    MeasuredDepths,
)
from recon3r_ros.slam.types import Keyframe

CAMERA = Camera(160, 120, 131.0, 133.0, 78.0, 61.0)


def plane(camera: Camera) -> NDArray[np.float32]:
    """Depth (H, W) of a slanted plane, metres."""
    rays = camera.unproject(pixel_grid(camera.height, camera.width))
    return (2.5 / (rays @ [0.3, -0.2, 1.0])).astype(np.float32)


def seen(camera: Camera, depth: NDArray[np.float32]) -> View:
    """Return a black view with measured depth."""
    return View(np.zeros((camera.height, camera.width, 3), np.uint8), camera, depth=depth)


def exact(known: Keyframe, metres: float = 1.0) -> View:
    """Return the view of a keyframe, with its depth in metres as measured."""
    return seen(known.camera, np.where(
        known.inverse_depth > 0, metres / known.inverse_depth, np.nan).astype(np.float32))


@pytest.mark.parametrize('grid', [
    CAMERA, CAMERA.resized(64, 48), CAMERA.cropped(20, 8, 100, 90),
    CAMERA.resized(128, 96).cropped(10, 4, 96, 80)])
def test_the_grid_has_the_depth_of_its_own_pixels(grid: Camera) -> None:
    found = depth_on_grid(seen(CAMERA, plane(CAMERA)), grid)
    assert found is not None and found.dtype == np.float32
    assert found.shape == (grid.height, grid.width) and (found > 0).all()
    # Half a pixel of the view at most
    assert np.abs(found / plane(grid) - 1).max() < 0.005


def test_nothing_is_measured_in_holes_beside_steps_or_out_of_range() -> None:
    assert depth_on_grid(View(np.zeros((120, 160, 3), np.uint8), CAMERA), CAMERA) is None
    depth = np.full((120, 160), 2.0, np.float32)
    depth[:, 80:] = 3.0
    depth[:, 79] = 2.4  # flies between both
    depth[20:30, 20:30] = np.nan
    depth[40:50, 20:30] = 0.0
    depth[60:80, 20:40] = 9.0
    depth[90:110, 20:40] = 0.1
    found = depth_on_grid(seen(CAMERA, depth), CAMERA)
    assert found is not None
    for rows, columns in ((slice(20, 30), slice(20, 30)), (slice(40, 50), slice(20, 30)),
                          (slice(60, 80), slice(20, 40)), (slice(90, 110), slice(20, 40)),
                          (slice(None), slice(78, 81))):
        assert not found[rows, columns].any()
    assert (found[:18, :77] == 2.0).all() and (found[:, 82:] == 3.0).all()


def test_the_error_grows_with_the_distance() -> None:
    """In metres with its square (Khoshelham and Elberink 2012): 3.5 cm at 5 m."""
    sigma = 1 / np.sqrt(STRUCTURED_LIGHT.information_of(np.array([0.3, 5.0])))
    assert sigma[0] == pytest.approx(0.005, rel=0.01)
    assert 5 * sigma[1] == pytest.approx(np.hypot(0.00142 * 25, 0.005 * 5), rel=1e-3)
    assert STRUCTURED_LIGHT.information_of(np.zeros(1))[0] == 0


def test_each_keyframe_has_the_noise_of_what_measured_it() -> None:
    known = keyframe(0)
    rig = DepthNoise.of_rig(0.25, known.camera.fx, 0.05, 0.1)
    depths = MeasuredDepths()
    depths.metre = 1.0
    for noise in (STRUCTURED_LIGHT, rig):
        depths.add(known, replace(exact(known), depth_noise=noise))
        _, information = depths.prior(known)
        used = depths.of_landmarks(known)[information > 0]
        expected = noise.information_of(used)
        np.testing.assert_allclose(
            information[information > 0], expected / (1 + expected / MAX_INFORMATION), rtol=1e-5)
        vote, = depths.votes(known)
        inverse, weights = vote.depths(known.rays())
        np.testing.assert_allclose(weights[weights > 0], noise.information_of(
            1 / inverse[weights > 0]), rtol=1e-4)


def test_depths_are_absolute_where_the_metre_is_known() -> None:
    known = keyframe(0)
    depths = MeasuredDepths()
    depths.metre = 0.4
    depths.add(known, exact(known))
    # The landmarks, which have drifted, have no say
    drifted = replace(known, landmarks=3 * known.landmarks)
    inverse, information = depths.prior(drifted)
    sure = information > 0
    assert sure.mean() > 0.5
    np.testing.assert_allclose(inverse[sure], known.landmarks[sure] / 0.4, rtol=1e-5)
    assert information.max() < MAX_INFORMATION
    vote, = depths.votes(drifted)
    votes, weights = vote.depths(known.rays())
    np.testing.assert_allclose(votes[weights > 0], known.inverse_depth[weights > 0] / 0.4,
                               rtol=1e-5)
    assert not votes[weights == 0].any()


def test_elsewhere_the_landmarks_tell_the_metre() -> None:
    known = keyframe(0, scale=2.5)
    depths = MeasuredDepths()
    depths.add(known, exact(known, 1 / 2.5))
    few = replace(known, landmarks=np.zeros_like(known.landmarks))
    assert not depths.prior(few)[1].any() and not depths.votes(few)
    usable = np.flatnonzero(depths.of_landmarks(known) > 0)
    few.landmarks[usable[:MIN_LANDMARKS]] = known.landmarks[usable[:MIN_LANDMARKS]]
    few.landmarks[usable[0]] *= 5
    completed = depths.completed(few)
    np.testing.assert_allclose(completed[usable[1:]], known.landmarks[usable[1:]], rtol=1e-3)
    assert completed[usable[0]] == few.landmarks[usable[0]], 'what is known is left alone'
    assert not completed[np.setdiff1d(np.arange(len(completed)), usable)].any()


def test_dynamic_objects_have_no_prior() -> None:
    known = keyframe(0)
    depths = MeasuredDepths()
    depths.metre = 1.0
    depths.add(known, exact(known))
    mask = known.mask.copy()
    mask[:, :known.camera.width // 2] = True
    masked = replace(known, mask=mask, landmarks=np.zeros_like(known.landmarks))
    left = known.keypoints[:, 0] < known.camera.width // 2
    assert depths.prior(known)[1][left].any()
    assert not depths.prior(masked)[1][left].any() and not depths.completed(masked)[left].any()
    assert depths.prior(masked)[1][~left].any()


def test_keyframes_without_depth_have_neither_priors_nor_votes() -> None:
    depths = MeasuredDepths()
    depths.metre = 1.0
    other = keyframe(1)
    depths.add(other, View(other.image, other.camera))
    assert not depths.prior(other)[1].any() and not depths.votes(other)
    assert not depths.ids and not depths.fix_scale([1])


def test_landmarks_keep_their_priors_outside_the_window() -> None:
    depths = MeasuredDepths()
    depths.metre = 1.0
    known = [keyframe(i) for i in range(3)]
    for k in known:
        depths.add(k, exact(k))
    copy = depths.copy()
    depths.keep({2})
    assert depths.prior(known[0])[1].any() and not depths.votes(known[0])
    assert depths.votes(known[2]) and copy.votes(known[0])
    depths.forget(2)
    assert not depths.prior(known[2])[1].any() and copy.fix_scale([2])


@pytest.mark.parametrize('own, theirs, expected', [
    (0.5, 0.3, 0.5), (None, 0.3, 0.6), (0.5, None, 0.5), (None, None, None)])
def test_a_joined_map_has_one_metre(own: float | None, theirs: float | None,
                                    expected: float | None) -> None:
    base, addition = MeasuredDepths(), MeasuredDepths()
    base.metre, addition.metre = own, theirs
    base.add(keyframe(0), exact(keyframe(0)))
    addition.add(keyframe(1), exact(keyframe(1)))
    both = base.joined(addition, 2.0)
    assert both.metre == (None if expected is None else pytest.approx(expected))
    assert both.ids == {0, 1} and addition.ids == {1}
