# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which keyframes see which landmarks of others, and what that tells of their depths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.two_view import triangulate
from recon3r_ros.slam.backend import bundle_adjustment, reobservation
from recon3r_ros.slam.pair_table import PairTable
from recon3r_ros.slam.saved_map import SavedObservations
from recon3r_ros.slam.types import at, Correspondence, Keyframe

Array = NDArray[np.float64]

#: Landmarks found again that make two keyframes see each other
MIN_CORRESPONDENCES = 15
#: Parallax shift (grid pixels) from which a landmark's depth can be told
MIN_SHIFT = 2.0


@dataclass(frozen=True, eq=False)
class _Seen:
    """Landmarks (n,) of an anchor and where another keyframe sees them (n, 2)."""

    landmarks: NDArray[np.int64]
    targets: Array


class Sightings:
    """
    Landmarks of anchors in other keyframes.

    :param saved: to begin with
    """

    def __init__(self, saved: Iterable[SavedObservations] = ()) -> None:
        self._seen = PairTable({
            (o.anchor, o.observer): _Seen(o.landmarks, o.targets) for o in saved})

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Anchors and observers."""
        return list(self._seen)

    def copy(self) -> Sightings:
        """Return what is known now, to come back to."""
        out = Sightings()
        out._seen = self._seen.copy()
        return out

    def saved(self) -> tuple[SavedObservations, ...]:
        """Return all for a saved map."""
        return tuple(SavedObservations(i, j, seen.landmarks, seen.targets)
                     for (i, j), seen in self._seen.items())

    def forget(self, i: int) -> None:
        """Let go of a keyframe."""
        self._seen.forget(i)

    def record(self, anchor: Keyframe, observer: int, found: Correspondence) -> None:
        """Take over where another keyframe sees an anchor's landmarks, but those that move."""
        static = ~at(anchor.mask, anchor.keypoints)
        visible = np.flatnonzero((at(found.confidence, anchor.keypoints) > 0) & static)
        self._seen[anchor.id, observer] = _Seen(
            visible, at(found.targets, anchor.keypoints)[visible].astype(float))

    def reobserve(self, new: Keyframe, others: list[Keyframe]) -> set[int]:
        """Find older landmarks in a new keyframe; the keyframes that own them are returned."""
        owners = set()
        for anchor in reobservation.candidates(others, new):
            landmarks, targets = reobservation.reobserve(anchor, new)
            if len(landmarks) < MIN_CORRESPONDENCES:
                continue
            owners.add(anchor.id)
            if (anchor.id, new.id) in self._seen:
                paired = self._seen[anchor.id, new.id]
                only = ~np.isin(paired.landmarks, landmarks)
                landmarks = np.concatenate([landmarks, paired.landmarks[only]])
                targets = np.concatenate([targets, paired.targets[only]])
            self._seen[anchor.id, new.id] = _Seen(landmarks, targets)
        return owners

    def triangulated(self, keyframe: Keyframe, keyframes: Mapping[int, Keyframe]) -> Array:
        """
        Triangulate those landmarks of a keyframe that have no depth yet.

        With the keyframes' own poses, and only where these lie far enough apart: depths of a pair
        without parallax agree with each other on a wrong motion, and hold bundle adjustment there.

        :param keyframes: all there are
        :return: inverse depths (K,) of all its landmarks, 0 where unknown
        """
        landmarks = keyframe.landmarks.copy()
        best = np.full(len(keyframe.keypoints), MIN_SHIFT)
        moving = at(keyframe.mask, keyframe.keypoints)
        rays = keyframe.camera.unproject(keyframe.keypoints)
        for observer, seen in self._seen.of(keyframe.id):
            other = keyframes[observer]
            inverse_depth, sensitivity, in_front = triangulate(
                rays[seen.landmarks], other.camera.unproject(seen.targets),
                se3.inverse(other.T_map_cam) @ keyframe.T_map_cam)
            shift = sensitivity * other.camera.fx
            better = (in_front & (keyframe.landmarks[seen.landmarks] == 0)
                      & ~moving[seen.landmarks] & (shift > best[seen.landmarks]))
            best[seen.landmarks[better]] = shift[better]
            landmarks[seen.landmarks[better]] = inverse_depth[better]
        return landmarks

    def among(self, keyframes: Sequence[Keyframe]) -> list[bundle_adjustment.Observations]:
        """Return what keyframes see of each other's landmarks of known depth, by position."""
        index = {k.id: n for n, k in enumerate(keyframes)}
        observations = []
        for (anchor, observer), seen in self._seen.items():
            if anchor in index and observer in index:
                known = keyframes[index[anchor]].landmarks[seen.landmarks] > 0
                observations.append(bundle_adjustment.Observations(
                    index[anchor], index[observer], seen.landmarks[known], seen.targets[known],
                    np.ones(int(known.sum()))))
        return observations
