# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Masks by evidence from before and after."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.slam.dynamics import motion_smoothing
from recon3r_ros.slam.dynamics.motion import MotionDetector
from recon3r_ros.slam.dynamics.motion_smoothing import PlacedFrame, smooth
from test_motion import Clip, clip, gray, keyframe, KEYFRAME_STEP


def placed(scene: Clip) -> list[PlacedFrame]:
    """Frames with their nearest keyframes before them."""
    keyframes = [keyframe(n, f, scene.camera)
                 for n, f in enumerate(scene.frames[::KEYFRAME_STEP])]
    return [PlacedFrame(f.index, gray(f), k, se3.inverse(k.T_map_cam) @ f.T_world_cam, f.stamp_ns)
            for f in scene.frames for k in [keyframes[f.index // KEYFRAME_STEP]]]


def smoothed(scene: Clip, frames: list[PlacedFrame]) -> list[tuple[int, np.ndarray | None]]:
    """Detect dynamic objects."""
    return list(smooth(frames, MotionDetector(scene.camera), lambda: MotionDetector(scene.camera)))


def test_the_first_frames_are_as_good_as_the_last() -> None:
    scene = clip(3, 2)
    overlaps = []
    for (index, mask), frame in zip(smoothed(scene, placed(scene)), scene.frames):
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
    frames[4] = PlacedFrame(4, frames[4].gray, None, np.eye(4))
    masks = smoothed(scene, frames)
    assert [i for i, _ in masks] == list(range(len(frames)))
    assert [i for i, m in masks if m is None] == [4], 'a frame without a pose has no mask'


def test_nothing_in_nothing_out() -> None:
    assert smoothed(clip(1, 0), []) == []
