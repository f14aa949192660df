# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Command `recon3r bench`: selects the benchmark and its output file."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from recon3r_ros.cli.arguments import add_load_argument, add_model_arguments, asked_model, count
from recon3r_ros.ros.environment import require_rclpy

_DESCRIPTION = """\
Run every case of the project's accuracy and speed targets and write a table of results.

Packs that are absent are listed as such. Five simulated scenes are rendered into a cache below
the folder for temporary files. The kitchen is run several times in one process to measure memory
growth.

With --model and a network, measure its run time on this machine instead: a window of keyframes
against a baseline, a new keyframe in every mode, memory, and the share of the device's speed.
Without --weights these are random, which takes the same time.

With --speed, run the kitchen several times in processes of their own, with --baseline alternately
by another checkout of this package, and say whether results depend on the number of cores.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command, and its help."""
    parser.description = _DESCRIPTION
    parser.add_argument('--packs', metavar='DIR', help='folder with a data/ folder of packs '
                        '(default: $RECON3R_SHARED, else ../shared)')
    parser.add_argument('--output', metavar='FILE', help='file of the table (default: '
                        'docs/results.md, with --live docs/results_live.md, with a network '
                        'docs/results_networks.md, with vggt docs/results_windows.md, with '
                        'must3r docs/results_memories.md, with '
                        'mapanything docs/results_known_windows.md, with '
                        '--speed docs/results_speed.md, with --profile docs/performance.md)')
    parser.add_argument('--live', action='store_true', help='measure the ROS 2 node instead: '
                        'poses, latency, transport')
    add_load_argument(parser)
    parser.add_argument('--motion', action='store_true', help='measure the effect of large '
                        'dynamic objects on poses and map, and masks of simulated scenes, instead '
                        '(docs/results_motion.md)')
    parser.add_argument('--davis', metavar='FOLDER', nargs='+', help='measure dynamic masks of '
                        'video instead: packs of DAVIS, with masks/ (docs/results_davis.md)')
    parser.add_argument('--static', metavar='PACK', nargs='+', help='measure dynamic masks where '
                        'the world is static instead: packs, the first 120 images of each; --only '
                        'static, focal, mover, rest, zoom (docs/results_static.md)')
    parser.add_argument('--mover', metavar='DAVIS_PACK', help='with --static, paste the object of '
                        'this pack, with masks/, into the images')
    parser.add_argument('--imu', action='store_true', help='measure gravity, and fast turns with '
                        'and without a gyroscope, instead (docs/results_imu.md)')
    parser.add_argument('--stereo', action='store_true', help='measure depth and metric maps of '
                        'stereo rigs instead: simulated ones, and two packs '
                        '(docs/results_stereo.md)')
    parser.add_argument('--rig', action='store_true', help='measure two cameras back to back on a '
                        'rig, of which one sees nothing for ten seconds, instead '
                        '(docs/results_rig.md)')
    parser.add_argument('--gaussians', action='store_true', help='measure views that Gaussians of '
                        'the map are rendered to instead: simulated rooms '
                        '(docs/results_gaussians.md)')
    parser.add_argument('--overfit', action='store_true', help="measure how well HAMSt3R's heads "
                        'learn eight pairs of simulated views of people by heart instead '
                        '(docs/results_overfit.md)')
    parser.add_argument('--speed', action='store_true', help='measure time and memory of '
                        'recon3r run on the kitchen instead')
    parser.add_argument('--baseline', metavar='TREE', help='another checkout to compare with '
                        '(with --speed)')
    parser.add_argument('--profile', metavar='FILE', help='with --speed, find out where CPU time '
                        'goes instead: stacks for other tools in FILE, a flame graph in FILE.svg, '
                        'and the figures of docs/performance.md where that exists')
    parser.add_argument('--only', metavar='NAME', nargs='+', help='run only these cases')
    parser.add_argument('--repeat', metavar='N', type=count, default=3, help='runs of the kitchen '
                        'to measure memory growth (default: 3)')
    add_model_arguments(parser)


def execute(arguments: argparse.Namespace) -> int:
    """
    Run the command.

    :param arguments: as parsed
    :returns: the exit status
    """
    shared = Path(arguments.packs or os.environ.get('RECON3R_SHARED') or '../shared').resolve()
    # Each needs a different extra
    if arguments.live:
        require_rclpy()
        from recon3r_ros.bench import live
        return live.measure(shared, Path(arguments.output or 'docs/results_live.md'),
                            arguments.load)
    if arguments.speed:
        return _speed(arguments, shared)
    if arguments.davis:
        from recon3r_ros.bench import davis
        return davis.measure([Path(folder) for folder in arguments.davis],
                             Path(arguments.output or 'docs/results_davis.md'))
    if arguments.static:
        from recon3r_ros.bench import static_worlds
        return static_worlds.measure([Path(folder) for folder in arguments.static],
                                     None if arguments.mover is None else Path(arguments.mover),
                                     Path(arguments.output or 'docs/results_static.md'),
                                     arguments.only)
    if arguments.imu:
        from recon3r_ros.bench import imu
        return imu.measure(shared / 'data', Path(arguments.output or 'docs/results_imu.md'))
    if arguments.stereo:
        from recon3r_ros.bench import stereo
        return stereo.measure(shared / 'data',
                              Path(arguments.output or 'docs/results_stereo.md'))
    if arguments.rig:
        from recon3r_ros.bench import rig
        return rig.measure(Path(arguments.output or 'docs/results_rig.md'))
    if arguments.gaussians:
        from recon3r_ros.bench import gaussians
        return gaussians.measure(Path(arguments.output or 'docs/results_gaussians.md'))
    if arguments.overfit:
        from recon3r_ros.bench import overfit
        return overfit.measure(Path(arguments.output or 'docs/results_overfit.md'))
    if arguments.motion:
        from recon3r_ros.bench import motion
        return motion.measure(Path(arguments.output or 'docs/results_motion.md'))
    if arguments.model == 'vggt':
        from recon3r_ros.bench import KITCHEN_PACK, windows
        return windows.measure(asked_model(arguments), shared / 'data' / KITCHEN_PACK,
                               Path(arguments.output or 'docs/results_windows.md'))
    if arguments.model == 'must3r':
        from recon3r_ros.bench import memories
        return memories.measure(asked_model(arguments),
                                Path(arguments.output or 'docs/results_memories.md'))
    if arguments.model == 'mapanything':
        from recon3r_ros.bench import known_windows
        return known_windows.measure(
            asked_model(arguments), Path(arguments.output or 'docs/results_known_windows.md'))
    if arguments.model != 'geometric':
        from recon3r_ros.bench import network
        return network.measure(asked_model(arguments),
                               Path(arguments.output or 'docs/results_networks.md'))
    from recon3r_ros.bench import accuracy
    return accuracy.measure(shared / 'data', Path(arguments.output or 'docs/results.md'),
                            arguments.only, arguments.repeat)


def _speed(arguments: argparse.Namespace, shared: Path) -> int:
    """Measure speed, or where time goes."""
    from recon3r_ros.bench import KITCHEN_PACK
    pack = shared / 'data' / KITCHEN_PACK
    if arguments.profile is not None:
        from recon3r_ros.bench import stages
        usual = Path('docs/performance.md')
        page = arguments.output or (usual if usual.is_file() else None)
        return stages.measure(pack, Path(arguments.profile), None if page is None else Path(page))
    from recon3r_ros.bench import speed
    baseline = None if arguments.baseline is None else Path(arguments.baseline)
    return speed.measure(pack, Path(arguments.output or 'docs/results_speed.md'), baseline,
                         arguments.load)
