# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Records all that is published to a rosbag2 (mcap), without a ROS installation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import sys
import time
from typing import Any

import rclpy
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from recon3r_ros.errors import OutputError
from recon3r_ros.ros.message_types import message_class, register
from recon3r_ros.ros.spinning import run
from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError
from rosbags.typesys import get_typestore, Stores, TypesysError

#: Seconds between two checks for new topics
LOOK_S = 0.2
#: Messages of a topic that wait to be written
DEPTH = 100
#: Internal topics of ROS
_INTERNAL = ('/parameter_events', '/rosout')
_UNLIMITED = QosTime(9223372036, 854775807)


class Recorder:
    """
    Subscribes to every topic, with its publisher's quality of service, and writes its messages.

    :param node: that subscribes
    :param path: of the bag, a folder that does not exist yet
    :raises OutputError: where it cannot be made
    """

    def __init__(self, node: Node, path: Path) -> None:
        self._node = node
        self._types = get_typestore(Stores.ROS2_KILTED)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
            self._writer.open()
        except (OSError, WriterError) as error:
            raise OutputError(f'cannot record to {path}: {error}; choose another folder'
                              ) from error
        self._seen: set[str] = set()
        self.counts: dict[str, int] = {}
        self._timer = node.create_timer(LOOK_S, self.look)
        self.look()

    def look(self) -> None:
        """Subscribe to topics that are new."""
        for topic, kinds in self._node.get_topic_names_and_types():
            publishers = self._node.get_publishers_info_by_topic(topic)
            if topic in self._seen or topic in _INTERNAL or not publishers:
                continue
            self._seen.add(topic)
            try:
                register(self._types, kinds[0])
                self._subscribe(topic, kinds[0], message_class(kinds[0]),
                                publishers[0].qos_profile)
            except (ImportError, AttributeError, ValueError, WriterError, TypesysError) as error:
                self._node.get_logger().warning(f'{topic} is not recorded: {error}')

    def _subscribe(self, topic: str, type_name: str, kind: Any, offered: QoSProfile) -> None:
        latched = offered.durability == DurabilityPolicy.TRANSIENT_LOCAL
        reliable = offered.reliability == ReliabilityPolicy.RELIABLE
        connection = self._writer.add_connection(
            topic, type_name, typestore=self._types, offered_qos_profiles=[Qos(
                QosHistory.KEEP_LAST, max(offered.depth, 1),
                QosReliability.RELIABLE if reliable else QosReliability.BEST_EFFORT,
                QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
                _UNLIMITED, _UNLIMITED, QosLiveliness.AUTOMATIC, _UNLIMITED, False)])
        profile = QoSProfile(
            history=HistoryPolicy.KEEP_LAST, depth=DEPTH, reliability=offered.reliability,
            durability=offered.durability)
        self.counts[topic] = 0
        self._node.create_subscription(kind, topic, self._write(topic, connection), profile,
                                       raw=True)

    def _write(self, topic: str, connection: Connection) -> Callable[[bytes], None]:
        def write(message: bytes) -> None:
            self._writer.write(connection, time.time_ns(), message)
            self.counts[topic] += 1
        return write

    def close(self) -> None:
        """Complete the bag."""
        self._writer.close()


def main(args: list[str] | None = None) -> int:
    """
    Record until told to stop.

    :param args: command line: the folder of the bag, then what is for ROS; that of the process
        where None
    :return: the exit status
    """
    arguments = sys.argv[1:] if args is None else args
    if not arguments or arguments[0].startswith('-'):
        sys.stderr.write('recon3r: error: name the folder to record to\n')
        return 2

    def work() -> None:
        node = rclpy.create_node('recon3r_recorder')
        recorder = Recorder(node, Path(arguments[0]))
        try:
            rclpy.spin(node)
        finally:
            recorder.close()
            node.destroy_node()

    return run(work, arguments)


if __name__ == '__main__':
    sys.exit(main())
