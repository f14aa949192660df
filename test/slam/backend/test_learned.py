# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Predicted depth, in units of its own, against the exact depth of a room."""

from __future__ import annotations

from dataclasses import replace

from keyframes_by_hand import at_x, keyframe, predicted, room_depth, TrueViewpoint
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry.camera import pixel_grid
from recon3r_ros.models.types import NO_CONFIDENCE
from recon3r_ros.slam.backend.learned import (
    in_scale_of,
    LearnedDepth,
    LearnedDepths,
    MAX_INFORMATION,
    MIN_INFORMATION,
    MIN_LANDMARKS,
    unit,
)
from recon3r_ros.slam.types import Keyframe

Array = NDArray[np.float64]
ELSEWHERE = at_x(0.4, 0.1, -0.3, -0.1)


def dense_depth(known: Keyframe) -> Array:
    """Depth (H, W) of the room in metres, from a keyframe's true pose."""
    camera = known.camera
    return room_depth(known.T_map_cam, camera.unproject(pixel_grid(camera.height, camera.width)))


def learned(known: Keyframe, metres: float, confidence: float = 80.0, metric: bool = False
            ) -> LearnedDepth:
    """Give a keyframe's exact depth in a unit that is some metres long."""
    depth = (dense_depth(known) / metres).astype(np.float32)
    return LearnedDepth(depth, np.full(depth.shape, confidence, np.float32), metric)


def without_landmarks(known: Keyframe) -> Keyframe:
    """Forget the depths of the keypoints."""
    return replace(known, landmarks=np.zeros(len(known.keypoints)))


def test_a_unit_is_the_ratio_of_depths() -> None:
    predicted_depths = np.linspace(1, 5, 40)
    assert unit(predicted_depths, np.full(40, 30.0), 2.5 * predicted_depths) == pytest.approx(2.5)


def test_a_unit_is_that_of_most_of_the_confidence() -> None:
    depths, confidences = np.linspace(1, 5, 40), np.full(40, 30.0)
    known = 2.0 * depths
    known[:15] *= 7
    assert unit(depths, confidences, known) == pytest.approx(2.0)
    confidences[15:] = 10.0
    assert unit(depths, confidences, known) == pytest.approx(14.0), 'the sure ones outvote many'


def test_one_sure_pixel_does_not_decide_a_unit() -> None:
    depths, confidences = np.linspace(1, 5, 40), np.full(40, MAX_INFORMATION)
    known = 2.0 * depths
    known[0] *= 7
    confidences[0] = 1e12
    assert unit(depths, confidences, known) == pytest.approx(2.0)


@pytest.mark.parametrize('spoilt', ['confidence', 'predicted', 'known', 'known behind'])
def test_a_unit_takes_enough_landmarks(spoilt: str) -> None:
    """Depths without confidence, missing on either side, or behind, are ignored."""
    depths, confidences, known = (np.ones(MIN_LANDMARKS) for _ in range(3))
    assert unit(depths, confidences, known) == pytest.approx(1.0)
    values, value = {'confidence': (confidences, 0.0), 'predicted': (depths, 0.0),
                     'known': (known, 0.0), 'known behind': (known, -1.0)}[spoilt]
    values[-1] = value
    assert unit(depths, confidences, known) is None


def test_of_nothing_there_is_no_unit() -> None:
    assert unit(np.zeros(0), np.zeros(0), np.zeros(0)) is None


def test_a_prediction_gives_the_depth_of_its_first_view() -> None:
    first, second = keyframe(0), TrueViewpoint(ELSEWHERE)
    prediction = replace(predicted(TrueViewpoint(np.eye(4)), second, unit=0.4), metric=True)
    found = LearnedDepth.of(prediction)
    assert np.allclose(found.depth * 0.4, dense_depth(first), rtol=1e-5)
    assert found.metric and (found.confidence == prediction.confidences[0]).all()


def test_unsure_pixels_and_those_behind_have_no_depth_to_use() -> None:
    depth = np.array([[2.0, 2.0, 2.0, 0.0, -1.0]], np.float32)
    confidence = np.array([[MIN_INFORMATION + 1, MIN_INFORMATION, 1e-6, 90, 90]], np.float32)
    pixels = np.stack([np.arange(5), np.zeros(5)], axis=1).astype(np.int32)
    _, found = LearnedDepth(depth, confidence).at(pixels)
    assert found.tolist() == [MIN_INFORMATION + 1, 0, 0, 0, 0]


def test_pixels_are_columns_and_rows() -> None:
    depth = np.arange(1, 7, dtype=np.float32).reshape(2, 3)
    found = LearnedDepth(depth, np.full((2, 3), 90, np.float32))
    assert found.at(np.array([[2, 0], [0, 1]], np.int32))[0].tolist() == [3, 4]


@pytest.mark.parametrize('length, scale', [(1.0, 1.0), (0.37, 2.0), (8.0, 0.1)])
def test_a_new_keyframe_takes_over_its_partners_scale(length: float, scale: float) -> None:
    """Whatever the units of the prediction and the map are, in metres."""
    partner, new = keyframe(0, scale=scale), keyframe(1, ELSEWHERE, scale=scale)
    prediction = predicted(TrueViewpoint(ELSEWHERE), TrueViewpoint(np.eye(4)), unit=length)
    found = in_scale_of([(partner, prediction)], without_landmarks(new))
    assert np.allclose(found / new.landmarks, 1, atol=1e-4)


def test_depths_that_are_known_stay_and_unsure_ones_stay_unknown() -> None:
    partner, new = keyframe(0), keyframe(1, ELSEWHERE)
    landmarks = new.landmarks * 1.5
    landmarks[::2] = 0
    prediction = predicted(TrueViewpoint(ELSEWHERE), TrueViewpoint(np.eye(4)))
    unsure = prediction.confidences[0].copy()
    unsure[:, :32] = MIN_INFORMATION
    prediction = replace(prediction, confidences=(unsure, prediction.confidences[1]))
    found = in_scale_of(
        [(partner, prediction)], replace(new, landmarks=landmarks))
    left = new.keypoints[:, 0] < 32
    assert np.array_equal(found[1::2], landmarks[1::2])
    assert (found[::2][left[::2]] == 0).all()
    assert np.allclose((found / new.landmarks)[::2][~left[::2]], 1, atol=1e-4)


@pytest.mark.parametrize('case', ['few landmarks', 'behind', 'not seen', 'unsure'])
def test_without_a_scale_nothing_is_taken_over(case: str) -> None:
    partner, new = keyframe(0), without_landmarks(keyframe(1, ELSEWHERE))
    if case == 'few landmarks':
        partner = replace(partner, landmarks=partner.landmarks * (
            np.arange(len(partner.landmarks)) < MIN_LANDMARKS - 1))
    elif case == 'behind':
        partner = replace(partner, T_map_cam=at_x(0, yaw=np.pi))
    prediction = predicted(TrueViewpoint(ELSEWHERE), TrueViewpoint(np.eye(4)))
    if case in ('not seen', 'unsure'):
        confidence = NO_CONFIDENCE if case == 'not seen' else MIN_INFORMATION
        own, other = prediction.confidences
        prediction = replace(
            prediction, confidences=(own, np.full_like(other, confidence)),
            pointmaps=(prediction.pointmaps[0], 5 * prediction.pointmaps[1]))
    assert (in_scale_of([(partner, prediction)], new) == 0).all()


@pytest.mark.parametrize('scale', [1.0, 0.2])
def test_a_prior_is_in_map_units(scale: float) -> None:
    known = keyframe(3, scale=scale)
    depths = LearnedDepths()
    depths.add(3, 2, learned(keyframe(3), 0.7, confidence=60.0))
    # Only the first landmarks tell the scale: all get a prior
    seen = np.arange(len(known.landmarks)) < MIN_LANDMARKS
    inverse, information = depths.prior(replace(known, landmarks=known.landmarks * seen))
    assert np.allclose(inverse / known.landmarks, 1, atol=1e-4)
    assert np.allclose(information, 1 / (1 / 60 + 1 / MAX_INFORMATION))


def test_predictions_of_one_image_are_averaged_and_not_added_up() -> None:
    """Weighted by confidence; however many agree, the error of a depth stays at a tenth."""
    known, depths = keyframe(0), LearnedDepths()
    depths.add(0, 1, learned(known, 3.0, confidence=90.0))
    tilted = learned(known, 0.5, confidence=30.0)
    # In front of the right half it errs by a factor: the median ratio is the left half's
    factor = np.where(np.arange(64) < 36, 1.0, 1.2).astype(np.float32)
    depths.add(0, 2, replace(tilted, depth=tilted.depth * factor))
    inverse, information = depths.prior(known)
    ratio = known.landmarks / inverse
    left = known.keypoints[:, 0] < 36
    assert np.allclose(ratio[left], 1, atol=1e-4)
    assert np.allclose(ratio[~left], 1.2 ** (30 / 120), atol=1e-4)
    assert np.allclose(information, 1 / (1 / 60 + 1 / MAX_INFORMATION))
    for partner in range(3, 60):
        depths.add(0, partner, learned(known, 1.0, confidence=1e6))
    assert (depths.prior(known)[1] < MAX_INFORMATION).all()


@pytest.mark.parametrize('case', ['no prediction', 'of another', 'no scale', 'no confidence'])
def test_where_nothing_is_known_a_prior_has_no_information(case: str) -> None:
    known, depths = keyframe(0), LearnedDepths()
    if case == 'of another':
        depths.add(1, 0, learned(known, 1.0))
    elif case == 'no scale':
        depths.add(0, 1, learned(known, 1.0))
        known = without_landmarks(known)
    elif case == 'no confidence':
        depths.add(0, 1, learned(known, 1.0, confidence=NO_CONFIDENCE))
    inverse, information = depths.prior(known)
    assert inverse.shape == information.shape == (len(known.keypoints),)
    assert (information == 0).all() and np.isfinite(inverse).all()
    assert depths.votes(known) == [] and depths.metres(known) == []


def test_votes_are_together_as_sure_as_one() -> None:
    known, depths = keyframe(0, scale=0.3), LearnedDepths()
    for partner, length in ((1, 0.7), (2, 4.0)):
        depths.add(0, partner, learned(keyframe(0), length))
    votes = depths.votes(known)
    assert len(votes) == 2
    total = np.zeros(known.inverse_depth.shape)
    for vote in votes:
        inverse_depth, confidence = vote.depths(known.rays())
        assert np.allclose(inverse_depth / known.inverse_depth, 1, atol=1e-4)
        total += confidence
    assert np.allclose(total, 80.0)


def test_votes_know_nothing_of_what_lies_behind() -> None:
    known, depths = keyframe(0), LearnedDepths()
    said = learned(known, 1.0)
    depth, confidence = said.depth.copy(), said.confidence.copy()
    depth[:10], confidence[:10] = -1.0, NO_CONFIDENCE
    depths.add(0, 1, LearnedDepth(depth, confidence))
    vote, = depths.votes(known)
    inverse_depth, sure = vote.depths(known.rays())
    assert (inverse_depth[:10] == 0).all() and (sure[:10] <= NO_CONFIDENCE).all()
    assert np.allclose(inverse_depth[10:] / known.inverse_depth[10:], 1, atol=1e-4)


def test_a_metric_prediction_tells_how_long_a_map_unit_is() -> None:
    """Map units are a third of a metre here; a prediction without metres gives no scale."""
    known, depths = keyframe(0, scale=3.0), LearnedDepths()
    depths.add(0, 1, learned(keyframe(0), 1.0, metric=True))
    depths.add(0, 2, learned(keyframe(0), 0.5))
    assert depths.metres(known) == pytest.approx([1 / 3])


def test_predictions_leave_with_the_window() -> None:
    depths = LearnedDepths()
    for pair in ((0, 0), (0, 1), (1, 0), (2, 1)):
        depths.add(*pair, learned(keyframe(0), 1.0))
    before = depths.copy()
    depths.keep({1, 2})
    assert depths.pairs == [(1, 0), (2, 1)]
    assert before.pairs == [(0, 0), (0, 1), (1, 0), (2, 1)]
    depths.keep([])
    assert depths.pairs == []


def test_a_later_prediction_of_the_same_pair_takes_the_place_of_an_earlier_one() -> None:
    known, depths = keyframe(0), LearnedDepths()
    depths.add(0, 1, learned(known, 1.0, metric=True))
    depths.add(0, 1, learned(known, 0.25, metric=True))
    assert depths.metres(known) == pytest.approx([4.0])


def test_a_window_has_one_unit_of_length_by_all_its_keyframes() -> None:
    """A keyframe with hardly a landmark gets its scale from the others of the window."""
    full = [keyframe(i, at_x(0.1 * i)) for i in range(3)]
    few = np.arange(len(full[2].landmarks)) < 3
    poor = replace(full[2], landmarks=full[2].landmarks * few)
    known, depths = {0: full[0], 1: full[1], 2: poor}, LearnedDepths()
    for i in range(3):
        depths.add(i, 3, replace(learned(full[i], 0.4, metric=True), window=7))
    # Another window of the same keyframe, in a unit of its own, which nothing tells
    depths.add(2, 4, replace(learned(full[2], 5.0), window=8))
    assert (depths.prior(poor)[1] == 0).all(), 'by itself it is not known'
    inverse, information = depths.prior(poor, known)
    assert np.allclose(inverse / full[2].landmarks, 1, atol=1e-4) and (information > 0).all()
    assert len(depths.votes(poor, known)) == 1
    assert depths.metres(poor, known) == pytest.approx([1 / 0.4])


def test_a_window_counts_once_for_a_keyframe_however_many_partners_it_has() -> None:
    known, depths = keyframe(0), LearnedDepths()
    for partner in range(1, 5):
        depths.add(0, partner, replace(learned(known, 2.0), window=1))
    depths.add(0, 5, learned(known, 0.5))
    depths.add(0, 6, learned(known, 0.7))
    assert len(depths.votes(known)) == 3


def test_a_new_keyframe_is_scaled_by_all_partners_of_its_window() -> None:
    partners, new = [keyframe(i, at_x(0.1 * i)) for i in range(2)], keyframe(2, ELSEWHERE)
    each = np.arange(len(partners[0].landmarks)) < MIN_LANDMARKS - 5
    poor = [replace(p, landmarks=p.landmarks * each) for p in partners]
    pairs = [(p, predicted(TrueViewpoint(ELSEWHERE), TrueViewpoint(p.T_map_cam), unit=3.0))
             for p in poor]
    bare = without_landmarks(new)
    assert (in_scale_of(pairs[:1], bare) == 0).all() and (in_scale_of(pairs[1:], bare) == 0).all()
    assert np.allclose(in_scale_of(pairs, bare) / new.landmarks, 1, atol=1e-4)
