# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From an image that has arrived to an update of the map; all of it in the worker's thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
import time
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError, Recon3rError
from recon3r_ros.plugins import mask_refiner
from recon3r_ros.ros.event_log import EventLog
from recon3r_ros.ros.extrinsics import Extrinsics
from recon3r_ros.ros.inputs import Arrival, CameraInput
from recon3r_ros.ros.outputs import Outputs
from recon3r_ros.ros.parameters import Config
from recon3r_ros.ros.publication import Publication
from recon3r_ros.ros.tf_tree import TfTree
from recon3r_ros.ros.transforms import OdometryBuffer
from recon3r_ros.slam.backend.mapping_host import MapperProcess
from recon3r_ros.slam.dynamics.motion import MotionConfig
from recon3r_ros.slam.saved_map import SavedMap
from recon3r_ros.slam.system import Reconstruction
from recon3r_ros.slam.types import (
    Frame,
    Map,
    MetricScale,
    TrackedFrame,
    TrackingState,
    Update,
)

T = TypeVar('T')

#: Images of another size or lens in a row after which a camera is taken for changed
CHANGED_AFTER = 10
#: Latencies that medians are taken of
LATENCIES = 300


def motion_config(config: Config) -> MotionConfig:
    """Return what the parameters say of motion."""
    return MotionConfig(config.motion, mask_refiner(config.mask_refiner), config.rest_delay)


class Pipeline:
    """
    Feeds images to a reconstruction and has the outcome published.

    :param make_host: starts the mapping process
    :param info: told what happens, in one line
    :param warn: told what the user should know, in one line
    """

    def __init__(self, config: Config, make_host: Callable[[], MapperProcess], outputs: Outputs,
                 tree: TfTree, extrinsics: Extrinsics, info: Callable[[str], None],
                 warn: Callable[[str], None]) -> None:
        self.config = config
        self.odometry = OdometryBuffer()
        self.posed: dict[str, int] = {}
        self.ages: dict[str, float] = {}
        self.latencies: dict[str, deque[float]] = {}
        self._make_host = make_host
        self._motion = motion_config(config)
        self._host = make_host()
        self._reconstruction = Reconstruction(host=self._host, motion=self._motion)
        self._extrinsics = extrinsics
        self._info = info
        self._warn = warn
        self._log = EventLog(info)
        self.publication = Publication(
            config, outputs, tree, extrinsics, self._motion, self.odometry, self._log, warn)
        self.publication.follow(self._reconstruction)
        self._saved_metric: MetricScale | None = None
        self._changed: dict[str, int] = {}

    @property
    def map(self) -> Map:
        """The map as it is known now."""
        return self._reconstruction.map

    @property
    def host_pid(self) -> int:
        """Of the process that makes keyframes."""
        return self._host.pid

    def state_of(self, camera: str) -> TrackingState | None:
        """State of one camera's tracker; None before its first frame."""
        return self._reconstruction.state_of(camera)

    @property
    def metric(self) -> MetricScale | None:
        """Metres per map unit, where known."""
        return self._reconstruction.metric(self.config.scale_source) or self._saved_metric

    def handle(self, arrival: Arrival) -> None:
        """
        Process one image.

        :raises Recon3rError: where the mapping process fails; the image is lost, the map is not
        """
        begin = time.monotonic()
        camera = arrival.camera
        self._revive()
        if arrival.reset:
            self.reset()
            self.odometry.clear()
            self.publication.restart_clock()
        try:
            frame = camera.frame(arrival)
            if frame is None:
                return
            self._meet(camera, frame)
            self._check(frame)
            frame = self._with_odometry(frame)
            self.note('decode', time.monotonic() - begin)
            # What goes wrong with a keyframe is no reason to lose this image
            failure = self._settle()
            update = self._reconstruction.add(frame)
        except InputError as error:
            camera.reject(f'image at {arrival.stamp_ns}: {error}')
            return
        self._publish(update, frame)
        self._count(update, frame, arrival)
        self.publication.latched()
        self.note('image', time.monotonic() - begin)
        if failure is not None:
            raise failure

    def idle(self) -> None:
        """Take over what has been made in the meantime; publish what is due."""
        self._revive()
        failure = self._settle()
        self.publication.latched()
        if failure is not None:
            raise failure

    def _settle(self) -> Exception | None:
        """Take over a keyframe that has been made; return what went wrong with it."""
        try:
            update = self._reconstruction.poll()
        except Exception as error:
            return error
        self._publish(update, None)
        self._count(update, None, None)
        return None

    def _publish(self, update: Update, frame: Frame | None) -> None:
        changed = {tracked.camera_name for tracked in update.frames}
        if frame is not None:
            changed.add(frame.camera_name)
        for camera in sorted(changed):
            self._log.tracked(camera, self.state_of(camera), self.map)
        self.publication.update(update, frame, self.metric)

    def _count(self, update: Update, frame: Frame | None, arrival: Arrival | None) -> None:
        """Take note of poses and of how long they took, for diagnostics."""
        for tracked in update.frames:
            camera = tracked.camera_name
            self.posed[camera] = self.posed.get(camera, 0) + 1
            if frame is not None and arrival is not None and tracked.stamp_ns == frame.stamp_ns:
                self.ages[camera] = time.monotonic() - arrival.arrival_s
                self.note('arrival to pose', self.ages[camera])
        if update.times.track:
            self.note('tracking', update.times.track)
            self.note('motion', update.times.motion)

    def _meet(self, camera: CameraInput, frame: Frame) -> None:
        """Take note of a camera's frame; greet it at its first image."""
        if not self._extrinsics.frame_id(camera.name):
            height, width = frame.image.shape[:2]
            lens = 'no intrinsics' if frame.camera is None else (
                f'focal length {frame.camera.fx:.1f} pixels')
            self._info(f'{camera.name}: first image, {width}x{height}, {lens}, frame '
                       f'{camera.frame_id}')
        self._extrinsics.see(camera.name, camera.frame_id)

    def reset(self) -> None:
        """Forget the map."""
        self._with_mapper(lambda: self._reconstruction.reset())
        self._saved_metric = None
        self.publication.reset()

    def save(self) -> tuple[SavedMap, list[tuple[TrackedFrame, NDArray[np.float64]]]]:
        """
        Return all that is known, to be written elsewhere.

        :raises Recon3rError: where there is no map yet
        """
        if not self.map.started:
            raise Recon3rError('there is no map yet: move the camera until it tracks')
        saved = self._with_mapper(lambda: self._reconstruction.saved(self.metric))
        return saved, self._reconstruction.trajectory()

    def load(self, saved: SavedMap) -> None:
        """Go on in a saved map."""
        self.reset()
        self._with_mapper(lambda: self._reconstruction.restore(saved))
        self._saved_metric = saved.metric
        self._log.restored(self.map)

    def _with_mapper(self, order: Callable[[], T]) -> T:
        """Do what needs the mapping process, once more where that has just ended."""
        self._revive()
        try:
            return order()
        except Recon3rError:
            if self._host.alive:
                raise
        self._revive()
        return order()

    def close(self) -> None:
        """Free everything."""
        self._host.close()

    def _revive(self) -> None:
        """Start the mapping process again if it has died; the map is kept."""
        if self._host.alive:
            return
        self._warn('the mapping process has ended: it is started again, the map kept')
        known, metric = self.map, self.metric
        self._host.close()
        self._host = self._make_host()
        self._reconstruction = Reconstruction(host=self._host, motion=self._motion)
        if known.started:
            self._reconstruction.restore(SavedMap.salvaged(known, metric))
            self._saved_metric = metric
        self.publication.follow(self._reconstruction)

    def _check(self, frame: Frame) -> None:
        """Refuse images unlike those before; when they go on, the camera has changed."""
        lens = self._reconstruction.lens(frame.camera_name)
        if lens is None:
            return
        height, width = frame.image.shape[:2]
        problem = ''
        if (width, height) != (lens.source.width, lens.source.height):
            problem = (f'has {width}x{height} pixels, those before '
                       f'{lens.source.width}x{lens.source.height}')
        elif frame.camera is not None and lens.calibrated and frame.camera != lens.source:
            problem = 'comes with another camera_info than those before'
        elif frame.camera is not None and not lens.calibrated:
            if self.map.started:
                self._late_info(frame, lens.camera.fx)
            else:
                self._reconstruction.forget(frame.camera_name)
        if not problem:
            self._changed[frame.camera_name] = 0
            return
        self._changed[frame.camera_name] = self._changed.get(frame.camera_name, 0) + 1
        if self._changed[frame.camera_name] < CHANGED_AFTER:
            raise InputError(f'{problem}: not used')
        self._warn(f'{frame.camera_name}: {CHANGED_AFTER} images in a row: {problem}: taken for a '
                   'new camera')
        self._changed[frame.camera_name] = 0
        self._reconstruction.forget(frame.camera_name)

    def _late_info(self, frame: Frame, focal: float) -> None:
        """Say that a map was started without the intrinsics that there are now."""
        assert frame.camera is not None
        self._warn(f'{frame.camera_name}: camera_info came after the map had been started with an '
                   f'estimated focal length, now {focal:.1f} pixels; camera_info says '
                   f'{frame.camera.fx:.1f}: call ~/reset to use it')

    def _with_odometry(self, frame: Frame) -> Frame:
        T_odom_base = self.odometry.at(frame.stamp_ns) if self.config.odometry else None
        if T_odom_base is None:
            return frame
        T_base_cam = self._extrinsics.T_base_cam(frame.camera_name, frame.stamp_ns)
        if T_base_cam is None:
            return frame
        return replace(frame, T_odom_cam=T_odom_base @ T_base_cam)

    def note(self, stage: str, seconds: float) -> None:
        """Remember how long something took."""
        self.latencies.setdefault(stage, deque(maxlen=LATENCIES)).append(seconds)
