# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Subscriptions and service calls of the demonstration."""

from __future__ import annotations

from contextlib import suppress
import math
from threading import Thread
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Pose, PoseWithCovarianceStamped
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
import numpy as np
from numpy.typing import NDArray
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future
from recon3r_ros.ros import conversions, qos
from recon3r_ros.ros.diagnostics import CALLBACK
from sensor_msgs.msg import CameraInfo
from std_srvs.srv import Trigger

_NS_PER_MS = 1e6
#: Names of the node and the recorder, and topics that the recorder leaves out
_NODE, _RECORDER = 'recon3r', 'recon3r_recorder'
_INTERNAL = ('/parameter_events', '/rosout')


class Listener:
    """Receives images and poses, and requests a saved map; a context with its own thread."""

    def __enter__(self) -> Listener:
        self._context = rclpy.Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node('recon3r_demo', context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._images: set[int] = set()
        # Of an instant of a rig, the first pose is that of its first camera, and it is complete
        # with the last one
        self._poses: dict[int, Pose] = {}
        self._arrivals_ns: dict[int, int] = {}
        #: Number of poses received
        self.poses_received = 0
        #: Median run time of the node's image callback, milliseconds; NaN where not received
        self.callback_ms = math.nan
        self._node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)
        self._node.create_subscription(
            PoseWithCovarianceStamped, f'/{_NODE}/pose', self._on_pose, qos.POSES)
        self._node.create_subscription(
            CameraInfo, '/camera/camera_info', self._on_info, qos.POSES)
        self._state: Any = self._node.create_client(GetState, f'/{_NODE}/get_state')
        self._asked: Future | None = None
        self._save: Any = self._node.create_client(Trigger, f'/{_NODE}/save_map')
        self._thread = Thread(target=self._executor.spin, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._executor.shutdown()
        self._thread.join()
        self._node.destroy_node()
        self._context.try_shutdown()
        self._context.destroy()

    @property
    def stamps_ns(self) -> frozenset[int]:
        """Stamps of the images that were published, nanoseconds."""
        return frozenset(self._images)

    @property
    def arrivals_ns(self) -> dict[int, int]:
        """When poses arrived, by the stamps of their images, nanoseconds."""
        return dict(self._arrivals_ns)

    def delays_ms(self) -> list[float]:
        """Return milliseconds from an image's stamp to its pose's arrival, one a pose."""
        return [(came - stamp) / _NS_PER_MS for stamp, came in self.arrivals_ns.items()]

    def poses(self) -> tuple[list[int], list[NDArray[np.float64]]]:
        """Return stamps in nanoseconds, in order, and T_map_cam (4, 4) as they were published."""
        stamps_ns = sorted(self._poses)
        return stamps_ns, [conversions.matrix_from_pose(self._poses[s]) for s in stamps_ns]

    def node_is_active(self) -> bool:
        """Tell whether the node was active when it was last asked, and ask it again."""
        answered = self._asked is not None and self._asked.done()
        answer: Any = self._asked.result() if self._asked is not None and answered else None
        if (self._asked is None or answered) and self._state.service_is_ready():
            self._asked = self._state.call_async(GetState.Request())
        return answer is not None and answer.current_state.id == State.PRIMARY_STATE_ACTIVE

    def is_connected(self, recorded: bool) -> bool:
        """
        Tell whether the node's poses come here.

        :param recorded: whether all topics of the node must come to the recorder, too
        """
        node = self._node
        if not node.count_publishers(f'/{_NODE}/pose'):
            return False
        if not recorded:
            return True
        return all(
            _RECORDER in {end.node_name for end in node.get_subscriptions_info_by_topic(topic)}
            for topic, _ in node.get_topic_names_and_types() if topic not in _INTERNAL
            and _NODE in {end.node_name for end in node.get_publishers_info_by_topic(topic)})

    def can_save(self) -> bool:
        """Tell whether the node offers to save its map."""
        return bool(self._save.service_is_ready())

    def save_map(self) -> Future:
        """Ask for the map to be saved; the result says success and message."""
        return self._save.call_async(Trigger.Request())

    def _on_pose(self, message: PoseWithCovarianceStamped) -> None:
        stamp_ns = conversions.stamp_to_ns(message.header.stamp)
        self._poses.setdefault(stamp_ns, message.pose.pose)
        self._arrivals_ns[stamp_ns] = time.time_ns()
        self.poses_received += 1

    def _on_info(self, message: CameraInfo) -> None:
        self._images.add(conversions.stamp_to_ns(message.header.stamp))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        values = {v.key: v.value for v in message.status[0].values}
        with suppress(LookupError, ValueError):
            self.callback_ms = float(values[f'{CALLBACK} time'].split()[0])
