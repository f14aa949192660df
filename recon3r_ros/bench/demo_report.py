# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The report of a demo: what was measured, what is good, and what to look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recon3r_ros.bench.load import MachineLoad
from recon3r_ros.evaluation.live import IN_TIME_S, INITIALISATION_S, LiveMasks
from recon3r_ros.evaluation.results import Evaluation
from recon3r_ros.evaluation.trajectory_errors import TrajectoryErrors

if TYPE_CHECKING:
    from recon3r_ros.cli.live_demo import LiveReport  # needs ROS

#: Width of the columns of names and of values
_NAME, _VALUE = 26, 48

_FILES = (
    '  frame.png   keyframes: smooth depth, unknown (grey) at the object and the borders; red '
    'masks that fill the yellow outlines',
    '  map.png     straight walls, with a hole where the object hid them, but without its points; '
    'the trajectory lies on the true one',
    '  map.ply     coloured points, for MeshLab or CloudCompare',
    '  masks/      dynamic masks, white on the dynamic object',
)
_LIVE_FILES = (
    '  recording/  all topics: open the mcap file in Foxglove, or use ros2 bag play and rviz2 -d '
    'rviz/recon3r.rviz',
    '  node.log    what the node reported',
)
_TOPICS = (
    '  /camera/image_raw               the images',
    '  /recon3r/camera/dynamic_mask    white on the dynamic object, for every image',
    '  /recon3r/camera/dynamic_points  its points, above the floor',
    '  /recon3r/camera/depth/image     depth of each keyframe',
    '  /recon3r/map, /recon3r/path     the static map, which grows, and the trajectory; fixed '
    'frame: map',
)


@dataclass(frozen=True)
class Finding:
    """
    One measure of a run.

    :param name: of the measure
    :param value: what is compared; None where it could not be measured
    :param text: the value for the reader
    :param limit: what is good
    :param unit: of value and limit
    :param at_least: whether the value must reach the limit; otherwise it must not exceed it
    """

    name: str
    value: float | None
    text: str
    limit: float
    unit: str = ''
    at_least: bool = False

    @property
    def is_good(self) -> bool:
        """Whether the limit is met; not where nothing was measured."""
        if self.value is None:
            return False
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def line(self) -> str:
        """Format."""
        good = f'good: {">=" if self.at_least else "<="} {self.limit:g}{self.unit}'
        text = 'not measured' if self.value is None else self.text
        mark = '' if self.is_good else '   <- not met'
        return f'{self.name:{_NAME}}{text:{_VALUE}}{good}{mark}'


def live_findings(live: LiveReport, masks: LiveMasks | None, published: Evaluation,
                  saved: Evaluation) -> tuple[Finding, ...]:
    """
    Return the findings of a run over ROS.

    :param live: what was measured meanwhile
    :param masks: the published masks against the true ones; None where there was none
    :param published: evaluation of the poses as they were published
    :param saved: evaluation of the saved map
    """
    share = 100 * live.in_time
    return (
        Finding(f'posed within {1e3 * IN_TIME_S:.0f} ms', share,
                f'{share:.1f} % of {live.published} images; {live.poses} have a pose', 90, ' %',
                True),
        Finding('latency, median', live.latency_ms,
                f'{live.latency_ms:.0f} ms from stamp to pose', 50, ' ms'),
        Finding('latency, 95 % within', live.latency_95_ms, f'{live.latency_95_ms:.0f} ms', 500,
                ' ms'),
        _live_masks(masks),
        _trajectory('ATE, as published', published.trajectory),
        _trajectory('ATE, as saved', saved.trajectory),
        _depth(saved),
        _load(live.load),
    )


def run_findings(evaluation: Evaluation) -> tuple[Finding, ...]:
    """Return the findings of a run of `recon3r run`."""
    share, masks = 100 * evaluation.tracked_share, evaluation.masks
    jaccard = None if masks is None else masks.jaccard
    return (
        Finding('images with a pose', share, f'{share:.1f} % of {evaluation.frames}', 98, ' %',
                True),
        Finding('mask J', jaccard,
                '' if jaccard is None or masks is None else
                f'{jaccard:.3f}, mean of {masks.compared} images', 0.75, '', True),
        _trajectory('ATE', evaluation.trajectory),
        _depth(evaluation),
    )


def _live_masks(masks: LiveMasks | None) -> Finding:
    name = f'mask J after {INITIALISATION_S:.0f} s'
    text = '' if masks is None else (
        f'{masks.jaccard:.3f}, {masks.missing} of {masks.images} images without mask (J = 0)')
    return Finding(name, None if masks is None else masks.jaccard, text, 0.7, '', True)


def _trajectory(name: str, errors: TrajectoryErrors | None) -> Finding:
    aligned = None if errors is None else errors.sim3
    percent = None if aligned is None else aligned.ate_percent_of_path
    text = '' if aligned is None or percent is None or errors is None else (
        f'{1e3 * aligned.ate_rmse:.1f} mm, {percent:.2f} % of the path of '
        f'{errors.path_length:.1f} m')
    return Finding(name, percent, text, 1, ' % of the path')


def _depth(evaluation: Evaluation) -> Finding:
    depth = evaluation.depth
    error = None if depth is None else 100 * depth.confident.abs_rel
    text = '' if error is None or depth is None else (
        f'{error:.1f} % (AbsRel, confident half) of {depth.keyframes} keyframes')
    return Finding('depth error', error, text, 5, ' %')


def _load(load: MachineLoad | None) -> Finding:
    others = None if load is None else 100 * load.others
    text = '' if load is None else (
        f'{load.cores} cores {load.busy:.0%} busy, {load.others:.0%} by other programs')
    return Finding('load while playing', others, text, 10, ' % by other programs')


def report(findings: tuple[Finding, ...], output: Path, live: bool) -> str:
    """
    Format the report.

    :param findings: what was measured
    :param output: folder of the results
    :param live: whether they are of a run over ROS
    """
    lines = [*(finding.line() for finding in findings), *_advice(findings, live), '',
             f'files in {output}', *(_LIVE_FILES if live else ()), *_FILES]
    if live:
        lines += ['', 'topics, in RViz or Foxglove', *_TOPICS]
    truth = output / ('truth' if live else 'pack')
    return '\n'.join([*lines, '', f'all errors: recon3r eval {output} {truth}']) + '\n'


def _advice(findings: tuple[Finding, ...], live: bool) -> Iterator[str]:
    load = findings[-1]
    if live and load.value is not None and not load.is_good:
        yield (f'Other programs used {load.value:.0f} % of the cores, and images wait for a free '
               'one: poses are later, and fewer masks are computed, than on an idle machine.')
