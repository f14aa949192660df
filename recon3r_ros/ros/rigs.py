# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A rig of the node: bundles the images of its cameras by their stamps, and poses them on the rig.

All cameras are on one rig; without it, each stereo pair is a rig of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock
import time

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.io.stamps import NS_PER_S
from recon3r_ros.ros.extrinsics import Extrinsics
from recon3r_ros.ros.inputs import Arrival, CameraInput, Instant
from recon3r_ros.ros.mounts import Mounts
from recon3r_ros.ros.parameters import CameraConfig, Config
from recon3r_ros.ros.stereo_pair import PairHealth, StereoPair
from recon3r_ros.slam.bundles import Bundle, BundleCounts, Bundler, Offset
from recon3r_ros.slam.types import Frame, RigMount

Array = NDArray[np.float64]

#: Name of the rig of all cameras
RIG = 'rig'


@dataclass(frozen=True)
class RigHealth:
    """
    State of a rig of several cameras.

    :param cameras: names
    :param complete: instants with an image of every camera
    :param missing: instants without an image of a camera, by its name
    :param offsets_ms: constant offsets of stamps from those of the first camera, by camera
    :param source: of the poses on the rig; '' where they are unknown
    :param unplaced: cameras that have sent images and whose pose on the rig is unknown
    :param notice: what is wrong and the remedy; '' where nothing is
    """

    cameras: tuple[str, ...]
    complete: int
    missing: Mapping[str, int]
    offsets_ms: Mapping[str, float]
    source: str
    unplaced: tuple[str, ...]
    notice: str


class Rig:
    """
    Owner of the bundles of several cameras, and of their poses on the rig.

    Images are added in the executor's thread, frames are assembled in the worker's.

    :param name: of the rig
    :param tracked: names of the cameras that are tracked
    :param pairs: stereo pairs whose first cameras those are
    :param configs: what the parameters say of all cameras
    :param tolerance_s: greatest difference of stamps at an instant
    :param mounts: poses of the tracked cameras on the rig; None where it is a stereo pair alone
    :param extrinsics: learn where a second camera is that stands in for the first
    :param queue: takes instants
    """

    def __init__(self, name: str, tracked: Sequence[str], pairs: Sequence[StereoPair],
                 configs: Sequence[CameraConfig], tolerance_s: float, mounts: Mounts | None,
                 extrinsics: Extrinsics, queue: Callable[[Instant], None]) -> None:
        self.name = name
        self._tracked = tuple(tracked)
        self._pairs = tuple(pairs)
        self._mounts = mounts
        self._extrinsics = extrinsics
        self._queue = queue
        self._tolerance_ns = round(tolerance_s * NS_PER_S)
        self._lock = Lock()
        offsets_ns = {c.name: round(c.time_offset * NS_PER_S) for c in configs}
        self.cameras = (*self._tracked, *(pair.second for pair in self._pairs))
        self._bundler: Bundler[Arrival] = Bundler(
            self.cameras, self._tolerance_ns,
            corrections_ns={name: offsets_ns[name] for name in self.cameras})
        self._inputs: dict[str, CameraInput] = {}
        self._unplaced: tuple[str, ...] = ()
        self._relieved: list[str] = []

    def on_arrival(self, arrival: Arrival) -> None:
        """Take an image of a camera; pass on what is complete or need not wait."""
        with self._lock:
            released = self._bundler.add(arrival.camera.name, arrival.stamp_ns, arrival,
                                         round(arrival.arrival_s * NS_PER_S))
            instants = [self._instant(bundle) for bundle in released]
        self._pass_on(instants)

    def poll(self) -> None:
        """Pass on what has waited for too long; to be called now and then."""
        with self._lock:
            instants = [self._instant(bundle)
                        for bundle in self._bundler.poll(time.monotonic_ns())]
        self._pass_on(instants)

    def _instant(self, bundle: Bundle[Arrival]) -> Instant:
        """Return what is used of a bundle: no second camera alone, unless its first is absent."""
        unused = set()
        for pair in self._pairs:
            pair.count(bundle.items.keys())
            if pair.name not in bundle.items and not self._bundler.is_absent(pair.name):
                unused.add(pair.second)
        return Instant(self.name, bundle.stamp_ns, {
            name: bundle.items[name] for name in self.cameras
            if name in bundle.items and name not in unused})

    def _pass_on(self, instants: Sequence[Instant]) -> None:
        for instant in instants:
            if instant.arrivals:
                self._queue(instant)

    def assembled(self, instant: Instant, frames: Mapping[str, Frame]) -> list[Frame]:
        """
        Join the images of stereo pairs, and give the cameras their mounts.

        :param frames: those of the instant that can be used, by camera
        :return: a frame for each camera that is tracked
        """
        found = {name: frames[name] for name in self._tracked if name in frames}
        standing: dict[str, tuple[str, Array]] = {}
        for pair in self._pairs:
            first, second = self._inputs[pair.name], self._inputs[pair.second]
            seen = frames.get(pair.second)
            if pair.name in found:
                self._relieve(pair)
                if seen is not None:
                    found[pair.name] = pair.joined(found[pair.name], seen, first, second)
            elif seen is not None and pair.name not in instant.arrivals:
                T_first_second = pair.stand_in(seen, first, second)
                if T_first_second is not None:
                    self._extrinsics.attach(pair.second, pair.name, T_first_second)
                    standing[pair.second] = pair.name, T_first_second
                    found[pair.second] = seen
        return self._mounted(instant, found, standing)

    def _relieve(self, pair: StereoPair) -> None:
        """Note that the first camera of a pair is back."""
        if pair.stands_in:
            pair.stands_in = False
            self._relieved.append(pair.second)

    def relieved(self) -> list[str]:
        """Return the second cameras that stand in no longer, once: they are not tracked."""
        relieved, self._relieved = self._relieved, []
        return relieved

    def _mounted(self, instant: Instant, frames: Mapping[str, Frame],
                 standing: Mapping[str, tuple[str, Array]]) -> list[Frame]:
        """
        Give frames their mounts, where these are known.

        :param standing: for each second camera among them the first one, and its pose there
        """
        if self._mounts is None:
            return list(frames.values())
        ids = {name: self._inputs[name].frame_id for name in self._tracked}
        placed = self._mounts.known({name: frame for name, frame in ids.items() if frame})
        for second, (first, T_first_second) in standing.items():
            if first in placed:
                placed[second] = placed[first] @ T_first_second
        self._unplaced = tuple(n for n, frame in ids.items() if frame and n not in placed)
        return [replace(frame, mount=RigMount(placed[name], instant.stamp_ns))
                if name in placed else frame for name, frame in frames.items()]

    def check(self, frames: Sequence[Frame], keyframe: int | None) -> None:
        """
        Check the extrinsics of stereo pairs.

        :param keyframe: id of the newest one; None before the first
        """
        by_name = {frame.camera_name: frame for frame in frames}
        for pair in self._pairs:
            if pair.name in by_name:
                pair.check(by_name[pair.name], keyframe)

    def connect(self, inputs: Sequence[CameraInput]) -> None:
        """Take over the inputs of the cameras, before the first image."""
        self._inputs = {camera.name: camera for camera in inputs}

    def pair_healths(self) -> list[PairHealth]:
        """Return the states of its stereo pairs, for diagnostics."""
        offsets = self._counts().offsets
        found = []
        for pair in self._pairs:
            to_first = offsets.get(pair.name)
            offset = offsets.get(pair.second)
            ms = None if offset is None else offset.ns / 1e6
            if ms is not None and pair.name != self.cameras[0]:
                ms = None if to_first is None else ms - to_first.ns / 1e6
            found.append(pair.health(ms, self._offset_notice(pair.second, offset)))
        return found

    def health(self) -> RigHealth | None:
        """Return the state, for diagnostics; None of a stereo pair alone."""
        if self._mounts is None:
            return None
        counts = self._counts()
        notices = [self._offset_notice(name, counts.offsets.get(name)) for name in self.cameras]
        notices += [self._mounts.remedy(name) for name in self._unplaced]
        return RigHealth(
            self.cameras, counts.complete, counts.without,
            {name: offset.ns / 1e6 for name, offset in counts.offsets.items()},
            self._mounts.source_name, self._unplaced, next(filter(None, notices), ''))

    def _counts(self) -> BundleCounts:
        with self._lock:
            return self._bundler.counts

    def _offset_notice(self, camera: str, offset: Offset | None) -> str:
        """Say that a camera's stamps are off by too much; '' where they are not."""
        if offset is None or not (
                offset.contradictory or abs(offset.nearest_ns) > self._tolerance_ns):
            return ''
        return (f'stamps of {camera} are {offset.ns / 1e6:+.1f} ms off those of '
                f'{self.cameras[0]}, constantly: not paired; if they are taken at the same '
                f'instant, set {camera}.time_offset: {-offset.ns / 1e9:.4f}')


def make_rigs(config: Config, pairs: Sequence[StereoPair],
              fixed_root: Callable[[str], tuple[str, Array]], extrinsics: Extrinsics,
              queue: Callable[[Instant], None]) -> list[Rig]:
    """
    Make the rigs: one of all cameras, or one of each stereo pair.

    :param pairs: of all stereo cameras
    :param fixed_root: see `Mounts`
    :raises InputError: for a calibration file that cannot be used
    """
    def rig(name: str, tracked: Sequence[CameraConfig], mounts: Mounts | None) -> Rig:
        names = [c.name for c in tracked]
        return Rig(name, names, [p for p in pairs if p.name in names], config.all_cameras,
                   config.stereo_tolerance, mounts, extrinsics, queue)

    if config.rig and len(config.cameras) > 1:
        return [rig(RIG, config.cameras, Mounts(config.cameras, fixed_root))]
    return [rig(c.name, [c], None) for c in config.cameras if c.stereo]
