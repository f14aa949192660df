# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A stereo rig of the node: pairs its images, knows its extrinsics, checks them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock
import time

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.io.stamps import NS_PER_S
from recon3r_ros.ros.inputs import Arrival, CameraInput
from recon3r_ros.ros.parameters import CameraConfig
from recon3r_ros.ros.rig_extrinsics import RigExtrinsics
from recon3r_ros.slam.bundles import Bundle, Bundler
from recon3r_ros.slam.extrinsics_check import ExtrinsicsCheck, ExtrinsicsState
from recon3r_ros.slam.types import Frame, StereoView

#: Pairs that are checked before there is a keyframe, and seconds between them
_EARLY_CHECKS, _EARLY_PERIOD_S = 5, 1.0


@dataclass(frozen=True)
class RigHealth:
    """
    State of a stereo rig.

    :param name: of the first camera
    :param second: of the second one
    :param pairs: images that have been paired
    :param without_partner: images of the first camera that went on alone
    :param left_over: images of the second camera without one of the first
    :param offset_ms: constant offset of the second camera's stamps; None where there is none
    :param source: of the extrinsics; '' where they are unknown
    :param baseline_m: distance of the cameras; None where unknown
    :param error_px: median epipolar error; None where not measured
    :param notice: what is wrong and the remedy; '' where nothing is
    """

    name: str
    second: str
    pairs: int
    without_partner: int
    left_over: int
    offset_ms: float | None
    source: str
    baseline_m: float | None
    error_px: float | None
    notice: str


class Rig:
    """
    Owner of the pairs and the extrinsics of one stereo rig.

    Images are added in the executor's thread, frames are completed in the worker's.

    :param first: what the parameters say of the first camera
    :param second: and of the second
    :param tolerance_s: greatest difference of stamps of a pair
    :param queue: takes images of the first camera, with their partners where they have one
    :param extrinsics: of the two
    :param warn: called with a warning of one line
    """

    def __init__(self, first: CameraConfig, second: CameraConfig, tolerance_s: float,
                 queue: Callable[[Arrival], None], extrinsics: RigExtrinsics,
                 warn: Callable[[str], None]) -> None:
        self.name, self.second = first.name, second.name
        self._queue = queue
        self._extrinsics = extrinsics
        self._warn = warn
        self._tolerance_s = tolerance_s
        self._lock = Lock()
        self._bundler: Bundler[Arrival] = Bundler(
            (first.name, second.name), round(tolerance_s * NS_PER_S), corrections_ns={
                c.name: round(c.time_offset * NS_PER_S) for c in (first, second)})
        self._check: ExtrinsicsCheck | None = None
        self._checked: int | None = None
        self._early = 0
        self._early_at_s = 0.0
        self._problem = ''

    def on_arrival(self, arrival: Arrival) -> None:
        """Take an image of either camera; pass on what is complete or need not wait."""
        with self._lock:
            released = self._bundler.add(arrival.camera.name, arrival.stamp_ns, arrival,
                                         round(arrival.arrival_s * NS_PER_S))
        self._pass_on(released)

    def poll(self) -> None:
        """Pass on what has waited for too long; to be called now and then."""
        with self._lock:
            released = self._bundler.poll(time.monotonic_ns())
        self._pass_on(released)

    def _pass_on(self, released: list[Bundle[Arrival]]) -> None:
        for bundle in released:
            first = bundle.items.get(self.name)
            if first is not None:
                self._queue(replace(first, partner=bundle.items.get(self.second)))

    def completed(self, frame: Frame, partner: Arrival, camera: CameraInput) -> Frame:
        """
        Return a frame with what the second camera saw, as far as that can be used.

        :param camera: the first one, whose intrinsics and frame are known
        """
        if frame.camera is None:
            return self._without(frame, f'{self.name} has no intrinsics')
        try:
            seen = partner.camera.frame(partner)
        except InputError as error:
            partner.camera.reject(f'image at {partner.stamp_ns}: {error}')
            return frame
        if seen is None or seen.camera is None:
            return self._without(frame, f'{self.second} has no intrinsics: publish '
                                 f'{self.second}/camera_info, or set {self.second}.calibration')
        T_given = self._extrinsics.T_first_second(camera, partner.camera, frame.stamp_ns)
        if T_given is None:
            return self._without(frame, self._extrinsics.remedy)
        self._problem = ''
        return replace(frame, stereo=StereoView(
            seen.image, seen.camera, self._in_use(T_given), self.second))

    def _without(self, frame: Frame, problem: str) -> Frame:
        if problem != self._problem:
            self._problem = problem
            self._warn(f'images are used without depth of the pair: {problem}')
        return frame

    def _in_use(self, T_given: NDArray[np.float64]) -> NDArray[np.float64]:
        check = self._check
        if check is None or not np.allclose(check.given, T_given, atol=1e-6):
            self._check = check = ExtrinsicsCheck(T_given, self.second)
            self._checked, self._early = None, 0
        return check.state.T_cam_other

    def check(self, frame: Frame, keyframe: int | None) -> None:
        """
        Check the extrinsics by a frame's pair, once for each keyframe.

        :param keyframe: id of the newest one; None before the first, when a few pairs are checked
        """
        check = self._check
        if frame.stereo is None or frame.camera is None or check is None:
            return
        now = time.monotonic()
        if keyframe is None:
            if self._early >= _EARLY_CHECKS or now < self._early_at_s:
                return
            self._early, self._early_at_s = self._early + 1, now + _EARLY_PERIOD_S
        elif keyframe == self._checked:
            return
        self._checked = keyframe
        before = check.state
        after = check.add(frame.image, frame.camera, frame.stereo)
        if after.notice and (not before.notice or after.refined != before.refined):
            self._warn(after.notice)

    def health(self) -> RigHealth:
        """Return the state, for diagnostics."""
        with self._lock:
            counts = self._bundler.counts
        check = self._check
        state = None if check is None else check.state
        offset = counts.offsets.get(self.second)
        notice = self._problem
        if offset is not None and (
                offset.contradictory or abs(offset.nearest_ns) > self._tolerance_s * NS_PER_S):
            notice = (f'stamps of {self.second} are {offset.ns / 1e6:+.1f} ms off those of '
                      f'{self.name}, constantly: not paired; if they are taken at the same '
                      f'instant, set {self.second}.time_offset: {-offset.ns / 1e9:.4f}')
        return RigHealth(
            self.name, self.second, counts.complete, counts.without[self.second],
            counts.without[self.name], None if offset is None else offset.ns / 1e6,
            self._extrinsics.source if state is None or not state.refined else 'refined',
            None if state is None else float(np.linalg.norm(state.T_cam_other[:3, 3])),
            _error(state), notice or ('' if state is None else state.notice))


def _error(state: ExtrinsicsState | None) -> float | None:
    return None if state is None else state.refined_error_px
