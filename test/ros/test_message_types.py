# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Message types by their classes: they are what their packages define."""

from __future__ import annotations

import pytest
from recon3r_ros.ros.message_types import register
from rosbags.typesys import get_typestore, Stores


@pytest.mark.parametrize('name', [
    'sensor_msgs/msg/PointCloud2', 'geometry_msgs/msg/PoseWithCovarianceStamped',
    'diagnostic_msgs/msg/DiagnosticArray', 'visualization_msgs/msg/MarkerArray',
    'sensor_msgs/msg/CameraInfo', 'rcl_interfaces/msg/ParameterEvent'])
def test_hashes_are_those_of_the_definitions(name: str) -> None:
    known, empty = get_typestore(Stores.ROS2_KILTED), get_typestore(Stores.EMPTY)
    register(empty, name)
    assert empty.hash_rihs01(name) == known.hash_rihs01(name)


def test_a_type_that_no_distribution_has_is_added() -> None:
    pytest.importorskip('vision_msgs.msg', reason='vision_msgs was not built')
    types = get_typestore(Stores.ROS2_KILTED)
    register(types, 'vision_msgs/msg/Detection2DArray')
    register(types, 'vision_msgs/msg/Detection2DArray')
    assert types.hash_rihs01('vision_msgs/msg/Detection2DArray').startswith('RIHS01_')


def test_a_package_that_is_missing_is_an_error() -> None:
    with pytest.raises(ImportError, match='no_such_msgs'):
        register(get_typestore(Stores.EMPTY), 'no_such_msgs/msg/Nothing')
