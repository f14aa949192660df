# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Extrinsics from parameters, broadcast on /tf_static; no frame ever gets a second parent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
#: arrive as soon as its publisher is discovered
LISTENING_S = 1.0


@dataclass(frozen=True, eq=False)
class StaticTransform:
    """T_parent_child (4, 4), metres."""

    parent: str
    child: str
    T_parent_child: NDArray[np.float64]


class StaticTransforms:
    """
    Broadcasts static transforms of frames that have no parent yet.

    Callbacks run in the executor's thread, the rest in the worker's.

    :param node: that broadcasts
    :param count: how many transforms will be added
    :param warn: told of a frame with two parents, in one line
    """

    def __init__(self, node: Node, count: int, warn: Callable[[str], None]) -> None:
        self._node = node
        self._count = count
        self._warn = warn
        self._lock = Lock()
        self._parents: dict[str, str] = {}
        self._known: set[str] = set()
        self._waiting: dict[str, StaticTransform] = {}
        self._broadcast: dict[str, StaticTransform] = {}
        self._decide_at = time.monotonic() + LISTENING_S
        self._publisher: Any = None
        self._subscriptions: list[Any] = []
        if TFMessage is not None and count:
            self._publisher = node.create_publisher(TFMessage, '/tf_static', qos.LATCHED)
            self._subscriptions = [
                node.create_subscription(TFMessage, '/tf', self._heard, qos.TF),
                node.create_subscription(TFMessage, '/tf_static', self._heard, qos.TF_STATIC)]

    def add(self, transform: StaticTransform) -> None:
        """Broadcast a transform, once it is certain that its child has no other parent."""
        if transform.child not in self._known:
            self._known.add(transform.child)
            self._waiting[transform.child] = transform

    def settle(self, stamp_ns: int) -> None:
        """
        Broadcast what has waited long enough; to be called now and then.

        :param stamp_ns: the present time
        """
        if not self._waiting or self._publisher is None or time.monotonic() < self._decide_at:
            return
        with self._lock:
            fresh = {child: t for child, t in self._waiting.items() if child not in self._parents}
            self._broadcast.update(fresh)
        self._waiting.clear()
        if len(self._known) == self._count:
            # Moving transforms come in hundreds a second; static ones, late ones too, seldom
            self._node.destroy_subscription(self._subscriptions.pop(0))
        if fresh:
            # Latched with a depth of one: the newest message has to hold all of them
            self._publisher.publish(TFMessage(transforms=[
                conversions.transform_message(t.T_parent_child, t.parent, t.child, stamp_ns)
                for t in self._broadcast.values()]))

    def close(self) -> None:
        """Stop listening and broadcasting."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []
        if self._publisher is not None:
            self._node.destroy_publisher(self._publisher)
            self._publisher = None

    def _heard(self, message: Any) -> None:
        with self._lock:
            for transform in message.transforms:
                child, parent = transform.child_frame_id, transform.header.frame_id
                own = self._broadcast.get(child)
                if own is None:
                    self._parents[child] = parent
                elif own.parent != parent:
                    self._warn(
                        f'frame {child} has two parents: {own.parent} by the parameter extrinsics '
                        f'and {parent} on TF: remove one of them')
