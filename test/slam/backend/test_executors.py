# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Local mapping in another process gives the same map, which survives that process."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
import os
import signal
import time

import cv2
import numpy as np
import pytest
from recon3r_ros.errors import Recon3rError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.models.geometric import GeometricPredictor
from recon3r_ros.models.types import PosePrior
from recon3r_ros.slam.backend import map_state, upkeep
from recon3r_ros.slam.backend.executor import InProcessExecutor
from recon3r_ros.slam.backend.map_delta import MapDelta
from recon3r_ros.slam.backend.mapping import Mapper
from recon3r_ros.slam.backend.subprocess_executor import SubprocessExecutor
from recon3r_ros.slam.frontend.rectification import GUESSED_FOCAL
from recon3r_ros.slam.keyframe_lag import KeyframeLag
from recon3r_ros.slam.options import MappingOptions
from recon3r_ros.slam.saved_map import SavedMap
from recon3r_ros.slam.system import System
from recon3r_ros.slam.types import Map, MetricScale, Retired, TrackedFrame, TrackingState
from simulated import as_frame, error_over_path, still_scene

SCENE = still_scene(3, 40)


@pytest.fixture
def process():
    host = SubprocessExecutor(GeometricPredictor, MappingOptions())
    yield host
    host.close()


def feed(system: System, wait: bool, indices=range(40)) -> int:
    """Feed frames; with `wait`, each keyframe is finished before the next frame."""
    posed = 0
    for index in indices:
        posed += len(system.add(as_frame(SCENE, index)).frames)
        ordered = system._keyframing.ordered
        if wait and ordered is not None:
            ordered.made.exception()
            posed += len(system.poll().frames)
    return posed


def feed_until_requested(system: System) -> int:
    """Feed frames until a keyframe is pending; return the next index."""
    index = 0
    while system._keyframing.ordered is None:
        system.add(as_frame(SCENE, index))
        index += 1
    return index


def test_the_same_map_comes_of_both(process, monkeypatch):
    monkeypatch.setattr(InProcessExecutor, 'in_step', False)  # live, as the other one
    here, there = System(GeometricPredictor()), System(executor=process)
    feed(here, False)
    feed(there, True)
    assert list(here.map.keyframes) == list(there.map.keyframes)
    assert here.map.edges == there.map.edges
    for i, keyframe in here.map.keyframes.items():
        other = there.map.keyframes[i]
        assert keyframe.stamp_ns == other.stamp_ns
        assert np.allclose(keyframe.T_map_cam, other.T_map_cam, atol=1e-3)
        assert np.array_equal(keyframe.gray, other.gray)


@pytest.fixture
def late_first_pair(monkeypatch):
    """Let a first pair take longer than tracking waits for it."""
    monkeypatch.setattr('recon3r_ros.slam.keyframing.FIRST_PAIR_S', 0.0)


def test_tracking_waits_for_a_first_pair(process, monkeypatch):
    monkeypatch.setattr('recon3r_ros.slam.keyframing.FIRST_PAIR_S', 60.0)
    system, posed, index = System(executor=process), (), 0
    while not posed:
        posed = system.add(as_frame(SCENE, index)).frames
        index += 1
    assert [f.index for f in posed] == list(range(index))
    assert index < 30


@pytest.mark.parametrize('polled', [True, False])
def test_poses_of_a_first_pair_come_before_its_masks(process, late_first_pair, polled):
    """And before the next frame is tracked, whether the system was polled in between or not."""
    system = System(executor=process)
    index = feed_until_requested(system)
    second = index - 1
    system.add(as_frame(SCENE, index))
    index += 1
    system._keyframing.ordered.made.result()
    if polled:
        first = system.poll()
        assert [f.index for f in first.frames] == list(range(index))
        assert first.keyframe is None and first.masked == ()
        assert all(f.mask is None for f in first.frames)
        rest = system.poll()
        assert rest.frames == ()
        assert system.poll().masked == () and system.state is TrackingState.TRACKING
        after = system.add(as_frame(SCENE, index))
        assert [f.index for f in after.frames] == [index]
    else:
        rest = system.add(as_frame(SCENE, index))
        assert [f.index for f in rest.frames] == list(range(index + 1))
    assert [f.index for f in rest.masked] == [second, second + 1]
    shape = as_frame(SCENE, 0).image.shape[:2]
    assert all(f.mask is not None and f.mask.shape == shape for f in rest.masked)
    assert rest.keyframe is not None and rest.keyframe.index == second


@pytest.mark.parametrize('end', ['finish', 'saved', 'forget', 'reset'])
def test_a_first_pair_without_masks_is_completed_or_forgotten(process, late_first_pair, end):
    system = System(executor=process)
    index = feed_until_requested(system)
    system._keyframing.ordered.made.result()
    assert system.poll().frames and system._keyframing.begun is not None
    if end == 'finish':
        done = system.finish()
        assert done.masked and done.keyframe is not None
    elif end == 'saved':
        assert len(system.saved().map.keyframes) == 2
    elif end == 'forget':
        system.forget(as_frame(SCENE, 0).camera_name)
    else:
        system.reset()
    assert system._keyframing.begun is None
    assert len(system.trajectory()) == (0 if end == 'reset' else index)
    system.add(as_frame(SCENE, index))


@pytest.fixture
def one_thread():
    """Let OpenCV use one thread, as the mapping process does."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(before)


def test_with_a_lag_results_do_not_depend_on_time(process, one_thread):
    """Keyframes come late, at the same frames, whether mapping runs beside tracking or in step."""
    here = System(GeometricPredictor(), lag=KeyframeLag())
    there = System(executor=process, lag=KeyframeLag())
    late = 0
    for index in range(40):
        for system in (here, there):
            system.add(as_frame(SCENE, index))
        late += here._keyframing.ordered is not None
        assert (here._keyframing.ordered is None) == (there._keyframing.ordered is None)
    assert late > 5
    for system in (here, there):
        system.finish()
    assert len(here.trajectory()) == 40
    for (a, T_a), (b, T_b) in zip(here.trajectory(), there.trajectory(), strict=True):
        assert a.index == b.index and np.array_equal(T_a, T_b)
    assert list(here.map.keyframes) == list(there.map.keyframes)
    for i, keyframe in here.map.keyframes.items():
        other = there.map.keyframes[i]
        assert np.array_equal(keyframe.inverse_depth, other.inverse_depth)
        assert np.array_equal(keyframe.mask, other.mask)
    assert error_over_path(here, SCENE) < 0.01


def test_frames_are_tracked_while_a_keyframe_is_made(process):
    """Nothing waits for keyframes: most are still pending when the next frames come."""
    system = System(executor=process)
    feed(system, True, range(20))
    assert system.state is TrackingState.TRACKING
    before = len(system.trajectory())
    os.kill(process.pid, signal.SIGSTOP)
    try:
        posed = feed(system, False, range(20, 32))
    finally:
        os.kill(process.pid, signal.SIGCONT)
    assert posed == 12 == len(system.trajectory()) - before
    system.finish()


def test_what_goes_wrong_there_is_raised_here(process):
    nothing = SavedMap(Map(), {}, (), True, None)
    with pytest.raises(ValueError):
        process.call(Mapper.restore, nothing).result()
    assert process.call(Mapper.snapshot).result()[1].keyframes == {}


def test_a_process_that_ends_is_started_again_with_the_map(process):
    """Cameras continue in it: their poses, the scales of loops and culled keyframes are kept."""
    system = System(executor=process)
    feed(system, True, range(20))
    before, poses = system.map, [T for _, T in system.trajectory()]
    os.kill(process.pid, signal.SIGKILL)
    posed = feed(system, True, range(20, 40))
    assert posed == 20 and system.state is TrackingState.TRACKING
    assert set(before.keyframes) < set(system.map.keyframes)
    assert np.allclose([T for _, T in system.trajectory()][:len(poses)], poses, atol=0.05)
    assert error_over_path(system, SCENE) < 0.01


def test_loops_and_retired_keyframes_outlive_the_mapper():
    mapper = Mapper(GeometricPredictor())
    feed(System(executor=InProcessExecutor(mapper)), False)
    before, views = mapper.snapshot(), mapper.views
    known = replace(
        before, scales={i: 1.0 + 0.1 * i for i in before.keyframes},
        retired={90: Retired(1, np.eye(4), 1.1, 2.0)}, metric=MetricScale(2.5, 0.1, 'model'))
    mapper.recover(known, views)
    after = mapper.snapshot()
    assert after.keyframes == known.keyframes and after.edges == known.edges
    assert after.scales == known.scales and after.retired == known.retired
    assert after.metric == known.metric and mapper.views == views


def test_a_process_that_ends_while_it_works_is_tried_once_more(process):
    os.kill(process.pid, signal.SIGSTOP)
    asked = process.call(Mapper.snapshot)
    os.kill(process.pid, signal.SIGKILL)
    assert asked.result(30)[1].keyframes == {}


def test_a_method_under_which_the_process_ends_is_given_up(process):
    """No call blocks for ever, and the next one runs."""
    with pytest.raises(Recon3rError, match='has ended .*twice in a row'):
        process.call(end_process).result(60)
    assert process.call(Mapper.snapshot).result(30)[1].keyframes == {}


def end_process(mapper: Mapper) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_cannot_be_sent_harms_nothing(process):
    with pytest.raises(Recon3rError, match='cannot be sent to the mapping process'):
        process.call(lambda mapper: None).result(30)
    assert process.call(Mapper.snapshot).result(30)[1].keyframes == {}


def test_an_answer_that_cannot_be_read_leaves_nobody_waiting(process, monkeypatch):
    """Of another version of the package, say, or out of memory while it is taken apart."""
    def unreadable(self, old):
        raise MemoryError
    with monkeypatch.context() as patch:
        patch.setattr(MapDelta, 'apply', unreadable)
        with pytest.raises(Recon3rError, match='cannot be read'):
            process.call(Mapper.snapshot).result(60)
    assert process.call(Mapper.snapshot).result(30)[1].keyframes == {}


def test_a_process_that_ends_while_nothing_is_asked_is_started_again(process):
    """The next keyframe does not have to wait for a model to be loaded."""
    before = process.pid
    os.kill(before, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while process.pid == before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.pid != before


def test_nothing_is_started_again_after_close():
    process = SubprocessExecutor(GeometricPredictor, MappingOptions())
    process.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


class TellsFocal(GeometricPredictor):
    """Two-view geometry that estimates the focal length, as networks do."""

    def predict(self, groups, moving=None, priors=None):
        return [replace(p, focal=300.0) for p in super().predict(groups, moving, priors)]


def test_a_rejected_keyframe_leaves_no_trace():
    """Nor do the focal lengths that its predictions estimated."""
    mapper = Mapper(TellsFocal())
    host = InProcessExecutor(mapper)
    system = System(executor=host)
    for index in range(30):
        system.add(replace(as_frame(SCENE, index), camera=None))
    assert system.map.started
    before, focals = mapper.snapshot(), list(mapper._state.pairing._focals)
    assert focals
    mapper.options = MappingOptions(min_agreement=2.0)
    lens = system.lens('camera')
    frame = replace(as_frame(SCENE, 33), camera=None)
    newest = before.newest
    view = replace(lens.view(frame), pose=PosePrior(newest.T_map_cam, np.eye(6)))
    assert mapper.add(TrackedFrame('x', 33, 33), view, lens.tracking_image(frame)) is None
    after = mapper.snapshot()
    assert after.keyframes == before.keyframes and after.focal_factor == before.focal_factor
    assert list(mapper._state.pairing._focals) == focals


def test_at_the_end_frames_are_placed_with_the_final_focal_length_and_keyframes_where_they_are():
    system = System(GeometricPredictor())
    for index in range(30):
        system.add(replace(as_frame(SCENE, index), camera=None))
    system.finish()
    lens = system.lens('camera')
    guess = Camera.guess(lens.source.width, lens.source.height, GUESSED_FOCAL)
    assert lens.camera.fx == pytest.approx(guess.fx * system.map.focal_factor, rel=1e-9)
    poses = {frame.index: T for frame, T in system.trajectory()}
    keyframes = system.map.keyframes.values()
    assert len(keyframes) > 1
    assert all(np.allclose(poses[k.index], k.T_map_cam, atol=1e-6) for k in keyframes)


def test_what_cameras_are_tracked_against_is_not_culled(monkeypatch):
    """A second camera stands still while the first drives on, beyond the cap of keyframes."""
    mapper = Mapper(GeometricPredictor())
    system = System(executor=InProcessExecutor(mapper))
    for index in range(20):
        system.add(as_frame(SCENE, index))
    standing = replace(as_frame(SCENE, 5), camera_name='standing')
    system.add(standing)
    assert system.state_of('standing') is TrackingState.TRACKING
    monkeypatch.setattr(map_state, 'WINDOW', 1)
    monkeypatch.setattr(upkeep, 'ANCHORS', 0)
    mapper.options = MappingOptions(len(system.map.keyframes) - 1)
    for count, index in enumerate([*range(20, 40), *range(39, -1, -1)]):
        system.add(as_frame(SCENE, index))
        posed = system.add(replace(standing, stamp_ns=10**12 + count, index=1000 + count))
        assert any(f.camera_name == 'standing' for f in posed.frames)
    assert system.map.retired


def test_a_predictor_that_cannot_be_made():
    with pytest.raises(TypeError, match='unexpected keyword'):
        SubprocessExecutor(partial(GeometricPredictor, weights='none'), MappingOptions())


def test_redundant_keyframes_retire_and_frames_keep_their_places(monkeypatch):
    small = InProcessExecutor(Mapper(GeometricPredictor(), MappingOptions(12)))
    capped = System(executor=small)
    for index in [*range(40), *range(39, -1, -1)]:
        capped.add(as_frame(SCENE, index))
    many = capped.map
    monkeypatch.setattr(map_state, 'WINDOW', 2)
    monkeypatch.setattr(upkeep, 'ANCHORS', 0)
    mapper = small._mapper
    most = len(many.keyframes) - 1
    before = [T for _, T in capped.trajectory()]
    upkeep.cull(mapper._state, most, list(many.keyframes))
    assert mapper.snapshot().keyframes == many.keyframes, 'all are tracked against'
    upkeep.cull(mapper._state, most, ())
    after = mapper.snapshot()
    assert len(after.keyframes) == len(many.keyframes) - 1
    gone, = set(many.keyframes) - set(after.keyframes)
    assert gone in after.retired and gone != min(many.keyframes)
    assert np.allclose([T for _, T in capped.trajectory(known=after)], before, atol=1e-9)
    assert any(f.keyframe == gone for f, _ in capped.trajectory())
