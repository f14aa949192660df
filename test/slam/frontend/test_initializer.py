# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Frames that wait for a first pair, of a camera whose way through a known room is known."""

from __future__ import annotations

from dataclasses import replace

import cv2
from keyframes_by_hand import (
    at_x,
    CAMERA,
    keyframe,
    points_in_map,
    project,
    TRACKING,
    tracking_image,
)
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.slam.dynamics.cells import mask_size
from recon3r_ros.slam.dynamics.motion import MotionEvidence
from recon3r_ros.slam.dynamics.seen_frame import SeenFrame
from recon3r_ros.slam.frontend import initializer, keyframes
from recon3r_ros.slam.frontend.initializer import (
    FirstPair,
    Initializer,
    MAX_MOVED_SHARE,
    PLAUSIBLE_SHARE,
    RETRY_GROWTH,
)
from recon3r_ros.slam.frontend.tracking import MIN_INLIERS, Reference, Track
from recon3r_ros.slam.types import Keyframe, TrackedFrame
from simulated import degrees_between

Array = NDArray[np.float64]

FIRST = keyframe(0, step=3)
COUNT = len(FIRST.keypoints)
POINTS = points_in_map(np.eye(4), CAMERA, FIRST.keypoints)
PIXELS = project(np.eye(4), TRACKING, POINTS)[0].astype(np.float32)
REFERENCE = Reference(np.zeros((TRACKING.height, TRACKING.width), np.uint8), PIXELS,
                      np.full((COUNT, 3), np.nan))
USABLE = np.ones(COUNT, bool)
NOTHING = SeenFrame(0, np.zeros((1, 1), np.uint8), np.zeros((1, 1, 3), np.uint8))


def new_evidence() -> MotionEvidence:
    """Evidence without any frame."""
    return MotionEvidence(TRACKING)


def seen_from(T_first_cam: Array) -> Track:
    """Say exactly where a camera sees the first keyframe's keypoints."""
    pixels, found = project(T_first_cam, TRACKING, POINTS)
    return Track(np.where(found[:, None], pixels, 0).astype(np.float32), found, None)


def partly(track: Track, share: float) -> Track:
    """Have only a share of the keypoints found, spread evenly."""
    found = np.random.default_rng(0).permutation(COUNT) < round(share * COUNT)
    return replace(track, found=track.found & found)


def frame(n: int) -> TrackedFrame:
    """Make frame n, which has no pose yet."""
    return TrackedFrame(f'{n:06}', n * 10 ** 8, n)


def seen(n: int, image: np.ndarray) -> SeenFrame:
    """Make the images of frame n."""
    colours = cv2.cvtColor(cv2.resize(image, mask_size(TRACKING), interpolation=cv2.INTER_AREA),
                           cv2.COLOR_GRAY2RGB)
    return SeenFrame(n, image, colours)


def waiting(way: list[Array], first: Track | None = None, live: bool = False) -> Initializer:
    """Start with the first keyframe, and go on a way."""
    out = Initializer(live)
    out.start(frame(0), NOTHING, REFERENCE, USABLE)
    for n, T in enumerate(way, 1):
        out.add(frame(n), NOTHING, seen_from(T))
    return out


def judged(way: list[Array]) -> FirstPair:
    """Go on a way, and judge its end."""
    return waiting(way).first_pair(REFERENCE, TRACKING)


#: A way with enough parallax at its end, and a slow one
STEPS = [at_x(0.1 * n, 0.01 * n, 0.02 * n, yaw=-0.01 * n) for n in range(1, 11)]
SLOW = [at_x(0.02 * n, 0.005 * n, 0.005 * n) for n in range(1, 9)]


def turn(n: int, pitch: float = 0.0) -> Array:
    """Turn on the spot."""
    return se3.from_rt(se3.so3_exp([pitch, 0.03 * n, 0.01 * n]), np.zeros(3))


def test_the_keyframes_own_frame_has_no_parallax() -> None:
    pair = judged([])
    assert pair.shift == pytest.approx(0, abs=1e-3)
    assert pair.overlap == 1.0 and not pair.worth_trying


def test_a_turn_is_no_parallax() -> None:
    pair = judged([turn(n, 0.02) for n in range(8)])
    assert pair.shift < 0.05 and pair.overlap > 0.7 and not pair.worth_trying


def test_a_pair_is_tried_as_soon_as_there_is_parallax() -> None:
    """It grows with the way, whatever the camera turns meanwhile."""
    pairs = [judged([T]) for T in STEPS]
    shifts = [p.shift for p in pairs]
    assert shifts == sorted(shifts)
    least = max(keyframes.FIRST_SHIFT, keyframes.FIRST_SHIFT_SHARE * TRACKING.width)
    assert [p.worth_trying for p in pairs] == [s > least for s in shifts]
    assert not pairs[0].worth_trying and pairs[-1].worth_trying
    turned = judged([STEPS[4] @ turn(2)])
    assert turned.shift == pytest.approx(shifts[4], abs=0.3)


def test_less_parallax_will_do_where_poses_are_awaited() -> None:
    way = [next(at_x(d) for d in np.linspace(0.1, 0.6, 60) if judged([at_x(d)]).shift > 2.1)]
    assert (keyframes.LIVE_SHIFT_SHARE < 2.1 / TRACKING.width < judged(way).shift / TRACKING.width
            < keyframes.FIRST_SHIFT_SHARE)
    assert waiting(way, live=True).first_pair(REFERENCE, TRACKING).worth_trying
    assert not waiting(way).first_pair(REFERENCE, TRACKING).worth_trying


def test_after_some_waiting_less_parallax_will_do() -> None:
    """More than the noise of tracking, but less than that share of the width."""
    distances = np.linspace(0.1, 0.6, 60)
    little = next(at_x(d) for d in distances if judged([at_x(d)]).shift > 2.1)
    assert (keyframes.FIRST_SHIFT < judged([little]).shift
            < keyframes.FIRST_SHIFT_SHARE * TRACKING.width)
    known = waiting([little] * (keyframes.PATIENT_FRAMES - 2))
    assert not known.first_pair(REFERENCE, TRACKING).worth_trying
    known.add(frame(90), NOTHING, seen_from(little))
    assert known.first_pair(REFERENCE, TRACKING).worth_trying


def test_a_scene_that_leaves_the_image_fast_needs_less_parallax() -> None:
    """As on a highway: each image shows less of the first, and parallax hardly grows."""
    distances = np.linspace(0.1, 1.5, 150)
    little = next(at_x(d) for d in distances if judged([at_x(d)]).shift > 2.5)
    for share, tried in ((1.0, False), (0.8, True)):
        known = waiting([])
        known.add(frame(1), NOTHING, partly(seen_from(little), share))
        pair = known.first_pair(REFERENCE, TRACKING)
        assert pair.shift > keyframes.FIRST_SHIFT
        assert pair.worth_trying == tried


@pytest.mark.parametrize('share, tried', [(0.7, False), (0.51, False), (0.5, True), (0.2, True)])
def test_a_pair_is_tried_before_the_scene_is_out_of_sight(share: float, tried: bool) -> None:
    """Whatever its parallax, which is none here."""
    known = waiting([])
    known.add(frame(1), NOTHING, partly(seen_from(np.eye(4)), share))
    pair = known.first_pair(REFERENCE, TRACKING)
    assert pair.overlap == pytest.approx(share, abs=0.5 / COUNT)
    assert pair.shift < 0.01 and pair.worth_trying == tried


def test_without_keypoints_there_is_nothing_to_wait_for() -> None:
    nothing = Reference(NOTHING, np.zeros((0, 2), np.float32), np.zeros((0, 3)))
    known = Initializer()
    known.start(frame(0), NOTHING, nothing, np.zeros(0, bool))
    assert known.first_pair(nothing, TRACKING) == FirstPair(0.0, 0.0, True)


def test_a_pair_without_depth_is_tried_again_when_its_parallax_has_grown() -> None:
    shifts = [judged([T]).shift for T in STEPS]
    at = next(n for n, T in enumerate(STEPS) if judged([T]).worth_trying)
    known = waiting(STEPS[:at + 1])
    known.reject(known.first_pair(REFERENCE, TRACKING).shift)
    known.reject(0.0)  # an order of before that came to nothing since
    tried = []
    for n in range(at + 1, len(STEPS)):
        known.add(frame(n + 1), NOTHING, seen_from(STEPS[n]))
        tried.append(known.first_pair(REFERENCE, TRACKING).worth_trying)
    assert tried == [s > RETRY_GROWTH * shifts[at] for s in shifts[at + 1:]]
    assert not tried[0] and tried[-1]


def test_another_first_keyframe_begins_anew() -> None:
    known = waiting(STEPS)
    known.reject(1e3)
    known.start(frame(20), NOTHING, REFERENCE, USABLE)
    assert known.newest == 20
    known.add(frame(21), NOTHING, seen_from(STEPS[-1]))
    assert known.newest == 21
    assert known.first_pair(REFERENCE, TRACKING).worth_trying
    placed = known.placed(FIRST, TRACKING)
    assert placed is not None and [p.frame.index for p in placed] == [20, 21]


@pytest.mark.parametrize('scale', [1.0, 0.4])
def test_with_the_pairs_depth_all_frames_have_their_places(scale: float) -> None:
    """In the map's unit of length."""
    placed = waiting(STEPS).placed(keyframe(7, scale=scale, step=3), TRACKING)
    assert placed is not None and [p.frame.index for p in placed] == list(range(len(STEPS) + 1))
    for p, T in zip(placed, [np.eye(4), *STEPS]):
        assert np.allclose(p.frame.T_keyframe_cam, se3.stretched(T, scale), atol=1e-4)
        assert np.allclose(p.pose.T_cam_world, se3.inverse(p.frame.T_keyframe_cam))
        assert p.frame.keyframe == 7 and p.frame.name == f'{p.frame.index:06}'
        pixels, found = project(T, TRACKING, POINTS)
        assert np.array_equal(p.found, found) and p.mask is None
        assert np.allclose(p.pixels[found], pixels[found], atol=1e-4)


def test_keypoints_without_depth_take_no_part() -> None:
    half = replace(FIRST, landmarks=np.where(np.arange(COUNT) % 2, FIRST.landmarks, 0))
    placed = waiting(STEPS).placed(half, TRACKING)
    assert placed is not None and len(placed) == len(STEPS) + 1
    assert np.allclose(placed[-1].frame.T_keyframe_cam, STEPS[-1], atol=1e-4)
    assert not placed[-1].found[::2].any() and placed[-1].found[1::2].mean() > 0.8


@pytest.mark.parametrize('count, placed', [(MIN_INLIERS - 1, False), (MIN_INLIERS, True)])
def test_a_frame_that_sees_too_little_is_left_out(count: int, placed: bool) -> None:
    known = waiting(STEPS)
    known.add(frame(50), NOTHING, partly(seen_from(at_x(0.1)), count / COUNT))
    known.add(frame(51), NOTHING, seen_from(STEPS[2]))
    found = known.placed(FIRST, TRACKING)
    assert found is not None
    assert (50 in [p.frame.index for p in found]) == placed
    assert found[-1].frame.index == 51
    assert np.allclose(found[-1].frame.T_keyframe_cam, STEPS[2], atol=1e-4)


def with_wrong_depths(share: float) -> Keyframe:
    """Give some landmarks the depth of others, which are a third nearer or farther at least."""
    rng = np.random.default_rng(4)
    wrong = rng.permutation(COUNT) < share * COUNT
    factors = np.where(rng.random(COUNT) < 0.5, 0.4, 2.5)
    return replace(FIRST, landmarks=np.where(wrong, factors, 1) * FIRST.landmarks)


@pytest.mark.parametrize('share, plausible', [
    (0.8 * (1 - PLAUSIBLE_SHARE), True), (1.4 * (1 - PLAUSIBLE_SHARE), False)])
def test_frames_contradict_a_pair_with_wrong_depths(share: float, plausible: bool) -> None:
    """But not when it is only a few, whose pixels are outliers: dynamic objects, say."""
    # Far enough from the first keyframe that wrong depths are seen somewhere else
    placed = waiting([STEPS[-1]] * 5).placed(with_wrong_depths(share), TRACKING)
    assert (placed is not None) == plausible
    if placed is not None:
        assert all(np.allclose(p.frame.T_keyframe_cam, STEPS[-1], atol=2e-3) for p in placed[1:])


def test_frames_that_agree_with_nothing_contradict_a_pair() -> None:
    """Of all frames that moved none finds enough landmarks where the pair says that they are."""
    factors = np.exp(np.random.default_rng(0).uniform(-2, 2, COUNT))
    few = np.arange(COUNT) % 3 == 0
    wrong = replace(FIRST, landmarks=np.where(few, factors * FIRST.landmarks, 0))
    assert waiting([at_x(1.0, z=0.3)] * 10).placed(wrong, TRACKING) is None


def test_frames_are_not_lost_by_a_pair_that_they_contradict() -> None:
    known = waiting(STEPS)
    assert known.placed(with_wrong_depths(1.0), TRACKING) is None
    placed = known.placed(FIRST, TRACKING)
    assert placed is not None and len(placed) == len(STEPS) + 1


def test_where_no_frame_sees_anything_none_contradicts() -> None:
    known = waiting([])
    known.clear()
    for n in range(3):
        known.add(frame(n), NOTHING, Track(PIXELS, np.zeros(COUNT, bool), None))
    assert known.placed(FIRST, TRACKING) == []
    known.clear()
    assert known.placed(FIRST, TRACKING) == []


def test_only_the_newest_frames_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initializer, 'MAX_PENDING', 4)
    placed = waiting(STEPS).placed(FIRST, TRACKING)
    assert placed is not None and [p.frame.index for p in placed] == [7, 8, 9, 10]


#: Side, top and first column of a square in front of the room, and its speed, pixels a frame
SIDE, TOP, LEFT, SPEED = 72, 60, 80, 4


def with_images(way: list[Array], square: bool = False) -> Initializer:
    """
    Go on a way with images.

    :param square: whether something moves to the right in front of the room
    """
    known = Initializer()
    known.start(frame(0), seen(0, tracking_image(np.eye(4))), REFERENCE, USABLE)
    cover = tracking_image(at_x(-1.0, yaw=-0.8))[:SIDE, :SIDE]
    for n, T in enumerate(way, 1):
        image = tracking_image(T).copy()
        if square:
            left = LEFT + SPEED * n
            image[TOP:TOP + SIDE, left:left + SIDE] = cover
        known.add(frame(n), seen(n, image), seen_from(T))
    return known


def test_dynamic_objects_are_found_in_the_frames_that_waited() -> None:
    """Evidence takes some frames; what is masked is part of the square."""
    known = with_images(SLOW, square=True)
    placed = known.placed(FIRST, TRACKING)
    assert placed is not None
    textured = replace(FIRST, gray=tracking_image(np.eye(4)))
    masked = known.with_masks(placed, textured, new_evidence(), new_evidence)
    assert [p.frame for p in masked] == [p.frame for p in placed]
    for p in masked[5:]:
        assert p.mask is not None
        rows, columns = np.nonzero(p.mask)
        y, x = (rows + 0.5) * 192 / len(p.mask), (columns + 0.5) * 256 / p.mask.shape[1]
        left = LEFT + SPEED * p.frame.index
        inside = (np.abs(y - TOP - SIDE / 2) < SIDE / 2) & (np.abs(x - left - SIDE / 2) < SIDE / 2)
        assert inside.sum() > 0.15 * SIDE ** 2 / 9 and inside.mean() > 0.8, p.frame.index


def test_in_a_static_room_nothing_moves_and_old_frames_are_not_searched(
        monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that wait for long there are no images any more."""
    monkeypatch.setattr(initializer, 'MAX_PENDING_IMAGES', 3)
    known = with_images(SLOW)
    placed = known.placed(FIRST, TRACKING)
    assert placed is not None and len(placed) == 9
    textured = replace(FIRST, gray=tracking_image(np.eye(4)))
    masked = known.with_masks(placed, textured, new_evidence(), new_evidence)
    assert [p.mask is None for p in masked] == [True] * 6 + [False] * 3
    assert all(p.mask is not None and not p.mask.any() for p in masked[6:])


def test_frames_of_a_camera_that_only_turned_are_posed() -> None:
    way = [turn(n, 0.01 * n) for n in range(-4, 5)]
    known = waiting(way)
    posed = known.turned(REFERENCE, TRACKING, 5)
    assert [f.index for f in posed] == list(range(10)) and all(f.keyframe == 5 for f in posed)
    for f, T in zip(posed, [np.eye(4), *way]):
        assert degrees_between(f.T_keyframe_cam[:3, :3], T[:3, :3]) < 0.01
        assert not f.T_keyframe_cam[:3, 3].any()
    assert known.turned(REFERENCE, TRACKING, 5) == [], 'each is posed once'


def test_frames_of_a_camera_that_moved_are_not() -> None:
    assert waiting(STEPS).turned(REFERENCE, TRACKING, 0) == []
    assert waiting([turn(1), *STEPS[3:]]).turned(REFERENCE, TRACKING, 0) == []


@pytest.mark.parametrize('moved, posed', [(2, 18), (3, 0)])
def test_some_frames_may_err(moved: int, posed: int) -> None:
    """A tenth of twenty seem to have moved, because of what passed before them; or more."""
    assert 2 <= MAX_MOVED_SHARE * 20 < 3
    way = [*[turn(n % 5) for n in range(19 - moved)], *[STEPS[-1]] * moved]
    found = waiting(way).turned(REFERENCE, TRACKING, 0)
    assert [f.index for f in found] == list(range(posed))


def test_frames_that_see_nothing_have_no_pose() -> None:
    known = waiting([turn(1)])
    known.add(frame(2), NOTHING, Track(PIXELS, np.zeros(COUNT, bool), None))
    assert [f.index for f in known.turned(REFERENCE, TRACKING, 0)] == [0, 1]


def test_where_nothing_waited_nothing_is_posed() -> None:
    assert Initializer().turned(REFERENCE, TRACKING, 0) == []


def zoomed(factor: float, turn: float = 0.0) -> Track:
    """See the keypoints with another focal length, from the same place."""
    T = se3.from_rt(se3.so3_exp([0, turn, 0]), np.zeros(3))
    rays = TRACKING.unproject(PIXELS) @ T[:3, :3].T
    pixels = TRACKING.K @ (rays / rays[:, 2:]).T
    middle = np.array([TRACKING.cx, TRACKING.cy])
    return Track(((pixels[:2].T - middle) * factor + middle).astype(np.float32), USABLE, None)


@pytest.mark.parametrize('factor', [0.8, 1.1, 1.5])
@pytest.mark.parametrize('turn', [0.0, 0.05])
def test_a_zoom_is_no_parallax_where_the_focal_length_is_unknown(factor: float, turn: float
                                                                 ) -> None:
    for calibrated in (False, True):
        known = Initializer(calibrated=calibrated)
        known.start(frame(0), NOTHING, REFERENCE, USABLE)
        known.add(frame(1), NOTHING, zoomed(factor, turn))
        pair = known.first_pair(REFERENCE, TRACKING)
        assert pair.zoomed == (not calibrated)
        assert pair.worth_trying == calibrated


def test_motion_is_no_zoom() -> None:
    known = Initializer(calibrated=False)
    known.start(frame(0), NOTHING, REFERENCE, USABLE)
    for n, T in enumerate(STEPS, 1):
        known.add(frame(n), NOTHING, seen_from(T))
        assert not known.first_pair(REFERENCE, TRACKING).zoomed


def test_rotations_are_chained_over_first_keyframes() -> None:
    """The overlap ends, and another keyframe becomes the first: its own rotation is known."""
    known = Initializer()
    turns = [0.02 * n for n in range(1, 6)]
    known.start(frame(0), NOTHING, REFERENCE, USABLE)
    for n, turn in enumerate(turns, 1):
        known.add(frame(n), NOTHING, zoomed(1.0, turn))
    known.conclude(REFERENCE, TRACKING)
    known.start(frame(5), NOTHING, REFERENCE, USABLE)
    for n, turn in enumerate(turns, 6):
        known.add(frame(n), NOTHING, zoomed(1.0, turn))
    posed = known.turned(REFERENCE, TRACKING, 3)
    assert [f.index for f in posed] == list(range(11)) and {f.keyframe for f in posed} == {3}
    for f in posed:
        expected = se3.so3_exp([0, -0.02 * f.index, 0])
        error = se3.rotation_angle(expected.T @ f.T_keyframe_cam[:3, :3])
        assert error < 2e-3
