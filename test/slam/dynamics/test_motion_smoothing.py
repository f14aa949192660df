# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Masks by evidence from before and after."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.slam.dynamics import motion_smoothing
from recon3r_ros.slam.dynamics.motion import MotionEvidence
from recon3r_ros.slam.dynamics.motion_smoothing import smooth
from recon3r_ros.slam.dynamics.seen_frame import SeenFrame
from test_motion import Clip, clip, keyframe, KEYFRAME_STEP, seen


def placed(scene: Clip) -> list[SeenFrame]:
    """Frames with their nearest keyframes before them."""
    keyframes = [keyframe(n, f, scene.camera)
                 for n, f in enumerate(scene.frames[::KEYFRAME_STEP])]
    return [seen(f.image, scene.camera, k, se3.inverse(k.T_map_cam) @ f.T_world_cam, f.stamp_ns,
                 f.index)
            for f in scene.frames for k in [keyframes[f.index // KEYFRAME_STEP]]]


def smoothed(scene: Clip, frames: list[SeenFrame], fine: bool = False
             ) -> list[tuple[int, np.ndarray | None]]:
    """Detect dynamic objects."""
    return list(smooth(frames, MotionEvidence(scene.camera, fine),
                       lambda: MotionEvidence(scene.camera, fine)))


@pytest.mark.parametrize('fine', [False, True])
@pytest.mark.parametrize('posed', [False, True])
def test_the_first_frames_are_as_good_as_the_last(fine: bool, posed: bool) -> None:
    scene = clip(3, 2)
    overlaps = []
    frames = [f if posed else replace(f, reference=None) for f in placed(scene)]
    for (index, mask), frame in zip(smoothed(scene, frames, fine), scene.frames):
        assert mask is not None and index == frame.index
        truth = cv2.resize(frame.motion_mask.astype(np.uint8) * 255, mask.shape[::-1],
                           interpolation=cv2.INTER_AREA) >= 128
        overlaps.append((mask & truth).sum() / (mask | truth).sum())
    assert np.mean(overlaps[:10]) > 0.75 and np.mean(overlaps[10:]) > 0.75


@pytest.mark.parametrize('block, ahead', [(5, 3), (7, 0), (100, 10)])
def test_blocks_cover_every_frame_once(monkeypatch: pytest.MonkeyPatch, block: int, ahead: int
                                       ) -> None:
    monkeypatch.setattr(motion_smoothing, 'BLOCK', block)
    monkeypatch.setattr(motion_smoothing, 'AHEAD', ahead)
    scene = clip(3, 2)
    frames = placed(scene)
    frames[4] = replace(frames[4], reference=None)
    masks = smoothed(scene, frames)
    assert [i for i, _ in masks] == list(range(len(frames)))
    assert all(m is not None for _, m in masks), 'with or without a pose'


def test_one_frame_says_nothing() -> None:
    scene = clip(1, 0)
    (index, mask), = smoothed(scene, [seen(scene.frames[0].image, scene.camera)])
    assert index == 0 and mask is None


def test_nothing_in_nothing_out() -> None:
    assert smoothed(clip(1, 0), []) == []
