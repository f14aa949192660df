# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recordings of several cameras on a rig: poses by a calibration, or by /tf_static."""

from __future__ import annotations

from dataclasses import replace
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import se3
from recon3r_ros.io.bag import open_bag
from recon3r_ros.io.rig_calibration import read_rig_calibration
from recordings import image_message, info_message, stamps, STORE, TYPES, write_bag

T_FRONT_BACK = se3.from_rt(se3.so3_exp([0.05, np.pi, 0.0]), [0.0, 0.02, -0.2])
T_FRONT_SIDE = se3.from_rt(np.eye(3), [0.1, 0.0, 0.0])
CAMERA = {'width': 64, 'height': 48, 'fx': 50.0, 'fy': 50.0, 'cx': 31.5, 'cy': 23.5}


def of_frame(message: Any, frame: str) -> Any:
    """Return a message in a frame."""
    return replace(message, header=replace(message.header, frame_id=frame))


def images(name: str, numbers: range | tuple[int, ...], late_ns: int = 0) -> list[Any]:
    """Return images of a camera, at instants a tenth of a second apart."""
    return [of_frame(image_message(stamps(4)[i] + late_ns, np.full(
        (48, 64), 10 * i + len(name), np.uint8), 'mono8'), name) for i in numbers]


def transform(parent: str, child: str, T: np.ndarray) -> Any:
    """Return a transform."""
    x, y, z, w = se3.quat_xyzw_from_matrix(T[:3, :3])
    own = {name: TYPES[f'geometry_msgs/msg/{name}'] for name in (
        'TransformStamped', 'Transform', 'Vector3', 'Quaternion')}
    header = replace(image_message(0, np.zeros((1, 1), np.uint8), 'mono8').header, frame_id=parent)
    return own['TransformStamped'](header, child, own['Transform'](
        own['Vector3'](*T[:3, 3]), own['Quaternion'](x, y, z, w)))


def make_bag(path: Path, static: bool = True) -> Path:
    """Record three cameras; of the second instant there is no image of the one behind."""
    topics: dict[str, list[Any]] = {
        '/front/image_raw': images('front', range(4)),
        '/side/image_raw': images('side', range(4), 1_000_000),
        '/back/image_raw': images('back', (0, 2, 3), 2_000_000)}
    topics |= {f'/{name}/camera_info': [info_message(stamps(1)[0], d=(0, 0, 0, 0, 0))]
               for name in ('front', 'side', 'back')}
    if static:
        message = TYPES['tf2_msgs/msg/TFMessage']([
            transform('body', 'front', np.eye(4)), transform('front', 'side', T_FRONT_SIDE),
            transform('body', 'back', T_FRONT_BACK)])
        topics['/tf_static'] = ['tf2_msgs/msg/TFMessage', bytes(
            STORE.serialize_cdr(message, 'tf2_msgs/msg/TFMessage'))]
    return write_bag(path, topics)


@pytest.fixture
def rig_json(tmp_path: Path) -> Path:
    (tmp_path / 'rig.json').write_text(json.dumps({
        'front': CAMERA, 'side': CAMERA, 'back': CAMERA, 'T_front_side': T_FRONT_SIDE.tolist(),
        'T_front_back': T_FRONT_BACK.tolist()}))
    return tmp_path / 'rig.json'


@pytest.mark.parametrize('calibrated', [True, False])
def test_instants_of_three_cameras_of_which_two_are_a_stereo_pair(
        tmp_path: Path, rig_json: Path, calibrated: bool) -> None:
    path = make_bag(tmp_path / 'bag', not calibrated)
    if calibrated:
        sequence = open_bag(path, rig=rig_json)
    else:
        sequence = open_bag(path, ('/front/image_raw', '/side/image_raw', '/back/image_raw'))
        assert any('/tf_static' in note for note in sequence.notes)
    frames = list(sequence)
    assert [f.camera_name for f in frames] == [
        'front', 'back', 'front', 'front', 'back', 'front', 'back']
    assert len(sequence) == len(frames) and len({f.index for f in frames}) == len(frames)
    for frame in frames:
        assert frame.mount is not None
        assert frame.mount.instant_ns == frame.stamp_ns - 2_000_000 * (frame.camera_name == 'back')
        assert (frame.stereo is not None) == (frame.camera_name == 'front')
        if frame.stereo is not None:
            np.testing.assert_allclose(frame.stereo.T_cam_other, T_FRONT_SIDE, atol=1e-6)
            assert frame.stereo.image[0, 0] == frame.image[0, 0] - 1  # 'side' is shorter
    poses = {f.camera_name: f.mount.T_rig_cam for f in frames if f.mount is not None}
    np.testing.assert_allclose(se3.inverse(poses['front']) @ poses['back'], T_FRONT_BACK,
                               atol=1e-6)


def test_cameras_may_be_used_without_their_poses(tmp_path: Path) -> None:
    sequence = open_bag(make_bag(tmp_path / 'bag'), ('/front/image_raw', '/back/image_raw'),
                        rig='none')
    assert all(f.mount is None and f.stereo is None for f in sequence)
    assert not any('tf_static' in note for note in sequence.notes)


def test_a_camchain_states_poses_and_topics(tmp_path: Path) -> None:
    text = ''
    for number, name in enumerate(('front', 'side', 'back')):
        text += (f'cam{number}:\n  camera_model: pinhole\n  intrinsics: [50, 50, 31.5, 23.5]\n'
                 f'  distortion_model: radtan\n  distortion_coeffs: [0, 0, 0, 0]\n'
                 f'  resolution: [64, 48]\n  rostopic: /{name}/image_raw\n')
        if number:
            T_before = T_FRONT_SIDE if number == 1 else se3.inverse(T_FRONT_SIDE) @ T_FRONT_BACK
            text += f'  T_cn_cnm1: {se3.inverse(T_before).tolist()}\n'
    (tmp_path / 'camchain.yaml').write_text(text)
    cameras = read_rig_calibration(tmp_path / 'camchain.yaml')
    assert [c.name for c in cameras] == ['cam0', 'cam1', 'cam2']
    np.testing.assert_allclose(cameras[2].T_rig_cam, T_FRONT_BACK, atol=1e-9)
    frames = list(open_bag(make_bag(tmp_path / 'bag', False), rig=tmp_path / 'camchain.yaml'))
    assert {f.camera_name for f in frames} == {'cam0', 'cam2'}


def test_a_folder_of_euroc(shared_data) -> None:
    first, second = read_rig_calibration(shared_data.pack('euroc_v101_stereo_imu'))
    T = se3.inverse(first.T_rig_cam) @ second.T_rig_cam
    assert np.linalg.norm(T[:3, 3]) == pytest.approx(0.11, abs=0.001)
    assert first.calibration.fx == pytest.approx(458.654)


@pytest.mark.parametrize('topics, changes, words', [
    (('/front/image_raw',), {}, '1 image topics for the 3 cameras of the rig, front, side, back'),
    ((), {'back': None}, 'T_front_back is missing|0 image topics'),
    ((), {'side': {'width': 64}}, 'side: height: missing'),
    ((), {'back': None, 'side': None}, 'holds 1 camera'),
    ((), {'T_front_side': None}, 'T_front_side is missing')])
def test_what_is_wrong_is_named(tmp_path: Path, rig_json: Path, topics: tuple[str, ...],
                                changes: dict[str, Any], words: str) -> None:
    values = json.loads(rig_json.read_text()) | changes
    if changes == {'back': None}:
        values['behind'], values['T_front_behind'] = CAMERA, T_FRONT_BACK.tolist()
    rig_json.write_text(json.dumps({k: v for k, v in values.items() if v is not None}))
    with pytest.raises(InputError, match=words):
        open_bag(make_bag(tmp_path / 'bag', False), topics, rig=rig_json)
