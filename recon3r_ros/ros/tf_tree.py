# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Transforms in and out, without tf2: no frame ever gets a second parent from this node.

Transforms of other nodes on /tf and /tf_static give the parents of frames and the static chains to
cameras. Extrinsics of the parameters are broadcast on /tf_static once it is known that their frame
has no parent there, in a URDF say.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
import math
from threading import Lock
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import se3
from recon3r_ros.ros import conversions, qos
from recon3r_ros.ros.transforms import Broadcast

try:
    from tf2_msgs.msg import TFMessage
except ImportError:  # the pip environment had no compiler to build it
    TFMessage = None

#: Wait for static transforms of other nodes before ours are broadcast: latched ones of a
#: URDF arrive as soon as their publisher is discovered
LISTENING_S = 1.5
#: Afterwards messages on /tf, of which hundreds come in a second, are sampled this far apart
SAMPLING_S = 0.1
#: A parent on /tf is forgotten when no message has had it for so long
FORGETTING_S = 5.0
#: Stamps that are kept for each child, so that none is published twice, and transforms by which
#: our own are recognised
_REMEMBERED, _RECOGNISED = 300, 3000


class TfTree:
    """
    The only publisher of transforms, and what it knows of those of others.

    Callbacks run in the executor's thread, the rest in the worker's.

    :param node: that subscribes and broadcasts
    :param publish_tf: whether transforms are wanted at all
    :param tolerance_ns: how far into the future predicted transforms are stamped
    :param warn: called with a warning of one line
    """

    def __init__(self, node: Node, publish_tf: bool, tolerance_ns: int,
                 warn: Callable[[str], None]) -> None:
        self.active = False
        self.publish_tf = publish_tf
        self._node = node
        self._tolerance_ns = tolerance_ns
        self._warn = warn
        self._lock = Lock()
        self._parents: dict[str, tuple[str, float]] = {}  # and until when it is valid
        self._fixed: dict[str, Broadcast] = {}
        self._sent: dict[str, deque[int]] = {}
        self._predicted: set[str] = set()
        self._own: deque[tuple[str, int]] = deque(maxlen=_RECOGNISED)
        self._waiting: dict[str, Broadcast] = {}
        self._broadcast: dict[str, Broadcast] = {}
        self._decide_at = time.monotonic() + LISTENING_S
        self._listen_at = 0.0
        self._publishers: dict[str, Any] = {}
        self._subscriptions: list[Any] = []
        if TFMessage is None:
            if publish_tf:
                node.get_logger().warning(
                    'tf2_msgs is not installed: nothing is published on /tf. Source a ROS '
                    'installation, or install a C compiler and run `make env`')
            return
        self._publishers = {
            '/tf': node.create_publisher(TFMessage, '/tf', qos.TF),
            '/tf_static': node.create_publisher(TFMessage, '/tf_static', qos.LATCHED)}
        self._subscriptions = [
            node.create_subscription(TFMessage, '/tf_static', partial(self._heard, fixed=True),
                                     qos.TF_STATIC),
            node.create_subscription(TFMessage, '/tf', self._sampled, qos.TF, raw=True)]

    def close(self) -> None:
        """Unsubscribe and stop broadcasting."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)
        self._subscriptions, self._publishers = [], {}

    def parent_of(self, child: str) -> str:
        """Parent that other nodes have given to a frame; empty where none is known."""
        with self._lock:
            parent, until = self._parents.get(child, ('', 0.0))
        return parent if time.monotonic() < until else ''

    def fixed_root(self, frame: str, end: str = '') -> tuple[str, NDArray[np.float64]]:
        """
        Follow static transforms of other nodes upwards.

        :param end: a frame to stop at
        :return: the frame that they begin at, and T_root_frame (4, 4), metres
        """
        T_root_frame = np.eye(4)
        passed: set[str] = set()
        with self._lock:
            while frame in self._fixed and frame not in passed and frame != end:
                passed.add(frame)  # TF may have cycles
                T_root_frame = self._fixed[frame].T_parent_child @ T_root_frame
                frame = self._fixed[frame].parent
        return frame, T_root_frame

    def between(self, parent: str, child: str) -> NDArray[np.float64] | None:
        """Return the fixed pose (4, 4) of a frame in another, metres; None where unknown."""
        root, T_root_parent = self.fixed_root(parent)
        other, T_root_child = self.fixed_root(child)
        return se3.inverse(T_root_parent) @ T_root_child if root == other else None

    def send(self, broadcast: Broadcast, stamp_ns: int) -> str:
        """
        Publish a transform with its image's stamp, unless one of this child and stamp has been.

        Of map -> odom alone, which changes slowly, others need not wait for the next one: it is
        stamped `tf_tolerance` later, as Nav2's localisers do; the first one also with its own
        stamp, so that the first image's pose can be looked up.

        :return: why it cannot be published; empty where it can
        """
        parent, child = broadcast.parent, broadcast.child
        other = self.parent_of(child)
        if other:
            return (f'{parent} -> {child} is not published: on TF {child} has the parent {other} '
                    'by another node already')
        if not (self.active and self._publishers):
            return ''
        stamps = [stamp_ns]
        with self._lock:
            sent = self._sent.get(child)
            if broadcast.predicted:
                self._predicted.add(child)
                later_ns = stamp_ns + self._tolerance_ns
                stamps = [later_ns] if sent else sorted({stamp_ns, later_ns})
            if sent is None:
                sent = self._sent[child] = deque(maxlen=_REMEMBERED)
            stamps = [s for s in stamps if s not in sent]
            sent.extend(stamps)
            self._own.extend((child, s) for s in stamps)
        if stamps:
            self._publishers['/tf'].publish(TFMessage(transforms=[
                conversions.transform_message(broadcast.T_parent_child, parent, child, s)
                for s in stamps]))
        return ''

    def restart(self, clock: bool) -> None:
        """
        Begin anew: the map has been replaced.

        :param clock: whether time has gone back, too: stamps will be repeated
        """
        with self._lock:
            for child in list(self._sent):
                if clock or child in self._predicted:
                    del self._sent[child]

    def add_static(self, broadcast: Broadcast) -> None:
        """Broadcast a static transform, once its child is known to have no parent."""
        if self._broadcast.get(broadcast.child) is None:
            self._waiting[broadcast.child] = broadcast

    def settle(self) -> None:
        """Broadcast what has waited long enough; to be called now and then."""
        if not (self.active and self.publish_tf and self._publishers and self._waiting
                and time.monotonic() >= self._decide_at):
            return
        with self._lock:
            fresh = {child: t for child, t in self._waiting.items() if child not in self._parents}
            self._broadcast.update(fresh)
        self._waiting.clear()
        now_ns = self._node.get_clock().now().nanoseconds
        if fresh:
            # Latched with a depth of one: the newest message has to hold all of them
            self._publishers['/tf_static'].publish(TFMessage(transforms=[
                conversions.transform_message(t.T_parent_child, t.parent, t.child, now_ns)
                for t in self._broadcast.values()]))

    def _sampled(self, data: bytes) -> None:
        """Sample the messages on /tf."""
        now = time.monotonic()
        if now >= self._listen_at:
            self._listen_at = now + SAMPLING_S if now > self._decide_at else now
            self._heard(deserialize_message(data, TFMessage), fixed=False)

    def _heard(self, message: Any, fixed: bool) -> None:
        with self._lock:
            for transform in message.transforms:
                self._note(transform, fixed)

    def _note(self, transform: Any, fixed: bool) -> None:
        child, parent = transform.child_frame_id, transform.header.frame_id
        own = self._broadcast.get(child)
        if own is not None:
            if own.parent != parent:
                self._warn(f'frame {child} has two parents: {own.parent} by the parameter '
                           f'extrinsics and {parent} on TF: remove one of them')
            return
        stamp_ns = conversions.stamp_to_ns(transform.header.stamp)
        if not fixed and (child, stamp_ns) in self._own:
            return
        self._parents[child] = (
            parent, math.inf if fixed else time.monotonic() + FORGETTING_S)
        if not fixed:
            return
        try:
            self._fixed[child] = Broadcast(
                parent, child, conversions.matrix_from_transform(transform.transform))
        except InputError as error:
            self._warn(f'transform {parent} -> {child} on /tf_static is ignored: {error}')
