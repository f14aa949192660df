# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Keyframes, from the request of a front end until they are in the map and in use."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from concurrent.futures import wait
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.models.types import PosePrior
from recon3r_ros.slam.atlas import Atlas
from recon3r_ros.slam.backend.executor import Executor
from recon3r_ros.slam.backend.mapping import Mapper
from recon3r_ros.slam.cameras import Cameras
from recon3r_ros.slam.frame_records import FrameRecords
from recon3r_ros.slam.frontend.camera_frontend import CameraFrontend
from recon3r_ros.slam.frontend.steps import KeyframeRequest, Purpose, untracked
from recon3r_ros.slam.keyframe_lag import KeyframeLag
from recon3r_ros.slam.pending import Begun, Ordered
from recon3r_ros.slam.types import TrackingState, Update

#: Of the frames that waited for a first pair, those that get a dynamic mask where mapping runs
#: beside tracking: its second keyframe, and as many after it. Images wait meanwhile
LIVE_MASKS = 4
#: Seconds that tracking waits for a first pair where mapping runs beside it: no image has a pose
#: until then, and each one that is tracked meanwhile takes a core from mapping
FIRST_PAIR_S = 0.15
#: Newest keyframes of a camera that leave out what is found to be fixed to it
RECENT = 10


class Keyframing:
    """
    Requests keyframes from local mapping, one at a time, and takes them over.

    :param executor: runs local mapping
    :param atlas: takes the maps that it makes
    :param cameras: request keyframes, and are told what became of them
    :param records: of the frames that get a pose by a keyframe
    :param lag: counts the frames until a keyframe is taken over; None: as soon as it is finished
    :param live: whether poses are awaited
    """

    def __init__(self, executor: Executor, atlas: Atlas, cameras: Cameras, records: FrameRecords,
                 lag: KeyframeLag | None, live: bool) -> None:
        self._executor = executor
        self._atlas = atlas
        self._cameras = cameras
        self._records = records
        self._lag = lag
        self._live = live
        self._ordered: Ordered | None = None
        #: Keyframes of the same instant, requested while another one is pending
        self._queue: deque[tuple[CameraFrontend, KeyframeRequest]] = deque()
        self._begun: Begun | None = None

    @property
    def ordered(self) -> Ordered | None:
        """The keyframe that is pending."""
        return self._ordered

    @property
    def begun(self) -> Begun | None:
        """The first pair that has no dynamic masks yet, in the map but no update."""
        return self._begun

    @property
    def busy(self) -> bool:
        """Whether any keyframe is pending."""
        return self._ordered is not None or bool(self._queue)

    def count_frame(self) -> None:
        """Count an instant, for the lag."""
        if self._lag is not None:
            self._lag.count_frame()

    def poll(self) -> Update:
        """
        Take over the pending keyframe: if it is finished, or, with a lag, after that.

        Where mapping runs beside tracking at its own pace, a first pair comes in two updates: the
        poses first, because they are awaited, then the masks and the keyframe.
        """
        if self._begun is not None:
            return self._complete()
        if self._ordered is None and self._queue:
            return self.order(*self._queue.popleft())
        if self._ordered is None:
            return Update(self._cameras.state, (), None)
        if self._lag is None:
            due = self._ordered.made.done()
        else:
            lost = self._ordered.frontend.state is TrackingState.LOST
            due = self._lag.is_over or lost
        return self._settle() if due else Update(self._cameras.state, (), None)

    def poll_all(self) -> Update:
        """Take over as `poll`, a first pair in one update."""
        return self._completed(self.poll())

    def settle(self) -> Update:
        """Take over all that is pending; waits until it is finished."""
        self._queue.clear()
        return self._completed(
            Update(self._cameras.state, (), None) if self._ordered is None else self._settle())

    def order(self, frontend: CameraFrontend, request: KeyframeRequest | None) -> Update:
        """Request a keyframe; its result, where that is known at once."""
        if request is None:
            return Update(frontend.state, (), None)
        if request.purpose is Purpose.START:
            return self.start(frontend, request)
        if self._ordered is not None:
            self._queue.append((frontend, request))
            return Update(frontend.state, (), None)
        known, view = self._atlas.map, request.view
        if request.T_reference_cam is not None and request.reference is not None:
            view = replace(view, pose=PosePrior(
                known.keyframes[request.reference].T_map_cam @ request.T_reference_cam,
                request.covariance))
        if self._lag is not None:
            self._lag.request(request.purpose)
        fixed = frontend.masks.news_of_fixed()
        if fixed is not None:
            recent = [k.id for k in known.keyframes.values() if k.camera_name == frontend.name]
            self._executor.call(Mapper.leave_out, dict.fromkeys(recent[-RECENT:], fixed))
        frame, gray = untracked(request.frame), request.gray
        if request.purpose is Purpose.RECALL:
            made = self._executor.call(Mapper.recall, frame, view, gray)
        else:
            made = self._executor.call(Mapper.add, frame, view, gray, self._cameras.references(),
                                       request.overlap, request.zoomed)
        self._ordered = Ordered(frontend, request, made)
        if self._live and request.purpose is Purpose.FIRST_PAIR:
            wait((made,), FIRST_PAIR_S)
        return self.poll()

    def start(self, frontend: CameraFrontend, request: KeyframeRequest) -> Update:
        """Begin a map with a first keyframe; the one of before is set aside."""
        if self._atlas.map.started:
            self._atlas.set_aside()
            self._cameras.leave_map()
        made, known = self._executor.call(
            Mapper.start, untracked(request.frame), request.view, request.gray).result()
        self._atlas.take(known)
        self._learn_scale(request, made)
        keyframe = self._atlas.map.keyframes[made]
        frontend.start(keyframe, request.frame, self._atlas.map)
        if not self._atlas.map.started:
            return Update(frontend.state, (), None)
        return Update(frontend.state, (self._records.add_keyframe(keyframe, self._atlas.map),),
                      keyframe)

    def leave_out(self, masks: Mapping[int, NDArray[np.bool_]]) -> None:
        """
        Exclude dynamic objects from the map.

        :param masks: by keyframe, of any size
        """
        if masks:
            self._atlas.take(self._executor.call(Mapper.leave_out, masks).result()[1])

    def forget(self, camera_name: str) -> None:
        """Leave no keyframe of a camera pending."""
        self._queue = deque(q for q in self._queue if q[0].name != camera_name)
        pending = self._begun or self._ordered
        if pending is not None and pending.frontend.name == camera_name:
            self.settle()

    def abandon(self) -> None:
        """Drop the result of the pending keyframe; waits until it is finished."""
        if self._ordered is not None:
            self._ordered.made.exception()
            self._ordered = None
        self._begun = None
        self._queue.clear()

    def _learn_scale(self, request: KeyframeRequest, made: int) -> None:
        """Compare the depth of a new keyframe with what its sensor has measured."""
        self._atlas.scale.add_depth(
            made, request.view.depth, self._atlas.map, request.view.depth_noise)

    def _completed(self, settled: Update) -> Update:
        """Add what is left of a first pair."""
        return settled if self._begun is None else replace(
            self._complete(), frames=settled.frames)

    def _settle(self) -> Update:
        """Take over the result of the pending keyframe; waits until it is finished."""
        ordered, self._ordered = self._ordered, None
        assert ordered is not None
        made, known = ordered.made.result()
        frontend, request = ordered.frontend, ordered.request
        if made is None:
            return self._reject(frontend, request)
        before = self._atlas.map
        self._atlas.take(known)
        self._records.trajectory.add_keyframe(made)
        for each in self._cameras:
            # Its own keyframe is in the units of before, but for a map that was joined
            if each is not frontend or known.number != before.number:
                each.rescale(before, known)
        if (known.number != before.number and request.T_reference_cam is not None
                and request.reference is not None):
            request = replace(request, T_reference_cam=se3.stretched(
                request.T_reference_cam, known.scale_of(request.reference)
                / before.scale_of(request.reference)))
        frontend.refocus(known)
        if request.purpose is Purpose.FIRST_PAIR:
            return self._begin(frontend, request, made)
        self._learn_scale(request, made)
        if known.scales != {**before.scales, made: known.scale_of(made)}:
            self._atlas.scale.interrupt()  # a loop has been closed
        keyframe, found = known.keyframes[made], []
        if (request.purpose in (Purpose.RELOCALISATION, Purpose.RECALL)
                and frontend.state is not TrackingState.TRACKING):
            found.append(self._records.add_keyframe(keyframe, known))
        found += [self._records.add(p, known, frontend.rectifier)
                  for p in frontend.take_over(
                      request, keyframe, before if known.number == before.number else known)]
        return Update(frontend.state, tuple(found), keyframe)

    def _reject(self, frontend: CameraFrontend, request: KeyframeRequest) -> Update:
        return self.order(frontend, frontend.reject(request, self._atlas.map))

    def _begin(self, frontend: CameraFrontend, request: KeyframeRequest, made: int) -> Update:
        """Estimate the poses of the waiting frames; reject the first pair if they disagree."""
        known = self._atlas.map
        first = next(iter(known.keyframes.values()))
        placed = frontend.place_waiting(first)
        if placed is None:
            self._atlas.take(self._executor.call(Mapper.take_back_first_pair).result()[1])
            frontend.refocus(self._atlas.map)
            return self._reject(frontend, request)
        self._learn_scale(request, made)
        posed = [self._records.add(p, known, frontend.rectifier) for p in placed]
        if not any(p.index == request.frame.index for p in posed):
            posed.append(self._records.add_keyframe(known.keyframes[made], known))
        self._begun = Begun(frontend, request, made, placed, tuple(posed))
        if self._live:
            return Update(frontend.state, tuple(posed), None)
        completed = self._complete()
        masked = {frame.index: frame for frame in completed.masked}
        return replace(completed, frames=tuple(masked.get(p.index, p) for p in posed), masked=())

    def _complete(self) -> Update:
        """Detect dynamic objects in the frames that waited for a first pair; track from it on."""
        begun, self._begun = self._begun, None
        assert begun is not None
        frontend, made = begun.frontend, begun.made
        first = next(iter(self._atlas.map.keyframes.values()))
        waiting = begun.from_second()[:LIVE_MASKS] if self._live else begun.placed
        masked = [p for p in frontend.mask_waiting(waiting, first) if p.mask is not None]
        self.leave_out(begun.of_keyframes(masked, first))
        known = self._atlas.map
        first, keyframe = known.keyframes[first.id], known.keyframes[made]
        frontend.begin(first, keyframe, begun.placed)
        frames = {frame.index: frame for frame in begun.posed}
        return Update(frontend.state, (), keyframe, masked=tuple(
            replace(frames[p.frame.index], mask=frontend.rectifier.mask_to_source(p.mask))
            for p in masked if p.mask is not None))
