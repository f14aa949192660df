# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Log lines of events: map started, tracking lost, relocalised, loops closed."""

from __future__ import annotations

from collections.abc import Callable

from recon3r_ros.slam.types import Map, MetricScale, TrackingState


class EventLog:
    """
    Compares the state after each image with that before.

    :param info: writes a line
    """

    def __init__(self, info: Callable[[str], None]) -> None:
        self._info = info
        self._states: dict[str, TrackingState] = {}
        #: The newest keyframe whose loops are logged
        self._newest = -1

    def tracked(self, camera: str, state: TrackingState | None, known: Map) -> None:
        """
        Log a change of a camera's state.

        :param known: the map
        """
        before = self._states.get(camera)
        if state is None or state is before:
            return
        self._states[camera] = state
        count = len(known.keyframes)
        if state is TrackingState.LOST:
            if before is TrackingState.TRACKING:
                self._info(f'{camera}: tracking lost, relocalising')
            else:
                self._info(f'{camera}: relocalising in a map of {count} keyframes')
        elif state is TrackingState.TRACKING and before is TrackingState.LOST:
            self._info(f'{camera}: relocalised')
        elif state is TrackingState.TRACKING:
            self._info(f'{camera}: map started with {count} keyframe{"s" * (count > 1)}, tracking')
        else:
            self._info(f'{camera}: initialising: move the camera sideways to start the map')

    def mapped(self, known: Map) -> None:
        """Log loops that have been closed since the last call."""
        # An edge of an older keyframe may be new, too: that of a culled one, taken over
        for i, j in sorted((e.i, e.j) for e in known.edges if e.loop and e.j > self._newest):
            self._info(f'loop closed between keyframes {i} and {j}')
        self._newest = max(known.keyframes, default=-1)

    def scaled(self, metric: MetricScale | None) -> None:
        """Log that the published scale has changed."""
        if metric is None:
            self._info('scale: unknown')
        else:
            self._info(f'scale: {metric.value:.4g} m per map unit, within {metric.sigma:.1%}, '
                       f'from {metric.source}')

    def levelled(self, status: str) -> None:
        """Log whether the map has been turned so that its z axis is up."""
        self._info(f'gravity: {status}')

    def forget(self) -> None:
        """Begin again: the map has been reset or replaced."""
        self._states.clear()
        self._newest = -1

    def restored(self, known: Map) -> None:
        """Take over a saved map, whose loops are not logged again."""
        self._newest = max(known.keyframes, default=-1)
