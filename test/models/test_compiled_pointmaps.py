# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Dense matches by exact flows, and their forward-backward check."""

import cv2
import numpy as np
from recon3r_ros.geometry import flow
from recon3r_ros.models.compiled_pointmaps import FLOW_ERROR, matched, quantile

HEIGHT, WIDTH = 120, 160
TEXTURE = np.full((HEIGHT, WIDTH), 1e9, np.float32)  # plain texture adds nothing to the error


def flows():
    """Give an affine flow, its inverse, and the targets (H, W, 2) of the first."""
    A = np.array([[1.09, -0.1, 4.0], [0.1, 1.09, -7.0]])
    positions = flow.pixel_positions(HEIGHT, WIDTH)
    inverse = cv2.invertAffineTransform(A)
    forward, backward = ((positions @ B[:, :2].T + B[:, 2] - positions).astype(np.float32)
                         for B in (A, inverse))
    return forward, backward, positions + forward


def test_errors_of_exact_flows():
    forward, backward, target = flows()
    targets, error = matched(forward, backward, TEXTURE)
    np.testing.assert_allclose(np.moveaxis(targets, 0, -1), target, atol=1e-4)
    outside = np.any((target < -0.1) | (target > [WIDTH - 0.9, HEIGHT - 0.9]), axis=2)
    inner = np.all((target >= 1) & (target <= [WIDTH - 2, HEIGHT - 2]), axis=2)
    assert np.isinf(error[outside]).all() and outside.any()
    np.testing.assert_allclose(error[inner], FLOW_ERROR, atol=0.01)


def test_an_error_of_the_backward_flow_is_one_of_the_match():
    forward, backward, target = flows()
    inner = np.all((target >= 1) & (target <= [WIDTH - 2, HEIGHT - 2]), axis=2)
    _, error = matched(forward, backward + np.float32([0.3, 0.4]), TEXTURE)
    np.testing.assert_allclose(error[inner], np.hypot(FLOW_ERROR, 0.5), atol=0.02)
    _, error = matched(forward, backward + np.float32([3, 4]), TEXTURE)
    assert np.isinf(error[inner]).all()


def test_quantile_is_that_of_numpy():
    rng = np.random.default_rng(0)
    for count in (1, 2, 7, 1000, 4001):
        values = rng.lognormal(0, 4, count).astype(np.float32)
        for share in (0.0, 0.3, 0.5, 0.98, 1.0):
            np.testing.assert_allclose(quantile(values, share), np.quantile(values, share),
                                       rtol=1e-5)
