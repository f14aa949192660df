# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recorded stereo rigs."""

from __future__ import annotations

import numpy as np
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.io.recorded_rigs import open_recorded_rig


def test_a_pack(shared_data):
    rig = open_recorded_rig(shared_data.pack('stereo_motorcycle'))
    (first, left), (second, right) = rig.in_order()
    assert (first, second) == (0, 1) and left.stamp_ns == right.stamp_ns
    assert left.camera.cx == 311.193 and right.camera.cx == 342.279
    assert rig.T_first_second[0, 3] == 0.193001


def test_euroc(shared_data):
    rig = open_recorded_rig(shared_data.pack('euroc_v101_stereo_imu'))
    frames = list(rig.in_order())
    assert [number for number, _ in frames] == [0, 1] * 8
    assert all(a.stamp_ns == b.stamp_ns
               for (_, a), (_, b) in zip(frames[::2], frames[1::2]))
    assert np.linalg.norm(rig.T_first_second[:3, 3]) == pytest.approx(0.11, abs=0.001)
    assert frames[0][1].camera != frames[1][1].camera


def test_what_is_no_rig_is_refused(tmp_path):
    with pytest.raises(InputError, match='no stereo rig: expected left/'):
        open_recorded_rig(tmp_path)
    (tmp_path / 'rig.json').write_text('{"left": {}}')
    with pytest.raises(InputError, match='T_left_right: missing'):
        open_recorded_rig(tmp_path)
