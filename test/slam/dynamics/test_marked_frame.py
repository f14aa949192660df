# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Attention of a keyframe as evidence in the frames after it.

A camera pans along a wall with a sign on it, which does not move: attention alone can mask it.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
from keyframes_by_hand import keyframe
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.slam.dynamics.cells import mask_size
from recon3r_ros.slam.dynamics.detector import MotionDetector
from recon3r_ros.slam.dynamics.marked_frame import MarkedFrame, MAX_STEPS
from recon3r_ros.slam.dynamics.seen_frame import SeenFrame
from recon3r_ros.slam.types import Keyframe

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
CAMERA = Camera.guess(480, 360)
#: Pixels that the camera pans in a frame
SPEED = 6
#: The sign on the wall, pixels
ROWS, COLUMNS = slice(90, 270), slice(240, 430)
MARKED, SEEDED = 8, 16


def wall(textured: bool) -> Image:
    """Paint a wall with a sign of one colour, or one that has texture."""
    noise = np.random.default_rng(0).normal(0, 1, (CAMERA.height, CAMERA.width + SPEED * 30))
    gray = np.clip(128 + 60 * sum(cv2.GaussianBlur(noise, (0, 0), s) * s for s in (1.5, 3, 6)),
                   0, 255).astype(np.uint8)
    out = cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB)
    out[ROWS, COLUMNS, 1:] = 60
    if not textured:
        out[ROWS, COLUMNS, 0] = 200
    return out


WALL = {textured: wall(textured) for textured in (False, True)}


def seen(n: int, textured: bool = False) -> SeenFrame:
    """Frame n of the pan."""
    image = np.ascontiguousarray(WALL[textured][:, SPEED * n:SPEED * n + CAMERA.width])
    return SeenFrame(n, cv2.cvtColor(image, cv2.COLOR_RGB2GRAY),
                     cv2.resize(image, mask_size(CAMERA), interpolation=cv2.INTER_AREA))


def sign(n: int, width: int, height: int) -> Mask:
    """Mask (height, width) of the sign in frame n."""
    full = np.zeros((CAMERA.height, CAMERA.width), np.uint8)
    full[ROWS, COLUMNS.start - SPEED * n:COLUMNS.stop - SPEED * n] = 255
    return cv2.resize(full, (width, height), interpolation=cv2.INTER_AREA) >= 128


def attended(index: int) -> Keyframe:
    """Make the keyframe of a frame, with the sign as a dynamic object by attention."""
    grid = CAMERA.resized(CAMERA.width // 2, CAMERA.height // 2)
    return replace(keyframe(1, camera=grid), index=index,
                   attention=sign(index, grid.width, grid.height))


def panned(made: Keyframe | None, textured: bool = False, reset_at: int = -1
           ) -> dict[int, Mask]:
    """Masks of the frames after a keyframe was finished, by index; the frame MARKED is marked."""
    detector, masks = MotionDetector(CAMERA), {}
    for n in range(SEEDED + 4):
        if n == reset_at:
            detector.reset()
        mask = detector.detect(seen(n, textured))
        if n == MARKED:
            detector.mark()
        if n == SEEDED and made is not None:
            detector.seed(made)
        if n > SEEDED:
            assert mask is not None
            masks[n] = mask
    return masks


def test_attention_masks_what_flow_says_nothing_about_where_the_image_has_moved_it() -> None:
    assert SPEED * (SEEDED - MARKED) > 0.2 * (COLUMNS.stop - COLUMNS.start)
    for n, mask in panned(attended(MARKED)).items():
        truth = sign(n, mask.shape[1], mask.shape[0])
        assert mask[truth].mean() > 0.6 and (mask & truth).sum() > 0.9 * mask.sum()


@pytest.mark.parametrize('made, reset_at', [
    (None, -1), (replace(attended(MARKED), attention=None), -1), (attended(MARKED + 1), -1),
    (attended(MARKED), MARKED + 2)])
def test_without_attention_of_the_marked_frame_nothing_is_masked(
        made: Keyframe | None, reset_at: int) -> None:
    """There is no attention, it is another frame's, or there was a cut in between."""
    assert not any(mask.any() for mask in panned(made, reset_at=reset_at).values())


def test_attention_alone_does_not_mask_what_was_seen_standing_still() -> None:
    assert not any(mask.any() for mask in panned(attended(MARKED), textured=True).values())


def test_attention_is_believed_for_some_frames() -> None:
    """What nothing else speaks for is let go, and a keyframe seeds once."""
    detector, made = MotionDetector(CAMERA), attended(4)
    masked = []
    for n in range(24):
        mask = detector.detect(seen(n))
        if n == 4:
            detector.mark()
        if n >= 5:
            detector.seed(made)
        masked.append(mask is not None and bool(mask.any()))
    assert not any(masked[:6]) and all(masked[6:12]) and not any(masked[20:])


def shift(columns: float, shape: tuple[int, int] = (20, 30)) -> NDArray[np.float32]:
    """Where the previous frame saw the cells: so many columns to the right."""
    x, y = np.meshgrid(np.arange(shape[1]), np.arange(shape[0]))
    return np.stack([x + columns, y]).astype(np.float32)


def test_steps_add_up() -> None:
    """Positions are composed: a field is interpolated once, and its edges do not wear off."""
    field = np.zeros((20, 30), np.float32)
    field[5:10, 18:24] = 1
    marked = MarkedFrame(0)
    assert marked.in_newest(field) is field
    for _ in range(8):
        assert marked.follow(shift(0.75))
    expected = np.roll(field, -6, axis=1)
    assert np.allclose(marked.in_newest(field), expected, atol=1e-4)


def test_what_came_into_view_since_was_not_seen() -> None:
    marked = MarkedFrame(0)
    for columns in (4.0, -4.0):  # there and back
        marked.follow(shift(columns))
    out = marked.in_newest(np.ones((20, 30), np.float32))
    assert np.allclose(out[:, 4:], 1) and not out[:, :4].any()


def test_a_frame_of_long_ago_is_forgotten() -> None:
    marked, step = MarkedFrame(0), shift(0.0)
    assert [marked.follow(step) for _ in range(MAX_STEPS + 1)] == [True] * MAX_STEPS + [False]
