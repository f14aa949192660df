# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The page of results that `recon3r bench` writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
import platform

from recon3r_ros import __version__
from recon3r_ros.bench.cases import Case, Result
from recon3r_ros.io.markdown import table

_LIBRARIES = ('numpy', 'opencv-python-headless', 'gtsam', 'open3d', 'torch')
#: Largest growth of the resident set after the second run, megabytes
_MAX_GROWTH_MB = 50.0


@dataclass(frozen=True)
class CaseRun:
    """
    Outcome of a case.

    :param case: the case
    :param result: its result; None where it could not be run
    :param problem: the reason
    """

    case: Case
    result: Result | None
    problem: str

    def rows(self) -> Iterator[tuple[str, str, str, str, str]]:
        """Yield case, measure, target, measured, met; one row for a case that did not run."""
        if self.result is None:
            yield self.case.name, 'all', '', self.problem, '-'
            return
        for measure in self.case.measures:
            value = measure.value(self.result)
            yield (self.case.name, measure.name, measure.target(), measure.text(value),
                   'yes' if measure.met(value) else '**no**')

    def lines(self) -> Iterator[str]:
        """Yield a line of text for each row."""
        for case, measure, target, measured, met in self.rows():
            yield f'{case:22} {measure:36} {target:>10}  {measured:>12}  {met.strip("*")}'


@dataclass(frozen=True)
class Memory:
    """
    Resident set when one sequence runs repeatedly in one process.

    :param sizes_mb: megabytes after each run, three or more
    """

    sizes_mb: tuple[float, ...]

    @property
    def growth_mb(self) -> float:
        """Growth after the second run, megabytes."""
        return self.sizes_mb[-1] - self.sizes_mb[1]


def results_page(runs: Sequence[CaseRun], memory: Memory | None, machine: str) -> str:
    """
    Write the page.

    :param runs: of the cases
    :param memory: of the repeated kitchen; None where it was not measured
    :param machine: see `yardstick.machine`
    :returns: Markdown
    """
    accuracy = [row for run in runs for row in run.rows()]
    if memory is not None:
        growth = memory.growth_mb
        accuracy.append((
            'kitchen, repeated', f'memory growth from run 2 to {len(memory.sizes_mb)}',
            f'< {_MAX_GROWTH_MB:g} MB', f'{growth:.0f} MB',
            'yes' if growth < _MAX_GROWTH_MB else '**no**'))
    speed = [_speed(run.case, run.result) for run in runs if run.result is not None]
    parts = [
        '# Results', '',
        'Written by `recon3r bench`. Lengths are in metres, ATE is the root mean square after',
        'alignment by a similarity; `recon3r eval --help` defines every measure. One run each.',
        '',
        f'{machine}.', '', _versions(), '',
        table(('case', 'measure', 'target', 'measured', 'met'), accuracy),
        '## Speed and size', '',
        'Milliseconds are medians; a whole frame is one that became no keyframe. Total time',
        'includes reading the images and writing all results. Peak memory is that of the process',
        'so far, which runs one case after another.', '',
        table(('case', 'images', 'with a pose', 'keyframes', 'map points',
               'tracking, ms', 'masks, ms', 'whole frame, ms', 'keyframe, ms', 'total s',
               'total / duration', 'peak memory MB'), speed),
    ]
    if memory is not None:
        sizes = ', '.join(f'{size:.0f}' for size in memory.sizes_mb)
        parts.append(f'Resident memory after each repetition of the kitchen, MB: {sizes}.\n')
    return '\n'.join(parts)


def _speed(case: Case, result: Result) -> tuple[str, ...]:
    report = result.report
    times = report.timings
    share = '-'
    if not case.stills and report.sequence_s > 0:
        share = f'{times.total_s / report.sequence_s:.2f}'
    return (case.name, str(report.frames_read), str(report.frames_tracked), str(report.keyframes),
            str(report.points), _milliseconds(times.track_median_ms),
            _milliseconds(times.motion_median_ms), _milliseconds(times.frame_median_ms),
            _milliseconds(times.keyframe_median_ms), f'{times.total_s:.1f}', share,
            f'{report.peak_memory_mb:.0f}')


def _milliseconds(value: float | None) -> str:
    return '-' if value is None else f'{value:.1f}'


def _versions() -> str:
    """List the versions of this package and the libraries."""
    libraries = []
    for name in _LIBRARIES:
        try:
            libraries.append(f'{name} {version(name)}')
        except PackageNotFoundError:
            continue
    return (f'No GPU used; recon3r_ros {__version__}, Python {platform.python_version()} '
            f'({platform.machine()}), {", ".join(libraries)}.')
