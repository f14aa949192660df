# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Writes the maps of a run, each with its trajectory, depth, cameras and point cloud."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.cli.frame_depths import FrameDepths
from recon3r_ros.cli.input_images import InputImages
from recon3r_ros.cli.report import MapReport
from recon3r_ros.cli.results import write_results, write_trajectories
from recon3r_ros.errors import Recon3rError
from recon3r_ros.geometry import se3
from recon3r_ros.io.colmap import ColmapImage, is_representable, write_colmap
from recon3r_ros.io.labels import write_class_names
from recon3r_ros.io.source_cameras import SourceCamera
from recon3r_ros.io.trajectory import write_tum
from recon3r_ros.io.writer import ResultWriter, trajectory_file
from recon3r_ros.models.types import NO_CONFIDENCE
from recon3r_ros.slam.driver import Driver
from recon3r_ros.slam.imu.gravity import levelled, T_BODY_OPTICAL
from recon3r_ros.slam.keyframe_labels import KeyframeLabels
from recon3r_ros.slam.products.cloud import fuse
from recon3r_ros.slam.products.labels import labelled
from recon3r_ros.slam.products.object_association import ObjectAssociation
from recon3r_ros.slam.saved_map import SavedMap
from recon3r_ros.slam.types import Keyframe, PointCloud, TrackedFrame

#: Frames with the index and stamp of the input, and their poses T_map_cam (4, 4), map units
Trajectory = list[tuple[TrackedFrame, NDArray[np.float64]]]


class MapResults:
    """
    Writes what a driver's system has reconstructed, after the last frame.

    :param writer: of the run's folder
    :param driver: of the system, which has been finished
    :param images: of the run
    :param labels: of the keyframes
    :param depths: of other frames
    :param voxel_size: of the map, map units; None: chosen by the fusion
    :param warn: takes warnings, one line each
    """

    def __init__(self, writer: ResultWriter, driver: Driver, images: InputImages,
                 labels: KeyframeLabels, depths: FrameDepths, voxel_size: float | None,
                 warn: Callable[[str], None]) -> None:
        self._writer = writer
        self._driver = driver
        self._system = driver.system
        self._images = images
        self._labels = labels
        self._depths = depths
        self._voxel_size = voxel_size
        self._warn = warn

    def write(self, colmap: bool) -> tuple[MapReport, list[MapReport]]:
        """
        Write all maps; the largest becomes the present one.

        :param colmap: write a COLMAP model as well
        :return: the largest, and all of them where there are several
        """
        sizes = {known.number: len(self._system.trajectory(known=known))
                 for known in self._system.maps}
        smallest_first = sorted(sizes, key=lambda n: (sizes[n], -n))
        if len(sizes) < 2:
            for number in sizes:
                self._system.activate(number)
            return self._write_map([self._writer], colmap), []
        parts = []
        for number in smallest_first:
            self._system.activate(number)
            with ResultWriter(self._writer.output / f'map_{number}', masks=False) as writer:
                writer.images(self._images.in_order.values())
                largest = number == smallest_first[-1]
                parts.append(self._write_map(
                    [writer, self._writer] if largest else [writer], colmap))
        return parts[-1], sorted(parts, key=lambda part: part.number)

    def write_trajectory_alone(self) -> None:
        """Write only the paths of the cameras, without the writer, which has failed."""
        trajectory = self._trajectory()
        if trajectory:
            write_trajectories(
                lambda stamps_ns, poses, name: write_tum(
                    self._writer.output / trajectory_file(name), stamps_ns, poses),
                trajectory, self._metres)

    def _write_map(self, writers: list[ResultWriter], colmap: bool) -> MapReport:
        """Write the present map and its trajectory, to one or more folders."""
        known = self._system.map
        keyframes = list(known.keyframes.values()) if known.started else []
        trajectory = self._trajectory()
        cloud, saved = self._cloud_and_saved(keyframes)
        upright = self._upright()
        if upright is not None:
            keyframes = [replace(k, T_map_cam=upright @ k.T_map_cam) for k in keyframes]
            trajectory = [(f, upright @ T) for f, T in trajectory]
            cloud = replace(cloud, points=se3.transform(upright, cloud.points).astype(np.float32))
        for writer in writers:
            write_class_names(
                writer.output, () if cloud.labels is None else self._labels.names)
            write_results(writer, [self._images.as_given(k) for k in keyframes], trajectory,
                          cloud, saved, self._metres)
            for name, depth, confidence in self._depths.final(
                    [frame for frame, _ in trajectory], self._system.map):
                writer.depth(name, depth * np.float32(self._metres),
                             np.maximum(confidence, np.float32(NO_CONFIDENCE)))
            writer.source_cameras(self._cameras_of(trajectory))
            if colmap:
                self._write_colmap(writer.output, trajectory, cloud.scaled(self._metres))
        images = self._images.in_order
        names = [images[i].file_name for i in sorted({f.index for f, _ in trajectory})]
        return MapReport(
            self._system.map.number, len(names), len(keyframes), len(cloud), self._scale(),
            names[0] if names else '', names[-1] if names else '')

    def _cloud_and_saved(self, keyframes: list[Keyframe]) -> tuple[PointCloud, SavedMap | None]:
        """Fuse the points of the present map, in its frame and units; and make it for the file."""
        if not keyframes:
            return PointCloud.empty(), None
        # The mapping process makes the one meanwhile
        with ThreadPoolExecutor(1) as pool:
            pending = pool.submit(self._driver.saved)
            views = self._labels.views(self._system.map)
            cloud = labelled(fuse(keyframes, self._voxel_size), list(views.values()),
                             ObjectAssociation().update(views))
            try:
                saved = pending.result()
            except Recon3rError as error:
                self._warn(f'no map.npz: {error}')
                return cloud, None
        return cloud, replace(saved, labels=self._labels.saved(saved.map), map=replace(
            saved.map, keyframes={
                i: self._images.as_given(k) for i, k in saved.map.keyframes.items()}))

    def _trajectory(self) -> Trajectory:
        """Return the frames of the present map, with their poses."""
        return [(self._images.as_given(f), T) for f, T in self._system.trajectory()]

    def _upright(self) -> NDArray[np.float64] | None:
        """Pose (4, 4) of the map in a frame with z up and x ahead; None where up is unknown."""
        found = self._system.gravity()
        if found is None or not found.certain:
            return None
        return levelled(T_BODY_OPTICAL, found.up)

    @property
    def _metres(self) -> float:
        """Metres per map unit; 1 where that is unknown."""
        metric = self._driver.metric
        return 1.0 if metric is None else metric.value

    def _scale(self) -> str:
        metric = self._driver.metric
        if metric is None:
            return 'unknown'
        return f'metres, from the {metric.source}, within {100 * metric.sigma:.0f} %'

    def _write_colmap(self, output: Path, trajectory: Trajectory, cloud: PointCloud) -> None:
        known = self._system.map
        cameras = {name: self._images.source_camera(known, name)[0]
                   for name in self._images.first}
        if not all(camera is None or is_representable(camera) for camera in cameras.values()):
            self._warn('no COLMAP model: COLMAP has none of lenses with thin prism or tilt')
            return
        images, given = [], self._images.in_order
        for index, (frame, T) in sorted({f.index: (f, T) for f, T in trajectory}.items()):
            camera = cameras[frame.camera_name]
            if camera is not None:
                images.append(ColmapImage(given[index].file_name, camera,
                                          se3.stretched(T, self._metres)))
        write_colmap(output / 'colmap', images, cloud)

    def _cameras_of(self, trajectory: Trajectory) -> list[SourceCamera]:
        """Return the cameras of a map's images, in the order of their first ones."""
        found = []
        for name in self._images.first:
            camera, estimated = self._images.source_camera(self._system.map, name)
            images = tuple(sorted({f.index for f, _ in trajectory if f.camera_name == name}))
            if camera is not None and images:
                found.append(SourceCamera(name, camera, estimated, images))
        return found
