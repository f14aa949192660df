# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The data of a map in one value: forks and removed keyframes that leave no trace."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

from keyframes_by_hand import (
    at_x,
    CAMERA,
    correspondence,
    keyframe,
    keypoints,
    predicted,
    TrueViewpoint,
)
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.models.types import View
from recon3r_ros.slam.archive import ArchivedView
from recon3r_ros.slam.backend.learned import LearnedDepth
from recon3r_ros.slam.backend.map_state import MapState
from recon3r_ros.slam.backend.pairing import Pairing
from recon3r_ros.slam.dynamics.keyframe_motion import KeyframeMotion
from recon3r_ros.slam.dynamics.motion_config import MotionConfig
from recon3r_ros.slam.types import at, Keyframe, MapEdge, Retired

SHAPE = (CAMERA.height, CAMERA.width)
POSES = [at_x(0.15 * i) for i in range(4)]


@dataclass(frozen=True, eq=False)
class Encoding:
    """A view that nothing is predicted of."""

    image: NDArray[np.uint8]
    camera: Camera = CAMERA
    keypoints: NDArray[np.int32] = field(default_factory=keypoints)
    descriptor: NDArray[np.float32] = field(default_factory=lambda: np.ones(1, np.float32))
    features: None = None


class FocalPredictor:
    """Predicts the focal length, relative to the initial one, and nothing else."""

    single_view, reweights, together = True, False, None
    focal_factor = 1.2

    def encode(self, view: View) -> Encoding:
        """Take a view."""
        return Encoding(view.image)

    def predict(self, groups: Any, moving: Any = None, priors: Any = None) -> list[Any]:
        """Predict views alone."""
        return [replace(predicted(TrueViewpoint(np.eye(4))), focal=self.focal_factor * CAMERA.fx)
                for _ in groups]


def add(state: MapState, i: int, focal: bool = False) -> Keyframe:
    """Add a keyframe with its data and those of its neighbours."""
    known = keyframe(i, POSES[i])
    view = View(known.image, CAMERA)
    state.keyframes[i] = known
    state.pairing.insert(i, state.pairing.encode(view))
    state.pairing.archive[i] = ArchivedView.of(view, state.focal_factor)
    state.motion.give(known, None)
    state.next_id = i + 1
    if focal:
        state.pairing.predict_alone(known, 1.0)
    for j in [k for k in state.keyframes if k != i]:
        other = state.keyframes[j]
        for a, b in ((known, other), (other, known)):
            found = correspondence(replace(a, T_map_cam=POSES[a.id]),
                                   replace(b, T_map_cam=POSES[b.id]))
            state.seen.record(a, b.id, found)
            state.dense[a.id, b.id] = found
            depth = 1 / a.inverse_depth
            state.learned.add(a.id, b.id, LearnedDepth(depth, a.confidence, metric=True))
        state.edges.append(MapEdge(j, i))
    return known


@pytest.fixture
def state() -> MapState:
    """Return the state of a map of three keyframes."""
    out = MapState(Pairing(FocalPredictor()), KeyframeMotion(MotionConfig(refiner=None)))
    for i in range(3):
        add(out, i, focal=i == 0)
    out.graph.extend(out.keyframes, [(0, 1), (1, 2)])
    return out


def content(value: Any) -> Any:
    """Return what is compared of a value: arrays as their bytes, dataclasses as their fields."""
    if isinstance(value, np.ndarray):
        return value.shape, value.tobytes()
    if is_dataclass(value) and not isinstance(value, type):
        return [content(getattr(value, f.name)) for f in fields(value)]
    if isinstance(value, dict):
        return {k: content(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [content(v) for v in value]
    return value


def everything(state: MapState) -> Any:
    """Return all that can be asked of a state, to compare."""
    held = [i for i in range(9) if state.pairing.holds(i)]
    return content([
        state.keyframes, state.focal_factor, state.calibrated, state.next_id, state.seen.saved(),
        state.dense, state.learned.pairs, [state.learned.prior(k) for k in
                                           state.keyframes.values()],
        state.edges, state.retired, state.pairing.archive, held, state.pairing.focal(),
        [state.motion.given(i) for i in held], state.snapshot()])


def change_all(state: MapState) -> None:
    """Try a keyframe: change whatever can be changed on the way."""
    state.pairing.predictor.focal_factor = 2.0
    add(state, 3, focal=True)
    mask = np.zeros(SHAPE, bool)
    mask[10:20] = True
    state.exclude(1, mask)
    state.motion.leave_out(state.keyframes[2], mask)
    state.refocus(1.1)
    state.retired[7] = Retired(0, np.eye(4), 1.0, 1.0)
    state.calibrated = False
    state.model_scale.add(3, [2.0])
    state.learned.keep({3})
    state.forget(0)


def test_a_fork_that_is_dropped_leaves_no_trace(state: MapState) -> None:
    before = everything(state)
    fork = state.fork()
    assert everything(fork) == before
    change_all(fork)
    after = everything(fork)
    assert everything(state) == before
    assert all(a != b for a, b in zip(before, after)), 'each of them has changed'


def test_a_fork_that_is_committed_is_as_if_there_had_been_none(state: MapState) -> None:
    """It replaces the state; changes of the old one then do not affect it."""
    fork = state.fork()
    change_all(state)
    change_all(fork)
    assert everything(fork) == everything(state)
    committed = everything(fork)
    state.forget(1)
    assert everything(fork) == committed


def test_forks_of_one_state_know_nothing_of_each_other(state: MapState) -> None:
    first, second = state.fork(), state.fork()
    before = everything(second)
    change_all(first)
    assert everything(second) == before
    assert everything(second.fork()) == before


def test_a_fork_has_the_same_graph(state: MapState) -> None:
    """Its solver cannot be copied: it gets keyframes once these have been committed."""
    assert state.fork().graph is state.graph


def test_a_keyframe_that_is_forgotten_leaves_nothing(state: MapState) -> None:
    add(state, 3)
    forgotten = state.forget(1)
    assert forgotten.id == 1 and state.ids == [0, 2, 3]
    assert sorted(state.pairing.archive) == [0, 2, 3]
    assert [i for i in range(5) if state.pairing.holds(i)] == [0, 2, 3]
    assert all(1 not in pair for pair in (*state.seen.pairs, *state.dense))
    assert len(state.seen.pairs) == len(state.dense) == len(state.learned.pairs) == 6
    with pytest.raises(KeyError):
        state.motion.given(1)
    assert state.edges == [MapEdge(0, 2), MapEdge(0, 3), MapEdge(2, 3)]
    assert state.next_id == 4, 'ids are not given away twice'


def test_what_replaces_a_culled_keyframe_takes_over_its_loops(state: MapState) -> None:
    add(state, 3)
    state.graph.extend(state.keyframes, [(2, 3)])
    state.edges = [MapEdge(0, 1), MapEdge(0, 3, True), MapEdge(1, 3, True), MapEdge(1, 2, True)]
    state.retire(1, 2)
    assert state.edges == [MapEdge(0, 3, True), MapEdge(2, 3, True)]
    state.retire(2, 0)
    assert state.edges == [MapEdge(0, 3, True)], 'there is one already'
    assert {i: r.keyframe for i, r in state.retired.items()} == {1: 2, 2: 0}
    assert np.allclose(
        POSES[0] @ state.retired[2].T_keyframe_retired @ state.retired[1].T_keyframe_retired,
        POSES[1])


def test_the_last_keyframe_may_be_forgotten(state: MapState) -> None:
    for i in (2, 0, 1):
        state.forget(i)
    assert state.ids == [] and not state.started
    assert not state.pairing.archive and not state.seen.pairs and not state.edges
    with pytest.raises(KeyError):
        state.forget(1)


def test_what_is_excluded_has_no_depth(state: MapState) -> None:
    """And no landmarks; what is not, stays as it was."""
    before = state.keyframes[1]
    mask = np.zeros(SHAPE, bool)
    mask[5:30, 20:50] = True
    others = [content(state.keyframes[i]) for i in (0, 2)]
    state.exclude(1, mask)
    now = state.keyframes[1]
    assert now.mask is mask and now.id == 1
    for value, was in ((now.inverse_depth, before.inverse_depth),
                       (now.confidence, before.confidence)):
        assert (value[mask] == 0).all() and np.array_equal(value[~mask], was[~mask])
        assert value.dtype == np.float32
    inside = at(mask, before.keypoints)
    assert 10 < inside.sum() < len(inside) - 10
    for value, was in ((now.landmarks, before.landmarks), (now.information, before.information)):
        assert (value[inside] == 0).all() and np.array_equal(value[~inside], was[~inside])
    assert np.array_equal(now.keypoints, before.keypoints)
    assert [content(state.keyframes[i]) for i in (0, 2)] == others


@pytest.mark.parametrize('whole', [False, True])
def test_nothing_or_all_of_a_keyframe_is_excluded(state: MapState, whole: bool) -> None:
    before = content(state.keyframes[0])
    state.exclude(0, np.full(SHAPE, whole))
    if whole:
        assert not state.keyframes[0].landmarks.any()
        assert not state.keyframes[0].inverse_depth.any()
    else:
        assert content(state.keyframes[0]) == before


def test_what_is_excluded_does_not_come_back(state: MapState) -> None:
    """A mask that is lifted later gives no depth: that has to be predicted again."""
    state.exclude(0, np.ones(SHAPE, bool))
    state.exclude(0, np.zeros(SHAPE, bool))
    assert not state.keyframes[0].inverse_depth.any() and not state.keyframes[0].mask.any()


def test_all_cameras_are_refocused_together(state: MapState) -> None:
    state.refocus(1.25)
    state.refocus(0.9)
    assert state.focal_factor == pytest.approx(1.125)
    for known in state.keyframes.values():
        camera = known.camera
        assert (camera.fx, camera.fy) == pytest.approx((1.125 * CAMERA.fx, 1.125 * CAMERA.fy))
        assert (camera.cx, camera.cy) == (CAMERA.cx, CAMERA.cy)
        assert (camera.width, camera.height) == (CAMERA.width, CAMERA.height)
    state.refocus(1 / state.focal_factor)
    assert state.keyframes[2].camera.fx == pytest.approx(CAMERA.fx)


def test_a_snapshot_stays_what_it_was(state: MapState) -> None:
    state.retired[6] = Retired(0, np.eye(4), 1.0, 1.0)
    taken = state.snapshot()
    before = content(taken)
    assert list(taken.keyframes) == [0, 1, 2] and taken.scales == {0: 1.0, 1: 1.0, 2: 1.0}
    assert taken.edges == (MapEdge(0, 1), MapEdge(0, 2), MapEdge(1, 2))
    assert list(taken.retired) == [6] and taken.focal_factor == 1.0
    change_all(state)
    state.graph.scales[0] = 3.0
    assert content(taken) == before


def test_with_a_keyframe_goes_what_was_culled_beside_it(state: MapState) -> None:
    beside = {6: 1, 7: 6, 8: 0}
    state.retired = {i: Retired(j, np.eye(4), 1.0, 1.0) for i, j in beside.items()}
    state.drop(1)
    assert list(state.keyframes) == [0, 2] and list(state.retired) == [8]
    assert state.snapshot().edges == (MapEdge(0, 2),)


def test_a_snapshot_knows_metres_where_predictions_do(state: MapState) -> None:
    assert state.snapshot().metric is None
    state.model_scale.add(0, [2.0])
    metric = state.snapshot().metric
    assert metric is not None and metric.value == pytest.approx(2.0)


def test_a_map_has_started_once_there_is_depth() -> None:
    state = MapState(Pairing(FocalPredictor()), KeyframeMotion(MotionConfig(refiner=None)))
    assert not state.started and state.ids == []
    known = keyframe(0)
    state.keyframes[0] = replace(known, information=np.zeros(len(known.keypoints)))
    assert not state.started
    state.keyframes[0] = known
    assert state.started, 'a network gave depth to one view'
    state.keyframes[1] = state.keyframes[0] = replace(
        known, information=np.zeros(len(known.keypoints)))
    assert state.started


def test_one_field_of_a_keyframe_is_changed_for_good(state: MapState) -> None:
    before = state.keyframes[1]
    state.change(1, T_map_cam=at_x(9), name='moved')
    now = state.keyframes[1]
    assert now.name == 'moved' and now.T_map_cam[0, 3] == 9 and now.landmarks is before.landmarks
    assert before.name == '001', 'keyframes are values'
    assert state.ids == [0, 1, 2], 'their order stays'
