# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Posed frames, each relative to a keyframe, so that they follow the map's corrections."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.pnp import PnPResult, refine_pnp
from recon3r_ros.slam.frontend.tracking import MAX_ERROR, MIN_INLIERS, SURE_INLIERS
from recon3r_ros.slam.options import PLAUSIBLE_SHARE
from recon3r_ros.slam.rig_frames import follow, pose_together, RigSighting
from recon3r_ros.slam.types import Map, TrackedFrame

Array = NDArray[np.float64]

#: Frames that are kept; beyond, every second of the older half is dropped: an hour at 30 Hz
MAX_FRAMES = 100_000
#: Newest frames whose poses are re-estimated at the end
MAX_SIGHTINGS = 5000
#: Distance from the path of the neighbours beyond which a position is an outlier: a multiple of
#: the median one, and a share of the depth
OUTLIER, OUTLIER_DEPTH = 8.0, 0.02


@dataclass(frozen=True, eq=False)
class _Sighting:
    """Observations of a keyframe's landmarks in a tracked frame, to re-estimate its pose."""

    serial: int
    pixels: NDArray[np.float32]
    found: NDArray[np.bool_]


class Trajectory:
    """Frames in the order in which their poses were found."""

    def __init__(self) -> None:
        self._frames: dict[int, TrackedFrame] = {}
        self._next_serial = 0
        self._sightings: deque[_Sighting] = deque(maxlen=MAX_SIGHTINGS)
        self._keyframes: set[int] = set()
        #: Frames of a rig's cameras that have no pose yet, the newest ones
        self._open: deque[TrackedFrame] = deque(maxlen=MAX_SIGHTINGS)

    def leave_open(self, frame: TrackedFrame) -> None:
        """Note a frame of a camera on a rig that has no pose: other cameras may give it one."""
        self._open.append(frame)

    def add_keyframe(self, i: int) -> None:
        """Note that a keyframe was made of one of the frames: a map may have older ones."""
        self._keyframes.add(i)

    def add(self, frame: TrackedFrame, pixels: NDArray[np.float32] | None = None,
            found: NDArray[np.bool_] | None = None) -> None:
        """
        Add a frame.

        :param frame: its mask is not kept
        :param pixels: (N, 2) observations of its keyframe's landmarks, to re-estimate its pose
        :param found: (N,) which landmarks were observed
        """
        if pixels is not None and found is not None:
            self._sightings.append(_Sighting(self._next_serial, pixels, found))
        self._frames[self._next_serial] = replace(frame, mask=None)
        self._next_serial += 1
        if len(self._frames) > MAX_FRAMES:
            for serial in list(self._frames)[1:len(self._frames) // 2:2]:
                del self._frames[serial]

    def poses(self, known: Map, limit: int | None = None) -> list[tuple[TrackedFrame, Array]]:
        """
        Frames of a map with their poses T_map_cam (4, 4) in it.

        :param limit: how many frames at most, 1 or more, evenly thinned out; None takes all
        """
        frames = [f for f in self._frames.values() if f.keyframe in known]
        step = 1 if limit is None else max(1, -(-len(frames) // limit))
        return [(f, known.pose_in_map(f.keyframe, f.T_keyframe_cam, f.scale))
                for f in frames[::-1][::step][::-1]]

    def posed(self, camera_name: str) -> dict[int, TrackedFrame]:
        """Return the frames of one camera, by index."""
        return {f.index: f for f in self._frames.values() if f.camera_name == camera_name}

    def at(self, camera_name: str, stamp_ns: int) -> TrackedFrame | None:
        """Return the frame of a camera with a stamp; None where it has no pose."""
        for serial in reversed(self._frames):
            frame = self._frames[serial]
            if frame.camera_name == camera_name and frame.stamp_ns <= stamp_ns:
                return frame if frame.stamp_ns == stamp_ns else None
        return None

    def withdraw(self, camera_name: str, index: int) -> list[TrackedFrame]:
        """
        Drop the frames of a camera from one on.

        :param index: of the first one
        :return: the dropped ones, in order
        """
        dropped = {serial: f for serial, f in self._frames.items()
                   if f.camera_name == camera_name and f.index >= index}
        for serial in dropped:
            del self._frames[serial]
        return sorted(dropped.values(), key=lambda f: f.index)

    def place_anew(self, known: Map, cameras: Mapping[str, Camera]) -> None:
        """
        Re-estimate the poses of a map's frames from their keyframes' refined landmarks.

        Frames that are keyframes themselves get those poses, which are more accurate.

        :param cameras: pinhole cameras of the tracking images by camera name
        """
        latest: dict[str, TrackedFrame] = {}
        instants: dict[int, list[RigSighting]] = {}
        for sighting in self._sightings:
            tracked = self._frames.get(sighting.serial)
            if tracked is None or tracked.keyframe not in known.keyframes:
                continue
            points = known.keyframes[tracked.keyframe].landmark_points()
            use = sighting.found & np.isfinite(points[:, 0])
            if use.sum() < MIN_INLIERS and tracked.mount is None:
                continue
            camera = cameras[tracked.camera_name]
            result = _refined(points[use], sighting.pixels[use], camera, se3.stretched(
                tracked.T_keyframe_cam, known.scale_of(tracked.keyframe) / tracked.scale))
            previous = latest.get(tracked.camera_name)
            if previous is not None and previous.keyframe == tracked.keyframe and (
                    result is None or result.inliers.mean() < PLAUSIBLE_SHARE):
                # Its pose may come from wrong depths; the one before it is already re-estimated
                other = _refined(
                    points[use], sighting.pixels[use], camera, previous.T_keyframe_cam)
                if result is None or (other is not None
                                      and other.inliers.sum() > result.inliers.sum()):
                    result = other
            agreeing = 0 if result is None else int(result.inliers.sum())
            if result is not None and agreeing >= MIN_INLIERS:
                tracked = latest[tracked.camera_name] = self._frames[sighting.serial] = replace(
                    tracked, T_keyframe_cam=se3.inverse(result.T_cam_world),
                    covariance=result.covariance, scale=known.scale_of(tracked.keyframe))
            if tracked.mount is not None:
                instants.setdefault(tracked.mount.instant_ns, []).append(RigSighting(
                    sighting.serial, tracked, points[use], sighting.pixels[use], camera, agreeing))
        if known.metre is not None:
            for sightings in instants.values():
                if len(sightings) > 1:
                    self._frames.update(pose_together(sightings, known))
        own = {(k.camera_name, k.index): i for i, k in known.keyframes.items()
               if i in self._keyframes}
        for serial, frame in self._frames.items():
            i = own.get((frame.camera_name, frame.index))
            if i is not None:
                self._frames[serial] = replace(frame, keyframe=i, T_keyframe_cam=np.eye(4),
                                               scale=known.scale_of(i))

    def follow_rig(self, known: Map) -> list[TrackedFrame]:
        """
        Pose the frames that show no landmark by the other cameras of their instant.

        :return: those that had no pose
        """
        if known.metre is None:
            return []
        best: dict[int, tuple[TrackedFrame, Array]] = {}
        posed, carried = set(), []
        for serial, frame in self._frames.items():
            posed.add((frame.camera_name, frame.index))
            if frame.mount is None or frame.keyframe not in known:
                continue
            instant, own = frame.mount.instant_ns, known.keyframes.get(frame.keyframe)
            if own is not None and own.information.any() and (
                    (own.camera_name, own.index) == (frame.camera_name, frame.index)):
                best[instant] = frame, own.T_map_cam
            elif not frame.landmarks:
                carried.append((serial, frame))
            elif instant not in best or frame.landmarks > best[instant][0].landmarks > 0:
                best[instant] = frame, known.pose_in_map(
                    frame.keyframe, frame.T_keyframe_cam, frame.scale)
        for serial, frame in carried:
            self._frames[serial] = follow(frame, best, known) or frame
        found = [placed for placed in (
            follow(frame, best, known) for frame in self._open
            if (frame.camera_name, frame.index) not in posed) if placed is not None]
        for frame in found:
            self.add(frame)
        return found

    def drop_outliers(self, known: Map) -> None:
        """
        Drop frames of few landmarks whose positions lie off the path of their neighbours.

        Half of a few landmarks may agree on a wrong pose. It has no support by the frames around
        it, and no pose is better than a wrong one.
        """
        cameras: dict[str, list[tuple[int, TrackedFrame, Array]]] = {}
        for serial, frame in self._frames.items():
            if frame.keyframe in known:
                T = known.pose_in_map(frame.keyframe, frame.T_keyframe_cam, frame.scale)
                cameras.setdefault(frame.camera_name, []).append((serial, frame, T[:3, 3]))
        for path in cameras.values():
            path.sort(key=lambda entry: entry[1].stamp_ns)
            off = _off_path(np.stack([x for _, _, x in path]))
            for n in np.flatnonzero(off > OUTLIER * np.median(off)):
                serial, frame, _ = path[n]
                keyframe = known.present(frame.keyframe)
                if (0 < frame.landmarks < SURE_INLIERS and frame.index != keyframe.index
                        and off[n] > OUTLIER_DEPTH * keyframe.median_depth()
                        and off[n] == off[max(n - 1, 0):n + 2].max()):
                    del self._frames[serial]

    def settle(self) -> None:
        """Drop the observations with which poses are re-estimated."""
        self._sightings.clear()


def _off_path(positions: Array) -> Array:
    """Distance (N,) of each position to where those on both sides, or two on one, lead."""
    if len(positions) < 3:
        return np.zeros(len(positions))
    middle = positions[1:-1] - (positions[:-2] + positions[2:]) / 2
    ends = positions[[0, -1]] - (2 * positions[[1, -2]] - positions[[2, -3]])
    return np.linalg.norm(np.concatenate([ends[:1], middle, ends[1:]]), axis=1)


def _refined(points: Array, pixels: NDArray[np.float32], camera: Camera, T_keyframe_cam: Array
             ) -> PnPResult | None:
    return refine_pnp(points, pixels, camera, se3.inverse(T_keyframe_cam), MAX_ERROR)
