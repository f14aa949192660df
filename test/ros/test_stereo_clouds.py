# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Points of a person before a standing stereo rig, whose map has no scale yet, or a wrong one."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.stereo import StereoMatcher
from recon3r_ros.ros.publication import Publication
from recon3r_ros.slam.dynamics.motion_config import MotionConfig
from recon3r_ros.slam.frontend.rectification import Rectifier
from recon3r_ros.slam.types import (
    Frame,
    Map,
    MetricScale,
    StereoView,
    TrackedFrame,
    TrackingState,
    Update,
)

CAMERA = Camera(320, 240, 260.0, 260.0, 159.5, 119.5)
BODY = np.s_[40:200, 120:200]
DISPARITY, BASELINE = 20, 0.12
DEPTH = CAMERA.fx * BASELINE / DISPARITY


class FakeOutputs:
    """Keeps what builds clouds, and drops everything else."""

    given_class_names: dict = {}

    def __init__(self):
        self.clouds = {}

    def cloud(self, topic, build, stamp_ns, frame_id):
        self.clouds[topic] = build

    def __getattr__(self, name):
        return lambda *_: None


def seen():
    """Make an image of a textured plane, which the second camera sees `DISPARITY` to the left."""
    texture = np.random.default_rng(0).integers(0, 255, (240, 320 + DISPARITY), np.uint8)
    return Frame(texture[:, :320].copy(), 7, 'a', 0, CAMERA, stereo=StereoView(
        texture[:, DISPARITY:].copy(), CAMERA, se3.from_rt(np.eye(3), [BASELINE, 0, 0])))


def published(frame, metric=None, demanded=False, calibrated=True):
    """Publish an image without a pose; return what builds its clouds."""
    lens = Rectifier(CAMERA, calibrated)
    system = SimpleNamespace(
        maps=(),
        map=Map(), requested_ns=None, unmasked=None, metric=lambda source: metric,
        lens=lambda camera: lens, state_of=lambda camera: TrackingState.INITIALISING)
    config = SimpleNamespace(
        map_frame='map', odom_frame='odom', base_frame='', odometry=False, publish_tf=False,
        metres_demanded=demanded, map_period=2.0, voxel_size=0.0, scale_source='auto',
        scale_sources=(), classes=(), imu_topic='', dynamics=MotionConfig(refiner=None))
    outputs = FakeOutputs()
    quiet = SimpleNamespace(
        publish_tf=False, active=True, frame_id=lambda camera: 'optical', count=lambda update: 0,
        tracked=lambda *_: None, scaled=lambda *_: None)
    publication = Publication(config, system, outputs, quiet, quiet, quiet, quiet, quiet,
                              pytest.fail)
    mask = np.zeros((240, 320), bool)
    mask[BODY] = True
    publication.update(Update(TrackingState.INITIALISING, (), None, unposed=TrackedFrame(
        'a', 7, 0, mask=mask)), frame)
    return outputs.clouds


@pytest.mark.parametrize('metric, demanded', [
    (None, False), (None, True), (MetricScale(3.0, 0.1, 'odometry'), True)])
def test_stereo_of_the_very_image_gives_metres(monkeypatch, metric, demanded):
    matched, depth = [], StereoMatcher.depth
    monkeypatch.setattr(StereoMatcher, 'depth', lambda self, *images: (
        matched.append(1), depth(self, *images))[1])
    clouds = published(seen(), metric, demanded)
    assert not matched, "clouds are built in the outputs' thread"
    dynamic = clouds['~/camera/dynamic_points']()
    static = clouds['~/camera/static_points']()
    assert len(matched) == 1
    for points in (dynamic.points, static.points):
        assert len(points) > 1000
        np.testing.assert_allclose(np.median(points[:, 2]), DEPTH, rtol=0.005)
    assert np.ptp(dynamic.points[:, 0]) == pytest.approx(79 / CAMERA.fx * DEPTH, rel=0.05)


def test_a_rig_that_cannot_measure_invents_nothing():
    frame = seen()
    broken = replace(frame, stereo=replace(frame.stereo, T_cam_other=np.eye(4)))
    clouds = published(broken)
    assert len(clouds['~/camera/dynamic_points']()) == 0
    assert len(clouds['~/camera/static_points']()) == 0
    assert published(frame, calibrated=False) == {}
