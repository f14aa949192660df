# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Where a command spends its CPU time: samples of the stacks of all Python threads.

    python -m recon3r_ros.bench.sampler FILE run --images DIR --output OUT

runs the command and writes FILE: a line for each stack, outermost function first, separated by
semicolons, and the microseconds of CPU time spent there. Tools for flame graphs read this format.

A timer that counts CPU time takes the samples, and each counts the CPU time that its thread has
used since the one before: the load of the machine changes nothing. Work of thread pools runs in
the main thread, and OpenCV in one thread, so that nothing is missed. Linux only, which has a clock
for each thread; before Python 3.11, functions of libraries are not named. Processes that the
command starts are not seen.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Sequence
import concurrent.futures
from itertools import islice
import linecache
import os
from pathlib import Path
import re
import signal
import sys
import threading
from threading import Thread
import time
from types import CodeType, FrameType, ModuleType, TracebackType

import recon3r_ros
from recon3r_ros.bench.serial import SerialExecutor

#: CPU seconds between samples; as long as a tick of the kernel where that is longer (4, 10 ms)
PERIOD_S = 0.001
#: What a stack ends with: where the time goes
OPENCV, NUMPY, COMPILED, PYTHON, OTHER = 'OpenCV', 'NumPy', 'compiled', 'Python', 'other'
#: Kinds of the libraries whose names these are
_LIBRARIES = {'cv2': OPENCV, 'numpy': NUMPY, 'scipy': NUMPY, 'numba': COMPILED,
              'builtins': PYTHON, 'recon3r_ros': PYTHON}
_PACKAGE = Path(recon3r_ros.__file__).resolve().parent
#: Modules that are there for sampling only
_INSTRUMENTS = ('bench/sampler.py', 'bench/serial.py')
_NUMBERS = re.compile(r'[-_\d]+$')


class Sampler:
    """Samples the threads of this process until the context ends; for the main thread."""

    def __init__(self) -> None:
        #: Nanoseconds of CPU time by stack
        self.spent: Counter[tuple[str, ...]] = Counter()
        self._before: dict[int, int] = {}
        self._sampling = False
        self._names: dict[CodeType, str] = {}
        self._leaves: dict[tuple[CodeType, int], str] = {}

    def __enter__(self) -> Sampler:
        self._note()
        signal.signal(signal.SIGPROF, self._sample)
        signal.siginterrupt(signal.SIGPROF, False)
        signal.setitimer(signal.ITIMER_PROF, PERIOD_S, PERIOD_S)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, signal.SIG_IGN)

    def lines(self) -> list[str]:
        """Return a line for each stack, with its microseconds."""
        return sorted(f'{";".join(stack)} {round(ns / 1000)}'
                      for stack, ns in self.spent.items() if ns >= 500)

    def _sample(self, _: int, frame: FrameType | None) -> None:
        # Python calls this in the main thread, at the end of what it was doing at the signal
        if self._sampling:
            return
        self._sampling = True
        frames = {**sys._current_frames(), threading.get_ident(): frame}
        for thread in threading.enumerate():
            now, current = _cpu_ns(thread), frames.get(thread.ident or 0)
            spent = now - self._before.get(thread.native_id or 0, 0)
            if current is not None and spent > 0:
                self.spent[self._stack(_NUMBERS.sub('', thread.name), current)] += spent
        self._note()
        self._sampling = False

    def _note(self) -> None:
        """Note the CPU time of all threads; that of sampling is thus left out."""
        self._before = {t.native_id or 0: _cpu_ns(t) for t in threading.enumerate()}

    def _stack(self, thread: str, frame: FrameType) -> tuple[str, ...]:
        """Name the functions of a stack, outermost first; of libraries the one that is called."""
        names = []
        current: FrameType | None = frame
        while current is not None:
            names.append(self._name(current.f_code))
            current = current.f_back
        names.reverse()
        own = [n for n, name in enumerate(names) if _is_own(name)]
        library = names[own[-1] + 1:] if own else names
        leaf = f'{library[0].replace(" ", ".")} [{_kind_of(library[-1].split()[0])}]' if (
            library) else self._leaf(frame)
        return (thread, *(names[n] for n in own), leaf)

    def _name(self, code: CodeType) -> str:
        name = self._names.get(code)
        if name is None:
            function = getattr(code, 'co_qualname', code.co_name).replace('.<locals>', '')
            name = self._names[code] = f'{_module(code)} {function}'
        return name

    def _leaf(self, frame: FrameType) -> str:
        """Name what the innermost function is doing, and its kind in brackets."""
        place = frame.f_code, frame.f_lasti
        leaf = self._leaves.get(place)
        if leaf is None:
            leaf = self._leaves[place] = _leaf(frame)
        return leaf


def _cpu_ns(thread: Thread) -> int:
    """CPU time of a thread, nanoseconds; 0 where it has ended."""
    try:
        # The kernel's clock of a thread: see clock_getcpuclockid(3)
        return time.clock_gettime_ns((~(thread.native_id or 0) << 3) | 6)
    except OSError:
        return 0


def _is_own(name: str) -> bool:
    module = name.partition(' ')[0]
    return module.endswith('.py') and module not in _INSTRUMENTS


def _module(code: CodeType) -> str:
    """Path of a module of this package; the name of the library for others."""
    path = Path(code.co_filename)
    if _PACKAGE in path.parents:
        return path.relative_to(_PACKAGE).as_posix()
    parts = path.parts
    for folder in ('site-packages', 'dist-packages'):
        if folder in parts:
            return parts[parts.index(folder) + 1].removesuffix('.py')
    return path.stem.strip('<>') or 'unknown'


def _leaf(frame: FrameType) -> str:
    """Name what an expression of this package does, and its kind in brackets."""
    try:
        expression: ast.expr | None = ast.parse(f'({_expression(frame)})', mode='eval').body
    except SyntaxError:  # empty, or a part of a statement
        expression = None
    if isinstance(expression, ast.Call):
        names = _dotted(expression.func)
        kind = _kind(names, frame)
        return f'[{PYTHON}]' if kind == PYTHON else f'{".".join(names)} [{kind}]'
    # Operators are those of arrays, mostly
    operates = isinstance(expression, (ast.BinOp, ast.Compare, ast.UnaryOp, ast.Subscript))
    return f'operators [{NUMPY}]' if operates else f'[{PYTHON}]'


def _expression(frame: FrameType) -> str:
    """Source of the expression that a frame evaluates; '' where Python does not tell (3.10)."""
    positions = getattr(frame.f_code, 'co_positions', None)
    if positions is None or frame.f_lasti < 0:
        return ''
    line, last, begin, end = next(islice(positions(), frame.f_lasti // 2, None))
    if None in (line, last, begin, end):
        return ''
    lines = linecache.getlines(frame.f_code.co_filename)[line - 1:last]
    if not lines:
        return ''
    lines[-1] = lines[-1].encode()[:end].decode('utf-8', 'ignore')
    lines[0] = lines[0].encode()[begin:].decode('utf-8', 'ignore')
    return ''.join(lines)


def _dotted(node: ast.expr) -> list[str]:
    """Names of an expression such as `a.b(c).d`: a, b(), d; `array` for those of operators."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        return [*_dotted(node.value), node.attr]
    if isinstance(node, ast.Call):
        *names, last = _dotted(node.func)
        return [*names, f'{last}()']
    return ['array']


def _kind(names: Sequence[str], frame: FrameType) -> str:
    """Kind of what dotted names in a frame refer to, by the library that it comes from."""
    if names[0] == 'array':
        return NUMPY
    name = names[0].removesuffix('()')
    owner, value = None, frame.f_locals.get(name, frame.f_globals.get(name))
    for name in names[1:]:
        # No properties, which would run; a name that is not found is a method of its owner
        owner, value = value, getattr(value, '__dict__', {}).get(name.removesuffix('()'))
        if value is None or name.endswith('()'):
            break
    origins = [] if value is None else [type(value).__module__, getattr(value, '__module__', '')]
    origins.append(owner.__name__ if isinstance(owner, ModuleType) else type(owner).__module__)
    kinds = [_kind_of(origin) for origin in origins if origin not in (None, '', 'builtins')]
    return kinds[0] if kinds else PYTHON


def _kind_of(module: str) -> str:
    return _LIBRARIES.get(module.partition('.')[0], OTHER)


def _profile(output: Path, arguments: Sequence[str]) -> int:
    """Run a command and write its stacks."""
    os.environ['OPENCV_FOR_THREADS_NUM'] = '1'
    # Before any module of the package takes over the name
    concurrent.futures.ThreadPoolExecutor = SerialExecutor  # type: ignore[misc, assignment]
    from recon3r_ros import concurrency
    from recon3r_ros.bench.in_process import MappingInProcess
    from recon3r_ros.cli import main, reconstruction
    concurrency.cores = lambda: 1
    vars(reconstruction)['SubprocessExecutor'] = MappingInProcess
    with Sampler() as sampler:
        status = main(arguments)
    output.write_text('\n'.join(sampler.lines()) + '\n', encoding='utf-8')
    return status


if __name__ == '__main__':
    sys.exit(_profile(Path(sys.argv[1]), sys.argv[2:]))
