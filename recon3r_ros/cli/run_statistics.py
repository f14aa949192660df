# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Times and counts of a run, for its report."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from time import perf_counter

from recon3r_ros.cli.report import Timings
from recon3r_ros.slam.backend.subprocess_executor import KeyframeTime
from recon3r_ros.slam.types import StageTimes, Update


class Stopwatch:
    """Adds up the seconds that the blocks take of which it is the context manager."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._begin = 0.0

    def __enter__(self) -> None:
        self._begin = perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += perf_counter() - self._begin


class RunStatistics:
    """Measures a run from its making on; a stopwatch for each part that is not frame by frame."""

    def __init__(self) -> None:
        self._begin = perf_counter()
        self.reading = Stopwatch()
        self.completing = Stopwatch()
        self.finishing = Stopwatch()
        self.smoothing = Stopwatch()
        self.writing = Stopwatch()
        self._stages: list[StageTimes] = []
        self._frame_s: list[float] = []
        self._frame_cpu_s: list[float] = []
        self._landmarks: list[int] = []

    def note(self, update: Update) -> None:
        """Record the times and landmarks of a processed frame."""
        times = update.times
        if times.track > 0:
            self._stages.append(times)
        self._landmarks += [f.landmarks for f in update.frames if f.landmarks]
        if update.frames and update.keyframe is None:
            self._frame_s.append(times.total)
            self._frame_cpu_s.append(times.total_cpu)

    @property
    def landmarks_median(self) -> float | None:
        """Landmarks that agree with a frame's pose; None if none was tracked."""
        return median(self._landmarks) if self._landmarks else None

    def timings(self, keyframes: Iterable[KeyframeTime]) -> Timings:
        """
        Return the times so far.

        :param keyframes: times of local mapping, for each keyframe
        """
        mapped = list(keyframes)
        return Timings(
            total_s=perf_counter() - self._begin, read_s=self.reading.seconds,
            track_median_ms=_median_ms([t.track for t in self._stages]),
            motion_median_ms=_median_ms([t.motion for t in self._stages]),
            frame_median_ms=_median_ms(self._frame_s),
            keyframe_median_ms=_median_ms([t.wall_s for t in mapped]),
            complete_s=self.completing.seconds, finish_s=self.finishing.seconds,
            smooth_s=self.smoothing.seconds, write_s=self.writing.seconds,
            track_cpu_median_ms=_median_ms([t.track_cpu for t in self._stages]),
            motion_cpu_median_ms=_median_ms([t.motion_cpu for t in self._stages]),
            frame_cpu_median_ms=_median_ms(self._frame_cpu_s),
            keyframe_cpu_median_ms=_median_ms([t.cpu_s for t in mapped]))


def _median_ms(seconds: list[float]) -> float | None:
    return 1e3 * median(seconds) if seconds else None
