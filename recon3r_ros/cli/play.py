# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Command `recon3r play`: a pack or bag as camera topics."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
import tempfile
from typing import TYPE_CHECKING

from recon3r_ros.cli.arguments import count, positive
from recon3r_ros.cli.console import output as console
from recon3r_ros.cli.console import progress_bar
from recon3r_ros.errors import InputError
from recon3r_ros.ros.environment import require_rclpy

if TYPE_CHECKING:
    from recon3r_ros.io.base import Sequence
    from recon3r_ros.io.recorded_rigs import RecordedRig

#: Prefix of the line with the offset of the stamps
OFFSET = 'shifted    '

_DESCRIPTION = """\
Publish images as a ROS 2 camera at their recorded rate, to test the node.

SOURCE is what recon3r run reads: a folder of images, a pack or a sequence of a data set; a video;
or a rosbag2. Images are published on CAMERA/image_raw, and their intrinsics, where known, on
CAMERA/camera_info. With --stereo, SOURCE is a folder with left/, right/ and rig.json, or a
sequence of EuRoC: both cameras are published, their extrinsics on /tf_static, and in P of
camera_info where images are rectified. Where SOURCE is the folder of another rig, with rig.json
and a folder for each camera, all cameras are published under the names of their folders, and their
extrinsics on /tf_static. Arguments after --ros-args are passed to ROS.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command, and its help."""
    parser.description = _DESCRIPTION
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument('source', metavar='SOURCE', nargs='?', help='images, pack, video or bag')
    what.add_argument('--simulated', metavar='SEED', type=int, help='a simulated room instead')
    parser.add_argument('--frames', metavar='N', type=count, default=120,
                        help='number of simulated images (default: 120)')
    parser.add_argument('--camera', metavar='NAME',
                        help='namespace of the topics (default: camera; with --stereo left; of '
                        'a rig by rig.json, those of its cameras)')
    parser.add_argument('--stereo', metavar='NAME', nargs='?', const='right', default='',
                        help='publish both cameras of a stereo rig; NAME is the namespace of the '
                        "second one's topics (default: right)")
    parser.add_argument('--rate', type=positive, default=1.0,
                        help='factor of the playback speed (default: 1)')
    parser.add_argument('--loop', action='store_true', help='start again at the end')
    parser.add_argument('--stamps', choices=['now', 'original'], default='now',
                        help='stamp images with the current time, or keep their stamps and '
                        'publish /clock for nodes with use_sim_time (default: now)')
    parser.add_argument('--fps', type=positive, default=30.0, help='images a second, where they '
                        'have no stamps (default: 30)')
    parser.add_argument('--subscribers', metavar='N', type=count, help='begin when so many '
                        'subscribe to images and intrinsics, and fail without them (default: '
                        'when there is one, or after 10 s)')
    parser.add_argument('--image-topic', metavar='T', help='topic of the images in a bag; '
                        'required where it holds several')


def execute(arguments: argparse.Namespace) -> int:
    """
    Run the command.

    :param arguments: as parsed
    :returns: the exit status
    """
    require_rclpy()
    sequence = _open(arguments)
    from recon3r_ros.ros.spinning import run
    return run(lambda: _play(sequence, arguments), ['recon3r', *arguments.ros_args])


def _open(arguments: argparse.Namespace) -> Sequence | RecordedRig:
    from recon3r_ros.io.bag_storage import is_recording
    from recon3r_ros.io.sequences import open_sequence  # needs OpenCV, unlike --help
    if arguments.simulated is not None:
        if arguments.stereo:
            raise InputError('--simulated has one camera: give a SOURCE for --stereo')
        return open_sequence(images=_simulated(arguments))
    source = Path(arguments.source)
    if not source.exists():
        raise InputError(f'{source}: no such file or folder')
    if arguments.stereo:
        from recon3r_ros.io.recorded_rigs import open_recorded_rig
        return open_recorded_rig(source, arguments.fps)
    if is_recording(source):
        topics = () if arguments.image_topic is None else (arguments.image_topic,)
        return open_sequence(bag=source, image_topics=topics)
    if source.is_file():
        return open_sequence(video=source, fps=arguments.fps)
    return open_sequence(images=source, fps=arguments.fps)


def _simulated(arguments: argparse.Namespace) -> Path:
    """Render a room, unless it is cached."""
    from recon3r_ros.bench.simulated import demo_scene, simulated_pack  # renders with PyTorch
    pack = (Path(tempfile.gettempdir()) / f'recon3r-play-{os.getuid()}'
            / f'{arguments.simulated}-{arguments.frames}')
    with progress_bar(lines=True) as bar:
        bar.stage('rendering images of the simulated camera', arguments.frames)
        simulated_pack(demo_scene(arguments.simulated, arguments.frames), pack, bar.update)
    return pack


def _names(sequence: Sequence | RecordedRig, arguments: argparse.Namespace) -> tuple[str, ...]:
    """Return the namespaces of the cameras."""
    from recon3r_ros.io.rig_folder import RigFolder
    if isinstance(sequence, RigFolder):
        if arguments.camera is not None:
            raise InputError(f'--camera {arguments.camera}: {sequence.name} has the cameras '
                             f'{", ".join(sequence.cameras)}, whose names those of the topics are')
        return sequence.cameras
    if arguments.stereo:
        return arguments.camera or 'left', arguments.stereo
    return (arguments.camera or 'camera',)


def _play(sequence: Sequence | RecordedRig, arguments: argparse.Namespace) -> None:
    from recon3r_ros.io.recorded_rigs import RecordedRig
    from recon3r_ros.io.rig_folder import RigFolder
    from recon3r_ros.ros.player import player
    screen = console()
    with player(_names(sequence, arguments), arguments.stamps == 'original') as camera:
        if not camera.wait_for_listeners(arguments.subscribers):
            screen.print(f'{camera.topic} has no subscribers yet; publishing anyway')
        while True:
            if isinstance(sequence, (RecordedRig, RigFolder)):
                played = camera.play_rig(sequence, arguments.rate)
            else:
                played = camera.play(sequence, arguments.rate)
            rate = played.images / max(played.seconds, 1e-9)
            screen.print(f'published  {played.images} images on {camera.topic} at {rate:.1f} a '
                         'second')
            screen.print(f'{OFFSET}{played.offset_ns} ns from the stamps of {sequence.name}',
                         soft_wrap=True)
            if not arguments.loop:
                return
