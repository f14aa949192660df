# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Packs read back by independent means."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
import pytest
from recon3r_ros.errors import OutputError
from recon3r_ros.geometry.se3 import from_rt, so3_exp
from recon3r_ros.io.calibrations import read_calibration
from recon3r_ros.io.image_folder import open_image_folder
from recon3r_ros.io.packs import SecondCamera, write_pack
from recon3r_ros.sim import SceneConfig, SimulatedSequence
from scipy.spatial.transform import Rotation


@pytest.fixture(scope='module')
def sequence() -> SimulatedSequence:
    return SimulatedSequence(SceneConfig(seed=2, frames=4, width=96, height=72))


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_round_trip(sequence: SimulatedSequence, tmp_path: Path) -> None:
    folder = tmp_path / 'deep' / 'pack'
    calls: list[tuple[int, int]] = []
    write_pack(sequence, folder, lambda done, total: calls.append((done, total)))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert sorted(p.name for p in folder.iterdir()) == [
        'camera.json', 'depth', 'frames.txt', 'groundtruth.txt', 'images', 'masks']
    assert [p.name for p in folder.parent.iterdir()] == ['pack']
    assert read_calibration(folder / 'camera.json').camera() == sequence.camera
    lines = [line.split() for line in (folder / 'frames.txt').read_text().splitlines()
             if not line.startswith('#')]
    poses = np.loadtxt(folder / 'groundtruth.txt')
    assert len(lines) == len(poses) == 4
    for frame, (stamp, name), row in zip(sequence, lines, poses):
        assert round(float(stamp) * 1e9) == pytest.approx(frame.stamp_ns, abs=1)
        assert row[0] == pytest.approx(float(stamp))
        assert np.allclose(row[1:4], frame.T_world_cam[:3, 3], atol=1e-8)
        assert np.allclose(Rotation.from_quat(row[4:]).as_matrix(), frame.T_world_cam[:3, :3],
                           atol=1e-7)
        assert np.array_equal(read(folder / 'images' / name), frame.image)
        depth = read(folder / 'depth' / name)
        assert depth.dtype == np.uint16
        assert np.abs(depth / 1000 - frame.depth).max() <= 0.00051
        mask = read(folder / 'masks' / name)
        assert set(np.unique(mask)) <= {0, 255}
        assert np.array_equal(mask == 255, frame.motion_mask)


def test_a_rig_is_read_back(sequence: SimulatedSequence, tmp_path: Path) -> None:
    T_cam_other = from_rt(so3_exp([0.01, 0.02, 0.03]), [0.1, 0.01, 0.0])
    other = sequence.seen_by(T_cam_other)
    write_pack(sequence, tmp_path / 'rig', second=SecondCamera(other, T_cam_other))
    frames = list(open_image_folder(tmp_path / 'rig'))
    assert len(frames) == 4
    for frame, left, right in zip(frames, sequence, other):
        assert frame.camera == sequence.camera and frame.stamp_ns == left.stamp_ns
        assert np.array_equal(frame.image, left.image) and frame.stereo is not None
        assert np.array_equal(frame.stereo.image, right.image)
        assert not np.array_equal(left.image, right.image)
        assert np.allclose(right.T_world_cam, left.T_world_cam @ T_cam_other)
        np.testing.assert_allclose(frame.stereo.T_cam_other, T_cam_other, atol=1e-9)
    poses = np.loadtxt(tmp_path / 'rig' / 'groundtruth.txt')
    assert np.allclose(poses[0, 1:4], sequence.render(0).T_world_cam[:3, 3], atol=1e-8)


def test_a_folder_in_use_is_left_alone(sequence: SimulatedSequence, tmp_path: Path) -> None:
    (tmp_path / 'mine.txt').write_text('precious')
    with pytest.raises(OutputError, match='not empty'):
        write_pack(sequence, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ['mine.txt']


def test_an_interrupted_pack_leaves_nothing(sequence: SimulatedSequence, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        write_pack(sequence, tmp_path / 'pack', stop)
    assert not list(tmp_path.iterdir())


def test_an_impossible_place_is_an_output_error(sequence: SimulatedSequence,
                                                tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    with pytest.raises(OutputError, match='file'):
        write_pack(sequence, tmp_path / 'file' / 'pack')
