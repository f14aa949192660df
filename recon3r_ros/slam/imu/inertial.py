# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the IMU says of the cameras: their rotations and gravity; the owner of its state."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
import logging
import re

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.slam.imu.bias import BiasFilter, FLOOR
from recon3r_ros.slam.imu.gravity import (
    BIAS_SIGMA,
    FrameForce,
    Gravity,
    gravity,
    STANDARD_GRAVITY,
    up_of,
)
from recon3r_ros.slam.imu.integration import integrated, problem_of
from recon3r_ros.slam.imu.samples import ImuSamples, Turn
from recon3r_ros.slam.imu.standstill import Standstill

Array = NDArray[np.float64]

_log = logging.getLogger(__name__)

#: Time for which samples are kept; frames further apart say nothing of each other
HISTORY_NS = 5_000_000_000
#: Samples that are equal for this long come from a gyroscope that is dead
DEAD_NS, DEAD_SAMPLES = 1_000_000_000, 20
#: Frames for which what the IMU said is kept
MAX_FRAMES = 20_000
#: Seconds between two frames by which the bias is measured, and errors of their rotations beside
#: their covariance: radians
BIAS_PERIOD_S, IMAGE_SIGMA = 0.5, 2e-3
#: Standard deviation of a rotation at standstill, radians
STILL_SIGMA = 1e-4


@dataclass(frozen=True, eq=False)
class _Tracked:
    """A tracked frame: when, and its rotation R_map_cam with covariance, in its camera."""

    stamp_ns: int
    R_map_cam: Array
    covariance: Array


class _CameraState:
    """What is kept of one camera: its last frame, and the last tracked one."""

    def __init__(self) -> None:
        self.stamp_ns: int | None = None
        self.standstill = Standstill()
        self.up: Array = np.full(3, np.nan)
        self.up_sigma = np.inf
        self.tracked: _Tracked | None = None


class Inertial:
    """
    Takes the samples that come with frames; the only writer of bias, rest and gravity.

    `gyroscope_problem` says why the gyroscope is not used; '' where it is.
    """

    def __init__(self) -> None:
        self._samples: ImuSamples | None = None
        self._bias = BiasFilter()
        self._cameras: dict[str, _CameraState] = {}
        self._forces: dict[tuple[str, int], FrameForce] = {}
        self._order: deque[tuple[str, int]] = deque()
        self._broken: set[str] = set()
        self.gyroscope_problem = ''

    @property
    def bias(self) -> tuple[Array, float]:
        """Bias (3,) of the gyroscope in its frame, and its standard deviation, rad/s."""
        return self._bias.mean, self._bias.sigma

    def add(self, camera: str, stamp_ns: int, samples: ImuSamples | None,
            image: NDArray[np.uint8]) -> Turn | None:
        """
        Take a frame with the samples until then; some may have come before.

        :param image: (H, W) or (H, W, 3) uint8
        :return: its rotation since the camera's frame before; None where that is not known
        """
        if samples is None and self._samples is None:
            return None
        state = self._cameras.setdefault(camera, _CameraState())
        before_ns, state.stamp_ns = state.stamp_ns, stamp_ns
        if before_ns is not None and stamp_ns < before_ns:
            self._restart(camera, stamp_ns)  # time has gone back
            state, before_ns = self._cameras[camera], None
        if samples is not None:
            self._take(samples, stamp_ns)
        known = self._samples
        assert known is not None
        since_ns = state.standstill.add(image, stamp_ns, known)
        if since_ns is not None:
            self._rest(state, known.between(since_ns, stamp_ns))
        turn = None if before_ns is None else self._turn(known, before_ns, stamp_ns)
        if turn is not None and since_ns is not None:
            turn = Turn(np.eye(3), np.eye(3) * STILL_SIGMA ** 2, turn.duration_s, still=True)
        self._carry(state, turn, since_ns is not None)
        self._note(camera, stamp_ns, _force(known, before_ns, stamp_ns, state))
        return turn

    def tracked(self, camera: str, stamp_ns: int, R_map_cam: Array, covariance: Array) -> None:
        """
        Take the rotation of a frame that was tracked by its images: it measures the bias.

        :param R_map_cam: (3, 3)
        :param covariance: (3, 3) in the camera's frame, rad^2
        """
        state, known = self._cameras.get(camera), self._samples
        if state is None or known is None:
            return
        last, this = state.tracked, _Tracked(stamp_ns, R_map_cam, covariance)
        if last is None or not 0 <= stamp_ns - last.stamp_ns < HISTORY_NS:
            state.tracked = this
            return
        if stamp_ns - last.stamp_ns < BIAS_PERIOD_S * 1e9:
            return
        state.tracked = this
        found = integrated(known, self._bias.mean, last.stamp_ns, stamp_ns)
        if found is None or problem_of(known.between(last.stamp_ns, stamp_ns)):
            return
        R_cam_imu = known.R_cam_imu
        residual = se3.so3_log(found.R_begin_end.T @ (
            R_cam_imu.T @ last.R_map_cam.T @ R_map_cam @ R_cam_imu))
        noise = (known.gyroscope_noise ** 2 * found.duration_s + 2 * IMAGE_SIGMA ** 2
                 + (0.01 * float(se3.rotation_angle(found.R_begin_end))) ** 2)
        self._bias.predict(found.duration_s)
        self._bias.observe_turn(residual, found.J, np.eye(3) * noise + R_cam_imu.T @ (
            last.covariance + covariance) @ R_cam_imu)

    def lost(self, camera: str) -> None:
        """Measure no bias across a frame that was not tracked, or across a map's end."""
        if camera in self._cameras:
            self._cameras[camera].tracked = None

    def leave_map(self) -> None:
        """Measure no bias across the maps' border: another one is begun."""
        for camera in self._cameras:
            self.lost(camera)

    def gravity(self, poses: Iterable[tuple[str, int, Array]]) -> Gravity | None:
        """
        Direction of gravity in a map.

        :param poses: camera, stamp (ns) and R_map_cam (3, 3) of frames in it
        """
        return gravity((self._forces[camera, stamp_ns], R) for camera, stamp_ns, R in poses
                       if (camera, stamp_ns) in self._forces)

    def _restart(self, camera: str, stamp_ns: int) -> None:
        self._cameras[camera] = _CameraState()
        self._cameras[camera].stamp_ns = stamp_ns
        self._samples = None if self._samples is None else self._samples.between(0, stamp_ns)

    def _take(self, samples: ImuSamples, stamp_ns: int) -> None:
        """Keep the samples that can be used, in order."""
        sound = np.asarray(np.isfinite(samples.gyroscope).all(1)
                           & np.isfinite(samples.accelerometer).all(1))
        if not sound.all():
            self._warn('NaN', f'{int((~sound).sum())} samples of the IMU are not finite and are '
                       'left out')
        fresh = samples.chosen(sound)
        known = fresh.joined(fresh.chosen(slice(0))) if self._samples is None else (
            self._samples.joined(fresh))
        self._samples = known.chosen(known.stamps_ns > stamp_ns - HISTORY_NS)

    def _rest(self, state: _CameraState, resting: ImuSamples) -> None:
        """Measure bias and gravity at standstill."""
        seconds = float(np.ptp(resting.stamps_ns)) * 1e-9 if len(resting) else 0.0
        if seconds <= 0:
            return
        white = resting.gyroscope_noise / np.sqrt(seconds)
        spread = float(np.linalg.norm(resting.gyroscope.std(axis=0))) / np.sqrt(len(resting))
        self._bias.observe_still(resting.gyroscope.mean(axis=0), max(white, spread, FLOOR))
        force = resting.accelerometer.mean(axis=0)
        up = up_of(resting.R_cam_imu @ force)
        if up is not None:
            scatter = (float(np.linalg.norm(resting.accelerometer.std(axis=0)))
                       / np.sqrt(len(resting)))
            state.up = up
            state.up_sigma = float(np.hypot(scatter, BIAS_SIGMA)) / STANDARD_GRAVITY

    def _turn(self, known: ImuSamples, begin_ns: int, end_ns: int) -> Turn | None:
        """Integrate the gyroscope between two frames."""
        self.gyroscope_problem = self._problem(known, begin_ns, end_ns)
        if self.gyroscope_problem:
            self._warn(re.sub(r'[\d.]+', '', self.gyroscope_problem),
                       f'gyroscope ignored: {self.gyroscope_problem}')
            return None
        found = integrated(known, self._bias.mean, begin_ns, end_ns)
        if found is None:
            self.gyroscope_problem = 'it has no samples between the last two images'
            return None
        self._bias.predict(found.duration_s)
        R_cam_imu = known.R_cam_imu
        covariance = found.J @ (self._bias.covariance + np.eye(3) * FLOOR ** 2) @ found.J.T + (
            np.eye(3) * known.gyroscope_noise ** 2 * found.duration_s)
        return Turn(R_cam_imu @ found.R_begin_end @ R_cam_imu.T,
                    R_cam_imu @ covariance @ R_cam_imu.T, found.duration_s)

    def _problem(self, known: ImuSamples, begin_ns: int, end_ns: int) -> str:
        if self._bias.contradicted:
            return ('it contradicts the images: verify the extrinsics between IMU and camera, '
                    'and that both have the same clock')
        recent = known.between(end_ns - DEAD_NS, end_ns)
        if (len(recent) >= DEAD_SAMPLES and np.ptp(recent.stamps_ns) > 0.8 * DEAD_NS
                and np.all(recent.gyroscope == recent.gyroscope[0])):
            return 'it is dead: all its samples have the same value'
        return problem_of(known.between(begin_ns, end_ns))

    def _carry(self, state: _CameraState, turn: Turn | None, still: bool) -> None:
        """Turn what standstill said of gravity with the camera."""
        if still:
            return
        if turn is None:
            state.up, state.up_sigma = np.full(3, np.nan), np.inf
        else:
            state.up = turn.R_prev_cam.T @ state.up
            state.up_sigma += turn.sigma

    def _note(self, camera: str, stamp_ns: int, force: FrameForce) -> None:
        self._forces[camera, stamp_ns] = force
        self._order.append((camera, stamp_ns))
        while len(self._order) > MAX_FRAMES:
            self._forces.pop(self._order.popleft(), None)

    def _warn(self, kind: str, text: str) -> None:
        """Log a warning, once of each kind."""
        if kind not in self._broken:
            self._broken.add(kind)
            _log.warning('%s', text)


def _force(known: ImuSamples, before_ns: int | None, stamp_ns: int, state: _CameraState
           ) -> FrameForce:
    """Return what the IMU says of a frame."""
    nothing = np.full(3, np.nan)
    if before_ns is None:
        return FrameForce(nothing, 0.0, state.up, state.up_sigma)
    since = known.between(before_ns, stamp_ns)
    seconds = (stamp_ns - before_ns) * 1e-9
    force = nothing if not len(since) or seconds > 1.0 else (
        since.R_cam_imu @ since.accelerometer.mean(axis=0))
    return FrameForce(force, seconds, state.up, state.up_sigma)
