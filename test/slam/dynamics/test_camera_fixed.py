# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is fixed to the camera, in pictures that move behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import cv2
import numpy as np
import pytest
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.slam.dynamics.camera_fixed import CameraFixed
from recon3r_ros.slam.dynamics.cells import Cells
from recon3r_ros.slam.dynamics.detector import MotionDetector
from recon3r_ros.slam.dynamics.motion import MotionEvidence
from recon3r_ros.slam.dynamics.motion_smoothing import smooth
from recon3r_ros.slam.dynamics.seen_frame import SeenFrame
from test_motion import seen

CAMERA = Camera(240, 180, 200, 200, 119.5, 89.5)
#: What the camera carries: a strip at the image's lower border
STRIP = np.zeros((180, 240), bool)
STRIP[126:] = True
FRAMES = 40


@cache
def texture(height: int, width: int, seed: int) -> np.ndarray:
    """Structure of several sizes, (H, W) uint8."""
    rng = np.random.default_rng(seed)
    out = np.zeros((height, width), np.float32)
    for size in (4, 12, 36):
        coarse = rng.normal(size=(height // size + 2, width // size + 2)).astype(np.float32)
        out += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(120 + 35 * out, 0, 255).astype(np.uint8)


def world(n: int, moves: bool = True) -> np.ndarray:
    """Picture (H, W) that a camera sees that pans to and fro over a wall."""
    x = 60 + 50 * np.sin(n / 9) if moves else 60.0
    M = np.array([[1, 0, -x], [0, 1, -20 - 0.2 * x]])
    return np.asarray(cv2.warpAffine(texture(300, 400, 1), M, (240, 180)))


def carried(n: int, moves: bool = True) -> np.ndarray:
    """Picture with a strip that is fixed to the camera, in light that changes."""
    image, own = world(n, moves), texture(180, 240, 2) * (1 + 0.05 * np.sin(n / 7))
    noise = np.random.default_rng(n).normal(0, 1.5, own.shape)
    image[STRIP] = np.clip(own + noise, 0, 255).astype(np.uint8)[STRIP]
    return image


def shown(pictures: Callable[[int], np.ndarray], frames: int = FRAMES) -> Iterator[SeenFrame]:
    """Frames of a camera without poses."""
    for n in range(frames):
        yield seen(pictures(n), CAMERA, stamp_ns=n * 33_000_000, index=n)


def of_mask(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Bring pixels to mask pixels."""
    return cv2.resize(pixels.astype(np.uint8), shape[::-1], interpolation=cv2.INTER_AREA) > 0


def test_a_strip_is_found_and_is_no_dynamic_object() -> None:
    detector = MotionDetector(CAMERA, 2.0)
    inner = of_mask(STRIP, detector.shape)
    for frame in shown(carried):
        mask = detector.detect(frame)
    assert detector.fixed[inner].mean() > 0.95
    assert detector.fixed[~inner].mean() < 0.06
    assert mask is not None and not mask[inner].any() and not detector.objects.any()
    assert not detector.evidence.score[detector.evidence.fixed].any()


def test_what_a_camera_follows_is_not_fixed() -> None:
    """An object, at the image's border, stays at its place while its parts move a little."""
    def followed(n: int) -> np.ndarray:
        image = world(n)
        rows, columns = np.mgrid[:90, :90].astype(np.float32)
        sway = 2.5 * np.sin(n / 5 + rows / 20)
        bob = 1.5 * np.sin(n / 4 + columns / 30)
        image[90:, 80:170] = cv2.remap(
            texture(120, 120, 3), columns + 15 + sway, rows + 15 + bob, cv2.INTER_LINEAR)
        return image

    detector = MotionDetector(CAMERA, 2.0)
    for frame in shown(followed, 60):
        mask = detector.detect(frame)
        assert not detector.fixed.any()
    assert mask is not None and mask[35:55, 32:50].mean() > 0.5, 'it is a dynamic object'


def test_while_the_image_rests_nothing_is_learned_or_forgotten() -> None:
    detector = MotionDetector(CAMERA)
    for frame in shown(lambda n: carried(n, False)):
        detector.detect(frame)
    assert not detector.fixed.any()
    for frame in shown(carried):
        detector.detect(frame)
    known = detector.fixed
    for frame in shown(lambda n: carried(FRAMES - 1 if n < 1 else n, False)):
        detector.detect(frame)
    assert known.any() and (detector.fixed ^ known).mean() < 0.01


@pytest.mark.parametrize('way, share', [(0.0, 0.0), (2.0, 0.3)])
def test_what_moves_before_a_camera_at_rest_fixes_nothing(way: float, share: float) -> None:
    """It fills most of the image; poses tell."""
    cells = Cells.of_camera(CAMERA)
    still = of_mask(STRIP, cells.shape)
    length = np.where(still, 0, 3).astype(np.float32)
    fixed = CameraFixed(cells.shape, cells.width)
    for n in range(FRAMES):
        image = np.where(STRIP, texture(180, 240, 2), world(n))
        fixed.add(cells.of_image(image), length, np.ones(cells.shape, bool), 2, way)
    assert abs(fixed.cells.mean() - share) < 0.06


def test_a_camera_of_another_focal_length_carries_the_same_and_a_cut_forgets_it() -> None:
    detector = MotionDetector(CAMERA)
    for frame in shown(carried):
        detector.detect(frame)
    known = detector.fixed
    detector.refocus(Camera(240, 180, 230, 230, 119.5, 89.5))
    assert known.any() and np.array_equal(detector.fixed, known)
    detector.reset()
    assert not detector.fixed.any()


def test_the_black_surround_of_a_lens_is_found_without_texture() -> None:
    camera = Camera(320, 240, 267, 267, 159.5, 119.5)
    rows, columns = np.mgrid[:240, :320]
    surround = np.hypot(rows - 119.5, columns - 159.5) > 150
    detector = MotionDetector(camera)
    for n in range(60):
        image = cv2.resize(world(n), (320, 240))
        image[surround] = 3
        detector.detect(seen(image, camera, stamp_ns=n * 33_000_000, index=n))
    inner = of_mask(surround, detector.shape)
    assert detector.fixed[inner].mean() > 0.8
    assert detector.fixed[~inner].mean() < 0.05


def test_what_was_fixed_moves_again() -> None:
    """A gripper is taken away: its pixels show the world."""
    detector = MotionDetector(CAMERA)
    for frame in shown(lambda n: carried(n) if n < FRAMES else world(n), 2 * FRAMES):
        detector.detect(frame)
        if frame.index == FRAMES - 1:
            assert detector.fixed.any()
    assert not detector.fixed.any()


def test_offline_masks_leave_it_out_from_the_first_frame_on() -> None:
    frames = list(shown(carried, 50))
    masks = dict(smooth(frames, MotionEvidence(CAMERA), lambda: MotionEvidence(CAMERA)))
    for mask in masks.values():
        assert mask is not None and not mask[of_mask(STRIP, mask.shape)].any()
