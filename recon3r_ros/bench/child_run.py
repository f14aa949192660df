# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`recon3r run` in a process of its own, of any checkout of this package, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import json
import os
from pathlib import Path
import subprocess
import sys
import tempfile
from time import perf_counter
from typing import Any

from recon3r_ros.cli.exit_status import NOTHING_PRODUCED
from recon3r_ros.errors import Recon3rError

#: Runs the command of a checkout, on one core where that is asked for
_PROGRAM = """
import os, sys
tree, core = sys.argv[1:3]
del sys.argv[1:3]
if core:
    os.sched_setaffinity(0, {int(core)})
import recon3r_ros
if not os.path.samefile(os.path.dirname(os.path.dirname(recon3r_ros.__file__)), tree):
    sys.stderr.write('no package recon3r_ros')
    sys.exit(2)
from recon3r_ros.cli import main
sys.exit(main())
"""


@dataclass(frozen=True, eq=False)
class RunCost:
    """
    What one run takes, from the start of its process to its end.

    :param wall_s: seconds
    :param cpu_s: CPU seconds, user and system, of all its processes
    :param report: content of report.json
    """

    wall_s: float
    cpu_s: float
    report: Mapping[str, Any]

    @property
    def peak_mb(self) -> float:
        """Peak resident sets of all processes, megabytes of 10^6 bytes."""
        return float(self.report['peak_memory_mb'])

    @property
    def duration_s(self) -> float:
        """Seconds between the first and the last image."""
        return float(self.report['sequence_s'])

    def timing(self, name: str) -> float | None:
        """Return one of the report's timings; None where there is none, as in older versions."""
        value = self.report['timings'].get(name)
        return None if value is None else float(value)


def run(tree: Path, images: Path, output: Path, core: int | None = None) -> RunCost:
    """
    Reconstruct a sequence by a checkout.

    :param tree: folder that holds the package
    :param images: pack or folder of images
    :param output: folder for the results
    :param core: the only one to be used; None for all
    :raises Recon3rError: where the run fails
    """
    begin = perf_counter()
    usage = execute(tree, [sys.executable, '-c', _PROGRAM, str(tree), '' if core is None else
                           str(core), 'run', '--images', str(images), '--output', str(output)])
    wall_s = perf_counter() - begin
    return RunCost(wall_s, usage.ru_utime + usage.ru_stime,
                   json.loads((output / 'report.json').read_text(encoding='utf-8')))


def execute(tree: Path, command: Sequence[str],
            environment: Mapping[str, str] | None = None) -> Any:
    """
    Run a command that imports the package of a checkout.

    :param tree: folder that holds the package
    :param environment: additional variables
    :return: `resource.struct_rusage` of the process and those that it waited for
    :raises Recon3rError: with the command's last line, where it fails
    """
    path = os.pathsep.join([str(tree), *filter(None, [os.environ.get('PYTHONPATH')])])
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log:
        # The current folder comes before PYTHONPATH: it must not hold a package
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env={**os.environ, 'PYTHONPATH': path, **(environment or {})})
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, NOTHING_PRODUCED):
            log.seek(0)
            lines = log.read().decode('utf-8', 'replace').split('\n')
            last = next((line for line in reversed(lines) if line.strip()), 'no message')
            raise Recon3rError(f'{tree}: status {process.returncode}: {last.strip()}')
    return usage
