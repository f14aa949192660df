# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Command `recon3r demo`: a simulated scene, its reconstruction, evaluation and figures."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from recon3r_ros.cli.arguments import add_load_argument, count
from recon3r_ros.cli.console import output as console
from recon3r_ros.cli.console import progress_bar, ProgressBar
from recon3r_ros.cli.exit_status import INTERRUPTED, NOTHING_PRODUCED
from recon3r_ros.cli.interruption import Interruption
from recon3r_ros.io.atomic import write_bytes
from recon3r_ros.ros.environment import require_rclpy

if TYPE_CHECKING:
    from recon3r_ros.bench.demo_report import Finding
    from recon3r_ros.evaluation.results import Evaluation

#: Folder of the simulated images in that of the results
_PACK = 'pack'

logger = logging.getLogger(__name__)

_DESCRIPTION = """\
Simulate a room with one dynamic object, reconstruct it, evaluate it and draw the result.

Written to OUT: the files of `recon3r run`, pack/ (the simulated images, which another run with the
same seed and number uses again), report.txt (what was measured, what is good, what to look at),
evaluation.json, frame.png (images with their depth, confidence and dynamic mask) and map.png (the
map and the trajectory from above and from the side).

With --ros a camera, the node and a recorder run as separate processes that communicate over ROS 2;
recording/ is a rosbag2 (mcap) of all topics, for RViz or Foxglove.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command, and its help."""
    parser.description = _DESCRIPTION
    parser.add_argument('--output', metavar='OUT', default='demo_output',
                        help='output folder (default: demo_output)')
    parser.add_argument('--ros', action='store_true', help='over ROS 2, as on a robot')
    parser.add_argument('--seed', type=int, default=0, help='seed of the scene (default: 0)')
    parser.add_argument('--frames', metavar='N', type=count, default=120,
                        help='number of images, at 30 a second (default: 120)')
    add_load_argument(parser)


def execute(arguments: argparse.Namespace) -> int:
    """
    Run the command.

    :param arguments: as parsed
    :returns: the exit status
    """
    if arguments.ros:
        require_rclpy()
    output = Path(arguments.output)
    # Deferred: these need extras, --help does not
    from recon3r_ros.bench.load import busy_processes
    from recon3r_ros.bench.simulated import demo_scene, simulated_pack
    _clear(output)
    with progress_bar(lines=True) as bar:
        config = demo_scene(arguments.seed, arguments.frames)
        bar.stage(f'rendering {config.frames} images', config.frames)
        simulated_pack(config, output / _PACK, bar.update)
    with busy_processes(arguments.load):
        if arguments.ros:
            return _live(output)
        return _run(output)


def _live(output: Path) -> int:
    """Reconstruct over ROS, evaluate and draw."""
    from recon3r_ros.bench.demo_report import live_findings
    from recon3r_ros.cli.live_demo import reconstruct_live
    from recon3r_ros.evaluation.live import compare_live_masks
    from recon3r_ros.evaluation.results import evaluate
    truth = output / 'truth'
    with progress_bar(lines=True) as bar:
        live = reconstruct_live(output / _PACK, output, bar=bar)
        bar.stage('evaluating')
        saved = evaluate(output, truth)
        findings = live_findings(live, compare_live_masks(output / 'masks', truth / 'masks'),
                                 evaluate(output / 'published', truth), saved)
        _draw(output, truth, bar)
    _report(output, findings, saved, True)
    return 0


def _run(output: Path) -> int:
    """Reconstruct as `recon3r run`, evaluate and draw."""
    from recon3r_ros.bench.demo_report import run_findings
    from recon3r_ros.cli.reconstruction import reconstruct
    from recon3r_ros.evaluation.results import evaluate
    from recon3r_ros.io.sequences import open_sequence
    pack = output / _PACK
    with Interruption() as interruption:
        done = reconstruct(open_sequence(images=pack), output, interruption=interruption)
    for warning in done.warnings:
        logger.warning('%s', warning)
    console().print(done.summary(output), soft_wrap=True)
    if done.interrupted:
        logger.warning('interrupted after %d frames', done.frames_read)
        return INTERRUPTED
    if done.is_empty:
        return NOTHING_PRODUCED
    with progress_bar(lines=True) as bar:
        bar.stage('evaluating')
        evaluation = evaluate(output, pack)
        _draw(output, pack, bar)
    _report(output, run_findings(evaluation), evaluation, False)
    return 0


def _draw(output: Path, truth: Path, bar: ProgressBar) -> None:
    from recon3r_ros.bench.pictures import draw_frames, draw_map
    bar.stage('drawing')
    draw_frames(output, truth, output / 'frame.png')
    draw_map(output, truth, output / 'map.png')


def _report(output: Path, findings: tuple[Finding, ...], evaluation: Evaluation, live: bool
            ) -> None:
    from recon3r_ros.bench.demo_report import report
    from recon3r_ros.cli.eval import write_json
    text = report(findings, output, live)
    console().print(text, soft_wrap=True, end='')
    write_bytes(output / 'report.txt', text.encode())
    write_json(output / 'evaluation.json', evaluation)


def _clear(output: Path) -> None:
    """Remove masks and depth of an earlier demo."""
    from recon3r_ros.bench.simulated import RECIPE
    if not (output / _PACK / RECIPE).is_file():
        return
    for path in [*output.glob('masks/*.png'), *output.glob('depth/*.npz')]:
        path.unlink(missing_ok=True)
