# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The `recon3r` command: arguments in, an exit status out, never a traceback.

A command's imports are deferred until it runs, so that `--help` is fast.
"""

from __future__ import annotations

from collections.abc import Sequence
import os
import sys

from recon3r_ros.cli.exit_status import BAD_INPUT, BUG, INTERRUPTED, NOTHING_PRODUCED
from recon3r_ros.cli.interruption import kept_interrupts
from recon3r_ros.cli.parser import asked_command, build_parser
from recon3r_ros.errors import missing_package, Recon3rError


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command.

    :param argv: arguments after the command's name; those of the process where None
    :returns: the exit status
    """
    # Hundreds of small linear systems are solved per second: BLAS threads for each cost more than
    # they gain, and those of several solvers compete. BLAS reads this at the import of numpy.
    os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')
    # What OpenCV says about damaged files has no file name; this package says it with one
    os.environ.setdefault('OPENCV_LOG_LEVEL', 'SILENT')
    own, ros = _split(sys.argv[1:] if argv is None else list(argv))
    if '--debug' in own:
        return _execute(own, ros)
    try:
        with kept_interrupts():
            return _execute(own, ros)
    except Recon3rError as error:
        return _fail(f'error: {error}', BAD_INPUT)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith('recon3r_ros'):
            raise
        missing = missing_package(error, f'recon3r {asked_command(own)}')
        return _fail(f'error: {missing}', BAD_INPUT)
    except KeyboardInterrupt:
        return _fail('interrupted', INTERRUPTED)
    except BrokenPipeError:
        # the reader has closed the pipe; nothing more may be written there, also not at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOTHING_PRODUCED
    except OSError as error:
        where = f'{error.filename}: ' if error.filename else ''
        return _fail(f'error: {where}{error.strerror or error}', BAD_INPUT)
    except Exception as error:  # last resort: no traceback for users
        return _fail(f'bug: {type(error).__name__}: {error}; please report it with the output of '
                     f'the same command and --debug', BUG)


def _split(argv: list[str]) -> tuple[list[str], list[str]]:
    """Separate our arguments from those for ROS."""
    end = argv.index('--ros-args') if '--ros-args' in argv else len(argv)
    return argv[:end], argv[end:]


def _fail(message: str, status: int) -> int:
    """Write an error in one line."""
    sys.stderr.write(f'recon3r: {" ".join(message.split())}\n')
    return status


def _execute(argv: list[str], ros: list[str]) -> int:
    """
    Parse arguments and run the command.

    :param argv: our arguments
    :param ros: arguments for ROS
    """
    arguments = build_parser(argv).parse_args(argv)
    if ros and arguments.command not in ('node', 'play'):
        return _fail(f'error: {arguments.command} takes no --ros-args', BAD_INPUT)
    arguments.ros_args = ros
    from recon3r_ros.cli.console import log_to_console
    log_to_console()
    status: int = arguments.execute(arguments)
    return status
