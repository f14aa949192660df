# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The node `recon3r`: a managed LifecycleNode around the reconstruction (design, section 6).

Callbacks read headers and queue; one worker processes images; another thread builds large
messages.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
import gc
import re
import sys
import time
from typing import Any, TYPE_CHECKING

from nav_msgs.msg import Odometry
import numpy as np
from rcl_interfaces.msg import SetParametersResult
import rclpy
from rclpy.clock import Clock, ClockType  # type: ignore[attr-defined]  # as in Humble
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from recon3r_ros.cli.exit_status import BAD_INPUT
from recon3r_ros.errors import InputError, one_line, Recon3rError
from recon3r_ros.io.memory import resident_memory_mb
from recon3r_ros.models.registry import make_predictor
from recon3r_ros.ros import conversions, parameters, qos
from recon3r_ros.ros.detections import LabelInfo, names_from_message
from recon3r_ros.ros.diagnostics import CALLBACK, CameraHealth, diagnostic_array, Health, RECENT
from recon3r_ros.ros.extrinsics import Extrinsics
from recon3r_ros.ros.inputs import Arrival, CameraInput, Instant
from recon3r_ros.ros.library_log import LibraryLog
from recon3r_ros.ros.outputs import Outputs
from recon3r_ros.ros.pair_extrinsics import PairExtrinsics
from recon3r_ros.ros.rigs import make_rigs, Rig
from recon3r_ros.ros.scale_gate import held_back
from recon3r_ros.ros.services import load_map, Services
from recon3r_ros.ros.spinning import run
from recon3r_ros.ros.stereo_pair import StereoPair
from recon3r_ros.ros.tf_tree import TfTree
from recon3r_ros.ros.worker import Worker
from recon3r_ros.slam.backend.mapping_process import MappingProcess
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, Imu

if TYPE_CHECKING:
    from recon3r_ros.ros.pipeline import Pipeline
    from recon3r_ros.slam.backend.subprocess_executor import SubprocessExecutor

#: Seconds between two log lines that differ in nothing but numbers
LOG_PERIOD_S = 5.0
#: Queue of odometry messages
ODOMETRY_DEPTH = 50


class Recon3rNode(LifecycleNode):
    """
    Cameras in; poses, clouds, depth, masks and a map out.

    :raises InputError: for parameters that cannot be used
    """

    def __init__(self, **options: Any) -> None:
        super().__init__('recon3r', **options)
        parameters.declare(self)
        self.config = parameters.read(self)
        self.add_on_set_parameters_callback(self._on_parameters)
        self._warned: dict[str, float] = {}
        self._library_log = LibraryLog(self._info, self._warn)
        self._error = ''
        self._paused = False
        self._active_since = 0.0
        self._healths: deque[Health] = deque(maxlen=RECENT)
        self._subscriptions_made: list[Any] = []
        self._inputs: list[CameraInput] = []
        self._rigs: list[Rig] = []
        self._tree: TfTree | None = None
        self._timer: Any = None
        self._outputs: Outputs | None = None
        self._extrinsics: Extrinsics | None = None
        self._pipeline: Pipeline | None = None
        self._worker: Worker[Instant] | None = None
        # For as long as the node lives: an answer may still be waited for when it is cleaned up
        self._offered = Services(self, self._configured, self._pause, self._info)

    # Transitions

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model, make publishers and services."""
        try:
            self.config = parameters.read(self)
            self._paused, self._error = False, ''
            self._outputs = Outputs(self, self.config, self._failed)
            self._tree = TfTree(self, self.config.publish_tf,
                                round(self.config.tf_tolerance * 1e9), self._warn)
            self._extrinsics = Extrinsics(self, self.config, self._tree)
            self._rigs = make_rigs(self.config, self._pairs(self._extrinsics),
                                   self._tree.fixed_root, self._extrinsics, self._queue)
            process = MappingProcess()
            # Not before: both processes import what they need at the same time
            from recon3r_ros.ros.pipeline import Pipeline
            self._pipeline = Pipeline(self.config, self._make_executor(process), self._outputs,
                                      self._tree, self._extrinsics, self._rigs, self._info,
                                      self._warn)
            if self.config.load_on_start:
                self._pipeline.load(load_map(self))
            self._worker = Worker('recon3r-worker', self._handle, self.config.queue_size,
                                  self._failed, self._idle)
            self._inputs = [CameraInput(c, self._taker(c.name), self._about(c.name),
                                        self._tree.between) for c in self.config.all_cameras]
            for rig in self._rigs:
                rig.connect(self._inputs)
        except Exception as error:
            # rclpy would drop an exception silently
            self.get_logger().error(f'cannot be configured: {_described(error)}')
            self._free()
            return TransitionCallbackReturn.FAILURE
        self._healths.clear()
        names = ', '.join(c.name for c in self.config.cameras)
        self._info(f'configured: model {self.config.model.name}, cameras: {names}')
        if self.config.metres_demanded and self._pipeline.metric is None:
            self._info(held_back(self.config))
        for camera in self.config.cameras:
            if camera.T_base_cam is not None and not self.config.base_frame:
                self._warn(f'parameter {camera.name}.extrinsics is without effect: set base_frame')
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the inputs."""
        compressed = self.config.image_transport == 'compressed'
        profile = qos.images(self.config.qos_image)
        for camera, config in zip(self._inputs, self.config.all_cameras):
            self._subscribe(CompressedImage if compressed else Image, self._topics(camera.name)[0],
                            self._on_image(camera), profile)
            self._subscribe(CameraInfo, f'{camera.name}/camera_info',
                            camera.intrinsics.on_info, profile)
            if config.number > 0:
                continue
            if config.use_depth:
                packed = self.config.depth_transport == 'compressedDepth'
                topic = f'{camera.name}/depth'
                self._subscribe(CompressedImage if packed else Image,
                                f'{topic}/compressedDepth' if packed else topic,
                                camera.depth.on_depth, profile)
                self._subscribe(CameraInfo, f'{topic}/camera_info', camera.depth.on_info, profile)
            if config.use_mask:
                self._subscribe(Image, f'{camera.name}/mask', camera.on_mask, profile)
            if config.use_people:
                self._subscribe(Image, f'{camera.name}/people', camera.people.on_image, profile)
            if config.use_labels:
                self._subscribe(Image, f'{camera.name}/labels', camera.labels.on_image, profile)
                if LabelInfo is not None and not config.class_names:
                    self._subscribe(LabelInfo, f'{camera.name}/label_info',
                                    self._on_label_info(camera.name), qos.LATCHED)
            if config.use_instances:
                self._subscribe(
                    Image, f'{camera.name}/instances', camera.instances.on_image, profile)
        if self.config.odometry:
            self._subscribe(Odometry, 'odom', self._on_odometry, ODOMETRY_DEPTH)
        if self.config.imu_topic:
            self._subscribe(Imu, self.config.imu_topic, self._on_imu, qos.IMU)
        self._active_since = time.monotonic()
        # On the wall clock: /clock may stand still
        self._timer = self.create_timer(self.config.diagnostics_period, self._diagnose,
                                        clock=Clock(clock_type=ClockType.STEADY_TIME))
        topics = ', '.join(self.resolve_topic_name(self._topics(c.name)[0])
                           for c in self.config.all_cameras)
        self._info(f'active: waiting for images on {topics}')
        self._in_worker(lambda pipeline: pipeline.publication.activate(True))
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and stop publishing; the map is kept."""
        self._unsubscribe()
        self._in_worker(lambda pipeline: pipeline.publication.activate(False))
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything."""
        self._free()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything."""
        self._free()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything."""
        self._free()
        return TransitionCallbackReturn.SUCCESS

    def close(self) -> None:
        """Free everything and the node itself."""
        self._free()
        self._library_log.close()
        self.destroy_node()

    def _free(self) -> None:
        self._unsubscribe()
        for part in (self._worker, self._pipeline, self._outputs, self._extrinsics, self._tree):
            if part is not None:
                part.close()
        self._worker = self._pipeline = None
        self._outputs = self._extrinsics = self._tree = None
        self._inputs, self._rigs = [], []

    def _subscribe(self, kind: Any, topic: str, callback: Callable[[Any], None], profile: Any
                   ) -> None:
        self._subscriptions_made.append(
            self.create_subscription(kind, topic, self._safely(callback), profile))

    def _unsubscribe(self) -> None:
        if self._timer is not None:
            self.destroy_timer(self._timer)
            self._timer = None
        for subscription in self._subscriptions_made:
            self.destroy_subscription(subscription)
        self._subscriptions_made = []
        if self._worker is not None:
            self._worker.clear()

    def _make_executor(self, process: MappingProcess) -> SubprocessExecutor:
        from recon3r_ros.slam.backend.subprocess_executor import SubprocessExecutor
        c = self.config
        return SubprocessExecutor(partial(make_predictor, c.model), c.mapping, c.dynamics,
                                  self._warn, process=process, finished=self._keyframe_finished)

    def _keyframe_finished(self) -> None:
        """Take it over at once: images may wait for it."""
        if self._worker is not None:
            self._worker.wake()

    # Messages

    def _topics(self, camera: str) -> tuple[str, str]:
        image = f'{camera}/image_raw'
        if self.config.image_transport == 'compressed':
            image += '/compressed'
        return image, f'{camera}/camera_info'

    def _on_image(self, camera: CameraInput) -> Callable[[Any], None]:
        def on_image(message: Any) -> None:
            begin = time.monotonic()
            camera.on_image(message, self.get_clock().now().nanoseconds)
            if self._pipeline is not None:
                self._pipeline.statistics.note(CALLBACK, time.monotonic() - begin)
        return on_image

    def _queue(self, instant: Instant) -> None:
        if self._worker is None or self._paused:
            return
        dropped = self._worker.put(instant.source, instant)
        for arrival in () if dropped is None else dropped.arrivals.values():
            arrival.camera.drop()

    def _pairs(self, frames: Extrinsics) -> list[StereoPair]:
        seconds = {c.name: c for c in self.config.second_cameras}
        return [StereoPair(c.name, c.stereo, PairExtrinsics(c, seconds[c.stereo], frames),
                           self._about(c.name)) for c in self.config.cameras if c.stereo]

    def _taker(self, camera: str) -> Callable[[Arrival], None]:
        """Return what takes the images of a camera: its rig, or the worker."""
        for rig in self._rigs:
            if camera in rig.cameras:
                return rig.on_arrival
        return lambda arrival: self._queue(
            Instant(camera, arrival.stamp_ns, {camera: arrival}))

    def _configured(self) -> tuple[Worker[Instant], Pipeline] | None:
        """Return worker and pipeline; None while the node is not configured."""
        if self._worker is None or self._pipeline is None:
            return None
        return self._worker, self._pipeline

    def _on_label_info(self, camera: str) -> Callable[[Any], None]:
        def named(message: Any) -> None:
            try:
                names = names_from_message(message)
            except InputError as error:
                self._warn(f'{camera}/label_info: {error}: its names are not used')
                return
            self._in_worker(lambda pipeline: pipeline.publication.name_classes(camera, names))
        return named

    def _in_worker(self, do: Callable[[Pipeline], None]) -> None:
        """Run something in the worker, which owns the map."""
        configured = self._configured()
        if configured is not None:
            worker, pipeline = configured
            worker.do(lambda: do(pipeline))

    def _on_parameters(self, given: list[Parameter]) -> SetParametersResult:
        result = parameters.validate(given)
        if result.successful:
            self.config = config = parameters.changed(self.config, given)
            self._in_worker(lambda pipeline: pipeline.publication.configure(config))
        return result

    def _pause(self, paused: bool) -> None:
        self._paused = paused
        if paused and self._worker is not None:
            self._worker.clear()
        self._info('paused' if paused else 'resumed')

    def _handle(self, instant: Instant) -> None:
        assert self._pipeline is not None
        self._pipeline.handle(instant)
        self._error = ''

    def _idle(self) -> None:
        assert self._pipeline is not None
        self._pipeline.idle()

    def _on_odometry(self, message: Odometry) -> None:
        c, found = self.config, (message.header.frame_id, message.child_frame_id)
        if any(given not in ('', wanted) for given, wanted in zip(found, (
                c.odom_frame, c.base_frame))):
            self._warn(f'odometry {found[0]} -> {found[1]} is ignored: expected {c.odom_frame} -> '
                       f'{c.base_frame}; set odom_frame and base_frame')
            return
        if self._pipeline is not None:
            self._pipeline.odometry.add(conversions.stamp_to_ns(message.header.stamp),
                                        conversions.matrix_from_pose(message.pose.pose))

    def _on_imu(self, message: Imu) -> None:
        if self._pipeline is not None:
            self._pipeline.imu.on_imu(message)

    def _safely(self, callback: Callable[[Any], None]) -> Callable[[Any], None]:
        """No message may end the node."""
        def guarded(message: Any) -> None:
            try:
                callback(message)
            except Exception as error:
                self._failed(error)
        return guarded

    def _failed(self, error: Exception) -> None:
        self._error = _described(error)
        self._warn(self._error)

    def _about(self, camera: str) -> Callable[[str], None]:
        return lambda text: self._warn(f'{camera}: {text}')

    def _info(self, text: str) -> None:
        self.get_logger().info(text)

    def _warn(self, text: str) -> None:
        """Log a line, unless one like it has been logged shortly before."""
        kind, now = re.sub(r'[\d.]+', '#', text), time.monotonic()
        if now - self._warned.get(kind, -LOG_PERIOD_S) >= LOG_PERIOD_S:
            self._warned[kind] = now
            self.get_logger().warning(text)
        if len(self._warned) > 1000:
            self._warned.clear()

    # Diagnostics

    def _notice(self) -> str:
        """Describe a problem of the node's environment; empty where there is none."""
        if self.get_parameter('use_sim_time').value and self.get_clock().now().nanoseconds == 0:
            return 'use_sim_time is true, but /clock has no publisher'
        for camera in self.config.all_cameras:
            topic = self.resolve_topic_name(self._topics(camera.name)[0])
            count = self.count_publishers(topic)
            if count > 1:
                return f'{topic} has {count} publishers: a camera needs a topic of its own'
        return ''

    def _diagnose(self) -> None:
        pipeline, worker, outputs = self._pipeline, self._worker, self._outputs
        if pipeline is None or worker is None or outputs is None:
            return
        now, statistics = time.monotonic(), pipeline.statistics
        cameras = []
        queues = {name: rig.name for rig in self._rigs for name in rig.cameras}
        for camera in self._inputs:
            counts = camera.counts()
            since = counts.last_arrival_s or self._active_since
            cameras.append(CameraHealth(
                camera.name, tuple(self.resolve_topic_name(t) for t in self._topics(camera.name)),
                counts.received, statistics.posed.get(camera.name, 0), counts.dropped,
                counts.rejected, counts.reason,
                worker.waiting(queues.get(camera.name, camera.name)), counts.rate,
                now - since, statistics.ages.get(camera.name), pipeline.state_of(camera.name),
                camera.intrinsics.notice, pipeline.cause_of(camera.name),
                pipeline.people_of(camera.name)))
        latencies = {stage: 1e3 * float(np.median(list(times)))
                     for stage, times in list(statistics.latencies.items())}
        health = Health(
            self.get_fully_qualified_name().lstrip('/'), tuple(cameras), self._paused,
            self._error, self._notice() or pipeline.publication.notice
            or pipeline.calibration_notice,
            len(pipeline.map.keyframes), pipeline.publication.metric,
            pipeline.shedding.description, latencies,
            sum(resident_memory_mb(pid) or 0.0 for pid in ('self', pipeline.mapping_pid)),
            pipeline.inertial, tuple(pair for rig in self._rigs for pair in rig.pair_healths()),
            tuple(filter(None, (rig.health() for rig in self._rigs))))
        outputs.diagnostics(diagnostic_array(
            health, self.config.image_timeout, self.get_clock().now().nanoseconds,
            self._healths[0] if self._healths else None))
        self._healths.append(health)


def _described(error: Exception) -> str:
    """Return an exception in one line, with its type where it is not one of ours."""
    return one_line(error, with_type=not isinstance(error, Recon3rError))


def main(args: list[str] | None = None) -> int:
    """
    Run the node until it is told to stop.

    :param args: command line; that of the process where None
    :return: the exit status
    """
    def work() -> int:
        node = Recon3rNode()
        try:
            if node.config.autostart:
                # A lifecycle manager could try again; without one a node that idles helps nobody
                for transition in (node.trigger_configure, node.trigger_activate):
                    if transition() is not TransitionCallbackReturn.SUCCESS:
                        return BAD_INPUT if rclpy.ok() else 0
            gc.freeze()  # what has been imported stays: a collection need not look at it
            gc.enable()
            rclpy.spin(node)
            return 0
        finally:
            gc.unfreeze()  # what holds DDS's shared memory is to be freed, too
            node.close()

    return run(work, args)


if __name__ == '__main__':
    sys.exit(main())
