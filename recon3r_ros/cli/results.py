# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Writes a map's results, for `recon3r run` and the node."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.io.map_store import MAP_FILE, write_map
from recon3r_ros.io.writer import KeyframeRecord, ResultWriter
from recon3r_ros.models.types import NO_CONFIDENCE
from recon3r_ros.slam.saved_map import SavedMap
from recon3r_ros.slam.types import Keyframe, PointCloud, TrackedFrame

Array = NDArray[np.float64]


def write_results(writer: ResultWriter, keyframes: Sequence[Keyframe],
                  trajectory: Sequence[tuple[TrackedFrame, Array]], cloud: PointCloud,
                  saved: SavedMap | None, metres: float = 1.0) -> None:
    """
    Write trajectory, keyframes, their depth, the cloud, and the map for `load_map`.

    :param trajectory: frames with their poses T_map_cam (4, 4), in any order; with several
        cameras, there is a file for each, and trajectory.txt is that of the first one posed
    :param cloud: in the map frame, map units
    :param saved: the map for `load_map`; None where there is none
    :param metres: per map unit, 1 where unknown; all other results are written in metres
    """
    write_trajectories(writer.trajectory, trajectory, metres)
    writer.keyframes(
        KeyframeRecord(k.name, k.stamp_ns, k.index, se3.stretched(k.T_map_cam, metres), k.camera)
        for k in keyframes)
    for keyframe in keyframes:
        confidence = np.where(keyframe.inverse_depth > 0, keyframe.confidence, np.float32(0))
        writer.depth(keyframe.name, keyframe.depth() * np.float32(metres),
                     np.maximum(confidence, np.float32(NO_CONFIDENCE)))
    writer.cloud(cloud.scaled(metres))
    if saved is not None:
        write_map(writer.output / MAP_FILE, saved)


def write_trajectories(write: Callable[[Sequence[int], Sequence[Array], str], None],
                       trajectory: Sequence[tuple[TrackedFrame, Array]],
                       metres: float = 1.0) -> None:
    """
    Write the path of each camera; nothing mixes paths of several.

    :param write: takes stamps (ns) in order, poses (4, 4), and the name of the camera, '' for
        trajectory.txt
    :param trajectory: frames with their poses T_map_cam (4, 4), in any order
    :param metres: per map unit, 1 where unknown
    """
    paths: dict[str, dict[int, Array]] = {}
    for frame, T in trajectory:
        paths.setdefault(frame.camera_name, {})[frame.stamp_ns] = se3.stretched(T, metres)
    files = list(paths.items())
    for name, path in [('', files[0][1] if files else {}), *(files if len(files) > 1 else [])]:
        stamps_ns = sorted(path)
        write(stamps_ns, [path[s] for s in stamps_ns], name)
