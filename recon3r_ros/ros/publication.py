# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What is published of an update: in which frame, in which unit, and when; in the worker's thread.

Where consumers expect metres, no cloud, depth, pose or transform is published before the metric
scale is known. When the published scale changes, `~/scale` tells consumers, and the map, its path
and graph, and the keyframes that TF still reaches are published in the new scale.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
import time

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import se3
from recon3r_ros.ros import conversions
from recon3r_ros.ros.diagnostics import classes_status, scale_status
from recon3r_ros.ros.event_log import EventLog
from recon3r_ros.ros.extrinsics import Extrinsics
from recon3r_ros.ros.frames import Frames
from recon3r_ros.ros.outputs import Outputs, PosedImage
from recon3r_ros.ros.parameters import Config
from recon3r_ros.ros.scale_gate import held_back, ScaleGate
from recon3r_ros.ros.seen_image import SeenImage
from recon3r_ros.ros.statistics import Statistics
from recon3r_ros.ros.tf_tree import TfTree
from recon3r_ros.ros.transforms import OdometryBuffer, T_rosmap_map, unplaced
from recon3r_ros.ros.upright import Upright
from recon3r_ros.slam.backend.stereo_depth import StereoDepth
from recon3r_ros.slam.dynamics.boxes import boxes
from recon3r_ros.slam.dynamics.movers import moving_points, static_points
from recon3r_ros.slam.dynamics.outlines import Outlines
from recon3r_ros.slam.frontend.rectification import Rectifier
from recon3r_ros.slam.keyframe_labels import KeyframeLabels
from recon3r_ros.slam.people_boxes import person_boxes
from recon3r_ros.slam.people_tracks import PeopleTracks
from recon3r_ros.slam.products.cloud import LiveCloud
from recon3r_ros.slam.products.labels import LabelledCloud
from recon3r_ros.slam.products.object_association import ObjectAssociation
from recon3r_ros.slam.products.product import Product
from recon3r_ros.slam.saved_map import SavedLabels
from recon3r_ros.slam.semantics import People
from recon3r_ros.slam.system import System
from recon3r_ros.slam.types import (
    Frame,
    Keyframe,
    Map,
    MetricScale,
    PointCloud,
    TrackedFrame,
    Update,
)
from recon3r_ros.slam.visibility import Surface

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Poses of ~/path at most, and seconds between two of them at least
MAX_PATH, PATH_PERIOD_S = 500, 1.0
#: Least seconds between two clouds of an image: the rate of costmaps
CLOUD_PERIOD_S = 0.2
#: Two poses further apart in time than this give no velocity
MAX_STEP_NS = 200_000_000
#: How far back consumers' TF buffers reach: tf2's default
TF_HISTORY_NS = 10_000_000_000


@dataclass
class _Latched:
    """
    A latched topic that is built from the map.

    :param period: least seconds between two messages, unless a subscriber joins
    :param due: when the next one may follow (time.monotonic)
    :param shown: the map that was published last
    """

    topic: str
    period: float
    publish: Callable[[], None]
    due: float = 0.0
    shown: Map | None = None


class Publication:
    """
    Publishes what a system found; its sink.

    :param config: the parameters
    :param odometry: of the robot
    :param warn: called with a warning of one line
    """

    def __init__(self, config: Config, system: System, outputs: Outputs, tree: TfTree,
                 extrinsics: Extrinsics, odometry: OdometryBuffer,
                 statistics: Statistics, log: EventLog, warn: Callable[[str], None]) -> None:
        self._config = config
        self._system = system
        self._outputs = outputs
        self._tree = tree
        self._extrinsics = extrinsics
        self._statistics = statistics
        self._log = log
        self._warn = warn
        self._frames = Frames(config, tree, extrinsics, odometry)
        self._names = self._frames.names
        self._gate = ScaleGate(config.metres_demanded)
        self._upright = Upright(bool(config.imu_topic), system)
        self._latched = (
            _Latched('~/map', config.map_period, self._publish_map),
            _Latched('~/path', PATH_PERIOD_S, self._publish_path),
            _Latched('~/graph', 0.0, self._publish_graph))
        self._clouds_due: dict[str, float] = {}
        #: Of images' clouds: used in the outputs' thread alone
        self._stereo = StereoDepth()
        self._problem = ''
        self.labels = KeyframeLabels(config.classes)
        for camera, names in outputs.given_class_names.items():
            self.labels.name(camera, names)
        #: Whether names of classes have been published
        self._named = False
        self._forget()

    def configure(self, config: Config) -> None:
        """Take over parameters that have been changed while the node runs."""
        resized = config.voxel_size != self._config.voxel_size
        self._config = config
        if resized:
            self._cloud = self._new_cloud()
        self._tree.publish_tf = config.publish_tf
        self._latched[0].period = config.map_period
        self._latched[0].due, self._latched[0].shown = 0.0, None

    def activate(self, active: bool) -> None:
        """Publish from now on, or nothing more."""
        self._outputs.active = self._tree.active = active
        if active:
            self._outputs.scale(scale_status(self._gate))
            self._publish_classes()
            for latched in self._latched:
                latched.due, latched.shown = 0.0, None

    def _forget(self) -> None:
        self._T_rosmap_map: Array | None = None
        self._upright.forget()
        #: Whether keyframes wait for gravity
        self._held_back = False
        self._last_pose: dict[str, tuple[int, Array]] = {}
        self._outlines: defaultdict[str, Outlines] = defaultdict(Outlines)
        self._stamp_ns = 0
        #: Used in the outputs' thread alone
        self._people = PeopleTracks()
        self._objects = ObjectAssociation()
        self._cloud = self._new_cloud()
        for latched in self._latched:
            latched.due, latched.shown = 0.0, None

    @property
    def metric(self) -> MetricScale | None:
        """The published scale; None where it is unknown."""
        return self._gate.metric

    @property
    def gravity(self) -> str:
        """Say whether z of the map is up, by an IMU; '' without one."""
        return self._upright.status

    @property
    def notice(self) -> str:
        """Warnings for the user, or ''."""
        if self._gate.closed:
            return '; '.join(filter(None, (held_back(self._config), self._problem)))
        return self._problem

    @property
    def _closed(self) -> bool:
        """Whether outputs with lengths are held back."""
        return self._gate.closed or self._origin() is None

    def reset(self) -> None:
        """Clear the latched topics of a map that has been reset or replaced."""
        self._outputs.forget_map(self._stamp_ns)
        self._tree.restart(clock=False)
        self._forget()
        self._log.forget()

    def restore_labels(self, saved: SavedLabels | None) -> None:
        """Take over the label images of a saved map, or forget all where there are none."""
        try:
            self.labels.restore(saved)
        except InputError as error:
            self._warn(str(error))
        self._publish_classes()

    def name_classes(self, camera: str, names: tuple[str, ...]) -> None:
        """Take over the names of the classes of one camera's labels."""
        self._outputs.name_classes(camera, names)
        try:
            self.labels.name(camera, names)
        except InputError as error:
            self._warn(str(error))
        self._publish_classes()

    def _publish_classes(self) -> None:
        """Publish the names of the classes; also that there are none any more."""
        names = self.labels.names
        if names or self._named:
            self._named = bool(names)
            self._outputs.classes(classes_status(names))

    def restart_clock(self) -> None:
        """Time has gone back."""
        self._outputs.restart_clock()
        self._tree.restart(clock=True)

    def update(self, update: Update, frame: Frame | None) -> None:
        """
        Publish what one image, or a finished keyframe, changed.

        :param frame: the image; None where there is none
        """
        changed = {tracked.camera_name for tracked in update.frames}
        if frame is not None:
            self.labels.note(frame, self._system.lens(frame.camera_name))
        self.labels.update((*self._system.maps, self._system.map))
        if frame is not None:
            self._stamp_ns = max(self._stamp_ns, frame.stamp_ns)
            changed.add(frame.camera_name)
        for camera in sorted(changed):
            self._log.tracked(camera, self._system.state_of(camera), self._system.map)
        self._statistics.count(update)
        keyframe = update.keyframe
        before = self._gate.metric
        if self._gate.update(self._system.metric(self._config.scale_source)):
            self._rescale(before, keyframe)
        elif self._held_back and not self._closed:
            self._publish_recent(keyframe)
        self._held_back = bool(self._upright.status) and self._closed
        becoming = {self._system.requested_ns,
                    None if keyframe is None else keyframe.stamp_ns}
        for tracked in sorted(update.frames, key=lambda f: f.stamp_ns):
            if not self._closed:
                self._publish_pose(tracked)
        if update.unposed is not None and update.unposed.mask is not None:
            self._publish_motion(update.unposed, frame, update.unposed.stamp_ns in becoming, False)
        for tracked in sorted((*update.frames, *update.masked), key=lambda f: f.stamp_ns):
            if tracked.mask is not None:
                self._publish_motion(tracked, frame, tracked.stamp_ns in becoming)
        if update.rendered is not None and not self._closed:
            self._outputs.surface(update.rendered, self._gate.metres, self._extrinsics.frame_id(
                update.rendered.camera_name))
        if keyframe is not None:
            self._publish_keyframe(keyframe, again=False)
            self._log.mapped(self._system.map)

    def latched(self) -> None:
        """Publish latched topics that are due, or have a new subscriber."""
        self._tree.settle()
        if self._system.unmasked is not None:
            return  # the map would show dynamic objects until its next message
        known = self._system.map
        for latched in self._latched:
            joined = self._outputs.joined(latched.topic)
            if not known.started or not self._outputs.wanted(latched.topic) or self._closed:
                continue
            now = time.monotonic()
            if joined or (known is not latched.shown and now >= latched.due):
                latched.due, latched.shown = now + latched.period, known
                latched.publish()

    def _rescale(self, before: MetricScale | None, newest: Keyframe | None) -> None:
        """
        Publish again, in the new scale, what had another one or was held back.

        :param before: the scale until now
        :param newest: keyframe that is about to be published, if any
        """
        self._outputs.scale(scale_status(self._gate))
        self._log.scaled(self._gate.metric)
        self._last_pose.clear()
        if self._config.voxel_size:
            self._cloud = self._new_cloud()
        for latched in self._latched:
            latched.due, latched.shown = 0.0, None
        # Transforms of a bare camera in map units do not fit clouds in metres
        if not self._closed and (before is not None or self._config.metres_demanded):
            self._publish_recent(newest)

    def _publish_recent(self, newest: Keyframe | None) -> None:
        """Publish again the keyframes that TF still reaches, but the one that is about to be."""
        for keyframe in self._system.map.keyframes.values():
            if not (newest is not None and keyframe.id == newest.id
                    or keyframe.id == self._system.unmasked
                    or not 0 <= self._stamp_ns - keyframe.stamp_ns < TF_HISTORY_NS):
                self._publish_keyframe(keyframe, again=True)

    def _origin(self) -> Array | None:
        """
        Pose of the core's map in the ROS map frame; fixed once the map has begun.

        :return: None while the extrinsics of the camera that began it are unknown
        """
        if self._T_rosmap_map is not None:
            return self._T_rosmap_map
        known = self._system.map
        if not known.keyframes:
            return T_rosmap_map(None)
        first = next(iter(known.keyframes.values()))
        T_base_cam = self._extrinsics.T_base_cam(first.camera_name, first.stamp_ns)
        if self._names.base and T_base_cam is None:
            self._problem = unplaced(self._names, first.camera_name)
            return None
        T = T_rosmap_map(T_base_cam)
        if not known.started:
            return T
        self._T_rosmap_map = self._upright.placed(T, self._stamp_ns)
        if self._T_rosmap_map is not None and self._upright.status:
            self._log.levelled(self._upright.status)
        return self._T_rosmap_map

    def _in_metres(self, T_map_cam: Array) -> Array:
        return self._placed_origin @ se3.stretched(T_map_cam, self._gate.metres)

    @property
    def _placed_origin(self) -> Array:
        """The same where nothing is held back."""
        origin = self._origin()
        assert origin is not None
        return origin

    def _publish_pose(self, tracked: TrackedFrame) -> None:
        camera, metric = tracked.camera_name, self._gate.metric
        frame_id = self._extrinsics.frame_id(camera)
        T_base_cam = self._extrinsics.T_base_cam(camera, tracked.stamp_ns)
        if self._names.base and T_base_cam is None:
            self._say(unplaced(self._names, camera))
            return
        T_map_cam = self._in_metres(self._system.pose_of(tracked))
        body, T_body_cam = (self._extrinsics.body(camera) if T_base_cam is None
                            else (self._names.base, T_base_cam))
        T_cam_body = se3.inverse(T_body_cam)
        T_map_body = T_map_cam @ T_cam_body
        covariance = conversions.pose_covariance(
            tracked.covariance, T_map_cam, T_cam_body, self._gate.metres,
            0.0 if metric is None else metric.sigma, tuple(self._placed_origin[:3, 3].tolist()))
        # TF first: a subscriber of the pose may look its transform up at once
        self._say(self._frames.send(camera, tracked.stamp_ns, T_map_cam, metric is not None))
        self._outputs.pose(PosedImage(
            tracked.stamp_ns, frame_id, body, T_map_body, covariance,
            self._velocity(tracked, T_map_body)))

    def _say(self, problem: str) -> None:
        """Show a problem of the newest image in diagnostics, and log it."""
        self._problem = problem
        if problem:
            self._warn(problem)

    def _velocity(self, tracked: TrackedFrame, T_map_body: Array) -> Array | None:
        last = self._last_pose.get(tracked.camera_name)
        self._last_pose[tracked.camera_name] = (tracked.stamp_ns, T_map_body)
        if last is None or not 0 < tracked.stamp_ns - last[0] < MAX_STEP_NS:
            return None
        step = se3.log(se3.normalized(se3.inverse(last[1]) @ T_map_body))
        return np.roll(step, 3) / ((tracked.stamp_ns - last[0]) * 1e-9)

    def _publish_keyframe(self, keyframe: Keyframe, again: bool) -> None:
        """
        Publish the outputs of a keyframe.

        :param again: whether it has been published, or was held back
        """
        camera = keyframe.camera_name
        frame_id, lens = self._extrinsics.frame_id(camera), self._system.lens(camera)
        if self._closed or not frame_id or lens is None:
            return
        # An image posed before the scale was known has no transform yet
        self._frames.send(camera, keyframe.stamp_ns, self._in_metres(keyframe.T_map_cam),
                          self._gate.metric is not None)
        self._outputs.keyframe(keyframe, self.labels.views(self._system.map),
                               self._gate.metres, frame_id,
                               lambda: lens.mask_to_source(keyframe.mask), again)

    def _publish_motion(self, tracked: TrackedFrame, frame: Frame | None, becomes_keyframe: bool,
                        posed: bool = True) -> None:
        mask = tracked.mask
        assert mask is not None
        camera, frame_id = tracked.camera_name, self._extrinsics.frame_id(tracked.camera_name)
        own = frame if frame is not None and frame.stamp_ns == tracked.stamp_ns else None
        outlines = self._outlines[camera]

        @cache
        def outlined() -> Mask:
            if own is None:
                return mask
            out = outlines.of(self._config.dynamics.refiner, own.image, mask, own.stamp_ns,
                              tracked.propagated)
            return out if own.mask is None else out | own.mask

        now = time.monotonic()
        lens = self._system.lens(camera)
        # Points of measured depth are in metres, whatever the map's scale
        clouds = (own is not None and (not self._closed or _has_depth(own, lens))
                  and now >= self._clouds_due.get(camera, 0.0))
        # Clouds depend on the mask: it is published with them
        self._outputs.mask(camera, outlined, tracked.stamp_ns, frame_id,
                           becomes_keyframe or clouds)
        ids = tracked.objects
        if ids is not None and lens is not None:
            self._outputs.objects(
                camera, lambda: boxes(outlined(), lens.labels_to_source(ids)), tracked.stamp_ns,
                frame_id)
        if own is not None and clouds:
            self._clouds_due[camera] = now + CLOUD_PERIOD_S
            self._publish_image_clouds(tracked if posed else None, own, outlined, frame_id)

    def _publish_image_clouds(self, tracked: TrackedFrame | None, frame: Frame,
                              outlined: Callable[[], Mask], frame_id: str) -> None:
        """
        Publish points of dynamic objects, and of the static scene around them.

        :param tracked: the image's pose; None where it has none: its own depth is needed
        """
        camera, metres = frame.camera_name, self._gate.metres
        lens = self._system.lens(camera)
        posed = tracked is not None and tracked.keyframe in self._system.map
        if lens is None or not (posed or _has_depth(frame, lens)):
            return
        seen = self._seen(tracked if posed else None, frame, lens, outlined)

        def build(points_of: Callable[..., PointCloud]) -> PointCloud:
            points = points_of(seen.mask, seen.image, seen.camera, seen.depth)
            return points if seen.measured is not None else points.scaled(metres)

        for name, points_of in (('dynamic', moving_points), ('static', static_points)):
            self._outputs.cloud(f'~/{camera}/{name}_points', partial(build, points_of),
                                frame.stamp_ns, frame_id)
        if frame.people is not None and tracked is not None and posed:
            self._publish_people(tracked, frame.people, seen)

    def _seen(self, tracked: TrackedFrame | None, frame: Frame, lens: Rectifier,
              mask: Callable[[], Mask]) -> SeenImage:
        """
        Prepare an image for the outputs' thread.

        :param tracked: its pose in the map; None without
        :param mask: makes the mask (H, W) of what is dynamic, at the image's size
        """
        if tracked is None or self._closed:
            return SeenImage(frame, lens, mask, self._stereo, None)
        keyframe = self._system.map.present(tracked.keyframe)
        T_cam_keyframe = se3.inverse(self._system.pose_of(tracked)) @ keyframe.T_map_cam
        return SeenImage(frame, lens, mask, self._stereo,
                         lambda pinhole: Surface.seen(keyframe, T_cam_keyframe, pinhole))

    def late_people(self, frame: Frame) -> None:
        """Publish people who were found after their image: where it has a pose in the map."""
        lens = self._system.lens(frame.camera_name)
        tracked = self._system.tracked(frame.camera_name, frame.stamp_ns)
        if frame.people is None or lens is None or tracked is None:
            return
        mask = np.zeros(frame.image.shape[:2], bool) if frame.mask is None else frame.mask
        self._publish_people(tracked, frame.people, self._seen(tracked, frame, lens, lambda: mask))

    def _publish_people(self, tracked: TrackedFrame, people: People, seen: SeenImage) -> None:
        if self._closed:
            return
        # As values: after a reset a pending build must not change the new map's people
        tracks, T_map_cam = self._people, self._in_metres(self._system.pose_of(tracked))
        metres = self._gate.metres
        self._outputs.people(tracked.camera_name, lambda: tracks.update(person_boxes(
            seen.people(people), seen.mask, seen.depth, seen.camera, T_map_cam,
            1.0 if seen.measured is not None else metres), tracked.stamp_ns), tracked.stamp_ns)

    def _publish_map(self) -> None:
        known = self._system.map
        # As an argument: after a reset a pending build must not change the new map's cloud
        self._outputs.map(partial(self._cloud.update, known),
                          self._placed_origin, self._gate.metres, self._stamp_ns)

    def _publish_graph(self) -> None:
        self._outputs.graph(self._system.map, self._placed_origin, self._gate.metres,
                            self._stamp_ns)

    def _publish_path(self) -> None:
        poses = []
        for tracked, T_map_cam in self._system.trajectory(MAX_PATH):
            T_base_cam = self._extrinsics.T_base_cam(tracked.camera_name, tracked.stamp_ns)
            T = self._in_metres(T_map_cam)
            poses.append((tracked.stamp_ns, T if T_base_cam is None
                          else T @ se3.inverse(T_base_cam)))
        self._outputs.path(sorted(poses, key=lambda p: p[0]), self._stamp_ns)

    def _new_cloud(self) -> Product[PointCloud]:
        """Begin the map's cloud, with voxels of the configured size in the present scale."""
        return LabelledCloud(LiveCloud(self._config.voxel_size / self._gate.metres or None),
                             self.labels.views, self._objects.update)


def _has_depth(frame: Frame, lens: Rectifier | None) -> bool:
    """Whether depth is measured with an image, or can be from it."""
    return frame.depth is not None or (lens is not None and lens.stereo_pair(frame) is not None)
