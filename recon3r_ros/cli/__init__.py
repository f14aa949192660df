# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The `recon3r` command: arguments in, an exit status out, and never a traceback.

What a subcommand needs is imported when it runs, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import os
import sys

from recon3r_ros import __version__
from recon3r_ros.cli.exit_status import BAD_INPUT, BUG, INTERRUPTED, NOTHING_PRODUCED
from recon3r_ros.errors import missing_package, Recon3rError
from recon3r_ros.models import registry

_STATUS = """\
exit status:
  0    done
  1    nothing could be produced: neither a pose nor a map
  2    bad usage, or an input or output that cannot be used
  70   a bug: please report it, with the output of --debug
  130  interrupted with Ctrl-C; what was computed until then has been written
"""
_MAIN = f"""\
Camera poses, depth, moving objects and a coloured map from the images of one camera.

Lengths are in map units: metres where the scale is known, which report.json says. Stamps are in
seconds, angles of evaluations in degrees, poses are camera-to-world with the camera's axes
x right, y down, z forward.

{_STATUS}"""
_RUN = f"""\
Reconstruct a folder of images, a video or a recording.

DIR is a folder of images, or a pack: a folder with images/, frames.txt (stamp and image a line)
and perhaps camera.json; all are used where present. camera.json holds width, height, fx, fy, cx,
cy (pixels) and distortion, a list of OpenCV's coefficients. Without intrinsics the focal length
is estimated.

files written to OUT (NAME is the image's name without its suffix):
  trajectory.txt   a line for each tracked image: stamp tx ty tz qx qy qz qw, in seconds and map
                   units, camera-to-world (TUM format)
  keyframes.json   stamp, pose and pinhole camera of each keyframe
  map.ply          the static map: coloured points with confidence, map units
  map.npz          the map for ~/load_map of the node, to go on in it
  depth/NAME.npz   for each keyframe float32 `depth` along the optical axis, map units, NaN where
                   unknown, and `confidence`, the inverse variance of the relative depth
  masks/NAME.png   for each image 255 where something moves, else 0; the image's size
  report.json      counts, times (s, ms), focal length (pixels), scale, memory (MB), warnings
  colmap/          with --colmap: a COLMAP text model, cameras.txt images.txt points3D.txt

Ctrl-C stops reading and writes everything computed so far; a second one aborts.

{_STATUS}"""
_EVAL = """\
Compare the results of a run with the truth.

GROUND_TRUTH is a TUM file of poses, or a pack: a folder with groundtruth.txt, depth/NAME.png
(16-bit millimetres, 0 = none) or masks/NAME.png (255 = moving), whichever it has.

  ATE     distance between matched positions (stamps within 10 ms) after aligning by a rigid motion
          (SE3) and by a similarity (Sim3, since the scale of one camera's map is free); in the
          truth's units, and in percent of the truth's path length and of its extent, the diagonal
          of the box around its positions
  RPE     error of the motion from one matched pose to the next, root mean square; degrees
  depth   AbsRel = mean |d - t| / t and the share with max(d/t, t/d) < 1.25, each keyframe scaled
          by the ratio of medians; over all pixels known to both, and over the half of them with
          the highest confidence; mean over keyframes
  masks   J = intersection over union, mean over frames; 1 where both are empty
"""
_BENCH = """\
Run every case of the project's accuracy and speed targets and write a table of results.

Packs that are absent are listed as such. Five simulated scenes are rendered into a cache below
the folder for temporary files. The kitchen is run several times in one process to see whether
memory grows.

With --model and a network, measure what that costs on this machine instead: a window of keyframes
against the plain way, a new keyframe in every mode, memory, and the share of the device's speed.
Without --weights these are random, which costs the same.
"""
_DEMO = """\
Simulate a room with one moving object, reconstruct it, evaluate it and draw the result.

Written to OUT: the files of `recon3r run`, input/ (the pack that was simulated), evaluation.json,
frame.png (images with their depth, confidence and motion mask) and map.png (the map and the
trajectory from above and from the side).

With --ros a camera, the node and a recorder run as processes of their own that talk over ROS 2;
recording/ is a rosbag2 (mcap) of all that was published, for RViz or Foxglove.
"""
_NODE = """\
Run the ROS 2 node `recon3r`. With a ROS installation this is `ros2 run recon3r_ros recon3r_node`;
without one it runs on the client library from PyPI: pip install "recon3r_ros[ros]".

All that follows is handed to ROS:
  recon3r node --ros-args --params-file config/recon3r.yaml -r camera/image_raw:=/front/image

Parameters are listed in docs/parameters.md. Ctrl-C ends it.
"""
_WEIGHTS = """\
List the weights that the networks' authors publish, or verify a file of them.

Nothing is ever downloaded here: the licences of the weights differ from this software's, and to
accept them is up to you. A FILE is checked tensor by tensor, and against its SHA-256 where that is
known: from the list, or from FILE.sha256 beside it, as sha256sum writes it.
"""
_PLAY = """\
Publish images as a ROS 2 camera at their own pace, to try the node on them.

SOURCE is a folder of images, a pack, a video or a rosbag2. Images are published on
CAMERA/image_raw, and their intrinsics, where they are known, on CAMERA/camera_info. What follows
--ros-args is handed to ROS.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command.

    :param argv: arguments after the command's name; those of the process where None
    :returns: the exit status
    """
    # Hundreds of small matrices are solved a second: a team of BLAS threads for each costs more
    # than it gains, and the threads of several solvers get into each other's way. BLAS reads this
    # when numpy is first imported.
    os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')
    own, ros = _split(sys.argv[1:] if argv is None else list(argv))
    arguments = _parser().parse_args(own)
    arguments.ros_args = ros
    if ros and arguments.command not in ('node', 'play'):
        return _fail(f'error: {arguments.command} takes no --ros-args', BAD_INPUT)
    if arguments.debug:
        return _execute(arguments)
    try:
        return _execute(arguments)
    except Recon3rError as error:
        return _fail(f'error: {error}', BAD_INPUT)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith('recon3r_ros'):
            raise
        return _fail(f'error: {missing_package(error, f"recon3r {arguments.command}")}', BAD_INPUT)
    except KeyboardInterrupt:
        return _fail('interrupted', INTERRUPTED)
    except BrokenPipeError:
        # whoever read the output has gone; nothing more may be written there, at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOTHING_PRODUCED
    except OSError as error:
        where = f'{error.filename}: ' if error.filename else ''
        return _fail(f'error: {where}{error.strerror or error}', BAD_INPUT)
    except Exception as error:  # the last resort: a traceback is of no use to a user
        return _fail(f'bug: {type(error).__name__}: {error}; please report it with the output of '
                     f'the same command and --debug', BUG)


def _split(argv: list[str]) -> tuple[list[str], list[str]]:
    """Tell arguments of ours from those that are for ROS."""
    end = argv.index('--ros-args') if '--ros-args' in argv else len(argv)
    return argv[:end], argv[end:]


def _fail(message: str, status: int) -> int:
    """Say what went wrong in one line."""
    sys.stderr.write(f'recon3r: {" ".join(message.split())}\n')
    return status


def _execute(arguments: argparse.Namespace) -> int:
    """Import and run the subcommand."""
    from recon3r_ros.cli.console import log_to_console
    log_to_console()
    if arguments.command == 'run':
        from recon3r_ros.cli.run import execute
    elif arguments.command == 'eval':
        from recon3r_ros.cli.eval import execute
    elif arguments.command == 'bench':
        from recon3r_ros.bench.accuracy import execute
    elif arguments.command == 'node':
        from recon3r_ros.cli.node import execute
    elif arguments.command == 'weights':
        from recon3r_ros.cli.weights import execute
    elif arguments.command == 'play':
        from recon3r_ros.cli.play import execute
    else:
        from recon3r_ros.cli.demo import execute
    return execute(arguments)


def _parser() -> argparse.ArgumentParser:
    """Build the parser of all subcommands."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument('--debug', action='store_true', default=argparse.SUPPRESS,
                        help='show the traceback of an error')
    parser = argparse.ArgumentParser(
        prog='recon3r', description=_MAIN, parents=[common],
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.set_defaults(debug=False)
    parser.add_argument('--version', action='version', version=f'recon3r {__version__}')
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    for name, summary, text, fill in (
        ('run', 'reconstruct images, a video or a bag', _RUN, _run_arguments),
        ('eval', 'compare results with the truth', _EVAL, _eval_arguments),
        ('bench', 'measure accuracy and speed on all test sequences', _BENCH, _bench_arguments),
        ('demo', 'simulate, reconstruct, evaluate and draw a scene', _DEMO, _demo_arguments),
        ('node', 'run the ROS 2 node', _NODE, _node_arguments),
        ('weights', 'list published network weights, or verify a file', _WEIGHTS,
         _weights_arguments),
        ('play', 'publish images as a ROS 2 camera', _PLAY, _play_arguments),
    ):
        fill(commands.add_parser(name, help=summary, description=text, parents=[common],
                                 formatter_class=argparse.RawDescriptionHelpFormatter))
    return parser


def _run_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--images', metavar='DIR', help='folder of images, or a pack')
    source.add_argument('--video', metavar='FILE', help='video file')
    source.add_argument('--bag', metavar='PATH', help='rosbag2 folder or file; needs no ROS')
    parser.add_argument('--image-topic', metavar='T', help='topic of the images in the bag; '
                        'needed where it holds several')
    lens = parser.add_mutually_exclusive_group()
    lens.add_argument('--camera', metavar='FILE', help='camera.json, instead of the intrinsics '
                      'that come with the images')
    lens.add_argument('--uncalibrated', action='store_true', help='ignore intrinsics that come '
                      'with the images and estimate the focal length')
    parser.add_argument('--fps', type=_positive, default=30.0, help='images a second, where they '
                        'have no stamps (default: 30)')
    _model_arguments(parser)
    parser.add_argument('--motion', choices=['online', 'offline', 'off'], default='online',
                        help='how dynamic objects are found: frame by frame, as on a robot; once '
                        'more at the end, from before and after each image; or not at all '
                        '(default: online)')
    parser.add_argument('--masks', metavar='DIR', help='masks NAME.png of what you know to move: '
                        'all but 0, of the size of the image NAME')
    parser.add_argument('--mask-refiner', metavar='NAME', default='grabcut', help='what brings '
                        'masks to the edges of the image: grabcut, none, or the module:function '
                        'of your own (default: grabcut)')
    parser.add_argument('--output', metavar='OUT', required=True, help='folder for the results')
    parser.add_argument('--colmap', action='store_true', help='write a COLMAP model as well')
    parser.add_argument('--voxel', metavar='SIZE', type=_positive, help='edge of the cubes that '
                        'hold at most one point of the map, map units (default: chosen from the '
                        'depths)')


def _model_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--model', choices=registry.names(), default='geometric',
                        help='what predicts depth; all but geometric need --weights (default: '
                        'geometric)')
    parser.add_argument('--weights', metavar='FILE', help='of the model: .pth, .pt or '
                        '.safetensors; see recon3r weights')
    for own in registry.option_fields():
        about = own.metadata
        flags = [f'--{own.name.replace("_", "-")}', *([about['flag']] if about['flag'] else [])]
        meaning = about['meaning'].rstrip('.').replace('%', '%%')
        parser.add_argument(
            *flags, dest=own.name, default=own.default, choices=about['choices'] or None,
            type=_count if isinstance(own.default, int) else type(own.default),
            metavar=None if about['choices'] else own.name.rpartition('_')[2].upper(),
            help=f'{meaning[0].lower()}{meaning[1:]} (default: {own.default})')


def _eval_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('output', metavar='OUT', help='folder of the results of a run')
    parser.add_argument('truth', metavar='GROUND_TRUTH', help='pack or TUM file')
    parser.add_argument('--json', metavar='FILE', help='write the numbers to this file')


def _bench_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--packs', metavar='DIR', help='folder with a data/ folder of packs '
                        '(default: $RECON3R_SHARED, else ../shared)')
    parser.add_argument('--output', metavar='FILE', help='where the table goes (default: '
                        'docs/results.md, with --live docs/results_live.md, with a network '
                        'docs/results_networks.md, with vggt docs/results_windows.md)')
    parser.add_argument('--live', action='store_true', help='measure the ROS 2 node instead: '
                        'poses, latency, transport')
    parser.add_argument('--motion', action='store_true', help='measure what large moving objects '
                        'do to poses and map instead, and draw it (docs/results_motion.md)')
    parser.add_argument('--only', metavar='NAME', nargs='+', help='run these cases alone')
    parser.add_argument('--repeat', metavar='N', type=_count, default=3, help='how often the '
                        'kitchen runs to see whether memory grows (default: 3)')
    _model_arguments(parser)


def _demo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--output', metavar='OUT', default='demo_output',
                        help='folder for everything (default: demo_output)')
    parser.add_argument('--ros', action='store_true', help='over ROS 2, as on a robot')
    parser.add_argument('--seed', type=int, default=0, help='which scene (default: 0)')
    parser.add_argument('--frames', metavar='N', type=_count, default=120,
                        help='how many, at 30 a second (default: 120)')


def _node_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = 'recon3r node [-h] [--debug] [--ros-args ...]'


def _play_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument('source', metavar='SOURCE', nargs='?', help='images, pack, video or bag')
    what.add_argument('--simulated', metavar='SEED', type=int, help='a simulated room instead')
    parser.add_argument('--frames', metavar='N', type=_count, default=120,
                        help='how many images to simulate (default: 120)')
    parser.add_argument('--camera', metavar='NAME', default='camera',
                        help='namespace of the topics (default: camera)')
    parser.add_argument('--rate', type=_positive, default=1.0,
                        help='how many times as fast as they were taken (default: 1)')
    parser.add_argument('--loop', action='store_true', help='begin again at the end')
    parser.add_argument('--stamps', choices=['now', 'original'], default='now',
                        help='stamp images with the present time, or as they were and publish '
                        '/clock for nodes with use_sim_time (default: now)')
    parser.add_argument('--fps', type=_positive, default=30.0, help='images a second, where they '
                        'have no stamps (default: 30)')
    parser.add_argument('--image-topic', metavar='T', help='topic of the images in a bag; needed '
                        'where it holds several')


def _weights_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('file', metavar='FILE', nargs='?', help='.pth or .safetensors to verify')


def _positive(text: str) -> float:
    """Read a positive, finite number."""
    value = float(text)
    if not 0.0 < value < float('inf'):
        raise argparse.ArgumentTypeError(f'got {text}, expected a positive number')
    return value


def _count(text: str) -> int:
    """Read a positive integer."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'got {text}, expected 1 or more')
    return value
