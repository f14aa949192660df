# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The states of one camera, what it asks for, and the poses that it finds in a room that is known.

Keyframes are made by hand, with exact poses and depths, in place of local mapping.
"""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter

from keyframes_by_hand import (
    at_x,
    FINER,
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
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.pnp import PnPResult
from recon3r_ros.slam.dynamics.cells import resized_mask
from recon3r_ros.slam.dynamics.motion_config import MotionConfig
from recon3r_ros.slam.frontend.camera_frontend import CameraFrontend
from recon3r_ros.slam.frontend.initializer import RETRY_GROWTH
from recon3r_ros.slam.frontend.map_beginning import RESTART_OVERLAP
from recon3r_ros.slam.frontend.rectification import GUESSED_FOCAL
from recon3r_ros.slam.frontend.steps import (
    FrontendStep,
    KeyframeRequest,
    Placed,
    Purpose,
    untracked,
)
from recon3r_ros.slam.options import FrontendOptions
from recon3r_ros.slam.types import Frame, Keyframe, Map, TrackingState
from simulated import degrees_between

Array = NDArray[np.float64]

STILL = MotionConfig(detect=False)
NOTHING = Map()
GRID = TRACKING.resized(TRACKING.width // FINER, TRACKING.height // FINER)


def way(n: int) -> Array:
    """T_map_cam (4, 4) of frame n: to the right, turning to the left."""
    return at_x(0.2 + 0.02 * n, 0.1, -0.2 + 0.004 * n, yaw=0.1 - 0.005 * n)


def ahead(n: int) -> Array:
    """T_map_cam (4, 4) of frame n of another way: straight on, which soon gives parallax."""
    return at_x(0.01 * n, z=0.03 * n)


def elsewhere(n: int) -> Array:
    """T_map_cam (4, 4) of frame n after a jump: what is seen from `way` is out of sight."""
    return at_x(1.0 + 0.02 * n, yaw=0.9 + 0.005 * n)


def frame(n: int, T_map_cam: Array, camera: Camera | None = TRACKING) -> Frame:
    """Take frame n, a tenth of a second after the one before."""
    return Frame(tracking_image(T_map_cam), n * 10 ** 8, f'{n:06}', n, camera)


def blank(n: int) -> Frame:
    """Take a frame that sees nothing."""
    return replace(frame(n, np.eye(4)), image=np.full((192, 256), 90, np.uint8))


def made_of(n: int, T_map_cam: Array, i: int = 0, depth: bool = True, scale: float = 1.0,
            camera: Camera = GRID) -> Keyframe:
    """Make keyframe i of frame n."""
    out = replace(keyframe(i, T_map_cam, scale, camera, 5, textured=True),
                  stamp_ns=n * 10 ** 8, index=n, name=f'{n:06}')
    if depth:
        return out
    unknown = np.zeros(len(out.keypoints))
    return replace(out, landmarks=unknown, information=unknown,
                   inverse_depth=np.zeros_like(out.inverse_depth),
                   confidence=np.zeros_like(out.confidence))


FIRST = made_of(0, way(0))
KNOWN = Map({0: FIRST})


def tracking(motion: MotionConfig = STILL) -> CameraFrontend:
    """Begin in a map that has depth from one view on."""
    frontend = CameraFrontend(frame(0, way(0)), motion)
    frontend.start(FIRST, frame(0, way(0)), KNOWN)
    return frontend


def step(frontend: CameraFrontend, taken: Frame, known: Map = KNOWN, busy: bool = False,
         others_tracked: bool = False) -> FrontendStep:
    """Add a frame."""
    return frontend.add(taken, known, busy, others_tracked)


def asked(result: FrontendStep, purpose: Purpose | None) -> KeyframeRequest | None:
    """Check what a frame asked for."""
    assert (None if result.request is None else result.request.purpose) == purpose
    return result.request


def check(result: FrontendStep, truth: Array, i: int = 0, distance: float = 0.015) -> None:
    """
    Compare the pose of a frame with the truth.

    :param truth: T_keyframe_cam (4, 4)
    :param i: id of the keyframe
    """
    assert result.placed is not None, 'no pose'
    placed = result.placed.frame
    assert placed.keyframe == i
    assert np.linalg.norm((placed.T_keyframe_cam - truth)[:3, 3]) < distance
    assert degrees_between(placed.T_keyframe_cam[:3, :3], truth[:3, :3]) < 0.3


def until_asked(frontend: CameraFrontend) -> tuple[int, KeyframeRequest]:
    """Go on until a keyframe is asked for; return the frame and the request."""
    for n in range(1, 20):
        result = step(frontend, frame(n, way(n)))
        check(result, relative(n))
        if result.request is not None:
            return n, result.request
    raise AssertionError('no keyframe was asked for')


def relative(n: int, to: int = 0) -> Array:
    """Return the true T_keyframe_cam of a frame, where the keyframe is another frame."""
    return se3.inverse(way(to)) @ way(n)


# INITIALISING

def test_the_first_frame_asks_for_the_first_keyframe() -> None:
    first = frame(0, ahead(0))
    frontend = CameraFrontend(first, STILL)
    assert frontend.state is TrackingState.INITIALISING and frontend.reference is None
    assert frontend.name == 'camera'
    request = asked(step(frontend, first, NOTHING), Purpose.START)
    assert request is not None and request.frame is first
    assert np.array_equal(request.view.image, first.image) and request.view.calibrated
    assert request.view.camera == TRACKING and request.gray.shape == (192, 256)
    assert request.view.moving is None and request.view.depth is None
    assert frontend.state is TrackingState.INITIALISING


def initialising() -> tuple[CameraFrontend, Map]:
    """Begin with a keyframe without depth, in a map of it alone."""
    first = made_of(0, ahead(0), depth=False)
    frontend, known = CameraFrontend(frame(0, ahead(0)), STILL), Map({0: first})
    frontend.start(first, frame(0, ahead(0)), known)
    assert frontend.state is TrackingState.INITIALISING and frontend.reference == 0
    return frontend, known


def test_a_first_pair_is_asked_for_once_there_is_parallax() -> None:
    frontend, known = initialising()
    requests = [step(frontend, frame(n, ahead(n)), known).request for n in range(1, 14)]
    assert requests[0] is None and requests[-1] is not None
    last = requests[-1]
    assert last.purpose is Purpose.FIRST_PAIR and last.frame.index == 13
    assert last.shift > 2 and last.T_reference_cam is None
    points = points_in_map(ahead(0), GRID, known.keyframes[0].keypoints)
    inside = project(ahead(13), TRACKING, points)[1].mean()
    assert inside < 0.97 and last.overlap == pytest.approx(inside, abs=0.08)
    # Parallax has grown with every frame
    shifts = [r.shift for r in requests if r is not None]
    assert len(shifts) > 2 and shifts == sorted(shifts)


def test_no_pair_is_asked_for_while_one_is_being_made() -> None:
    frontend, known = initialising()
    for n in range(1, 14):
        asked(step(frontend, frame(n, ahead(n)), known, busy=True), None)
    asked(step(frontend, frame(14, ahead(14)), known), Purpose.FIRST_PAIR)


def test_another_camera_begins_the_map() -> None:
    """Then this one has nothing to do until there is depth; it is lost in the map afterwards."""
    frontend = CameraFrontend(frame(0, ahead(0)), STILL)
    known = Map({0: replace(made_of(0, ahead(0), depth=False), camera_name='another')})
    for n in (0, 14):
        result = step(frontend, frame(n, ahead(n)), known)
        assert result.placed is None and result.request is None
    assert frontend.state is TrackingState.INITIALISING
    asked(step(frontend, frame(15, ahead(0))), Purpose.RELOCALISATION)
    assert frontend.state is TrackingState.LOST


def test_the_pairs_depth_gives_poses_to_the_frames_that_waited() -> None:
    """Frames that came while the pair was predicted as well; tracking goes on from the newest."""
    frontend, known = initialising()
    for n in range(1, 14):
        request = step(frontend, frame(n, ahead(n)), known, busy=n != 10).request
        assert (request is not None) == (n == 10)
    first, second = made_of(0, ahead(0)), made_of(10, ahead(10), 1)
    placed = frontend.place_waiting(first)
    assert placed is not None and [p.frame.index for p in placed] == list(range(14))
    for p in placed:
        truth = ahead(p.frame.index)
        assert p.frame.keyframe == 0 and p.mask is None
        assert np.linalg.norm((p.frame.T_keyframe_cam - truth)[:3, 3]) < 0.02
        assert degrees_between(p.frame.T_keyframe_cam[:3, :3], truth[:3, :3]) < 0.3
    frontend.begin(first, second, placed)
    assert frontend.state is TrackingState.TRACKING and frontend.reference == 1
    both = Map({0: first, 1: second})
    for n in (14, 15):
        result = step(frontend, frame(n, ahead(n)), both)
        check(result, se3.inverse(ahead(10)) @ ahead(n), 1)
        asked(result, None)
    assert frontend.place_waiting(first) == [], 'nothing waits any more'


def turning(n: int) -> Array:
    """T_map_cam (4, 4) of frame n of a third way: 3 degrees to the right each, almost there."""
    return at_x(0.2 + 0.005 * n, 0.1, -0.2, yaw=0.1 + 0.05 * n)


@pytest.mark.parametrize('newest_placed', [True, False])
def test_tracking_begins_where_the_newest_frame_was(newest_placed: bool) -> None:
    """As seen from the second keyframe, both far from the first; or else at the second one."""
    first, second = made_of(0, turning(0)), made_of(8, turning(8), 1)
    known = Map({0: made_of(0, turning(0), depth=False)})
    frontend = CameraFrontend(frame(0, turning(0)), STILL)
    frontend.start(known.keyframes[0], frame(0, turning(0)), known)
    for n in range(1, 14):
        step(frontend, frame(n, turning(n)), known, busy=True)
    placed = []
    for n in range(14 if newest_placed else 13):
        T = se3.inverse(turning(0)) @ turning(n)
        record = replace(untracked(frame(n, turning(n))), keyframe=0, T_keyframe_cam=T)
        placed.append(Placed(record, np.zeros((0, 2), np.float32), np.zeros(0, bool), PnPResult(
            se3.inverse(T), np.zeros(0, bool), np.eye(6), 0.0)))
    frontend.begin(first, second, placed)
    n = 14 if newest_placed else 9
    result = step(frontend, frame(n, turning(n)), Map({0: first, 1: second}))
    check(result, se3.inverse(turning(8)) @ turning(n), 1)


def test_frames_no_longer_wait_once_one_view_has_depth() -> None:
    frontend, known = initialising()
    step(frontend, frame(1, ahead(0)), known)
    assert len(frontend.turned()) == 2
    frontend, known = initialising()
    step(frontend, frame(1, ahead(0)), known)
    frontend.start(FIRST, frame(2, way(0)), KNOWN)
    assert frontend.turned() == [] and frontend.state is TrackingState.TRACKING


def test_motion_is_looked_for_in_the_newest_frames_that_waited() -> None:
    first = made_of(0, ahead(0), depth=False)
    frontend = CameraFrontend(frame(0, ahead(0)), MotionConfig())
    frontend.start(first, frame(0, ahead(0)), Map({0: first}))
    for n in range(1, 6):
        step(frontend, frame(n, ahead(n)), Map({0: first}))
    placed = frontend.place_waiting(made_of(0, ahead(0)))
    assert placed is not None and len(placed) == 6 and all(p.mask is None for p in placed)
    masked = frontend.mask_waiting(placed[4:], made_of(0, ahead(0)))
    assert [p.frame.index for p in masked] == [4, 5]
    assert all(p.mask is not None and not p.mask.any() for p in masked)


def test_frames_that_contradict_a_pair_wait_for_another_one() -> None:
    """With more parallax; the pair is taken back, and the map is as before."""
    frontend, known = initialising()
    for n in range(1, 13):
        result = step(frontend, frame(n, ahead(n)), known)
    request = asked(result, Purpose.FIRST_PAIR)
    assert request is not None
    right = made_of(0, ahead(0))
    factors = np.choose(np.arange(len(right.landmarks)) % 3, [0.4, 1.0, 2.5])
    wrong = replace(right, landmarks=factors * right.landmarks)
    assert frontend.place_waiting(wrong) is None
    assert frontend.reject(request, KNOWN) is None
    assert frontend.state is TrackingState.INITIALISING and frontend.reference == 0
    for n in range(13, 22):
        result = step(frontend, frame(n, ahead(n)), known)
        if result.request is not None:
            break
    assert n > 13
    second = asked(result, Purpose.FIRST_PAIR)
    assert second is not None and second.shift > RETRY_GROWTH * request.shift
    placed = frontend.place_waiting(right)
    assert placed is not None and len(placed) == n + 1


def test_after_a_contradiction_keypoints_are_looked_for_where_they_began() -> None:
    """They had been followed to one side; now the camera looks to the other."""
    frontend, known = initialising()
    for n in range(1, 10):
        step(frontend, frame(n, at_x(0, z=0.03 * n, yaw=0.013 * n)), known)
    right = made_of(0, ahead(0))
    factors = np.choose(np.arange(len(right.landmarks)) % 3, [0.4, 1.0, 2.5])
    wrong = replace(right, landmarks=factors * right.landmarks)
    assert frontend.place_waiting(wrong) is None
    # Few keypoints found would be reason enough to try a pair
    asked(step(frontend, frame(10, at_x(0, yaw=-0.05)), known), None)


@pytest.mark.parametrize('overlap, afresh', [
    (0.9, False), (RESTART_OVERLAP, False), (RESTART_OVERLAP - 0.01, True)])
def test_initialisation_starts_afresh_when_the_first_keyframe_is_out_of_sight(
        overlap: float, afresh: bool) -> None:
    frontend, known = initialising()
    for n in range(1, 11):
        result = step(frontend, frame(n, ahead(n)), known)
    request = asked(result, Purpose.FIRST_PAIR)
    assert request is not None
    again = frontend.reject(replace(request, overlap=overlap), KNOWN)
    assert (again is not None) == afresh
    if again is None:
        return
    assert again.purpose is Purpose.START and again.frame is request.frame
    assert np.array_equal(again.gray, request.gray)
    # The map begins with it, and so does the parallax of the frames that follow
    first = made_of(10, ahead(10), 0, depth=False)
    frontend.start(first, again.frame, Map({0: first}))
    for n in range(11, 24):
        result = step(frontend, frame(n, ahead(n)), Map({0: first}))
        if n < 13:
            asked(result, None)
    asked(result, Purpose.FIRST_PAIR)
    placed = frontend.place_waiting(made_of(10, ahead(10), 0))
    assert placed is not None and [p.frame.index for p in placed] == list(range(10, 24))


def test_a_camera_that_only_turns_is_posed_in_the_end() -> None:
    frontend, known = initialising()
    turns = [at_x(0, yaw=0.015 * n) for n in range(9)]
    for n in range(1, 9):
        asked(step(frontend, frame(n, turns[n]), known), None)
    posed = frontend.turned()
    assert [f.index for f in posed] == list(range(9))
    for f, T in zip(posed, turns):
        assert f.keyframe == 0 and not f.T_keyframe_cam[:3, 3].any()
        assert degrees_between(f.T_keyframe_cam[:3, :3], T[:3, :3]) < 0.1


def test_without_a_keyframe_nothing_is_posed_in_the_end() -> None:
    assert CameraFrontend(frame(0, ahead(0)), STILL).turned() == []


# TRACKING

def test_one_view_with_depth_is_enough_to_track() -> None:
    frontend = tracking()
    assert frontend.state is TrackingState.TRACKING and frontend.reference == 0
    for n in range(1, 6):
        result = step(frontend, frame(n, way(n)))
        check(result, relative(n))
        asked(result, None)
        assert result.placed is not None and result.times.track > 0
        assert (result.placed.frame.index, result.placed.frame.name) == (n, f'{n:06}')
    assert frontend.turned() == []


def test_a_tracked_frame_tells_where_it_sees_the_keyframes_landmarks() -> None:
    """Also where the newest frame was the reference, which sees other points as well."""
    frontend, found = tracking(), []
    points = points_in_map(way(0), GRID, FIRST.keypoints)
    for n in range(1, 6):
        result = step(frontend, frame(n, way(n)), busy=n > 3)
        assert result.placed is not None
        expected, _ = project(way(n), TRACKING, points)
        assert result.placed.found.shape == (len(points),)
        errors = np.linalg.norm(result.placed.pixels - expected, axis=1)[result.placed.found]
        assert np.median(errors) < 0.4 and np.quantile(errors, 0.9) < 1.5
        found.append(result.placed.found.mean())
        if n == 3:
            frontend._tracker.follow_newest(FIRST)
    assert min(found) > 0.7


def test_where_only_the_frame_before_was_like_it_a_keyframe_is_overdue() -> None:
    """Landmarks are on the right, which is hidden now; the camera has hardly moved."""
    right = FIRST.keypoints[:, 0] >= 40
    first = replace(FIRST, landmarks=np.where(right, FIRST.landmarks, 0))
    frontend, known = CameraFrontend(frame(0, way(0)), STILL), Map({0: first})
    frontend.start(first, frame(0, way(0)), known)
    asked(step(frontend, frame(1, way(1)), known), None)
    image = frame(2, way(2)).image.copy()
    image[:, 150:] = 90
    result = step(frontend, replace(frame(2, way(2)), image=image), known)
    check(result, relative(2))
    asked(result, Purpose.MAPPING)


def test_dynamic_objects_are_found() -> None:
    """A square moves to the right in front of the room."""
    frontend = tracking(MotionConfig())
    cover = tracking_image(at_x(-1.0, yaw=-0.8))[:72, :72]
    for n in range(1, 11):
        image, left = frame(n, way(n)).image.copy(), 80 + 4 * n
        image[60:132, left:left + 72] = cover
        placed = step(frontend, replace(frame(n, way(n)), image=image), busy=True).placed
    assert placed is not None and placed.mask is not None
    rows, columns = np.nonzero(placed.mask)
    y, x = (rows + 0.5) * 192 / len(placed.mask), (columns + 0.5) * 256 / placed.mask.shape[1]
    inside = (np.abs(y - 96) < 36) & (np.abs(x - left - 36) < 36)
    assert inside.sum() > 0.15 * 72 ** 2 / 9 and inside.mean() > 0.8


def test_a_keyframe_is_asked_for_when_it_is_due() -> None:
    """With its pose relative to the keyframe that is tracked against, and how well it is known."""
    frontend = tracking()
    n, request = until_asked(frontend)
    # By parallax, of the points as they are
    points = points_in_map(way(0), FIRST.camera, FIRST.keypoints)
    directions = [(points - T[:3, 3]) / np.linalg.norm(points - T[:3, 3], axis=1)[:, None]
                  for T in (way(0), way(n - 1), way(n))]
    angles = [np.median(np.arccos(np.sum(directions[0] * d, axis=1))) for d in directions[1:]]
    due = np.deg2rad(FrontendOptions.keyframe_parallax)
    assert angles[0] < 1.1 * due and angles[1] > 0.9 * due
    assert request.purpose is Purpose.MAPPING and request.frame.index == n
    assert request.T_reference_cam is not None
    assert np.linalg.norm((request.T_reference_cam - relative(n))[:3, 3]) < 0.015
    sigmas = np.sqrt(np.diag(request.covariance))
    assert 0 < sigmas[:3].max() < np.deg2rad(0.5) and 0 < sigmas[3:].max() < 0.03
    assert request.view.moving is not None and not request.view.moving.any()
    assert frontend.reference == 0


def test_a_new_keyframe_is_tracked_against() -> None:
    """While it was pending, frames were tracked against the old one."""
    frontend = tracking()
    n, request = until_asked(frontend)
    for m in range(n + 1, n + 5):
        result = step(frontend, frame(m, way(m)), busy=True)
        check(result, relative(m))
        asked(result, None)
    second = made_of(n, way(n), 1)
    after = Map({0: FIRST, 1: second})
    assert frontend.take_over(request, second, KNOWN) == []
    assert frontend.reference == 1 and frontend.state is TrackingState.TRACKING
    for m in range(n + 5, n + 8):
        check(step(frontend, frame(m, way(m)), after), relative(m, n), 1)


def test_a_camera_that_turns_goes_on_at_its_new_keyframe() -> None:
    """Where it turned to: far from where it is seen from the old one."""
    first = made_of(0, turning(0))
    frontend = CameraFrontend(frame(0, turning(0)), STILL)
    known = Map({0: first})
    frontend.start(first, frame(0, turning(0)), known)
    for n in range(1, 14):
        result = step(frontend, frame(n, turning(n)), known)
        check(result, se3.inverse(turning(0)) @ turning(n), distance=0.03)
        if result.request is not None:
            break
    request = asked(result, Purpose.MAPPING)
    assert request is not None and n > 4
    second = made_of(n, turning(n), 1)
    assert frontend.take_over(request, second, known) == []
    after = Map({0: first, 1: second})
    result = step(frontend, frame(n + 1, turning(n + 1)), after)
    check(result, se3.inverse(turning(n)) @ turning(n + 1), 1)


def test_no_keyframe_is_asked_for_while_one_is_being_made() -> None:
    """Nor is the camera lost, however long that takes: poses stay relative to the old one."""
    frontend = tracking()
    for n in range(1, 21):
        result = step(frontend, frame(n, way(n)), busy=True)
        check(result, relative(n), distance=0.03)
        asked(result, None)
    assert frontend.reference == 0 and frontend.state is TrackingState.TRACKING


def test_a_keyframe_that_comes_to_nothing_does_no_harm() -> None:
    """The newest frame becomes the reference, so that another one is not due at once."""
    frontend = tracking()
    n, request = until_asked(frontend)
    asked(step(frontend, frame(n + 1, way(n + 1))), Purpose.MAPPING)
    assert frontend.reject(request, KNOWN) is None
    result = step(frontend, frame(n + 2, way(n + 2)))
    check(result, relative(n + 2))
    asked(result, None)


def test_masks_of_the_user_are_kept_out() -> None:
    """Of every frame's mask, and of the views that keyframes are made of."""
    mask = np.zeros((192, 256), bool)
    mask[:, :128] = True
    first = replace(frame(0, way(0)), mask=mask)
    request = CameraFrontend(first, STILL).add(first, NOTHING, False, False).request
    assert request is not None and request.view.excluded is request.view.moving
    assert np.mean(resized_mask(request.view.excluded, mask.shape) != mask) < 0.01
    frontend = tracking()
    for n in range(1, 20):
        result = step(frontend, replace(frame(n, way(n)), mask=mask))
        assert result.placed is not None and result.placed.mask is not None
        height, width = result.placed.mask.shape
        expected = np.broadcast_to((np.arange(width) + 0.5) * 256 / width < 128, (height, width))
        assert np.mean(result.placed.mask != expected) < 0.02
        if result.request is not None:
            break
    assert result.request is not None and result.request.purpose is Purpose.MAPPING
    assert np.array_equal(result.request.view.moving, result.placed.mask)


def test_nothing_moves_in_a_static_room() -> None:
    frontend = tracking(MotionConfig())
    for n in range(1, 6):
        placed = step(frontend, frame(n, way(n))).placed
        assert placed is not None and placed.mask is not None and not placed.mask.any()


def test_measured_depth_goes_with_the_view() -> None:
    depth = np.arange(48 * 64, dtype=np.float32).reshape(48, 64)
    first = replace(frame(0, way(0)), depth=depth)
    request = CameraFrontend(first, STILL).add(first, NOTHING, False, False).request
    assert request is not None and request.view.depth is not None
    assert request.view.depth.shape == (192, 256)
    assert np.array_equal(request.view.depth[2::4, 2::4], depth)


# LOST

def test_a_camera_that_sees_nothing_is_lost_and_asks_to_be_relocalised() -> None:
    frontend = tracking()
    check(step(frontend, frame(1, way(1))), relative(1))
    result = step(frontend, blank(2))
    request = asked(result, Purpose.RELOCALISATION)
    assert request is not None and request.frame.index == 2 and request.T_reference_cam is None
    assert result.placed is None and frontend.state is TrackingState.LOST
    asked(step(frontend, blank(3), busy=True), None)
    assert frontend.state is TrackingState.LOST and frontend.reference == 0


def test_while_others_are_tracked_a_lost_camera_waits_after_an_attempt_in_vain() -> None:
    """They need keyframes more urgently. Where there are none, there is nothing to wait for."""
    frontend = tracking()
    request = asked(step(frontend, blank(1), others_tracked=True), Purpose.RELOCALISATION)
    assert request is not None
    assert frontend.reject(replace(request, begin=perf_counter() - 60), KNOWN) is None
    asked(step(frontend, blank(2), others_tracked=True), None)
    asked(step(frontend, blank(3)), Purpose.RELOCALISATION)
    assert frontend.reject(replace(request, begin=perf_counter()), KNOWN) is None
    asked(step(frontend, blank(4), others_tracked=True), Purpose.RELOCALISATION)


def test_rejected_keyframes_of_other_kinds_make_it_wait_for_nothing() -> None:
    frontend = tracking()
    _, request = until_asked(frontend)
    frontend.reject(replace(request, begin=perf_counter() - 60), KNOWN)
    asked(step(frontend, blank(30), others_tracked=True), Purpose.RELOCALISATION)


def test_tracking_goes_on_by_itself() -> None:
    """Where the keyframe is seen again; what was lost meanwhile stays without a pose."""
    frontend = tracking()
    for n in range(1, 4):
        step(frontend, frame(n, way(n)))
    request = asked(step(frontend, blank(4)), Purpose.RELOCALISATION)
    assert request is not None
    result = step(frontend, frame(5, way(5)), busy=True)
    check(result, relative(5))
    assert frontend.state is TrackingState.TRACKING
    # The keyframe that had been asked for comes all the same
    second = made_of(4, way(4), 1)
    assert frontend.take_over(request, second, KNOWN) == []
    check(step(frontend, frame(6, way(6)), Map({0: FIRST, 1: second})), relative(6, 4), 1)


def test_tracking_goes_on_by_itself_far_from_the_keyframe_that_was_asked_for() -> None:
    """The new keyframe shows the same as the one tracked against, 23 degrees to its right."""
    first, second = made_of(0, turning(0)), made_of(4, turning(8), 1)
    known, both = Map({0: first}), Map({0: first, 1: second})
    frontend = CameraFrontend(frame(0, turning(0)), STILL)
    frontend.start(first, frame(0, turning(0)), known)
    step(frontend, frame(1, turning(0)), known)
    request = asked(step(frontend, blank(4), known), Purpose.RELOCALISATION)
    assert request is not None
    step(frontend, frame(5, turning(0)), known, busy=True)
    assert frontend.take_over(request, second, known) == []
    result = step(frontend, frame(6, turning(0)), both)
    check(result, se3.inverse(turning(8)) @ turning(0), 1, distance=0.04)


def test_frames_that_were_lost_before_tracking_went_on_are_given_up() -> None:
    """They may have been anywhere."""
    frontend = tracking()
    step(frontend, frame(1, way(1)))
    for n in (2, 3):
        step(frontend, frame(n, elsewhere(n)))
    check(step(frontend, frame(4, way(2))), relative(2))
    request = asked(step(frontend, frame(5, elsewhere(4))), Purpose.RELOCALISATION)
    assert request is not None
    assert frontend.take_over(request, made_of(5, elsewhere(4), 1), KNOWN) == []


def test_a_relocalised_camera_places_the_frames_that_were_lost() -> None:
    frontend = tracking()
    for n in range(1, 4):
        step(frontend, frame(n, way(n)))
    request = None
    for n in range(4, 12):
        result = step(frontend, frame(n, elsewhere(n)), busy=n > 7)
        assert result.placed is None and frontend.state is TrackingState.LOST
        request = result.request or request
    assert request is not None and request.frame.index == 7
    here = made_of(7, elsewhere(7), 1)
    placed = frontend.take_over(request, here, KNOWN)
    assert frontend.state is TrackingState.TRACKING and frontend.reference == 1
    assert [p.frame.index for p in placed] == [6, 5, 4, 8, 9, 10, 11]
    for p in placed:
        truth = se3.inverse(elsewhere(7)) @ elsewhere(p.frame.index)
        assert p.frame.keyframe == 1
        assert np.linalg.norm((p.frame.T_keyframe_cam - truth)[:3, 3]) < 0.015
    result = step(frontend, frame(12, elsewhere(12)), Map({0: FIRST, 1: here}))
    check(result, se3.inverse(elsewhere(7)) @ elsewhere(12), 1)


def test_a_camera_without_a_keyframe_is_found_in_the_map_of_another_one() -> None:
    frontend = CameraFrontend(frame(0, elsewhere(0)), STILL)
    request = asked(step(frontend, frame(0, elsewhere(0))), Purpose.RELOCALISATION)
    assert request is not None and frontend.reference is None
    here = made_of(0, elsewhere(0), 1)
    assert frontend.take_over(request, here, KNOWN) == []
    assert frontend.state is TrackingState.TRACKING
    result = step(frontend, frame(1, elsewhere(1)), Map({0: FIRST, 1: here}))
    check(result, se3.inverse(elsewhere(0)) @ elsewhere(1), 1)


# Cuts

def cut_after(n: int, frontend: CameraFrontend, known: Map, busy: bool = False
              ) -> tuple[FrontendStep, FrontendStep]:
    """Go on to frame n, and then elsewhere: return the first two steps there."""
    for m in range(1, n + 1):
        step(frontend, frame(m, way(m)), known, busy=True)
    first, second = (step(frontend, frame(m, elsewhere(m)), known, busy) for m in (n + 1, n + 2))
    return first, second


def test_nothing_is_tracked_across_a_cut(caplog: pytest.LogCaptureFixture) -> None:
    """The first frame after it has no pose, the second decides, and nothing moves in either."""
    frontend = tracking(MotionConfig())
    first, second = cut_after(8, frontend, KNOWN)
    for result in (first, second):
        assert result.placed is None
        assert result.unposed is not None and result.unposed.mask is None
    asked(first, None)
    request = asked(second, Purpose.RELOCALISATION)
    assert frontend.state is TrackingState.LOST and frontend.reference is None
    assert frontend.cut_at == [9]
    # Even of the frame where tracking ended
    assert step(frontend, frame(11, elsewhere(11)), busy=True).placed is None
    assert [r.getMessage() for r in caplog.records if 'cut' in r.getMessage()] == [
        'cut in the video at frame 000009: nothing is tracked across it']
    assert request is not None
    here = made_of(10, elsewhere(10), 1)
    placed = frontend.take_over(request, here, KNOWN)
    assert [p.frame.index for p in placed] == [9, 11]
    result = step(frontend, frame(12, elsewhere(12)), Map({0: FIRST, 1: here}))
    check(result, se3.inverse(elsewhere(10)) @ elsewhere(12), 1)


def test_a_keyframe_from_before_a_cut_is_not_tracked_against() -> None:
    frontend = tracking()
    n, request = until_asked(frontend)
    for m in (n + 1, n + 2):
        step(frontend, frame(m, elsewhere(m)), busy=True)
    assert frontend.cut_at == [n + 1]
    assert frontend.take_over(request, made_of(n, way(n), 1), KNOWN) == []
    assert frontend.state is TrackingState.LOST and frontend.reference is None


def test_a_single_bad_frame_is_left_alone() -> None:
    frontend = tracking()
    for n in range(1, 9):
        step(frontend, frame(n, way(n)), busy=True)
    result = step(frontend, frame(9, elsewhere(9)))
    assert result.placed is None and result.request is None
    check(step(frontend, frame(10, way(10)), busy=True), relative(10))
    assert frontend.cut_at == []


def test_initialisation_begins_anew_after_a_cut() -> None:
    first = made_of(0, way(0), depth=False)
    frontend, known = CameraFrontend(frame(0, way(0)), STILL), Map({0: first})
    frontend.start(first, frame(0, way(0)), known)
    request = asked(cut_after(8, frontend, known)[1], Purpose.START)
    assert request is not None and request.frame.index == 10
    again = made_of(10, elsewhere(10), depth=False)
    frontend.start(again, request.frame, Map({0: again}))
    for n in range(11, 14):
        step(frontend, frame(n, elsewhere(n)), Map({0: again}), busy=True)
    placed = frontend.place_waiting(made_of(10, elsewhere(10)))
    assert placed is not None and [p.frame.index for p in placed] == [10, 11, 12, 13]


@pytest.mark.parametrize('accepted', [True, False])
def test_a_first_pair_from_before_a_cut_poses_its_frames_alone(accepted: bool) -> None:
    first = made_of(0, way(0), depth=False)
    frontend, known = CameraFrontend(frame(0, way(0)), STILL), Map({0: first})
    frontend.start(first, frame(0, way(0)), known)
    asked(cut_after(8, frontend, known, busy=True)[1], None)
    right = made_of(0, way(0))
    if accepted:
        second = made_of(8, way(8), 1)
        placed = frontend.place_waiting(right)
        assert placed is not None and [p.frame.index for p in placed] == list(range(9))
        frontend.begin(right, second, placed)
        asked(step(frontend, frame(11, elsewhere(11)), Map({0: right, 1: second})),
              Purpose.RELOCALISATION)
        assert frontend.state is TrackingState.LOST
        return
    request = KeyframeRequest(Purpose.FIRST_PAIR, frame(8, way(8)), frontend.rectifier.view(
        frame(8, way(8))), frame(8, way(8)).image, 0.0, overlap=0.0)
    assert frontend.reject(request, known) is None
    asked(step(frontend, frame(11, elsewhere(11)), known), Purpose.START)


# The map changes

def test_a_loop_of_another_camera_makes_the_reference_larger() -> None:
    frontend = tracking()
    for n in range(1, 4):
        step(frontend, frame(n, way(n)))
    larger = Map({0: made_of(0, way(0), scale=1.4)}, {0: 1.4})
    frontend.rescale(KNOWN, larger)
    for n in range(4, 7):
        check(step(frontend, frame(n, way(n)), larger), se3.stretched(relative(n), 1.4))
    largest = Map({0: made_of(0, way(0), scale=2.8)}, {0: 2.8})
    frontend.rescale(larger, largest)
    result = step(frontend, frame(7, way(7)), largest)
    check(result, se3.stretched(relative(7), 2.8), distance=0.03)


def test_a_loop_elsewhere_changes_nothing() -> None:
    frontend = tracking()
    step(frontend, frame(1, way(1)))
    frontend.rescale(KNOWN, Map({0: FIRST}, {5: 2.0}))
    frontend.rescale(KNOWN, Map({}, {0: 2.0}))
    check(step(frontend, frame(2, way(2))), relative(2))
    CameraFrontend(frame(0, way(0)), STILL).rescale(KNOWN, KNOWN)  # without a keyframe yet


# The focal length of cameras without intrinsics

#: True over guessed focal length
FACTOR = 1.2
LENS = Camera.guess(256, 192, GUESSED_FOCAL * FACTOR)


def unknown_lens(n: int) -> Frame:
    """Take frame n with a lens of which nothing is known."""
    return replace(frame(n, way(n), None), image=tracking_image(way(n), LENS))


@pytest.mark.parametrize('factor', [FACTOR, 1.0])
def test_an_uncalibrated_camera_goes_by_the_maps_focal_length(factor: float) -> None:
    """Poses are right where that is, and not where it is not."""
    first = made_of(0, way(0), camera=LENS.resized(64, 48))
    known = Map({0: first}, focal_factor=factor)
    frontend = CameraFrontend(unknown_lens(0), STILL)
    assert frontend.rectifier.camera == Camera.guess(256, 192, GUESSED_FOCAL)
    frontend.start(first, unknown_lens(0), known)
    assert frontend.rectifier.camera.fx == pytest.approx(factor / FACTOR * LENS.fx)
    result = [step(frontend, unknown_lens(n), known) for n in (1, 2, 3, 4)][-1]
    if factor == FACTOR:
        check(result, relative(4))
    elif result.placed is not None:
        with pytest.raises(AssertionError):
            check(result, relative(4))
    request = step(frontend, replace(unknown_lens(5), image=blank(5).image), known).request
    assert request is not None and not request.view.calibrated
    assert request.view.camera.fx == pytest.approx(factor / FACTOR * LENS.fx)


def test_the_focal_length_may_be_known_better_later() -> None:
    frontend = CameraFrontend(unknown_lens(0), STILL)
    first = made_of(0, way(0), camera=LENS.resized(64, 48))
    frontend.start(first, unknown_lens(0), Map({0: first}))
    frontend.refocus(Map(focal_factor=FACTOR))
    for n in range(1, 5):
        check(step(frontend, unknown_lens(n), Map({0: first})), relative(n))


def test_a_calibrated_camera_keeps_its_focal_length() -> None:
    frontend = tracking()
    frontend.refocus(Map(focal_factor=1.3))
    assert frontend.rectifier.camera == TRACKING
    check(step(frontend, frame(1, way(1))), relative(1))


def test_the_record_of_a_frame_without_a_pose() -> None:
    record = untracked(replace(frame(7, way(7)), camera_name='left'))
    assert (record.name, record.stamp_ns, record.index) == ('000007', 7 * 10 ** 8, 7)
    assert record.camera_name == 'left' and record.mask is None and record.scale == 1.0
