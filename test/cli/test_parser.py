# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The parser of the commands: quick to build, with the arguments of one command only."""

import subprocess
import sys

import pytest
from recon3r_ros.cli.parser import asked_command, build_parser, COMMANDS


@pytest.mark.parametrize('command', ['', *sorted({*COMMANDS} - {'run'})])
def test_help_loads_nothing_heavy(command):
    """Of `run` it does: its module is that of `reconstruct` too."""
    program = ('import sys; from recon3r_ros.cli.parser import build_parser\n'
               f'build_parser([{command!r}]).format_help()\n'
               'heavy = {"torch", "cv2", "numpy", "open3d", "rclpy", "evo", "matplotlib"}\n'
               'print(*sorted(heavy & set(sys.modules)))\n')
    result = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []


@pytest.mark.parametrize('argv, command', [
    ([], ''), (['--help'], ''), (['eval', 'demo', 'run'], 'eval'), (['--debug', 'demo'], 'demo')])
def test_the_command_is_the_first_word(argv, command):
    assert asked_command(argv) == command


def test_a_parser_sets_the_command_s_function():
    from recon3r_ros.cli import weights
    arguments = build_parser(['weights', 'f']).parse_args(['weights', 'f'])
    assert (arguments.command, arguments.file) == ('weights', 'f')
    assert arguments.execute is weights.execute
