# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The parser of the commands: quick to build, with the arguments of one command only."""

import subprocess
import sys

import pytest
from recon3r_ros.cli.parser import asked_command, build_parser, COMMANDS


@pytest.mark.parametrize('command', [[], *([c] for c in sorted(COMMANDS))])
def test_help_loads_nothing_heavy(command):
    program = ('import atexit, sys\n'
               'heavy = {"torch", "cv2", "numpy", "scipy", "gtsam", "numba", "llvmlite", "open3d",'
               ' "rclpy", "evo", "matplotlib", "PIL", "rosbags", "skimage"}\n'
               'atexit.register(lambda: print(*sorted(heavy & set(sys.modules)), file=sys.stderr))'
               '\nfrom recon3r_ros.cli import main\n'
               'main(sys.argv[1:])\n')
    result = subprocess.run([sys.executable, '-c', program, *command, '--help'],
                            capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(' '.join(['usage: recon3r', *command]))
    assert result.stderr.split() == []


@pytest.mark.parametrize('argv, command', [
    ([], ''), (['--help'], ''), (['eval', 'demo', 'run'], 'eval'), (['--debug', 'demo'], 'demo')])
def test_the_command_is_the_first_word(argv, command):
    assert asked_command(argv) == command


def test_a_parser_sets_the_command_s_function():
    from recon3r_ros.cli import weights
    arguments = build_parser(['weights', 'f']).parse_args(['weights', 'f'])
    assert (arguments.command, arguments.file) == ('weights', 'f')
    assert arguments.execute is weights.execute


@pytest.mark.parametrize('option, value, reason', [
    ('--keyframe-parallax', '90', '0.2 to 45 deg'), ('--max-keyframes', '3', '20 to 100000'),
    ('--min-agreement', '1', '0.1 to 0.95'), ('--rest-delay', '-1', '0 to 3600 s')])
def test_options_out_of_range_are_refused(recon3r, tmp_path, option, value, reason):
    outcome = recon3r('run', '--images', tmp_path, '--output', tmp_path / 'o', option, value)
    assert outcome.status == 2
    assert option[2:].replace('-', '_') in outcome.err and reason in outcome.err
