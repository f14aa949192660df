# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The Sim(3) graph of keyframes: a path around a room whose scale and heading drift by known amounts.

Each step stretches the map by the same factor and turns it by the same angle. A loop that is
measured exactly corrects both, evenly along the path, so that ground truth is recovered
everywhere.
"""

from __future__ import annotations

from dataclasses import replace

from keyframes_by_hand import keyframe, predicted, TrueViewpoint
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry import se3, sim3
from recon3r_ros.slam.backend.map_graph import MapGraph
from recon3r_ros.slam.types import Correspondence, Keyframe, Pair
from simulated import degrees_between

Array = NDArray[np.float64]
COUNT, DRIFT, TURN = 10, 1.03, 0.01
NO_CORRESPONDENCE = Correspondence(np.zeros((48, 64, 2), np.float32),
                                   np.zeros((48, 64), np.float32))


def true_poses() -> list[Array]:
    """T_map_cam on a circle that is closed but for a last step; all look roughly ahead."""
    angles = 2 * np.pi * np.arange(COUNT) / COUNT
    return [se3.from_rt(se3.so3_exp([0.0, 0.2 * np.sin(a), 0.0]),
                        [0.8 * np.cos(a) - 0.8, 0.3 * np.sin(2 * a), 0.8 * np.sin(a)])
            for a in angles]


def drifted(poses: list[Array]) -> dict[int, Keyframe]:
    """Make keyframes whose map units grow, and whose heading turns, step by step."""
    T, keyframes = poses[0], {}
    for i, true in enumerate(poses):
        if i:
            step = se3.inverse(poses[i - 1]) @ true
            T = T @ se3.exp([0, TURN, 0, 0, 0, 0]) @ se3.stretched(step, DRIFT ** (i - 1))
        keyframes[i] = replace(keyframe(i, true, DRIFT ** i, textured=True), T_map_cam=T)
    return keyframes


def chain(count: int) -> list[tuple[int, int]]:
    """Link neighbours."""
    return [(i, i + 1) for i in range(count - 1)]


def exact_pair(partner: int, T_map_partner: Array, T_map_new: Array, units: tuple[float, float]
               ) -> Pair:
    """Predict two views, each way in a unit of its own."""
    old, new = TrueViewpoint(T_map_partner), TrueViewpoint(T_map_new)
    return Pair(partner, predicted(old, new, units[0]), predicted(new, old, units[1]),
                NO_CORRESPONDENCE, NO_CORRESPONDENCE)


def assert_same(S: Array, expected: Array, scale: float, degrees: float, distance: float) -> None:
    """Compare two similarities."""
    (s, R, t), (s_true, R_true, t_true) = sim3.decompose(S), sim3.decompose(expected)
    assert s / s_true == pytest.approx(1, abs=scale)
    assert degrees_between(R, R_true) < degrees
    assert np.linalg.norm(t - t_true) < distance


@pytest.mark.parametrize('units', [(1.0, 1.0), (0.4, 3.0)])
def test_a_loop_edge_measures_motion_and_drift_of_scale(units: tuple[float, float]) -> None:
    """Whatever the units of its predictions are."""
    poses = true_poses()
    keyframes, graph, last = drifted(poses), MapGraph(), COUNT - 1
    graph.extend(keyframes, chain(COUNT))
    edge = graph.loop_edge(exact_pair(0, poses[0], poses[last], units), keyframes[0],
                           keyframes[last])
    assert edge is not None and (edge.i, edge.j) == (0, last)
    T = se3.inverse(poses[0]) @ poses[last]
    assert_same(edge.S_i_j, sim3.compose(DRIFT ** -last, T[:3, :3], T[:3, 3]), 1e-4, 0.01, 1e-3)
    assert edge.depth == pytest.approx(keyframe(0, poses[0]).median_depth())
    assert 0 <= edge.sigma < 1e-3, 'the predictions are exact'


def test_a_loop_of_a_map_in_metres_has_no_scale() -> None:
    poses = true_poses()
    keyframes, graph, last = drifted(poses), MapGraph(), COUNT - 1
    graph.extend(keyframes, chain(COUNT))
    edge = graph.loop_edge(exact_pair(0, poses[0], poses[last], (1.0, 1.0)), keyframes[0],
                           keyframes[last], metric=True)
    assert edge is not None
    assert_same(edge.S_i_j, se3.inverse(poses[0]) @ poses[last], 1e-9, 0.01, 1e-3)


def test_a_loop_that_looks_wrong_is_not_closed() -> None:
    """Whatever its depths say: another room may have the same shape."""
    poses = true_poses()
    keyframes, last = drifted(poses), COUNT - 1
    graph = MapGraph()
    graph.extend(keyframes, chain(COUNT))
    elsewhere = replace(keyframes[last], gray=np.ascontiguousarray(keyframes[last].gray[::-1]))
    pair = exact_pair(0, poses[0], poses[last], (1.0, 1.0))
    assert graph.loop_edge(pair, keyframes[0], keyframes[last]) is not None
    assert graph.loop_edge(pair, keyframes[0], elsewhere) is None


def test_closing_a_loop_undoes_the_drift_all_along_the_way() -> None:
    poses = true_poses()
    keyframes, graph, last = drifted(poses), MapGraph(), COUNT - 1
    before = max(float(np.linalg.norm(keyframes[i].T_map_cam[:3, 3] - T[:3, 3]))
                 for i, T in enumerate(poses))
    assert before > 0.1
    graph.extend(keyframes, chain(COUNT))
    edge = graph.loop_edge(exact_pair(0, poses[0], poses[last], (1.0, 1.0)), keyframes[0],
                           keyframes[last])
    assert edge is not None
    nodes = graph.close(edge)
    assert sorted(nodes) == list(range(COUNT))
    for i, true in enumerate(poses):
        expected = sim3.compose(DRIFT ** -i, true[:3, :3], true[:3, 3])
        assert_same(nodes[i], expected, 0.01, 0.3, 0.15 * before)
    # The loop is measured far better than the way: its ends fit it
    T = se3.inverse(poses[0]) @ poses[last]
    assert_same(sim3.inverse(nodes[0]) @ nodes[last],
                sim3.compose(DRIFT ** -last, T[:3, :3], T[:3, 3]), 1e-3, 0.05, 2e-3)
    assert np.allclose(nodes[0], poses[0], atol=1e-4), 'the first keyframe is the origin'


def test_a_loop_that_agrees_changes_nothing() -> None:
    poses = true_poses()
    keyframes = {i: keyframe(i, T, textured=True) for i, T in enumerate(poses)}
    graph = MapGraph()
    graph.extend(keyframes, chain(COUNT))
    edge = graph.loop_edge(exact_pair(0, poses[0], poses[-1], (2.0, 0.5)), keyframes[0],
                           keyframes[COUNT - 1])
    assert edge is not None
    for i, S in graph.close(edge).items():
        assert_same(S, poses[i], 1e-3, 0.02, 2e-3)


def test_depths_that_loops_have_scaled_are_brought_back_to_those_of_the_nodes() -> None:
    """A second loop is measured with present depths; nodes stand for those at the beginning."""
    poses = true_poses()
    scales = {0: 1.25, 4: 0.6}
    keyframes = {i: keyframe(i, poses[i], s, textured=True) for i, s in scales.items()}
    graph = MapGraph()
    graph.scales = dict(scales)
    graph.extend(keyframes, [(0, 4)])
    edge = graph.loop_edge(exact_pair(0, poses[0], poses[4], (1.0, 1.0)), keyframes[0],
                           keyframes[4])
    assert edge is not None
    # All depths were metres before they were scaled
    assert_same(edge.S_i_j, se3.inverse(poses[0]) @ poses[4], 1e-4, 0.01, 1e-3)
    assert edge.depth == pytest.approx(keyframe(0, poses[0]).median_depth())


def test_nodes_stand_for_the_present_map() -> None:
    """Where keyframes were scaled, a loop that agrees with the map gives these scales back."""
    poses = true_poses()[:4]
    keyframes = {i: keyframe(i, T, 0.8, textured=True) for i, T in enumerate(poses)}
    graph = MapGraph()
    graph.scales = dict.fromkeys(keyframes, 0.8)
    graph.extend(keyframes, chain(4))
    edge = graph.loop_edge(exact_pair(0, poses[0], poses[3], (1.0, 1.0)), keyframes[0],
                           keyframes[3])
    assert edge is not None
    for i, S in graph.close(edge).items():
        T = poses[i]
        assert_same(S, sim3.compose(0.8, T[:3, :3], 0.8 * T[:3, 3]), 1e-3, 0.02, 2e-3)


@pytest.mark.parametrize('unknown', ['partner', 'new'])
def test_without_depth_there_is_no_loop_edge(unknown: str) -> None:
    poses = true_poses()
    keyframes, graph = {i: keyframe(i, poses[i], textured=True) for i in (0, 5)}, MapGraph()
    graph.extend(keyframes, [(0, 5)])
    i = 0 if unknown == 'partner' else 5
    nothing = np.zeros_like(keyframes[i].inverse_depth)
    keyframes[i] = replace(keyframes[i], inverse_depth=nothing, confidence=nothing)
    pair = exact_pair(0, poses[0], poses[5], (1.0, 1.0))
    assert graph.loop_edge(pair, keyframes[0], keyframes[5]) is None


def test_views_that_share_nothing_give_no_loop_edge() -> None:
    poses = [np.eye(4), se3.from_rt(se3.so3_exp([0, np.pi, 0]), np.zeros(3))]
    keyframes, graph = {i: keyframe(i, T, textured=True) for i, T in enumerate(poses)}, MapGraph()
    graph.extend(keyframes, [(0, 1)])
    pair = exact_pair(0, *poses, (1.0, 1.0))
    assert graph.loop_edge(pair, keyframes[0], keyframes[1]) is None


def test_a_rebuilt_graph_has_the_present_keyframes_alone() -> None:
    poses = true_poses()
    keyframes = {i: keyframe(i, T, textured=True) for i, T in enumerate(poses)}
    graph = MapGraph()
    graph.extend(keyframes, chain(COUNT))
    graph.scales[3] = 0.8
    kept = {i: k for i, k in keyframes.items() if i not in (3, 4)}
    rebuilt = graph.rebuilt(kept, {3}, [])
    assert rebuilt.size == COUNT - 2 and graph.size == COUNT
    assert set(rebuilt.scales) == {*kept, 3}, 'frames of a culled keyframe refer to its scale'
    T = poses[0]
    edge = rebuilt.loop_edge(exact_pair(0, T, poses[-1], (1.0, 1.0)), kept[0], kept[COUNT - 1])
    assert edge is not None
    for i, S in rebuilt.close(edge).items():
        assert_same(S, poses[i], 1e-3, 0.02, 2e-3)


def test_a_rebuilt_graph_keeps_its_loops() -> None:
    """What a later loop corrects does not open an earlier one."""
    poses = true_poses()
    keyframes, last = {i: keyframe(i, T, textured=True) for i, T in enumerate(poses)}, COUNT - 1
    graph = MapGraph()
    graph.extend(keyframes, chain(COUNT))
    opened = []
    for loops in ([], [(0, last)]):
        rebuilt = graph.rebuilt(keyframes, (), loops)
        later = rebuilt.loop_edge(exact_pair(4, poses[4], poses[last], (1.0, 1.0)), keyframes[4],
                                  keyframes[last])
        assert later is not None
        shifted = replace(later, sigma=0.002,
                          S_i_j=later.S_i_j @ se3.from_rt(np.eye(3), [0.02, 0, 0]))
        nodes = rebuilt.close(shifted)
        opened.append(float(np.linalg.norm(nodes[last][:3, 3] - poses[last][:3, 3])))
    assert opened[1] < 0.5 * opened[0]


def test_what_is_refined_again_takes_the_place_of_what_was() -> None:
    """Poses found wrong at first and right later leave no trace of the wrong ones."""
    poses = true_poses()[:5]
    right = {i: keyframe(i, T, textured=True) for i, T in enumerate(poses)}
    wrong = {**right, **{i: replace(right[i], T_map_cam=se3.exp(
        [0.05, -0.1, 0.02, 0.2, 0.1, -0.1]) @ right[i].T_map_cam) for i in (2, 3)}}
    graph = MapGraph()
    graph.extend({i: wrong[i] for i in range(4)}, chain(4))
    graph.extend(right, [(1, 2), (2, 3), (3, 4)])
    edge = graph.loop_edge(exact_pair(0, poses[0], poses[4], (1.0, 1.0)), right[0], right[4])
    assert edge is not None
    for i, S in graph.close(edge).items():
        assert_same(S, poses[i], 1e-3, 0.02, 2e-3)


def test_new_keyframes_are_not_scaled() -> None:
    graph = MapGraph()
    graph.extend({7: keyframe(7), 9: keyframe(9, true_poses()[1])}, [(7, 9)])
    assert graph.scales == {7: 1.0, 9: 1.0}


def test_a_lone_keyframe_has_no_links() -> None:
    graph = MapGraph()
    graph.extend({0: keyframe(0)}, [])
    graph.extend({}, [])
    assert graph.scales == {0: 1.0}
