# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The whole pipeline with a stereo rig: metres from the first instant on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.depth_noise import MeasuredDepth
from recon3r_ros.geometry.stereo import StereoMatcher
from recon3r_ros.models.geometric import GeometricPredictor
from recon3r_ros.models.types import PosePrior
from recon3r_ros.sim import SimulatedSequence
from recon3r_ros.slam.backend.mapping import Mapper
from recon3r_ros.slam.backend.stereo_depth import StereoDepth
from recon3r_ros.slam.backend.subprocess_executor import SubprocessExecutor
from recon3r_ros.slam.frontend.camera_frontend import CameraFrontend
from recon3r_ros.slam.frontend.rectification import Rectifier
from recon3r_ros.slam.frontend.steps import untracked
from recon3r_ros.slam.options import MappingOptions
from recon3r_ros.slam.system import System
from recon3r_ros.slam.types import Frame, Map, StereoView, TrackingState
from simulated import as_frame, path_length, render, still_scene, TrueView

Array = NDArray[np.float64]

T_CAM_OTHER = se3.from_rt(se3.so3_exp([0.01, -0.02, 0.015]), [0.12, 0.004, -0.003])


def frame(scene: SimulatedSequence, index: int, T_cam_other: Array = T_CAM_OTHER) -> Frame:
    """Turn a simulated instant into the pipeline's input, with what a second camera sees."""
    other = scene.seen_by(T_cam_other).render(index).image
    return replace(as_frame(scene, index), stereo=StereoView(other, scene.camera, T_cam_other))


def test_a_map_starts_at_the_first_instant_in_metres() -> None:
    scene = still_scene(1)
    system = System(GeometricPredictor())
    first = system.add(frame(scene, 0))
    assert first.state is TrackingState.TRACKING and len(first.frames) == 1
    metric = system.metric()
    assert metric is not None and metric.source == 'rig'
    assert system.metric('rig') == metric and system.metric('depth') is None
    keyframe = system.map.keyframes[0]
    known = keyframe.inverse_depth > 0
    true, _ = TrueView.of(scene, 0).depth_on(keyframe.camera)
    ratios = metric.value / keyframe.inverse_depth[known] / true[known]
    assert known.mean() > 0.5 and np.median(ratios) == pytest.approx(1.0, abs=0.005)
    assert np.abs(ratios - 1).mean() < 0.03
    for index in range(1, 20):
        # later images without a partner are tracked alike
        assert system.add(as_frame(scene, index)).frames, 'no frame waits for its pose'
    poses = np.stack([se3.stretched(T, metric.value) for _, T in system.trajectory()])
    truth = np.stack([render(scene, i).T_world_cam for i in range(20)])
    moved = (se3.inverse(poses[0]) @ poses)[:, :3, 3]
    true_moved = (se3.inverse(truth[0]) @ truth)[:, :3, 3]
    assert np.abs(moved - true_moved).max() < 0.02 * path_length(truth[:, :3, 3]) + 0.003


def test_a_rig_that_cannot_measure_is_tracked_as_one_camera(
        caplog: pytest.LogCaptureFixture) -> None:
    scene = still_scene(1)
    system = System(GeometricPredictor())
    useless = [frame(scene, index, np.eye(4)) for index in (0, 1)]
    other = frame(scene, 2)
    assert other.stereo is not None
    assert Rectifier.of(replace(other, camera=None)).stereo_pair(replace(
        other, camera=None)) is None, 'a guessed focal length would give wrong metres'
    measured = StereoDepth()
    for each in (*useless, replace(other, stereo=replace(
            other.stereo, image=other.stereo.image[:100]))):
        pair = Rectifier.of(each).stereo_pair(each)
        assert pair is not None
        before = len(caplog.records)
        for _ in range(2):
            assert measured.of('camera', pair) is None
        assert len(caplog.records) <= before + 1, 'a reason is said once'
        system.add(each)
    assert system.state is TrackingState.INITIALISING and system.metric() is None
    assert any('baseline' in r.message for r in caplog.records)
    assert any('is 320x100' in r.message for r in caplog.records)


def test_the_front_end_does_not_match_and_the_back_end_does(
        monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a keyframe is requested for, its depth is measured where it is added."""
    matched: list[int] = []
    depth = StereoMatcher.depth

    def counted(self: StereoMatcher, *images: NDArray[np.uint8]) -> MeasuredDepth:
        matched.append(1)
        return depth(self, *images)

    monkeypatch.setattr(StereoMatcher, 'depth', counted)
    scene = still_scene(1)
    first = frame(scene, 0)
    request = CameraFrontend(first).add(first, Map(), False, False).request
    assert request is not None and not matched
    assert request.view.depth is None and request.view.stereo is not None
    assert request.view.stereo.image is request.view.image, 'sent to another process once'
    mapper = Mapper(GeometricPredictor())
    made = mapper.start(untracked(first), request.view, request.gray)
    assert len(matched) == 1 and mapper.snapshot().metre is not None
    T_map_cam = mapper.keyframes[made].T_map_cam
    known = replace(request.view, pose=PosePrior(T_map_cam, np.eye(6)))
    mapper.add(untracked(first), known, request.gray)
    mapper.complete(untracked(first), request.view, request.gray, 1)
    mapper.recall(untracked(first), request.view, request.gray)
    assert len(matched) == 4
    known_map = mapper.snapshot()
    assert known_map.rig_metric is not None and known_map.rig_metric.source == 'rig'
    again = Mapper(GeometricPredictor())
    again.recover(known_map, mapper.views)
    assert again.snapshot().rig_metric == known_map.rig_metric, 'the scale outlives its mapper'


def test_the_mapping_process_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_here(*_: object) -> None:
        raise AssertionError('matched in the process of tracking')

    monkeypatch.setattr(StereoMatcher, 'depth', not_here)
    scene = still_scene(1)
    mapping = SubprocessExecutor(GeometricPredictor, MappingOptions())
    try:
        system = System(executor=mapping)
        assert system.add(frame(scene, 0)).state is TrackingState.TRACKING
        assert system.metric('rig') is not None
    finally:
        mapping.close()
