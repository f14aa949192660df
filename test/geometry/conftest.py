# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Factories shared by the geometry tests."""

import numpy as np
import pytest
from recon3r_ros.geometry.camera import Camera

CAMERAS = {
    'pinhole': Camera(640, 480, 525.0, 520.0, 321.5, 238.0),
    'barrel': Camera(752, 480, 458.0, 457.0, 367.0, 248.0, (-0.283, 0.074, 2e-4, 2e-5)),
    'pincushion': Camera(640, 480, 517.0, 516.0, 318.0, 255.0, (0.26, -0.95, -5e-3, 3e-3, 1.16)),
    'rational': Camera(640, 400, 300.0, 300.0, 320.0, 200.0,
                       (0.8, 0.1, 1e-4, 2e-4, 0.01, 1.1, 0.3, 0.02), 'rational_polynomial'),
    'thin prism': Camera(640, 400, 300.0, 300.0, 320.0, 200.0,
                         (0.3, 0.05, 1e-4, 2e-4, 0.01, 0.4, 0.1, 0.02, 4e-3, -1e-3, 2e-3, 3e-3),
                         'rational_polynomial'),
    'tilted': Camera(640, 400, 300.0, 305.0, 320.0, 200.0,
                     (0.3, 0.05, 1e-4, 2e-4, 0.01, 0.4, 0.1, 0.02, 4e-3, -1e-3, 2e-3, 3e-3,
                      0.05, -0.08), 'rational_polynomial'),
    'fisheye': Camera(512, 512, 190.9, 190.8, 254.9, 256.9, (3e-3, 7e-4, -2e-3, 2e-4),
                      'equidistant'),
    'plain fisheye': Camera(512, 400, 200.0, 200.0, 255.5, 199.5, (0.0,) * 4, 'equidistant'),
}


@pytest.fixture(params=list(CAMERAS))
def camera(request: pytest.FixtureRequest) -> Camera:
    """Every lens model in turn."""
    return CAMERAS[request.param]


@pytest.fixture
def rng() -> np.random.Generator:
    """Give each test the same random numbers."""
    return np.random.default_rng(7)
