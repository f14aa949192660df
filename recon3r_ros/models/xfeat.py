# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""XFeat as local features: images in, pixels and descriptors out."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.models.feature_matching import match_similar
from recon3r_ros.models.local_features import Features, Floats, Indices
from recon3r_ros.models.registry import EngineConfig
from recon3r_ros.models.runtime import resolve, Runner
from recon3r_ros.nets import checkpoints
from recon3r_ros.nets.xfeat import DenseFeatures, FORMAT, STRIDE, strongest, XFeat
import torch

#: Number of features, and the least similarity of two that match, as published
MAX_FEATURES, MIN_SIMILARITY = 4096, 0.82
#: About the size that it was made for: in larger images, so many features match less often
MAX_PIXELS = 1024 * 768
#: Half of SIFT's: among so many matches, a wider one lets in wrong ones that turn the pose
INLIER_PIXELS = 0.5


class XFeatFeatures:
    """
    XFeat (Potje et al., CVPR 2024) with descriptors (N, 64).

    :param network: moved to the device; owned by this object
    :raises Recon3rError: where the configuration cannot be used
    """

    max_pixels, inlier_pixels = MAX_PIXELS, INLIER_PIXELS

    def __init__(self, network: XFeat, config: EngineConfig = EngineConfig()) -> None:
        self._runner = Runner(config)
        self._network = self._runner.moved(network).lower_precision(self._runner.precision)
        self._dense = self._runner.prepared(self._run)
        # The network uses all cores, or the one stream of a GPU
        self._one_at_a_time = Lock()

    def detect(self, gray: NDArray[np.uint8]) -> Features:
        """Detect features; see `LocalFeatures`."""
        height, width = gray.shape
        rows, columns = (max(side // STRIDE, 1) * STRIDE for side in (height, width))
        fitting = gray if (rows, columns) == gray.shape else cv2.resize(
            gray, (columns, rows), interpolation=cv2.INTER_LINEAR)
        with self._one_at_a_time, torch.inference_mode(), self._runner.on_stream():
            image = torch.from_numpy(np.ascontiguousarray(fitting)).to(self._runner.device)
            dense = DenseFeatures(*self._dense(image[None, None].float()))
            pixels, _, descriptors = self._runner.fetched(strongest(dense, MAX_FEATURES))
            # Copies: the fetched ones may lie in pinned memory
            at, described = pixels.numpy().astype(float), descriptors.numpy().copy()
        at = (at + 0.5) * [width / columns, height / rows] - 0.5
        return at.astype(np.float32), described

    def match(self, first: Floats, second: Floats) -> tuple[Indices, Indices]:
        """Match mutual nearest neighbours that are similar enough."""
        return match_similar(first, second, MIN_SIMILARITY)

    def _run(self, gray: torch.Tensor) -> tuple[torch.Tensor, ...]:
        dense = self._network(gray)
        return dense.descriptors, dense.keypoints, dense.reliability


def make(weights: Path, engine: EngineConfig) -> XFeatFeatures:
    """
    Load the network.

    :raises Recon3rError: where the file or the device cannot be used
    """
    resolve(engine)  # before the file is read
    return XFeatFeatures(checkpoints.read(weights, (FORMAT,)).network, engine)
