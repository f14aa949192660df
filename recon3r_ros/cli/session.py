# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One reconstruction from the first frame to the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby, islice

import numpy as np
from numpy.typing import NDArray
from recon3r_ros import __version__
from recon3r_ros.cli.frame_depths import FrameDepths
from recon3r_ros.cli.input_images import InputImages
from recon3r_ros.cli.intervals import DROPPED, Interval, intervals, lines
from recon3r_ros.cli.map_results import MapResults
from recon3r_ros.cli.report import MapReport, RunReport
from recon3r_ros.cli.run_statistics import RunStatistics
from recon3r_ros.io.base import causes, Sequence
from recon3r_ros.io.memory import peak_memory_mb
from recon3r_ros.io.writer import ResultWriter
from recon3r_ros.models import registry
from recon3r_ros.slam.backend.subprocess_executor import SubprocessExecutor
from recon3r_ros.slam.completion import Stretch
from recon3r_ros.slam.driver import Driver
from recon3r_ros.slam.dynamics.mask_refinement import grabcut, MaskRefiner, refined
from recon3r_ros.slam.frontend.causes import Cause
from recon3r_ros.slam.keyframe_labels import KeyframeLabels
from recon3r_ros.slam.system import System
from recon3r_ros.slam.types import Frame, TrackingState, Update

#: Relative change of a given focal length that is reported
REFINED_FOCAL = 0.01
#: Number of frames whose user masks are kept, for frames that get a pose later
MAX_GIVEN = 100


class Session:
    """
    Feeds frames to a driver, is its sink, which writes masks, and reports when all is written.

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
        self._system = system
        self._driver = Driver(self._system, self)
        self._refiner = refiner
        self._statistics = RunStatistics()
        #: Of tracking after the last frame
        self._state: TrackingState | None = None
        self._posed: set[int] = set()
        self._causes: dict[int, str] = {}
        self._warnings: list[str] = []
        self._finished = False
        self._given_masks: dict[int, NDArray[np.bool_]] = {}
        self._images = InputImages(sequence)
        self._labels = KeyframeLabels(
            registry.spec(model).classes if sequence.class_names is None
            else sequence.class_names)
        self._depths = FrameDepths()
        self._results = MapResults(writer, self._driver, self._images, self._labels, self._depths,
                                   voxel_size, self.warn)

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
            with self._statistics.reading:
                instant = next(([*group] for _, group in frames), None)
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
        self._images.note(frame)
        if frame.mask is not None:
            self._given_masks[frame.index] = frame.mask
            while len(self._given_masks) > MAX_GIVEN:
                del self._given_masks[next(iter(self._given_masks))]

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
            self._statistics.note(update)
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

    def complete(self, advance: Callable[[], None]) -> None:
        """
        Pose the images that have no pose: before the first map, and lost stretches.

        :param advance: called after each image that is read again
        """
        with self._statistics.completing:
            self.update(self._system.follow_rig(), None)
            self._state = self._system.state
            posed = 1
            while posed:  # a new keyframe may place others
                posed = 0
                for number in [known.number for known in self._system.maps]:
                    if not self._system.activate(number):
                        continue
                    posed += sum(
                        self._complete(name, stretches, advance)
                        for name, stretches in self._system.stretches().items() if stretches)

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
        with self._statistics.finishing:
            self._driver.finish()

    def smooth_motion(self, advance: Callable[[], None]) -> None:
        """
        Recompute and write all masks, from earlier and later images.

        :param advance: called after each image, twice per image
        """
        def again(*camera_names: str) -> Iterator[Frame]:
            for frame in islice(self._sequence, self._images.count):
                if frame.camera_name in camera_names:
                    yield frame
                    advance()

        masks: dict[int, NDArray[np.bool_]] = {}
        with self._statistics.smoothing:
            for name in self._images.first:
                if self._system.lens(name) is not None:
                    masks.update(self._system.smooth_motion(again(name), name))
        # These masks follow colours at their own resolution already
        refiner = None if self._refiner is grabcut else self._refiner
        known = self._system.map
        keyframes = {k.index: k.id for k in known.keyframes.values()} if known.started else {}
        unfit: dict[int, NDArray[np.bool_]] = {}
        for frame in again(*self._images.first):
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
        with self._statistics.writing:
            self._state = self._state or self._system.state
            self._labels.update(self._system.maps)
            images = self._images.in_order
            self._writer.images(images.values())
            found, parts = self._results.write(colmap)
            if parts:
                self.warn(f'{len(parts)} maps, which are not connected: images of several places, '
                          'or tracking was lost for long; results are those of map '
                          f'{found.number}, all are in map_N')
            posed = {self._images.index_of(f.index)
                     for known in self._system.maps or [self._system.map]
                     for f, _ in self._system.trajectory(known=known)}
            unposed = [] if self._masks_alone else intervals(
                {i: image.file_name for i, image in images.items()}, posed,
                self._causes_by_input())
            self._warn_if_poor(unposed, found.points)
            if self._system.calibration_notice:
                self.warn(self._system.calibration_notice)
            inertial = self._system.inertial
            if inertial is not None and inertial.gyroscope_problem:
                self.warn(f'gyroscope ignored: {inertial.gyroscope_problem}')
            self._warn_of_refined_focal()
            self._writer.close()
        report = self._report(len(posed), found, tuple(parts), tuple(unposed))
        self._writer.report(report)
        return report

    def write_trajectory_alone(self) -> None:
        """Write only the paths of the cameras, without the writer, which has failed."""
        self._results.write_trajectory_alone()

    def _causes_by_input(self) -> dict[int, str]:
        """Why images may have no pose, by their index in the input."""
        by_frame = {**self._causes, **dict.fromkeys(self._posed, DROPPED),
                    **dict.fromkeys(self._system.zoomed, Cause.ZOOMED.value)}
        return {self._images.index_of(i): cause for i, cause in by_frame.items()}

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

    def _warn_of_refined_focal(self) -> None:
        """Tell where measured depth has changed the focal length that was given."""
        first = next(iter(self._images.first.values()), None)
        factor = self._system.map.focal_refined
        if first is not None and first.camera is not None and abs(factor - 1) > REFINED_FOCAL:
            given = first.camera.fx
            self.warn(f'the focal length of {given:.4g} pixels that was given is refined to '
                      f'{factor * given:.4g} by the measured depth: check the calibration')

    def _warn_if_poor(self, unposed: list[Interval], points: int) -> None:
        started = self._system.map.started
        if not self._images.first:
            self.warn('no image could be used')
        elif self._images.count == 1 and not started:
            self.warn('only one image could be used: depth needs at least two from different '
                      'positions')
        elif self._images.alike and not started:
            self.warn(f'all {self._images.count} images are identical: depth needs images from '
                      'different positions')
        elif not self._masks_alone:
            if not started:
                self.warn('no map' if unposed else
                          'no map, but rotations: the camera only turned, or did not move')
            elif not points:
                self.warn('the map is empty: no depth has enough confidence')
            for line in lines(unposed):
                self.warn(line)

    def _report(self, poses: int, found: MapReport, parts: tuple[MapReport, ...],
                unposed: tuple[Interval, ...]) -> RunReport:
        camera, estimated = self._images.source_camera(self._system.map)
        return RunReport(
            version=__version__, model=self._model, input=self._sequence.name,
            frames_read=self._images.count, frames_tracked=poses,
            frames_skipped=len(self._sequence.skipped),
            landmarks_median=self._statistics.landmarks_median,
            keyframes=found.keyframes, points=found.points, maps=parts, unposed=unposed,
            fixed_percent=max((100 * float(self._system.fixed(name).mean())
                               for name in self._images.first
                               if self._system.lens(name) is not None), default=0.0),
            state=(self._state or self._system.state).value, scale=found.scale,
            gravity=self._gravity(),
            focal_pixels=None if camera is None else camera.fx, focal_estimated=estimated,
            sequence_s=self._images.duration_s,
            timings=self._statistics.timings(self._mapping.keyframe_times),
            peak_memory_mb=peak_memory_mb(self._mapping.pid), masks_alone=self._masks_alone,
            interrupted=self.interrupted, reordered=self._images.reordered,
            skipped=tuple(causes(self._sequence.skipped)),
            warnings=(*self._sequence.notes, *self._warnings), frames_stereo=self._images.stereo)
