# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Loops of the detector, against the same formulae in other words."""

from __future__ import annotations

import numpy as np
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.slam.dynamics import evidence
from recon3r_ros.slam.dynamics.cells import Cells
from scipy.ndimage import map_coordinates

CAMERA = Camera(192, 144, 170.0, 165.0, 93.0, 74.0)
CELLS = Cells.of_camera(CAMERA)
#: Share of its score that a cell keeps
MEMORY = np.float32(0.94)
DEPTH = 4.0
NONE = np.zeros(CELLS.shape, np.float32)


def bordered(field, outside):
    """Add the border of fields that are interpolated."""
    above, below, left, right = evidence.BORDER
    return np.pad(field, ((above, below), (left, right)), constant_values=outside)


def static_flow(T_other_cam, depth):
    """Flow (2, rows, columns) of a static plane, by projecting its points."""
    camera = CAMERA.resized(CELLS.width, CELLS.height)
    positions = np.moveaxis(CELLS.positions, 0, 2).astype(float)
    points = camera.unproject(positions.reshape(-1, 2)) * depth
    seen = camera.project(se3.transform(T_other_cam, points)).reshape(positions.shape)
    return np.ascontiguousarray(np.moveaxis(seen - positions, 2, 0), np.float32)


def bounds(low, high):
    """Make possible bounds, and likely ones of exactly the plane's depth."""
    return np.stack([np.full(CELLS.shape, d, np.float32)
                     for d in (low, high, 1 / DEPTH, 1 / DEPTH)])


def residuals(flow, T, of=None):
    """Residuals of a flow to the map."""
    out = np.empty((2, *CELLS.shape), np.float32)
    evidence.residuals(CELLS.positions, flow, bounds(0.1, 1.0) if of is None else of,
                       CELLS.projections(T[None])[0], out)
    return out


def verified(flow, back):
    """Length of a flow, and where it is valid."""
    length, valid = np.empty(CELLS.shape, np.float32), np.empty(CELLS.shape, bool)
    back = np.stack([bordered(channel, 1e3) for channel in back])
    evidence.verify(CELLS.positions, flow, back, np.ones(CELLS.shape, np.float32), 20.0, length,
                    valid)
    return length, valid


def test_static_cells_have_no_residual():
    T = se3.exp([0.01, -0.02, 0.03, 0.2, -0.05, 0.1])
    flow = static_flow(T, DEPTH)
    possible, likely = residuals(flow, T)
    length, valid = verified(flow, -flow)
    assert valid.mean() > 0.5
    assert possible[valid].max() < 1e-3 and likely[valid].max() < 1e-3
    np.testing.assert_allclose(length, np.hypot(*flow), rtol=1e-5)


def test_residuals_are_distances_to_the_interval():
    # The camera moves to the right: points lie to the left, the farther the nearer they are
    T = se3.from_rt(np.eye(3), [-0.4, 0, 0])
    fx = CAMERA.resized(CELLS.width, CELLS.height).fx
    for u, v, expected in ((-fx * 0.4 * 0.5, 3.0, 3.0),  # between the bounds, but for the row
                           (-fx * 0.4 * 1.0 - 4.0, 3.0, 5.0),  # nearer than possible
                           (-fx * 0.4 * 0.1 + 6.0, 0.0, 6.0)):  # farther
        flow = np.stack([np.full(CELLS.shape, u, np.float32), np.full(CELLS.shape, v, np.float32)])
        possible, likely = residuals(flow, T)
        np.testing.assert_allclose(possible, expected, rtol=1e-4)
        np.testing.assert_allclose(likely, np.hypot(u + fx * 0.4 / DEPTH, v), rtol=1e-4)


def test_flow_that_does_not_find_its_way_back_is_not_valid():
    flow = np.full((2, *CELLS.shape), 2.0, np.float32)
    back = -flow
    back[0, :, 20:] += 1.5
    _, valid = verified(flow, back)
    # Cells are two pixels wide: flow leads one cell on
    assert valid[2:-2, 2:18].all() and not valid[:, 20:].any()
    assert not valid[-1].any(), 'it leads out of the image'


def test_correspondences_are_projections():
    T_earlier, T_last, T_reference = (se3.exp(xi) for xi in (
        [0.01, 0, 0.02, 0.1, 0, 0], [0, 0.01, 0, 0.05, 0, 0], [0, 0, 0.02, 0, 0.1, 0.05]))
    P = CELLS.projections(np.stack([T_earlier, T_last, T_reference]))
    before, then = np.empty((2, *CELLS.positions.shape), np.float32)
    flow = static_flow(T_earlier, DEPTH)
    flow[0] += 3.0  # of which a third is since the previous frame
    evidence.correspondences(CELLS.positions, flow, bounds(0.1, 1.0), P, 3, before, then)
    scale = np.array([CELLS.width / CELLS.columns, CELLS.height / CELLS.rows])[:, None, None]
    for found, T, more in ((before, T_last, 1.0), (then, T_reference, 0.0)):
        expected = CELLS.positions + static_flow(T, DEPTH)
        expected[0] += more
        np.testing.assert_allclose(found, (expected + 0.5) / scale - 0.5, atol=1e-3)


def test_interpolation_is_bilinear():
    rng = np.random.default_rng(0)
    field = rng.random(CELLS.shape).astype(np.float32)
    rows, columns = CELLS.shape
    places = (rng.uniform(-2, [[[columns + 1]], [[rows + 1]]], (2, rows, columns))
              ).astype(np.float32)
    places[0, 0, :3] = np.nan, np.inf, -np.inf
    out = np.empty(CELLS.shape, np.float32)
    evidence.interpolate(bordered(field, 7.0), places, out)
    sure = np.isfinite(places).all(axis=0)
    expected = map_coordinates(np.pad(field, 3, constant_values=7.0),
                               np.where(sure, places, 0)[::-1] + 3, order=1)
    np.testing.assert_allclose(out[sure], expected[sure], atol=1e-4)
    assert np.isfinite(out).all()


def vote(residual, valid, difference, known, before):
    """Return votes and score."""
    votes, score = np.empty(CELLS.shape, np.float32), np.full(CELLS.shape, before, np.float32)
    evidence.map_votes(residual, NONE, valid, difference, known, votes)
    evidence.accumulate(votes, MEMORY, score)
    return votes, score


def test_votes_follow_residuals():
    residual = np.zeros((2, *CELLS.shape), np.float32)
    residual[:, :5] = 10.0
    valid, known = np.ones(CELLS.shape, bool), np.zeros(CELLS.shape, bool)
    valid[-3:] = False
    known[10:] = True
    votes, score = vote(residual, valid, np.zeros(CELLS.shape, np.float32), known, 2.5)
    assert (votes[:5] == evidence.MOVING_VOTE).all()
    assert (votes[5:10] == -evidence.STILL_VOTE).all()
    assert (votes[10:] == -evidence.ALIKE_VOTE).all(), 'also where flow is not valid'
    np.testing.assert_allclose(
        score, np.clip(MEMORY * 2.5 + votes, -3.0, 3.0), rtol=1e-6)


def test_a_frame_with_hardly_any_valid_flow_says_nothing():
    residual = np.full((2, *CELLS.shape), 10.0, np.float32)
    valid = np.zeros(CELLS.shape, bool)
    valid[0, :5] = True
    votes, score = vote(residual, valid, np.zeros(CELLS.shape, np.float32), ~valid, 1.0)
    assert not votes.any()
    np.testing.assert_allclose(score, MEMORY)


def test_votes_by_the_image_are_relative_to_its_noise():
    rng = np.random.default_rng(0)
    for noise in (0.1, 0.5):
        residual = np.abs(rng.normal(0, noise, CELLS.shape)).astype(np.float32)
        residual[:5] = 20 * noise
        votes, valid = np.empty(CELLS.shape, np.float32), np.ones(CELLS.shape, bool)
        looks = np.zeros((2, *CELLS.shape), np.float32)
        looks[0] = 5.0  # the flow explains the image better
        evidence.image_votes(residual, looks, NONE, valid, votes)
        assert (votes[:5] > 0.85).all() and np.median(votes[5:]) < -0.3
        valid[:, ::2] = False
        halved = np.empty_like(votes)
        evidence.image_votes(residual, looks, NONE, valid, halved)
        assert not halved[:, ::2].any(), 'no vote where flow is not valid'
        np.testing.assert_allclose(halved[:5, 1::2], 0.5 * votes[:5, 1::2], rtol=0.1,
                                   err_msg='half of the flow says half as much')


def test_flow_that_explains_the_image_no_better_is_no_motion():
    residual = np.zeros(CELLS.shape, np.float32)
    residual[:10] = 5.0
    looks = np.zeros((2, *CELLS.shape), np.float32)
    looks[0, :5], looks[0, 5:8], looks[1, 8:] = 20.0, 1.5, 20.0
    votes = np.empty(CELLS.shape, np.float32)
    evidence.image_votes(residual, looks, NONE, np.ones(CELLS.shape, bool), votes)
    assert (votes[:5] > 0.85).all() and (votes[10:] < -0.5).all()
    np.testing.assert_allclose(votes[5:10], -evidence.IMAGE_PRIOR, err_msg='only the prior')


def test_differences_are_those_of_the_earlier_image():
    """It was shifted by two cells; the homography says so, the flow says that it rests."""
    rng = np.random.default_rng(3)
    rows, columns = CELLS.shape
    now = rng.uniform(0, 255, (rows + 3, columns + 3)).astype(np.float32)
    then = np.roll(now, 2, axis=1)
    step = CELLS.width / columns
    H = np.array([[1, 0, 2 * step], [0, 1, 0], [0, 0, 1]], np.float32)
    out = np.empty((2, rows, columns), np.float32)
    flow = np.zeros((2, rows, columns), np.float32)
    evidence.differences(CELLS.positions, flow, H, now, then, out)
    inside = np.s_[1:-1, 3:-3]
    assert out[0][inside].max() < 0.1
    expected = np.abs(now - then)[1:1 + rows, 1:1 + columns]
    np.testing.assert_allclose(out[1][inside], expected[inside], atol=0.1)


def test_shares_that_are_explained():
    residual, used = np.zeros(CELLS.shape, np.float32), np.ones(CELLS.shape, bool)
    residual[:, :CELLS.columns // 4] = 5.0
    expected = 1 - CELLS.columns // 4 / CELLS.columns
    assert abs(evidence.explained(residual, NONE, used) - expected) < 1e-6
    used[:, :CELLS.columns // 4] = False
    assert evidence.explained(residual, NONE, used) == 1
    assert evidence.explained(residual, NONE, ~used) == 0
    long = np.full(CELLS.shape, 60.0, np.float32)
    assert evidence.explained(residual, long, ~used) == 1, 'long flow is less exact'
