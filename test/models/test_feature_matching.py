# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Matching of descriptors against OpenCV's exhaustive matcher."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.models.feature_matching import match_features, match_similar


def descriptors(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    """Make unit vectors without negative elements, as RootSIFT's."""
    values = rng.random((count, 32)).astype(np.float32) ** 4
    return values / np.linalg.norm(values, axis=1, keepdims=True)


@pytest.mark.parametrize('counts', [(300, 257), (20, 500), (2, 2)])
@pytest.mark.parametrize('ratio', [0.7, 0.95])
def test_matches_are_the_exhaustive_matchers(counts: tuple[int, int], ratio: float) -> None:
    rng = np.random.default_rng(3)
    first, second = (descriptors(rng, count) for count in counts)
    common = min(counts) // 2
    second[:common] = first[:common][::-1] + rng.normal(0, 0.05, (common, 32))
    second /= np.linalg.norm(second, axis=1, keepdims=True)
    matcher = cv2.BFMatcher(cv2.NORM_L2)
    back = {m.queryIdx: m.trainIdx for m in matcher.match(second, first)}
    expected = [(m.queryIdx, m.trainIdx) for m, n in matcher.knnMatch(first, second, k=2)
                if m.distance < ratio * n.distance and back[m.trainIdx] == m.queryIdx]
    found = match_features(first, second, ratio)
    assert list(zip(*found)) == expected
    assert len(expected) > 0.3 * common


def test_a_descriptor_that_occurs_twice_does_not_match() -> None:
    first = descriptors(np.random.default_rng(4), 40)
    second = np.concatenate([first, first[:10]])
    index, other = match_features(first, second, 0.9)
    assert np.array_equal(index, np.arange(10, 40)) and np.array_equal(other, index)


def test_similar_matches_are_those_of_a_cross_check() -> None:
    rng = np.random.default_rng(5)
    first, second = descriptors(rng, 200), descriptors(rng, 180)
    second[:90] = first[:90][::-1] + rng.normal(0, 0.05, (90, 32))
    second /= np.linalg.norm(second, axis=1, keepdims=True)
    matched = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True).match(first, second)
    for least in (-1.0, 0.8):
        # The squared distance of unit vectors is 2 - 2 s
        expected = [(m.queryIdx, m.trainIdx) for m in matched if m.distance**2 < 2 - 2 * least]
        assert list(zip(*match_similar(first, second, least))) == expected
        assert len(expected) > 80
