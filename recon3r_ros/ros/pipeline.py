# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From an image that has arrived to what is published of it; all of it in the worker's thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import cache
import time

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.core import scale
from recon3r_ros.core.fusion import LiveCloud
from recon3r_ros.core.mapping_host import MapperProcess
from recon3r_ros.core.mask_refinement import refined
from recon3r_ros.core.motion import MotionConfig
from recon3r_ros.core.movers import moving_points
from recon3r_ros.core.reconstruction import Reconstruction
from recon3r_ros.core.saved_map import SavedMap
from recon3r_ros.core.types import (
    Frame,
    Map,
    MetricScale,
    PointCloud,
    TrackedFrame,
    TrackingState,
    Update,
)
from recon3r_ros.errors import InputError, Recon3rError
from recon3r_ros.geometry import se3
from recon3r_ros.plugins import mask_refiner
from recon3r_ros.ros import conversions
from recon3r_ros.ros.extrinsics import Extrinsics
from recon3r_ros.ros.inputs import Arrival, CameraInput
from recon3r_ros.ros.outputs import Outputs, PosedImage
from recon3r_ros.ros.parameters import Config
from recon3r_ros.ros.transforms import broadcast, FrameNames, OdometryBuffer, T_rosmap_map

Array = NDArray[np.float64]

#: Images of another size or lens in a row after which a camera is taken for changed
CHANGED_AFTER = 10
#: Poses of ~/path at most, and seconds between two of them at least
MAX_PATH, PATH_PERIOD_S = 500, 1.0
#: Seconds between two clouds of what moves at least: as often as costmaps look
MOVING_PERIOD_S = 0.2
#: Edge of the map's voxels where none is given, share of the depth at which the map began
VOXEL = 0.01
#: Two poses further apart in time than this say nothing about velocity
MAX_STEP_NS = 200_000_000
#: Latencies that medians are taken of
LATENCIES = 300


def motion_config(config: Config) -> MotionConfig:
    """Return what the parameters say of motion."""
    return MotionConfig(config.motion, mask_refiner(config.mask_refiner), config.rest_delay)


class Pipeline:
    """
    Feeds images to a reconstruction and publishes what comes of them.

    :param make_host: starts what makes keyframes
    :param warn: told what the user should know, in one line
    """

    def __init__(self, config: Config, make_host: Callable[[], MapperProcess], outputs: Outputs,
                 extrinsics: Extrinsics, warn: Callable[[str], None]) -> None:
        self.config = config
        self.odometry = OdometryBuffer()
        self.posed: dict[str, int] = {}
        self.ages: dict[str, float] = {}
        self.latencies: dict[str, deque[float]] = {}
        self.notice = ''
        self._make_host = make_host
        self._motion = motion_config(config)
        self._host = make_host()
        self._reconstruction = Reconstruction(host=self._host, motion=self._motion)
        self._outputs = outputs
        self._extrinsics = extrinsics
        self._warn = warn
        self._names = FrameNames(config.map_frame, config.odom_frame, config.base_frame,
                                 config.odometry)
        self._frame_ids: dict[str, str] = {}
        self._saved_metric: MetricScale | None = None
        self._changed: dict[str, int] = {}
        self._recent: dict[str, Frame] = {}
        self._last_pose: dict[str, tuple[int, Array]] = {}
        self._T_rosmap_map: Array | None = None
        self._stamp_ns = 0
        self._published: Map | None = None
        self._map_due = 0.0
        self._path_due = 0.0
        self._moving_due: dict[str, float] = {}
        self._cloud = LiveCloud()
        self._voxel_size: float | None = None

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
        r = self._reconstruction
        return scale.choose(self.config.scale_source, r.odometry_scale.estimate,
                            r.depth_scale.estimate, r.map.metric) or self._saved_metric

    def handle(self, arrival: Arrival) -> None:
        """
        Process one image.

        :raises Recon3rError: where what makes keyframes fails; the image is lost, the map is not
        """
        begin = time.monotonic()
        camera = arrival.camera
        self._revive()
        if arrival.reset:
            self.reset()
            self.odometry = OdometryBuffer()
            self._outputs.restart_clock()
        try:
            frame = camera.frame(arrival)
            if frame is None:
                return
            self._frame_ids[camera.name] = camera.frame_id
            self._check(frame)
            frame = self._with_odometry(frame)
            self.note('decode', time.monotonic() - begin)
            # What goes wrong with a keyframe is no reason to lose this image
            failure = self._settle()
            update = self._reconstruction.add(frame)
        except InputError as error:
            camera.reject(f'image at {arrival.stamp_ns}: {error}')
            return
        self._stamp_ns = max(self._stamp_ns, frame.stamp_ns)
        self._recent[camera.name] = frame
        self._publish(update, camera, frame, arrival)
        if update.times.track:
            self.note('tracking', update.times.track)
            self.note('motion', update.times.motion)
        self._publish_map()
        self.note('image', time.monotonic() - begin)
        if failure is not None:
            raise failure

    def idle(self) -> None:
        """Take over what has been made in the meantime; publish the map when it is due."""
        self._revive()
        failure = self._settle()
        self._publish_map()
        if failure is not None:
            raise failure

    def _settle(self) -> Exception | None:
        """Take over a keyframe that has been made; return what went wrong with it."""
        try:
            update = self._reconstruction.poll()
        except Exception as error:
            return error
        self._publish(update, None, None, None)
        return None

    def reset(self) -> None:
        """Forget the map."""
        self._reconstruction.reset()
        self._saved_metric = None
        self._last_pose.clear()
        self._stamp_ns = 0
        self._published, self._T_rosmap_map = None, None
        self._cloud, self._voxel_size = LiveCloud(), None

    def save(self) -> tuple[SavedMap, list[tuple[TrackedFrame, Array]]]:
        """
        Return all that is known, to be written elsewhere.

        :raises Recon3rError: where there is no map yet
        """
        if not self.map.started:
            raise Recon3rError('there is no map yet: move the camera until it tracks')
        saved = self._reconstruction.saved(self.metric)
        return saved, self._reconstruction.trajectory()

    def load(self, saved: SavedMap) -> None:
        """Go on in a saved map."""
        self.reset()
        self._reconstruction.restore(saved)
        self._saved_metric = saved.metric
        self._published = None

    def close(self) -> None:
        """Free everything."""
        self._host.close()

    def _revive(self) -> None:
        """Start what makes keyframes again if it has died; the map is kept."""
        if self._host.alive:
            return
        self._warn('the process that makes keyframes has ended: it is started again, the map kept')
        known, metric = self.map, self.metric
        self._host.close()
        self._host = self._make_host()
        self._reconstruction = Reconstruction(host=self._host, motion=self._motion)
        if known.started:
            self._reconstruction.restore(SavedMap.salvaged(known, metric))
            self._saved_metric = metric

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
        elif frame.camera is not None and not lens.calibrated and not self.map.started:
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

    def _with_odometry(self, frame: Frame) -> Frame:
        T_odom_base = self.odometry.at(frame.stamp_ns) if self.config.odometry else None
        if T_odom_base is None:
            return frame
        T_base_cam = self._T_base_cam(frame.camera_name)
        if T_base_cam is None:
            return frame
        return replace(frame, T_odom_cam=T_odom_base @ T_base_cam)

    def _T_base_cam(self, camera: str) -> Array | None:
        return self._extrinsics.of(camera, self._frame_ids.get(camera, ''))

    def _origin(self) -> Array:
        """Pose of the core's map in the ROS map frame; fixed once the map has begun."""
        if self._T_rosmap_map is not None:
            return self._T_rosmap_map
        keyframes = self.map.keyframes
        if not keyframes:
            return T_rosmap_map(None)
        first = next(iter(keyframes.values())).camera_name
        T = T_rosmap_map(self._T_base_cam(first))
        if self.map.started:
            self._T_rosmap_map = T
        return T

    def _in_metres(self, T_map_cam: Array) -> Array:
        return self._origin() @ se3.stretched(T_map_cam, self._metres)

    @property
    def _metres(self) -> float:
        metric = self.metric
        return 1.0 if metric is None else metric.value

    def _publish(self, update: Update, camera: CameraInput | None, frame: Frame | None,
                 arrival: Arrival | None) -> None:
        for tracked in sorted(update.frames, key=lambda f: f.stamp_ns):
            self._publish_pose(tracked)
            self.posed[tracked.camera_name] = self.posed.get(tracked.camera_name, 0) + 1
            if frame is not None and arrival is not None and tracked.stamp_ns == frame.stamp_ns:
                age = time.monotonic() - arrival.arrival_s
                self.ages[tracked.camera_name] = age
                self.note('arrival to pose', age)
            if tracked.mask is not None:
                self._publish_motion(tracked, frame)
        if update.keyframe is not None:
            self._outputs.keyframe(update.keyframe, self._metres,
                                   self._frame_ids[update.keyframe.camera_name])
            self._outputs.graph(self.map, self._origin(), self._metres, self._stamp_ns)
            now = time.monotonic()
            if self._outputs.wanted('~/path') and now >= self._path_due:
                self._path_due = now + PATH_PERIOD_S
                self._publish_path()

    def _publish_pose(self, tracked: TrackedFrame) -> None:
        frame_id = self._frame_ids[tracked.camera_name]
        T_base_cam = self._T_base_cam(tracked.camera_name)
        T_map_cam = self._in_metres(self._reconstruction.pose_of(tracked))
        T_cam_body = np.eye(4) if T_base_cam is None else se3.inverse(T_base_cam)
        T_map_body = T_map_cam @ T_cam_body
        metric = self.metric
        covariance = conversions.pose_covariance(
            tracked.covariance, T_map_cam, T_cam_body, self._metres,
            0.0 if metric is None else metric.sigma, tuple(self._origin()[:3, 3].tolist()))
        body = frame_id if T_base_cam is None else self.config.base_frame
        self._outputs.pose(PosedImage(tracked.stamp_ns, frame_id, body, T_map_body, covariance,
                                      self._velocity(tracked, T_map_body)))
        if not self.config.publish_tf:
            return
        found = broadcast(self._names, frame_id, T_map_cam, T_base_cam,
                          self.odometry.at(tracked.stamp_ns) if self.config.odometry else None)
        if isinstance(found, str):
            self.notice = found
            self._warn(found)
        else:
            self.notice = ''
            self._outputs.transform(found, tracked.stamp_ns)

    def _velocity(self, tracked: TrackedFrame, T_map_body: Array) -> Array | None:
        last = self._last_pose.get(tracked.camera_name)
        self._last_pose[tracked.camera_name] = (tracked.stamp_ns, T_map_body)
        if last is None or not 0 < tracked.stamp_ns - last[0] < MAX_STEP_NS:
            return None
        step = se3.log(se3.normalized(se3.inverse(last[1]) @ T_map_body))
        return np.roll(step, 3) / ((tracked.stamp_ns - last[0]) * 1e-9)

    def _publish_motion(self, tracked: TrackedFrame, frame: Frame | None) -> None:
        mask = tracked.mask
        assert mask is not None
        name, frame_id = tracked.camera_name, self._frame_ids[tracked.camera_name]
        own = frame if frame is not None and frame.stamp_ns == tracked.stamp_ns else None

        @cache
        def outlined() -> NDArray[np.bool_]:
            if own is None:
                return mask
            out = refined(self._motion.refiner, own.image, mask)
            return out if own.mask is None else out | own.mask

        self._outputs.mask(name, outlined, tracked.stamp_ns, frame_id)
        lens = self._reconstruction.lens(name)
        keyframe = self.map.keyframes.get(tracked.keyframe)
        if own is None or lens is None or keyframe is None:
            return
        now = time.monotonic()
        if now < self._moving_due.get(name, 0.0):
            return
        self._moving_due[name] = now + MOVING_PERIOD_S
        metres = self._metres

        def build() -> PointCloud:
            camera = lens.camera
            measured = lens.depth(own)
            return moving_points(
                lens.mask_from_source(outlined(), (camera.height, camera.width)),
                lens.view(own).image, camera,
                None if measured is None else measured / np.float32(metres), keyframe,
                se3.inverse(tracked.T_keyframe_cam)).scaled(metres)

        self._outputs.moving(name, build, tracked.stamp_ns, frame_id)

    def _publish_path(self) -> None:
        poses = []
        for tracked, T_map_cam in self._reconstruction.trajectory(MAX_PATH):
            T_base_cam = self._T_base_cam(tracked.camera_name)
            T = self._in_metres(T_map_cam)
            poses.append((tracked.stamp_ns, T if T_base_cam is None
                          else T @ se3.inverse(T_base_cam)))
        self._outputs.path(sorted(poses, key=lambda p: p[0]), self._stamp_ns)

    def _publish_map(self) -> None:
        newcomers = self._outputs.newcomers('~/map')
        if not self.map.started or not self._outputs.wanted('~/map'):
            return
        now = time.monotonic()
        if not newcomers and (now < self._map_due or self.map is self._published):
            return
        self._map_due = now + self.config.map_period
        self._published = known = self.map
        voxel_size = self.config.voxel_size / self._metres
        self._outputs.map(lambda: self._cloud.update(known, voxel_size or self._voxel(known)),
                          self._origin(), self._metres, self._stamp_ns)
        if newcomers:
            self._outputs.graph(known, self._origin(), self._metres, self._stamp_ns)
            self._publish_path()

    def _voxel(self, known: Map) -> float:
        """Size of voxels where none is given: fixed when the map begins."""
        if self._voxel_size is None:
            first = next(iter(known.keyframes.values()))
            depth = float(np.median(1 / first.landmarks[first.landmarks > 0]))
            self._voxel_size = VOXEL * depth
        return self._voxel_size

    def note(self, stage: str, seconds: float) -> None:
        """Remember how long something took."""
        self.latencies.setdefault(stage, deque(maxlen=LATENCIES)).append(seconds)
