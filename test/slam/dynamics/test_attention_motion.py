# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Easi3R's statistics on attention that is made up from true motion: steady as a window slides."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.models.types import PairAttention
from recon3r_ros.slam.dynamics.attention_motion import (
    AttentionMotion,
    complete,
    offline,
    threshold,
)

ROWS, COLUMNS, CHANNELS = 18, 24, 24
#: Views in all, and the one from which on nothing moves
VIEWS, STILL = 18, 10
SIZE = (COLUMNS * 16, ROWS * 16)
Mask = NDArray[np.bool_]


def moving_tokens(i: int) -> Mask:
    """Dynamic object in view i: it moves from left to right."""
    mask = np.zeros((ROWS, COLUMNS), bool)
    if i < STILL:
        mask[6:13, 3 + i:9 + i] = True
    return mask


def attention(i: int, j: int) -> PairAttention:
    """
    Make statistics up, as the paper's section 3.2 describes them.

    As second view little is asked of what moves, and differently from pair to pair; as first view
    much is, and always the same. Every pair has a range and noise of its own.
    """
    rng = np.random.default_rng([7, i, j])
    gain = rng.uniform(0.8, 1.25)

    def noisy(moving: Mask, level: float, spread: float) -> NDArray[np.float16]:
        still = rng.normal(0.0, 0.25, (ROWS, COLUMNS, CHANNELS))
        own = level + spread * rng.normal(0.0, 1.0, CHANNELS) + 0.5 * still
        return (gain * np.where(moving[..., None], own, still)).astype(np.float16)
    return PairAttention(noisy(moving_tokens(i), 1.5, 0.1), noisy(moving_tokens(j), -1.5, 0.8))


def features(i: int) -> NDArray[np.float32]:
    """Tokens of the dynamic object differ from the others."""
    rng = np.random.default_rng([8, i])
    tokens = rng.normal(0, 0.1, (ROWS, COLUMNS, 16)) + np.linspace(0, 3, COLUMNS)[:, None]
    tokens[..., 0] += 5 * moving_tokens(i)
    return tokens.astype(np.float32)


def pairs(count: int) -> list[tuple[int, int]]:
    """Directed pairs at offsets 1 and 2."""
    return [(i, j) for i in range(count) for j in range(count) if abs(i - j) in (1, 2)]


def overlap(found: Mask, true: Mask) -> float:
    """Jaccard index."""
    return float((found & true).sum() / max((found | true).sum(), 1))


def true_pixels(i: int) -> Mask:
    """Mask of view i in pixels."""
    return np.kron(moving_tokens(i), np.ones((16, 16), bool))


def test_a_whole_sequence() -> None:
    edges = {pair: attention(*pair) for pair in pairs(8)}
    masks = offline(edges, {i: features(i) for i in range(8)}, SIZE)
    assert sorted(masks) == list(range(8))
    assert min(overlap(m.pixels(*SIZE), true_pixels(i)) for i, m in masks.items()) > 0.7


def test_an_image_needs_two_pairs_each_way() -> None:
    edges = {pair: attention(*pair) for pair in [(0, 1), (1, 0), (0, 2), (2, 0)]}
    assert complete(edges) == [0]
    assert offline({(0, 1): attention(0, 1)}, {0: features(0), 1: features(1)}, SIZE) == {}


def slide(motion: AttentionMotion, fresh: bool) -> list[dict[int, Mask]]:
    """Masks of a window of six that slides along all views."""
    found = []
    for new in range(VIEWS):
        motion.see(new, features(new))
        for i, j in pairs(VIEWS):
            if max(i, j) == new:
                motion.add(i, j, attention(i, j))
        motion.keep(range(max(0, new - 5), new + 1))
        if fresh:
            edges, known = motion._of_shape(new, motion._window)
            masks = offline(edges, known, SIZE)
        else:
            masks = motion.masks(new, SIZE)
        found.append({i: m.pixels(*SIZE) for i, m in masks.items()})
    return found


@cache
def online_masks() -> tuple[AttentionMotion, list[dict[int, Mask]]]:
    """Slide once for all tests."""
    motion = AttentionMotion()
    return motion, slide(motion, fresh=False)


@pytest.mark.slow
def test_masks_of_a_sliding_window_are_steady() -> None:
    """A view's mask is steady from window to window, and so are masks of consecutive views."""
    def steadiness(found: list[dict[int, Mask]]) -> float:
        """Of the masks of one view."""
        return float(np.mean([overlap(now[i], before[i])
                              for before, now in zip(found, found[1:]) for i in now
                              if i in before and i < STILL]))

    def warped(found: list[dict[int, Mask]]) -> float:
        """Of the masks of consecutive views, brought together by the true flow."""
        return float(np.mean([overlap(np.roll(masks[i], 16, axis=1), masks[i + 1])
                              for masks in found for i in masks
                              if i + 1 in masks and i + 1 < STILL]))

    _, online = online_masks()
    restarted = slide(AttentionMotion(), fresh=True)
    assert not online[1], 'one pair each way tells nothing'
    quality = [overlap(m, true_pixels(i)) for masks in online for i, m in masks.items()
               if i < STILL]
    assert np.mean(quality) > 0.9
    assert steadiness(online) > 0.9 and warped(online) > 0.95
    # Where nothing moves, a window by itself makes something of its noise
    alarms = [np.mean([m.mean() for masks in found for i, m in masks.items() if i >= STILL + 2])
              for found in (online, restarted)]
    assert alarms[0] < 0.005 < alarms[1]


@pytest.mark.slow
def test_memory_is_that_of_the_window() -> None:
    (online, _), everything = online_masks(), AttentionMotion(everything=True)
    slide(everything, fresh=False)
    assert len(online._edges) == len([p for p in pairs(VIEWS) if min(p) >= VIEWS - 6])
    assert len(everything._edges) == len(pairs(VIEWS))
    assert sorted(everything.all_masks(VIEWS - 1, SIZE)) == list(range(VIEWS))


@pytest.mark.parametrize('value', [0.0, 0.5])
def test_where_all_is_alike_nothing_moves(value: float) -> None:
    assert threshold(np.full((2, 8, 8), value, np.float32)) == float('inf')
