# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Wrong extrinsics of a rig are named and refined; right ones give no alarm."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.calibrations import read_calibration
from recon3r_ros.io.calibrations.document import numbers, parse
from recon3r_ros.sim import SceneConfig, SimulatedSequence
from recon3r_ros.slam.extrinsics_check import ExtrinsicsCheck
from recon3r_ros.slam.types import StereoView
import torch

T_LEFT_RIGHT = se3.from_rt(np.eye(3), [0.11, 0.0, 0.0])


def disturbed(T, pitch=0.0, yaw=0.0, roll=0.0, up=0.0, forward=0.0):
    """Turn the second camera, and the direction of the baseline, by degrees."""
    R = se3.so3_exp(np.deg2rad([pitch, yaw, roll]))
    turned = se3.so3_exp(np.deg2rad([0.0, forward, up]))
    return se3.from_rt(R @ T[:3, :3], turned @ T[:3, 3])


def apart(T_a, T_b):
    """Degrees between rotations, and between directions of the baselines."""
    cosine = T_a[:3, 3] @ T_b[:3, 3] / np.linalg.norm(T_a[:3, 3]) / np.linalg.norm(T_b[:3, 3])
    return (np.rad2deg(se3.rotation_angle(T_a[:3, :3].T @ T_b[:3, :3])),
            np.rad2deg(np.arccos(min(cosine, 1.0))))


def checked(pairs, camera, other_camera, T_given):
    check = ExtrinsicsCheck(T_given, 'right')
    for image, other in pairs:
        check.add(image, camera, StereoView(other, other_camera, T_given))
    return check.state


@pytest.fixture(scope='module')
def simulated():
    torch.set_num_threads(1)
    config = SceneConfig(seed=4, frames=120, width=480, height=360, moving_objects=0)
    left, right = SimulatedSequence(config), SimulatedSequence(config)
    right._T_world_cam = left._T_world_cam @ T_LEFT_RIGHT
    pairs = [(left.render(i).image, right.render(i).image) for i in range(0, 120, 6)]
    # Each camera's noise is its own
    rng = np.random.default_rng(0)
    noisy = [tuple(np.clip(image + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8)
                   for image in pair) for pair in pairs]
    return config.camera, noisy


@pytest.mark.parametrize('wrong, words', [
    ({'pitch': 2}, 'rotation by 2.0 deg about x (pitch)'),
    ({'yaw': -2}, 'about y (yaw)'),
    ({'roll': 2}, 'rotation by 2.0 deg about z (roll)'),
    ({'up': 5}, 'direction of the baseline'),
    ({'forward': -5}, 'direction of the baseline'),
    ({'pitch': -2, 'yaw': 1, 'up': 5}, 'about x (pitch)'),
])
def test_wrong_extrinsics_are_named_and_refined(simulated, wrong, words):
    camera, pairs = simulated
    given = disturbed(T_LEFT_RIGHT, **wrong)
    state = checked(pairs, camera, camera, given)
    assert words in state.notice and '\n' not in state.notice
    assert state.refined and state.refined_error_px < state.error_px
    rotation, direction = apart(state.T_cam_other, T_LEFT_RIGHT)
    assert rotation < 0.2 and direction < 1.0
    assert np.linalg.norm(state.T_cam_other[:3, 3]) == pytest.approx(0.11)


def test_right_extrinsics_stay_as_they_are(simulated):
    camera, pairs = simulated
    state = checked(pairs, camera, camera, T_LEFT_RIGHT)
    assert state.notice == '' and state.T_cam_other is T_LEFT_RIGHT
    assert state.pairs == len(pairs) and state.error_px < 0.3


def test_images_of_other_instants_are_not_taken_for_wrong_extrinsics(simulated):
    """The rig moves: what pairs say of the extrinsics does not agree."""
    camera, pairs = simulated
    shifted = [(a, b) for (a, _), (_, b) in zip(pairs, pairs[1:])]
    state = checked(shifted, camera, camera, T_LEFT_RIGHT)
    assert not state.refined


def test_images_without_texture_say_nothing():
    camera = Camera(64, 48, 50, 50, 32, 24)
    state = checked([(np.zeros((48, 64), np.uint8),) * 2] * 3, camera, camera, T_LEFT_RIGHT)
    assert state.error_px is None and state.pairs == 0


def real_rig(shared_data, name):
    """Return pairs, both cameras and T_left_right."""
    if name == 'stereo_motorcycle':
        pack = shared_data.pack(name)
        rig = json.loads((pack / 'rig.json').read_text())
        cameras = [Camera(**{**rig[side], 'distortion': tuple(rig[side]['distortion'])})
                   for side in ('left', 'right')]
        pair = tuple(cv2.imread(str(pack / side / '0.png'), cv2.IMREAD_GRAYSCALE)
                     for side in ('left', 'right'))
        return [pair] * 6, *cameras, np.array(rig['T_left_right'], float)
    folder = shared_data.pack(name) / 'mav0'
    files = [folder / camera / 'sensor.yaml' for camera in ('cam0', 'cam1')]
    T_body_cam = [np.reshape(numbers(parse(f).mapping['T_BS'], 'T_BS'), (4, 4)) for f in files]
    images = sorted((folder / 'cam0' / 'data').glob('*.png'))
    pairs = [tuple(cv2.imread(str(folder / c / 'data' / i.name), cv2.IMREAD_GRAYSCALE)
                   for c in ('cam0', 'cam1')) for i in images]
    return (pairs, *(read_calibration(f).camera() for f in files),
            se3.inverse(T_body_cam[0]) @ T_body_cam[1])


@pytest.mark.parametrize('name', ['stereo_motorcycle', 'euroc_v101_stereo_imu'])
def test_real_rigs(shared_data, name):
    *rig, T_left_right = real_rig(shared_data, name)
    assert checked(*rig, T_left_right).notice == ''
    assert 'about x (pitch)' in checked(*rig, disturbed(T_left_right, pitch=2)).notice
    assert 'direction' in checked(*rig, disturbed(T_left_right, up=5)).notice
