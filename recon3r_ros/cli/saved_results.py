# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Writes a map of the node as `recon3r run` does, so that `recon3r export` can read it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.cli.results import write_results
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.labels import write_class_names
from recon3r_ros.io.source_cameras import SourceCamera
from recon3r_ros.io.writer import ImageRecord, ResultWriter
from recon3r_ros.slam.products.cloud import fuse
from recon3r_ros.slam.products.labels import labelled, LabelledView
from recon3r_ros.slam.products.object_association import ObjectAssociation
from recon3r_ros.slam.saved_map import SavedMap
from recon3r_ros.slam.types import Keyframe, PointCloud, TrackedFrame

_Stamped = TypeVar('_Stamped', TrackedFrame, Keyframe)


@dataclass(frozen=True)
class SourceLens:
    """
    The lens of a camera whose images have been seen.

    :param camera: of the source images; initial where it is not calibrated
    :param calibrated: whether its intrinsics are known
    """

    camera: Camera
    calibrated: bool


@dataclass(frozen=True, eq=False)
class SavedResults:
    """
    A map, and what has been tracked in it.

    :param saved: the map
    :param trajectory: frames with their poses T_map_cam (4, 4)
    :param lenses: by camera; without those that only a loaded map has seen
    """

    saved: SavedMap
    trajectory: list[tuple[TrackedFrame, NDArray[np.float64]]]
    lenses: Mapping[str, SourceLens]


def write_saved(folder: Path, results: SavedResults) -> str:
    """
    Write a map, and all that `recon3r export` reads.

    Images are numbered in the order of their stamps: several cameras, and the runs that a map has
    been continued in, each count theirs from 0.

    :returns: what has been written, in words
    :raises OutputError: where it cannot be written
    """
    renamed = _Renamed(results)
    saved = replace(results.saved, map=replace(results.saved.map, keyframes={
        i: renamed.of(k) for i, k in results.saved.map.keyframes.items()}))
    keyframes = list(saved.map.keyframes.values())
    trajectory = [(renamed.of(frame), T) for frame, T in results.trajectory]
    with ResultWriter(folder) as writer:
        for keyframe in keyframes:
            writer.mask(keyframe.name, _mask(saved, keyframe, results.lenses))
        metres = 1.0 if saved.metric is None else saved.metric.value
        write_results(writer, keyframes, trajectory, _cloud(saved), saved, metres)
        write_class_names(folder, () if saved.labels is None else saved.labels.names)
        writer.images(renamed.images)
        writer.source_cameras(_cameras(saved, trajectory, results))
        writer.close()
        writer.report({'frames_tracked': len(trajectory), 'keyframes': len(keyframes),
                       'scale': 'unknown' if saved.metric is None else saved.metric})
    return f'map saved: {len(keyframes)} keyframes and {len(trajectory)} poses are in {folder}'


def _cloud(saved: SavedMap) -> PointCloud:
    """Return the points of a map, with classes and objects where it has labels."""
    keyframes = saved.map.keyframes
    images = {} if saved.labels is None else saved.labels.images
    views = {i: LabelledView(keyframes[i], labels) for i, labels in images.items()}
    return labelled(fuse(keyframes.values()), list(views.values()),
                    ObjectAssociation().update(views))


class _Renamed:
    """
    Names and numbers the images of all cameras as if they were one sequence.

    Names are those of recordings (`io.bag`): with several cameras, they begin with the camera's.
    """

    def __init__(self, results: SavedResults) -> None:
        frames = [frame for frame, _ in results.trajectory]
        items: list[Keyframe | TrackedFrame] = [
            *results.saved.map.keyframes.values(), *frames]
        self._several = len({item.camera_name for item in items}) > 1
        cameras = Counter(name for name, _ in {(i.name, i.camera_name) for i in items})
        self._shared = {name for name, count in cameras.items() if count > 1}
        found = {(i.stamp_ns, i.camera_name): self._name(i) for i in items}
        self._indices = {key: index for index, key in enumerate(sorted(found))}
        self.images = [ImageRecord(stamp_ns, f'{found[stamp_ns, camera]}.png', index)
                       for (stamp_ns, camera), index in self._indices.items()]

    def _name(self, item: TrackedFrame | Keyframe) -> str:
        live = self._several and item.name == str(item.stamp_ns)
        ambiguous = live or item.name in self._shared
        return f'{item.camera_name}_{item.name}' if ambiguous else item.name

    def of(self, item: _Stamped) -> _Stamped:
        """Return a frame or keyframe with its name and index."""
        return replace(item, name=self._name(item),
                       index=self._indices[item.stamp_ns, item.camera_name])


def _cameras(saved: SavedMap, trajectory: list[tuple[TrackedFrame, NDArray[np.float64]]],
             results: SavedResults) -> list[SourceCamera]:
    """
    Return the cameras of the images, in the order of their first ones.

    That of a loaded map which has not been seen since is the pinhole camera of its archived
    images, because files of maps do not hold the lens.
    """
    found = []
    frames = [frame for frame, _ in trajectory]
    keyframes = saved.map.keyframes.values()
    names = [*(f.camera_name for f in frames), *(k.camera_name for k in keyframes)]
    for name in dict.fromkeys(names):
        own = [k for k in keyframes if k.camera_name == name]
        lens = results.lenses.get(name)
        if lens is not None and lens.calibrated:
            factor, given = saved.map.focal_refined, lens.camera
            camera = replace(given, fx=given.fx * factor, fy=given.fy * factor)
        elif own:
            source = saved.views[own[-1].id].camera if lens is None else lens.camera
            camera = own[-1].camera.resized(source.width, source.height)
        else:
            continue  # nothing is known of its lens
        calibrated = saved.calibrated if lens is None else lens.calibrated
        images = sorted({f.index for f in frames if f.camera_name == name})
        found.append(SourceCamera(name, camera, not calibrated, tuple(images)))
    return found


def _mask(saved: SavedMap, keyframe: Keyframe, lenses: Mapping[str, SourceLens]
          ) -> NDArray[np.uint8]:
    """Return the dynamic mask of a keyframe as the source image shows it."""
    lens = lenses.get(keyframe.camera_name)
    source = saved.views[keyframe.id].camera if lens is None else lens.camera
    mask = cv2.resize(keyframe.mask.astype(np.uint8), (source.width, source.height),
                      interpolation=cv2.INTER_NEAREST)
    if not source.is_pinhole:
        mask = cv2.remap(mask, *source.distortion_maps(), cv2.INTER_NEAREST)
    return np.asarray(mask, np.uint8)
