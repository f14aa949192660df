# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Counts of what a frame and a keyframe cost: a guard against slower commits that needs no clock.

    python test/operation_counts.py

counts, shows what has changed, and writes the numbers into operation_counts.json, with which
test_operation_counts.py compares. Counts do not depend on the machine's speed, its load or its
number of cores: OpenCV and thread pools run in one thread.

Counted are calls of OpenCV and the pixels or points that they process, calls of our solvers and of
compiled functions with the elements of their arrays, Python's calls and lines, and memory that is
allocated: for arrays, the volume of allocations is a measure of NumPy's work. What compiled
functions do inside is not seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, ExitStack
import gc
from importlib import import_module
import json
from pathlib import Path
import pkgutil
import sys
import tracemalloc
from types import BuiltinFunctionType, CodeType, FrameType
from typing import Any
from unittest.mock import patch

import cv2
import numba.core.dispatcher
import numpy as np
import recon3r_ros
from recon3r_ros import concurrency
from recon3r_ros.bench.serial import SerialExecutor
from recon3r_ros.models.geometric import GeometricPredictor
from recon3r_ros.sim import SceneConfig, SimulatedSequence
from recon3r_ros.slam.driver import Driver
from recon3r_ros.slam.dynamics.mask_refinement import grabcut, refined
from recon3r_ros.slam.products.cloud import LiveCloud
from recon3r_ros.slam.system import System
from recon3r_ros.slam.types import Frame, TrackingState, Update
import torch

RECORD = Path(__file__).with_suffix('.json')
SCENE = SceneConfig(seed=5, frames=28, fps=8.0, trajectory='sweep', moving_objects=1)
#: Number of keyframes from which on operations are counted
BEGIN = 3
#: Growth and decline, share of the recorded number, beyond which the test fails
MORE, FEWER = 1.15, 0.7
#: The same for the peak of memory: it depends on which arrays happen to be alive together
PEAK, MORE_PEAK, FEWER_PEAK = 'peak of allocated memory, bytes', 1.3, 0.6
#: Differences up to this are let pass, because numbers of a few calls change by chance
SLACK = 0.5
#: OpenCV's functions that cost most, and what their work is counted in; all others are added up
COSTLY: Mapping[str, str] = {
    'calcOpticalFlowPyrLK': 'points', 'findEssentialMat': 'points', 'solvePnPRansac': 'points',
    'BFMatcher.knnMatch': 'comparisons', 'BFMatcher.match': 'comparisons',
    'DISOpticalFlow.calc': 'pixels', 'SIFT.detectAndCompute': 'pixels',
    'ORB.detectAndCompute': 'pixels', 'goodFeaturesToTrack': 'pixels', 'grabCut': 'pixels',
    'remap': 'pixels', 'resize': 'pixels'}
#: Our own functions that cost most
SOLVERS = (
    'geometry.pnp.solve_pnp', 'geometry.pnp.refine_pnp', 'geometry.two_view.fit_rotation',
    'geometry.two_view.estimate_relative_pose', 'geometry.two_view.triangulate',
    'slam.backend.bundle_adjustment.solve', 'slam.backend.depth.fuse')
_PACKAGE = Path(recon3r_ros.__file__).resolve().parent
#: Python 3.12 calls no functions for these any more
_INLINED = ('<listcomp>', '<dictcomp>', '<setcomp>')


class Meter:
    """Counts operations while it is active."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.parts: Counter[str] = Counter()
        self.peak = 0
        self._active = False
        self._own: dict[CodeType, bool] = {}
        self._solvers = {_function(name).__code__: f'{name} calls' for name in SOLVERS}
        self._held = 0

    @contextmanager
    def patched(self) -> Iterator[None]:
        """Have OpenCV's functions and compiled ones counted, and everything run in one thread."""
        threads = cv2.getNumThreads()
        modules = [import_module(m.name) for name in ('geometry', 'slam')
                   for m in pkgutil.walk_packages([str(_PACKAGE / name)], f'recon3r_ros.{name}.')]
        modules += [sys.modules[name] for name in sys.modules
                    if name.startswith('recon3r_ros.models.')]
        with ExitStack() as stack:
            for name, function in list(vars(cv2).items()):
                if name.endswith('_create') and callable(function):
                    stack.enter_context(patch.object(cv2, name, self._factory(
                        name.removesuffix('_create'), function)))
                elif isinstance(function, BuiltinFunctionType):
                    stack.enter_context(patch.object(cv2, name, self._counted(name, function)))
            stack.enter_context(patch.object(cv2, 'BFMatcher', self._factory(
                'BFMatcher', cv2.BFMatcher)))
            for module in modules:
                for name, function in list(vars(module).items()):
                    if isinstance(function, numba.core.dispatcher.Dispatcher):
                        stack.enter_context(patch.object(
                            module, name, self._compiled(function)))
                    elif name == 'ThreadPoolExecutor':
                        stack.enter_context(patch.object(module, name, SerialExecutor))
            stack.enter_context(patch.object(concurrency, 'cores', lambda: 1))
            cv2.setNumThreads(1)
            cv2.setRNGSeed(0)
            stack.callback(cv2.setNumThreads, threads)
            yield

    @contextmanager
    def active(self) -> Iterator[None]:
        """Count what is done until the context ends."""
        self.counts, self.parts = Counter(), Counter()
        before = sys.gettrace()
        gc.collect()
        gc.disable()  # when it runs depends on all that was done before
        tracemalloc.start()
        self._held, _ = base, _ = tracemalloc.get_traced_memory()
        self.peak = 0
        self._active = True
        sys.settrace(self._called)
        try:
            yield
        finally:
            sys.settrace(before)
            self._active = False
            self._allocate()
            self.counts[PEAK] = self.peak - base
            tracemalloc.stop()
            gc.enable()

    def _called(self, frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        """Count a call of Python: one of the package, or of a library by the package."""
        code, back = frame.f_code, frame.f_back
        own = self._is_own(code)
        if (own or (back is not None and self._is_own(back.f_code)
                    and code.co_filename != __file__)) and code.co_name not in _INLINED:
            self.counts['Python calls'] += 1
            self.parts[f'Python calls: {Path(code.co_filename).name} {code.co_name}'] += 1
        if code in self._solvers:
            self.counts[self._solvers[code]] += 1
        return self._line if own else None

    def _line(self, frame: FrameType, event: str, _: object) -> Callable[..., Any]:
        if event == 'line':
            self.counts['Python lines'] += 1
            self.parts[f'Python lines: {Path(frame.f_code.co_filename).name} '
                       f'{frame.f_code.co_name}'] += 1
            self._allocate()
        return self._line

    def _allocate(self) -> None:
        """Add what was allocated since the line before."""
        held, peak = tracemalloc.get_traced_memory()
        self.counts['volume of allocations, bytes'] += max(peak - self._held, 0)
        self.peak = max(self.peak, peak)
        self._held = held
        tracemalloc.reset_peak()

    def _is_own(self, code: CodeType) -> bool:
        if code not in self._own:
            self._own[code] = _PACKAGE in Path(code.co_filename).parents
        return self._own[code]

    def _factory(self, name: str, factory: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: _Object(self, name, factory(*args, **kwargs))

    def _counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function of OpenCV."""
        def call(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            if self._active:
                unit = COSTLY.get(name, '')
                work = _work(unit, [*args, *kwargs.values()], result)
                for key in (name, unit) if unit else ('other OpenCV', 'pixels'),:
                    self.counts[f'{key[0]} calls'] += 1
                    self.counts[f'{key[0]} {key[1]}'] += work
                if not unit:
                    self.parts[f'other OpenCV pixels: {name}'] += work
                    self.parts[f'other OpenCV calls: {name}'] += 1
            return result
        return call

    def _compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a compiled function."""
        def call(*args: Any) -> Any:
            if self._active:
                size = sum(a.size for a in args if isinstance(a, np.ndarray))
                self.counts['compiled calls'] += 1
                self.counts['compiled elements'] += size
                name = f'{function.__module__}.{function.__name__}'
                self.parts[f'compiled calls: {name}'] += 1
                self.parts[f'compiled elements: {name}'] += size
            return function(*args)
        return call


class _Object:
    """An object of OpenCV whose methods are counted."""

    def __init__(self, meter: Meter, name: str, inner: Any) -> None:
        self._meter, self._name, self._inner = meter, name, inner

    def __getattr__(self, method: str) -> Any:
        function = getattr(self._inner, method)
        return self._meter._counted(f'{self._name}.{method}', function)


def _function(name: str) -> Any:
    """Return a function of the package by its dotted name."""
    module, _, function = name.rpartition('.')
    return getattr(import_module(f'recon3r_ros.{module}'), function)


def _work(unit: str, args: Sequence[Any], result: Any) -> int:
    """Count points of the arguments, comparisons of two sets, or pixels of the largest image."""
    if unit == 'points':
        return len(next(a for a in args if isinstance(a, np.ndarray) and a.shape[-1] in (2, 3)
                        and a.ndim <= 3 and a.dtype != np.uint8))
    if unit == 'comparisons':
        return len(args[0]) * len(args[1])
    arrays = [a for a in (*args, *(result if isinstance(result, tuple) else (result,)))
              if isinstance(a, np.ndarray) and a.ndim >= 2]
    return max((a.shape[0] * a.shape[1] for a in arrays), default=0)


class _Sink:
    """Refines masks, and makes the cloud, as the command line and the node do."""

    def __init__(self) -> None:
        self.cloud = LiveCloud()
        self.system: System | None = None
        self.last: Update | None = None

    def update(self, update: Update, frame: Frame | None) -> None:
        """Take an update."""
        self.last = update
        if update.keyframe is not None and self.system is not None:
            self.cloud.update(self.system.map)
        for tracked in update.frames:
            if frame is not None and tracked.index == frame.index and tracked.mask is not None:
                refined(grabcut, frame.image, tracked.mask)

    def reset(self) -> None:
        """Do nothing."""


def rendered(scene: SceneConfig) -> list[Frame]:
    """Render the frames of a scene."""
    torch.set_num_threads(1)
    sequence = SimulatedSequence(scene)
    return [Frame(f.image, f.stamp_ns, f'{f.index:06d}', f.index, sequence.camera)
            for f in sequence]


def count(frames: Sequence[Frame]) -> tuple[dict[str, dict[str, float]], dict[str, Counter[str]]]:
    """
    Run frames, and count from the third keyframe on.

    :return: means by 'frame' and 'keyframe', the median of the peaks of memory, and parts of which
        the means consist
    """
    meter, sink = Meter(), _Sink()
    counts: dict[str, list[Counter[str]]] = {'frame': [], 'keyframe': []}
    parts: dict[str, Counter[str]] = {'frame': Counter(), 'keyframe': Counter()}
    with meter.patched():
        system = System(GeometricPredictor())
        sink.system, driver = system, Driver(system, sink)
        for frame in frames:
            if len(system.map.keyframes) < BEGIN:
                driver.add(frame)
                continue
            with meter.active():
                driver.add(frame)
            assert sink.last is not None and system.state is TrackingState.TRACKING
            path = 'frame' if sink.last.keyframe is None else 'keyframe'
            counts[path].append(meter.counts)
            parts[path] += meter.parts
    means = {path: {name: float(f'{average([c[name] for c in of], name):.4g}')
                    for name in sorted(sum(of, Counter()))} for path, of in counts.items()}
    means['sequence'] = {f'{path}s': float(len(of)) for path, of in counts.items()}
    return means, {path: Counter({name: total / len(counts[path]) for name, total in of.items()})
                   for path, of in parts.items()}


def average(values: Sequence[int], name: str) -> float:
    """Return the mean of a count; of peaks the median, as few frames have much larger ones."""
    return float(np.median(values) if name == PEAK else np.mean(values))


def differences(recorded: Mapping[str, Mapping[str, float]],
                counted: Mapping[str, Mapping[str, float]]) -> list[str]:
    """
    List counts that have grown or declined beyond the margins.

    :return: a line each
    """
    lines = []
    for path in sorted({*recorded, *counted}):
        before, now = recorded.get(path, {}), counted.get(path, {})
        for name in sorted({*before, *now}):
            old, new = before.get(name, 0.0), now.get(name, 0.0)
            change = f'{path}: {name}: {new:g}, {old:g} recorded'
            more, fewer = (MORE_PEAK, FEWER_PEAK) if name == PEAK else (MORE, FEWER)
            if new > max(more * old, old + SLACK):
                lines.append(f'{change}: MORE than {more:.0%}')
            elif new < min(fewer * old, old - SLACK):
                lines.append(f'{change}: fewer than {fewer:.0%}')
    return lines


def largest(parts: Mapping[str, Counter[str]], difference: str, number: int = 5) -> list[str]:
    """Return the largest parts of a count, for the message about it."""
    path, name, *_ = difference.split(': ')
    return [f'{part.partition(": ")[2]}: {value:.4g}' for part, value in parts[path].most_common()
            if part.startswith(f'{name}: ')][:number] if path in parts else []


def read_record() -> dict[str, dict[str, float]]:
    """Return the recorded counts; none where they were never written."""
    return json.loads(RECORD.read_text(encoding='utf-8')) if RECORD.is_file() else {}


def main() -> None:
    """Count, say what has changed, and write the counts."""
    counted, parts = count(rendered(SCENE))
    for line in differences(read_record(), counted):
        sys.stdout.write('\n    '.join([line, *largest(parts, line)]) + '\n')
    RECORD.write_text(json.dumps(counted, indent=1) + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
