# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rotation, bias, rest and gravity by an IMU whose truth is known."""

from __future__ import annotations

from functools import lru_cache
import logging

import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.errors import GeometryError
from recon3r_ros.geometry import se3
from recon3r_ros.slam.imu.gravity import levelled, T_BODY_OPTICAL
from recon3r_ros.slam.imu.inertial import Inertial
from recon3r_ros.slam.imu.integration import integrated
from recon3r_ros.slam.imu.samples import ImuSamples

Array = NDArray[np.float64]

G = 9.80665
STEP_NS, FRAME_NS = 5_000_000, 33_333_333
R_CAM_IMU = se3.so3_exp([0.4, -1.1, 0.7])
COVARIANCE = np.eye(3) * 1e-6
#: A picture with corners
PICTURE = np.kron(np.random.default_rng(5).integers(0, 256, (24, 32), dtype=np.uint8),
                  np.ones((10, 10), np.uint8))


def rate(times: Array) -> Array:
    """Angular velocity (n, 3) of a hand that looks around, in the IMU's frame, rad/s."""
    return np.stack([0.8 * np.sin(2 * times), np.cos(1.3 * times) - 0.2, 0.5 * np.sin(3 * times)],
                    axis=1)


@lru_cache(maxsize=1)
def orientations() -> list[Array]:
    """R_world_imu (3, 3) every half millisecond, much finer than the samples."""
    found = [np.eye(3)]
    for step in se3.so3_exp(rate(np.arange(0.5, 10 * 2000) / 2000) / 2000):
        found.append(found[-1] @ step)
    return found


def orientation(seconds: float) -> Array:
    """R_world_imu (3, 3)."""
    return orientations()[round(seconds * 2000)]


def measured(seconds: float, bias: Array = np.zeros(3), turning: bool = True) -> ImuSamples:
    """Return samples from 0 on, of an IMU that turns in place, or rests."""
    stamps = np.arange(0, round(seconds * 1e9) + STEP_NS, STEP_NS)
    times = stamps * 1e-9
    rng = np.random.default_rng(3)
    rates = rate(times) if turning else np.zeros((len(times), 3))
    up = np.tile([0.1, 0.2, 1.0] / np.linalg.norm([0.1, 0.2, 1.0]), (len(times), 1))
    R, forces = np.eye(3), np.empty_like(up)
    for i, turn in enumerate(se3.so3_exp(rates * STEP_NS * 1e-9)):
        forces[i], R = R.T @ up[i] * G, R @ turn
    return ImuSamples(stamps, rates + bias + rng.normal(0, 2e-3, rates.shape),
                      forces + rng.normal(0, 0.02, forces.shape), R_CAM_IMU)


def feed(inertial: Inertial, samples: ImuSamples, seconds: float, image=PICTURE,
         track: bool = True, R_wrong: Array = np.eye(3)) -> list:
    """Give frames with their samples, and their true rotations; return what the IMU says."""
    turns = []
    for i in range(int(seconds * 1e9) // FRAME_NS):
        stamp_ns = i * FRAME_NS
        turns.append(inertial.add('camera', stamp_ns, samples.between(
            stamp_ns - FRAME_NS - 2 * STEP_NS, stamp_ns + STEP_NS), image))
        if track and i % 3 == 0:
            inertial.tracked('camera', stamp_ns, R_CAM_IMU @ orientation(stamp_ns * 1e-9)
                             @ R_CAM_IMU.T @ R_wrong, COVARIANCE)
    return turns


def test_rotation_of_a_varying_rate_and_its_derivative():
    samples = measured(1.0)
    begin_ns, end_ns = 103_000_000, 701_000_000  # between samples
    found = integrated(samples, np.zeros(3), begin_ns, end_ns)
    true = orientation(0.103).T @ orientation(0.701)
    assert se3.rotation_angle(found.R_begin_end.T @ true) < 2e-3  # the noise of 0.6 s
    bias = np.array([0.01, -0.02, 0.015])
    other = integrated(samples, bias, begin_ns, end_ns)
    assert np.allclose(se3.so3_log(found.R_begin_end.T @ other.R_begin_end), found.J @ bias,
                       atol=2e-4)
    assert found.duration_s == pytest.approx(0.598)


def test_nothing_is_invented_where_samples_are_missing():
    samples = measured(1.0)
    hole = samples.chosen((samples.stamps_ns < 300_000_000) | (samples.stamps_ns > 400_000_000))
    assert integrated(hole, np.zeros(3), 200_000_000, 500_000_000) is None
    assert integrated(hole, np.zeros(3), 500_000_000, 700_000_000) is not None
    assert integrated(samples, np.zeros(3), 900_000_000, 1_200_000_000) is None
    assert integrated(samples.chosen(slice(0)), np.zeros(3), 0, 10) is None


def test_the_order_of_samples_does_not_matter():
    samples = measured(0.5)
    order = np.random.default_rng(0).permutation(len(samples))
    mixed = samples.chosen(order)
    again = mixed.joined(mixed.chosen(slice(10)))
    assert np.array_equal(again.stamps_ns, samples.stamps_ns)
    assert np.array_equal(again.gyroscope, samples.gyroscope)


def test_bias_by_tracked_rotations_makes_turns_right():
    bias = np.array([0.05, -0.04, 0.03])
    inertial = Inertial()
    turns = feed(inertial, measured(8.0, bias), 8.0)
    mean, sigma = inertial.bias
    assert np.abs(mean - bias).max() < 5e-3 and sigma < 5e-3
    i = len(turns) - 1
    true = R_CAM_IMU @ (orientation((i - 1) * FRAME_NS * 1e-9).T
                        @ orientation(i * FRAME_NS * 1e-9)) @ R_CAM_IMU.T
    assert se3.rotation_angle(turns[-1].R_prev_cam.T @ true) < 3 * max(turns[-1].sigma, 2e-4)
    assert inertial.gyroscope_problem == ''


def test_a_camera_that_stands_gives_bias_and_gravity_and_does_not_turn():
    bias = np.array([0.05, -0.04, 0.03])
    inertial = Inertial()
    turns = feed(inertial, measured(3.0, bias, turning=False), 3.0, track=False)
    assert all(t.still and np.array_equal(t.R_prev_cam, np.eye(3)) for t in turns[40:])
    assert np.abs(inertial.bias[0] - bias).max() < 2e-3
    gravity = inertial.gravity([('camera', i * FRAME_NS, np.eye(3)) for i in range(len(turns))])
    up = R_CAM_IMU @ [0.1, 0.2, 1.0] / np.linalg.norm([0.1, 0.2, 1.0])
    assert gravity.source == 'standstill' and gravity.certain
    assert np.rad2deg(np.arccos(gravity.up @ up)) < 0.2


def test_a_quiet_imu_is_not_at_rest_where_images_move():
    """On a turntable the gyroscope is as constant as at rest: the rotation is no bias."""
    inertial, samples = Inertial(), measured(3.0, np.array([0.0, 0.3, 0.0]), turning=False)
    for i in range(80):
        turn = inertial.add('camera', i * FRAME_NS, samples.between(
            (i - 1) * FRAME_NS - STEP_NS, i * FRAME_NS + STEP_NS), np.roll(PICTURE, 3 * i, 1))
        assert turn is None or not turn.still
    assert np.abs(inertial.bias[0]).max() < 1e-9


def test_gravity_of_a_moving_camera_needs_time():
    inertial, samples = Inertial(), measured(9.0)
    moving = PICTURE[:, ::-1]
    feed(inertial, samples, 9.0, moving)
    up = np.array([0.1, 0.2, 1.0]) / np.linalg.norm([0.1, 0.2, 1.0])

    def known(seconds: float):
        return inertial.gravity([
            ('camera', i * FRAME_NS, orientation(i * FRAME_NS * 1e-9) @ R_CAM_IMU.T)
            for i in range(int(seconds * 1e9) // FRAME_NS)])
    assert not known(2.0).certain and known(9.0).certain
    for seconds in (2.0, 9.0):
        found = known(seconds)
        assert np.arccos(np.clip(found.up @ up, -1, 1)) < 3 * found.sigma
    assert inertial.gravity([]) is None


def test_wrong_extrinsics_are_found_and_named(caplog):
    inertial, samples = Inertial(), measured(8.0)
    wrong = ImuSamples(samples.stamps_ns, samples.gyroscope, samples.accelerometer,
                       R_CAM_IMU @ se3.so3_exp([0.0, 1.5, 0.0]))
    with caplog.at_level(logging.WARNING):
        turns = feed(inertial, wrong, 8.0, PICTURE[:, ::-1])
    assert turns[-1] is None and 'extrinsics' in inertial.gyroscope_problem
    assert sum('extrinsics' in r.message for r in caplog.records) == 1


@pytest.mark.parametrize('kind, word', [('dead', 'dead'), ('saturated', 'saturated'),
                                        ('degrees', 'not degrees'), ('nan', 'not finite')])
def test_a_broken_gyroscope_is_ignored_and_named(caplog, kind, word):
    samples = measured(3.0)
    rates = samples.gyroscope.copy()
    if kind == 'dead':
        rates[:] = 0.0
    elif kind == 'saturated':
        rates = rates.clip(-1.02, 1.02)
        rates[300:320, 1] = 1.02
    elif kind == 'degrees':
        rates *= 180
    else:
        rates[::2] = np.nan
    broken = ImuSamples(samples.stamps_ns, rates, samples.accelerometer, R_CAM_IMU)
    with caplog.at_level(logging.WARNING):
        turns = feed(Inertial(), broken, 3.0, PICTURE[:, ::-1], track=False)
    assert any(word in r.message for r in caplog.records)
    at = 1.55 if kind == 'saturated' else 2.5
    turn = turns[int(at * 1e9) // FRAME_NS]
    # Of half of the samples, the others are good ones
    assert (turn is None) == (kind != 'nan')


def test_levelled_keeps_the_heading():
    up = np.array([0.2, -0.9, -0.3]) / np.linalg.norm([0.2, -0.9, -0.3])  # in an optical frame
    T = levelled(T_BODY_OPTICAL, up)
    assert np.allclose(T[:3, :3] @ up, [0, 0, 1]) and np.isclose(np.linalg.det(T[:3, :3]), 1)
    ahead = T[:3, :3] @ [0, 0, 1]
    assert abs(ahead[1]) < 1e-12 and ahead[0] > 0
    for steep in ([0, 0, 1], [0, 0, -1]):  # the camera looks up, or down
        R = levelled(T_BODY_OPTICAL, np.array(steep, float))[:3, :3]
        assert np.allclose(R @ steep, [0, 0, 1]) and np.isclose(np.linalg.det(R), 1)


def test_samples_of_other_shapes_are_refused():
    with pytest.raises(GeometryError, match='gyroscope'):
        ImuSamples(np.arange(3), np.zeros((2, 3)), np.zeros((3, 3)))
    with pytest.raises(GeometryError, match='R_cam_imu'):
        ImuSamples(np.arange(3), np.zeros((3, 3)), np.zeros((3, 3)), np.eye(3) * 2)
