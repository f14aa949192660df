# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Command `recon3r demo`: a simulated scene, its reconstruction, evaluation and figures."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from recon3r_ros.cli.arguments import count
from recon3r_ros.cli.console import output as console
from recon3r_ros.cli.console import progress_bar
from recon3r_ros.cli.exit_status import INTERRUPTED, NOTHING_PRODUCED
from recon3r_ros.cli.interruption import Interruption
from recon3r_ros.ros.environment import require_rclpy

logger = logging.getLogger(__name__)

_DESCRIPTION = """\
Simulate a room with one dynamic object, reconstruct it, evaluate it and draw the result.

Written to OUT: the files of `recon3r run`, input/ (the simulated pack), evaluation.json,
frame.png (images with their depth, confidence and dynamic mask) and map.png (the map and the
trajectory from above and from the side).

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


def execute(arguments: argparse.Namespace) -> int:
    """
    Run the command.

    :param arguments: as parsed
    :returns: the exit status
    """
    # Deferred: these need extras, --help does not
    from recon3r_ros.bench.pictures import draw_frames, draw_map
    from recon3r_ros.bench.simulated import demo_scene, simulated_pack
    from recon3r_ros.cli.eval import show, write_json
    from recon3r_ros.cli.reconstruction import reconstruct
    from recon3r_ros.evaluation.results import evaluate
    from recon3r_ros.io.sequences import open_sequence
    output = Path(arguments.output)
    pack = output / 'input'
    config = demo_scene(arguments.seed, arguments.frames)
    _clear(output)
    with progress_bar() as bar:
        bar.stage('simulating', config.frames)
        simulated_pack(config, pack, bar.update)
    screen = console()
    if arguments.ros:
        require_rclpy()
        from recon3r_ros.cli.live_demo import reconstruct_live
        live = reconstruct_live(pack, output)
        screen.print(live.summary(output / 'recording'), soft_wrap=True)
        pack = output / 'truth'
    else:
        with Interruption() as interruption:
            report = reconstruct(open_sequence(images=pack), output, interruption=interruption)
        for warning in report.warnings:
            logger.warning('%s', warning)
        screen.print(report.summary(output), soft_wrap=True)
        if report.interrupted:
            logger.warning('interrupted after %d frames', report.frames_read)
            return INTERRUPTED
        if report.is_empty:
            return NOTHING_PRODUCED
    evaluation = evaluate(output, pack)
    show(evaluation)
    write_json(output / 'evaluation.json', evaluation)
    draw_frames(output, pack, output / 'frame.png')
    draw_map(output, pack, output / 'map.png')
    screen.print(f'pictures   {output / "frame.png"}\n           {output / "map.png"}',
                 soft_wrap=True)
    return 0


def _clear(output: Path) -> None:
    """Remove masks and depth of an earlier demo."""
    from recon3r_ros.bench.simulated import RECIPE
    if not (output / 'input' / RECIPE).is_file():
        return
    for path in [*output.glob('masks/*.png'), *output.glob('depth/*.npz')]:
        path.unlink(missing_ok=True)
