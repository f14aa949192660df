# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What is published of an update: in which frame, in which unit, and when; in the worker's thread.

Where consumers take lengths for metres, nothing that has lengths is published before the metric
scale is known. When the published scale changes, the map, its path and graph, and the keyframes
that TF still reaches are published once more, and `~/scale` tells consumers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
import time

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.core.fusion import LiveCloud
from recon3r_ros.core.mask_refinement import refined
from recon3r_ros.core.motion import MotionConfig
from recon3r_ros.core.movers import moving_points, static_points
from recon3r_ros.core.reconstruction import Reconstruction
from recon3r_ros.core.types import (
    Frame,
    Keyframe,
    Map,
    MetricScale,
    PointCloud,
    TrackedFrame,
    Update,
)
from recon3r_ros.geometry import se3
from recon3r_ros.ros import conversions
from recon3r_ros.ros.diagnostics import scale_status
from recon3r_ros.ros.event_log import EventLog
from recon3r_ros.ros.extrinsics import Extrinsics
from recon3r_ros.ros.outputs import Outputs, PosedImage
from recon3r_ros.ros.parameters import Config
from recon3r_ros.ros.scale_gate import ScaleGate
from recon3r_ros.ros.transforms import broadcast, FrameNames, OdometryBuffer, T_rosmap_map

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Poses of ~/path at most, and seconds between two of them at least
MAX_PATH, PATH_PERIOD_S = 500, 1.0
#: Seconds between two clouds of dynamic objects at least: as often as costmaps look
MOVING_PERIOD_S = 0.2
#: Edge of the map's voxels where none is given, share of the depth at which the map began
VOXEL = 0.01
#: Two poses further apart in time than this say nothing about velocity
MAX_STEP_NS = 200_000_000
#: How far back consumers' TF buffers reach: tf2's default
TF_HISTORY_NS = 10_000_000_000


@dataclass
class _Latched:
    """
    A latched topic that is built from the map.

    :param period: seconds between two messages at least, unless somebody joins
    :param due: when the next one may follow (time.monotonic)
    :param shown: the map that was published last
    """

    topic: str
    period: float
    publish: Callable[[], None]
    due: float = 0.0
    shown: Map | None = None


def held_back(config: Config) -> str:
    """Say why lengths are not published while the scale is unknown, and what will change that."""
    sources = ' or '.join(config.scale_sources)
    return 'scale: unknown; poses, TF and clouds are held back until it is known from ' + (
        sources or 'nothing: set odometry, use_depth of a camera or a model that predicts metres, '
        'and a scale_source that allows it')


class Publication:
    """
    Publishes what a reconstruction found.

    :param config: the parameters
    :param motion: how masks are refined
    :param odometry: of the robot
    :param warn: told what the user should know, in one line
    """

    def __init__(self, config: Config, outputs: Outputs, extrinsics: Extrinsics,
                 motion: MotionConfig, odometry: OdometryBuffer, log: EventLog,
                 warn: Callable[[str], None]) -> None:
        self._config = config
        self._outputs = outputs
        self._extrinsics = extrinsics
        self._motion = motion
        self._odometry = odometry
        self._log = log
        self._warn = warn
        self._names = FrameNames(config.map_frame, config.odom_frame, config.base_frame,
                                 config.odometry)
        self._gate = ScaleGate(config.metres_demanded)
        self._latched = (
            _Latched('~/map', config.map_period, self._publish_map),
            _Latched('~/path', PATH_PERIOD_S, self._publish_path),
            _Latched('~/graph', 0.0, self._publish_graph))
        self._moving_due: dict[str, float] = {}
        self._problem = ''
        self._forget()
        outputs.scale(scale_status(self._gate))

    def _forget(self) -> None:
        self._T_rosmap_map: Array | None = None
        self._last_pose: dict[str, tuple[int, Array]] = {}
        self._stamp_ns = 0
        self._cloud, self._voxel_size = LiveCloud(), 0.0
        for latched in self._latched:
            latched.due, latched.shown = 0.0, None

    @property
    def notice(self) -> str:
        """What the user should know, or ''."""
        if self._gate.closed:
            return held_back(self._config)
        return self._problem

    def reset(self) -> None:
        """Take back from the latched topics a map that has been reset or replaced."""
        self._outputs.forget_map(self._stamp_ns)
        self._forget()
        self._log.forget()

    def restart_clock(self) -> None:
        """Time has gone back."""
        self._outputs.restart_clock()

    def update(self, update: Update, frame: Frame | None, metric: MetricScale | None) -> None:
        """
        Publish what one image, or a finished keyframe, changed.

        :param frame: the image; None where there is none
        :param metric: the scale as it is known now
        """
        if frame is not None:
            self._stamp_ns = max(self._stamp_ns, frame.stamp_ns)
        keyframe = update.keyframe
        if self._gate.update(metric):
            self._rescale(keyframe)
        becoming = {self._reconstruction.requested_ns,
                    None if keyframe is None else keyframe.stamp_ns}
        for tracked in sorted(update.frames, key=lambda f: f.stamp_ns):
            if not self._gate.closed:
                self._publish_pose(tracked)
            if tracked.mask is not None:
                self._publish_motion(tracked, frame, tracked.stamp_ns in becoming)
        if keyframe is not None:
            self._publish_keyframe(keyframe)
            self._log.mapped(self._reconstruction.map)

    def latched(self) -> None:
        """Publish latched topics that are due, or that somebody has joined."""
        self._extrinsics.settle()
        known = self._reconstruction.map
        for latched in self._latched:
            joined = self._outputs.joined(latched.topic)
            if self._gate.closed or not known.started or not self._outputs.wanted(latched.topic):
                continue
            now = time.monotonic()
            if joined or (known is not latched.shown and now >= latched.due):
                latched.due, latched.shown = now + latched.period, known
                latched.publish()

    def follow(self, reconstruction: Reconstruction) -> None:
        """Publish the map of this reconstruction from now on."""
        self._reconstruction = reconstruction

    def _rescale(self, newest: Keyframe | None) -> None:
        """
        Publish again, in the scale that is known now, what had another one or was held back.

        :param newest: keyframe that is about to be published, if any
        """
        self._outputs.scale(scale_status(self._gate))
        self._log.scaled(self._gate.metric)
        self._last_pose.clear()
        for latched in self._latched:
            latched.due, latched.shown = 0.0, None
        if self._gate.closed:
            return
        recent = [k for k in self._reconstruction.map.keyframes.values()
                  if self._stamp_ns - k.stamp_ns < TF_HISTORY_NS
                  and (newest is None or k.id != newest.id)]
        for keyframe in recent:
            self._publish_keyframe(keyframe)

    def _origin(self) -> Array:
        """Pose of the core's map in the ROS map frame; fixed once the map has begun."""
        if self._T_rosmap_map is not None:
            return self._T_rosmap_map
        known = self._reconstruction.map
        if not known.keyframes:
            return T_rosmap_map(None)
        first = next(iter(known.keyframes.values())).camera_name
        T = T_rosmap_map(self._extrinsics.T_base_cam(first))
        if known.started:
            self._T_rosmap_map = T
        return T

    def _in_metres(self, T_map_cam: Array) -> Array:
        return self._origin() @ se3.stretched(T_map_cam, self._gate.metres)

    def _publish_pose(self, tracked: TrackedFrame) -> None:
        camera, metric = tracked.camera_name, self._gate.metric
        frame_id = self._extrinsics.frame_id(camera)
        T_base_cam = self._extrinsics.T_base_cam(camera)
        T_map_cam = self._in_metres(self._reconstruction.pose_of(tracked))
        T_cam_body = np.eye(4) if T_base_cam is None else se3.inverse(T_base_cam)
        T_map_body = T_map_cam @ T_cam_body
        covariance = conversions.pose_covariance(
            tracked.covariance, T_map_cam, T_cam_body, self._gate.metres,
            0.0 if metric is None else metric.sigma, tuple(self._origin()[:3, 3].tolist()))
        # TF first: who hears the pose may look its transform up at once
        self._publish_transform(camera, tracked.stamp_ns, T_map_cam)
        self._outputs.pose(PosedImage(
            tracked.stamp_ns, frame_id, frame_id if T_base_cam is None else self._names.base,
            T_map_body, covariance, self._velocity(tracked, T_map_body)))

    def _publish_transform(self, camera: str, stamp_ns: int, T_map_cam: Array) -> None:
        if not self._config.publish_tf:
            return
        if self._names.base:
            frame_id, T_map_frame = self._extrinsics.frame_id(camera), T_map_cam
        else:
            # Drivers fix the optical frame of a camera to that of its housing
            frame_id, T_root_cam = self._extrinsics.fixed_root(camera)
            T_map_frame = T_map_cam @ se3.inverse(T_root_cam)
        found = broadcast(self._names, frame_id, T_map_frame, self._extrinsics.T_base_cam(camera),
                          self._odometry.at(stamp_ns) if self._names.odometry else None)
        if not isinstance(found, str):
            parent = self._extrinsics.parent_of(found.child)
            if parent:
                found = (f'{found.parent} -> {found.child} is not published: on TF {found.child} '
                         f'has the parent {parent} already; '
                         + ('set odometry to publish map -> odom' if self._names.base else
                            "set base_frame to the robot's body to publish map -> base_frame"))
        if isinstance(found, str):
            self._problem = found
            self._warn(found)
        else:
            self._problem = ''
            self._outputs.transform(found, stamp_ns)

    def _velocity(self, tracked: TrackedFrame, T_map_body: Array) -> Array | None:
        last = self._last_pose.get(tracked.camera_name)
        self._last_pose[tracked.camera_name] = (tracked.stamp_ns, T_map_body)
        if last is None or not 0 < tracked.stamp_ns - last[0] < MAX_STEP_NS:
            return None
        step = se3.log(se3.normalized(se3.inverse(last[1]) @ T_map_body))
        return np.roll(step, 3) / ((tracked.stamp_ns - last[0]) * 1e-9)

    def _publish_keyframe(self, keyframe: Keyframe) -> None:
        camera = keyframe.camera_name
        frame_id, lens = self._extrinsics.frame_id(camera), self._reconstruction.lens(camera)
        if self._gate.closed or not frame_id or lens is None:
            return
        # Where its image was posed before the scale was known, it has no transform yet
        self._publish_transform(camera, keyframe.stamp_ns, self._in_metres(keyframe.T_map_cam))
        self._outputs.keyframe(keyframe, self._gate.metres, frame_id,
                               lambda: lens.mask_to_source(keyframe.mask))

    def _publish_motion(self, tracked: TrackedFrame, frame: Frame | None, becomes_keyframe: bool
                        ) -> None:
        mask = tracked.mask
        assert mask is not None
        camera, frame_id = tracked.camera_name, self._extrinsics.frame_id(tracked.camera_name)
        own = frame if frame is not None and frame.stamp_ns == tracked.stamp_ns else None

        @cache
        def outlined() -> Mask:
            if own is None:
                return mask
            out = refined(self._motion.refiner, own.image, mask)
            return out if own.mask is None else out | own.mask

        self._outputs.mask(camera, outlined, tracked.stamp_ns, frame_id, becomes_keyframe)
        now = time.monotonic()
        if own is None or self._gate.closed or now < self._moving_due.get(camera, 0.0):
            return
        self._moving_due[camera] = now + MOVING_PERIOD_S
        self._publish_image_clouds(tracked, own, outlined, frame_id)

    def _publish_image_clouds(self, tracked: TrackedFrame, frame: Frame,
                              outlined: Callable[[], Mask], frame_id: str) -> None:
        """Publish where dynamic objects are, and the static scene around them."""
        camera, metres = tracked.camera_name, self._gate.metres
        lens = self._reconstruction.lens(camera)
        keyframe = self._reconstruction.map.keyframes.get(tracked.keyframe)
        if lens is None or keyframe is None:
            return
        T_cam_keyframe = se3.inverse(tracked.T_keyframe_cam)

        def build(points_of: Callable[..., PointCloud]) -> PointCloud:
            pinhole, measured = lens.camera, lens.depth(frame)
            return points_of(
                lens.mask_from_source(outlined(), (pinhole.height, pinhole.width)),
                lens.view(frame).image, pinhole,
                None if measured is None else measured / np.float32(metres), keyframe,
                T_cam_keyframe).scaled(metres)

        for name, points_of in (('dynamic', moving_points), ('static', static_points)):
            self._outputs.cloud(f'~/{camera}/{name}_points', partial(build, points_of),
                                tracked.stamp_ns, frame_id)

    def _publish_map(self) -> None:
        known = self._reconstruction.map
        voxel_size = self._config.voxel_size / self._gate.metres or self._default_voxel(known)
        self._outputs.map(lambda: self._cloud.update(known, voxel_size),
                          self._origin(), self._gate.metres, self._stamp_ns)

    def _publish_graph(self) -> None:
        self._outputs.graph(self._reconstruction.map, self._origin(), self._gate.metres,
                            self._stamp_ns)

    def _publish_path(self) -> None:
        poses = []
        for tracked, T_map_cam in self._reconstruction.trajectory(MAX_PATH):
            T_base_cam = self._extrinsics.T_base_cam(tracked.camera_name)
            T = self._in_metres(T_map_cam)
            poses.append((tracked.stamp_ns, T if T_base_cam is None
                          else T @ se3.inverse(T_base_cam)))
        self._outputs.path(sorted(poses, key=lambda p: p[0]), self._stamp_ns)

    def _default_voxel(self, known: Map) -> float:
        """Size of voxels where none is given, map units: fixed when the map begins."""
        if not self._voxel_size:
            first = next(iter(known.keyframes.values()))
            self._voxel_size = VOXEL * first.median_depth()
        return self._voxel_size
