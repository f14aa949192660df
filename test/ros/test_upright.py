# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Orientation of the published map: by gravity once that is certain, and not for ever awaited."""

from __future__ import annotations

import numpy as np
from recon3r_ros.ros.upright import PATIENCE_NS, Upright
from recon3r_ros.slam.imu.gravity import Gravity, T_BODY_OPTICAL

BEGIN_NS = 1_700_000_000_000_000_000
SECOND_NS = 1_000_000_000


class Known:
    """Stands for a system with what it knows of gravity."""

    def __init__(self) -> None:
        self.found: Gravity | None = None

    def gravity(self, limit: int | None = None) -> Gravity | None:
        return self.found


def test_it_waits_until_gravity_is_certain():
    known = Known()
    upright = Upright(True, known)
    assert upright.placed(T_BODY_OPTICAL, 0) is None  # loaded, no image yet
    assert upright.placed(T_BODY_OPTICAL, BEGIN_NS) is None
    up = np.array([0.0, -0.9, -0.4]) / np.linalg.norm([0.0, -0.9, -0.4])
    known.found = Gravity(up, np.deg2rad(4), 'motion')
    assert upright.placed(T_BODY_OPTICAL, BEGIN_NS + SECOND_NS) is None
    assert 'wait' in upright.status
    known.found = Gravity(up, np.deg2rad(1), 'motion')
    T = upright.placed(T_BODY_OPTICAL, BEGIN_NS + 2 * SECOND_NS)
    assert np.allclose(T[:3, :3] @ up, [0, 0, 1])
    assert upright.status == 'in use, within 1.0 degrees, from motion'


def test_it_does_not_wait_for_ever():
    upright = Upright(True, Known())
    assert upright.placed(T_BODY_OPTICAL, BEGIN_NS) is None
    assert upright.placed(T_BODY_OPTICAL, BEGIN_NS + PATIENCE_NS - 1) is None
    assert np.array_equal(upright.placed(T_BODY_OPTICAL, BEGIN_NS + PATIENCE_NS), T_BODY_OPTICAL)
    assert upright.status.startswith('not in use')
    upright.forget()  # another map waits again
    assert upright.placed(T_BODY_OPTICAL, BEGIN_NS + PATIENCE_NS + 1) is None


def test_without_an_imu_nothing_changes():
    upright = Upright(False, Known())
    assert upright.placed(T_BODY_OPTICAL, 0) is T_BODY_OPTICAL and upright.status == ''
