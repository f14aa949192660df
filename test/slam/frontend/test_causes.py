# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Causes are measured, each where it applies."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from recon3r_ros.slam.frontend.causes import Cause, of_image, of_initialisation
from recon3r_ros.slam.frontend.keyframes import sharpness
from simulated import render, still_scene

IMAGE = render(still_scene(2, 24, 'handheld', 160, 120), 0).image[..., 1].copy()


def test_what_is_wrong_with_an_image() -> None:
    usual = sharpness(IMAGE)
    assert of_image(IMAGE, 0.2, usual) is None
    assert of_image(np.full_like(IMAGE, 90), 0.0, usual) is Cause.CONTRAST
    assert of_image((IMAGE // 20 + 100).astype(np.uint8), 0.0, usual) is Cause.CONTRAST
    assert of_image(IMAGE, 0.8, usual) is Cause.MASKED
    blurred = cv2.GaussianBlur(IMAGE, (0, 0), 4)
    assert of_image(blurred, 0.0, usual) is Cause.BLUR
    assert of_image(blurred, 0.0, 0.0) is None, 'nothing to compare with'


@pytest.mark.parametrize('shift, overlap, rejected, cause', [
    (0.1, 1.0, False, Cause.UNCHANGED), (0.9, 0.9, False, Cause.NO_PARALLAX),
    (5.0, 0.1, False, Cause.FEW_MATCHES), (5.0, 0.8, True, Cause.LITTLE_DEPTH)])
def test_why_a_map_does_not_start(shift: float, overlap: float, rejected: bool, cause: Cause
                                  ) -> None:
    assert of_initialisation(shift, overlap, rejected) is cause
