# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A stereo pair of the node: joins its images, knows its extrinsics, checks them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
import time

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.ros.inputs import CameraInput
from recon3r_ros.ros.pair_extrinsics import PairExtrinsics
from recon3r_ros.slam.extrinsics_check import ExtrinsicsCheck, ExtrinsicsState
from recon3r_ros.slam.types import Frame, StereoView

Array = NDArray[np.float64]

#: Pairs that are checked before there is a keyframe, and seconds between them
_EARLY_CHECKS, _EARLY_PERIOD_S = 5, 1.0


@dataclass(frozen=True)
class PairHealth:
    """
    State of a stereo pair.

    :param name: of the first camera
    :param second: of the second one
    :param pairs: images that have been paired
    :param without_partner: images of the first camera that went on alone
    :param left_over: images of the second camera without one of the first
    :param stands_in: whether the second camera is tracked in place of the first
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
    stands_in: bool
    offset_ms: float | None
    source: str
    baseline_m: float | None
    error_px: float | None
    notice: str


class StereoPair:
    """
    Owner of the extrinsics of one stereo pair; its images come from the rig.

    Images are counted in the executor's thread, all else is done in the worker's.

    :param name: of the first camera
    :param second: of the second
    :param extrinsics: of the two
    :param warn: called with a warning of one line
    """

    def __init__(self, name: str, second: str, extrinsics: PairExtrinsics,
                 warn: Callable[[str], None]) -> None:
        self.name, self.second = name, second
        self._extrinsics = extrinsics
        self._warn = warn
        self._pairs = self._without_partner = self._left_over = 0
        self._check: ExtrinsicsCheck | None = None
        self._checked: int | None = None
        self._early = 0
        self._early_at_s = 0.0
        self._problem = ''
        #: Whether the second camera is tracked in place of the first
        self.stands_in = False

    def count(self, cameras: Collection[str]) -> None:
        """Count an instant, of which there are images of these cameras."""
        first, second = self.name in cameras, self.second in cameras
        self._pairs += first and second
        self._without_partner += first and not second
        self._left_over += second and not first

    def joined(self, frame: Frame, seen: Frame, first: CameraInput, second: CameraInput) -> Frame:
        """
        Return a frame with what the second camera saw, as far as that can be used.

        :param seen: frame of the second camera at that instant
        """
        if frame.camera is None:
            return self._without(frame, f'{self.name} has no intrinsics')
        if seen.camera is None:
            return self._without(frame, self._no_intrinsics)
        T_first_second = self.T_first_second(first, second, frame.stamp_ns)
        if T_first_second is None:
            return self._without(frame, self._extrinsics.remedy)
        self._problem = ''
        return replace(frame, stereo=StereoView(
            seen.image, seen.camera, T_first_second, self.second))

    def T_first_second(self, first: CameraInput, second: CameraInput, stamp_ns: int
                       ) -> Array | None:
        """Return the pose (4, 4) in use, metres, perhaps a refined one; None where unknown."""
        T_given = self._extrinsics.T_first_second(first, second, stamp_ns)
        return None if T_given is None else self._in_use(T_given)

    def stand_in(self, seen: Frame, first: CameraInput, second: CameraInput) -> Array | None:
        """
        Let the second camera be tracked, as the first one sends no images.

        :return: its pose (4, 4) in the first one's frame; None where it cannot, with a warning
        """
        T = None
        if seen.camera is None:
            self._without(seen, self._no_intrinsics)
        else:
            T = self.T_first_second(first, second, seen.stamp_ns)
            if T is None:
                self._without(seen, self._extrinsics.remedy)
        if T is not None and not self.stands_in:
            self._problem = ''
            self._warn(f'no images: {self.second} is tracked in its place')
        self.stands_in = T is not None
        return T

    @property
    def _no_intrinsics(self) -> str:
        return (f'{self.second} has no intrinsics: publish {self.second}/camera_info, or set '
                f'{self.second}.calibration')

    def _without(self, frame: Frame, problem: str) -> Frame:
        if problem != self._problem:
            self._problem = problem
            self._warn(f'images are used without depth of the pair: {problem}')
        return frame

    def _in_use(self, T_given: Array) -> Array:
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

    def health(self, offset_ms: float | None, offset_notice: str) -> PairHealth:
        """
        Return the state, for diagnostics.

        :param offset_ms: of the second camera's stamps, where constant
        :param offset_notice: why it prevents pairs, and the remedy; '' where it does not
        """
        check = self._check
        state = None if check is None else check.state
        return PairHealth(
            self.name, self.second, self._pairs, self._without_partner, self._left_over,
            self.stands_in, offset_ms,
            self._extrinsics.source if state is None or not state.refined else 'refined',
            None if state is None else float(np.linalg.norm(state.T_cam_other[:3, 3])),
            _error(state), offset_notice or self._problem or (
                '' if state is None else state.notice))


def _error(state: ExtrinsicsState | None) -> float | None:
    return None if state is None else state.refined_error_px
