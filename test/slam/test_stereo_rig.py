# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The whole pipeline with a stereo rig: metres from the first instant on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.models.geometric import GeometricPredictor
from recon3r_ros.sim import SimulatedSequence
from recon3r_ros.slam.frontend.depth_measurement import DepthMeasurement
from recon3r_ros.slam.frontend.rectification import Rectifier
from recon3r_ros.slam.system import System
from recon3r_ros.slam.types import Frame, StereoView, TrackingState
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
    for each in (*useless, replace(other, stereo=replace(
            other.stereo, image=other.stereo.image[:100])), replace(other, camera=None)):
        measured = DepthMeasurement(Rectifier.of(each))
        for _ in range(2):
            assert measured.of(each) is None
        system.add(useless[0] if each.camera is None else each)
    assert system.state is TrackingState.INITIALISING and system.metric() is None
    assert any('baseline' in r.message for r in caplog.records)
    assert any('is 320x100' in r.message for r in caplog.records)
