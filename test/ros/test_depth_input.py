# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Depth of the node: which image it belongs to, in whose view, and what is said without."""

from __future__ import annotations

import numpy as np
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.ros import conversions
from recon3r_ros.ros.depth_input import apart_ns, DepthInput

COLOUR = Camera(320, 240, 260.0, 260.0, 159.5, 119.5)
DEPTH = Camera(320, 240, 290.0, 290.0, 158.0, 121.0)
T_COLOUR_DEPTH = se3.from_rt(np.eye(3), np.array([0.05, 0.0, 0.01]))
MS = 1_000_000


def made(T=None):
    """Return an input whose TF knows one transform, and its warnings."""
    warnings = []
    known = {('colour', 'depth'): T}
    return DepthInput('camera', lambda *pair: known.get(pair), warnings.append), warnings


def wall(stamp_ns, frame_id, metres=2.0, camera=DEPTH):
    depth = np.full((camera.height, camera.width), metres, np.float32)
    return conversions.depth_message(depth, stamp_ns, frame_id)


def test_registered_depth_is_taken_as_it_is():
    for frame_id in ('colour', '', '/colour'):
        depth, warnings = made()
        depth.on_depth(wall(0, frame_id))
        assert (depth.of(0, 0.0, 'colour', None) == np.float32(2)).all() and not warnings
        depth.on_info(conversions.camera_info_message(COLOUR, 0, frame_id))
        assert (depth.of(0, 0.0, 'colour', COLOUR) == np.float32(2)).all() and not warnings


def test_depth_of_another_frame_is_warped():
    depth, warnings = made(T_COLOUR_DEPTH)
    depth.on_info(conversions.camera_info_message(DEPTH, 0, 'depth'))
    depth.on_depth(wall(0, 'depth'))
    found = depth.of(0, 0.0, 'colour', COLOUR)
    assert not warnings
    np.testing.assert_allclose(found[60:180, 80:240], 2.01, atol=1e-4)
    # The depth camera's field of view is narrower
    assert np.isnan(found[:, 0]).all()


def test_depth_of_other_intrinsics_is_warped_without_tf():
    depth, _ = made()
    depth.on_info(conversions.camera_info_message(DEPTH, 0, 'colour'))
    depth.on_depth(wall(0, 'colour'))
    found = depth.of(0, 0.0, 'colour', COLOUR)
    assert np.isnan(found[:, 0]).all() and np.isfinite(found[60:180, 80:240]).all()


@pytest.mark.parametrize('T, info, colour, remedy', [
    (None, True, COLOUR, '/tf_static'), (T_COLOUR_DEPTH, False, COLOUR, 'depth/camera_info'),
    (T_COLOUR_DEPTH, True, None, 'set calibration')])
def test_what_is_missing_is_named(T, info, colour, remedy):
    depth, warnings = made(T)
    if info:
        depth.on_info(conversions.camera_info_message(DEPTH, 0, 'depth'))
    depth.on_depth(wall(0, 'depth'))
    assert depth.of(0, 0.0, 'colour', colour) is None
    line, = warnings
    assert line.startswith('camera/depth: ') and remedy in line


@pytest.mark.parametrize('rate, offset, paired', [
    (15, 30, True), (15, -30, True), (10, 49, True), (30, 16, True), (5, 60, False)])
def test_a_constant_offset_is_paired(rate, offset, paired):
    """The nearest one, up to half a period away."""
    depth, _ = made()
    period = 1000 // rate
    for n in range(5):
        depth.on_depth(wall((1000 + n * period + offset) * MS, '', 1.0 + n))
    for n in range(1, 4):
        found = depth.of((1000 + n * period) * MS, 1 / rate, 'colour', None)
        assert (found is not None) == paired
        assert found is None or found[0, 0] == 1.0 + n


def test_depth_that_is_slower_belongs_to_one_image():
    """Of images at 30 Hz, depth at 5 Hz is not taken for those far away."""
    assert apart_ns([0, 200 * MS, 400 * MS], 1 / 30) == 25 * MS
    assert apart_ns([0], 0.0) == 25 * MS
