# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Maps are joined in the right scale and place."""

from __future__ import annotations

from dataclasses import replace

import cv2
from keyframes_by_hand import at_x, keyframe
import numpy as np
import pytest
from recon3r_ros.errors import GeometryError
from recon3r_ros.geometry import se3
from recon3r_ros.models.geometric import GeometricPredictor
from recon3r_ros.models.types import View
from recon3r_ros.slam.backend.joining import joined, relative_scale
from recon3r_ros.slam.backend.map_graph import MapGraph
from recon3r_ros.slam.backend.map_state import MapState
from recon3r_ros.slam.backend.mapping import Mapper
from recon3r_ros.slam.backend.pairing import Pairing
from recon3r_ros.slam.dynamics.keyframe_motion import KeyframeMotion
from recon3r_ros.slam.dynamics.motion_config import MotionConfig
from recon3r_ros.slam.types import Keyframe, TrackedFrame
from simulated import as_frame, still_scene


def state(number: int, *keyframes: Keyframe) -> MapState:
    """Make a map of keyframes, without observations."""
    out = MapState(Pairing(GeometricPredictor()), KeyframeMotion(MotionConfig()), number=number)
    out.keyframes = {k.id: k for k in keyframes}
    out.next_id = max(out.keyframes) + 1
    out.graph.extend(out.keyframes, [])
    return out


@pytest.mark.parametrize('scale', [1.0, 0.25, 3.0])
def test_the_factor_is_that_of_the_depths(scale: float) -> None:
    known = keyframe(3, scale=scale)
    assert relative_scale(known, keyframe(3)) == pytest.approx(scale, rel=1e-3)
    assert relative_scale(known, replace(
        keyframe(3), inverse_depth=np.zeros_like(known.inverse_depth))) is None


def test_depths_that_disagree_give_none() -> None:
    known = keyframe(3)
    wild = np.exp(np.random.default_rng(1).normal(0, 1, known.inverse_depth.shape))
    assert relative_scale(known, replace(
        known, inverse_depth=(known.inverse_depth * wild).astype(np.float32))) is None


def test_a_map_in_other_units_takes_its_place() -> None:
    """The second map has half the unit and another origin: the third keyframe is in both."""
    poses = [at_x(0.3 * n, yaw=0.1 * n) for n in range(5)]
    base = state(0, *(keyframe(n, poses[n]) for n in range(3)))
    origin = se3.inverse(poses[2])
    addition = state(1, *(replace(
        k, T_map_cam=se3.stretched(origin @ k.T_map_cam, 0.5), landmarks=2 * k.landmarks,
        inverse_depth=2 * k.inverse_depth) for k in (keyframe(n, poses[n]) for n in range(2, 5))))
    addition.graph.scales[4] = 1.2
    scale = relative_scale(base.keyframes[2], addition.keyframes[2])
    assert scale == pytest.approx(2.0, rel=0.01)
    here, there = base.keyframes[2], addition.keyframes[2]
    both = joined(base, addition, scale, here.T_map_cam @ se3.inverse(
        se3.stretched(there.T_map_cam, scale)), (2, 2))
    assert both.number == 0 and both.ids == [0, 1, 2, 3, 4]
    for n, k in both.keyframes.items():
        true = keyframe(n, poses[n])
        assert np.allclose(k.T_map_cam, poses[n], atol=5e-3)
        known = true.inverse_depth > 0
        assert np.allclose(k.inverse_depth[known], true.inverse_depth[known], rtol=2e-2)
        assert np.allclose(k.landmarks, true.landmarks, rtol=2e-2)
    # Frames tracked in the units of before are stretched by this
    assert both.graph.scales[4] == pytest.approx(1.2 * scale) and both.graph.scales[0] == 1.0


def test_a_keyframe_that_the_pose_graph_cannot_take_changes_nothing(
        monkeypatch: pytest.MonkeyPatch) -> None:
    scene = still_scene(1, 60)
    mapper = Mapper(GeometricPredictor())
    views = [View(as_frame(scene, n).image, scene.camera) for n in (0, 30, 40)]
    grays = [cv2.cvtColor(v.image, cv2.COLOR_RGB2GRAY) for v in views]
    mapper.start(TrackedFrame('0', 0, 0), views[0], grays[0])
    assert mapper.add(TrackedFrame('1', 1, 12), views[1], grays[1]) is not None
    before = mapper.snapshot()

    def indeterminate(*_: object) -> None:
        raise GeometryError('the pose graph is indeterminate')
    with monkeypatch.context() as broken:
        broken.setattr(MapGraph, 'extend', indeterminate)
        assert mapper.add(TrackedFrame('2', 2, 24), views[2], grays[2]) is None
    assert mapper.snapshot().keyframes == before.keyframes
    assert mapper.add(TrackedFrame('2', 2, 24), views[2], grays[2]) is not None
