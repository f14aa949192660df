# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The speed of this machine: a fixed workload, whose CPU time stands beside measured times.

    python -m recon3r_ros.bench.yardstick

prints the line of this machine. A time that was measured beside a yardstick of 1.2 s is about half
as long where the yardstick takes 0.6 s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import os
from pathlib import Path
import platform
import sys
from time import thread_time

import cv2
import numpy as np
from recon3r_ros.concurrency import cores

#: Images, rows and columns
SHAPE = (480, 640)
#: Repetitions of each part: about equal shares of a second
FLOWS, TRACKS, CUTS, WARPS, PRODUCTS = 36, 140, 22, 150, 100_000


def yardstick() -> float:
    """
    Measure the CPU seconds of the workload, in one thread.

    Its parts are those that a reconstruction spends its time in: DIS flow, KLT, GrabCut, resizing
    and warping of images, and products of small matrices. It takes about a second on a server's
    core of 2023. Results are those of the moment: other load on a shared machine slows it down.
    """
    parts = _parts()
    with _one_thread():
        for part, _ in parts:
            part()  # memory is allocated, caches are filled
        begin = thread_time()
        for part, count in parts:
            for _ in range(count):
                part()
        return thread_time() - begin


def machine() -> str:
    """
    Describe this machine in a line, without naming it; takes about a second.

    :return: the CPU's model and usable cores, the yardstick, and the load average of the last
        minute, which is that of other programs where this is called before a measurement
    """
    count = cores()
    load = f', load average {os.getloadavg()[0]:.1f}' if hasattr(os, 'getloadavg') else ''
    return (f'CPU: {cpu_model()}, {count} core{"s" if count > 1 else ""}, '
            f'yardstick {yardstick():.2f} s{load}')


def cpu_model() -> str:
    """Return the model name of the CPU."""
    try:
        lines = Path('/proc/cpuinfo').read_text('utf-8', 'replace').splitlines()
    except OSError:
        lines = []
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor() or platform.machine()


def _parts() -> tuple[tuple[Callable[[], object], int], ...]:
    """Return the parts of the workload, with the number of their repetitions."""
    rng = np.random.default_rng(0)
    height, width = SHAPE
    noise = rng.integers(0, 256, (height, width, 3), np.uint8)
    image = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    shift = np.array([[1, 0.01, 3], [-0.01, 1, 2]], np.float32)
    moved = cv2.warpAffine(gray, shift, (width, height), borderMode=cv2.BORDER_REFLECT)
    corners = cv2.goodFeaturesToTrack(gray, 300, 0.01, 10)
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    small = cv2.resize(image, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    rows, columns = np.indices(SHAPE, np.float32)
    labels = np.where(np.hypot(rows[::4, ::4] - 200, columns[::4, ::4] - 300) < 120,
                      cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
    columns += np.float32(0.5)
    a, b = rng.random((2, 6, 6))

    def cut() -> None:
        cv2.setRNGSeed(0)
        cv2.grabCut(small, labels.copy(), None, np.zeros((1, 65)), np.zeros((1, 65)), 1,
                    cv2.GC_INIT_WITH_MASK)

    def warp() -> None:
        half = cv2.resize(cv2.remap(image, columns, rows, cv2.INTER_LINEAR),
                          (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        cv2.resize(half, (width, height), interpolation=cv2.INTER_LINEAR)

    return ((lambda: flow.calc(gray, moved, None), FLOWS),
            (lambda: cv2.calcOpticalFlowPyrLK(gray, moved, corners, None, winSize=(17, 17),
                                              maxLevel=2), TRACKS),
            (cut, CUTS), (warp, WARPS), (lambda: a @ b + a.T, PRODUCTS))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Restrict OpenCV to the calling thread."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


if __name__ == '__main__':
    sys.stdout.write(f'{machine()}\n')
