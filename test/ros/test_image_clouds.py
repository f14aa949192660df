# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Points of people before a robot that stands, whose map has no scale yet, or a wrong one."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.ros.publication import Publication
from recon3r_ros.slam.dynamics.motion_config import MotionConfig
from recon3r_ros.slam.frontend.rectification import Rectifier
from recon3r_ros.slam.types import (
    Frame,
    Map,
    MetricScale,
    TrackedFrame,
    TrackingState,
    Update,
)

CAMERA = Camera(160, 120, 130.0, 130.0, 79.5, 59.5)
BODY = np.s_[30:110, 60:100]


class FakeOutputs:
    """Keeps clouds and drops everything else."""

    given_class_names: dict = {}

    def __init__(self):
        self.clouds = {}

    def cloud(self, topic, build, stamp_ns, frame_id):
        self.clouds[topic] = build(), stamp_ns, frame_id

    def __getattr__(self, name):
        return lambda *_: None


def published(metric, demanded, with_depth=True):
    """Publish an image without a pose, of a person 1.5 m away before a wall at 4 m."""
    lens = Rectifier(CAMERA, True)
    system = SimpleNamespace(
        maps=(),
        map=Map(), requested_ns=None, unmasked=None, metric=lambda source: metric,
        lens=lambda camera: lens, state_of=lambda camera: TrackingState.INITIALISING)
    config = SimpleNamespace(
        imu_topic='', map_frame='map', odom_frame='odom', base_frame='', odometry=False,
        publish_tf=False,
        metres_demanded=demanded, map_period=2.0, voxel_size=0.0, scale_source='auto',
        scale_sources=(), classes=(), dynamics=MotionConfig(refiner=None))
    outputs = FakeOutputs()
    quiet = SimpleNamespace(
        publish_tf=False, active=True, frame_id=lambda camera: 'optical', count=lambda update: 0,
        tracked=lambda *_: None, scaled=lambda *_: None)
    publication = Publication(config, system, outputs, quiet, quiet, quiet, quiet, quiet,
                              pytest.fail)
    mask = np.zeros((120, 160), bool)
    mask[BODY] = True
    depth = np.where(mask, 1.5, 4.0).astype(np.float32)
    frame = Frame(np.zeros((120, 160, 3), np.uint8), 7, 'a', 0, CAMERA,
                  depth=depth if with_depth else None)
    publication.update(Update(TrackingState.INITIALISING, (), None, unposed=TrackedFrame(
        'a', 7, 0, mask=mask)), frame)
    return outputs.clouds


@pytest.mark.parametrize('metric, demanded', [
    (None, False), (None, True), (MetricScale(3.0, 0.1, 'odometry'), True)])
def test_measured_depth_gives_metres_whatever_the_scale_of_the_map(metric, demanded):
    clouds = published(metric, demanded)
    dynamic, stamp_ns, frame_id = clouds['~/camera/dynamic_points']
    assert (stamp_ns, frame_id) == (7, 'optical') and len(dynamic) == 80 * 40
    np.testing.assert_allclose(dynamic.points[:, 2], 1.5, rtol=1e-6)
    width = np.ptp(dynamic.points[:, 0])
    assert width == pytest.approx(39 / 130 * 1.5, rel=1e-5)
    np.testing.assert_allclose(clouds['~/camera/static_points'][0].points[:, 2], 4.0, rtol=1e-6)


def test_without_depth_and_pose_there_are_none():
    assert published(None, False, with_depth=False) == {}
