# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Similarities between pointmaps, and the graph that distributes corrections."""

from __future__ import annotations

import gtsam
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry import se3, sim3
from recon3r_ros.geometry.camera import Camera, pixel_grid
from recon3r_ros.models.types import Prediction
from recon3r_ros.slam.backend import alignment
from recon3r_ros.slam.backend.alignment import Edge, PoseGraph
import similarities
from simulated import degrees_between

Array = NDArray[np.float64]
CAMERA = Camera(160, 120, 131.0, 131.0, 79.5, 59.5)
S_TARGET_SOURCE = sim3.compose(1.7, se3.so3_exp([0.1, -0.3, 0.2]), [0.5, -0.2, 0.3])


@pytest.fixture
def rng() -> np.random.Generator:
    """Give each test the same random numbers."""
    return np.random.default_rng(8)


def pointmap(rng: np.random.Generator) -> NDArray[np.float32]:
    """Points (H, W, 3) of a rough wall with boxes before it."""
    depth = 4 + 0.5 * np.sin(np.arange(160) / 20)[None] + np.zeros((120, 1))
    for _ in range(6):
        u, v = rng.integers(0, 130), rng.integers(0, 95)
        depth[v:v + 25, u:u + 30] = rng.uniform(2, 4)
    rays = CAMERA.unproject(pixel_grid(120, 160))
    return (rays * depth[..., None]).astype(np.float32)


def moved(S: Array, points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Map a pointmap."""
    return sim3.transform(S, points.reshape(-1, 3)).reshape(points.shape).astype(np.float32)


def compare(S: Array, true: Array, scale: float, degrees: float, distance: float) -> None:
    """Check that two similarities are close."""
    (s, R, t), (s_true, R_true, t_true) = sim3.decompose(S), sim3.decompose(true)
    assert s / s_true == pytest.approx(1, abs=scale)
    assert degrees_between(R, R_true) < degrees
    assert np.linalg.norm(t - t_true) < distance


def test_align_exact(rng: np.random.Generator) -> None:
    source = pointmap(rng)
    sure = np.full(source.shape[:2], 200.0, np.float32)
    aligned = alignment.align_pointmaps(source, sure, moved(S_TARGET_SOURCE, source), sure)
    assert aligned is not None
    compare(aligned[0], S_TARGET_SOURCE, 1e-5, 1e-3, 1e-4)
    assert aligned[1] < 1e-4


def test_align_with_noise_and_outliers(rng: np.random.Generator) -> None:
    """Depth noise of 5 % on both sides, and a fifth of the points elsewhere."""
    true = pointmap(rng)
    source = true * rng.normal(1, 0.05, (120, 160, 1)).astype(np.float32)
    target = moved(S_TARGET_SOURCE, true * rng.normal(1, 0.05, (120, 160, 1)).astype(np.float32))
    wrong = rng.random((120, 160)) < 0.2
    target[wrong] *= rng.uniform(1.5, 4, (int(wrong.sum()), 1)).astype(np.float32)
    sure = np.full((120, 160), 400.0, np.float32)
    aligned = alignment.align_pointmaps(source, sure, target, sure)
    assert aligned is not None
    compare(aligned[0], S_TARGET_SOURCE, 0.01, 0.3, 0.06)
    S, sigma = aligned
    # The stated sigma is that of the outcome, within the factor that dependent points may cost
    error = np.abs(np.log(sim3.decompose(S)[0] / 1.7))
    assert error < 4 * sigma and 1e-3 < sigma < 0.02


def test_unsure_points_do_not_take_part(rng: np.random.Generator) -> None:
    source = pointmap(rng)
    target = moved(S_TARGET_SOURCE, source)
    sure = np.full((120, 160), 100.0, np.float32)
    unsure = rng.random((120, 160)) < 0.7
    target[unsure] += rng.normal(0, 3, (int(unsure.sum()), 3)).astype(np.float32)
    doubted = np.where(unsure, alignment.MIN_CONFIDENCE / 2, sure).astype(np.float32)
    for confidences in ((sure, doubted), (doubted, sure)):
        aligned = alignment.align_pointmaps(source, confidences[0], target, confidences[1])
        assert aligned is not None
        compare(aligned[0], S_TARGET_SOURCE, 1e-4, 1e-2, 1e-3)


def test_nothing_to_align(rng: np.random.Generator) -> None:
    source = pointmap(rng)
    sure = np.full((120, 160), 100.0, np.float32)
    none = np.full((120, 160), 1e-6, np.float32)
    assert alignment.align_pointmaps(source, sure, source, none) is None
    few = none.copy()
    few[:4, :4] = 100
    assert alignment.align_pointmaps(source, sure, source, few) is None
    line = np.zeros_like(source)
    line[..., 2] = source[..., 2]
    assert alignment.align_pointmaps(line, sure, line, sure) is None


def test_measure_edge_joins_the_scales(rng: np.random.Generator) -> None:
    """Both predictions and the map have scales of their own; S_i_j goes from one to the other."""
    T_i_j = se3.exp([0.02, 0.1, 0.0, 0.4, 0.1, -0.1])
    own_i, own_j = pointmap(rng), pointmap(rng)
    sure = np.full((120, 160), 300.0, np.float32)
    forward_scale, backward_scale, map_scale = (np.float32(s) for s in (0.6, 1.9, 3.0))
    forward = Prediction((own_i * forward_scale, moved(T_i_j, own_j) * forward_scale),
                         (sure, sure))
    backward = Prediction((own_j * backward_scale,
                           moved(se3.inverse(T_i_j), own_i) * backward_scale), (sure, sure))
    edge = alignment.measure_edge(forward, backward, (own_i * map_scale, sure))
    assert edge is not None
    expected = sim3.compose(3.0 / 1.9, T_i_j[:3, :3], 3.0 * T_i_j[:3, 3])
    compare(edge[0], expected, 1e-4, 1e-2, 1e-3)
    alone = alignment.measure_edge(forward, backward, None)
    assert alone is not None
    compare(alone[0], sim3.compose(0.6 / 1.9, T_i_j[:3, :3], 0.6 * T_i_j[:3, 3]), 1e-4, 1e-2,
            1e-3)
    unsure = np.full((120, 160), 1e-6, np.float32)
    assert alignment.measure_edge(forward, backward, (own_i, unsure)) is None


def circle(count: int) -> list[Array]:
    """Keyframes on a circle of radius 3, looking ahead, all of scale one."""
    nodes = []
    for k in range(count):
        angle = 2 * np.pi * k / count
        nodes.append(sim3.compose(1.0, se3.so3_exp([0, angle, 0]),
                                  [3 * np.cos(angle), 0.1 * np.sin(3 * angle),
                                   -3 * np.sin(angle)]))
    return nodes


def drifting_chain(nodes: list[Array], drift: float, turn: float
                   ) -> tuple[list[Edge], list[Array]]:
    """Edges whose scale and heading are wrong by a little each, and where they lead."""
    error = sim3.compose(drift, se3.so3_exp([0, turn, 0]), np.zeros(3))
    edges, estimates = [], [nodes[0]]
    for k in range(len(nodes) - 1):
        S = sim3.inverse(nodes[k]) @ nodes[k + 1] @ error
        edges.append(Edge(k, k + 1, S, 0.01, 3.0))
        estimates.append(estimates[-1] @ S)
    return edges, estimates


def positions(estimate: dict[int, Array] | list[Array]) -> Array:
    """Positions (N, 3) of the nodes in order."""
    return np.stack([estimate[k][:3, 3] for k in range(len(estimate))])


def solved(graph: PoseGraph, edges: list[Edge], estimates: list[Array], loop: Edge
           ) -> dict[int, Array]:
    """Add a chain keyframe by keyframe, then the loop, as the mapper does."""
    graph.update({0: estimates[0]}, [])
    for k, edge in enumerate(edges):
        graph.update({k + 1: estimates[k + 1]}, [edge])
    graph.update({}, [loop])
    return graph.settle()


def test_a_chain_without_a_loop_stays_as_it_is() -> None:
    edges, estimates = drifting_chain(circle(12), 1.03, 0.01)
    graph = PoseGraph()
    graph.update({0: estimates[0]}, [])
    for k, edge in enumerate(edges):
        found = graph.update({k + 1: estimates[k + 1]}, [edge])
    assert set(found) == set(range(12)) == graph.nodes
    for k, S in enumerate(estimates):
        assert np.allclose(found[k], S, atol=1e-6)


def test_a_loop_spreads_the_correction() -> None:
    nodes = circle(20)
    edges, estimates = drifting_chain(nodes, 1.02, 0.004)
    loop = Edge(0, 19, sim3.inverse(nodes[0]) @ nodes[19], 0.001, 3.0)
    found = solved(PoseGraph(), edges, estimates, loop)
    before = np.linalg.norm(positions(estimates) - positions(nodes), axis=1)
    after = np.linalg.norm(positions(found) - positions(nodes), axis=1)
    assert before[-1] > 0.8, 'the chain drifts'
    assert after[-1] < 0.05, 'the loop is closed'
    assert after.max() < 0.35 * before.max(), 'and everything between follows'
    assert np.allclose(found[0], nodes[0], atol=1e-4)
    scales = np.array([sim3.decompose(found[k])[0] for k in range(20)])
    assert scales[-1] == pytest.approx(1.0, abs=0.03)
    # the correction is spread, not put into one edge
    steps = [similarities.log(sim3.inverse(e.S_i_j) @ sim3.inverse(found[e.i]) @ found[e.j])
             for e in edges]
    lengths = np.linalg.norm(steps, axis=1)
    assert lengths.max() < 4 * np.median(lengths)


def test_the_graph_finds_the_batch_optimum() -> None:
    """What incremental updates leave is what Levenberg-Marquardt on the whole graph finds."""
    nodes = circle(20)
    edges, estimates = drifting_chain(nodes, 1.02, 0.004)
    loop = Edge(0, 19, sim3.inverse(nodes[0]) @ nodes[19], 0.001, 3.0)
    found = solved(PoseGraph(), edges, estimates, loop)
    best = batch(nodes[0], [*edges, loop], estimates)
    assert np.abs(positions(found) - positions(best)).max() < 0.02
    for k in range(20):
        assert degrees_between(sim3.decompose(found[k])[1], sim3.decompose(best[k])[1]) < 0.3
        assert sim3.decompose(found[k])[0] == pytest.approx(
            float(sim3.decompose(best[k])[0]), rel=0.005)


def batch(first: Array, edges: list[Edge], initial: list[Array]) -> list[Array]:
    """Minimise the same cost at once, by GTSAM's Levenberg-Marquardt."""
    def similarity(S: Array) -> gtsam.Similarity3:
        scale, R, t = sim3.decompose(S)
        return gtsam.Similarity3(gtsam.Rot3(R), t / scale, float(scale))
    graph, values = gtsam.NonlinearFactorGraph(), gtsam.Values()
    graph.add(gtsam.PriorFactorSimilarity3(
        0, similarity(first), gtsam.noiseModel.Isotropic.Sigma(7, 1e-6)))
    for k, S in enumerate(initial):
        values.insert(k, similarity(S))
    for e in edges:
        sigmas = e.sigma * np.array([1, 1, 1, e.depth, e.depth, e.depth, 1])
        graph.add(gtsam.BetweenFactorSimilarity3(
            e.i, e.j, similarity(e.S_i_j), gtsam.noiseModel.Robust.Create(
                gtsam.noiseModel.mEstimator.Huber.Create(1.345),
                gtsam.noiseModel.Diagonal.Sigmas(sigmas))))
    parameters = gtsam.LevenbergMarquardtParams()
    parameters.setMaxIterations(200)
    best = gtsam.LevenbergMarquardtOptimizer(graph, values, parameters).optimize()
    found = []
    for k in range(len(initial)):
        node = best.atSimilarity3(k)
        found.append(sim3.compose(node.scale(), node.rotation().matrix(),
                                  node.scale() * node.translation()))
    return found


def test_a_false_loop_does_not_tear_the_map() -> None:
    """The noise model is robust: one wrong edge against many that agree."""
    nodes = circle(12)
    edges = [Edge(i, j, sim3.inverse(nodes[i]) @ nodes[j], 0.002, 3.0)
             for i in range(12) for j in range(i + 1, min(i + 4, 12))]
    graph = PoseGraph()
    graph.update(dict(enumerate(nodes)), edges)
    wrong = sim3.inverse(nodes[0]) @ nodes[11] @ similarities.exp([0, 0.5, 0, 1.0, 0, 0.5, 0.3])
    graph.update({}, [Edge(0, 11, wrong, 0.01, 3.0)])
    found = graph.settle()
    assert np.linalg.norm(positions(found) - positions(nodes), axis=1).max() < 0.15


def test_a_replaced_edge_takes_effect() -> None:
    graph = PoseGraph()
    first, second = sim3.compose(1, np.eye(3), [0, 0, 0]), sim3.compose(1, np.eye(3), [1, 0, 0])
    graph.update({0: first, 1: second}, [Edge(0, 1, second, 0.01, 1.0)])
    better = sim3.compose(1.1, se3.so3_exp([0, 0, 0.05]), [1.2, 0.1, 0])
    graph.update({}, [Edge(0, 1, better, 0.01, 1.0)])
    assert np.allclose(graph.settle()[1], better, atol=1e-3)


def test_replacing_again_and_again() -> None:
    nodes = circle(8)
    graph = PoseGraph()
    graph.update(dict(enumerate(nodes)),
                 [Edge(k, k + 1, sim3.inverse(nodes[k]) @ nodes[k + 1], 0.01, 3.0)
                  for k in range(7)])
    for step in range(1, 6):
        changed = sim3.compose(1 + 0.02 * step, np.eye(3), [0.05 * step, 0, 0])
        edges = [Edge(k, k + 1, sim3.inverse(nodes[k]) @ nodes[k + 1] @ changed, 0.01, 3.0)
                 for k in (2, 5)]
        graph.update({}, edges)
        found = graph.settle()
        for e in edges:
            got = sim3.inverse(found[e.i]) @ found[e.j]
            assert np.allclose(got, e.S_i_j, atol=5e-3)


def test_similarities_survive_gtsam() -> None:
    """Through the graph and back, and the product of nodes is that of our matrices."""
    S_0 = sim3.compose(0.7, se3.so3_exp([0.3, -1.0, 0.4]), [2.0, -1.0, 0.5])
    S_0_1 = sim3.compose(1.8, se3.so3_exp([-0.2, 0.5, 1.1]), [-0.4, 0.9, 1.5])
    graph = PoseGraph()
    found = graph.update({0: S_0, 1: S_0 @ S_0_1}, [Edge(0, 1, S_0_1, 0.01, 1.0)])
    points = np.random.default_rng(1).normal(size=(20, 3))
    assert np.allclose(sim3.transform(found[0], points), sim3.transform(S_0, points), atol=1e-6)
    assert np.allclose(sim3.transform(found[1], points),
                       sim3.transform(S_0, sim3.transform(S_0_1, points)), atol=1e-6)


def test_gtsam_acts_as_we_assume() -> None:
    """GTSAM's Similarity3(R, t, s) maps p to s (R p + t), and composes accordingly."""
    S = sim3.compose(1.8, se3.so3_exp([-0.2, 0.5, 1.1]), [-0.4, 0.9, 1.5])
    scale, R, t = sim3.decompose(S)
    similarity = gtsam.Similarity3(gtsam.Rot3(R), t / scale, float(scale))
    point = np.array([0.3, -2.0, 1.1])
    assert np.allclose(similarity.transformFrom(point), sim3.transform(S, point[None])[0])
