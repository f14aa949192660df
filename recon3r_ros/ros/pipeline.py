# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From received images of an instant to an update of the map; all in the worker's thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
import time

from recon3r_ros.cli.saved_results import SavedResults, SourceLens
from recon3r_ros.errors import InputError, Recon3rError
from recon3r_ros.models.registry import spec
from recon3r_ros.ros.event_log import EventLog
from recon3r_ros.ros.extrinsics import Extrinsics
from recon3r_ros.ros.imu import gyroscope_status, ImuInput
from recon3r_ros.ros.inputs import Arrival, CameraInput, Instant
from recon3r_ros.ros.load_shedding import LoadShedding
from recon3r_ros.ros.outputs import Outputs
from recon3r_ros.ros.parameters import Config
from recon3r_ros.ros.publication import Publication
from recon3r_ros.ros.rigs import Rig
from recon3r_ros.ros.statistics import Statistics
from recon3r_ros.ros.tf_tree import TfTree
from recon3r_ros.ros.transforms import OdometryBuffer
from recon3r_ros.slam.backend.subprocess_executor import SubprocessExecutor
from recon3r_ros.slam.driver import Driver
from recon3r_ros.slam.effort import Effort
from recon3r_ros.slam.network_people import LatePeople
from recon3r_ros.slam.people import HOLD_S, LATE_HOLD_S, PeopleCounts, PeopleMasks, PeopleSource
from recon3r_ros.slam.saved_map import SavedMap
from recon3r_ros.slam.system import System
from recon3r_ros.slam.types import Frame, Map, MetricScale, TrackingState


class Pipeline:
    """
    Decodes images and feeds them to a system, whose results are published.

    :param executor: of local mapping
    :param rigs: whose instants come
    :param info: called with a log line
    :param warn: called with a warning of one line
    """

    def __init__(self, config: Config, executor: SubprocessExecutor, outputs: Outputs,
                 tree: TfTree, extrinsics: Extrinsics, rigs: Sequence[Rig],
                 info: Callable[[str], None], warn: Callable[[str], None]) -> None:
        self.config = config
        self.odometry = OdometryBuffer()
        self.imu = ImuInput(config.imu_topic, tree, extrinsics, warn)
        self.statistics = Statistics()
        self._executor = executor
        self._extrinsics = extrinsics
        self._rigs = {rig.name: rig for rig in rigs}
        self._info = info
        self._log = EventLog(info)
        self.shedding = LoadShedding(self._log_effort)
        self._system = System(
            executor=executor, motion=config.dynamics, options=config.frontend,
            camera_height=config.camera_height, track_with_model=config.model.tracks)
        self.publication = Publication(
            config, self._system, outputs, tree, extrinsics, self.odometry,
            self.statistics, self._log, warn)
        self._driver = Driver(self._system, self.publication, config.scale_source, warn,
                              config.mapping.max_keyframes)
        self._warn = warn
        self._finder = _people_finder(config.people_model)
        #: Of the model's network, where no other source is configured
        self._late_people = LatePeople(executor) if (
            self._finder is None and spec(config.model.name).people) else None
        self._with_own_people = {c.name for c in config.all_cameras if c.use_people}
        self._people = {c.name: PeopleMasks(HOLD_S if self._late_people is None or c.use_people
                                            else LATE_HOLD_S) for c in config.all_cameras}
        #: How the images contradict their intrinsics; '' if they do not
        self.calibration_notice = ''

    @property
    def map(self) -> Map:
        """The present map."""
        return self._system.map

    @property
    def mapping_pid(self) -> int:
        """Of the mapping process."""
        return self._executor.pid

    def state_of(self, camera: str) -> TrackingState | None:
        """State of one camera's tracking; None before its first frame."""
        return self._system.state_of(camera)

    def cause_of(self, camera: str) -> str:
        """Tell why a camera's newest image has no pose; '' where it has one."""
        return self._system.cause_of(camera)

    def people_of(self, camera: str) -> PeopleCounts | None:
        """Count the people in one camera's images; None where nobody was looked for."""
        masks = self._people.get(camera)
        return masks.counts if masks is not None and masks.counts.searched else None

    @property
    def inertial(self) -> dict[str, str]:
        """What is in use of the IMU, for diagnostics; nothing without one."""
        status = gyroscope_status(self.imu, self._system.inertial)
        return {'gyroscope': status, 'gravity': self.publication.gravity} if status else {}

    @property
    def metric(self) -> MetricScale | None:
        """Metres per map unit, where known."""
        return self._driver.metric

    def handle(self, instant: Instant) -> None:
        """
        Process the images of an instant.

        :raises Recon3rError: where local mapping fails; neither images nor the map are lost
        """
        begin = time.monotonic()
        if self.shedding.skips(instant.source) and not instant.reset:
            return
        if instant.reset:
            self.reset()
            self.odometry.clear()
            self.imu.clear()
            self.statistics.restart_clock()
            self.publication.restart_clock()
        rig = self._rigs.get(instant.source)
        try:
            self._take_late_people()
            frames = self._frames(instant, rig)
            if not frames:
                return
            self._system.effort = self.shedding.effort_for(
                begin - instant.arrival_s, instant.period_s)
            self.statistics.note('decode', time.monotonic() - begin)
            self._add(instant, frames)
            self._ask_for_people(frames)
            if rig is not None:
                rig.check(frames, max(self.map.keyframes, default=None))
        finally:
            self.publication.latched()
            self._warn_of_calibration()
            for name, arrival in instant.arrivals.items():
                self.statistics.published(name, arrival.stamp_ns, arrival.arrival_s)
            end = time.monotonic()
            self.statistics.note('image', end - begin)
            self.shedding.add(end, end - instant.arrival_s, instant.period_s, end - begin)

    def _frames(self, instant: Instant, rig: Rig | None) -> list[Frame]:
        """Decode the images of an instant; return a frame for each camera that is tracked."""
        decoded = dict(self._decoded(instant.arrivals.values()))
        frames = list(decoded.values()) if rig is None else rig.assembled(instant, decoded)
        for name in () if rig is None else rig.relieved():
            self._system.forget(name)
        for frame in frames:
            self._meet(instant.arrivals[frame.camera_name].camera, frame)
        return [self._with_imu(self._with_odometry(self._with_people(frame)))
                for frame in frames]

    @staticmethod
    def _decoded(arrivals: Iterable[Arrival]) -> Iterator[tuple[str, Frame]]:
        """Yield the frames of usable images, by camera; count the others."""
        for arrival in arrivals:
            try:
                frame = arrival.camera.frame(arrival)
            except InputError as error:
                _refuse(arrival, error)
                continue
            if frame is not None:
                yield frame.camera_name, frame

    def _add(self, instant: Instant, frames: Sequence[Frame]) -> None:
        """
        Process frames: those on a rig together, each other one by itself.

        :raises Recon3rError: where local mapping fails; all have been processed
        """
        mounted = [frame for frame in frames if frame.mount is not None]
        failure = None
        for group in filter(None, (mounted, *([f] for f in frames if f.mount is None))):
            try:
                for name, error in self._driver.add_instant(group).items():
                    _refuse(instant.arrivals[name], error)
            except Recon3rError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def idle(self) -> None:
        """Take over a finished keyframe; publish what is due."""
        for rig in self._rigs.values():
            rig.poll()
        try:
            self._driver.poll()
        finally:
            self._take_late_people()
            self.publication.latched()

    def reset(self) -> None:
        """Forget the map."""
        self._driver.reset()
        if self._late_people is not None:
            self._late_people.forget()
        self.publication.restore_labels(None)

    def save(self) -> list[SavedResults]:
        """
        Return all maps with their trajectories and cameras, to be written in another thread.

        :return: the present one first, where there is one
        :raises Recon3rError: where there is no map yet
        """
        saved = self._driver.saved_earlier()
        if self.map.started or not saved:
            saved.insert(0, self._driver.saved())
        return [self._results(replace(one, labels=self.publication.labels.saved(one.map)))
                for one in saved]

    def _results(self, saved: SavedMap) -> SavedResults:
        trajectory = self._system.trajectory(known=saved.map)
        names = {keyframe.camera_name for keyframe in saved.map.keyframes.values()}
        names |= {frame.camera_name for frame, _ in trajectory}
        lenses = {name: self._system.lens(name) for name in names}
        return SavedResults(saved, trajectory, {
            name: SourceLens(lens.source, lens.calibrated)
            for name, lens in lenses.items() if lens is not None})

    def load(self, saved: SavedMap) -> None:
        """Continue mapping in a saved map."""
        self._driver.restore(saved)
        self.publication.restore_labels(saved.labels)
        self._log.restored(self.map)

    def close(self) -> None:
        """Free everything."""
        self._executor.close()

    def _warn_of_calibration(self) -> None:
        """Warn once of a contradiction."""
        notice = self._system.calibration_notice
        if notice and notice != self.calibration_notice:
            self._warn(notice)
        self.calibration_notice = notice

    def _log_effort(self, effort: Effort, reason: str) -> None:
        self._info(f'load shedding: {effort} ({reason})')

    def _meet(self, camera: CameraInput, frame: Frame) -> None:
        """Record a camera's frame; log its first image."""
        if not self._extrinsics.frame_id(camera.name):
            height, width = frame.image.shape[:2]
            lens = 'no intrinsics' if frame.camera is None else (
                f'focal length {frame.camera.fx:.1f} pixels')
            self._info(f'{camera.name}: first image, {width}x{height}, {lens}, frame '
                       f'{camera.frame_id}')
        self._extrinsics.see(camera.name, camera.frame_id)

    def _with_people(self, frame: Frame) -> Frame:
        if frame.people is None and self._finder is not None:
            frame = replace(frame, people=self._finder.people(frame))
        return self._people[frame.camera_name].masked(frame)

    def _ask_for_people(self, frames: Iterable[Frame]) -> None:
        """Have the model's network search images, while no keyframe waits for it."""
        if self._late_people is None or self._system.mapping:
            return
        for frame in frames:
            if frame.camera_name not in self._with_own_people:
                self._late_people.ask(frame)

    def _take_late_people(self) -> None:
        """Keep out, and publish, the people of images that have been searched meanwhile."""
        frame = None if self._late_people is None else self._late_people.found()
        if frame is not None:
            # Moved from there to the next image, as if those between had not come
            self.publication.late_people(self._people[frame.camera_name].masked(frame))

    def _with_imu(self, frame: Frame) -> Frame:
        samples = self.imu.samples(frame.camera_name, frame.stamp_ns)
        return frame if samples is None else replace(frame, imu=samples)

    def _with_odometry(self, frame: Frame) -> Frame:
        T_odom_base = self.odometry.at(frame.stamp_ns) if self.config.odometry else None
        if T_odom_base is None:
            return frame
        T_base_cam = self._extrinsics.T_base_cam(frame.camera_name, frame.stamp_ns)
        if T_base_cam is None:
            return frame
        return replace(frame, T_odom_cam=T_odom_base @ T_base_cam)


def _people_finder(path: str) -> PeopleSource | None:
    """
    Load the networks that find people; None without a path.

    :raises Recon3rError: where they cannot be loaded
    """
    if not path:
        return None
    # Not before: few users need them
    from recon3r_ros.models.pose_networks import PoseNetworks
    from recon3r_ros.slam.model_people import ModelPeople
    return ModelPeople(PoseNetworks.open(path))


def _refuse(arrival: Arrival, error: InputError) -> None:
    arrival.camera.reject(f'image at {arrival.stamp_ns}: {error}')
