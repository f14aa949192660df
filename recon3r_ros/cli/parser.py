# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The commands, and their arguments put together."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module

from recon3r_ros import __version__
from recon3r_ros.cli.exit_status import EXPLANATION

#: What the commands do; each is the module of its name, with `add_arguments` and `execute`
COMMANDS = {
    'run': 'reconstruct images, a video or a bag',
    'eval': 'compare results with the truth',
    'bench': 'measure accuracy and speed on all test sequences',
    'demo': 'simulate, reconstruct, evaluate and draw a scene',
    'node': 'run the ROS 2 node',
    'weights': 'list published network weights, or verify a file',
    'play': 'publish images as a ROS 2 camera',
}
_DESCRIPTION = f"""\
Camera poses, depth, moving objects and a coloured map from the images of one camera.

Lengths are in map units: metres where the scale is known, which report.json says. Stamps are in
seconds, angles of evaluations in degrees, poses are camera-to-world with the camera's axes
x right, y down, z forward.

{EXPLANATION}"""


def build_parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """
    Build the parser; only of the command that is asked for it knows the arguments.

    :param argv: what will be parsed
    :returns: the parser, which sets `execute` to what runs the command
    """
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument('--debug', action='store_true', default=argparse.SUPPRESS,
                        help='show the traceback of an error')
    parser = argparse.ArgumentParser(
        prog='recon3r', description=_DESCRIPTION, parents=[common],
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--version', action='version', version=f'recon3r {__version__}')
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    for name, summary in COMMANDS.items():
        own = commands.add_parser(name, help=summary, parents=[common],
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
        if name == asked_command(argv):
            module = import_module(f'recon3r_ros.cli.{name}')
            module.add_arguments(own)
            own.set_defaults(execute=module.execute)
    return parser


def asked_command(argv: Sequence[str]) -> str:
    """Return the first word that is no option: none of those before a command takes a value."""
    return next((word for word in argv if not word.startswith('-')), '')
