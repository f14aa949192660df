# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Poses of the frames that have none once the last one was added.

Frames before the first map and lost stretches are tracked forwards and backwards from the frames
beside them that have a pose. Where that ends, the next frame is relocalised: if it is verified it
becomes a keyframe, from which tracking goes on. Nothing is tracked across a cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.slam.backend.executor import Executor
from recon3r_ros.slam.backend.mapping import Mapper
from recon3r_ros.slam.frontend.camera_frontend import CameraFrontend
from recon3r_ros.slam.frontend.exposure import steadied
from recon3r_ros.slam.frontend.keyframe_tracker import KeyframeTracker
from recon3r_ros.slam.frontend.keyframes import CRITICAL_OVERLAP, overlap
from recon3r_ros.slam.frontend.steps import Placed, Purpose, untracked
from recon3r_ros.slam.types import Frame, Keyframe, Map, TrackedFrame

Array = NDArray[np.float64]

#: Frames of a stretch that are kept at once; a longer one is completed part by part
MAX_STRETCH = 60
#: Frames before a stretch to which its brightness is relative
EXPOSURE_FRAMES = 10
#: Attempts to make a keyframe in a stretch and in all, and keyframes that look similar to try for
#: each: an attempt takes up to two seconds
MAX_ATTEMPTS, MAX_IN_ALL, CANDIDATES = 8, 24, 10
#: Time between images, seconds, up to which one is tracked from the other
NEIGHBOURS_S = 0.5
#: Difference of a relocalised pose from a tracked one: share of the depth, and degrees
AGREES, AGREES_DEG = 0.05, 3.0


@dataclass(frozen=True, eq=False)
class Unposed:
    """A frame without a pose, of steady brightness, and its tracking image (H, W)."""

    frame: Frame
    gray: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Start:
    """Where tracking begins: a keyframe and a pose (4, 4) relative to it."""

    keyframe: Keyframe
    T_keyframe_cam: NDArray[np.float64]

    @classmethod
    def at(cls, frame: TrackedFrame, known: Map) -> Start | None:
        """Begin at a frame with a pose; None where it is not in the map."""
        if frame.keyframe not in known.keyframes and frame.keyframe not in known.retired:
            return None
        keyframe = known.present(frame.keyframe)
        T_map_cam = known.pose_in_map(frame.keyframe, frame.T_keyframe_cam, frame.scale)
        return cls(keyframe, se3.normalized(se3.inverse(keyframe.T_map_cam) @ T_map_cam))


@dataclass(frozen=True)
class Stretch:
    """
    Frames in a row without a pose.

    :param indices: of the frames, ascending
    :param before: the frame with a pose before them; None at a cut or at the beginning
    :param after: likewise after them
    """

    indices: tuple[int, ...]
    before: TrackedFrame | None
    after: TrackedFrame | None

    @property
    def needed(self) -> range:
        """Indices of all frames that are needed: brightness is relative to earlier ones."""
        return range(max(0, self.indices[0] - EXPOSURE_FRAMES), self.indices[-1] + 1)


def stretches(unposed: Iterable[int], posed: Mapping[int, TrackedFrame], cut_at: Iterable[int]
              ) -> list[Stretch]:
    """
    Group the frames of a camera that have no pose.

    :param unposed: their indices
    :param posed: frames with a pose, by index
    :param cut_at: indices of frames that begin a new scene
    """
    cuts, found = set(cut_at), []
    run: list[int] = []
    before: TrackedFrame | None = None

    def close(after: TrackedFrame | None) -> None:
        if run:
            found.append(Stretch(tuple(run), before, after))
            run.clear()

    for i in sorted({*unposed, *posed}):
        if i in cuts:
            close(None)
            before = None
        if i in posed:
            close(posed[i])
            before = posed[i]
            continue
        run.append(i)
        if len(run) == MAX_STRETCH:
            close(None)
            before = None
    close(None)
    return found


class Completion:
    """
    Poses the frames of one camera that have none.

    :param frontend: of the camera
    :param executor: of the mapper, which makes keyframes
    :param known: the present map
    """

    def __init__(self, frontend: CameraFrontend, executor: Executor, known: Map) -> None:
        self._frontend = frontend
        self._executor = executor
        self._attempts, self._left = 0, MAX_IN_ALL
        #: The map as it is now
        self.map = known

    def posed(self, stretches: Iterable[Stretch], frames: Iterable[Frame]
              ) -> Iterator[Placed | Keyframe]:
        """
        Yield the frames that get a pose, some of them as keyframes.

        :param stretches: in order
        :param frames: at least those that are needed, in order
        """
        steady = steadied(frames, self._frontend.rectifier)
        for stretch in stretches:
            wanted = set(stretch.indices)
            unposed = []
            for frame, gray in steady:
                if frame.index in wanted:
                    unposed.append(Unposed(frame, gray))
                if frame.index >= stretch.indices[-1]:
                    break
            yield from self._completed(stretch, unposed)

    def _completed(self, stretch: Stretch, unposed: list[Unposed]
                   ) -> Iterator[Placed | Keyframe]:
        self._attempts = min(MAX_ATTEMPTS, self._left)
        start, end = (None if f is None else Start.at(f, self.map)
                      for f in (stretch.before, stretch.after))
        forward = self._tracked(unposed, start)
        left = unposed[len(forward):]
        backward = self._tracked(left[::-1], end)
        yield from forward
        yield from backward
        yield from self._relocalised(left[:len(left) - len(backward)], end is not None)

    def _tracked(self, unposed: list[Unposed], start: Start | None) -> list[Placed | Keyframe]:
        """Track frames from a pose on, until one cannot be tracked."""
        if start is None:
            return []
        tracker, keyframe = self._tracker(start), start.keyframe
        posed: list[Placed | Keyframe] = []
        for one in unposed:
            track = tracker.track(one.gray, keyframe)
            if track.pose is None or tracker.reference is None:
                break
            T = tracker.T_keyframe_cam(track.pose)
            if overlap(track, tracker.reference) < CRITICAL_OVERLAP:
                made = self._keyframe(one, keyframe.T_map_cam @ T)
                if made is not None:
                    tracker, keyframe = self._tracker(Start(made, np.eye(4))), made
                    posed.append(made)
                    continue
            posed.append(Placed(
                replace(untracked(one.frame), keyframe=keyframe.id, T_keyframe_cam=T),
                *tracker.observations(track), track.pose))
            tracker.remember(one.gray, track, np.zeros(one.gray.shape, bool))
        return posed

    def _tracker(self, start: Start) -> KeyframeTracker:
        tracker = KeyframeTracker(
            self._frontend.rectifier.tracking_camera, self._frontend.options.tracked_landmarks)
        tracker.follow(start.keyframe, None)
        tracker.resume(se3.inverse(start.T_keyframe_cam))
        return tracker

    def _keyframe(self, unposed: Unposed, T_map_cam: Array | None = None) -> Keyframe | None:
        """Relocalise a frame; where its pose is known by tracking, the two must agree."""
        if not self._attempts:
            return None
        self._attempts -= 1
        self._left -= 1
        request = self._frontend.requests.of(
            Purpose.RELOCALISATION, unposed.frame, unposed.gray)
        number, known = self._executor.call(
            Mapper.complete, untracked(unposed.frame), request.view, request.gray,
            CANDIDATES).result()
        if number is None:
            return None
        self._take(known)
        made = known.keyframes[number]
        if T_map_cam is None:
            return made
        T = se3.inverse(T_map_cam) @ made.T_map_cam
        if (np.linalg.norm(T[:3, 3]) < AGREES * made.median_depth()
                and se3.rotation_angle(T[:3, :3]) < np.deg2rad(AGREES_DEG)):
            return made
        self._take_back(made)
        return None

    def _take_back(self, made: Keyframe) -> None:
        _, known = self._executor.call(Mapper.take_back, made.id).result()
        self._take(known)

    def _take(self, known: Map) -> None:
        self.map = known
        self._frontend.refocus(known)

    def _relocalised(self, unposed: list[Unposed], last_first: bool
                     ) -> Iterator[Placed | Keyframe]:
        """Relocalise the frame beside one with a pose, or others; track from it on both ways."""
        for n in _spread(len(unposed), last_first):
            made = self._keyframe(unposed[n])
            if made is None:
                continue
            start = Start(made, np.eye(4))
            earlier = self._tracked(unposed[:n][::-1], start)
            later = self._tracked(unposed[n + 1:], start)
            if not earlier and not later and _has_neighbour(unposed, n):
                self._take_back(made)
                continue
            yield from (made, *earlier, *later)
            yield from self._relocalised(unposed[:n - len(earlier)], True)
            yield from self._relocalised(unposed[n + 1 + len(later):], False)
            return


def _spread(count: int, last_first: bool) -> Iterator[int]:
    """Iterate over all positions: the ends, the middle, the middles between those, and so on."""
    seen: set[int] = set()
    gaps = count - 1
    ends = (gaps, 0) if last_first else (0, gaps)
    parts = 1
    while len(seen) < count:
        for n in (*ends, *(round(gaps * k / parts) for k in range(1, parts))):
            if 0 <= n < count and n not in seen:
                seen.add(n)
                yield n
        parts *= 2


def _has_neighbour(unposed: list[Unposed], n: int) -> bool:
    """Whether a frame has one beside it that should be tracked from it."""
    stamp_ns = unposed[n].frame.stamp_ns
    return any(abs(one.frame.stamp_ns - stamp_ns) < NEIGHBOURS_S * 1e9
               for one in unposed[max(0, n - 1):n + 2] if one is not unposed[n])
