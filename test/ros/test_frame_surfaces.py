# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Depth and points of every image, which a network gives with track_with_model."""

from __future__ import annotations

from types import SimpleNamespace

from keyframes_by_hand import keyframe
import numpy as np
import pytest
from recon3r_ros.ros.outputs import Outputs
from recon3r_ros.ros.parameters import CameraConfig
from ros_helpers import wait_for
from sensor_msgs.msg import CameraInfo, Image, PointCloud2


def test_an_image_with_depth_is_published_as_keyframes_are(ros_node):
    outputs = Outputs(ros_node, SimpleNamespace(
        classes=(), all_cameras=[CameraConfig('camera')]), pytest.fail)
    outputs.active = True
    received = {}
    for topic, kind in (('points', PointCloud2), ('depth/image', Image),
                        ('depth/camera_info', CameraInfo)):
        name = ros_node.resolve_topic_name(f'~/camera/{topic}')
        ros_node.create_subscription(
            kind, name, lambda message, topic=topic: received.setdefault(topic, message), 1)
    view = keyframe(0)
    wait_for(lambda: outputs.wanted('~/camera/points') and outputs.wanted('~/camera/depth/image')
             and outputs.wanted('~/camera/depth/camera_info'))
    outputs.surface(view, 2.0, '')
    outputs.surface(view, 2.0, 'optical')
    wait_for(lambda: len(received) == 3)
    outputs.close()
    assert {m.header.frame_id for m in received.values()} == {'optical'}
    image = received['depth/image']
    depth = np.frombuffer(image.data, np.float32).reshape(image.height, image.width)
    np.testing.assert_allclose(depth, 2 * view.depth(), rtol=1e-6)
