# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From distorted source images to pinhole views and back."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.geometry.camera import Camera, pixel_grid
from recon3r_ros.slam.frontend.rectification import Rectifier, TRACKING_PIXELS
from recon3r_ros.slam.types import Frame
from simulated import render, still_scene

SCENE = still_scene(3, frames=100, trajectory='orbit', width=640, height=480)
LENSES = {
    'barrel': Camera(520, 400, 400.0, 402.0, 262.0, 195.0, (-0.25, 0.06, 3e-4, -2e-4)),
    'pincushion': Camera(520, 400, 470.0, 470.0, 255.0, 202.0, (0.12, -0.1, 0.0, 0.0, 0.0)),
    'fisheye': Camera(520, 400, 420.0, 420.0, 259.5, 199.5, (0.02, -0.005, 0.0, 0.0),
                      'equidistant'),
}


def photograph(camera: Camera) -> Frame:
    """See a simulated frame through another lens, ray by ray."""
    pixels = SCENE.camera.project(camera.unproject(pixel_grid(camera.height, camera.width)))
    x, y = np.moveaxis(np.nan_to_num(pixels, nan=-99.0), -1, 0).astype(np.float32)
    image = cv2.remap(render(SCENE, 0).image, x, y, cv2.INTER_CUBIC)
    return Frame(image, 0, 'photo', 0, camera)


def difference(image: NDArray[np.uint8], camera: Camera, margin: int = 4) -> float:
    """Mean difference in grey levels from what a pinhole camera would have seen."""
    pixels = SCENE.camera.project(camera.unproject(pixel_grid(camera.height, camera.width)))
    x, y = np.moveaxis(pixels, -1, 0).astype(np.float32)
    truth = render(SCENE, 0).image
    if image.ndim == 2:
        truth = cv2.cvtColor(truth, cv2.COLOR_RGB2GRAY)
    expected = cv2.remap(truth, x, y, cv2.INTER_LINEAR).astype(float)
    inside = (x > margin) & (y > margin) & (x < 639 - margin) & (y < 479 - margin)
    return float(np.abs(image.astype(float) - expected)[inside].mean())


@pytest.mark.parametrize('lens', LENSES)
def test_a_distorted_image_becomes_what_a_pinhole_sees(lens: str) -> None:
    frame = photograph(LENSES[lens])
    rectifier = Rectifier.of(frame)
    view = rectifier.view(frame)
    assert view.calibrated and view.camera.is_pinhole
    assert view.image.shape[:2] == (view.camera.height, view.camera.width)
    assert difference(view.image, view.camera) < 4.0
    # the measure tells: without rectification it is large
    wrong = replace(LENSES[lens], distortion=(), model='plumb_bob')
    assert difference(frame.image, wrong) > 2 * difference(view.image, view.camera)
    gray = rectifier.tracking_image(frame)
    camera = rectifier.tracking_camera
    assert gray.dtype == np.uint8 and gray.shape == (camera.height, camera.width)
    assert difference(gray, camera) < 4.0


@pytest.mark.parametrize('lens', LENSES)
def test_masks_return_to_the_source_image(lens: str) -> None:
    """A disc in the source image, rectified, comes back to where it was."""
    camera = LENSES[lens]
    rectifier = Rectifier.of(photograph(camera))
    disc = cv2.circle(np.zeros((400, 520), np.uint8), (300, 150), 60, 255, -1)
    seen = rectifier.view(Frame(disc, 0, 'disc', 0, camera)).image > 127
    for size in ((520, 400), (260, 200)):
        mask = cv2.resize(seen.astype(np.uint8), size, interpolation=cv2.INTER_AREA) > 0
        back = rectifier.mask_to_source(mask)
        assert back.shape == disc.shape and back.dtype == bool
        overlap = (back & (disc > 0)).sum() / (back | (disc > 0)).sum()
        assert overlap > (0.98 if size == (520, 400) else 0.95)


@pytest.mark.parametrize('lens', LENSES)
def test_labels_return_to_the_source_image_as_they_are(lens: str) -> None:
    camera = LENSES[lens]
    rectifier = Rectifier.of(photograph(camera))
    labels = np.zeros((100, 130), np.int32)
    labels[30:70, 40:80], labels[30:70, 80:120] = 3, 100_000
    back = rectifier.labels_to_source(labels)
    assert back.shape == (400, 520) and set(np.unique(back)) == {0, 3, 100_000}
    for label in (3, 100_000):
        expected = rectifier.mask_to_source(labels == label)
        assert ((back == label) & expected).sum() / ((back == label) | expected).sum() > 0.95


def test_masks_of_a_pinhole_only_change_their_size() -> None:
    rectifier = Rectifier(SCENE.camera, True)
    mask = np.zeros((48, 64), bool)
    mask[10:20, 30:50] = True
    back = rectifier.mask_to_source(mask)
    assert back.shape == (480, 640)
    assert back.sum() == pytest.approx(100 * mask.sum(), rel=0.05)
    assert back[105:195, 305:495].all() and not back[:95].any()


def test_a_small_pinhole_image_is_not_touched() -> None:
    frame = Frame(render(SCENE, 0).image, 0, 'a', 0, SCENE.camera)
    rectifier = Rectifier.of(frame)
    assert np.array_equal(rectifier.view(frame).image, frame.image)
    assert np.array_equal(rectifier.tracking_image(frame),
                          cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY))


@pytest.mark.parametrize('distortion', [(), (-0.05, 0.0, 0.0, 0.0)])
def test_a_large_image_is_tracked_small(distortion: tuple[float, ...]) -> None:
    camera = replace(SCENE.camera.resized(1600, 1200), distortion=distortion)
    frame = photograph(camera)
    rectifier = Rectifier.of(frame)
    gray, small = rectifier.tracking_image(frame), rectifier.tracking_camera
    assert gray.shape == (small.height, small.width)
    assert gray.size <= 1.01 * TRACKING_PIXELS
    assert rectifier.view(frame).image.shape == (1200, 1600, 3)
    assert difference(gray, small) < 6.0


def test_grey_images() -> None:
    colour = photograph(LENSES['barrel'])
    grey = replace(colour, image=cv2.cvtColor(colour.image, cv2.COLOR_RGB2GRAY))
    rectifier = Rectifier.of(grey)
    assert rectifier.view(grey).image.shape == (400, 520)
    assert rectifier.tracking_image(grey).shape == (400, 520)


def test_an_unknown_camera_is_guessed_and_refocused() -> None:
    frame = Frame(np.zeros((300, 500, 3), np.uint8), 0, 'a', 0, None)
    rectifier = Rectifier.of(frame)
    assert not rectifier.calibrated and not rectifier.view(frame).calibrated
    before = rectifier.camera
    rectifier.refocus(1.2)
    rectifier.refocus(1.3)
    assert rectifier.camera.fx == pytest.approx(1.3 * before.fx), 'relative to the guess'
    assert rectifier.tracking_camera.fx == pytest.approx(1.3 * before.fx)
    assert rectifier.view(frame).camera == rectifier.camera


def test_the_guess_is_the_focal_length_of_the_photograph() -> None:
    frame = Frame(np.zeros((300, 500, 3), np.uint8), 0, 'a', 0, None, focal_prior=420.0)
    rectifier = Rectifier.of(frame)
    assert not rectifier.calibrated and not rectifier.view(frame).calibrated
    assert rectifier.camera.fx == rectifier.camera.fy == pytest.approx(420.0)
    rectifier.refocus(1.1)
    assert rectifier.camera.fx == pytest.approx(462.0)
    assert rectifier.tracking_camera.fy == pytest.approx(462.0)


def test_a_known_camera_is_not_refocused() -> None:
    rectifier = Rectifier(SCENE.camera, True)
    rectifier.refocus(1.3)
    assert rectifier.camera == SCENE.camera
    rectifier.refocus(1.3, 1.1)
    assert rectifier.camera.fx == pytest.approx(1.1 * SCENE.camera.fx)


def test_a_camera_of_another_size_is_an_error() -> None:
    frame = Frame(np.zeros((300, 500, 3), np.uint8), 0, 'odd', 0, SCENE.camera)
    with pytest.raises(InputError, match='odd.*500x300.*640x480'):
        Rectifier.of(frame)
