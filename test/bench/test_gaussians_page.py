# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which views the page of Gaussians leaves out, and how it compares images."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from recon3r_ros.bench.gaussians import is_far, psnr
from recon3r_ros.cli.refined_gaussians import as_tensors
from recon3r_ros.geometry import se3
from recon3r_ros.models.gaussian_refinement import PosedView
from recon3r_ros.slam.types import Gaussians
import torch


def test_views_near_one_that_is_left_out_are_not_used():
    poses = np.stack([np.eye(4)] * 4)
    poses[1, 0, 3], poses[2, 0, 3] = 0.29, 0.31
    poses[3, :3, :3] = se3.so3_exp([0, np.deg2rad(16), 0])
    assert [is_far(i, [SimpleNamespace(index=0)], poses) for i in range(4)] == [
        False, False, True, True]


def test_ratio_is_of_the_whole_image_on_the_background():
    behind_the_camera = Gaussians(
        np.array([[0, 0, -1]], np.float32), np.array([[1, 0, 0, 0]], np.float32),
        np.ones((1, 3), np.float32), np.array([0.5], np.float32), np.zeros((1, 3), np.float32))
    view = PosedView(torch.full((6, 8, 3), 0.5), torch.eye(3), torch.eye(4))
    ratio, seen = psnr(as_tensors(behind_the_camera), [view], torch.full((3,), 0.6))
    assert ratio == pytest.approx(20, abs=1e-3) and seen == 0
