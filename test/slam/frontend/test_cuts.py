# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Cuts between simulated scenes are found once; what one scene can do is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.slam.frontend.cuts import CutDetector, Scene
from simulated import render, still_scene

if TYPE_CHECKING:
    from conftest import SharedData  # several folders have a conftest: not to be imported by name

Gray = NDArray[np.uint8]

#: Of the simulated videos
FRAMES = 12


def video(seed: int, every: int = 1, frames: int = FRAMES, trajectory: str = 'handheld'
          ) -> list[Gray]:
    """Render (120, 160) frames of a scene."""
    scene = still_scene(seed, every * frames, trajectory, 160, 120)
    return [cv2.cvtColor(render(scene, every * n).image, cv2.COLOR_RGB2GRAY)
            for n in range(frames)]


def scenes(images: Sequence[Gray]) -> list[Scene]:
    """Process images in order."""
    cuts = CutDetector()
    return [cuts.add(image) for image in images]


def brighter(image: Gray, factor: float) -> Gray:
    """Multiply grey values, which saturate."""
    return np.clip(factor * image, 0, 255).astype(np.uint8)


SAME = [Scene.SAME] * FRAMES
CUT = [Scene.UNCERTAIN, Scene.NEW, *SAME[2:]]
NOISE = np.random.default_rng(3).integers(0, 256, (FRAMES, 120, 160)).astype(np.uint8)


@pytest.mark.parametrize('seeds', [(1, 2), (2, 1), (3, 4)])
def test_a_cut_is_found_once(seeds: tuple[int, int]) -> None:
    first, second = map(video, seeds)
    assert scenes([*first, *second]) == [*SAME, *CUT]


def test_each_cut_of_a_video_is_found() -> None:
    assert scenes([*video(1), *video(2), *video(3)]) == [*SAME, *CUT, *CUT]


def test_a_cut_is_found_through_black() -> None:
    black = [np.zeros((120, 160), np.uint8)] * 3
    assert scenes([*video(1), *black, *video(2)]) == [*SAME, *SAME[:3], *CUT]


@pytest.mark.parametrize('trajectory', ['handheld', 'sweep'])
@pytest.mark.parametrize('every', [3, 5])
def test_fast_motion_is_no_cut(trajectory: str, every: int) -> None:
    assert scenes(video(5, every, trajectory=trajectory)) == SAME


def test_stills_are_never_cut() -> None:
    """Images that always differ do not tell where another scene begins."""
    assert Scene.NEW not in scenes([video(seed, frames=1)[0] for seed in range(1, 9)])


@pytest.mark.parametrize('factor', [0.5, 2.0])
def test_a_step_of_brightness_is_no_cut(factor: float) -> None:
    images = video(1)
    assert scenes([*images[:6], *(brighter(i, factor) for i in images[6:])]) == SAME


def test_flicker_is_no_cut() -> None:
    assert scenes([brighter(i, 1 + 0.2 * (-1) ** n) for n, i in enumerate(video(1))]) == SAME


@pytest.mark.parametrize('grey', [0, 255])
def test_a_single_blank_frame_is_no_cut(grey: int) -> None:
    images = video(1)
    images[6] = np.full_like(images[6], grey)
    assert scenes(images) == SAME


@pytest.mark.parametrize('bad', [video(2)[0], NOISE[0]], ids=['of another scene', 'noise'])
def test_a_single_bad_frame_is_uncertain_but_no_cut(bad: Gray) -> None:
    """Nor are two that differ."""
    images = video(1)
    images[6] = bad
    assert scenes(images) == [*SAME[:6], Scene.UNCERTAIN, *SAME[7:]]
    images[7] = NOISE[1]
    assert Scene.NEW not in scenes(images)


def test_noise_is_never_cut() -> None:
    assert scenes(list(NOISE)) == SAME


def test_an_object_that_covers_most_of_the_image_within_some_frames_is_no_cut() -> None:
    images, cover = video(1), cv2.resize(video(2)[0][30:90, 40:120], (160, 120))
    for n in range(6, FRAMES):
        width = 160 * min(n - 5, 3) // 4
        images[n] = np.hstack([cover[:, 160 - width:], images[n][:, width:]])
    assert scenes(images) == SAME


@pytest.mark.parametrize('pack', ['sevenscenes_redkitchen', 'kitti_06_first51', 'fox_object',
                                  'strecha_fountain_p11', 'davis_drift_straight'])
@pytest.mark.parametrize('every', [1, 2, 3, 5])
def test_real_sequences_of_one_scene_have_no_cut(shared_data: SharedData, pack: str, every: int
                                                 ) -> None:
    paths = sorted((shared_data.pack(pack) / 'images').iterdir())[:200:every]
    images = [cv2.imread(str(path), cv2.IMREAD_REDUCED_GRAYSCALE_2) for path in paths]
    assert Scene.NEW not in scenes(images)  # type: ignore[arg-type]
