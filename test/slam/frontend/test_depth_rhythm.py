# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Keyframes of a camera with depth of some of its images."""

import numpy as np
import pytest
from recon3r_ros.slam.frontend.depth_rhythm import DepthRhythm, SPACING
from recon3r_ros.slam.options import FrontendOptions
from recon3r_ros.slam.types import Frame

_IMAGE, _DEPTH = np.zeros((4, 4, 3), np.uint8), np.ones((4, 4), np.float32)


def _spacings(measured: str) -> list[float]:
    rhythm = DepthRhythm()
    return [rhythm.spacing(Frame(i, i, str(i), _IMAGE, depth=_DEPTH if m == 'd' else None))
            for i, m in enumerate(measured)]


@pytest.mark.parametrize('measured', ('.' * 12, 'd' * 12, 'd' + '.' * 11))
def test_depth_of_none_of_all_or_of_the_first_image_changes_nothing(measured):
    assert _spacings(measured) == [1.0] * 12


def test_images_with_depth_become_keyframes_sooner_and_others_later():
    assert _spacings('d..d..d')[3:] == [1 / SPACING, SPACING, SPACING, 1 / SPACING]


def test_depth_that_ends_is_not_waited_for():
    assert _spacings('d..d' + '.' * 9)[4:] == [SPACING] * 3 + [1.0] * 6


def test_spaced_options_need_more_motion():
    usual, further = FrontendOptions(), FrontendOptions().spaced(SPACING)
    assert further.keyframe_overlap < usual.keyframe_overlap
    assert further.keyframe_parallax > usual.keyframe_parallax
    assert further.keyframe_rotation > usual.keyframe_rotation
