# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The node's publishers. Stamps and frames are those of the source image.

Transforms and poses go out at once. Clouds, depth, masks and markers take longer to build than a
frame may wait: another thread builds them, only where there are subscribers. Messages of a
keyframe and the mask of an image with clouds are never dropped; of all others only the newest of
each topic is built.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped, Twist
from nav_msgs.msg import Odometry, Path
import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from recon3r_ros.geometry import se3
from recon3r_ros.io.labels import read_class_names
from recon3r_ros.ros import conversions, qos
from recon3r_ros.ros.detections import (
    Detection2DArray,
    detections_message,
    label_info_message,
    LabelInfo,
)
from recon3r_ros.ros.markers import graph_markers
from recon3r_ros.ros.parameters import Config
from recon3r_ros.ros.people import Detection3DArray, people_markers, people_message
from recon3r_ros.ros.worker import Worker
from recon3r_ros.slam.dynamics.boxes import Box
from recon3r_ros.slam.products.cloud import keyframe_cloud
from recon3r_ros.slam.products.labels import labelled_keyframe, LabelledView
from recon3r_ros.slam.types import Keyframe, Map, PointCloud
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from visualization_msgs.msg import MarkerArray

if TYPE_CHECKING:  # the node loads it with what makes them
    from recon3r_ros.slam.people_tracks import TrackedPerson

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Variance of a velocity that is not measured
_UNKNOWN = 1e6
#: Stamps of masks that are kept, so that none is published twice
_REMEMBERED = 300
#: Masks of a camera that wait at most, for example while a map is built
_MASKS = 5
#: Latched topics with geometry: after a reset none of them may show the former map
_MAP_TOPICS = ('~/map', '~/path', '~/graph')


@dataclass(frozen=True, eq=False)
class PosedImage:
    """
    Pose of an image, metres where the scale is known.

    :param frame_id: of its camera
    :param body: frame that the pose is of: the robot's base or the camera's
    :param T_map_body: (4, 4) in the ROS map frame
    :param covariance: 36 numbers in ROS's order
    :param twist: (6,) velocities of the body in its own frame: m/s, rad/s; None where unknown
    """

    stamp_ns: int
    frame_id: str
    body: str
    T_map_body: Array
    covariance: list[float]
    twist: Array | None


class Outputs:
    """
    All publishers of the node.

    :param node: that they belong to
    :param config: the parameters
    :param failed: called with an exception of building or publishing
    """

    def __init__(self, node: Node, config: Config, failed: Callable[[Exception], None]) -> None:
        #: Whether the node is active: an inactive one publishes nothing
        self.active = False
        self._node = node
        self._config = config
        self._publishers: dict[str, Publisher] = {}
        self._listeners: dict[str, int] = {}
        self._mask_stamps: dict[str, deque[int]] = {}
        self._shown: set[str] = set()
        self._add('~/pose', PoseWithCovarianceStamped, qos.POSES)
        self._add('~/odometry', Odometry, qos.POSES)
        self._add('~/path', Path, qos.LATCHED)
        self._add('~/map', PointCloud2, qos.LATCHED)
        self._add('~/graph', MarkerArray, qos.LATCHED)
        self._add('~/scale', DiagnosticStatus, qos.LATCHED)
        self._add('~/classes', DiagnosticStatus, qos.LATCHED)
        self._add('/diagnostics', DiagnosticArray, qos.RELIABLE)
        #: Names of classes in files, by camera; those in use, also of a network
        self.given_class_names = {camera.name: read_class_names(camera.class_names)
                                  for camera in config.all_cameras if camera.class_names}
        self._class_names = dict.fromkeys(
            (c.name for c in config.all_cameras), config.classes) if config.classes else {}
        self._class_names |= self.given_class_names
        for camera in config.all_cameras:
            name = f'~/{camera.name}'
            self._add(f'{name}/points', PointCloud2, qos.RELIABLE)
            self._add(f'{name}/depth/image', Image, qos.RELIABLE)
            self._add(f'{name}/depth/camera_info', CameraInfo, qos.RELIABLE)
            self._add(f'{name}/dynamic_mask', Image, qos.RELIABLE)
            self._add(f'{name}/dynamic_points', PointCloud2, qos.RELIABLE)
            self._add(f'{name}/static_points', PointCloud2, qos.RELIABLE)
            if camera.use_labels or config.classes:
                self._add(f'{name}/labels', Image, qos.RELIABLE)
            if camera.use_instances or config.classes:
                self._add(f'{name}/instances', Image, qos.RELIABLE)
            if LabelInfo is not None and (camera.use_labels or camera.name in self._class_names):
                self._add(f'{name}/label_info', LabelInfo, qos.LATCHED)
            if Detection2DArray is not None:
                self._add(f'{name}/objects', Detection2DArray, qos.RELIABLE)
        self._add('~/people_markers', MarkerArray, qos.RELIABLE)
        if Detection3DArray is not None:
            self._add('~/people', Detection3DArray, qos.RELIABLE)
        if left_out := [topic for topic, kind in (
                ('~/<camera>/objects', Detection2DArray), ('~/people', Detection3DArray),
                *([('~/<camera>/label_info', LabelInfo)] if self._class_names else []))
                if kind is None]:
            node.get_logger().info(
                f'vision_msgs is not installed: {" and ".join(left_out)} left out')
        self._worker: Worker[Callable[[], None]] = Worker(
            'recon3r-outputs', lambda build: build(), 1, failed)

    def close(self) -> None:
        """Destroy all publishers and end the thread."""
        self._worker.close()
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)
        self._publishers.clear()

    def name_classes(self, camera: str, names: tuple[str, ...]) -> None:
        """Take over the names of the classes of one camera's labels."""
        self._class_names = {**self._class_names, camera: names}

    def wanted(self, topic: str) -> bool:
        """Tell whether a topic has subscribers."""
        publisher = self._publishers.get(topic)
        return publisher is not None and publisher.get_subscription_count() > 0

    def joined(self, topic: str) -> bool:
        """Tell whether a topic has more subscribers than at the last call."""
        publisher = self._publishers.get(topic)
        count = 0 if publisher is None else publisher.get_subscription_count()
        more = count > self._listeners.get(topic, 0)
        self._listeners[topic] = count
        return more

    def pose(self, image: PosedImage) -> None:
        """Publish a pose, and the odometry of it."""
        stamped = PoseWithCovarianceStamped(
            header=conversions.header(image.stamp_ns, self._config.map_frame))
        stamped.pose.pose = conversions.pose_message(image.T_map_body)
        stamped.pose.covariance = image.covariance
        self._publish('~/pose', stamped)
        if not self.wanted('~/odometry'):
            return
        odometry = Odometry(header=stamped.header, child_frame_id=image.body, pose=stamped.pose)
        variance = _UNKNOWN
        if image.twist is not None:
            variance = 0.01
            odometry.twist.twist = _twist(image.twist)
        odometry.twist.covariance = [float(x) for x in (variance * np.eye(6)).ravel()]
        self._publish('~/odometry', odometry)

    def restart_clock(self) -> None:
        """Time has gone back: stamps will be repeated."""
        self._worker.do(self._mask_stamps.clear)

    def mask(self, camera: str, build: Callable[[], Mask], stamp_ns: int, frame_id: str,
             sure: bool, again: bool = False) -> None:
        """
        Publish the dynamic mask of an image, unless it has been published.

        :param build: makes the mask (H, W), at the image's size
        :param sure: whether it may not be dropped: of a keyframe, or of an image with clouds
        :param again: whether to publish it again where it has been
        """
        topic = f'~/{camera}/dynamic_mask'
        if not self.wanted(topic):
            return

        def publish() -> None:
            # In the publishing thread: only there is it known what has been published
            sent = self._mask_stamps.setdefault(camera, deque(maxlen=_REMEMBERED))
            if again or stamp_ns not in sent:
                sent.append(stamp_ns)
                self._publish(topic, conversions.mask_message(build(), stamp_ns, frame_id))
        if sure:
            self._worker.do(publish)
        else:
            self._worker.put(topic, publish, _MASKS)

    def objects(self, camera: str, build: Callable[[], list[Box]], stamp_ns: int, frame_id: str
                ) -> None:
        """Publish the dynamic objects of an image; `build` finds their boxes."""
        topic = f'~/{camera}/objects'
        if self.wanted(topic):
            self._worker.put(topic, lambda: self._publish(
                topic, detections_message(build(), stamp_ns, frame_id)), _MASKS)

    def cloud(self, topic: str, build: Callable[[], PointCloud], stamp_ns: int, frame_id: str
              ) -> None:
        """Publish a cloud of an image; `build` makes it, in the camera's frame, in metres."""
        if self.wanted(topic):
            self._later(topic, lambda: conversions.cloud_message(build(), stamp_ns, frame_id))

    def people(self, camera: str, build: Callable[[], list[TrackedPerson]], stamp_ns: int) -> None:
        """Publish the people in an image of a camera; `build` finds them, in the map frame."""
        topics = {'~/people': people_message, '~/people_markers': people_markers}
        if not any(self.wanted(topic) for topic in topics):
            return

        def publish() -> None:
            found = build()
            for topic, message in topics.items():
                if self.wanted(topic):
                    self._publish(topic, message(found, stamp_ns, self._config.map_frame))
        self._worker.put(f'~/people of {camera}', publish)

    def keyframe(self, keyframe: Keyframe, labels: Mapping[int, LabelledView], metres: float,
                 frame_id: str, mask: Callable[[], Mask], again: bool) -> None:
        """
        Publish points, depth, camera_info and mask of a keyframe, all with its stamp.

        :param labels: label images of the map's keyframes
        :param mask: makes the dynamic mask at the image's size, for where its own is missing
        :param again: whether its mask has been published and shall be once more
        """
        for topic, build in _surface(keyframe, labels, metres, frame_id):
            if self.wanted(topic):
                self._surely(topic, build)
        self.mask(keyframe.camera_name, mask, keyframe.stamp_ns, frame_id, sure=True, again=again)
        self._label_images(keyframe, labels, frame_id)

    def surface(self, view: Keyframe, metres: float, frame_id: str) -> None:
        """
        Publish points, depth and camera_info of an image that is no keyframe, with its stamp.

        :param view: with its depth
        :param frame_id: of its camera; nothing is published where it is ''
        """
        for topic, build in _surface(view, {}, metres, frame_id) if frame_id else ():
            if self.wanted(topic):
                self._later(topic, build)

    def _label_images(self, keyframe: Keyframe, labels: Mapping[int, LabelledView], frame_id: str
                      ) -> None:
        """Publish the label image of a keyframe, in the pixels of its depth."""
        name, stamp_ns = f'~/{keyframe.camera_name}', keyframe.stamp_ns
        if keyframe.id not in labels:
            return
        own = labels[keyframe.id].labels
        if self.wanted(f'{name}/labels'):
            self._surely(f'{name}/labels', lambda: conversions.image_message(
                own.classes, stamp_ns, frame_id))
        if self.wanted(f'{name}/instances') and (instances := own.instances) is not None:
            self._surely(f'{name}/instances', lambda: conversions.ids_message(
                instances, stamp_ns, frame_id))
        # Latched: for subscribers to come, too
        names = self._class_names.get(keyframe.camera_name)
        if names and f'{name}/label_info' in self._publishers:
            self._surely(f'{name}/label_info', lambda: label_info_message(
                names, stamp_ns, frame_id))

    def map(self, make: Callable[[], PointCloud], T_rosmap_map: Array, metres: float,
            stamp_ns: int) -> None:
        """Publish the map; `make` gives its points in the core's map frame and units."""
        def build() -> PointCloud2:
            scaled = make().scaled(metres)
            points = se3.transform(T_rosmap_map, scaled.points).astype(np.float32)
            return conversions.cloud_message(
                replace(scaled, points=points), stamp_ns, self._config.map_frame)
        self._later('~/map', build)

    def graph(self, known: Map, T_rosmap_map: Array, metres: float, stamp_ns: int) -> None:
        """Publish keyframes and edges as markers."""
        self._later('~/graph', lambda: graph_markers(
            known, T_rosmap_map, metres, stamp_ns, self._config.map_frame))

    def path(self, poses: list[tuple[int, Array]], stamp_ns: int) -> None:
        """Publish the path so far: stamps and poses (4, 4) in the ROS map frame, metres."""
        frame = self._config.map_frame
        self._later('~/path', lambda: Path(
            header=conversions.header(stamp_ns, frame), poses=[
                PoseStamped(header=conversions.header(s, frame), pose=conversions.pose_message(T))
                for s, T in poses]))

    def forget_map(self, stamp_ns: int) -> None:
        """Publish an empty map, path and graph in place of those that are latched."""
        self._worker.clear()
        frame = self._config.map_frame
        empty: tuple[Callable[[], Any], ...] = (
            lambda: conversions.cloud_message(PointCloud.empty(), stamp_ns, frame),
            lambda: Path(header=conversions.header(stamp_ns, frame)),
            lambda: graph_markers(Map(), np.eye(4), 1.0, stamp_ns, frame))
        for topic, build in zip(_MAP_TOPICS, empty):
            if topic in self._shown:
                self._surely(topic, build)
        self._shown.clear()

    def scale(self, status: DiagnosticStatus) -> None:
        """Publish the scale of all lengths."""
        self._publish('~/scale', status)

    def classes(self, status: DiagnosticStatus) -> None:
        """Publish the names of the classes in the field label."""
        self._publish('~/classes', status)

    def diagnostics(self, message: DiagnosticArray) -> None:
        """Publish diagnostics."""
        self._publish('/diagnostics', message)

    def _add(self, topic: str, kind: Any, profile: QoSProfile) -> None:
        self._publishers[topic] = self._node.create_publisher(kind, topic, profile)

    def _later(self, topic: str, build: Callable[[], Any]) -> None:
        """Build and publish soon; a newer message of the topic replaces a waiting one."""
        if topic in _MAP_TOPICS:
            self._shown.add(topic)
        self._worker.put(topic, lambda: self._publish(topic, build()))

    def _surely(self, topic: str, build: Callable[[], Any]) -> None:
        """Build and publish before messages that may be dropped."""
        self._worker.do(lambda: self._publish(topic, build()))

    def _publish(self, topic: str, message: Any) -> None:
        publisher = self._publishers.get(topic)
        if publisher is not None and self.active:
            publisher.publish(message)


def _twist(velocity: Array) -> Twist:
    twist = Twist()
    twist.linear.x, twist.linear.y, twist.linear.z = velocity[:3].tolist()
    twist.angular.x, twist.angular.y, twist.angular.z = velocity[3:].tolist()
    return twist


def _surface(view: Keyframe, labels: Mapping[int, LabelledView], metres: float, frame_id: str
             ) -> tuple[tuple[str, Callable[[], Any]], ...]:
    """Topics of the points, the depth and the camera of a view, and what builds their messages."""
    name, stamp_ns = f'~/{view.camera_name}', view.stamp_ns
    return (
        (f'{name}/points', lambda: conversions.cloud_message(
            labelled_keyframe(keyframe_cloud(view), view, labels).scaled(metres), stamp_ns,
            frame_id)),
        (f'{name}/depth/image', lambda: conversions.depth_message(
            view.depth() * np.float32(metres), stamp_ns, frame_id)),
        (f'{name}/depth/camera_info', lambda: conversions.camera_info_message(
            view.camera, stamp_ns, frame_id)))
