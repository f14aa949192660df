# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Dynamic masks on simulated scenes with exact depth and poses, and with errors added."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import cv2
import numpy as np
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.sim import SceneConfig, SimulatedFrame, SimulatedSequence
from recon3r_ros.slam.dynamics import motion
from recon3r_ros.slam.dynamics.cells import mask_size
from recon3r_ros.slam.dynamics.detector import keyframe_mask, MotionDetector
from recon3r_ros.slam.dynamics.motion import MotionEvidence
from recon3r_ros.slam.dynamics.seen_frame import SeenFrame
from recon3r_ros.slam.types import Keyframe
import torch

KEYFRAME_STEP = 12


@dataclass(frozen=True)
class Clip:
    """Rendered frames of one scene."""

    camera: Camera
    frames: tuple[SimulatedFrame, ...]


@cache
def clip(seed: int, moving: int, frames: int = 32, **more) -> Clip:
    """Render a scene."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more of them wait for each other on a busy machine
    try:
        sequence = SimulatedSequence(SceneConfig(
            seed=seed, frames=frames, moving_objects=moving, **more))
        return Clip(sequence.camera, tuple(sequence))
    finally:
        torch.set_num_threads(threads)


def gray(frame: SimulatedFrame) -> np.ndarray:
    """Tracking image of a frame."""
    return cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY)


def seen(image: np.ndarray, camera: Camera, reference: Keyframe | None = None, T=np.eye(4),
         stamp_ns: int = 0, index: int = 0) -> SeenFrame:
    """Make the detector's input from a grey or RGB image."""
    colours = cv2.resize(image, mask_size(camera), interpolation=cv2.INTER_AREA)
    if colours.ndim == 2:
        return SeenFrame(index, image, cv2.cvtColor(colours, cv2.COLOR_GRAY2RGB), reference, T,
                         stamp_ns)
    return SeenFrame(index, cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), colours, reference, T,
                     stamp_ns)


def found(detector: MotionDetector, frame: SeenFrame) -> np.ndarray:
    """Mask of a frame of which something is known."""
    mask = detector.detect(frame)
    assert mask is not None
    return mask


def keyframe(number: int, frame: SimulatedFrame, camera: Camera, mask=None) -> Keyframe:
    """Make a keyframe with exact depth on a grid of half the size, without dynamic objects."""
    image = np.ascontiguousarray(frame.image[::2, ::2])
    height, width = image.shape[:2]
    moving = frame.motion_mask[::2, ::2] if mask is None else mask
    return Keyframe(
        number, f'{frame.index}', frame.stamp_ns, frame.index, camera.resized(width, height),
        image, gray(frame), np.ones(1, np.float32), np.zeros((0, 2), np.int32),
        frame.T_world_cam, np.zeros(0), np.zeros(0), 1 / frame.depth[::2, ::2],
        np.full((height, width), 1e3, np.float32), moving)


def detect(scene: Clip, change=lambda k: k, disturb=lambda T: T) -> list[np.ndarray]:
    """Masks of all frames but the first, with a keyframe every so often."""
    detector = MotionDetector(scene.camera)
    reference = change(keyframe(0, scene.frames[0], scene.camera))
    masks = []
    for frame in scene.frames[1:]:
        T_ref_cam = se3.inverse(reference.T_map_cam) @ frame.T_world_cam
        masks.append(found(detector, seen(
            frame.image, scene.camera, reference, disturb(T_ref_cam))))
        if frame.index % KEYFRAME_STEP == 0:
            reference = change(keyframe(reference.id + 1, frame, scene.camera))
    return masks


def iou(scene: Clip, masks: list[np.ndarray]) -> float:
    """Mean over the frames from the sixteenth on."""
    values = []
    for frame, mask in list(zip(scene.frames[1:], masks))[15:]:
        truth = cv2.resize(frame.motion_mask.astype(np.uint8) * 255, mask.shape[::-1],
                           interpolation=cv2.INTER_AREA) >= 128
        values.append((mask & truth).sum() / (mask | truth).sum())
    return float(np.mean(values))


def share(masks: list[np.ndarray]) -> float:
    """Share of pixels masked."""
    return float(np.mean([m.mean() for m in masks]))


@pytest.mark.parametrize('seed, moving', [(3, 2), (2, 1)])
def test_moving_things_are_masked(seed, moving):
    scene = clip(seed, moving)
    masks = detect(scene)
    assert masks[0].shape == (160, 213) and masks[0].dtype == bool
    assert iou(scene, masks) > 0.7


def test_static_scene_is_not():
    assert share(detect(clip(1, 0))) < 0.002


def test_wrong_depth_within_its_uncertainty_is_not_motion():
    rng = np.random.default_rng(0)

    def spoil(k: Keyframe) -> Keyframe:
        # Smooth errors of 15 percent, and a quarter of the picture unknown
        coarse = rng.normal(0, 0.15, (6, 8)).astype(np.float32)
        error = cv2.resize(coarse, k.inverse_depth.shape[::-1], interpolation=cv2.INTER_CUBIC)
        known = cv2.resize(rng.random((6, 8)), k.inverse_depth.shape[::-1],
                           interpolation=cv2.INTER_NEAREST) > 0.25
        return replace(k, inverse_depth=np.where(known, k.inverse_depth * np.exp(error), 0),
                       confidence=np.where(known, np.float32(1 / 0.15 ** 2), np.float32(0)))
    assert share(detect(clip(1, 0), change=spoil)) < 0.005


def test_small_pose_errors_are_not_motion():
    rng = np.random.default_rng(0)
    assert share(detect(clip(1, 0), disturb=lambda T: T @ se3.exp(
        rng.normal(0, [1e-3] * 3 + [3e-3] * 3)))) < 0.005


def test_without_any_depth_the_epipolar_line_tells():
    def unknown(k: Keyframe) -> Keyframe:
        return replace(k, inverse_depth=np.zeros_like(k.inverse_depth),
                       confidence=np.zeros_like(k.confidence))
    assert share(detect(clip(1, 0), change=unknown)) < 0.005


def test_without_any_depth_what_leaves_the_epipolar_line_moves():
    rng = np.random.default_rng(0)
    camera = Camera.guess(640, 480)

    def texture(height: int, width: int) -> np.ndarray:
        noise = rng.normal(0, 1, (height, width))
        return np.clip(128 + 60 * sum(cv2.GaussianBlur(noise, (0, 0), s) * s for s in (1.5, 3, 6)),
                       0, 255).astype(np.uint8)
    background, square = texture(480, 700), texture(120, 160)
    base = keyframe(0, clip(1, 0).frames[0], clip(1, 0).camera)
    unknown = np.zeros_like(base.inverse_depth)
    reference = replace(base, gray=background[:, :640], inverse_depth=unknown,
                        confidence=unknown, mask=unknown > 0)
    detector = MotionDetector(camera)
    for n in range(1, 13):
        # The camera moves along a wall by a pixel a frame, the square moves down by three
        image = background[:, n:n + 640].copy()
        image[100 + 3 * n:220 + 3 * n, 200:360] = square
        T = se3.from_rt(np.eye(3), [2 * n / camera.fx, 0, 0])
        mask = found(detector, seen(image, camera, reference, T))
    # Rows 136 to 256 and columns 200 to 360 of the last image
    step = 640 / mask.shape[1]
    rows, columns = (np.round(np.array(ends) / step).astype(int)
                     for ends in ((136, 256), (200, 360)))
    truth = np.zeros(mask.shape, bool)
    truth[slice(*rows), slice(*columns)] = True
    assert (mask & truth).sum() / (mask | truth).sum() > 0.7


@pytest.mark.parametrize('level', [0.0, 3.0])
def test_standing_camera_with_noise_masks_nothing(level):
    frame = clip(1, 0).frames[0]
    camera = clip(1, 0).camera
    reference = keyframe(0, frame, camera)
    detector = MotionDetector(camera)
    rng = np.random.default_rng(0)
    masks = []
    for _ in range(12):
        noisy = gray(frame) + rng.normal(0, level, gray(frame).shape)
        image = np.clip(noisy, 0, 255).astype(np.uint8)
        masks.append(found(detector, seen(image, camera, reference)))
    assert share(masks) < 0.005


def test_blank_images_mask_nothing():
    camera, frame = clip(1, 0).camera, clip(1, 0).frames[0]
    detector = MotionDetector(camera)
    reference = replace(keyframe(0, frame, camera), gray=np.full((480, 640), 128, np.uint8))
    T = se3.from_rt(np.eye(3), [0.1, 0.0, 0.0])
    frames = [detector.detect(seen(reference.gray, camera, reference, T)) for _ in range(4)]
    assert not any(mask is not None and mask.any() for mask in frames)


def test_reset_forgets():
    scene = clip(3, 2)
    detector = MotionDetector(scene.camera)
    reference = keyframe(0, scene.frames[0], scene.camera)

    def once() -> list[np.ndarray]:
        return [found(detector, seen(f.image, scene.camera, reference,
                                     se3.inverse(reference.T_map_cam) @ f.T_world_cam))
                for f in scene.frames[1:10]]
    first = once()
    detector.reset()
    assert all(np.array_equal(a, b) for a, b in zip(first, once()))


@pytest.mark.parametrize('width, height, shape', [
    (641, 479, (159, 213)), (376, 240, (80, 125)), (60, 44, (16, 20))])
def test_any_size(width, height, shape):
    """A third of the image, but never less than 16 pixels."""
    camera = Camera.guess(width, height)
    frame = clip(1, 0).frames[0]
    image = cv2.resize(gray(frame), (width, height))
    reference = replace(keyframe(0, frame, camera), gray=image)
    mask = found(MotionDetector(camera), seen(image, camera, reference))
    assert mask.shape == shape
    assert not mask.any()


def test_keyframe_mask_covers_the_region_with_a_margin():
    scene = clip(1, 0)
    reference = keyframe(0, scene.frames[0], scene.camera)
    mask = np.zeros((120, 160), bool)
    mask[40:60, 50:80] = True
    grown = keyframe_mask(mask, reference)
    assert grown.shape == reference.inverse_depth.shape and grown.dtype == bool
    assert grown[80:120, 100:160].all()
    assert grown.sum() < 1.5 * 40 * 60
    assert not keyframe_mask(np.zeros((120, 160), bool), reference).any()


@pytest.mark.slow
def test_what_comes_to_rest_waits_and_is_then_static():
    """It moves for 0.7 s; half a second after it last moved it may enter the map."""
    sequence = SimulatedSequence(SceneConfig(
        seed=1, frames=90, width=480, height=360, trajectory='orbit', moving_size=0.08,
        arrival=0.7))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        frames = list(sequence)
    finally:
        torch.set_num_threads(threads)
    detector = MotionDetector(sequence.camera, rest_s=0.5)
    reference = keyframe(0, frames[0], sequence.camera)
    shares = []
    for frame in frames[1:]:
        T_ref_cam = se3.inverse(reference.T_map_cam) @ frame.T_world_cam
        detector.detect(seen(
            frame.image, sequence.camera, reference, T_ref_cam, frame.stamp_ns))
        unfit = detector.unsettled()
        shares.append(float(unfit.mean()))
        if frame.index % KEYFRAME_STEP == 0:
            size = reference.mask.shape[::-1]
            mask = cv2.resize(unfit.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
            reference = keyframe(reference.id + 1, frame, sequence.camera, mask)
    assert max(shares[10:20]) > 0.04, 'it moves'
    assert min(shares[21:33]) > 0.02, 'it stands, and waits'
    assert shares[-1] < 0.1 * max(shares), 'nearly all of it is part of the scene'


def test_a_loop_that_scales_the_map_scales_what_the_detector_knows():
    """Masks go on as if the map had been of the new size from the beginning."""
    scene, factor = clip(2, 1), 1.7

    def scaled(reference: Keyframe) -> Keyframe:
        return replace(reference, inverse_depth=reference.inverse_depth / np.float32(factor))

    def masks(rescale_at: int) -> list[np.ndarray]:
        detector = MotionDetector(scene.camera)
        reference, out = keyframe(0, scene.frames[0], scene.camera), []
        for frame in scene.frames[1:14]:
            if frame.index == rescale_at:
                reference = scaled(reference)
                detector.rescale(reference, factor)
            T = se3.inverse(scene.frames[0].T_world_cam) @ frame.T_world_cam
            T = se3.stretched(T, factor if frame.index >= rescale_at else 1.0)
            out.append(found(detector, seen(frame.image, scene.camera, reference, T)))
        return out

    for before, after in zip(masks(1)[8:], masks(9)[8:]):
        assert (before != after).mean() < 0.002


def without_poses(scene: Clip) -> list[np.ndarray | None]:
    """Masks of all frames, of which nothing but the images is known."""
    detector = MotionDetector(scene.camera)
    return [detector.detect(seen(frame.image, scene.camera)) for frame in scene.frames]


@pytest.mark.parametrize('seed, moving', [(3, 2), (2, 1)])
def test_moving_things_are_masked_without_poses(seed, moving):
    scene = clip(seed, moving)
    masks = without_poses(scene)
    assert masks[0] is None, 'one image says nothing'
    known = [mask for mask in masks[1:] if mask is not None]
    assert len(known) == len(masks) - 1, 'the second one does'
    assert iou(scene, known) > 0.6


def test_a_given_mask_is_an_object_and_is_held_without_it():
    """A detector of people gives a mask of every image, then fails for some."""
    scene = clip(1, 0)
    detector = MotionDetector(scene.camera, 2.0)
    given = np.zeros(detector.shape, bool)
    given[40:100, 60:120] = True
    masks = []
    for n, frame in enumerate(scene.frames):
        image = frame.image.copy()
        image[120:300, 180:360] = (220, 60, 160)
        mask = detector.detect(replace(seen(image, scene.camera),
                                       stamp_ns=frame.stamp_ns, given=given if n < 28 else None))
        assert mask is not None, 'also of the first image'
        masks.append(mask)
        if n < 28:
            assert mask[given].mean() > 0.95
        assert set(np.unique(detector.objects[22:48, 32:58])) == {1}
    assert (masks[29] & given).sum() > 0.8 * given.sum()


def test_what_cannot_be_seen_any_more_is_forgotten_in_seconds():
    """Not in frames: at 10 images a second it would last three times as long."""
    scene = clip(3, 2)
    left = []
    for rate, wait in ((30, 18), (10, 6)):
        evidence = MotionEvidence(scene.camera)
        for n, frame in enumerate(scene.frames):
            evidence.add(replace(seen(frame.image, scene.camera), stamp_ns=n * 10**9 // rate))
        moving = evidence.score > 1.5
        assert moving.mean() > 0.02
        for n in range(len(scene.frames), len(scene.frames) + wait):
            evidence.add(replace(seen(np.zeros_like(scene.frames[0].image), scene.camera),
                                 stamp_ns=n * 10**9 // rate))
        left.append(evidence.score[moving].mean())
    assert 0.3 < left[0] < 1.5
    assert left[1] == pytest.approx(left[0], rel=0.35)


@pytest.mark.parametrize('step_s, moving', [(0.1, False), (1.0, True)])
def test_a_still_says_as_much_as_several_frames(step_s, moving):
    """There are few of them: two votes are enough."""
    scene = clip(3, 2)
    evidence = MotionEvidence(scene.camera)
    for n, frame in enumerate(scene.frames[:10:4]):
        evidence.add(replace(seen(frame.image, scene.camera), stamp_ns=int(n * step_s * 1e9)))
    assert (evidence.score.max() > 2.5) == moving


@pytest.mark.parametrize('gap_s', [0, 3])
def test_a_gap_in_a_video_changes_nothing_for_long(gap_s):
    """One still does not make the camera one of stills; nor do large stamps."""
    scene = clip(3, 2)
    found = []
    for start_s, gap in ((0, 0), (1_700_000_000, gap_s)):
        evidence = MotionEvidence(scene.camera)
        for n, frame in enumerate(scene.frames):
            stamp_ns = (start_s + (gap if n > 2 else 0)) * 10**9 + n * 33_000_000
            evidence.add(replace(seen(frame.image, scene.camera), stamp_ns=stamp_ns))
        found.append(evidence.score > 1)
    assert (found[0] != found[1]).mean() < 0.01


def test_a_turning_camera_sees_nothing_move():
    """Without parallax a homography explains all of it, and the zoom of a lens, too."""
    frame = cv2.resize(clip(1, 0).frames[0].image, (960, 720))
    camera = clip(1, 0).camera
    detector = MotionDetector(camera)
    masks = []
    for n in range(20):
        H = np.array([[1 + 0.003 * n, 0.002 * n, -6.0 * n], [0, 1 + 0.003 * n, -3.0 * n],
                      [0, 1e-6 * n, 1.0]])
        image = cv2.warpPerspective(frame, H, (960, 720))[100:580, 100:740]
        mask = detector.detect(seen(np.ascontiguousarray(image), camera))
        masks += [] if mask is None else [mask]
    assert len(masks) == 19 and share(masks) < 0.002


def test_a_pose_may_be_missing_in_between():
    """Evidence by the image goes on, and that by the map after it."""
    scene = clip(3, 2)
    detector = MotionDetector(scene.camera)
    reference, masks = keyframe(0, scene.frames[0], scene.camera), []
    for frame in scene.frames[1:]:
        T = se3.inverse(reference.T_map_cam) @ frame.T_world_cam
        lost = 10 <= frame.index < 18
        masks.append(found(detector, seen(
            frame.image, scene.camera, None if lost else reference, T)))
    assert iou(scene, masks) > 0.6


@pytest.mark.parametrize('seed, moving, backwards', [(3, 2, False), (1, 0, True)])
def test_a_distorted_map_alone_must_explain_most_of_the_image(
        monkeypatch: pytest.MonkeyPatch, seed: int, moving: int, backwards: bool) -> None:
    """No dominant motion is found, as on water, and the focal length is guessed."""
    monkeypatch.setattr(motion, 'dominant_motion', lambda *_: None)
    scene = clip(seed, moving)
    detector = MotionDetector(scene.camera, calibrated=False)
    reference, masks = keyframe(0, scene.frames[0], scene.camera), []
    for frame in scene.frames[1:]:
        T = se3.inverse(reference.T_map_cam) @ frame.T_world_cam
        if backwards:
            T[:3, 3] *= -1
        masks.append(found(detector, seen(frame.image, scene.camera, reference, T)))
    if moving:
        assert iou(scene, masks) > 0.6, 'the map explains all but the objects'
    else:
        assert share(masks) < 0.005, 'the map explains nothing'


@pytest.mark.parametrize('seed', [3, 4])
def test_a_static_post_that_enters_the_image_is_not_masked(seed: int) -> None:
    """Its flow lies on the epipolar lines, in front of a wall whose depth is known."""
    scene = clip(seed, 0, 90, width=320, height=240, trajectory='sweep', post=True)
    detector = MotionDetector(scene.camera)
    reference, masks = keyframe(0, scene.frames[0], scene.camera), []
    for frame in scene.frames[1:50]:
        T = se3.inverse(reference.T_map_cam) @ frame.T_world_cam
        masks.append(found(detector, seen(frame.image, scene.camera, reference, T)))
    near = [f.depth < 0.5 * np.median(f.depth) for f in scene.frames[30:50]]
    assert share(near) > 0.05, 'the post is large'
    assert share(masks) < 0.005
