# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The errors of a simulated depth camera."""

import numpy as np
import pytest
from recon3r_ros.sim.depth_camera import FARTHEST, HOLE_RADIUS, HOLES, measured


@pytest.mark.parametrize('metres', [1.0, 4.0])
def test_noise_grows_with_the_square(metres: float) -> None:
    depth = measured(np.full((240, 320), metres, np.float32), np.random.default_rng(1))
    holes = np.isnan(depth).mean()
    assert 0 < holes <= 1.1 * HOLES * np.pi * HOLE_RADIUS ** 2 * 320 / 240
    assert np.nanstd(depth) == pytest.approx(1.42e-3 * metres ** 2, rel=0.02)
    assert np.nanmean(depth) == pytest.approx(metres, rel=1e-4)


def test_pixels_fly_at_steps_alone() -> None:
    true = np.full((240, 320), 2.0, np.float32)
    true[:, 160:] = 3.0
    depth = measured(true, np.random.default_rng(2))
    flying = (depth > 2.1) & (depth < 2.9)
    assert not np.delete(flying, [159, 160], axis=1).any()
    assert 0.2 < flying[:, 159:161].mean() < 0.5
    assert np.isnan(depth[:, 159:161]).mean() > np.isnan(depth).mean() + 0.1


def test_the_range_is_limited() -> None:
    true = np.full((240, 320), FARTHEST + 0.1, np.float32)
    true[:120] = 0.3
    assert np.isnan(measured(true, np.random.default_rng(3))).all()
