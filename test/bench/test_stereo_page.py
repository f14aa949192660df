# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the page of stereo rigs counts, and the real pair."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from recon3r_ros.bench.measures import Measure
from recon3r_ros.bench.stereo import AT_REST, at_rest, occluded, PAIR, pair
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.slam.types import Frame, StereoView

if TYPE_CHECKING:
    from conftest import SharedData  # several folders have a conftest: not to be imported by name


def test_occluded_pixels_are_left_of_what_is_near() -> None:
    """A plate at 1 m before a wall at 4 m: disparities are 20 and 5 pixels."""
    camera = Camera(100, 20, 100.0, 100.0, 49.5, 9.5)
    T_cam_other = np.eye(4)
    T_cam_other[0, 3] = 0.2
    black = np.zeros((20, 100), np.uint8)
    frame = Frame(black, 0, '0', 0, camera, stereo=StereoView(black, camera, T_cam_other))
    depth = np.full((20, 100), 4.0)
    depth[:, 50:70] = 1.0
    depth[:, 90:] = 0.0
    expected = np.zeros((20, 100), bool)
    expected[:, :5] = expected[:, 35:50] = True
    assert np.array_equal(occluded(depth, frame), expected)


def test_targets() -> None:
    assert Measure('a', 'b', 86.0, 85, least=True).met()
    assert Measure('a', 'b', 84.0, 85, least=True).row()[4] == '**no**'
    assert not Measure('a', 'b', 0.6, 0.5).met() and Measure('a', 'b', 0.5, 0.5).met()
    assert not Measure('a', 'b', None, 0.5).met() and Measure('a', 'b', 3.0, None).row()[4] == ''


@pytest.mark.parametrize('name, run', [(PAIR, pair), (AT_REST, at_rest)])
def test_real_rigs(shared_data: SharedData, name: str, run: Callable[[Path], list[Measure]]
                   ) -> None:
    for measure in run(shared_data.pack(name)):
        assert measure.target is None or measure.met(), measure.row()
