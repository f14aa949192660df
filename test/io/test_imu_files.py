# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Samples of an IMU from packs, EuRoC and recordings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import se3
from recon3r_ros.io.bag_imu import recorded_imu
from recon3r_ros.io.imu import find_imu, ImuSequence, write_imu
from recon3r_ros.io.sequences import open_sequence
from recon3r_ros.slam.imu.samples import ImuSamples
from recordings import image_message, START_NS, STORE, TYPES, write_bag

T_CAM_IMU = se3.from_rt(se3.so3_exp([0.3, -0.2, 1.0]), [0.01, 0.02, -0.03])


def samples(count: int = 50, start_ns: int = START_NS) -> ImuSamples:
    rng = np.random.default_rng(1)
    return ImuSamples(start_ns + np.arange(count) * 5_000_000, rng.normal(size=(count, 3)),
                      rng.normal(size=(count, 3)), T_CAM_IMU[:3, :3], 2e-4, 3e-3)


def test_a_pack_is_read_as_it_was_written(tmp_path):
    given = samples()
    write_imu(tmp_path, given, T_CAM_IMU)
    found = find_imu(tmp_path)
    assert np.array_equal(found.stamps_ns, given.stamps_ns)
    assert np.allclose(found.gyroscope, given.gyroscope, rtol=1e-8)
    assert np.allclose(found.accelerometer, given.accelerometer, rtol=1e-8)
    assert np.allclose(found.R_cam_imu, given.R_cam_imu)
    assert (found.gyroscope_noise, found.accelerometer_noise) == (2e-4, 3e-3)
    assert find_imu(tmp_path.parent) is None


@pytest.mark.parametrize('change, words', [
    (lambda p: (p / 'imu.csv').write_text('1.0 2 3\n'), ['imu.csv line 1', 'wx wy wz']),
    (lambda p: (p / 'imu.csv').write_text('# nothing\n'), ['imu.csv', 'no samples']),
    (lambda p: (p / 'imu.json').unlink(), ['imu.json', 'T_cam_imu']),
    (lambda p: (p / 'imu.json').write_text('{}'), ['imu.json', 'T_cam_imu', '4x4']),
    (lambda p: (p / 'imu.json').write_text(json.dumps({'T_cam_imu': np.diag(
        [1, 1, -1, 1]).tolist()})), ['imu.json', 'no rigid motion']),
    (lambda p: (p / 'imu.json').write_text(json.dumps({
        'T_cam_imu': np.eye(4).tolist(), 'gyroscope_noise': -1})), ['gyroscope_noise', '-1']),
])
def test_bad_files_are_named(tmp_path, change, words):
    write_imu(tmp_path, samples(), T_CAM_IMU)
    change(tmp_path)
    with pytest.raises(InputError) as error:
        find_imu(tmp_path)
    assert all(word in str(error.value) for word in words), error.value


def test_frames_get_the_samples_since_the_one_before(tmp_path):
    import cv2
    (tmp_path / 'images').mkdir()
    for i in range(3):
        cv2.imwrite(str(tmp_path / 'images' / f'{i}.png'), np.full((48, 64), 50 * i, np.uint8))
    (tmp_path / 'frames.txt').write_text('5.0 0.png\n5.1 1.png\n5.2 2.png\n')
    write_imu(tmp_path, samples(80, 4_903_000_000), T_CAM_IMU)
    sequence = ImuSequence(open_sequence(images=tmp_path), {'camera': find_imu(tmp_path)})
    for _ in range(2):  # again, as when frames are completed
        frames = list(sequence)
        for before, frame in zip(frames, frames[1:]):
            assert frame.imu.stamps_ns[0] <= before.stamp_ns
            # One beyond the image, so that the rate at its time is known
            assert frame.imu.stamps_ns[-2] < frame.stamp_ns <= frame.imu.stamps_ns[-1]
        assert frames[0].imu.stamps_ns[0] == 4_903_000_000


def test_euroc_has_its_extrinsics_in_two_files(shared_data):
    camera = shared_data.pack('euroc_v101_stereo_imu') / 'mav0' / 'cam0'
    found = find_imu(camera)
    assert len(found) == 661 and found.gyroscope_noise == pytest.approx(1.6968e-4)
    # The body's x axis is up in this drone, and the camera's y axis is down, along -x
    assert np.allclose(found.R_cam_imu @ [1, 0, 0], [0.0149, -0.99988, 0.0041], atol=1e-3)
    assert found.accelerometer[0] == pytest.approx([9.0875, 0.1308, -3.6938], abs=1e-3)


def imu_message(stamp_ns: int, rate, force):
    vector = TYPES['geometry_msgs/msg/Vector3']
    time = TYPES['builtin_interfaces/msg/Time']
    header = TYPES['std_msgs/msg/Header'](
        stamp=time(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9), frame_id='imu')
    return TYPES['sensor_msgs/msg/Imu'](
        header=header,
        orientation=TYPES['geometry_msgs/msg/Quaternion'](x=0.0, y=0.0, z=0.0, w=1.0),
        orientation_covariance=np.zeros(9), angular_velocity=vector(*rate),
        angular_velocity_covariance=np.zeros(9), linear_acceleration=vector(*force),
        linear_acceleration_covariance=np.zeros(9))


def static_message(T_cam_imu):
    x, y, z, w = se3.quat_xyzw_from_matrix(T_cam_imu[:3, :3]).tolist()
    vector = TYPES['geometry_msgs/msg/Vector3']
    transform = TYPES['geometry_msgs/msg/TransformStamped'](
        header=imu_message(START_NS, (0, 0, 0), (0, 0, 0)).header, child_frame_id='imu',
        transform=TYPES['geometry_msgs/msg/Transform'](
            translation=vector(*T_cam_imu[:3, 3].tolist()),
            rotation=TYPES['geometry_msgs/msg/Quaternion'](x=x, y=y, z=z, w=w)))
    transform.header.frame_id = 'camera'
    message = TYPES['tf2_msgs/msg/TFMessage'](transforms=[transform])
    return bytes(STORE.serialize_cdr(message, message.__msgtype__))


def recording(path: Path, with_tf: bool) -> Path:
    given = samples()
    topics = {
        '/camera/image_raw': [image_message(START_NS + i * 10**8, np.full(
            (48, 64), 40 * i, np.uint8), 'mono8') for i in range(3)],
        '/imu': [imu_message(int(s), w, f) for s, w, f in zip(
            given.stamps_ns, given.gyroscope, given.accelerometer)]}
    if with_tf:
        topics['/tf_static'] = ['tf2_msgs/msg/TFMessage', static_message(T_CAM_IMU)]
    return write_bag(path / 'bag', topics)


def test_a_recording_has_the_pose_in_tf_static(tmp_path):
    found = recorded_imu(recording(tmp_path, True), '/imu')['camera']
    given = samples()
    assert np.array_equal(found.stamps_ns, given.stamps_ns)
    assert np.allclose(found.gyroscope, given.gyroscope)
    assert np.allclose(found.R_cam_imu, T_CAM_IMU[:3, :3])


def test_a_recording_without_the_pose_needs_a_file(tmp_path):
    bag = recording(tmp_path, False)
    with pytest.raises(InputError, match='imu.*camera.*--imu-extrinsics'):
        recorded_imu(bag, '/imu')
    with pytest.raises(InputError, match='/other.*recorded: /imu'):
        recorded_imu(bag, '/other')
    file = tmp_path / 'imu.json'
    file.write_text(json.dumps({'T_cam_imu': T_CAM_IMU.tolist()}))
    found = recorded_imu(bag, '/imu', extrinsics=file)['camera']
    assert np.allclose(found.R_cam_imu, T_CAM_IMU[:3, :3])
