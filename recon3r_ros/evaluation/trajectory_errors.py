# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Errors of a trajectory against ground truth, computed by evo."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from evo.core import metrics, sync
from evo.core.geometry import GeometryException
from evo.core.trajectory import PoseTrajectory3D
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import sim3
from recon3r_ros.geometry.se3 import from_rt
from recon3r_ros.io.stamps import NS_PER_S

Array = NDArray[np.float64]

#: Largest difference of matched stamps, seconds
MAX_STAMP_DIFFERENCE = 0.01
# Share of the true poses that matched ones cover, below which it is noted
_COVERED = 0.9
# Largest extent, in the trajectory's units, of a trajectory without motion
_STILL = 1e-9


@dataclass(frozen=True)
class AlignedErrors:
    """
    Errors after one kind of alignment; lengths in units of the ground truth, angles in degrees.

    :param scale: units of the ground truth per map unit; 1 for a rigid alignment
    :param ate_rmse: root mean square of the distances between matched positions
    :param ate_median: their median
    :param ate_max: their maximum
    :param ate_percent_of_path: `ate_rmse` in percent of the true path length, None where that is
        zero
    :param ate_percent_of_extent: the same of the true extent
    :param rpe_translation_rmse: error of the motion between successive matched poses; None for a
        single pose
    :param rpe_rotation_rmse_deg: the same of the rotation
    """

    scale: float
    ate_rmse: float
    ate_median: float
    ate_max: float
    ate_percent_of_path: float | None
    ate_percent_of_extent: float | None
    rpe_translation_rmse: float | None
    rpe_rotation_rmse_deg: float | None


@dataclass(frozen=True)
class TrajectoryErrors:
    """
    A trajectory compared with ground truth; lengths in units of the ground truth.

    :param matched: estimated poses whose stamp matches a true pose
    :param path_length: of the stretches of the true path that matched poses cover
    :param extent: diagonal of the bounding box of the true positions there
    :param se3: after alignment by a rigid motion; None where nothing matches
    :param sim3: after alignment by a similarity; None where nothing matches, or the scale is not
        observable, without motion in the ground truth
    :param note: special case, such as 'no motion'; empty for none
    """

    matched: int
    path_length: float
    extent: float
    se3: AlignedErrors | None
    sim3: AlignedErrors | None
    note: str


def compare(estimate: tuple[NDArray[np.int64], Array], truth: tuple[NDArray[np.int64], Array],
            max_difference_s: float = MAX_STAMP_DIFFERENCE) -> TrajectoryErrors:
    """
    Compare a trajectory with ground truth.

    :param estimate: stamps (N,) integer nanoseconds and T_map_cam (N, 4, 4)
    :param truth: stamps (M,) integer nanoseconds and T_world_cam (M, 4, 4)
    :param max_difference_s: largest difference of matched stamps, seconds
    :raises InputError: where both hold poses, but no stamps match
    """
    if not len(truth[0]):
        raise InputError('the true trajectory holds no pose')
    full = _trajectory(*truth)
    if not len(estimate[0]):
        return TrajectoryErrors(0, float(full.path_length), _extent(full.positions_xyz), None,
                                None, 'no pose was estimated')
    estimated = _trajectory(*estimate)
    try:
        reference, matched = sync.associate_trajectories(full, estimated,
                                                         max_diff=max_difference_s)
    except sync.SyncException:
        raise InputError(
            _no_match(estimated.timestamps, full.timestamps, max_difference_s)) from None
    covered = _covered(full.timestamps, reference.timestamps)
    steps = np.linalg.norm(np.diff(full.positions_xyz, axis=0), axis=1)
    size = (float(steps[covered[1:] & covered[:-1]].sum()),
            _extent(full.positions_xyz[covered]))
    notes = []
    if covered.mean() < _COVERED:
        notes.append(f'matched poses cover {100 * covered.mean():.0f} % of the ground truth')
    truth_is_still = _extent(reference.positions_xyz) < _STILL
    if truth_is_still:
        notes.append('no motion in the ground truth')
    if _extent(matched.positions_xyz) < _STILL:
        notes.append('no motion in the estimate')
    return TrajectoryErrors(
        matched.num_poses, *size, _errors(reference, matched, False, size),
        None if truth_is_still else _errors(reference, matched, True, size), ', '.join(notes))


def _covered(truth_s: Array, matched_s: Array) -> NDArray[np.bool_]:
    """
    Return which true poses (M,) lie between matched ones, and no further from the next than usual.

    :param truth_s: stamps (M,), seconds
    :param matched_s: those that are matched (N,), in their order
    """
    period = float(np.median(np.diff(matched_s))) if len(matched_s) > 1 else 0.0
    after = np.searchsorted(matched_s, truth_s).clip(0, len(matched_s) - 1)
    before = np.maximum(after - 1, 0)
    distance = np.minimum(np.abs(truth_s - matched_s[after]), np.abs(truth_s - matched_s[before]))
    between = (truth_s >= matched_s[0]) & (truth_s <= matched_s[-1])
    return np.asarray(between & (distance <= 1.001 * period))


def _no_match(estimate_s: Array, truth_s: Array, max_difference_s: float) -> str:
    nearest = np.abs(estimate_s[:, None] - truth_s[np.clip(
        np.searchsorted(truth_s, estimate_s)[:, None] + [-1, 0], 0, len(truth_s) - 1)]).min()
    return (f'no stamp of the {len(estimate_s)} estimated poses, {_span(estimate_s)}, is within '
            f'{max_difference_s:g} s of one of the {len(truth_s)} true poses, '
            f'{_span(truth_s)}; the nearest are {nearest:.10g} s apart: give --offset, seconds to '
            'add to the true stamps, or --max-diff')


def aligning_similarity(estimate: Array, truth: Array, with_scale: bool = True) -> Array:
    """
    Least-squares similarity from estimated to true positions.

    Where the positions do not determine it, because they coincide or are collinear, it is
    estimated from the orientations.

    :param estimate: T_map_cam (N, 4, 4)
    :param truth: T_world_cam (N, 4, 4)
    :param with_scale: False for a rigid motion
    :returns: S_world_map (4, 4)
    """
    moved = _trajectory(np.arange(len(estimate)), estimate)
    try:
        with np.errstate(divide='ignore', invalid='ignore'):
            rotation, translation, scale = moved.align(
                _trajectory(np.arange(len(truth)), truth), correct_scale=with_scale)
        if np.isfinite(scale) and scale > 0:
            return sim3.compose(scale, rotation, translation)
    except GeometryException:
        pass
    return _align_by_orientations(estimate, truth, with_scale)


def _align_by_orientations(estimate: Array, truth: Array, with_scale: bool) -> Array:
    """Align with the mean of the relative rotations, then scale and shift by least squares."""
    mean = (truth[:, :3, :3] @ np.swapaxes(estimate[:, :3, :3], 1, 2)).mean(axis=0)
    u, _, vt = np.linalg.svd(mean)
    rotation = u @ np.diag([1.0, 1.0, np.linalg.det(u) * np.linalg.det(vt)]) @ vt
    source, target = estimate[:, :3, 3] @ rotation.T, truth[:, :3, 3]
    p, q = source - source.mean(axis=0), target - target.mean(axis=0)
    scale = 1.0
    if with_scale and _extent(source) >= _STILL:
        scale = max(float((p * q).sum() / (p * p).sum()), 1e-12)
    return sim3.compose(scale, rotation, target.mean(axis=0) - scale * source.mean(axis=0))


def _errors(reference: PoseTrajectory3D, estimate: PoseTrajectory3D, with_scale: bool,
            size: tuple[float, float]) -> AlignedErrors:
    S = aligning_similarity(np.array(estimate.poses_se3), np.array(reference.poses_se3),
                            with_scale)
    scale, rotation, translation = sim3.decompose(S)
    aligned = copy.deepcopy(estimate)
    aligned.scale(float(scale))
    aligned.transform(from_rt(rotation, translation))
    ate = metrics.APE(metrics.PoseRelation.translation_part)
    ate.process_data((reference, aligned))
    values = {kind: float(ate.get_statistic(kind)) for kind in metrics.StatisticsType}
    rmse = values[metrics.StatisticsType.rmse]
    path_length, extent = size
    return AlignedErrors(
        float(scale) if with_scale else 1.0, rmse, values[metrics.StatisticsType.median],
        values[metrics.StatisticsType.max],
        100 * rmse / path_length if path_length >= _STILL else None,
        100 * rmse / extent if extent >= _STILL else None,
        _relative(reference, aligned, metrics.PoseRelation.translation_part),
        _relative(reference, aligned, metrics.PoseRelation.rotation_angle_deg))


def _relative(reference: PoseTrajectory3D, estimate: PoseTrajectory3D,
              relation: metrics.PoseRelation) -> float | None:
    """Return the root mean square error of successive motions, None for a single pose."""
    if reference.num_poses < 2:
        return None
    rpe = metrics.RPE(relation, delta=1, delta_unit=metrics.Unit.frames)
    rpe.process_data((reference, estimate))
    return float(rpe.get_statistic(metrics.StatisticsType.rmse))


def _trajectory(stamps_ns: NDArray[np.int64], poses: Array) -> PoseTrajectory3D:
    order = np.argsort(stamps_ns, kind='stable')
    return PoseTrajectory3D(poses_se3=[pose.copy() for pose in poses[order]],
                            timestamps=stamps_ns[order] / NS_PER_S)


def _extent(positions: Array) -> float:
    """Diagonal of the bounding box of positions (N, 3)."""
    return float(np.linalg.norm(np.ptp(positions, axis=0)))


def _span(stamps_s: Array) -> str:
    return f'{stamps_s.min():.3f} to {stamps_s.max():.3f} s'
