# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The simulator against multi-view geometry: its images, depths, poses and masks must agree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import pixel_grid
from recon3r_ros.sim import SceneConfig, SimulatedFrame, SimulatedSequence
from recon3r_ros.sim.flow import true_flow
from recon3r_ros.sim.scene import build_scene
from recon3r_ros.sim.trajectories import PATHS, TRAJECTORIES
import torch

SMALL: dict[str, Any] = {'width': 160, 'height': 120}


@pytest.fixture(scope='module')
def sequence() -> SimulatedSequence:
    return SimulatedSequence(SceneConfig(seed=4, frames=60, moving_objects=2, **SMALL))


def warp(sequence: SimulatedSequence, i: SimulatedFrame,
         j: SimulatedFrame) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """
    Warp frame i into frame j under a static scene, with only K, depth and poses.

    :param sequence: of the frames
    :param i: source
    :param j: target
    :returns: pixels (H, W, 2) in j, where they are visible there (H, W), expected depth (H, W)
    """
    height, width = i.depth.shape
    pixels = pixel_grid(height, width)
    K = sequence.camera.K
    rays = np.concatenate([pixels, np.ones((height, width, 1))], axis=-1) @ np.linalg.inv(K).T
    points = rays * i.depth[..., None]
    T_j_i = np.linalg.inv(j.T_world_cam) @ i.T_world_cam
    points = points @ T_j_i[:3, :3].T + T_j_i[:3, 3]
    projected = points @ K.T
    target = projected[..., :2] / projected[..., 2:]
    inside = (points[..., 2] > 0.1) & np.all((target > 1) & (target < [width - 2, height - 2]), -1)
    return target, inside, points[..., 2]


def sample(array: NDArray[np.float32], pixels: NDArray[np.float64]) -> NDArray[np.float32]:
    maps = pixels.astype(np.float32)
    return cv2.remap(array, maps[..., 0], maps[..., 1], cv2.INTER_LINEAR)


def test_the_same_seed_gives_the_same_bits(sequence: SimulatedSequence) -> None:
    again = SimulatedSequence(sequence.config)
    first, second = sequence.render(7), again.render(7)
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.depth, second.depth)
    assert np.array_equal(first.motion_mask, second.motion_mask)
    assert np.array_equal(first.T_world_cam, second.T_world_cam)
    other = SimulatedSequence(SceneConfig(seed=5, frames=60, **SMALL)).render(7)
    assert np.abs(other.depth - first.depth).mean() > 0.05


def test_threads_do_not_change_the_bits(sequence: SimulatedSequence) -> None:
    threads = torch.get_num_threads()
    config = SceneConfig(seed=9, frames=4, width=400, height=300)
    try:
        torch.set_num_threads(1)
        one = SimulatedSequence(config).render(2)
        torch.set_num_threads(3)
        three = SimulatedSequence(config).render(2)
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(one.image, three.image)
    assert np.array_equal(one.depth, three.depth)


def test_global_generators_are_left_alone() -> None:
    torch.manual_seed(3)
    np.random.seed(3)
    states = torch.get_rng_state(), repr(np.random.get_state())
    SimulatedSequence(SceneConfig(frames=2, **SMALL)).render(0)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == repr(np.random.get_state())


def test_frames_have_the_promised_form(sequence: SimulatedSequence) -> None:
    assert len(sequence) == 60
    frame = sequence.render(6)
    assert (frame.index, frame.stamp_ns) == (6, 200_000_000)
    assert frame.image.shape == (120, 160, 3) and frame.image.dtype == np.uint8
    assert frame.depth.shape == (120, 160) and frame.depth.dtype == np.float32
    assert frame.motion_mask.shape == (120, 160) and frame.motion_mask.dtype == np.bool_
    assert frame.T_world_cam.shape == (4, 4) and frame.T_world_cam.dtype == np.float64
    assert np.isfinite(frame.depth).all() and frame.depth.min() > 0.1 and frame.depth.max() < 12
    up = -frame.T_world_cam[2, 1]  # the image's up, along the world's z
    assert up > 0.8
    assert [f.index for f in SimulatedSequence(SceneConfig(frames=3, **SMALL))] == [0, 1, 2]
    assert SceneConfig().camera.fx == pytest.approx(525, abs=1)


@pytest.mark.parametrize('kind', [*PATHS, 'turn'])
def test_static_pixels_obey_the_rigid_warp(kind: str) -> None:
    sequence = SimulatedSequence(SceneConfig(
        seed=1, frames=40, trajectory=kind, noise=0.0, supersampling=2, width=240, height=180))
    i, j = sequence.render(10), sequence.render(22)
    target, inside, expected = warp(sequence, i, j)
    assert np.median(np.linalg.norm(target - pixel_grid(180, 240), axis=-1)[inside]) > 2
    # both neighbours of a depth edge, in either image, are excluded
    found = sample(j.depth, target)
    jump = cv2.morphologyEx(j.depth, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    visible = inside & ~i.motion_mask & (sample(jump, target) < 0.3)
    visible &= sample(j.motion_mask.astype(np.float32), target) == 0
    agree = np.abs(found / expected - 1) < 0.01
    assert agree[visible].mean() > 0.93  # the rest is occluded in j
    visible &= agree
    assert np.median(np.abs(found / expected - 1)[visible]) < 2e-4
    error = np.abs(sample(j.image.astype(np.float32), target) - i.image).max(axis=-1)[visible]
    shifted = np.abs(sample(j.image.astype(np.float32), target + [1.0, 0.0])
                     - i.image).max(axis=-1)[visible]
    assert np.median(error) < 6
    assert np.median(shifted) > 2 * np.median(error)  # an error of a pixel would be detected


def test_moving_pixels_violate_the_rigid_warp() -> None:
    sequence = SimulatedSequence(SceneConfig(seed=2, frames=40, noise=0.0, width=240, height=180))
    moving, still = [], []
    for first in (0, 12, 24):
        i, j = sequence.render(first), sequence.render(first + 8)
        target, inside, _ = warp(sequence, i, j)
        error = np.abs(sample(j.image.astype(np.float32), target) - i.image).mean(axis=-1)
        moving.append(error[inside & i.motion_mask])
        still.append(error[inside & ~i.motion_mask])
    assert np.median(np.concatenate(moving)) > 4 * np.median(np.concatenate(still))


def test_moving_objects_carry_their_texture() -> None:
    sequence = SimulatedSequence(SceneConfig(seed=2, frames=40, noise=0.0, supersampling=2,
                                             width=240, height=180))
    i, j = sequence.render(10), sequence.render(14)
    paths = [item.path for item in sequence.scene.objects if item.moving]
    T_world_object = paths[0].poses(np.array([10, 14]) / 30)
    # warp with the camera's pose relative to the object
    relative = [replace(f, T_world_cam=np.linalg.inv(T) @ f.T_world_cam)
                for f, T in zip((i, j), T_world_object)]
    target, inside, expected = warp(sequence, *relative)
    seen = inside & i.motion_mask & (np.abs(sample(j.depth, target) / expected - 1) < 0.01)
    assert seen.sum() > 500
    # shading differs a little as the faces turn to the lamps
    error = np.abs(sample(j.image.astype(np.float32), target) - i.image).mean(axis=-1)
    assert np.median(error[seen]) < 8


@pytest.mark.parametrize('step', [-3, 3])
@pytest.mark.parametrize('kind', ['handheld', 'rest'])
def test_true_flow_leads_to_the_same_colours(kind: str, step: int) -> None:
    sequence = SimulatedSequence(SceneConfig(
        seed=2, frames=40, trajectory=kind, moving_objects=2, noise=0.0, supersampling=2,
        width=240, height=180))
    a, b = sequence.render(20), sequence.render(20 + step)
    flow = true_flow(sequence, a, b)
    # sub-pixel positions need both neighbours of the target on one surface
    jump = cv2.morphologyEx(b.depth, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    seen = flow.visible & (sample(jump, flow.targets) < 0.3)
    image = b.image.astype(np.float32)
    shift = np.linalg.norm(flow.targets - pixel_grid(180, 240), axis=-1)
    for region in (a.motion_mask, ~a.motion_mask):
        assert seen[region].mean() > 0.8
        error, shifted = (
            np.abs(sample(image, flow.targets + offset) - a.image).mean(axis=-1)[seen & region]
            for offset in ([0.0, 0.0], [1.0, 0.0]))
        assert np.median(error) < 6  # faces that turn to the lamps are shaded anew
        assert np.median(shifted) > 2 * np.median(error)  # an error of a pixel would be detected
    assert np.median(shift[a.motion_mask]) > 1
    assert (shift[~a.motion_mask].max() < 1e-6) == (kind == 'rest')


def test_true_flow_takes_the_true_mask_along() -> None:
    sequence = SimulatedSequence(SceneConfig(seed=1, frames=20, moving_objects=3, **SMALL))
    a, b = sequence.render(10), sequence.render(6)
    flow = true_flow(sequence, a, b)
    warped, own = flow.warped(b.motion_mask), a.motion_mask & flow.visible
    assert 0.05 < own.mean() and (warped & own).sum() > 0.95 * (warped | own).sum()
    assert 0.85 < flow.visible.mean() < 1, 'some surfaces are occluded or leave the image'
    hidden = ~flow.visible & ~a.motion_mask
    target = np.rint(flow.targets[hidden]).astype(int)
    inside = ((target >= 0) & (target < [160, 120])).all(axis=1)
    assert b.motion_mask[target[inside, 1], target[inside, 0]].mean() > 0.5, 'behind the objects'


def test_a_camera_in_place_does_not_move() -> None:
    for seed in range(3):
        rest, turn = (SceneConfig(seed=seed, frames=90, trajectory=kind)
                      for kind in ('rest', 'turn'))
        poses = build_scene(rest).camera_path.poses(rest.times)
        assert (poses == poses[0]).all()
        poses = build_scene(turn).camera_path.poses(turn.times)
        assert (poses[:, :3, 3] == poses[0, :3, 3]).all()
        steps = se3.rotation_angle(np.swapaxes(poses[:-1, :3, :3], 1, 2) @ poses[1:, :3, :3])
        speed = np.degrees(steps) * turn.fps
        assert 3 < speed.mean() and speed.max() < 40


def test_a_post_stands_still_in_front_of_the_room() -> None:
    for seed in range(3):
        config = SceneConfig(seed=seed, frames=90, trajectory='sweep', moving_objects=0,
                             post=True, **SMALL)
        sequence = SimulatedSequence(config)
        assert not any(item.moving for item in sequence.scene.objects)
        distances = []
        for frame in (sequence.render(index) for index in (39, 45, 51)):
            near = frame.depth < 0.9
            assert 0.03 < near.mean() < 0.3 and not frame.motion_mask.any()
            number, = np.unique(frame.object_index[near])
            distances.append(np.median(frame.depth[near]))
            assert np.median(frame.depth[~near]) > 2.5 * distances[-1]
        path = sequence.scene.objects[number].path.poses(config.times)
        assert (path == path[0]).all()
        assert 0.5 < distances[1] < 0.8
        eyes = sequence.scene.camera_path.poses(config.times)[:, :2, 3]
        assert np.linalg.norm(eyes - path[0, :2, 3], axis=1).min() > 0.3, 'the camera passes it'


@pytest.mark.parametrize('kind, seed', [*((kind, 0) for kind in TRAJECTORIES), ('handheld', 1),
                                        ('orbit', 2)])
def test_moving_object_is_in_view_and_of_the_size_asked_for(kind: str, seed: int) -> None:
    sequence = SimulatedSequence(SceneConfig(seed=seed, frames=90, trajectory=kind, width=80,
                                             height=60))
    covered = np.array([sequence.render(i).motion_mask.mean() for i in range(0, 90, 9)])
    assert (covered > 0.01).mean() >= 0.8
    assert 0.03 < covered.mean() < 0.12


def test_no_moving_objects_no_mask() -> None:
    frame = SimulatedSequence(SceneConfig(frames=2, moving_objects=0, **SMALL)).render(1)
    assert not frame.motion_mask.any()


def test_supersampling_changes_colour_only() -> None:
    plain = SimulatedSequence(SceneConfig(frames=2, **SMALL)).render(1)
    smooth = SimulatedSequence(SceneConfig(frames=2, supersampling=2, **SMALL)).render(1)
    assert np.array_equal(plain.depth, smooth.depth)
    assert np.array_equal(plain.motion_mask, smooth.motion_mask)
    difference = np.abs(plain.image.astype(float) - smooth.image)
    assert 0 < np.median(difference) < 8


def test_sensor_noise_has_the_standard_deviation_asked_for() -> None:
    clean = SimulatedSequence(SceneConfig(frames=2, noise=0.0, **SMALL)).render(1).image
    noisy = SimulatedSequence(SceneConfig(frames=2, noise=3.0, **SMALL)).render(1).image
    inner = (clean > 20) & (clean < 235)
    assert np.std((noisy.astype(float) - clean)[inner]) == pytest.approx(3.0, rel=0.05)


@pytest.mark.parametrize('kind', TRAJECTORIES)
def test_textures_give_features_everywhere(kind: str) -> None:
    sequence = SimulatedSequence(SceneConfig(seed=3, frames=2, trajectory=kind, width=320,
                                             height=240))
    grey = cv2.cvtColor(sequence.render(0).image, cv2.COLOR_RGB2GRAY)
    corners = cv2.goodFeaturesToTrack(grey, 2000, 0.01, 5)[:, 0]
    assert len(corners) > 500
    cells = np.histogram2d(corners[:, 1], corners[:, 0], bins=(6, 8),
                           range=((0, 240), (0, 320)))[0]
    assert (cells > 2).mean() > 0.85


def test_distance_does_not_alias() -> None:
    """Coarse pixels, single samples: without antialiasing, fine detail flickers."""
    sequence = SimulatedSequence(SceneConfig(seed=0, frames=10, noise=0.0, moving_objects=0,
                                             **SMALL))
    i, j = sequence.render(5), sequence.render(9)
    target, inside, expected = warp(sequence, i, j)
    seen = inside & (np.abs(sample(j.depth, target) / expected - 1) < 0.01)
    error = np.abs(sample(j.image.astype(np.float32), target) - i.image).mean(axis=-1)[seen]
    contrast = np.abs(np.diff(i.image.astype(float), axis=1)).mean()
    assert error.mean() < 0.5 * contrast  # 0.4; without the fading 0.75


@pytest.mark.parametrize('kind', PATHS)
def test_camera_moves_like_a_hand_and_collides_with_nothing(kind: str) -> None:
    for seed in range(3):
        config = SceneConfig(seed=seed, frames=150, trajectory=kind, moving_objects=seed)
        scene = build_scene(config)
        T_world_cam = scene.camera_path.poses(config.times)
        eyes = T_world_cam[:, :3, 3]
        speeds = np.linalg.norm(np.diff(eyes, axis=0), axis=1) * config.fps
        assert 0.15 < speeds.mean() < 0.6 and speeds.max() < 0.75
        steps = np.swapaxes(T_world_cam[:-1, :3, :3], 1, 2) @ T_world_cam[1:, :3, :3]
        assert np.degrees(se3.rotation_angle(steps)).max() * config.fps < 40
        for number, item in enumerate(scene.objects):
            poses = item.path.poses(config.times)
            local = se3.transform(se3.inverse(poses), eyes[:, None])[:, 0]
            beyond = (np.abs(local) - item.solid.half_size).max(axis=1)
            if number == 0:
                assert beyond.max() < -0.5  # well inside the room
            else:
                assert beyond.min() > 0.1
            if item.moving:
                path = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1) * config.fps
                assert 0.2 < path.mean() < 0.8


@pytest.mark.parametrize('name, value', [
    ('trajectory', 'spiral'), ('frames', 0), ('frames', -3), ('frames', 2.5), ('fps', 0.0),
    ('width', 0), ('horizontal_fov_deg', 180.0), ('moving_objects', -1), ('moving_size', 0.9),
    ('noise', -1.0), ('noise', float('nan')), ('supersampling', 0), ('seed', -1),
    ('post', True)])
def test_a_bad_value_is_quoted(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=name) as caught:
        SceneConfig(**{name: value})
    assert repr(value) in str(caught.value)


def test_too_many_moving_objects_are_refused() -> None:
    with pytest.raises(InputError, match='moving_objects: got 60'):
        SimulatedSequence(SceneConfig(frames=5, moving_objects=60, moving_size=0.3, **SMALL))


@pytest.mark.parametrize('index', [-1, 60])
def test_a_frame_out_of_range(sequence: SimulatedSequence, index: int) -> None:
    with pytest.raises(InputError, match=str(index)):
        sequence.render(index)
