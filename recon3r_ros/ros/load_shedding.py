# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Load shedding: less work for each image where images come faster than they can be processed.

Latency is measured in image periods. Where it exceeds `LATE` periods, or `TOO_LATE` before images
are skipped, effort is reduced by one level; where the worker has time to spare, it is restored by
one. A level that had to be left again soon is tried at growing intervals, so that effort does not
oscillate at the limit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from recon3r_ros.slam.effort import Effort, EFFORTS

#: Latency, in image periods, above which effort is reduced, and below which it may be restored
LATE, PROMPT = 2.0, 1.0
#: Latency, in image periods, above which images are skipped, and seconds that it must last for all
#: but a few images: their poses are lost, and a burst ends by itself
TOO_LATE, TOO_LATE_S = 4.0, 2.0
#: Image periods that an image has waited, above which others wait behind it; and their effort
BEHIND, HURRY = 1.0, Effort(mask_period=4)
#: Share of time that the worker is busy below which effort may be restored
SPARE = 0.55
#: Percentile of the latencies, and the time and the number of images that it is taken of
PERCENTILE, WINDOW_S, LEAST_IMAGES = 80, 2.0, 5
#: Seconds after a change before effort is reduced further, or restored; and the longest interval
#: between attempts to restore it
REDUCE_S, RESTORE_S, LONGEST_S = 0.5, 2.0, 32.0


@dataclass(frozen=True)
class _Processed:
    """
    A processed image.

    :param at: when (seconds, monotonic)
    :param periods: its latency in image periods
    :param busy: seconds that the worker spent on it
    """

    at: float
    periods: float
    busy: float


class LoadShedding:
    """
    Chooses the effort by measured latency.

    :param changed: called with the effort and the reason, in one line, at each change
    """

    def __init__(self, changed: Callable[[Effort, str], None]) -> None:
        self._changed = changed
        self._level = 0
        self._since = 0.0
        self._patience = RESTORE_S
        self._restored = False
        self._reason = ''
        self._processed: deque[_Processed] = deque()
        self._counts: dict[str, int] = {}

    @property
    def effort(self) -> Effort:
        """The present effort."""
        return EFFORTS[self._level]

    @property
    def description(self) -> str:
        """What is shed, and why, for diagnostics; 'none' at full effort."""
        return f'{self.effort}: {self._reason}' if self._level else str(self.effort)

    def skips(self, camera: str) -> bool:
        """Count an image of a camera; whether it is to be skipped, evenly."""
        count = self._counts[camera] = self._counts.get(camera, -1) + 1
        return count % self.effort.image_period != 0

    def effort_for(self, waited: float, period: float) -> Effort:
        """
        Return the effort for an image: less than the present one where it has waited.

        A keyframe that is taken over delays the images behind it. They catch up at once, and none
        is lost; the effort of the others stays.

        :param waited: since its arrival, seconds
        :param period: between images of its camera, seconds; not positive where unknown
        """
        if waited <= BEHIND * period or period <= 0:
            return self.effort
        return replace(self.effort, mask_period=max(self.effort.mask_period, HURRY.mask_period))

    def add(self, now: float, latency: float, period: float, busy: float) -> None:
        """
        Take account of a processed image.

        :param now: seconds, monotonic
        :param latency: from its arrival until all of it was published, seconds
        :param period: between images of its camera, seconds; not positive where unknown
        :param busy: seconds that the worker spent on it
        """
        if period <= 0:
            return
        self._processed.append(_Processed(now, latency / period, busy))
        while self._processed[0].at < now - WINDOW_S:
            self._processed.popleft()
        recent = [p for p in self._processed if p.at > self._since]
        if len(recent) < LEAST_IMAGES:
            return
        periods = float(np.percentile([p.periods for p in recent], PERCENTILE))
        share = sum(p.busy for p in recent) / max(now - recent[0].at, 1e-3)
        waited = now - self._since
        late = periods > LATE and waited > REDUCE_S
        if self._level < len(EFFORTS) - 1 and EFFORTS[self._level + 1].image_period > 1:
            lasting = float(np.percentile([p.periods for p in recent], 100 - PERCENTILE))
            late = lasting > TOO_LATE and waited > TOO_LATE_S
        if late and self._level < len(EFFORTS) - 1:
            soon = self._restored and waited < 2 * self._patience
            self._patience = min(2 * self._patience, LONGEST_S) if soon else RESTORE_S
            self._change(self._level + 1, now, f'latency {1e3 * periods * period:.0f} ms at an '
                                               f'image period of {1e3 * period:.0f} ms')
        elif periods < PROMPT and share < SPARE and waited > self._patience and self._level:
            self._change(self._level - 1, now, f'the worker is busy {100 * share:.0f} % of the '
                                               'time')

    def _change(self, level: int, now: float, reason: str) -> None:
        self._restored = level < self._level
        self._level, self._since, self._reason = level, now, reason
        self._changed(self.effort, reason)
