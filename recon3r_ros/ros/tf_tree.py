# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Which frames have a parent on TF already: none ever gets a second one from this node.

Static transforms, such as extrinsics of the parameters, are broadcast on /tf_static once it is
known that their frame has no parent there, in a URDF say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from threading import Lock
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from recon3r_ros.ros import conversions, qos

try:
    from tf2_msgs.msg import TFMessage
except ImportError:  # the pip environment had no compiler to build it
    TFMessage = None

#: How long others' transforms are listened to before ours are broadcast: latched ones of a URDF
#: arrive as soon as their publisher is discovered, moving ones some times a second
LISTENING_S = 1.5


@dataclass(frozen=True, eq=False)
class StaticTransform:
    """T_parent_child (4, 4), metres."""

    parent: str
    child: str
    T_parent_child: NDArray[np.float64]


class TfTree:
    """
    Knows the parents of frames that other nodes publish.

    Callbacks run in the executor's thread, the rest in the worker's.

    :param node: that listens and broadcasts
    :param map_frame: parent of what this node publishes on /tf
    :param warn: told of a frame with two parents, in one line
    """

    def __init__(self, node: Node, map_frame: str, warn: Callable[[str], None]) -> None:
        self._node = node
        self._map_frame = map_frame
        self._warn = warn
        self._lock = Lock()
        self._parents: dict[str, str] = {}
        self._fixed: dict[str, StaticTransform] = {}
        self._waiting: dict[str, StaticTransform] = {}
        self._broadcast: dict[str, StaticTransform] = {}
        self._decide_at = time.monotonic() + LISTENING_S
        self._publisher: Any = None
        self._static: Any = None
        self._moving: Any = None
        if TFMessage is not None:
            self._static = node.create_subscription(
                TFMessage, '/tf_static', partial(self._heard, fixed=True), qos.TF_STATIC)
            self._moving = node.create_subscription(
                TFMessage, '/tf', partial(self._heard, fixed=False), qos.TF)

    def parent_of(self, child: str) -> str:
        """Parent that other nodes have given to a frame; empty where none is known."""
        with self._lock:
            return self._parents.get(child, '')

    def fixed_root(self, frame: str) -> tuple[str, NDArray[np.float64]]:
        """
        Follow static transforms of other nodes upwards.

        :return: the frame that they begin at, and T_root_frame (4, 4), metres
        """
        T_root_frame = np.eye(4)
        passed: set[str] = set()
        with self._lock:
            while frame in self._fixed and frame not in passed:
                passed.add(frame)  # a tree on TF may be no tree
                T_root_frame = self._fixed[frame].T_parent_child @ T_root_frame
                frame = self._fixed[frame].parent
        return frame, T_root_frame

    def add(self, transform: StaticTransform) -> None:
        """Broadcast a transform, once it is certain that its child has no other parent."""
        if transform.child not in self._broadcast:
            self._waiting[transform.child] = transform

    def settle(self) -> None:
        """Broadcast what has waited long enough; to be called now and then."""
        if TFMessage is None or time.monotonic() < self._decide_at:
            return
        if self._moving is not None:
            # Hundreds of moving transforms come in a second; static ones, late ones too, seldom
            self._node.destroy_subscription(self._moving)
            self._moving = None
        if not self._waiting:
            return
        with self._lock:
            fresh = {child: t for child, t in self._waiting.items() if child not in self._parents}
            self._broadcast.update(fresh)
        self._waiting.clear()
        if not fresh:
            return
        if self._publisher is None:
            self._publisher = self._node.create_publisher(TFMessage, '/tf_static', qos.LATCHED)
        now_ns = self._node.get_clock().now().nanoseconds
        # Latched with a depth of one: the newest message has to hold all of them
        self._publisher.publish(TFMessage(transforms=[
            conversions.transform_message(t.T_parent_child, t.parent, t.child, now_ns)
            for t in self._broadcast.values()]))

    def close(self) -> None:
        """Stop listening and broadcasting."""
        for subscription in (self._static, self._moving):
            if subscription is not None:
                self._node.destroy_subscription(subscription)
        self._static = self._moving = None
        if self._publisher is not None:
            self._node.destroy_publisher(self._publisher)
            self._publisher = None

    def _heard(self, message: Any, fixed: bool) -> None:
        with self._lock:
            for transform in message.transforms:
                child, parent = transform.child_frame_id, transform.header.frame_id
                own = self._broadcast.get(child)
                if own is not None and own.parent != parent:
                    self._warn(
                        f'frame {child} has two parents: {own.parent} by the parameter extrinsics '
                        f'and {parent} on TF: remove one of them')
                elif own is None and parent != self._map_frame:
                    self._parents[child] = parent
                    if fixed:
                        self._fixed[child] = StaticTransform(
                            parent, child, conversions.matrix_from_transform(transform.transform))
