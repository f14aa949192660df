# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Images of several recorded cameras, grouped by their stamps."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import TypeVar

from recon3r_ros.slam.types import Frame

Camera = TypeVar('Camera', bound=Hashable)

#: Longest time between the images of an instant
MAX_DIFFERENCE_NS = 5_000_000


def instants(frames: Iterable[tuple[Camera, Frame]]) -> Iterator[dict[Camera, Frame]]:
    """
    Yield the frames of each instant, by camera.

    :param frames: with their cameras, in the order of their stamps
    """
    instant: dict[Camera, Frame] = {}
    begin_ns = 0
    for camera, frame in frames:
        if instant and (camera in instant or frame.stamp_ns - begin_ns > MAX_DIFFERENCE_NS):
            yield instant
            instant = {}
        begin_ns = begin_ns if instant else frame.stamp_ns
        instant[camera] = frame
    if instant:
        yield instant
