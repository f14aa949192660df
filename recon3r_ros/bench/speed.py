# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
`recon3r bench --speed`: time and memory of `recon3r run`, also against another checkout.

Both are run in turn, so that the load of the machine changes for both alike, and CPU time is
measured beside wall time. Whether results depend on the number of cores is tried, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
import os
from pathlib import Path
from statistics import median
import subprocess
import tempfile

import recon3r_ros
from recon3r_ros.bench.child_run import run, RunCost
from recon3r_ros.bench.load import busy_processes
from recon3r_ros.bench.sameness import compare, Sameness
from recon3r_ros.bench.yardstick import machine
from recon3r_ros.cli.console import output as console
from recon3r_ros.errors import InputError
from recon3r_ros.io.atomic import write_bytes
from recon3r_ros.io.markdown import table

#: Runs of each checkout
REPETITIONS = 3
#: Images of a first run, which is not measured: it compiles, and fills the caches of files
WARM_UP = 45
#: What imports this package
OWN_TREE = Path(recon3r_ros.__file__).resolve().parents[1]


@dataclass(frozen=True)
class _Row:
    """
    A line of the table.

    :param name: of the measure
    :param value: of a run; None where it was not measured
    :param digits: decimal places
    """

    name: str
    value: Callable[[RunCost], float | None]
    digits: int = 1


def _timed(name: str, key: str) -> _Row:
    return _Row(name, lambda cost: cost.timing(key))


ROWS = (
    _Row('wall time / duration of the video', lambda c: c.wall_s / c.duration_s, 2),
    _Row('CPU time / duration of the video', lambda c: c.cpu_s / c.duration_s, 2),
    _Row('wall time, s', lambda c: c.wall_s),
    _Row('CPU time of all processes, s', lambda c: c.cpu_s),
    _timed('tracking a frame, CPU ms', 'track_cpu_median_ms'),
    _timed('tracking a frame, ms', 'track_median_ms'),
    _timed('dynamic mask, ms', 'motion_median_ms'),
    _timed('dynamic mask, CPU ms', 'motion_cpu_median_ms'),
    _timed('a frame that becomes no keyframe, CPU ms', 'frame_cpu_median_ms'),
    _timed('a frame that becomes no keyframe, ms', 'frame_median_ms'),
    _timed('a keyframe, CPU ms of all threads and processes', 'keyframe_cpu_median_ms'),
    _timed('a keyframe, ms', 'keyframe_median_ms'),
    _Row('landmarks that a pose agrees with', lambda c: c.report.get('landmarks_median'), 0),
    _Row('frames with a pose', lambda c: c.report['frames_tracked'], 0),
    _Row('keyframes', lambda c: c.report['keyframes'], 0),
    _Row('points of the map', lambda c: c.report['points'], 0),
    _Row('peak memory, MB', lambda c: c.peak_mb, 0),
)


@dataclass(frozen=True)
class Measured:
    """
    Runs of one checkout.

    :param name: of the column
    :param commit: of the checkout, where known
    :param costs: one a run
    """

    name: str
    commit: str
    costs: Sequence[RunCost]

    def values(self, row: _Row) -> list[float]:
        """Return a row's values; none where one run has none."""
        values = [row.value(cost) for cost in self.costs]
        known = [value for value in values if value is not None]
        return known if len(known) == len(values) else []


def measure(pack: Path, page: Path, baseline: Path | None, load: int) -> int:
    """
    Measure and write a page.

    :param pack: sequence
    :param page: file of the page
    :param baseline: another checkout; None for none
    :param load: number of processes that keep cores busy meanwhile
    :returns: the exit status
    :raises Recon3rError: where a checkout or the sequence cannot be used
    """
    if not pack.is_dir():
        raise InputError(f'{pack}: no such pack; give its folder with --packs')
    trees = {'this version': OWN_TREE}
    if baseline is not None:
        if not (baseline / 'recon3r_ros').is_dir():
            raise InputError(f'{baseline}: no checkout, it has no folder recon3r_ros')
        trees['baseline'] = baseline.resolve()
    screen = console()
    line = machine()
    screen.print(line, soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix='recon3r-bench-speed-') as temporary:
        folder = Path(temporary)
        for tree in trees.values():
            _warm_up(tree, pack, folder)
        costs: dict[str, list[RunCost]] = {name: [] for name in trees}
        with busy_processes(load):
            for n in range(REPETITIONS):
                # In both orders, so that neither always comes second
                for name in list(trees)[::1 if n % 2 == 0 else -1]:
                    cost = run(trees[name], pack, folder / f'{name} {n}')
                    costs[name].append(cost)
                    screen.print(f'{name}, run {n + 1} of {REPETITIONS}: {cost.wall_s:.1f} s, '
                                 f'CPU {cost.cpu_s:.1f} s', soft_wrap=True)
        own = [folder / f'this version {n}' for n in range(REPETITIONS)]
        same = {'two runs on all cores': compare(own[0], own[-1])}
        if hasattr(os, 'sched_setaffinity'):
            core = min(os.sched_getaffinity(0))
            run(OWN_TREE, pack, folder / 'one core', core)
            same['one core, all cores'] = compare(folder / 'one core', own[0])
    measured = [Measured(name, _commit(tree), costs[name]) for name, tree in trees.items()]
    text = speed_page(pack.name, line, load, measured, same)
    write_bytes(page, text.encode())
    screen.print(text, soft_wrap=True)
    return 0


def speed_page(pack: str, line: str, load: int, measured: Sequence[Measured],
               same: dict[str, Sameness]) -> str:
    """
    Write the page.

    :param pack: name of the sequence
    :param line: describes the machine
    :param load: number of processes beside
    :param measured: this version first, then the baseline
    :param same: comparisons of the results, by what was compared
    :returns: Markdown
    """
    cost = measured[0].costs[0]
    names = ', '.join(f'{m.name}: {m.commit}' for m in measured)
    beside = f', while {load} other processes keep a core busy each' if load else ''
    parts = [
        '# Speed', '',
        f'Written by `recon3r bench --speed`: `recon3r run` on {pack} '
        f'({cost.report["frames_read"]} images in {cost.duration_s:.1f} s), '
        f'{len(measured[0].costs)} runs each, alternating{beside}. Medians, smallest and largest '
        'in brackets. Every run is a process of its own, from its start to its end; code that has '
        'to be compiled once was there already. CPU time of a frame is that of the tracking '
        "thread, without OpenCV's own threads.", '',
        f'{line}. {names}.', '',
        table(('measure', *(m.name for m in measured),
               *(('ratio',) if len(measured) > 1 else ())),
              [(row.name, *(_text(m.values(row), row.digits) for m in measured),
                *((_ratio(*(m.values(row) for m in measured)),) if len(measured) > 1 else ()))
               for row in ROWS]),
        '## Same results', '',
        'Compared to the bit: trajectory.txt, masks/, and map.ply, map.npz and depth/.', '',
        table(('runs', 'trajectory', 'masks', 'map'),
              [(name, s.trajectory, s.masks, s.map) for name, s in same.items()]),
        _verdict(same), '']
    return '\n'.join(parts)


def _verdict(same: dict[str, Sameness]) -> str:
    if all(s.complete for s in same.values()):
        return 'Results do not depend on the number of cores.'
    if same['two runs on all cores'].complete:
        return 'Results depend on the number of cores, but are repeated on the same number.'
    return 'Results differ from run to run.'


def _text(values: list[float], digits: int) -> str:
    """Format a median with its range."""
    if not values:
        return '-'
    middle, low, high = (f'{v:.{digits}f}' for v in (median(values), min(values), max(values)))
    return middle if low == high else f'{middle} ({low} to {high})'


def _ratio(own: list[float], baseline: list[float]) -> str:
    if not own or not baseline or not median(baseline):
        return '-'
    return f'{median(own) / median(baseline):.2f}'


def _warm_up(tree: Path, pack: Path, folder: Path) -> None:
    """Run a checkout on the first images."""
    images = folder / 'first images'
    if not images.is_dir():
        images.mkdir()
        source = pack / 'images' if (pack / 'images').is_dir() else pack
        for path in sorted(source.iterdir())[:WARM_UP]:
            (images / path.name).symlink_to(path.resolve())
    run(tree, images, folder / 'warm up')


def _commit(tree: Path) -> str:
    """Return the commit of a checkout, with a mark where files were changed."""
    command = ['git', '-C', str(tree), 'describe', '--always', '--dirty=, changed', '--tags']
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return 'unknown commit'
    return f'commit {done.stdout.strip()}'
