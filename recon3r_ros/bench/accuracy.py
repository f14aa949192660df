# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`recon3r bench`: all cases, one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import logging
import os
from pathlib import Path
import tempfile

from recon3r_ros.bench.cases import Case, cases, KITCHEN, Result
from recon3r_ros.bench.simulated import simulated_pack
from recon3r_ros.bench.table import CaseRun, Memory, results_page
from recon3r_ros.bench.yardstick import machine
from recon3r_ros.cli.console import output as console
from recon3r_ros.cli.console import progress_bar
from recon3r_ros.cli.exit_status import INTERRUPTED, NOTHING_PRODUCED
from recon3r_ros.cli.interruption import Interruption
from recon3r_ros.cli.reconstruction import reconstruct, RunOptions
from recon3r_ros.errors import InputError, OutputError, Recon3rError
from recon3r_ros.evaluation.results import evaluate
from recon3r_ros.io.atomic import output_error, write_bytes
from recon3r_ros.io.memory import resident_memory_mb
from recon3r_ros.io.sequences import open_sequence
from recon3r_ros.sim import SceneConfig
from recon3r_ros.slam.dynamics.motion_config import MotionConfig

logger = logging.getLogger(__name__)

_SIMULATED_FRAMES = 90


@dataclass(frozen=True, eq=False)
class _Bench:
    """
    Runs the cases.

    :param data: folder of the packs
    :param cache: folder of simulated packs
    :param interruption: checked for a request to stop
    """

    data: Path
    cache: Path
    interruption: Interruption

    def run(self, case: Case) -> CaseRun:
        """Run a case; an error becomes its outcome."""
        try:
            pack = self._pack(case)
            if pack is None:
                return CaseRun(case, None, 'pack absent')
            return CaseRun(case, self.result(case, pack), '')
        except OutputError:
            raise  # the output is not writable: the other cases would fail, too
        except Recon3rError as error:
            return CaseRun(case, None, str(error))

    def result(self, case: Case, pack: Path) -> Result:
        """Reconstruct and evaluate a pack."""
        with tempfile.TemporaryDirectory(prefix='recon3r-bench-') as output:
            sequence = open_sequence(images=pack, calibrated=case.calibrated)
            report = reconstruct(sequence, output, RunOptions(
                motion=MotionConfig(offline=case.offline)), self.interruption)
            return Result(report, evaluate(output, pack))

    def memory(self, case: Case, repeat: int) -> Memory | None:
        """Run a case repeatedly and measure the resident set; None where the pack is absent."""
        pack = self._pack(case)
        if pack is None or repeat < 3:
            return None
        sizes = []
        for _ in range(repeat):
            if self.interruption.requested:
                break
            self.result(case, pack)
            size = resident_memory_mb()
            if size is None:
                return None
            sizes.append(size)
        return Memory(tuple(sizes)) if len(sizes) == repeat else None

    def _pack(self, case: Case) -> Path | None:
        """Return the folder of a case's pack, rendered if necessary; None if absent."""
        if case.pack:
            pack = self.data / case.pack
            return pack if pack.is_dir() else None
        pack = self.cache / case.name
        config = SceneConfig(seed=case.seed, frames=_SIMULATED_FRAMES, moving_objects=case.moving)
        with progress_bar() as bar:
            bar.stage(f'simulating scene {case.seed}', config.frames)
            simulated_pack(config, pack, bar.update)
        return pack


def measure(packs: Path, page: Path, names: Sequence[str] | None, repeat: int) -> int:
    """
    Run cases and write a page.

    :param packs: folder of the packs
    :param page: file of the page
    :param names: of the cases; None for all
    :param repeat: runs of the kitchen, to measure memory growth
    :returns: the exit status
    :raises InputError: for an unknown case
    :raises OutputError: where the page cannot be written
    """
    chosen = _chosen(names)
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(page.parent, error) from error
    cache = Path(tempfile.gettempdir()) / f'recon3r-bench-{os.getuid()}'
    screen = console()
    cpu = machine()
    screen.print(cpu, soft_wrap=True)
    runs: list[CaseRun] = []
    memory = None
    with Interruption() as interruption:
        bench = _Bench(packs, cache, interruption)
        for case in chosen:
            run = bench.run(case)
            if interruption.requested:
                break
            runs.append(run)
            for line in run.lines():
                screen.print(line, soft_wrap=True)
        if not interruption.requested and any(c.name == KITCHEN for c in chosen):
            memory = bench.memory(next(c for c in chosen if c.name == KITCHEN), repeat)
    write_bytes(page, results_page(runs, memory, cpu).encode())
    screen.print(f'written to {page}', soft_wrap=True)
    if interruption.requested:
        logger.warning('interrupted after %d of %d cases', len(runs), len(chosen))
        return INTERRUPTED
    return 0 if any(run.result for run in runs) else NOTHING_PRODUCED


def _chosen(names: Sequence[str] | None) -> list[Case]:
    """Return the cases with these names, all for None; 'simulated' for all simulated scenes."""
    if names is None:
        return list(cases())
    known = {case.name for case in cases()} | {'simulated'}
    for name in names:
        if name not in known:
            raise InputError(f'case {name!r}: expected one of {", ".join(sorted(known))}')
    return [case for case in cases()
            if case.name in names or (not case.pack and 'simulated' in names)]
