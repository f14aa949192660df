# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A saved map: all that is needed to continue mapping in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.slam.archive import ArchivedView
from recon3r_ros.slam.semantics import Labels
from recon3r_ros.slam.types import Map, MetricScale


@dataclass(frozen=True, eq=False)
class SavedObservations:
    """
    Observations of one keyframe's landmarks in another.

    :param anchor: id of the keyframe that owns the landmarks
    :param observer: id of the one that observes them
    :param landmarks: (n,) indices into the anchor's
    :param targets: (n, 2) observations, pixels of the observer's grid
    """

    anchor: int
    observer: int
    landmarks: NDArray[np.int64]
    targets: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SavedLabels:
    """
    The label images of a map's keyframes.

    :param images: by keyframe, on its grid; not every keyframe has one
    :param names: of the classes, from 1 on; empty where unknown
    :param given: whether frames had them; else a network made them
    """

    images: Mapping[int, Labels]
    names: tuple[str, ...] = ()
    given: bool = True


@dataclass(frozen=True, eq=False)
class SavedMap:
    """
    A map with the images and observations for relocalisation and refinement.

    :param map: with two keyframes or more
    :param views: their images, by id
    :param observations: of their landmarks
    :param calibrated: whether the focal length was known
    :param metric: metres per map unit, where that was known
    :param labels: of keyframes; None where there are none
    """

    map: Map
    views: Mapping[int, ArchivedView]
    observations: tuple[SavedObservations, ...]
    calibrated: bool
    metric: MetricScale | None
    labels: SavedLabels | None = None
