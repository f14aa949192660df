# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The cases of `recon3r bench`: sequences, measures and targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from recon3r_ros.bench import KITCHEN_PACK
from recon3r_ros.cli.report import RunReport
from recon3r_ros.evaluation.results import Evaluation

KITCHEN = 'kitchen'
_KITCHEN_FOCAL = 525.0
SIMULATED_SEEDS = range(5)


@dataclass(frozen=True)
class Result:
    """
    Result of a case.

    :param report: of the run
    :param evaluation: of its results
    """

    report: RunReport
    evaluation: Evaluation


@dataclass(frozen=True)
class Measure:
    """
    A measure and its target.

    :param name: of the measure
    :param value: computes it from a result; None where it could not be measured
    :param limit: the target
    :param unit: appended to the numbers
    :param at_least: whether the value must reach the limit; otherwise it must not exceed it
    :param digits: decimal places
    """

    name: str
    value: Callable[[Result], float | None]
    limit: float
    unit: str = ''
    at_least: bool = False
    digits: int = 3

    def met(self, value: float | None) -> bool:
        """Whether a value meets the target; a missing one does not."""
        if value is None:
            return False
        return value >= self.limit if self.at_least else value <= self.limit

    def target(self) -> str:
        """Format the target."""
        return f'{">=" if self.at_least else "<="} {self.limit:g}{self.unit}'

    def text(self, value: float | None) -> str:
        """Format a value."""
        return 'none' if value is None else f'{value:.{self.digits}f}{self.unit}'


@dataclass(frozen=True)
class Case:
    """
    A sequence, the options of its run, and the targets.

    :param name: for `--only` and the table
    :param pack: name of the pack; empty for a simulated scene
    :param measures: with their targets
    :param calibrated: whether the run may use the pack's intrinsics
    :param seed: of the simulated scene
    :param stills: whether its stamps are numbers, not times
    :param moving: number of dynamic objects of the simulated scene
    :param offline: whether dynamic masks are computed again at the end
    """

    name: str
    pack: str
    measures: tuple[Measure, ...] = field(repr=False)
    calibrated: bool = True
    seed: int = 0
    stills: bool = False
    moving: int = 1
    offline: bool = False


def _ate(result: Result) -> float | None:
    errors = result.evaluation.trajectory
    return None if errors is None or errors.sim3 is None else errors.sim3.ate_rmse


def _ate_of_path(result: Result) -> float | None:
    errors = result.evaluation.trajectory
    return None if errors is None or errors.sim3 is None else errors.sim3.ate_percent_of_path


def _ate_of_extent(result: Result) -> float | None:
    errors = result.evaluation.trajectory
    return None if errors is None or errors.sim3 is None else errors.sim3.ate_percent_of_extent


def _tracked(result: Result) -> float:
    return 100 * result.evaluation.tracked_share


def _abs_rel(result: Result) -> float | None:
    depth = result.evaluation.depth
    return None if depth is None else depth.confident.abs_rel


def _jaccard(result: Result) -> float | None:
    masks = result.evaluation.masks
    return None if masks is None else masks.jaccard


def _masked(result: Result) -> float | None:
    masks = result.evaluation.masks
    return None if masks is None else 100 * masks.masked


def _focal_error(result: Result) -> float | None:
    focal = result.report.focal_pixels
    return None if focal is None else 100 * abs(focal / _KITCHEN_FOCAL - 1)


def _points(result: Result) -> float:
    return result.report.points


def _track_ms(result: Result) -> float | None:
    return result.report.timings.track_median_ms


def _share_of_duration(result: Result) -> float | None:
    duration = result.report.sequence_s
    return result.report.timings.total_s / duration if duration > 0 else None


def _jaccard_at_least(limit: float) -> Measure:
    return Measure('mask J', _jaccard, limit, at_least=True)


def _tracked_at_least(percent: float) -> Measure:
    return Measure('images with a pose', _tracked, percent, ' %', at_least=True, digits=1)


def _ate_at_most(metres: float) -> Measure:
    return Measure('ATE (Sim3)', _ate, metres, ' m', digits=4)


def cases() -> tuple[Case, ...]:
    """Return all cases; the kitchen is first, so that it runs in a fresh process."""
    stills = (_tracked_at_least(100), _ate_at_most(0.05))
    simulated = (
        Measure('ATE (Sim3) of the path', _ate_of_path, 1, ' %', digits=2),
        Measure('AbsRel, confident half', _abs_rel, 0.03, digits=4),
        _jaccard_at_least(0.75),
    )
    return (
        Case(KITCHEN, KITCHEN_PACK, (
            _tracked_at_least(98), _ate_at_most(0.05),
            Measure('AbsRel, confident half', _abs_rel, 0.10, digits=4),
            Measure('tracking a frame of 640x480, median', _track_ms, 10, ' ms', digits=1),
            Measure('time for everything / duration', _share_of_duration, 1, digits=2))),
        Case('kitchen-uncalibrated', KITCHEN_PACK, (
            _ate_at_most(0.10),
            Measure('focal length off 525 by', _focal_error, 15, ' %', digits=1)),
            calibrated=False),
        Case('fountain', 'strecha_fountain_p11', stills, stills=True),
        Case('herzjesu', 'strecha_herzjesu_p8', stills, stills=True),
        Case('kitti', 'kitti_06_first51', (
            _tracked_at_least(100),
            Measure('ATE (Sim3) of the path', _ate_of_path, 1, ' %', digits=2))),
        Case('fox', 'fox_object', (
            _tracked_at_least(100),
            Measure('ATE (Sim3) of the extent', _ate_of_extent, 2, ' %', digits=2)), stills=True),
        Case('euroc-stationary', 'euroc_v101_stationary', (
            Measure('points in the map', _points, 0, digits=0),
            Measure('pixels masked', _masked, 0.5, ' %', digits=2))),
        Case('camel', 'davis_camel', (_jaccard_at_least(0.65),), offline=True),
        Case('camel-online', 'davis_camel', (_jaccard_at_least(0.65),)),
        Case('car', 'davis_car_roundabout', (_jaccard_at_least(0.60),), offline=True),
        Case('car-online', 'davis_car_roundabout', (_jaccard_at_least(0.60),)),
        *(Case(f'simulated-{seed}', '', simulated, seed=seed, moving=1 + seed % 3)
          for seed in SIMULATED_SEEDS),
        Case('simulated-still', '', (Measure('pixels masked', _masked, 0.5, ' %', digits=2),),
             seed=5, moving=0),
    )
