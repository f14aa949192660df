# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The parser of the commands."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module

from recon3r_ros import __version__
from recon3r_ros.cli.exit_status import EXPLANATION

#: Summaries of the commands; each is the module of its name, with `add_arguments` and `execute`
COMMANDS = {
    'run': 'reconstruct images, a video or a bag',
    'export': 'write results for NeRF, Gaussian splatting and other tools',
    'eval': 'compare results with ground truth',
    'bench': 'measure accuracy and speed on all test sequences',
    'demo': 'simulate, reconstruct, evaluate and draw a scene',
    'node': 'run the ROS 2 node',
    'weights': 'list published network weights, or verify a file',
    'play': 'publish images as a ROS 2 camera',
}
_DESCRIPTION = f"""\
Camera poses, depth, dynamic objects and a coloured map from the images of one camera.

Lengths are in map units: metres where the scale is known, see report.json. Stamps are in
seconds, angles of evaluations in degrees, poses are camera-to-world with the camera's axes
x right, y down, z forward.

{EXPLANATION}"""


def build_parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """
    Build the parser, with the arguments of the given command only.

    :param argv: the arguments to be parsed
    :returns: the parser, which sets `execute` to the command's function
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
    """Return the first argument that is not an option: options before a command take no value."""
    return next((word for word in argv if not word.startswith('-')), '')
