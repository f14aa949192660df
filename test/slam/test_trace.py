# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Data flow of a frame: the modules that it enters, in order, as in docs/architecture.md."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
import re
import sys
from types import FrameType
from unittest.mock import patch

import pytest
import recon3r_ros
from recon3r_ros.models.geometric import GeometricPredictor
from recon3r_ros.slam.driver import Driver
from recon3r_ros.slam.products.cloud import LiveCloud
from recon3r_ros.slam.system import System
from recon3r_ros.slam.types import Frame, Update
from simulated import as_frame, still_scene

PACKAGE = Path(recon3r_ros.__file__).parent
DOCUMENT = Path(__file__).parents[2] / 'docs' / 'architecture.md'
SCENE = still_scene(3, 90)
#: What stages share, and calls from everywhere lead to
SHARED = ('compiled.py', 'concurrency.py', 'geometry/', 'slam/types.py', 'slam/pair_table.py',
          'slam/visibility.py')


class Sink:
    """Makes a product of the map, as publishers and files do."""

    def __init__(self) -> None:
        self.cloud = LiveCloud()
        self.system: System | None = None

    def update(self, update: Update, frame: Frame | None) -> None:
        """Bring the cloud up to date when there is a keyframe."""
        if update.keyframe is not None and self.system is not None:
            self.cloud.update(self.system.map)

    def reset(self) -> None:
        """Do nothing."""


@contextmanager
def traced(calls: list[tuple[str, str]]) -> Iterator[None]:
    """Record calls from one module of the package to another, this thread's, in order."""
    def module(frame: FrameType | None) -> str:
        path = Path(frame.f_code.co_filename) if frame is not None else Path()
        return path.relative_to(PACKAGE).as_posix() if PACKAGE in path.parents else ''

    def called(frame: FrameType, event: str, _: object) -> None:
        if event == 'call':
            caller, callee = module(frame.f_back), module(frame)
            if callee and callee != caller:
                calls.append((caller, callee))
    sys.setprofile(called)
    try:
        yield
    finally:
        sys.setprofile(None)


@pytest.fixture(scope='module')
def calls() -> list[tuple[str, str]]:
    """Trace the frame that becomes the third keyframe, in one thread."""
    sink = Sink()
    system = System(GeometricPredictor())
    sink.system, driver = system, Driver(system, sink)
    for index in range(90):
        frame, found = as_frame(SCENE, index), list[tuple[str, str]]()
        with patch('recon3r_ros.concurrency.cores', return_value=1), traced(found):
            driver.add(frame)
        if len(system.map.keyframes) == 3:
            return found
    raise AssertionError('no third keyframe')


def stage(module: str) -> str:
    """Folder of a module; of the modules in slam itself, 'slam'."""
    return module.rpartition('/')[0]


def test_the_way_is_the_documented_one(calls: list[tuple[str, str]]) -> None:
    entered = list(dict.fromkeys(m for _, m in calls if not m.startswith(SHARED)))
    block, = re.findall(r'<!-- trace -->\n\n((?:    .*\n)+)', DOCUMENT.read_text())
    assert block.split() == entered, 'write this into docs/architecture.md:\n' + '\n'.join(entered)


def test_each_folder_is_entered_in_the_order_of_the_design(calls: list[tuple[str, str]]) -> None:
    folders = list(dict.fromkeys(stage(m) for _, m in calls if not m.startswith(SHARED)))
    assert folders == ['slam', 'slam/frontend', 'slam/dynamics', 'slam/backend', 'models',
                       'slam/products']


def test_nothing_calls_back(calls: list[tuple[str, str]]) -> None:
    """A stage calls those that follow, and what belongs to it; never the one that called it."""
    above = ('slam/driver.py', 'slam/system.py', 'slam/instants.py', 'slam/cameras.py',
             'slam/keyframing.py', 'slam/frame_records.py')
    forbidden = {
        'models': ('slam',), 'slam/dynamics': ('slam/frontend', 'slam/backend', *above),
        'slam/frontend': ('slam/backend', 'models/geometric', *above),
        'slam/backend': ('slam/frontend', 'slam/products', *above),
        'slam/products': ('slam/frontend', 'slam/backend', *above)}
    wrong = [(a, b) for a, b in calls if b.startswith(forbidden.get(stage(a), ('/',)))]
    assert wrong == []
