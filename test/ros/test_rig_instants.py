# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rigs of the node without DDS: sources of mounts, and what becomes of an instant's images."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.ros.inputs import Arrival, Instant
from recon3r_ros.ros.mounts import Mounts
from recon3r_ros.ros.parameters import CameraConfig
from recon3r_ros.ros.rigs import Rig
from recon3r_ros.ros.stereo_pair import StereoPair
from recon3r_ros.slam.types import Frame

T = {name: se3.exp(np.array([0.1 * i, 1.0, 0.0, 0.2 * i, 0.0, 0.1]))
     for i, name in enumerate(('front', 'back', 'side', 'body'))}
EYE = np.eye(4)
MS = 1_000_000


def relative(poses: dict[str, np.ndarray], a: str, b: str) -> np.ndarray:
    """Pose of a camera in another one's frame."""
    return se3.inverse(poses[a]) @ poses[b]


def no_tf(frame: str) -> tuple[str, np.ndarray]:
    return frame, EYE


def test_the_first_source_with_two_cameras_is_taken_for_all() -> None:
    frames = {'front': 'f', 'back': 'b'}
    front = CameraConfig('front', T_base_cam=T['front'])
    back = CameraConfig('back', T_base_cam=T['back'])
    mounts = Mounts([front, back], no_tf)
    assert mounts.source_name == '<camera>.extrinsics'
    np.testing.assert_allclose(relative(mounts.known(frames), 'front', 'back'),
                               relative(T, 'front', 'back'))
    # One pose on the rig is enough: the first camera's frame is the rig's
    mounts = Mounts([front, CameraConfig('back', T['back'], T['side']), CameraConfig('side')],
                    no_tf)
    assert mounts.source_name == '<camera>.T_rig_cam'
    found = mounts.known({**frames, 'side': 's'})
    assert set(found) == {'front', 'back'}
    np.testing.assert_allclose(relative(found, 'front', 'back'), T['side'])
    assert 'side.T_rig_cam is missing' in mounts.remedy('side')


def test_calibration_files_state_mounts(tmp_path: Path) -> None:
    own = ('  camera_model: pinhole\n  intrinsics: [50, 50, 31.5, 23.5]\n'
           '  distortion_model: radtan\n  distortion_coeffs: [0, 0, 0, 0]\n'
           '  resolution: [64, 48]\n')
    (tmp_path / 'camchain.yaml').write_text(
        f'cam0:\n{own}cam1:\n{own}  T_cn_cnm1: {se3.inverse(T["back"]).tolist()}\n')
    path = str(tmp_path / 'camchain.yaml')
    mounts = Mounts([CameraConfig('front', calibration=path, number=0),
                     CameraConfig('back', calibration=path, number=1)], no_tf)
    assert mounts.source_name == '<camera>.calibration'
    np.testing.assert_allclose(relative(mounts.known({}), 'front', 'back'), T['back'], atol=1e-9)


def test_tf_states_mounts_of_cameras_with_frames_of_their_own() -> None:
    tree = {'f': ('body', T['front']), 'b': ('body', T['back']), 'h': ('head', T['side'])}
    mounts = Mounts([CameraConfig(name) for name in ('front', 'back', 'side')],
                    lambda frame: tree.get(frame, (frame, EYE)))
    assert mounts.known({'front': 'f'}) == {} and mounts.source_name == ''
    found = mounts.known({'front': 'f', 'back': 'b', 'side': 'h'})  # on a head that turns
    assert set(found) == {'front', 'back'} and mounts.source_name == 'TF'
    np.testing.assert_allclose(relative(found, 'front', 'back'), relative(T, 'front', 'back'))
    assert mounts.known({'front': 'f', 'back': 'f'}) == {}
    assert 'rig: false' in mounts.remedy('side')


class Scripted:
    """A rig of front, with the stereo partner side, and back; and the instants it passes on."""

    def __init__(self, T_first_second: np.ndarray | None = T['side']) -> None:
        self.instants: list[Instant] = []
        self.warnings: list[str] = []
        self.attached: list[str] = []
        extrinsics: Any = SimpleNamespace(
            T_first_second=lambda first, second, stamp_ns: T_first_second,
            remedy='publish it', source='TF')
        self.pair = StereoPair('front', 'side', extrinsics, self.warnings.append)
        placed: Any = SimpleNamespace(
            attach=lambda camera, first, T_first_cam: self.attached.append(camera))
        configs = [CameraConfig('front', T_rig_cam=T['front']),
                   CameraConfig('back', T_rig_cam=T['back']), CameraConfig('side')]
        self.rig = Rig('rig', ['front', 'back'], [self.pair], configs, 0.005,
                       Mounts(configs[:2], no_tf), placed, self.instants.append)
        self.inputs: dict[str, Any] = {
            c.name: SimpleNamespace(name=c.name, frame_id=c.name) for c in configs}
        self.rig.connect(list(self.inputs.values()))
        self.now_ms = 0

    def send(self, *names: str) -> None:
        """Let cameras send the images of the next instant, a tenth of a second later."""
        self.now_ms += 100
        for name in names:
            self.rig.on_arrival(Arrival(self.inputs[name], None, self.now_ms * MS,
                                        self.now_ms / 1e3, False))

    def frames(self, instant: Instant) -> dict[str, Frame]:
        """Assemble the frames of an instant."""
        camera = Camera(64, 48, 50.0, 50.0, 31.5, 23.5)
        return {f.camera_name: f for f in self.rig.assembled(instant, {
            name: Frame(np.zeros((48, 64), np.uint8), a.stamp_ns, name, 0, camera, name)
            for name, a in instant.arrivals.items()})}


def test_images_of_an_instant_come_together_with_mounts() -> None:
    made = Scripted()
    made.send('back', 'side', 'front')
    instant, = made.instants
    assert instant.source == 'rig' and list(instant.arrivals) == ['front', 'back', 'side']
    found = made.frames(instant)
    assert set(found) == {'front', 'back'} and found['front'].stereo is not None
    mounts = {name: f.mount for name, f in found.items() if f.mount is not None}
    assert {m.instant_ns for m in mounts.values()} == {instant.stamp_ns}
    np.testing.assert_allclose(relative({n: m.T_rig_cam for n, m in mounts.items()},
                                        'front', 'back'), relative(T, 'front', 'back'))
    assert made.rig.health().complete == 1


def test_a_dead_camera_delays_the_others_for_a_few_instants_only() -> None:
    made = Scripted()
    for _ in range(12):
        made.send('front', 'side', 'back')
    for n in range(1, 8):
        made.send('front', 'side')
        # Waited for three times, each until the next image is newer by more than the patience
        assert len(made.instants) - 12 == (n - 1 if n < 4 else n)
    health = made.rig.health()
    assert health.missing['back'] == 7 and health.complete == 12


def test_the_second_camera_stands_in_for_an_absent_first_one() -> None:
    made = Scripted()
    for _ in range(12):
        made.send('front', 'side', 'back')
    before = len(made.instants)
    for _ in range(8):
        made.send('side', 'back')
    alone = made.instants[before:]
    cameras = [set(i.arrivals) for i in alone]
    assert cameras[0] == {'back'}, 'an image that is missing once is no sign of a dead camera'
    assert cameras[-1] == {'side', 'back'}
    found = made.frames(alone[-1])
    assert made.pair.stands_in and made.attached == ['side']
    assert found['side'].mount is not None and found['back'].mount is not None
    np.testing.assert_allclose(
        se3.inverse(found['back'].mount.T_rig_cam) @ found['side'].mount.T_rig_cam,
        relative(T, 'back', 'front') @ T['side'], atol=1e-9)
    made.send('front', 'side', 'back')
    found = made.frames(made.instants[-1])
    assert set(found) == {'front', 'back'} and found['front'].stereo is not None
    assert not made.pair.stands_in and made.rig.relieved() == ['side']
    assert made.rig.relieved() == []


def test_without_extrinsics_nothing_stands_in() -> None:
    made = Scripted(None)
    for _ in range(12):
        made.send('front', 'side', 'back')
    for _ in range(8):
        made.send('side', 'back')
    assert set(made.frames(made.instants[-1])) == {'back'}
    assert not made.pair.stands_in and 'publish it' in made.warnings[-1]


@pytest.mark.parametrize('name', ['back', 'side'])
def test_the_offset_of_a_camera_is_named(name: str) -> None:
    made = Scripted()
    for n in range(40):
        made.send(*{'front', 'back', 'side'} - {name})
        late_ms = made.now_ms + 30
        made.rig.on_arrival(Arrival(made.inputs[name], None, late_ms * MS,
                                    made.now_ms / 1e3, False))
    assert f'{name}.time_offset: -0.0300' in made.rig.health().notice
    notice = made.rig.pair_healths()[0].notice
    assert ('side.time_offset' in notice) == (name == 'side')
