# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Counts and latencies for diagnostics; written by the worker and the callbacks."""

from __future__ import annotations

from collections import deque
import time

from recon3r_ros.slam.types import Update

#: Latencies that medians are taken of
LATENCIES = 300


class Statistics:
    """Counts and latencies of the images so far."""

    def __init__(self) -> None:
        self.posed: dict[str, int] = {}
        self.ages: dict[str, float] = {}
        self.latencies: dict[str, deque[float]] = {}
        self._newest_ns: dict[str, int] = {}

    def note(self, stage: str, seconds: float) -> None:
        """Record the run time of a stage."""
        self.latencies.setdefault(stage, deque(maxlen=LATENCIES)).append(seconds)

    def count(self, update: Update) -> None:
        """Count the frames that got a pose."""
        for tracked in update.frames:
            camera = tracked.camera_name
            self.posed[camera] = self.posed.get(camera, 0) + 1
            self._newest_ns[camera] = max(self._newest_ns.get(camera, 0), tracked.stamp_ns)
        if update.times.track:
            self.note('tracking', update.times.track)
            self.note('motion', update.times.motion)

    def published(self, camera: str, stamp_ns: int, arrival_s: float) -> None:
        """
        Record that all results of an image have been published.

        :param arrival_s: when it arrived (time.monotonic)
        """
        if self._newest_ns.get(camera) == stamp_ns:
            self.ages[camera] = time.monotonic() - arrival_s
            self.note('arrival to pose', self.ages[camera])

    def restart_clock(self) -> None:
        """Time has gone back."""
        self._newest_ns.clear()
