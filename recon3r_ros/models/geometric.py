# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The predictor that needs no weights: classical two-view geometry behind the `Predictor` interface.

Optical flow gives dense matches, MAGSAC the relative pose, triangulation the pointmaps. A point's
confidence is the inverse variance of its relative depth, (parallax sensitivity / matching
error)^2: it vanishes under pure rotation, where matching fails the forward-backward check, off the
epipolar line, behind a camera, and at the epipole of forward motion.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import flow, pinhole, se3, two_view
from recon3r_ros.models.geometric_encoding import GeometricEncoding
from recon3r_ros.models.registry import Model
from recon3r_ros.models.types import MATCHED, NO_CONFIDENCE, Prediction, View

#: Least share of matches outside of dynamic masks for the masks to be used: they may be wrong
MIN_STILL = 0.1
#: Ratio of descriptor distances below which a sparse match counts (Lowe, IJCV 2004)
FEATURE_RATIO = 0.85
#: Error of a flow vector (grid pixels): its floor, refined or not, and its growth in plain texture
SHARP_ERROR, FLOW_ERROR, PLAIN_ERROR = 0.1, 0.25, 3.0
#: Largest forward-backward error and epipolar distance (grid pixels) of a valid match
MAX_ROUND_TRIP = 1.0
MAX_EPIPOLAR = 1.5
#: A match is dynamic if it is farther than this, in its errors, from its epipolar segment; that
#: reaches from infinity to this many times the largest inverse depth
MOVING_ERRORS, NEAREST = 4.0, 2.0
#: Epipolar distance of an inlier, grid pixels
INLIER_PIXELS = 0.5
#: Below this share of keypoints that pass the forward-backward check, sparse features are used
TRUSTED_SHARE = 0.2
#: Median parallax (grid pixels) below which a pair is not triangulated
MIN_PARALLAX = 0.75
#: Pairs processed in parallel
WORKERS = 2


@dataclass(frozen=True, eq=False)
class _Matches:
    """Correspondences in b's grid of a's grid pixels (H, W, 2), and their error (H, W), pixels."""

    targets: NDArray[np.float32]
    error: NDArray[np.float32]


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
        # OpenCV and NumPy release the interpreter lock while they compute
        with ThreadPoolExecutor(WORKERS) as pool:
            solved = dict(zip(unique, pool.map(lambda pair: predict_pair(*pair), unique.values())))
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
        return (_rotated(a, b, best.forward, best.backward, best.T_b_a),
                _rotated(b, a, best.backward, best.forward, np.linalg.inv(best.T_b_a)))
    T_a_b = np.linalg.inv(best.T_b_a)
    of_a = _Triangulated.of(a, b, best.forward, best.T_b_a)
    of_b = _Triangulated.of(b, a, best.backward, T_a_b)
    own_a, conf_a = _pointmap(a, b, best.forward, best.T_b_a, of_a)
    own_b, conf_b = _pointmap(b, a, best.backward, T_a_b, of_b)
    other_b = _in_other_view(own_b, conf_b, best.backward, a, T_a_b)
    other_a = _in_other_view(own_a, conf_a, best.forward, b, best.T_b_a)
    return (Prediction((own_a, other_b), (conf_a, conf_b),
                       moving=_moving(a, b, best.forward, best.T_b_a, of_a)),
            Prediction((own_b, other_a), (conf_b, conf_a),
                       moving=_moving(b, a, best.backward, T_a_b, of_b)))


@dataclass(frozen=True, eq=False)
class _Solution:
    forward: _Matches
    backward: _Matches
    T_b_a: NDArray[np.float64] | None
    inliers: int
    trusted_share: float
    has_parallax: bool = True


def _solve(a: GeometricEncoding, b: GeometricEncoding, seed_ab: NDArray[np.float32] | None,
           seed_ba: NDArray[np.float32] | None) -> _Solution:
    pixels_a, pixels_b = a.keypoints.astype(np.float32), b.keypoints.astype(np.float32)
    flow_ab = flow.compute_flow(a.gray, b.gray, pixels_a, seed_ab)
    flow_ba = flow.compute_flow(b.gray, a.gray, pixels_b, seed_ba)
    forward, good_a = _grid_matches(a, flow_ab, flow_ba)
    backward, good_b = _grid_matches(b, flow_ba, flow_ab)
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
    pose = two_view.estimate_relative_pose(rays_a, rays_b, INLIER_PIXELS * pixel)
    if pose is None:
        return _Solution(forward, backward, None, 0, share)
    return _Solution(forward, backward, pose.T_b_a, int(pose.inliers.sum()), share)


def _match_features(a: GeometricEncoding, b: GeometricEncoding
                    ) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Flow seeds in both directions from sparse features, or None with too few inliers."""
    (pixels_a, root_a), (pixels_b, root_b) = a.sparse, b.sparse
    if min(len(pixels_a), len(pixels_b)) < two_view.MIN_INLIERS:
        return None
    matcher = cv2.BFMatcher(cv2.NORM_L2)
    forward = matcher.knnMatch(root_a, root_b, k=2)
    back = {m.queryIdx: m.trainIdx for m in matcher.match(root_b, root_a)}
    pairs = np.array([(m.queryIdx, m.trainIdx) for m, n in forward
                      if m.distance < FEATURE_RATIO * n.distance
                      and back.get(m.trainIdx) == m.queryIdx]).reshape(-1, 2)
    if len(pairs) < two_view.MIN_INLIERS:
        return None
    matched_a, matched_b = pixels_a[pairs[:, 0]], pixels_b[pairs[:, 1]]
    pose = two_view.estimate_relative_pose(
        a.camera.unproject(matched_a), b.camera.unproject(matched_b),
        2 * INLIER_PIXELS / a.camera.fx, exact=False)
    if pose is None:
        return None
    matched_a, matched_b = matched_a[pose.inliers], matched_b[pose.inliers]
    return (flow.seed_flow(matched_a, matched_b, *a.gray.coarse.shape),
            flow.seed_flow(matched_b, matched_a, *b.gray.coarse.shape))


def _grid_matches(a: GeometricEncoding, forward: flow.Flow, backward: flow.Flow
                  ) -> tuple[_Matches, NDArray[np.bool_]]:
    """Match a's grid, refined at keypoints, and which of these pass the forward-backward check."""
    trip = flow.round_trip_error(forward.dense, backward.dense)
    targets = flow.pixel_positions(*forward.dense.shape[:2]) + forward.dense
    error = np.sqrt(FLOW_ERROR ** 2 + trip ** 2 + PLAIN_ERROR ** 2 / (1 + a.texture))
    error[trip > MAX_ROUND_TRIP] = np.inf
    height, width = backward.dense.shape[:2]
    inside = np.all((forward.targets >= 0) & (forward.targets <= [width - 1, height - 1]), axis=1)
    keypoint_trip = np.linalg.norm(
        forward.targets + flow.lookup(backward.dense, forward.targets) - a.keypoints, axis=1)
    good = inside & forward.sharp & (keypoint_trip < MAX_ROUND_TRIP)
    u, v = a.keypoints.T
    targets[v[good], u[good]] = forward.targets[good]
    # Landmarks need exact matches: a keypoint whose match was not refined counts as unmatched
    error[v, u] = np.where(good, SHARP_ERROR, np.inf)
    return _Matches(targets, error), good


@dataclass(frozen=True, eq=False)
class _Triangulated:
    """
    A view's grid (H, W), triangulated with its matches.

    :param rays: (H, W, 3) of the matches in the other view
    :param inverse_depth: see `two_view.triangulate`, as the others
    """

    rays: NDArray[np.float32]
    inverse_depth: NDArray[np.floating[Any]]
    sensitivity: NDArray[np.floating[Any]]
    in_front: NDArray[np.bool_]

    @classmethod
    def of(cls, a: GeometricEncoding, b: GeometricEncoding, matches: _Matches,
           T_b_a: NDArray[np.floating[Any]]) -> _Triangulated:
        rays = pinhole.rays(matches.targets, b.camera)
        return cls(rays, *two_view.triangulate(a.rays, rays, T_b_a))


def _pointmap(a: GeometricEncoding, b: GeometricEncoding, matches: _Matches,
              T_b_a: NDArray[np.floating[Any]], triangulated: _Triangulated
              ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Points of a's grid in a's frame, and their confidences."""
    rays_b, inverse_depth, in_front = (
        triangulated.rays, triangulated.inverse_depth, triangulated.in_front)
    points = a.rays / np.where(in_front, inverse_depth, 1.0)[..., None]
    with np.errstate(divide='ignore', invalid='ignore'):
        turned = points @ T_b_a[:3, :3].T.astype(np.float32) + T_b_a[:3, 3].astype(np.float32)
        off_line = np.linalg.norm(turned[..., :2] / turned[..., 2:] - rays_b[..., :2], axis=-1)
    off_line *= np.float32(b.camera.fx)
    error = np.sqrt(matches.error ** 2 + off_line ** 2)
    confidence = (triangulated.sensitivity * b.camera.fx / error) ** 2
    valid = in_front & (off_line < MAX_EPIPOLAR) & np.isfinite(confidence)
    confidence = np.where(valid, np.maximum(confidence, MATCHED), NO_CONFIDENCE)
    # Pixels without depth are put at the median depth to stay finite, without confidence
    filler = np.median(1 / inverse_depth[valid]) if valid.any() else 1.0
    points = np.where(valid[..., None], points, a.rays * np.float32(filler))
    return points.astype(np.float32), confidence.astype(np.float32)


def _moving(a: GeometricEncoding, b: GeometricEncoding, matches: _Matches,
            T_b_a: NDArray[np.floating[Any]], triangulated: _Triangulated) -> NDArray[np.int8]:
    """Classify a's pixels by the distance from their epipolar segment: see `Prediction.moving`."""
    rays_b, inverse_depth, in_front = (
        triangulated.rays, triangulated.inverse_depth, triangulated.in_front)
    if not in_front.any():
        return np.zeros(inverse_depth.shape, np.int8)
    nearest = np.float32(NEAREST * np.percentile(inverse_depth[in_front], 98))
    # From infinity to very near
    possible = np.clip(np.nan_to_num(inverse_depth), 0, nearest)[..., None]
    seen = (a.rays @ T_b_a[:3, :3].T.astype(np.float32)
            + possible * T_b_a[:3, 3].astype(np.float32))
    off = np.linalg.norm(seen[..., :2] / np.maximum(seen[..., 2:], 1e-3) - rays_b[..., :2],
                         axis=-1) * np.float32(b.camera.fx)
    matched = np.isfinite(matches.error)
    usual = max(float(np.median(off[matched])) if matched.any() else 0.0, FLOW_ERROR)
    limit = MOVING_ERRORS * np.hypot(np.where(matched, matches.error, 1), usual)
    out = np.where(matched, np.where(off > limit, 1, np.where(off < 0.5 * limit, -1, 0)), 0)
    return out.astype(np.int8)


def _in_other_view(points: NDArray[np.float32], confidence: NDArray[np.float32],
                   matches: _Matches, other: GeometricEncoding,
                   T_other_own: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """
    Transform a pointmap to the other camera's frame, each point onto the ray of its match there.

    Its projection in the other camera is then the measured match, not the triangulated point's.
    """
    depth = points @ T_other_own[2, :3].astype(np.float32) + np.float32(T_other_own[2, 3])
    rays = pinhole.rays(matches.targets, other.camera)
    moved = points @ T_other_own[:3, :3].T.astype(np.float32) + T_other_own[:3, 3].astype(
        np.float32)
    return np.where((confidence > NO_CONFIDENCE)[..., None], rays * depth[..., None], moved)


def _rotated(a: GeometricEncoding, b: GeometricEncoding, forward: _Matches, backward: _Matches,
             T_b_a: NDArray[np.floating[Any]]) -> Prediction:
    """Return the prediction for a pure rotation: matches, but no depth."""
    confidences = []
    for own, other, matches, T in ((a, b, forward, T_b_a), (b, a, backward, T_b_a.T)):
        rays = pinhole.rays(matches.targets, other.camera)
        turned = own.rays @ T[:3, :3].T.astype(np.float32)
        off = np.linalg.norm(turned[..., :2] / np.maximum(turned[..., 2:], 1e-3) - rays[..., :2],
                             axis=-1) * other.camera.fx
        valid = np.isfinite(matches.error) & (off < MAX_EPIPOLAR)
        confidences.append(np.where(valid, MATCHED, NO_CONFIDENCE).astype(np.float32))
    seen_b = pinhole.rays(backward.targets, a.camera)
    return Prediction((a.rays, seen_b), (confidences[0], confidences[1]))


def _nothing(a: GeometricEncoding, b: GeometricEncoding) -> Prediction:
    """Return the prediction for a pair without a relative pose: unit depths, no confidence."""
    def without(e: GeometricEncoding) -> NDArray[np.float32]:
        return np.full(e.rays.shape[:2], NO_CONFIDENCE, np.float32)
    return Prediction((a.rays, b.rays), (without(a), without(b)))


def make(model: Model) -> GeometricPredictor:
    """Make the predictor of a model."""
    return GeometricPredictor()
