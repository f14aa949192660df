# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A zoom while the camera is tracked.

A pose alone explains most of a zoom: the camera seems to approach. Pose and focal length together,
of landmarks at different depths, tell the two apart. The focal length of a frame is estimated
relative to that of its reference; along the chain of references, changes add up, as a reference
that was made during the zoom has part of it already. So do errors. They are those of the map,
which are small where it is good, and have been seen: a zoom is a change that is many times what
the chain has varied by before.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
import math
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.pnp import focal_change, PnPResult
from recon3r_ros.slam.frontend.tracking import MIN_INLIERS, Reference, Track

#: Tracked frames within which the focal length must change, two seconds of a video
WINDOW = 60
#: Least change of its logarithm: where few landmarks are left, errors of their depths have looked
#: like a change of 0.11, and tracking would be lost for nothing
LEAST = 0.2
#: Standard deviations by which it must change, and multiples of what this share of the estimates
#: was within before
SURE, UNUSUAL, USUAL = 5.0, 3.0, 0.9
#: Estimates to know that, newest ones that count, and frames in a row that establish a zoom
MIN_HISTORY, MAX_HISTORY, CONFIRMED = 15, 150, 5
#: Share of the change at which the zoom is said to begin
BEGIN = 0.1
#: Pixels by which a landmark must have moved: a camera at rest tells nothing of the map's errors,
#: nor does what is fixed to a camera
MOVED = 1.0


@dataclass(frozen=True)
class Zoom:
    """
    A zoom that is established.

    :param first: index of the first zoomed frame
    :param factor: of the focal length, by now
    """

    first: int
    factor: float


@dataclass(frozen=True)
class _Link:
    """
    A frame of the chain.

    :param focal: logarithm of the focal length over that at the chain's beginning
    :param variance: of that, of independent residuals
    :param links: of the chain up to the frame
    :param usual: what most changes were within until then; infinite while they are few
    """

    focal: float
    variance: float
    links: int
    usual: float = math.inf


class ZoomDetector:
    """Notices when the focal length of one camera changes; owns whether it has."""

    def __init__(self) -> None:
        self._chain: dict[int, _Link] = {}
        self._changes: deque[float] = deque(maxlen=MAX_HISTORY)
        self._gray: NDArray[np.uint8] | None = None
        self._base = _Link(0.0, 0.0, 0)
        self._confirmed = 0
        self._zoomed = False

    @property
    def zoomed(self) -> bool:
        """Whether the focal length is not that of the map."""
        return self._zoomed

    def clear(self, zoomed: bool = False) -> None:
        """
        Begin anew: no keyframe is tracked.

        :param zoomed: whether that is because of a zoom
        """
        self._begin()
        self._zoomed = zoomed

    def _begin(self) -> None:
        """Begin a new chain: what follows is not tracked from what was before."""
        self._chain.clear()
        self._gray = None
        self._base = _Link(0.0, 0.0, 0)
        self._confirmed = 0

    def follow(self, reference: Reference, index: int) -> None:
        """
        Take note of another keyframe that is tracked, and so has the focal length of the map.

        :param index: of its frame; a chain ends at one that is not of it
        """
        self._zoomed = False
        self._link(reference, index)

    def _link(self, reference: Reference, index: int) -> None:
        """Continue the chain at a reference, of which `index` is the frame."""
        if index not in self._chain:
            self._begin()
        self._gray = reference.gray
        self._base = self._chain.get(index, self._base)

    def add(self, index: int, reference: Reference, track: Track, pose: PnPResult, camera: Camera
            ) -> Zoom | None:
        """
        Evaluate a tracked frame.

        :param index: of the frame
        :param reference: that it was tracked against; a new one is of the frame before
        :param pose: of the track
        :param camera: pinhole camera of the tracking images
        :return: the zoom, once it is established
        """
        if reference.gray is not self._gray:
            self._link(reference, max(self._chain, default=-1))
        moved = np.linalg.norm(track.pixels - reference.pixels, axis=1) > MOVED
        use = track.found & moved & np.isfinite(reference.points[:, 0])
        change, sigma = 0.0, 0.0
        if use.sum() >= MIN_INLIERS:
            change, sigma = focal_change(
                reference.points[use], track.pixels[use], camera, pose.T_cam_world)
            self._changes.append(abs(change))
            sigma = min(sigma, 1.0)
        link = _Link(self._base.focal + change, self._base.variance + sigma ** 2,
                     self._base.links + 1, self._usual())
        self._chain[index] = link
        if len(self._chain) > WINDOW:
            del self._chain[next(iter(self._chain))]
        focals = list(map(_FOCAL, self._chain.values()))
        apart = max(max(focals) - link.focal, link.focal - min(focals)) > LEAST
        self._confirmed = self._confirmed + 1 if apart and any(
            _differs(link, x) for x in self._chain.values()) else 0
        return self._found(link) if self._confirmed >= CONFIRMED else None

    def _usual(self) -> float:
        if len(self._changes) < MIN_HISTORY:
            return math.inf
        return sorted(self._changes)[int(USUAL * len(self._changes))]

    def _found(self, link: _Link) -> Zoom:
        """Find where a zoom began: later frames are nearer to the present focal length."""
        most = max((link.focal - x.focal for x in self._chain.values()), key=abs)
        first = max(i for i, x in self._chain.items()
                    if (link.focal - x.focal) / most >= 1 - BEGIN)
        return Zoom(first + 1, math.exp(most))


_FOCAL = attrgetter('focal')


def _differs(link: _Link, before: _Link) -> bool:
    change = abs(link.focal - before.focal)
    return change > LEAST and change > max(
        SURE * math.sqrt(abs(link.variance - before.variance)),
        UNUSUAL * before.usual * math.sqrt(max(link.links - before.links, 1)))
