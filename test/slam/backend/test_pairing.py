# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which keyframes are processed jointly, and how: by a predictor that knows the room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from keyframes_by_hand import (
    at_x,
    CAMERA,
    correspondence,
    keyframe,
    keypoints,
    predicted,
    TrueViewpoint,
)
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.models.registry import Window
from recon3r_ros.models.types import MATCHED, NO_CONFIDENCE, Prediction, View
from recon3r_ros.slam.archive import ArchivedView
from recon3r_ros.slam.backend.pairing import (
    FOCAL_SIGMA,
    LEARNED_FOCAL_SIGMA,
    MAX_FOCALS,
    MIN_COMMON,
    Pairing,
)
from recon3r_ros.slam.types import at, Keyframe

Array = NDArray[np.float64]
WINDOW = 7


@dataclass(frozen=True, eq=False)
class Encoding:
    """A view whose pose the oracle knows by its number."""

    number: int
    image: NDArray[np.uint8]
    camera: Camera = CAMERA
    keypoints: NDArray[np.int32] = field(default_factory=keypoints)
    descriptor: NDArray[np.float32] = field(default_factory=lambda: np.ones(1, np.float32))
    features: NDArray[np.float32] | None = None


class Oracle:
    """Predicts ground truth of pairs, and records its calls."""

    single_view, reweights = True, True
    together = None

    def __init__(self, poses: Sequence[Array], focals: Sequence[float] = ()) -> None:
        self.poses = list(poses)
        self.focals = list(focals)
        self.matched: int | None = None
        self.encoded: list[View] = []
        self.asked: list[tuple[int, ...]] = []
        self.moving: list[tuple[NDArray[np.bool_], ...]] = []

    def encode(self, view: View) -> Encoding:
        """Recognise a view by its grey."""
        self.encoded.append(view)
        image = view.image if view.image.ndim == 3 else np.repeat(view.image[..., None], 3, 2)
        return Encoding(round(float(view.image.mean())), image, view.camera)

    def predict(self, groups: Sequence[tuple[Encoding, ...]],
                moving: Sequence[tuple[NDArray[np.bool_], ...]] | None = None,
                priors: object = None) -> list[Prediction]:
        """Predict pairs and single views."""
        self.moving += moving or []
        return [self._predict(group) for group in groups]

    def _predict(self, group: tuple[Encoding, ...]) -> Prediction:
        self.asked.append(tuple(e.number for e in group))
        exact = predicted(*(TrueViewpoint(self.poses[e.number]) for e in group))
        if self.matched is not None and len(group) > 1:
            exact = replace(exact, confidences=(exact.confidences[0], self._few(group)))
        return replace(exact, focal=self.focals.pop(0) if self.focals else None)

    def _few(self, group: tuple[Encoding, ...]) -> NDArray[np.float32]:
        """Match as many keypoints as are asked for in the one direction, none in the other."""
        confidence = np.full((CAMERA.height, CAMERA.width), NO_CONFIDENCE, np.float32)
        if group[0].number < group[1].number:
            assert self.matched is not None
            u, v = group[1].keypoints[:self.matched].T
            confidence[v, u] = MATCHED
        return confidence


def view(i: int) -> View:
    """Return the image of a view, which is as grey as its number."""
    return View(np.full((CAMERA.height, CAMERA.width, 3), i, np.uint8), CAMERA)


class Scene:
    """
    Keyframes with encodings, and a new one that is to be paired.

    :param poses: T_map_cam (4, 4) of all, the new one last
    :param looks: a direction (radians) for each one's descriptor: alike where these are close
    :param focals: focal lengths that are predicted, one after the other
    """

    def __init__(self, poses: Sequence[Array], looks: Sequence[float] = (),
                 focals: Sequence[float] = (), cameras: Sequence[str] = ()) -> None:
        self.oracle = Oracle(poses, focals)
        self.pairing = Pairing(self.oracle)
        self.keyframes: dict[int, Keyframe] = {}
        angles = looks or [0.3 * i for i in range(len(poses))]
        for i, (T, angle) in enumerate(zip(poses, angles)):
            self.new = replace(
                keyframe(i, T, camera_name=cameras[i] if cameras else 'camera'),
                descriptor=np.array([np.cos(angle), np.sin(angle)], np.float32))
            self.encoding = self.pairing.encode(view(i))
            if i < len(poses) - 1:
                self.keyframes[i] = self.new
                self.pairing.insert(i, self.encoding)
                self.pairing.archive[i] = ArchivedView.of(view(i), 1.0)
        self.oracle.encoded.clear()

    def partners(self) -> tuple[list[int], int | None]:
        """Pair the new keyframe; return the ids of its partners, and of the loop's."""
        pairs, loop = self.pairing.with_partners(
            self.new, self.encoding, self.keyframes, WINDOW, 1.0)
        return [p.partner for p in pairs], loop

    def groups(self, similar: int = 5) -> list[list[int]]:
        """List groups of partners to try where its pose is unknown."""
        return self.pairing.relocalisation_partners(self.new, self.keyframes, similar)

    def predict(self, *partners: int, focal_factor: float = 1.0) -> list[int]:
        """Predict the new keyframe with partners; return those that show the same scene."""
        pairs = self.pairing.predict(self.new, self.encoding,
                                     [self.keyframes[i] for i in partners], focal_factor)
        return [p.partner for p in pairs]


def row(count: int, step: float = 0.05) -> list[Array]:
    """Poses side by side."""
    return [at_x(step * i) for i in range(count)]


AWAY = at_x(0, yaw=np.pi)


def test_a_pair_says_where_each_one_sees_the_other() -> None:
    poses = [np.eye(4), at_x(0.4, 0.1, 0.2, yaw=0.1)]
    scene = Scene(poses)
    pair, = scene.pairing.predict(scene.new, scene.encoding, [scene.keyframes[0]], 1.0)
    assert pair.partner == 0
    assert scene.oracle.asked == [(0, 1), (1, 0)], 'forward is in the frame of the partner'
    old, new = keyframe(0, poses[0]), keyframe(1, poses[1])
    for found, anchor, observer in ((pair.of_partner, old, new), (pair.of_new, new, old)):
        exact = correspondence(anchor, observer)
        seen = exact.confidence > 0
        assert 0.3 < seen.mean() < 1
        assert np.allclose(found.targets[seen], exact.targets[seen], atol=1e-3)
        assert (found.confidence[seen] > 0).all()
        # What is seen in the half pixel of margin apart, nothing else is
        assert (found.confidence[~seen] > 0).mean() < 0.05
    own = pair.forward.pointmaps[0]
    assert np.allclose(own, old.pointmap(), atol=1e-4)


def test_views_of_other_walls_are_no_pair() -> None:
    scene = Scene([np.eye(4), AWAY, at_x(0.1)])
    assert scene.predict(0, 1) == [0]
    assert scene.predict() == []


@pytest.mark.parametrize('common, enough', [(MIN_COMMON - 1, False), (MIN_COMMON, True)])
def test_a_pair_has_enough_keypoints_in_common(common: int, enough: bool) -> None:
    """In both directions together: here all are in the one."""
    scene = Scene(row(2))
    scene.oracle.matched = common + 40
    pair, = scene.pairing.predict(scene.new, scene.encoding, [scene.keyframes[0]], 1.0)
    seen = np.flatnonzero(at(pair.of_new.confidence, scene.new.keypoints) > 0)
    scene.oracle.matched = int(seen[common - 1]) + 1
    assert scene.predict(0) == ([0] if enough else [])


def test_partners_with_images_of_another_size_are_left_aside() -> None:
    """Those of a recovered map may be smaller than the keyframe's own grid."""
    scene = Scene(row(3))
    small = View(np.full((24, 32, 3), 0, np.uint8), CAMERA.resized(32, 24))
    scene.pairing.insert(0, scene.pairing.encode(small))
    assert scene.predict(0, 1) == [1]


def test_a_new_keyframe_is_predicted_with_the_one_before_and_the_third_last() -> None:
    assert Scene(row(6)).partners() == ([4, 2], None)


@pytest.mark.parametrize('count, expected', [(1, [0]), (2, [1]), (3, [2, 0])])
def test_of_a_few_keyframes(count: int, expected: list[int]) -> None:
    assert Scene(row(count + 1)).partners()[0] == expected


def test_the_first_keyframe_has_no_partners() -> None:
    assert Scene(row(1)).partners() == ([], None)


def test_a_partner_that_sees_something_else_is_not_predicted() -> None:
    scene = Scene([*row(3), at_x(0, yaw=0.9), at_x(0.15), at_x(0.2, yaw=0.1), at_x(0.2)])
    assert scene.partners() == ([5], None)
    assert {i for group in scene.oracle.asked for i in group} == {5, 6}


def test_the_one_before_is_predicted_wherever_the_new_one_is_believed_to_be() -> None:
    """Its pose may be wrong."""
    scene = Scene(row(5))
    scene.new = replace(scene.new, T_map_cam=AWAY)
    assert scene.partners() == ([3], None)


def test_partners_without_depth_are_predicted_whatever_they_see() -> None:
    scene = Scene(row(5))
    nothing = np.zeros(len(scene.new.keypoints))
    scene.keyframes = {i: replace(k, landmarks=nothing) for i, k in scene.keyframes.items()}
    scene.new = replace(scene.new, T_map_cam=AWAY)
    assert scene.partners() == ([3, 1], None)


LOOKS = [0.3 * i for i in range(12)]


def test_a_place_seen_again_closes_a_loop() -> None:
    scene = Scene(row(12), [*LOOKS[:-1], LOOKS[2]])
    assert scene.partners() == ([10, 8, 2], 2)


def test_a_keyframe_is_predicted_once_whatever_it_is_wanted_for() -> None:
    """Of two cameras one is slow: its last keyframes are older than the window, and similar."""
    cameras = ['slow'] * 3 + ['fast'] * 10 + ['slow']
    scene = Scene(row(14, 0.01), [*[0.3 * i for i in range(13)], 0.6], cameras=cameras)
    partners, loop = scene.partners()
    assert partners == [2, 0] and loop is None
    assert sorted(scene.oracle.asked) == [(0, 13), (2, 13), (13, 0), (13, 2)]


def test_a_loop_that_shows_another_place_is_none() -> None:
    """Its descriptor is similar, but there are no correspondences."""
    poses = row(12)
    poses[2] = AWAY
    scene = Scene(poses, [*LOOKS[:-1], LOOKS[2]])
    assert scene.partners() == ([10, 8], None)
    assert (2, 11) in scene.oracle.asked


@pytest.mark.parametrize('alike, loop', [(11 - WINDOW, 11 - WINDOW), (11 - WINDOW + 1, None)])
def test_keyframes_of_the_window_are_no_loop(alike: int, loop: int | None) -> None:
    looks = [np.pi] * 12
    looks[alike] = looks[-1] = 0.0
    looks[8] = 0.1  # the farthest partner
    assert Scene(row(12), looks).partners()[1] == loop


def test_ids_need_not_be_positions() -> None:
    """Culled keyframes leave gaps."""
    scene = Scene(row(14), [0.3 * i for i in range(13)] + [0.9])
    for i in (0, 2, 11):
        del scene.keyframes[i]
    assert scene.partners() == ([12, 9, 3], 3)


def test_partners_are_of_the_same_camera_and_loops_of_any() -> None:
    cameras = ['left', 'right'] * 6
    scene = Scene(row(12, 0.03), [*LOOKS[:-1], LOOKS[2]], cameras=cameras)
    assert scene.new.camera_name == 'right'
    assert scene.partners() == ([9, 5, 2], 2)


def test_a_second_camera_begins_with_a_loop_or_nothing() -> None:
    scene = Scene(row(12), [*LOOKS[:-1], LOOKS[2]], cameras=['left'] * 11 + ['right'])
    assert scene.partners() == ([2], 2)
    scene = Scene(row(12), LOOKS, cameras=['left'] * 11 + ['right'])
    assert scene.partners() == ([], None)


def test_a_lost_keyframe_is_looked_for_among_recent_ones_first() -> None:
    scene = Scene(row(12), [*LOOKS[:-1], LOOKS[2]])
    assert scene.groups()[0] == [10, 9]


def test_then_among_those_that_look_alike() -> None:
    scene = Scene(row(12), [*LOOKS[:-1], LOOKS[2]])
    first, second = scene.groups()
    assert second[0] == 2 and sorted(second) == [0, 1, 2, 3, 4]
    everything = [i for group in scene.groups(100) for i in group]
    assert sorted(everything) == list(range(11))


def test_keyframes_that_left_the_window_are_encoded_again_for_a_loop() -> None:
    """With the present focal length."""
    scene = Scene(row(12), [*LOOKS[:-1], LOOKS[2]])
    scene.pairing.keep(range(5, 11), scene.keyframes)
    assert [i for i in range(12) if scene.pairing.holds(i)] == list(range(5, 11))
    assert scene.predict(10, 2, focal_factor=1.25) == [10, 2]
    again, = scene.oracle.encoded
    assert again.camera.fx == pytest.approx(1.25 * CAMERA.fx)
    assert not scene.pairing.holds(2), 'it is not kept'


def test_images_leave_with_their_keyframes() -> None:
    scene = Scene(row(6))
    scene.pairing.keep([3, 4], [0, 3, 4])
    assert sorted(scene.pairing.archive) == [0, 3, 4]
    assert [i for i in range(6) if scene.pairing.holds(i)] == [3, 4]
    scene.pairing.keep([], [])
    assert not scene.pairing.archive and not scene.pairing.holds(4)


def test_a_window_keeps_the_views_that_it_is_going_to_share() -> None:
    """All but one of the newest views of a window of four, whatever else is kept."""
    scene = Scene(row(9))
    scene.oracle.window = Window(4, 2)
    scene.oracle.together = scene.oracle
    scene.pairing.keep([1], scene.keyframes)
    assert [i for i in range(9) if scene.pairing.holds(i)] == [1, 5, 6, 7]


def test_a_copy_leaves_no_trace() -> None:
    scene = Scene(row(4), focals=[1.5 * CAMERA.fx] * 2)
    copy = scene.pairing.copy()
    copy.insert(9, scene.encoding)
    copy.keep([9], [0])
    copy.predict(scene.new, scene.encoding, [scene.keyframes[0]], 1.0)
    assert copy.focal() is not None and scene.pairing.focal() is None
    assert not scene.pairing.holds(9) and scene.pairing.holds(2)
    assert sorted(scene.pairing.archive) == [0, 1, 2]
    assert copy.predictor is scene.pairing.predictor


def test_features_are_those_of_the_encoding() -> None:
    scene, features = Scene(row(2)), np.zeros((3, 4, 8), np.float32)
    assert scene.pairing.features(0) is None and scene.pairing.features(5) is None
    scene.pairing.insert(5, replace(scene.encoding, features=features))
    assert scene.pairing.features(5) is features


def test_without_predicted_focal_lengths_the_guess_is_the_prior() -> None:
    """The prior is on the correction of the present focal length, 1.1 times the initial one."""
    scene = Scene(row(2))
    scene.predict(0)
    assert scene.pairing.focal() is None
    assert scene.pairing.focal_prior(1.1) == pytest.approx((-np.log(1.1), FOCAL_SIGMA))


def test_predicted_focal_lengths_are_relative_to_the_guess() -> None:
    """One of three predictions is far off; 1.3 times the initial one is not today's camera."""
    true, guess = 1.3 * CAMERA.fx, CAMERA.fx
    scene = Scene(row(3), focals=[true, 9 * true, true, true])
    refocused = replace(CAMERA, fx=1.1 * guess, fy=1.1 * CAMERA.fy)
    scene.new = replace(scene.new, camera=refocused)
    scene.keyframes = {i: replace(k, camera=refocused) for i, k in scene.keyframes.items()}
    scene.predict(0, 1, focal_factor=1.1)
    assert scene.pairing.focal() == pytest.approx(np.log(1.3))
    assert scene.pairing.focal_prior(1.1) == pytest.approx(
        (np.log(1.3 / 1.1), LEARNED_FOCAL_SIGMA))


def test_the_newest_focal_lengths_count() -> None:
    old, new = [0.5 * CAMERA.fx] * (MAX_FOCALS + 10), [2.0 * CAMERA.fx] * MAX_FOCALS
    scene = Scene(row(2), focals=old + new)
    for _ in range(MAX_FOCALS // 2 + 5):
        scene.predict(0)
    assert scene.pairing.focal() == pytest.approx(np.log(0.5))
    for _ in range(MAX_FOCALS // 2):
        scene.predict(0)
    assert scene.pairing.focal() == pytest.approx(np.log(2.0))


def test_a_view_alone() -> None:
    scene = Scene(row(2), focals=[1.2 * CAMERA.fx])
    prediction = scene.pairing.predict_alone(scene.keyframes[0], 1.0)
    assert scene.oracle.asked == [(0,)] and len(prediction.pointmaps) == 1
    assert np.allclose(prediction.pointmaps[0], scene.keyframes[0].pointmap(), atol=1e-4)
    assert scene.pairing.focal() == pytest.approx(np.log(1.2))


def test_predicted_again_with_the_dynamic_objects_of_each_view() -> None:
    scene = Scene(row(3))
    scene.pairing.insert(2, scene.encoding)
    for i in range(2):
        mask = np.zeros((CAMERA.height, CAMERA.width), bool)
        mask[i] = True
        scene.keyframes[i] = replace(scene.keyframes[i], mask=mask)
    pairs = scene.pairing.predict_again(scene.new, [scene.keyframes[1], scene.keyframes[0]])
    assert [p.partner for p in pairs] == [1, 0]
    assert scene.oracle.asked == [(1, 2), (2, 1), (0, 2), (2, 0)]
    given = {0: scene.keyframes[0].mask, 1: scene.keyframes[1].mask, 2: scene.new.mask}
    for group, masks in zip(scene.oracle.asked, scene.oracle.moving, strict=True):
        assert all(mask is given[i] for i, mask in zip(group, masks, strict=True))
    T_old_new = se3.inverse(scene.keyframes[0].T_map_cam) @ scene.new.T_map_cam
    expected = se3.transform(T_old_new, scene.new.pointmap().reshape(-1, 3))
    assert np.allclose(pairs[1].forward.pointmaps[1].reshape(-1, 3), expected, atol=1e-4)
    assert scene.pairing.predict_again(scene.new, []) == []
