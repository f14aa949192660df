# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`recon3r bench --speed --profile`: where the CPU time of a frame and of a keyframe goes."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Sequence
import json
from pathlib import Path
import re
import sys
import tempfile
from typing import Any

import recon3r_ros
from recon3r_ros.bench.child_run import execute
from recon3r_ros.bench.flame_graph import flame_graph, read_stacks, Stacks
from recon3r_ros.bench.sampler import COMPILED, NUMPY, OPENCV, PYTHON
from recon3r_ros.bench.yardstick import machine
from recon3r_ros.cli.console import output as console
from recon3r_ros.errors import InputError
from recon3r_ros.io.atomic import write_bytes
from recon3r_ros.io.markdown import table

_PACKAGE = Path(recon3r_ros.__file__).resolve().parent
#: What stages share counts for the stage that uses it, but for these algorithms
_SHARED = re.compile(
    r'compiled|geometry/(?!flow|pnp|two_view|focal)|slam/(types|pair_table|visibility|cpu_time)')
#: Stages below this share of their path are added up
LEAST_SHARE = 0.01
#: Functions after the last frame
_LAST = re.compile(r'cli/session\.py (Session\.)?(finish|smooth_motion|write)$')
FRAME, KEYFRAME, READING, END, START = 'frame', 'keyframe', 'reading', 'end', 'start'
_KINDS = (OPENCV, NUMPY, COMPILED, PYTHON)
#: Begin and end of what this command writes into a page
_BLOCK = re.compile(r'(<!-- profile -->\n).*(<!-- /profile -->)', re.DOTALL)


def measure(pack: Path, stacks_file: Path, page: Path | None) -> int:
    """
    Profile a run, and write its stacks, their flame graph, and the tables of a page.

    :param pack: sequence
    :param stacks_file: file of the stacks; that of the flame graph has .svg appended
    :param page: file whose block between `<!-- profile -->` and `<!-- /profile -->` is replaced,
        with the flame graph beside it; None for none
    :returns: the exit status
    :raises Recon3rError: where something cannot be read or written, or the run fails
    """
    if not pack.is_dir():
        raise InputError(f'{pack}: no such pack; give its folder with --packs')
    text = page.read_text(encoding='utf-8') if page is not None and page.is_file() else ''
    if page is not None and not _BLOCK.search(text):
        raise InputError(f'{page}: no page with a line <!-- profile --> and a line '
                         '<!-- /profile --> below it')
    line = machine()
    stacks_file = stacks_file.absolute()
    with tempfile.TemporaryDirectory(prefix='recon3r-bench-profile-') as folder:
        output = Path(folder) / 'output'
        execute(_PACKAGE.parent, [sys.executable, '-m', 'recon3r_ros.bench.sampler',
                                  str(stacks_file), 'run', '--images', str(pack), '--output',
                                  str(output)])
        report = json.loads((output / 'report.json').read_text(encoding='utf-8'))
    stacks = read_stacks(stacks_file.read_text(encoding='utf-8'))
    title = f'recon3r run, {pack.name}: {sum(stacks.values()):.1f} s of CPU time'
    picture = flame_graph(stacks, title).encode()
    write_bytes(Path(f'{stacks_file}.svg'), picture)
    block = f'\n{line}.\n\n{profile_tables(stacks, report)}\n'
    if page is not None:
        write_bytes(page.with_suffix('.svg'), picture)
        write_bytes(page, _BLOCK.sub(lambda found: found[1] + block + found[2], text).encode())
    console().print(block, soft_wrap=True)
    return 0


def profile_tables(stacks: Stacks, report: dict[str, Any]) -> str:
    """
    Write a table of the stages of a frame and one of those of a keyframe.

    :param stacks: seconds of each stack
    :param report: of the run
    :return: Markdown
    """
    paths: dict[str, dict[tuple[str, ...], float]] = defaultdict(dict)
    for stack, seconds in stacks.items():
        paths[path_of(stack)][stack] = seconds
    whole = sum(stacks.values())
    spent = {path: sum(part.values()) for path, part in paths.items()}
    frames, keyframes = report['frames_tracked'], report['keyframes']
    summary = [(what, f'{spent.get(path, 0.0):.1f}', f'{spent.get(path, 0.0) / whole:.0%}')
               for path, what in (
                   (FRAME, f'{frames} frames'), (KEYFRAME, f'{keyframes} keyframes'),
                   (READING, 'reading and decoding images, in a thread'),
                   (END, 'final refinement, writing of results'),
                   (START, 'start of the interpreter, imports'))]
    return (table(('path', 'CPU time, s', 'share'), summary)
            + '\n### A frame\n\n' + _stages(paths[FRAME], frames)
            + '\n### A keyframe\n\n' + _stages(paths[KEYFRAME], keyframes))


def path_of(stack: Sequence[str]) -> str:
    """Tell which part of a run a stack belongs to."""
    if stack[0] == 'recon3r-prefetch':
        return READING
    if stack[0] == 'recon3r-writer':
        return END
    if any(_LAST.match(name) for name in stack):
        return END
    if not any(name.startswith('slam/driver.py') for name in stack):
        return START
    mapping = any(name.startswith(('slam/backend/', 'models/')) for name in stack)
    return KEYFRAME if mapping else FRAME


def stage_of(stack: Sequence[str]) -> str:
    """Return the module that a stack counts for: the innermost one that stages do not share."""
    modules = [name.partition(' ')[0] for name in stack[1:-1]]
    own = [module for module in modules if module.endswith('.py')]
    return next((m for m in reversed(own) if not _SHARED.match(m)), own[-1] if own else 'other')


def _stages(stacks: Stacks, count: int) -> str:
    """Write the table of a path that was taken `count` times."""
    whole = sum(stacks.values())
    if not whole or not count:
        return 'No samples.\n'
    stages: dict[str, Counter[str]] = defaultdict(Counter)
    for stack, seconds in stacks.items():
        stages[stage_of(stack)][stack[-1]] += seconds  # type: ignore[assignment]
    rows, rest = [], Counter[str]()
    for stage, leaves in sorted(stages.items(), key=lambda s: -s[1].total()):
        if leaves.total() < LEAST_SHARE * whole:
            rest += leaves
            continue
        rows.append(_row(f'`{stage}`: {_summary(stage)}', leaves, whole, count))
    if rest:
        rows.append(_row('other', rest, whole, count))
    everything = sum(stages.values(), Counter[str]())
    rows.append(_row('**all**', everything, whole, count))
    return table(('stage', 'CPU ms', 'share', *_KINDS, 'most in'), rows)


def _row(name: str, leaves: Counter[str], whole: float, count: int) -> tuple[str, ...]:
    total = leaves.total()
    kinds: Counter[str] = Counter()
    for leaf, seconds in leaves.items():
        kinds[leaf.rpartition('[')[2].removesuffix(']')] += seconds
    (leaf, seconds), = leaves.most_common(1)
    return (name, f'{1e3 * total / count:.2f}', f'{total / whole:.0%}',
            *(f'{kinds[kind] / total:.0%}' for kind in _KINDS),
            f'{leaf.rpartition(" [")[0] or leaf.strip("[]")} ({seconds / total:.0%})')


def _summary(module: str) -> str:
    """Return the first line of a module's docstring, up to a colon."""
    path = _PACKAGE / module
    if not path.is_file():
        return 'libraries'
    text = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or ''
    return re.split('[:\n]', text)[0].rstrip('.')
