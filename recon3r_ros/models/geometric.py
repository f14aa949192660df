# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The predictor that needs no weights: classical two-view geometry behind the `Predictor` interface.

Optical flow, seeded by what the map knows, gives dense matches; a robust fit from the prior pose,
or RANSAC, the relative pose; triangulation the pointmaps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.concurrency import side_by_side
from recon3r_ros.geometry import flow, reprojection_flow, se3, two_view
from recon3r_ros.models.compiled_pointmaps import MAX_EPIPOLAR
from recon3r_ros.models.geometric_encoding import GeometricEncoding
from recon3r_ros.models.geometric_pointmaps import Matches, only_turned, Pointmap
from recon3r_ros.models.local_features import LocalFeatures, make_features, Sift
from recon3r_ros.models.registry import Model
from recon3r_ros.models.types import MapPrior, MATCHED, NO_CONFIDENCE, Prediction, View

Array = NDArray[np.float64]
Seeds = tuple[NDArray[np.float32], NDArray[np.float32]]

#: Least share of matches outside of dynamic masks for the masks to be used: they may be wrong
MIN_STILL = 0.1
#: Epipolar distance of an inlier, grid pixels
INLIER_PIXELS = 0.5
#: Below this share of keypoints that pass the forward-backward check, sparse features are used;
#: with flow seeded by the map, a smaller share confirms it: features find no more
TRUSTED_SHARE, CONFIRMED_SHARE = 0.2, 0.04
#: Median parallax (grid pixels) below which a pair is not triangulated
MIN_PARALLAX = 0.75


class GeometricPredictor:
    """
    Two-view geometry as a `Predictor`: groups of two, one pointmap scale per pair.

    :param features: for wide baselines; SIFT by default
    """

    single_view, reweights, together = False, False, None

    def __init__(self, features: LocalFeatures = Sift()) -> None:
        self._features = features

    def encode(self, view: View) -> GeometricEncoding:
        """Prepare a view; features for wide baselines are detected when first needed."""
        return GeometricEncoding.of(view)

    def predict(self, groups: Sequence[tuple[GeometricEncoding, ...]],
                moving: Sequence[tuple[NDArray[np.bool_], ...]] | None = None,
                priors: Sequence[tuple[MapPrior | None, ...]] | None = None
                ) -> list[Prediction]:
        """
        Pointmaps of pairs; a pair and its reverse share their matches and pose.

        :param moving: ignored
        :param priors: poses and depths from which pose and matching start
        :raises ValueError: for a group that is not a pair
        """
        for group in groups:
            if len(group) != 2:
                raise ValueError(f'the geometric predictor takes pairs, got {len(group)} views')
        known = priors or [(None, None)] * len(groups)
        pairs: dict[frozenset[int], tuple[Any, ...]] = {}
        for group, both in zip(groups, known):
            pairs.setdefault(frozenset(map(id, group)), (*group, self._features, *both))
        solved: dict[tuple[int, int], Prediction] = {}
        for (a, b, *_), (of_a, of_b) in zip(
                pairs.values(), side_by_side(predict_pair, *zip(*pairs.values()))):
            solved[id(a), id(b)], solved[id(b), id(a)] = of_a, of_b
        return [solved[id(a), id(b)] for a, b in groups]


def predict_pair(a: GeometricEncoding, b: GeometricEncoding, features: LocalFeatures,
                 prior_a: MapPrior | None = None, prior_b: MapPrior | None = None
                 ) -> tuple[Prediction, Prediction]:
    """Pointmaps of the pair in a's frame, and in b's."""
    T_b_a = None if prior_a is None or prior_b is None else (
        se3.inverse(prior_b.T_map_cam) @ prior_a.T_map_cam)
    candidates = []
    for seeds, enough in _seeds(a, b, features, prior_a, prior_b, T_b_a):
        candidates.append(_solve(a, b, T_b_a, seeds))
        if candidates[-1].trusted_share >= enough:
            break
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


def _seeds(a: GeometricEncoding, b: GeometricEncoding, features: LocalFeatures,
           prior_a: MapPrior | None, prior_b: MapPrior | None, T_b_a: Array | None
           ) -> Iterator[tuple[Seeds | None, float]]:
    """
    Iterate over flow seeds, cheapest first: by the map, none, by sparse features.

    Each comes with the share of trusted keypoints with which no other is tried.
    """
    if T_b_a is not None:
        predicted = None
        if prior_a is not None and prior_a.inverse_depth is not None:
            predicted = reprojection_flow.seeds(
                prior_a.inverse_depth, a.camera, b.camera, T_b_a)
        elif prior_b is not None and prior_b.inverse_depth is not None:
            predicted = reprojection_flow.seeds(
                prior_b.inverse_depth, b.camera, a.camera, se3.inverse(T_b_a))
            predicted = None if predicted is None else predicted[::-1]
        if predicted is not None:
            yield predicted, CONFIRMED_SHARE
    if a.gray.coarse.shape == b.gray.coarse.shape:
        yield None, TRUSTED_SHARE
    matched = _match_features(a, b, features, T_b_a)
    if matched is not None:
        yield matched, 0.0


def _solve(a: GeometricEncoding, b: GeometricEncoding, T_b_a_prior: Array | None,
           seeds: Seeds | None) -> _Solution:
    seed_ab, seed_ba = (None, None) if seeds is None else seeds
    pixels_a, pixels_b = a.keypoints.astype(np.float32), b.keypoints.astype(np.float32)
    flow_ab, flow_ba = side_by_side(
        flow.compute_flow, (a.gray, b.gray), (b.gray, a.gray), (pixels_a, pixels_b),
        (seed_ab, seed_ba))
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
        rays_a, rays_b, INLIER_PIXELS * pixel, T_b_a_prior)
    if pose is None:
        return _Solution(forward, backward, None, 0, share)
    return _Solution(forward, backward, pose.T_b_a, int(pose.inliers.sum()), share)


def _match_features(a: GeometricEncoding, b: GeometricEncoding, features: LocalFeatures,
                    T_b_a_prior: Array | None) -> Seeds | None:
    """Flow seeds in both directions from sparse features, or None with too few inliers."""
    (pixels_a, described_a), (pixels_b, described_b) = side_by_side(
        GeometricEncoding.sparse, (a, b), (features, features))
    if min(len(pixels_a), len(pixels_b)) < two_view.MIN_INLIERS:
        return None
    index_a, index_b = features.match(described_a, described_b)
    if len(index_a) < two_view.MIN_INLIERS:
        return None
    matched_a, matched_b = pixels_a[index_a], pixels_b[index_b]
    pose = two_view.estimate_relative_pose(
        a.camera.unproject(matched_a), b.camera.unproject(matched_b),
        features.inlier_pixels / a.camera.fx, T_b_a_prior, exact=False)
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
    """
    Make the predictor of a model.

    :raises Recon3rError: where its features need what is not installed or cannot be used
    """
    return GeometricPredictor(make_features(model.options.features, model.engine))
