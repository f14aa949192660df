# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The predictor that needs no weights: classical two-view geometry behind the `Predictor` interface.

Optical flow gives dense matches; a robust fit from the views' pose priors, or RANSAC, the relative
pose; triangulation the pointmaps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import flow, se3, two_view
from recon3r_ros.models.compiled_pointmaps import MAX_EPIPOLAR
from recon3r_ros.models.feature_matching import match_features
from recon3r_ros.models.geometric_encoding import GeometricEncoding
from recon3r_ros.models.geometric_pointmaps import Matches, only_turned, Pointmap
from recon3r_ros.models.registry import Model
from recon3r_ros.models.types import MATCHED, NO_CONFIDENCE, Prediction, View

Array = NDArray[np.float64]

#: Least share of matches outside of dynamic masks for the masks to be used: they may be wrong
MIN_STILL = 0.1
#: Ratio of descriptor distances below which a sparse match counts (Lowe, IJCV 2004)
FEATURE_RATIO = 0.85
#: Epipolar distance of an inlier, grid pixels
INLIER_PIXELS = 0.5
#: Below this share of keypoints that pass the forward-backward check, sparse features are used
TRUSTED_SHARE = 0.2
#: Median parallax (grid pixels) below which a pair is not triangulated
MIN_PARALLAX = 0.75


class GeometricPredictor:
    """Two-view geometry as a `Predictor`: groups of two, one pointmap scale per pair."""

    single_view, reweights, together = False, False, None

    def encode(self, view: View) -> GeometricEncoding:
        """Prepare a view; features for wide baselines are detected when first needed."""
        return GeometricEncoding.of(view)

    def predict(self, groups: Sequence[tuple[GeometricEncoding, ...]],
                moving: Sequence[tuple[NDArray[np.bool_], ...]] | None = None
                ) -> list[Prediction]:
        """
        Pointmaps of pairs; a pair and its reverse share their matches and pose.

        :param moving: ignored
        :raises ValueError: for a group that is not a pair
        """
        for group in groups:
            if len(group) != 2:
                raise ValueError(f'the geometric predictor takes pairs, got {len(group)} views')
        unique = {frozenset((id(a), id(b))): (a, b) for a, b in groups}
        solved = {key: predict_pair(*pair) for key, pair in unique.items()}
        return [solved[key][0 if unique[key][0] is a else 1]
                for a, b in groups for key in [frozenset((id(a), id(b)))]]


def predict_pair(a: GeometricEncoding, b: GeometricEncoding) -> tuple[Prediction, Prediction]:
    """Pointmaps of the pair in a's frame, and in b's."""
    same_size = a.gray.coarse.shape == b.gray.coarse.shape
    candidates = []
    if same_size:
        candidates.append(_solve(a, b, None, None))
    if not candidates or candidates[0].trusted_share < TRUSTED_SHARE:
        seeds = _match_features(a, b)
        if seeds is not None:
            candidates.append(_solve(a, b, *seeds))
    if not candidates:
        return _nothing(a, b), _nothing(b, a)
    best = max(candidates, key=lambda c: c.inliers)
    if best.T_b_a is None:
        return _nothing(a, b), _nothing(b, a)
    if not best.has_parallax:
        return _rotated(a, b, best.forward, best.backward, best.T_b_a)
    of_a = Pointmap.of(a, b, best.forward, best.T_b_a)
    of_b = Pointmap.of(b, a, best.backward, se3.inverse(best.T_b_a))
    return (Prediction((of_a.points, of_b.seen), (of_a.confidence, of_b.confidence),
                       moving=of_a.moving),
            Prediction((of_b.points, of_a.seen), (of_b.confidence, of_a.confidence),
                       moving=of_b.moving))


@dataclass(frozen=True, eq=False)
class _Solution:
    forward: Matches
    backward: Matches
    T_b_a: Array | None
    inliers: int
    trusted_share: float
    has_parallax: bool = True


def _solve(a: GeometricEncoding, b: GeometricEncoding, seed_ab: NDArray[np.float32] | None,
           seed_ba: NDArray[np.float32] | None) -> _Solution:
    pixels_a, pixels_b = a.keypoints.astype(np.float32), b.keypoints.astype(np.float32)
    flow_ab = flow.compute_flow(a.gray, b.gray, pixels_a, seed_ab)
    flow_ba = flow.compute_flow(b.gray, a.gray, pixels_b, seed_ba)
    forward, good_a = Matches.of(a, flow_ab, flow_ba)
    backward, good_b = Matches.of(b, flow_ba, flow_ab)
    total = len(pixels_a) + len(pixels_b)
    share = (good_a.sum() + good_b.sum()) / max(total, 1)
    still_a = good_a & a.still(pixels_a) & b.still(flow_ab.targets)
    still_b = good_b & b.still(pixels_b) & a.still(flow_ba.targets)
    if still_a.sum() + still_b.sum() > MIN_STILL * (good_a.sum() + good_b.sum()):
        good_a, good_b = still_a, still_b
    rays_a = np.vstack([a.camera.unproject(pixels_a[good_a]),
                        a.camera.unproject(flow_ba.targets[good_b])])
    rays_b = np.vstack([b.camera.unproject(flow_ab.targets[good_a]),
                        b.camera.unproject(pixels_b[good_b])])
    pixel = 2 / (a.camera.fx + b.camera.fx)
    if len(rays_a) < two_view.MIN_INLIERS:
        return _Solution(forward, backward, None, 0, share)
    rotation = two_view.fit_rotation(rays_a, rays_b, 2 * pixel)
    angles = two_view.parallax(rays_a, rays_b, rotation)
    if np.median(angles) < MIN_PARALLAX * pixel:
        inliers = int((angles < MAX_EPIPOLAR * pixel).sum())
        return _Solution(forward, backward, se3.from_rt(rotation, np.zeros(3)), inliers, share,
                         has_parallax=False)
    pose = two_view.estimate_relative_pose(
        rays_a, rays_b, INLIER_PIXELS * pixel, _prior(a, b))
    if pose is None:
        return _Solution(forward, backward, None, 0, share)
    return _Solution(forward, backward, pose.T_b_a, int(pose.inliers.sum()), share)


def _prior(a: GeometricEncoding, b: GeometricEncoding) -> Array | None:
    """
    Prior T_b_a (4, 4) by the views' pose priors, in map units, where both have one.

    Poses in the map may have been refined since.
    """
    if a.view.pose is None or b.view.pose is None:
        return None
    return se3.inverse(b.view.pose.T_map_cam) @ a.view.pose.T_map_cam


def _match_features(a: GeometricEncoding, b: GeometricEncoding
                    ) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Flow seeds in both directions from sparse features, or None with too few inliers."""
    (pixels_a, root_a), (pixels_b, root_b) = a.sparse, b.sparse
    if min(len(pixels_a), len(pixels_b)) < two_view.MIN_INLIERS:
        return None
    index_a, index_b = match_features(root_a, root_b, FEATURE_RATIO)
    if len(index_a) < two_view.MIN_INLIERS:
        return None
    matched_a, matched_b = pixels_a[index_a], pixels_b[index_b]
    pose = two_view.estimate_relative_pose(
        a.camera.unproject(matched_a), b.camera.unproject(matched_b),
        2 * INLIER_PIXELS / a.camera.fx, _prior(a, b), exact=False)
    if pose is None:
        return None
    matched_a, matched_b = matched_a[pose.inliers], matched_b[pose.inliers]
    return (flow.seed_flow(matched_a, matched_b, *a.gray.coarse.shape),
            flow.seed_flow(matched_b, matched_a, *b.gray.coarse.shape))


def _rotated(a: GeometricEncoding, b: GeometricEncoding, forward: Matches, backward: Matches,
             T_b_a: Array) -> tuple[Prediction, Prediction]:
    """Return the predictions for a pure rotation: matches, but no depth."""
    sure_a, sure_b = (
        np.where(only_turned(*view), MATCHED, NO_CONFIDENCE).astype(np.float32)
        for view in ((a, b, forward, T_b_a), (b, a, backward, se3.inverse(T_b_a))))
    return (Prediction((a.rays, backward.rays(a.camera)), (sure_a, sure_b)),
            Prediction((b.rays, forward.rays(b.camera)), (sure_b, sure_a)))


def _nothing(a: GeometricEncoding, b: GeometricEncoding) -> Prediction:
    """Return the prediction for a pair without a relative pose: unit depths, no confidence."""
    def without(e: GeometricEncoding) -> NDArray[np.float32]:
        return np.full(e.rays.shape[:2], NO_CONFIDENCE, np.float32)
    return Prediction((a.rays, b.rays), (without(a), without(b)))


def make(model: Model) -> GeometricPredictor:
    """Make the predictor of a model."""
    return GeometricPredictor()
