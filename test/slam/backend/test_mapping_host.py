# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Keyframes made in another process are those that are made here."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
import os
import signal
import time

import numpy as np
import pytest
from recon3r_ros.errors import Recon3rError
from recon3r_ros.models.geometric import GeometricPredictor
from recon3r_ros.slam.backend import mapping, mapping_host
from recon3r_ros.slam.backend.mapping import Mapper
from recon3r_ros.slam.backend.mapping_host import MapperAtOnce, MapperProcess
from recon3r_ros.slam.saved_map import SavedMap
from recon3r_ros.slam.system import Reconstruction
from recon3r_ros.slam.types import Map, TrackedFrame, TrackingState
from simulated import as_frame, still_scene

SCENE = still_scene(3, 40)


@pytest.fixture
def process():
    host = MapperProcess(GeometricPredictor, 100)
    yield host
    host.close()


def feed(reconstruction: Reconstruction, wait: bool, indices=range(40)) -> int:
    """Feed frames; with `wait`, each keyframe is made before the next frame comes."""
    posed = 0
    for index in indices:
        posed += len(reconstruction.add(as_frame(SCENE, index)).frames)
        request = reconstruction._request
        if wait and request is not None:
            request.made.exception()
            posed += len(reconstruction.poll().frames)
    return posed


def test_the_same_map_comes_of_both(process):
    here, there = Reconstruction(GeometricPredictor()), Reconstruction(host=process)
    feed(here, False)
    feed(there, True)
    assert list(here.map.keyframes) == list(there.map.keyframes)
    assert here.map.edges == there.map.edges
    for i, keyframe in here.map.keyframes.items():
        other = there.map.keyframes[i]
        assert keyframe.stamp_ns == other.stamp_ns
        assert np.allclose(keyframe.T_map_cam, other.T_map_cam, atol=1e-3)
        assert np.array_equal(keyframe.gray, other.gray)


def test_frames_are_tracked_while_a_keyframe_is_made(process):
    """Nothing waits for keyframes: most are still being made when the next frames come."""
    reconstruction = Reconstruction(host=process)
    feed(reconstruction, True, range(20))
    assert reconstruction.state is TrackingState.TRACKING
    before = len(reconstruction.trajectory())
    os.kill(process.pid, signal.SIGSTOP)
    try:
        posed = feed(reconstruction, False, range(20, 32))
    finally:
        os.kill(process.pid, signal.SIGCONT)
    assert posed == 12 == len(reconstruction.trajectory()) - before
    reconstruction.finish()


def test_what_goes_wrong_there_is_raised_here(process):
    nothing = SavedMap(Map(), {}, (), True, None)
    with pytest.raises(ValueError):
        process.call(Mapper.restore, nothing).result()
    assert process.alive
    assert process.call(Mapper.snapshot).result()[1].keyframes == {}


def test_a_process_that_dies_says_so(process):
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(Recon3rError, match='has ended'):
        process.call(Mapper.snapshot).result(30)
    deadline = time.monotonic() + 20
    while process.alive and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not process.alive
    with pytest.raises(Recon3rError):
        process.call(Mapper.snapshot).result(30)


def test_what_cannot_be_sent_harms_nothing(process):
    with pytest.raises(Recon3rError, match='cannot be given'):
        process.call(lambda mapper: None).result(30)
    assert process.call(Mapper.snapshot).result(30)[1].keyframes == {}


def test_an_answer_that_cannot_be_read_leaves_nobody_waiting(process, monkeypatch):
    """Of another version of the package, say, or out of memory while it is taken apart."""
    def unreadable(self, old):
        raise MemoryError
    monkeypatch.setattr(mapping_host._Difference, 'apply', unreadable)
    with pytest.raises(Recon3rError, match='cannot be read'):
        process.call(Mapper.snapshot).result(30)
    with pytest.raises(Recon3rError, match='has ended'):
        process.call(Mapper.snapshot).result(30)
    assert not process.alive


class TellsFocal(GeometricPredictor):
    """Two-view geometry that claims to see the focal length, as networks do."""

    def predict(self, groups, moving=()):
        return [replace(p, focal=300.0) for p in super().predict(groups, moving)]


def test_a_rejected_keyframe_leaves_no_trace(monkeypatch):
    """Nor do the focal lengths that its predictions told."""
    mapper = Mapper(TellsFocal())
    host = MapperAtOnce(mapper)
    reconstruction = Reconstruction(host=host)
    for index in range(30):
        reconstruction.add(replace(as_frame(SCENE, index), camera=None))
    assert reconstruction.map.started
    before, focals = mapper.snapshot(), list(mapper._state.pairing._focals)
    assert focals
    monkeypatch.setattr(mapping, 'MIN_AGREEMENT', 2.0)
    lens = reconstruction.lens('camera')
    frame = replace(as_frame(SCENE, 33), camera=None)
    newest = before.newest
    assert mapper.add(TrackedFrame('x', 33, 33), lens.view(frame), lens.tracking_image(frame),
                      newest.T_map_cam) is None
    after = mapper.snapshot()
    assert after.keyframes == before.keyframes and after.focal_factor == before.focal_factor
    assert list(mapper._state.pairing._focals) == focals


def test_what_cameras_are_tracked_against_is_not_culled(monkeypatch):
    """A second camera stands still while the first drives on, beyond the cap of keyframes."""
    mapper = Mapper(GeometricPredictor())
    reconstruction = Reconstruction(host=MapperAtOnce(mapper))
    for index in range(20):
        reconstruction.add(as_frame(SCENE, index))
    standing = replace(as_frame(SCENE, 5), camera_name='standing')
    reconstruction.add(standing)
    assert reconstruction.state_of('standing') is TrackingState.TRACKING
    monkeypatch.setattr(mapping, 'WINDOW', 1)
    monkeypatch.setattr(mapping, 'ANCHORS', 0)
    mapper._max_keyframes = len(reconstruction.map.keyframes) - 1
    for count, index in enumerate([*range(20, 40), *range(39, -1, -1)]):
        reconstruction.add(as_frame(SCENE, index))
        posed = reconstruction.add(replace(standing, stamp_ns=10**12 + count, index=1000 + count))
        assert any(f.camera_name == 'standing' for f in posed.frames)
    assert reconstruction.map.retired


def test_a_predictor_that_cannot_be_made():
    with pytest.raises(TypeError, match='takes no arguments'):
        MapperProcess(partial(GeometricPredictor, weights='none'), 100)


def test_redundant_keyframes_retire_and_frames_keep_their_places(monkeypatch):
    small = MapperAtOnce(Mapper(GeometricPredictor(), 12))
    capped = Reconstruction(host=small)
    for index in [*range(40), *range(39, -1, -1)]:
        capped.add(as_frame(SCENE, index))
    many = capped.map
    monkeypatch.setattr(mapping, 'WINDOW', 2)
    monkeypatch.setattr(mapping, 'ANCHORS', 0)
    mapper = small._mapper
    mapper._max_keyframes = len(many.keyframes) - 1
    before = [T for _, T in capped.trajectory()]
    mapper._cull(mapper._state, list(many.keyframes))
    assert mapper.snapshot().keyframes == many.keyframes, 'all are tracked against'
    mapper._cull(mapper._state, ())
    after = mapper.snapshot()
    assert len(after.keyframes) == len(many.keyframes) - 1
    gone, = set(many.keyframes) - set(after.keyframes)
    assert gone in after.retired and gone != min(many.keyframes)
    assert np.allclose([T for _, T in capped._trajectory.poses(after)], before, atol=1e-9)
    assert any(f.keyframe == gone for f, _ in capped.trajectory())


def test_a_salvaged_map_is_found_again():
    first = Reconstruction(GeometricPredictor())
    feed(first, False)
    again = Reconstruction(GeometricPredictor())
    again.restore(SavedMap.salvaged(first.map, None))
    updates = [again.add(as_frame(SCENE, index)) for index in (30, 31, 32)]
    assert sum(len(u.frames) for u in updates) == 3
    expected = {f.index: T for f, T in first.trajectory()}
    for frame, T in again.trajectory():
        assert np.linalg.norm(T[:3, 3] - expected[frame.index][:3, 3]) < 0.02
