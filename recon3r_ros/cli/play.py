# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Command `recon3r play`: a pack or bag as camera topics."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
import tempfile

from recon3r_ros.cli.console import output as console
from recon3r_ros.cli.console import progress_bar
from recon3r_ros.errors import InputError
from recon3r_ros.io.base import Sequence
from recon3r_ros.io.sequences import open_sequence
from recon3r_ros.ros.environment import require_rclpy

#: Begins the line that says how stamps were shifted
OFFSET = 'shifted    '


def execute(arguments: argparse.Namespace) -> int:
    """
    Run the command.

    :param arguments: as parsed
    :returns: the exit status
    """
    require_rclpy()
    if arguments.simulated is None:
        sequence = _open(Path(arguments.source), arguments)
    else:
        sequence = open_sequence(images=_simulated(arguments))
    from recon3r_ros.ros.spinning import run
    return run(lambda: _play(sequence, arguments), ['recon3r', *arguments.ros_args])


def _simulated(arguments: argparse.Namespace) -> Path:
    """Render a room, unless it has been before."""
    from recon3r_ros.bench.simulated import simulated_pack  # PyTorch is needed for this alone
    from recon3r_ros.sim import SceneConfig
    pack = (Path(tempfile.gettempdir()) / f'recon3r-play-{os.getuid()}'
            / f'{arguments.simulated}-{arguments.frames}')
    with progress_bar(lines=True) as bar:
        bar.stage('rendering images of the simulated camera', arguments.frames)
        simulated_pack(SceneConfig(seed=arguments.simulated, frames=arguments.frames,
                                   moving_objects=1), pack, bar.update)
    return pack


def _open(source: Path, arguments: argparse.Namespace) -> Sequence:
    if not source.exists():
        raise InputError(f'{source}: there is no such file or folder')
    is_bag = source.suffix in ('.mcap', '.db3') or (source / 'metadata.yaml').is_file()
    if is_bag:
        return open_sequence(bag=source, image_topic=arguments.image_topic)
    if source.is_file():
        return open_sequence(video=source, fps=arguments.fps)
    return open_sequence(images=source, fps=arguments.fps)


def _play(sequence: Sequence, arguments: argparse.Namespace) -> None:
    import rclpy
    from recon3r_ros.ros.player import Player
    screen = console()
    node = rclpy.create_node('recon3r_player')
    try:
        player = Player(node, arguments.camera, arguments.stamps == 'original')
        topic = node.resolve_topic_name(f'{arguments.camera}/image_raw')
        if not player.wait_for_listeners():
            screen.print(f'nobody listens to {topic} yet; publishing all the same')
        while True:
            played = player.play(sequence, arguments.rate)
            rate = played.images / max(played.seconds, 1e-9)
            screen.print(f'published  {played.images} images on {topic} at {rate:.1f} a second')
            screen.print(f'{OFFSET}{played.offset_ns} ns from the stamps of {sequence.name}',
                         soft_wrap=True)
            if not arguments.loop:
                return
    finally:
        node.destroy_node()
