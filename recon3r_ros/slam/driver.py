# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Feeds frames to a system and its updates to a sink, for `recon3r run` and the node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import logging
from typing import Protocol

from recon3r_ros.errors import InputError, Recon3rError
from recon3r_ros.slam.saved_map import SavedMap
from recon3r_ros.slam.system import System
from recon3r_ros.slam.types import Frame, MetricScale, Update

_log = logging.getLogger(__name__)
#: Consecutive images of another size or camera_info after which the camera counts as replaced
CHANGED_AFTER = 10


class Sink(Protocol):
    """Where results go: files, publishers."""

    def update(self, update: Update, frame: Frame | None) -> None:
        """
        Take an update.

        :param frame: the processed frame; None for a keyframe that was finished in the meantime
        """
        ...

    def reset(self) -> None:
        """Withdraw the map: it was reset or replaced."""
        ...


class Driver:
    """
    Runs a system on frames of any source.

    :param sink: of the updates
    :param scale_source: see `System.metric`
    :param warn: takes warnings, one line each
    :param most_earlier: keyframes that earlier maps may have together, else the smallest ones are
        forgotten; None keeps all
    """

    def __init__(self, system: System, sink: Sink, scale_source: str = 'auto',
                 warn: Callable[[str], None] = _log.warning, most_earlier: int | None = None
                 ) -> None:
        self.system = system
        self._sink = sink
        self._scale_source = scale_source
        self._warn = warn
        self._most_earlier = most_earlier
        self._unlike: dict[str, int] = {}
        self._map_number = 0

    @property
    def metric(self) -> MetricScale | None:
        """Metres per map unit, where known."""
        return self.system.metric(self._scale_source)

    def add(self, frame: Frame) -> None:
        """
        Process a frame.

        :raises InputError: for an image that cannot be used
        :raises Recon3rError: where local mapping failed; the image was processed nevertheless
        """
        for error in self.add_instant((frame,)).values():
            raise error

    def add_instant(self, frames: Sequence[Frame]) -> dict[str, InputError]:
        """
        Process the frames of one instant of a rig, or a single one.

        :return: why images cannot be used, by camera; the others are processed
        :raises Recon3rError: where local mapping failed; the images were processed nevertheless
        """
        usable, refused = [], {}
        for frame in frames:
            try:
                self._check(frame)
                usable.append(frame)
            except InputError as error:
                refused[frame.camera_name] = error
        if usable:
            self._add(usable)
        return refused

    def _add(self, frames: Sequence[Frame]) -> None:
        # A failure of local mapping must not lose these images
        failure = self._settle()
        try:
            for frame, update in zip(frames, self.system.add_instant(frames)):
                self._pass_on(update, frame)
        except Exception:
            if failure is not None:
                self._warn(str(failure))
            raise
        if failure is not None:
            raise failure

    def poll(self) -> None:
        """
        Take over a keyframe that has been finished since the last frame, if one has.

        :raises Recon3rError: where local mapping failed
        """
        failure = self._settle()
        if failure is not None:
            raise failure

    def finish(self) -> None:
        """Refine everything together once no frame will follow."""
        self._sink.update(self.system.finish(), None)

    def reset(self) -> None:
        """Reset the map."""
        self.system.reset()
        self._map_number = 0
        self._sink.reset()

    def saved(self) -> SavedMap:
        """
        Return the map with all that relocalisation in it needs.

        :raises Recon3rError: where there is no map yet
        """
        if not self.system.map.started:
            raise Recon3rError('there is no map yet: move the camera until it tracks')
        return self.system.saved(self.metric)

    def saved_earlier(self) -> list[SavedMap]:
        """Return the earlier maps, which are not connected with the present one."""
        return self.system.saved_earlier(self._scale_source)

    def restore(self, saved: SavedMap) -> None:
        """Replace the map by a saved one."""
        self.reset()
        self.system.restore(saved)

    def _settle(self) -> Exception | None:
        """Take over a finished keyframe; return the failure, if any."""
        try:
            update = self.system.poll()
        except Exception as error:
            return error
        if update.frames or update.keyframe is not None:
            self._pass_on(update, None)
        return None

    def _pass_on(self, update: Update, frame: Frame | None) -> None:
        """Pass an update to the sink, which withdraws the map before where another one goes on."""
        known = self.system.map
        if known.started and known.number != self._map_number:
            self._map_number = known.number
            self._sink.reset()
            self._bound_earlier()
        self._sink.update(update, frame)

    def _bound_earlier(self) -> None:
        """Forget the smallest earlier maps, where there are too many keyframes in them."""
        if self._most_earlier is None:
            return
        for known in self.system.forget_earlier(self._most_earlier):
            self._warn(f'map {known.number} with {len(known.keyframes)} keyframes is forgotten: '
                       f'earlier maps have more than {self._most_earlier} together '
                       '(max_keyframes); ~/save_map writes all maps that there are')

    def _check(self, frame: Frame) -> None:
        """Reject images of another size or camera; if they persist, replace the camera."""
        name = frame.camera_name
        problem = self._difference(frame)
        if not problem:
            self._unlike[name] = 0
            return
        self._unlike[name] = self._unlike.get(name, 0) + 1
        if self._unlike[name] < CHANGED_AFTER:
            raise InputError(f'image {frame.name} {problem}')
        self._warn(f'{name}: {CHANGED_AFTER} images in a row, the last one {problem}: taken for '
                   'a new camera')
        self._unlike[name] = 0
        self.system.forget(name)

    def _difference(self, frame: Frame) -> str:
        """Describe how a frame differs from those before it; '' where it does not."""
        lens = self.system.lens(frame.camera_name)
        if lens is None:
            return ''
        of_size = lens.difference(frame)
        if of_size or frame.camera is None:
            return of_size
        if lens.calibrated:
            return '' if frame.camera == lens.source else (
                'comes with other intrinsics than those before it')
        if self.system.map.started:
            self._warn(f'{frame.camera_name}: intrinsics came after the map had been started with '
                       f'an estimated focal length, now {lens.camera.fx:.1f} pixels; they say '
                       f'{frame.camera.fx:.1f}: reset the map to use them')
        else:
            self.system.forget(frame.camera_name)
        return ''
