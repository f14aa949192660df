# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Log lines of the commands."""

import logging

from recon3r_ros.cli.console import log_to_console


def test_problems_and_slow_first_starts_are_reported(capsys):
    log_to_console()
    logging.getLogger('recon3r_ros.compiled').info('compiling for %d s', 20)
    logging.getLogger('recon3r_ros.slam.driver').info('a loop was closed')
    logging.getLogger('recon3r_ros.slam.driver').warning('an image was\nlost')
    assert capsys.readouterr().err == ('recon3r: compiling for 20 s\n'
                                       'recon3r: warning: an image was lost\n')
