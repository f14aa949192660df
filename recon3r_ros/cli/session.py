# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One reconstruction from the first frame to the last file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import groupby, islice
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from recon3r_ros import __version__
from recon3r_ros.cli.frame_depths import FrameDepths
from recon3r_ros.cli.intervals import DROPPED, Interval, intervals, lines
from recon3r_ros.cli.report import MapReport, RunReport, Timings
from recon3r_ros.cli.results import write_results, write_trajectories
from recon3r_ros.errors import Recon3rError
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.base import causes, Sequence
from recon3r_ros.io.colmap import ColmapImage, is_representable, write_colmap
from recon3r_ros.io.labels import write_class_names
from recon3r_ros.io.memory import peak_memory_mb
from recon3r_ros.io.source_cameras import SourceCamera
from recon3r_ros.io.stamps import NS_PER_S
from recon3r_ros.io.trajectory import write_tum
from recon3r_ros.io.writer import ImageRecord, ResultWriter, trajectory_file
from recon3r_ros.models import registry
from recon3r_ros.models.types import NO_CONFIDENCE
from recon3r_ros.slam.backend.subprocess_executor import SubprocessExecutor
from recon3r_ros.slam.completion import Stretch
from recon3r_ros.slam.driver import Driver
from recon3r_ros.slam.dynamics.mask_refinement import grabcut, MaskRefiner, refined
from recon3r_ros.slam.frontend.causes import Cause
from recon3r_ros.slam.imu.gravity import levelled, T_BODY_OPTICAL
from recon3r_ros.slam.keyframe_labels import KeyframeLabels
from recon3r_ros.slam.products.cloud import fuse
from recon3r_ros.slam.products.labels import labelled
from recon3r_ros.slam.products.object_association import ObjectAssociation
from recon3r_ros.slam.system import System
from recon3r_ros.slam.types import (
    Frame,
    Keyframe,
    Map,
    PointCloud,
    StageTimes,
    TrackedFrame,
    TrackingState,
    Update,
)

_Stamped = TypeVar('_Stamped', TrackedFrame, Keyframe)

#: Relative change of a given focal length that is reported
REFINED_FOCAL = 0.01
#: Number of frames whose user masks are kept, for frames that get a pose later
MAX_GIVEN = 100


class Session:
    """
    Feeds frames to a driver, and is its sink: writes results and records statistics.

    :param sequence: the images
    :param writer: of the results
    :param system: without any frame yet
    :param model: name of the depth predictor
    :param voxel_size: of the map, map units; None: chosen by the fusion
    :param refiner: refines masks to the edges of the image; None leaves them coarse
    :param mapping: executor of the system
    :param masks_alone: neither map nor poses are wanted
    """

    def __init__(self, sequence: Sequence, writer: ResultWriter, system: System, model: str,
                 voxel_size: float | None, refiner: MaskRefiner | None,
                 mapping: SubprocessExecutor, masks_alone: bool = False) -> None:
        self._mapping = mapping
        self._masks_alone = masks_alone
        self.interrupted = False
        self._sequence = sequence
        self._writer = writer
        self._model = model
        self._voxel_size = voxel_size
        self._system = system
        self._driver = Driver(self._system, self)
        self._refiner = refiner
        self._begin = perf_counter()
        self._read_s = 0.0
        self._finish_s = 0.0
        self._smooth_s = 0.0
        self._complete_s = 0.0
        #: Of tracking after the last frame
        self._state: TrackingState | None = None
        self._posed: set[int] = set()
        self._causes: dict[int, str] = {}
        self._times: list[StageTimes] = []
        self._frame_s: list[float] = []
        self._frame_cpu_s: list[float] = []
        self._landmarks: list[int] = []
        self._warnings: list[str] = []
        self._count = 0
        self._stereo = 0
        self._finished = False
        self._first: dict[str, Frame] = {}  # by camera, in the order of their first images
        self._alike = True
        #: By the index in the order in which they are processed
        self._images: dict[int, ImageRecord] = {}
        self._given_masks: dict[int, NDArray[np.bool_]] = {}
        self._labels = KeyframeLabels(
            registry.spec(model).classes if sequence.class_names is None
            else sequence.class_names)
        self._depths = FrameDepths()

    def warn(self, text: str) -> None:
        """
        Add a warning to the report.

        :param text: the line
        """
        self._warnings.append(' '.join(text.split()))

    def instants(self) -> Iterator[list[Frame]]:
        """
        Iterate over the sequence and measure the time spent waiting for images.

        Frames of several cameras of a rig come together.
        """
        frames = groupby(self._sequence, lambda frame: (
            frame.index if frame.mount is None else f'instant {frame.mount.instant_ns}'))
        while True:
            begin = perf_counter()
            instant = next(([*group] for _, group in frames), None)
            self._read_s += perf_counter() - begin
            if instant is None:
                return
            yield instant

    def add(self, frames: list[Frame]) -> None:
        """
        Process the frames of an instant, and write their masks.

        :param frames: the next ones
        """
        for frame in frames:
            self._note_frame(frame)
        refused = self._driver.add_instant(frames)
        for frame in frames:
            self._note_labels(frame)
        for error in refused.values():
            raise error

    def _note_labels(self, frame: Frame) -> None:
        self._labels.note(frame, self._system.lens(frame.camera_name))
        self._labels.update(self._system.maps or [self._system.map])

    def _note_frame(self, frame: Frame) -> None:
        first = self._first.setdefault(frame.camera_name, frame)
        if self._alike:
            self._alike = np.array_equal(frame.image, first.image)
        self._count += 1
        self._stereo += frame.stereo is not None
        if frame.mask is not None:
            self._given_masks[frame.index] = frame.mask
            while len(self._given_masks) > MAX_GIVEN:
                del self._given_masks[next(iter(self._given_masks))]
        given = self._sequence.original(frame)
        self._images[frame.index] = ImageRecord(
            given.stamp_ns, self._sequence.file_name(frame), given.index)

    def update(self, update: Update, frame: Frame | None) -> None:
        """
        Write the masks of the processed frame, and of earlier ones that got a pose.

        :param frame: the processed frame; None at the end
        """
        frames = (*(() if update.unposed is None else (update.unposed,)), *update.frames,
                  *update.masked)
        if frame is not None:
            self._causes[frame.index] = update.cause
        self._posed.update(tracked.index for tracked in update.frames)
        if update.rendered is not None:
            for tracked in update.frames:
                if tracked.index == update.rendered.index:
                    self._depths.add(update.rendered, tracked)
        if frame is not None:
            self._note(update)
            if all(f.mask is None for f in frames if f.index == frame.index):
                self._writer.unknown_mask(frame.name, frame.image.shape[:2])
        for tracked in frames:
            if tracked.mask is None:
                continue
            mask = tracked.mask
            if frame is not None and tracked.index == frame.index:
                mask = refined(self._refiner, frame.image, mask)
            given = self._given_masks.get(tracked.index)
            self._writer.mask(tracked.name, mask if given is None else mask | given)

    def reset(self) -> None:
        """Do nothing: all maps are written at the end."""

    def _note(self, update: Update) -> None:
        times = update.times
        if times.track > 0:
            self._times.append(times)
        self._landmarks += [f.landmarks for f in update.frames if f.landmarks]
        if update.frames and update.keyframe is None:
            self._frame_s.append(times.total)
            self._frame_cpu_s.append(times.total_cpu)

    def complete(self, advance: Callable[[], None]) -> None:
        """
        Pose the images that have no pose: before the first map, and lost stretches.

        :param advance: called after each image that is read again
        """
        begin = perf_counter()
        self.update(self._system.follow_rig(), None)
        self._state = self._system.state
        posed = 1
        while posed:  # a new keyframe may place others
            posed = 0
            for number in [known.number for known in self._system.maps]:
                if not self._system.activate(number):
                    continue
                posed += sum(self._complete(name, stretches, advance)
                             for name, stretches in self._system.stretches().items() if stretches)
        self._complete_s = perf_counter() - begin

    def _complete(self, camera_name: str, stretches: list[Stretch], advance: Callable[[], None]
                  ) -> int:
        """Pose images of some stretches of a camera; return how many got a pose."""
        needed = {i for stretch in stretches for i in stretch.needed}
        last = max(needed)

        def again() -> Iterator[Frame]:
            for frame in self._sequence:
                if frame.index in needed and frame.camera_name == camera_name:
                    self._note_labels(frame)
                    yield frame
                if frame.index >= last:
                    return
                advance()

        update = self._system.complete(again(), camera_name)
        self.update(update, None)
        return len(update.frames)

    def finish(self) -> None:
        """Run the final refinement; only in the first call."""
        if self._finished:
            return
        self._finished = True
        begin = perf_counter()
        try:
            self._driver.finish()
        finally:
            self._finish_s = perf_counter() - begin

    def smooth_motion(self, advance: Callable[[], None]) -> None:
        """
        Recompute and write all masks, from earlier and later images.

        :param advance: called after each image, twice per image
        """
        def again(*camera_names: str) -> Iterator[Frame]:
            for frame in islice(self._sequence, self._count):
                if frame.camera_name in camera_names:
                    yield frame
                    advance()

        begin = perf_counter()
        masks: dict[int, NDArray[np.bool_]] = {}
        for name in self._first:
            if self._system.lens(name) is not None:
                masks.update(self._system.smooth_motion(again(name), name))
        self._smooth_s = perf_counter() - begin
        # These masks follow colours at their own resolution already
        refiner = None if self._refiner is grabcut else self._refiner
        keyframes = {k.index: k.id for k in self._keyframes()}
        unfit: dict[int, NDArray[np.bool_]] = {}
        for frame in again(*self._first):
            mask = masks.get(frame.index)
            lens = self._system.lens(frame.camera_name)
            if mask is None or lens is None:
                continue
            full = refined(refiner, frame.image, lens.mask_to_source(mask))
            self._writer.mask(frame.name, full if frame.mask is None else full | frame.mask)
            if frame.index in keyframes:
                unfit[keyframes[frame.index]] = mask | self._system.fixed(frame.camera_name)
        self._system.leave_out(unfit)

    def write(self, colmap: bool) -> RunReport:
        """
        Write all results except the masks, which are already written.

        :param colmap: write a COLMAP model as well
        :returns: the report, written last
        """
        begin = perf_counter()
        self._state = self._state or self._system.state
        self._labels.update(self._system.maps)
        self._writer.images(self._in_order.values())
        found, parts = self._write_maps(colmap)
        if parts:
            self.warn(f'{len(parts)} maps, which are not connected: images of several places, or '
                      'tracking was lost for long; results are those of map '
                      f'{found.number}, all are in map_N')
        posed = {f.index for known in self._system.maps or [self._system.map]
                 for f, _ in self._trajectory(known)}
        causes_of = {**self._causes, **dict.fromkeys(self._posed, DROPPED),
                     **dict.fromkeys(self._system.zoomed, Cause.ZOOMED.value)}
        unposed = [] if self._masks_alone else intervals(
            {i: image.file_name for i, image in self._in_order.items()}, posed,
            {self._images[i].index: cause for i, cause in causes_of.items()})
        self._warn_if_poor(unposed, found.points)
        if self._system.calibration_notice:
            self.warn(self._system.calibration_notice)
        inertial = self._system.inertial
        if inertial is not None and inertial.gyroscope_problem:
            self.warn(f'gyroscope ignored: {inertial.gyroscope_problem}')
        self._warn_of_refined_focal()
        self._writer.close()
        report = self._report(
            len(posed), found, tuple(parts), tuple(unposed), perf_counter() - begin)
        self._writer.report(report)
        return report

    def _write_maps(self, colmap: bool) -> tuple[MapReport, list[MapReport]]:
        """
        Write all maps; the largest becomes the present one.

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
                writer.images(self._in_order.values())
                largest = number == smallest_first[-1]
                parts.append(self._write_map(
                    [writer, self._writer] if largest else [writer], colmap))
        return parts[-1], sorted(parts, key=lambda part: part.number)

    def _write_map(self, writers: list[ResultWriter], colmap: bool) -> MapReport:
        """Write the present map and its trajectory, to one or more folders."""
        keyframes = self._keyframes()
        trajectory = self._trajectory()
        cloud, saved = PointCloud.empty(), None
        if keyframes:
            # The mapping process makes the one meanwhile
            with ThreadPoolExecutor(1) as pool:
                pending = pool.submit(self._driver.saved)
                views = self._labels.views(self._system.map)
                cloud = labelled(fuse(keyframes, self._voxel_size), list(views.values()),
                                 ObjectAssociation().update(views))
                try:
                    saved = pending.result()
                except Recon3rError as error:
                    self.warn(f'no map.npz: {error}')
        if saved is not None:
            saved = replace(saved, labels=self._labels.saved(saved.map), map=replace(
                saved.map, keyframes={
                    i: self._as_given(k) for i, k in saved.map.keyframes.items()}))
        upright = self._upright()
        if upright is not None:
            keyframes = [replace(k, T_map_cam=upright @ k.T_map_cam) for k in keyframes]
            trajectory = [(f, upright @ T) for f, T in trajectory]
            cloud = replace(cloud, points=se3.transform(upright, cloud.points).astype(np.float32))
        for writer in writers:
            write_class_names(
                writer.output, () if cloud.labels is None else self._labels.names)
            write_results(writer, [self._as_given(k) for k in keyframes], trajectory, cloud,
                          saved, self._metres)
            for name, depth, confidence in self._depths.final(
                    [frame for frame, _ in trajectory], self._system.map):
                writer.depth(name, depth * np.float32(self._metres),
                             np.maximum(confidence, np.float32(NO_CONFIDENCE)))
            writer.source_cameras(self._cameras_of(trajectory))
            if colmap:
                self._write_colmap(writer.output, trajectory, cloud.scaled(self._metres))
        images = self._in_order
        names = [images[i].file_name for i in sorted({f.index for f, _ in trajectory})]
        return MapReport(
            self._system.map.number, len(names), len(keyframes), len(cloud), self._scale(),
            names[0] if names else '', names[-1] if names else '')

    def write_trajectory_alone(self) -> None:
        """Write only the paths of the cameras, without the writer, which has failed."""
        trajectory = self._trajectory()
        if trajectory:
            write_trajectories(
                lambda stamps_ns, poses, name: write_tum(
                    self._writer.output / trajectory_file(name), stamps_ns, poses),
                trajectory, self._metres)

    @property
    def _in_order(self) -> dict[int, ImageRecord]:
        """The images in the order of the input, by their index in it."""
        images = sorted(self._images.values(), key=lambda image: image.index)
        return {image.index: image for image in images}

    def _as_given(self, item: _Stamped) -> _Stamped:
        """Return a frame or keyframe with its index and stamp in the input."""
        image = self._images[item.index]
        if (image.index, image.stamp_ns) == (item.index, item.stamp_ns):
            return item
        return replace(item, index=image.index, stamp_ns=image.stamp_ns)

    def _trajectory(self, known: Map | None = None
                    ) -> list[tuple[TrackedFrame, NDArray[np.float64]]]:
        """Return the frames of a map, as in the input, with their poses."""
        return [(self._as_given(f), T) for f, T in self._system.trajectory(known=known)]

    def _keyframes(self) -> list[Keyframe]:
        """Return the keyframes, none while there is no depth."""
        known = self._system.map
        return list(known.keyframes.values()) if known.started else []

    def _upright(self) -> NDArray[np.float64] | None:
        """Pose (4, 4) of the map in a frame with z up and x ahead; None where up is unknown."""
        found = self._system.gravity()
        if found is None or not found.certain:
            return None
        return levelled(T_BODY_OPTICAL, found.up)

    def _gravity(self) -> str:
        """Describe in words what the IMU says of gravity."""
        if self._system.inertial is None:
            return ''
        found = self._system.gravity()
        if found is None:
            return 'unknown: z of the results is not up'
        degrees = np.rad2deg(found.sigma)
        if not found.certain:
            return f'within {degrees:.1f} degrees only: z of the results is not up'
        return f'z is up, within {degrees:.1f} degrees, from {found.source}'

    @property
    def _metres(self) -> float:
        """Metres per map unit; 1 where that is unknown."""
        metric = self._driver.metric
        return 1.0 if metric is None else metric.value

    def _write_colmap(self, output: Path,
                      trajectory: list[tuple[TrackedFrame, NDArray[np.float64]]],
                      cloud: PointCloud) -> None:
        cameras = {name: self._source_camera(name)[0] for name in self._first}
        if not all(camera is None or is_representable(camera) for camera in cameras.values()):
            self.warn('no COLMAP model: COLMAP has none of lenses with thin prism or tilt')
            return
        images, given = [], self._in_order
        for index, (frame, T) in sorted({f.index: (f, T) for f, T in trajectory}.items()):
            camera = cameras[frame.camera_name]
            if camera is not None:
                images.append(ColmapImage(given[index].file_name, camera,
                                          se3.stretched(T, self._metres)))
        write_colmap(output / 'colmap', images, cloud)

    def _cameras_of(self, trajectory: list[tuple[TrackedFrame, NDArray[np.float64]]]
                    ) -> list[SourceCamera]:
        """Return the cameras of a map's images, in the order of their first ones."""
        found = []
        for name in self._first:
            camera, estimated = self._source_camera(name)
            images = tuple(sorted({f.index for f, _ in trajectory if f.camera_name == name}))
            if camera is not None and images:
                found.append(SourceCamera(name, camera, estimated, images))
        return found

    def _source_camera(self, camera_name: str | None = None) -> tuple[Camera | None, bool]:
        """
        Return the camera of the source images, if known, and whether it was estimated.

        :param camera_name: which camera; None for the first
        """
        name = camera_name or next(iter(self._first), '')
        first = self._first.get(name)
        if first is None:
            return None, False
        if first.camera is not None:
            factor, given = self._system.map.focal_refined, first.camera
            return replace(given, fx=given.fx * factor, fy=given.fy * factor), False
        keyframes = [k for k in self._keyframes() if k.camera_name == name]
        height, width = first.image.shape[:2]
        return (keyframes[-1].camera.resized(width, height) if keyframes else None), True

    def _warn_of_refined_focal(self) -> None:
        """Tell where measured depth has changed the focal length that was given."""
        first = next(iter(self._first.values()), None)
        factor = self._system.map.focal_refined
        if first is not None and first.camera is not None and abs(factor - 1) > REFINED_FOCAL:
            given = first.camera.fx
            self.warn(f'the focal length of {given:.4g} pixels that was given is refined to '
                      f'{factor * given:.4g} by the measured depth: check the calibration')

    def _warn_if_poor(self, unposed: list[Interval], points: int) -> None:
        started = self._system.map.started
        if not self._first:
            self.warn('no image could be used')
        elif self._count == 1 and not started:
            self.warn('only one image could be used: depth needs at least two from different '
                      'positions')
        elif self._alike and not started:
            self.warn(f'all {self._count} images are identical: depth needs images from different '
                      'positions')
        elif not self._masks_alone:
            if not started:
                self.warn('no map' if unposed else
                          'no map, but rotations: the camera only turned, or did not move')
            elif not points:
                self.warn('the map is empty: no depth has enough confidence')
            for line in lines(unposed):
                self.warn(line)

    def _scale(self) -> str:
        metric = self._driver.metric
        if metric is None:
            return 'unknown'
        return f'metres, from the {metric.source}, within {100 * metric.sigma:.0f} %'

    def _report(self, poses: int, found: MapReport, parts: tuple[MapReport, ...],
                unposed: tuple[Interval, ...], write_s: float) -> RunReport:
        camera, estimated = self._source_camera()
        stamps_ns = [image.stamp_ns for image in self._images.values()] or [0]
        timings = Timings(
            total_s=perf_counter() - self._begin, read_s=self._read_s,
            track_median_ms=_median_ms([t.track for t in self._times]),
            motion_median_ms=_median_ms([t.motion for t in self._times]),
            frame_median_ms=_median_ms(self._frame_s),
            keyframe_median_ms=_median_ms([t.wall_s for t in self._mapping.keyframe_times]),
            complete_s=self._complete_s, finish_s=self._finish_s, smooth_s=self._smooth_s,
            write_s=write_s,
            track_cpu_median_ms=_median_ms([t.track_cpu for t in self._times]),
            motion_cpu_median_ms=_median_ms([t.motion_cpu for t in self._times]),
            frame_cpu_median_ms=_median_ms(self._frame_cpu_s),
            keyframe_cpu_median_ms=_median_ms([t.cpu_s for t in self._mapping.keyframe_times]))
        return RunReport(
            version=__version__, model=self._model, input=self._sequence.name,
            frames_read=self._count, frames_tracked=poses,
            frames_skipped=len(self._sequence.skipped),
            landmarks_median=median(self._landmarks) if self._landmarks else None,
            keyframes=found.keyframes, points=found.points, maps=parts, unposed=unposed,
            fixed_percent=max((100 * float(self._system.fixed(name).mean())
                               for name in self._first
                               if self._system.lens(name) is not None), default=0.0),
            state=(self._state or self._system.state).value, scale=found.scale,
            gravity=self._gravity(),
            focal_pixels=None if camera is None else camera.fx, focal_estimated=estimated,
            sequence_s=(max(stamps_ns) - min(stamps_ns)) / NS_PER_S, timings=timings,
            peak_memory_mb=peak_memory_mb(self._mapping.pid), masks_alone=self._masks_alone,
            interrupted=self.interrupted,
            reordered=any(image.index != i for i, image in self._images.items()),
            skipped=tuple(causes(self._sequence.skipped)),
            warnings=(*self._sequence.notes, *self._warnings), frames_stereo=self._stereo)


def _median_ms(seconds: list[float]) -> float | None:
    return 1e3 * median(seconds) if seconds else None
