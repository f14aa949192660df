# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which keyframes are processed jointly: a sliding window with loop closures."""

from __future__ import annotations

from typing import Sequence

import numpy as np
from numpy.typing import NDArray

#: Partners of a new keyframe, counted back from it: short baselines for matching, long ones for
#: depth
OFFSETS = (1, 3)
#: Partners of a keyframe whose pose is unknown
LOST_RECENT, LOST_CANDIDATES = 2, 5
#: Time from the nearest keyframe, nanoseconds, after which a camera may be anywhere
ANYWHERE_NS = 5_000_000_000


def window_partners(count: int) -> list[int]:
    """
    Partners of the newest of `count` keyframes inside the window.

    :return: indices below count - 1, newest first
    """
    newest = count - 1
    return [newest - offset for offset in OFFSETS if newest - offset >= 0]


def window_start(count: int, size: int, overlap: int) -> int:
    """
    First member of the window that the newest of `count` keyframes is in.

    Windows grow to their size and then begin again with the last `overlap` members.

    :return: index
    """
    step = size - overlap
    return max(count - 1 - overlap, 0) // step * step


def loop_candidate(descriptors: Sequence[NDArray[np.float32]], gap: int) -> int | None:
    """
    Find the old keyframe whose descriptor is most similar to the newest one's.

    It must be at least as similar as the window's own farthest partner, so that the threshold
    adapts to the scene.

    :param descriptors: one unit vector (D,) per keyframe, oldest first
    :param gap: keyframes this close to the newest close no loop
    :return: index, or None
    """
    newest = len(descriptors) - 1
    old = newest - gap
    if old < 0:
        return None
    similarity = np.stack(descriptors[:newest]) @ descriptors[newest]
    best = int(np.argmax(similarity[:old + 1]))
    farthest = max(newest - OFFSETS[-1], 0)
    return best if similarity[best] >= similarity[farthest] else None


def relocalisation_candidates(descriptors: Sequence[NDArray[np.float32]], ages: Sequence[int],
                              similar: int) -> list[list[int]]:
    """
    Partners for the newest keyframe where its pose is unknown: near in time, and similar ones.

    :param descriptors: one unit vector (D,) per keyframe, oldest first
    :param ages: nanoseconds from each of the others to the newest
    :param similar: how many of the similar ones
    :return: groups of indices, most promising first
    """
    newest = len(descriptors) - 1
    if newest == 0:
        return []
    recent = sorted(range(newest), key=lambda n: (ages[n], -n))[:LOST_RECENT]
    similarity = np.stack(descriptors[:newest]) @ descriptors[newest]
    alike = [int(i) for i in np.argsort(-similarity, kind='stable') if int(i) not in recent]
    groups = [recent, *(alike[n:min(n + LOST_CANDIDATES, similar)]
                        for n in range(0, min(similar, len(alike)), LOST_CANDIDATES))]
    if ages[recent[0]] > ANYWHERE_NS:
        groups.sort(key=lambda group: -float(similarity[group].max()))
    return groups


def looks_known(others: Sequence[NDArray[np.float32]], own: Sequence[NDArray[np.float32]]
                ) -> bool:
    """
    Whether the newest keyframe of a map looks like one of another map.

    As similar as its own map's farthest partner of the window, see `loop_candidate`.

    :param others: descriptors (D,) of the other map
    :param own: of the map, the newest one last
    """
    farthest = max(len(own) - 1 - OFFSETS[-1], 0)
    return bool(others) and float((np.stack(others) @ own[-1]).max()) >= float(
        own[farthest] @ own[-1])


def most_redundant(poses: NDArray[np.float64], depths: NDArray[np.float64],
                   candidates: list[int]) -> tuple[int, int]:
    """
    Find the most redundant keyframe: the nearest to a neighbour.

    The distance of two keyframes is the image motion between them: by their baseline relative to
    the depth, and by the angle between them.

    :param poses: (N, 4, 4) T_map_cam
    :param depths: (N,) typical depths, in the poses' units
    :param candidates: indices of those that may be chosen, one or more
    :return: its index, and its neighbour's
    """
    centres, rotations = poses[:, :3, 3], poses[candidates, :3, :3]
    shift = np.linalg.norm(centres[candidates, None] - centres[None], axis=2)
    cosine = (np.einsum('nij,mij->nm', rotations, poses[:, :3, :3]) - 1) / 2
    apart = shift / depths[candidates, None] + np.arccos(np.clip(cosine, -1, 1))
    apart[np.arange(len(candidates)), candidates] = np.inf
    lost, kept = np.unravel_index(int(np.argmin(apart)), apart.shape)
    return candidates[int(lost)], int(kept)
