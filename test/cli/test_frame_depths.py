# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Depth of frames that are no keyframes, in the scale that the map has in the end."""

from __future__ import annotations

from dataclasses import replace

from keyframes_by_hand import keyframe
import numpy as np
from recon3r_ros.cli.frame_depths import FrameDepths
from recon3r_ros.slam.types import Map, TrackedFrame


def test_depths_follow_the_scale_of_their_keyframe():
    own = keyframe(0)
    known = Map(keyframes={own.id: own}, scales={own.id: 3.0})
    frames = [TrackedFrame(name, n, n, own.id, scale=1.5)
              for n, name in enumerate([own.name, 'near', 'elsewhere'])]
    frames[2] = replace(frames[2], keyframe=99)
    depths = FrameDepths()
    for frame in frames:
        depths.add(replace(own, name=frame.name), frame)
    (name, depth, confidence), = depths.final([*frames, TrackedFrame('other', 9, 9)], known)
    assert name == 'near', 'keyframes have their own depth, and 99 is not in the map'
    np.testing.assert_allclose(depth, 2 * own.depth())
    np.testing.assert_array_equal(confidence, own.confidence)
