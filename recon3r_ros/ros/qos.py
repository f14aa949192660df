# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The qualities of service of all topics, in one place (design, section 6; REP-2003)."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy


def images(reliability: str) -> QoSProfile:
    """
    Quality of service of incoming images: best effort also matches reliable publishers.

    :param reliability: parameter `qos_image`: 'sensor_data' or 'reliable'
    """
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=5, durability=DurabilityPolicy.VOLATILE,
        reliability=(ReliabilityPolicy.RELIABLE if reliability == 'reliable'
                     else ReliabilityPolicy.BEST_EFFORT))


#: An IMU: some messages more than images, as several come between two of them
IMU = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=200, durability=DurabilityPolicy.VOLATILE,
    reliability=ReliabilityPolicy.BEST_EFFORT)
#: Clouds, depth and masks. Best-effort subscriptions match them too; others miss no keyframe
RELIABLE = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=20, reliability=ReliabilityPolicy.RELIABLE)
#: Poses and odometry: when tracking begins, those of the images before come all at once
POSES = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=100, reliability=ReliabilityPolicy.RELIABLE)
#: What a late joiner needs too: the map, the path, the graph, the scale, static transforms
LATCHED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL)
#: As tf2 subscribes to /tf
TF = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=100, reliability=ReliabilityPolicy.RELIABLE)
#: As tf2 subscribes to /tf_static: every publisher's newest message
TF_STATIC = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=100, reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL)
