# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Errors of depth maps and dynamic masks against ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry.camera import Camera, pixel_grid

_CLOSE = 1.25


@dataclass(frozen=True)
class DepthErrors:
    """
    Errors of depth after scaling by the ratio of medians.

    :param abs_rel: mean of |depth - truth| / truth
    :param delta_125: share of pixels with max(depth / truth, truth / depth) < 1.25
    """

    abs_rel: float
    delta_125: float


@dataclass(frozen=True)
class KeyframeDepth:
    """
    Depth errors of one keyframe.

    :param every: over all pixels known in both
    :param confident: over the half of these with the highest confidence
    :param known: share of the pixels with ground truth that have an estimate
    """

    every: DepthErrors
    confident: DepthErrors
    known: float


def depth_errors(depth: NDArray[np.floating], truth: NDArray[np.floating]) -> DepthErrors:
    """
    Compare depths of the same pixels.

    :param depth: (N,) > 0, any unit
    :param truth: (N,) > 0, N >= 1
    """
    scaled = depth * (np.median(truth) / np.median(depth))
    abs_rel = np.abs(scaled - truth) / truth
    ratio = np.maximum(scaled / truth, truth / scaled)
    return DepthErrors(float(abs_rel.mean()), float((ratio < _CLOSE).mean()))


def keyframe_errors(depth: NDArray[np.floating], confidence: NDArray[np.floating],
                    truth: NDArray[np.floating]) -> KeyframeDepth | None:
    """
    Compare a depth map with ground truth on its grid.

    :param depth: (H, W), not finite where unknown
    :param confidence: (H, W)
    :param truth: (H, W), 0 where unknown
    :returns: None where no pixel is known in both
    """
    known = np.isfinite(depth) & (depth > 0) & (truth > 0)
    count = int(known.sum())
    if not count:
        return None
    d, t = depth[known].astype(np.float64), truth[known].astype(np.float64)
    best = np.argsort(-confidence[known], kind='stable')[:max(count // 2, 1)]
    return KeyframeDepth(depth_errors(d, t), depth_errors(d[best], t[best]),
                         count / int((truth > 0).sum()))


def mean_errors(errors: Sequence[DepthErrors]) -> DepthErrors:
    """
    Average over keyframes.

    :param errors: at least one
    """
    return DepthErrors(float(np.mean([e.abs_rel for e in errors])),
                       float(np.mean([e.delta_125 for e in errors])))


def on_grid(truth: NDArray[np.floating], source: Camera | None, grid: Camera
            ) -> NDArray[np.floating]:
    """
    Resample a true depth map to the grid of an estimated one, by nearest neighbour.

    :param truth: (H, W) registered to the source image, 0 where unknown
    :param source: camera of the ground truth, with distortion; None where the grid covers the
        whole source image without rectification, so that the sizes alone relate the two
    :param grid: pinhole camera of the estimated depth
    :returns: (grid.height, grid.width), 0 where unknown
    """
    pixels = pixel_grid(grid.height, grid.width)
    height, width = truth.shape
    if source is None:
        scale = np.array([width / grid.width, height / grid.height])
        pixels = (pixels + 0.5) * scale - 0.5
    else:
        pixels = source.project(grid.unproject(pixels))
        pixels = (pixels + 0.5) * [width / source.width, height / source.height] - 0.5
    # rounding half away from zero would leave the image at its border; NaN is outside
    nearest = np.nan_to_num(np.floor(pixels + 0.5), nan=-1.0, posinf=-1.0, neginf=-1.0)
    inside = np.all((nearest >= 0) & (nearest < [width, height]), axis=-1)
    u, v = np.where(inside[..., None], nearest, 0).astype(int).transpose(2, 0, 1)
    return np.where(inside, truth[v, u], 0)


def jaccard(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """
    Intersection over union of two masks (H, W).

    :param mask: estimated
    :param truth: true
    :returns: 1 where both are empty
    """
    union = int((mask | truth).sum())
    return 1.0 if union == 0 else int((mask & truth).sum()) / union
