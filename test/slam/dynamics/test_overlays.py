# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Logos, time stamps and crosshairs, over pictures that move behind them."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import cv2
import numpy as np
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.slam.dynamics.cells import Cells, mask_size
from recon3r_ros.slam.dynamics.detector import MotionDetector
from recon3r_ros.slam.dynamics.motion import MotionEvidence
from recon3r_ros.slam.dynamics.motion_smoothing import smooth
from recon3r_ros.slam.dynamics.overlays import Overlays, static_flow
from test_camera_fixed import CAMERA, of_mask, shown, texture, world
from test_motion import seen

SIZE = (180, 240)
CELLS = Cells.of_camera(CAMERA)
FRAMES = 60
#: Seconds between frames
STEP_S = 0.1
Pictures = Callable[[int], np.ndarray]


def place(n: int) -> np.ndarray:
    """Where a camera is that wanders before a wall, pixels (x, y)."""
    return np.array([75 + 60 * np.sin(n / 9), 55 + 40 * np.sin(n / 7 + 1)])


def wall(n: int, seed: int = 1) -> np.ndarray:
    """Picture (H, W) of a wall that it sees, with noise."""
    M = np.hstack([np.eye(2), -place(n)[:, None]])
    image = cv2.warpAffine(texture(320, 420, seed), M, SIZE[::-1])
    noise = np.random.default_rng(n).normal(0, 1.5, SIZE)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def marks(opacity: float = 1.0) -> np.ndarray:
    """Opacity (H, W) in [0, 1] of a logo and a time stamp, and of a crosshair, which is opaque."""
    out = np.zeros(SIZE, np.float32)
    cv2.circle(out, (205, 35), 14, opacity, 3)
    cv2.putText(out, '12:34', (10, 165), cv2.FONT_HERSHEY_SIMPLEX, 0.6, opacity, 2)
    cv2.line(out, (110, 90), (130, 90), 1.0, 1)
    cv2.line(out, (120, 80), (120, 100), 1.0, 1)
    return out


def marked(n: int, opacity: float = 0.4) -> np.ndarray:
    """Picture (H, W) under white marks that let some of it through."""
    alpha = marks(opacity)
    return np.round((1 - alpha) * wall(n) + alpha * 255).astype(np.uint8)


def found(pictures: Pictures, frames: int = FRAMES, detector: MotionDetector | None = None,
          begin: int = 0) -> MotionDetector:
    """Detector that has seen pictures (H, W), without poses."""
    detector = detector or MotionDetector(CAMERA)
    for n in range(begin, begin + frames):
        stamp_ns = round(n * STEP_S * 1e9)
        mask = detector.detect(seen(pictures(n), CAMERA, stamp_ns=stamp_ns, index=n))
        assert mask is None or not (mask & detector.fixed).any(), 'it is no dynamic object'
    return detector


def near_marks(pixels: int) -> np.ndarray:
    """Mask (h, w) the surroundings of the marks, in mask pixels."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pixels + 1,) * 2)
    mask = cv2.dilate((marks() > 0).astype(np.uint8), kernel) > 0
    return of_mask(mask, mask_size(CAMERA)[::-1])


@pytest.mark.parametrize('opacity', [0.4, 1.0])
def test_marks_are_found_with_the_window_of_the_tracker_and_nothing_else(opacity: float) -> None:
    fixed = found(lambda n: marked(n, opacity)).fixed
    assert fixed[near_marks(5)].mean() > 0.95
    assert not fixed[~near_marks(14)].any()


@pytest.mark.parametrize('seed', range(3))
def test_a_scene_without_marks_has_none(seed: int) -> None:
    assert not found(lambda n: wall(n, seed)).fixed.any()


def test_while_the_scene_rests_nothing_is_learned() -> None:
    assert not found(lambda n: marked(0)).fixed.any()


def test_an_edge_along_which_the_camera_turns_is_no_mark() -> None:
    """A horizon, hills included, stays at its rows, and is dark below and bright above."""
    columns = np.arange(1200)
    hills = (90 + 5 * np.sin(columns / 9) + 3 * np.sin(columns / 4)).astype(int)
    panorama = np.where(np.arange(180)[:, None] < hills, 200, 0.4 * texture(180, 1200, 5))
    panorama = cv2.GaussianBlur(panorama.astype(np.uint8), (5, 5), 0)
    assert not found(lambda n: panorama[:, 9 * n:9 * n + 240]).fixed.any()


def test_a_camera_that_looks_to_and_fro_sees_the_same_again() -> None:
    """It returns to few places, and each time all of the scene is as it was."""
    assert not found(lambda n: wall(4 * (n % 2), 2), 4 * FRAMES).fixed.any()
    detector = MotionDetector(CAMERA)
    for frame in shown(world, 160):
        detector.detect(frame)
    assert not detector.fixed.any()


def test_a_mark_that_is_switched_off_is_forgotten_and_a_cut_forgets_all() -> None:
    detector = found(marked)
    assert detector.fixed.any()
    detector.refocus(Camera(240, 180, 230, 230, 119.5, 89.5))
    assert detector.fixed.any()
    cut = deepcopy(detector)
    cut.reset()
    assert not cut.fixed.any()
    found(wall, 2 * FRAMES, detector, FRAMES)
    assert not detector.fixed.any()


def test_offline_masks_do_not_contain_it() -> None:
    frames = [seen(marked(n, 1.0), CAMERA, stamp_ns=round(n * STEP_S * 1e9), index=n)
              for n in range(FRAMES)]
    masks = dict(smooth(frames, MotionEvidence(CAMERA), lambda: MotionEvidence(CAMERA)))
    for mask in masks.values():
        assert mask is not None and not mask[near_marks(0)].any()


def test_only_what_moves_along_a_gradient_tells() -> None:
    """A vertical and a horizontal line, before a scene that moves to the side."""
    image = np.full(SIZE, 80, np.uint8)
    image[40:140, 60] = image[90, 120:200] = 255
    overlays = Overlays(CAMERA, CELLS)
    flow = np.zeros((2, *CELLS.shape), np.float32)
    flow[0] = 3
    for n in range(20):
        overlays.add(image, n * 10**9, flow, 1)
    assert overlays.mask[40, 20] and not overlays.mask[30, 45:60].any()


def test_samples_are_taken_where_the_scene_has_moved_on() -> None:
    """In a fifth of a second it may have come back, and in a part of the image it rests."""
    overlays = Overlays(CAMERA, CELLS)
    flow = np.zeros((2, *CELLS.shape), np.float32)
    for n in range(100):
        flow[:, :, 40:] = 2 * (-1) ** n
        overlays.add(marked(n % 2, 1.0), n * 10**8, flow, 1)
    assert not overlays.mask.any()
    flow[:, :, 40:] = 2
    for n in range(100, 150):
        overlays.add(marked(n, 1.0), n * 10**8, flow, 1)
    assert overlays.mask[:, 45:].any() and not overlays.mask[:, :35].any()


def test_flow_of_a_static_scene_is_that_of_its_projections() -> None:
    rng = np.random.default_rng(4)
    depth = rng.uniform(1, 5, CELLS.shape)
    T = np.eye(4)
    T[:3, :3] = se3.exp(np.array([0.02, -0.03, 0.05, 0, 0, 0]))[:3, :3]
    T[:3, 3] = 0.1, -0.05, 0.2
    camera = CAMERA.resized(CELLS.width, CELLS.height)
    here = np.moveaxis(CELLS.positions, 0, 2).reshape(-1, 2)
    there = camera.project(se3.transform(T, camera.unproject(here) * depth.reshape(-1, 1)))
    out = np.empty((2, *CELLS.shape), np.float32)
    P = CELLS.projections(T[None])[0]
    static_flow(CELLS.positions, (1 / depth).astype(np.float32), P, out)
    assert np.allclose(np.moveaxis(out, 0, 2).reshape(-1, 2), there - here, atol=1e-3)
