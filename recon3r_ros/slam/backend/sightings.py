# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Observations of landmarks in other keyframes, and depths triangulated from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.concurrency import side_by_side
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.two_view import triangulate
from recon3r_ros.slam.backend import reobservation
from recon3r_ros.slam.backend.adjustment_problem import Observations
from recon3r_ros.slam.pair_table import PairTable
from recon3r_ros.slam.saved_map import SavedObservations
from recon3r_ros.slam.types import at, Correspondence, Keyframe

Array = NDArray[np.float64]

#: Least re-observed landmarks that connect two keyframes
MIN_CORRESPONDENCES = 15
#: Least parallax (grid pixels) to triangulate a landmark
MIN_SHIFT = 2.0


@dataclass(frozen=True, eq=False)
class _Seen:
    """Landmarks (n,) of an anchor and their observations (n, 2) in another keyframe."""

    landmarks: NDArray[np.int64]
    targets: Array


class Sightings:
    """
    Observations of anchors' landmarks in other keyframes.

    :param saved: those of a saved map
    """

    def __init__(self, saved: Iterable[SavedObservations] = ()) -> None:
        self._seen = PairTable({
            (o.anchor, o.observer): _Seen(o.landmarks, o.targets) for o in saved})

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Anchors and observers."""
        return list(self._seen)

    def copy(self) -> Sightings:
        """Return an independent copy."""
        out = Sightings()
        out._seen = self._seen.copy()
        return out

    def saved(self) -> tuple[SavedObservations, ...]:
        """Return all for a saved map."""
        return tuple(SavedObservations(i, j, seen.landmarks, seen.targets)
                     for (i, j), seen in self._seen.items())

    def forget(self, i: int) -> None:
        """Drop a keyframe."""
        self._seen.forget(i)

    def record(self, anchor: Keyframe, observer: int, found: Correspondence) -> None:
        """Record the observations of an anchor's static landmarks."""
        static = ~at(anchor.mask, anchor.keypoints)
        visible = np.flatnonzero((at(found.confidence, anchor.keypoints) > 0) & static)
        self._seen[anchor.id, observer] = _Seen(
            visible, at(found.targets, anchor.keypoints)[visible].astype(float))

    def reobserve(self, new: Keyframe, others: list[Keyframe]) -> set[int]:
        """Re-observe older landmarks in a new keyframe; return the keyframes that own them."""
        owners = set()
        anchors = reobservation.candidates(others, new)
        for anchor, (landmarks, targets) in zip(anchors, side_by_side(
                partial(reobservation.reobserve, new=new), anchors)):
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

        With the keyframes' own poses, and only with enough parallax: without it, depths are
        consistent with a wrong relative pose, and bias bundle adjustment towards it.

        :param keyframes: all of the map
        :return: inverse depths (K,) of all its landmarks, 0 where unknown
        """
        landmarks = keyframe.landmarks.copy()
        best = np.full(len(keyframe.keypoints), MIN_SHIFT)
        unknown = (landmarks == 0) & ~at(keyframe.mask, keyframe.keypoints)
        rays = keyframe.camera.unproject(keyframe.keypoints)
        for observer, seen in self._seen.of(keyframe.id):
            chosen = unknown[seen.landmarks]
            if not chosen.any():
                continue
            indices, other = seen.landmarks[chosen], keyframes[observer]
            inverse_depth, sensitivity, in_front = triangulate(
                rays[indices], other.camera.unproject(seen.targets[chosen]),
                se3.inverse(other.T_map_cam) @ keyframe.T_map_cam)
            shift = sensitivity * other.camera.fx
            better = in_front & (shift > best[indices])
            best[indices[better]] = shift[better]
            landmarks[indices[better]] = inverse_depth[better]
        return landmarks

    def among(self, keyframes: Sequence[Keyframe]) -> list[Observations]:
        """Return observations of landmarks of known depth among keyframes, by position."""
        index = {k.id: n for n, k in enumerate(keyframes)}
        observations = []
        for (anchor, observer), seen in self._seen.items():
            if anchor in index and observer in index:
                known = keyframes[index[anchor]].landmarks[seen.landmarks] > 0
                observations.append(Observations(
                    index[anchor], index[observer], seen.landmarks[known], seen.targets[known],
                    np.ones(int(known.sum()))))
        return observations
