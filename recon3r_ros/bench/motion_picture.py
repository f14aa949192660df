# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The figure of `recon3r bench --motion`: a keyframe, its mask, and maps from above."""

from __future__ import annotations

from pathlib import Path

import cv2
from matplotlib.axes import Axes
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.bench.pictures import draw_mask, MOVING, new_figure, with_unknown
from recon3r_ros.geometry import se3
from recon3r_ros.models.geometric import GeometricPredictor
from recon3r_ros.models.types import View
from recon3r_ros.sim import SimulatedFrame
from recon3r_ros.slam.types import Keyframe, Map


def draw_motion(maps: list[Map], frames: list[SimulatedFrame], path: Path) -> None:
    """
    Draw a keyframe with its mask, and maps from above with dynamic objects in red.

    :param maps: with detection of dynamic objects, and without
    :param frames: of the simulated scene
    :param path: PNG file to write
    """
    keyframes = list(maps[0].keyframes.values())
    shown = max(keyframes, key=lambda k: float(frames[k.index].motion_mask.mean()))
    frame = frames[shown.index]
    with new_figure(path, (15.0, 8.6)) as figure:
        grid = figure.add_gridspec(2, 4, height_ratios=[1.0, 2.0])
        image, evidence, mask, depth = (figure.add_subplot(grid[0, n]) for n in range(4))
        image.imshow(frame.image)
        image.set_title('keyframe', weight='bold')
        evidence.imshow(_pair_evidence(shown, keyframes), cmap='coolwarm', vmin=-1, vmax=1)
        evidence.set_title('votes of its pairs', weight='bold')
        draw_mask(mask, shown.image, shown.mask, true_mask(frame, shown))
        mask.set_title('dynamic mask (red), truth (outline)', weight='bold')
        depth.imshow(shown.depth(), cmap=with_unknown('turbo_r'))
        depth.set_title('depth that enters the map', weight='bold')
        for axis in (image, evidence, mask, depth):
            axis.set_xticks([])
            axis.set_yticks([])
        for n, (known_map, title) in enumerate(zip(
                reversed(maps), ('map without detection of dynamic objects', 'map'))):
            axis = figure.add_subplot(grid[1, 2 * n:2 * n + 2])
            _draw_moving_points(axis, known_map, frames)
            axis.set_title(title, weight='bold')


def true_mask(frame: SimulatedFrame, keyframe: Keyframe) -> NDArray[np.bool_]:
    """Return the true dynamic mask of a simulated frame on the grid (H, W) of its keyframe."""
    return cv2.resize(frame.motion_mask.astype(np.uint8), keyframe.mask.shape[::-1],
                      interpolation=cv2.INTER_NEAREST) > 0


def _pair_evidence(shown: Keyframe, keyframes: list[Keyframe]) -> NDArray[np.float64]:
    """Average the votes of a keyframe's pairs with its neighbours (H, W), 1 for dynamic."""
    predictor = GeometricPredictor()
    place = keyframes.index(shown)
    near = [k for k in keyframes[max(place - 1, 0):place + 2] if k is not shown]
    own, *others = (predictor.encode(View(k.image, k.camera)) for k in (shown, *near))
    votes = [cv2.resize(p.moving.astype(np.float32), shown.mask.shape[::-1])
             for p in predictor.predict([(own, other) for other in others])
             if p.moving is not None]
    return np.mean(votes, axis=0) if votes else np.zeros(shown.mask.shape)


def _draw_moving_points(axis: Axes, known: Map, frames: list[SimulatedFrame]) -> None:
    """Draw a map from above, points on dynamic objects in red."""
    positions, colors = [], []
    for keyframe in known.keyframes.values():
        frame = frames[keyframe.index]
        points = keyframe.pointmap()[::3, ::3].reshape(-1, 3)
        truth = true_mask(frame, keyframe)[::3, ::3].ravel()
        use = np.isfinite(points[:, 0])
        positions.append(se3.transform(keyframe.T_map_cam, points[use]))
        own = keyframe.image[::3, ::3].reshape(-1, 3)[use] / 255.0
        colors.append(np.where(truth[use, None], MOVING / 255, own))
    where, color = np.concatenate(positions), np.concatenate(colors)
    axis.scatter(where[:, 0], where[:, 2], c=color, s=1.0, lw=0)
    low, high = np.percentile(where[:, [0, 2]], [1.0, 99.0], axis=0)
    axis.set_xlim(low[0], high[0])
    axis.set_ylim(low[1], high[1])
    axis.set_aspect('equal')
    axis.grid(alpha=0.25)
