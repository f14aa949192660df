# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which keyframes are processed jointly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.slam.backend import pair_graph


def descriptors(angles: list[float]) -> list[NDArray[np.float32]]:
    """Return unit vectors in a plane, in a space of 20 dimensions."""
    vectors = []
    for angle in angles:
        vector = np.zeros(20, np.float32)
        vector[3], vector[7] = np.cos(angle), np.sin(angle)
        vectors.append(vector)
    return vectors


@pytest.mark.parametrize('count', [1, 2, 3, 4, 5, 8, 50])
def test_window_partners(count: int) -> None:
    partners = pair_graph.window_partners(count)
    assert all(0 <= p < count - 1 for p in partners), 'in range, and never itself'
    assert len(set(partners)) == len(partners)
    assert partners == sorted(partners, reverse=True)
    assert partners == pair_graph.window_partners(count)
    if count > 1:
        assert partners[0] == count - 2


@pytest.mark.parametrize('count', range(1, 40))
def test_the_graph_is_connected(count: int) -> None:
    reached = {0}
    for newest in range(1, count):
        partners = pair_graph.window_partners(newest + 1)
        assert reached & set(partners)
        reached.add(newest)
    assert len(reached) == count


def test_a_place_seen_again_is_a_loop() -> None:
    around = descriptors([0.3 * k for k in range(12)] + [0.32])
    assert pair_graph.loop_candidate(around, 8) == 1


def test_a_new_place_is_no_loop() -> None:
    assert pair_graph.loop_candidate(descriptors([0.1 * k for k in range(13)]), 8) is None


def test_recent_keyframes_are_no_loops() -> None:
    still = descriptors([2.0 - 0.1 * k for k in range(4)] + [0.0] * 9)
    found = pair_graph.loop_candidate(still, 8)
    assert found is None or found <= len(still) - 1 - 8


def test_the_threshold_adapts_to_the_scene() -> None:
    """As similar as the window's farthest partner: enough where views change fast, else not."""
    fast = descriptors([0.2] + [1.0] * 7 + [0.8, 0.7, 0.6, 0.3, 0.0])
    assert pair_graph.loop_candidate(fast, 8) == 0
    slow = descriptors([0.2] + [1.0] * 7 + [0.04, 0.03, 0.02, 0.01, 0.0])
    assert pair_graph.loop_candidate(slow, 8) is None


@pytest.mark.parametrize('count', [1, 2, 5, 8])
def test_no_loops_in_a_short_sequence(count: int) -> None:
    assert pair_graph.loop_candidate(descriptors([0.0] * count), 8) is None


@pytest.mark.parametrize('count', [2, 3, 5, 9, 20])
def test_relocalisation_candidates(count: int) -> None:
    angles = list(np.random.default_rng(count).uniform(0, 3, count))
    ages = list(range(count - 1, 0, -1))
    groups = pair_graph.relocalisation_candidates(descriptors(angles), ages, 5)
    assert groups[0][0] == count - 2, 'the newest first'
    everything = [c for group in groups for c in group]
    assert all(0 <= c < count - 1 for c in everything)
    assert len(set(everything)) == len(everything)
    nearest = int(np.argmin(np.abs(np.array(angles[:-1]) - angles[-1])))
    assert nearest in everything, 'the place that looks most alike is among them'


def test_relocalisation_begins_near_in_time_and_may_try_everything() -> None:
    angles, ages = [0.1 * i for i in range(20)], [abs(i - 6.5) for i in range(19)]
    groups = pair_graph.relocalisation_candidates(descriptors(angles), ages, 50)
    assert sorted(groups[0]) == [6, 7]
    assert sorted(c for group in groups for c in group) == list(range(19))
    assert len(pair_graph.relocalisation_candidates(descriptors(angles), ages, 3)[1]) == 3


def test_after_a_long_time_relocalisation_begins_with_what_looks_most_alike() -> None:
    angles, ages = [0.1 * i for i in range(9)] + [0.12], [(9 - i) * 10**9 for i in range(9)]
    soon = pair_graph.relocalisation_candidates(descriptors(angles), ages, 5)
    late = pair_graph.relocalisation_candidates(
        descriptors(angles), [age + pair_graph.ANYWHERE_NS for age in ages], 5)
    assert soon[0] == [8, 7] and soon[1][0] == 1
    assert late == [soon[1], soon[0]]


def poses(xs: list[float], yaws: list[float]) -> NDArray[np.float64]:
    """T_map_cam (N, 4, 4) of cameras along a line that look to a side, radians."""
    return np.stack([se3.from_rt(se3.so3_exp([0, yaw, 0]), [x, 0, 0])
                     for x, yaw in zip(xs, yaws)])


def test_the_most_redundant_keyframe_is_the_one_with_the_nearest_neighbour() -> None:
    chain = poses([0, 1, 2, 2.4, 3.5], [0] * 5)
    assert pair_graph.most_redundant(chain, np.ones(5), [0, 1, 2]) == (2, 3)
    assert pair_graph.most_redundant(chain, np.ones(5), [0, 3, 4]) == (3, 2)
    assert pair_graph.most_redundant(chain, np.ones(5), [4]) == (4, 3), 'only candidates go'


def test_distances_count_relative_to_the_depth() -> None:
    """Farther apart in metres, but its scene is farther away still."""
    chain = poses([0, 1, 5, 7], [0] * 4)
    assert pair_graph.most_redundant(chain, np.array([1.0, 1, 9, 9]), [1, 2]) == (2, 3)
    assert pair_graph.most_redundant(chain, np.ones(4), [1, 2]) == (1, 0)


@pytest.mark.parametrize('turn, neighbour', [(0.4, 2), (0.6, 0)])
def test_a_turn_counts_like_the_shift_that_it_makes(turn: float, neighbour: int) -> None:
    """Half a metre aside at a metre's depth, or at the same place, turned."""
    chain = poses([0, 0.5, 0.5], [0, 0, turn])
    assert pair_graph.most_redundant(chain, np.ones(3), [1]) == (1, neighbour)


def test_two_keyframes_at_one_place() -> None:
    chain = poses([0, 1, 1], [0, 0.3, 0.3])
    assert pair_graph.most_redundant(chain, np.ones(3), [1]) == (1, 2)


def test_an_empty_map_has_no_candidates() -> None:
    assert pair_graph.relocalisation_candidates(descriptors([0.0]), [], 5) == []
