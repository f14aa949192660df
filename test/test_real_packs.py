# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The pipeline on real sequences, where they are at hand."""

from __future__ import annotations

from dataclasses import replace
import re
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.procrustes import weighted_procrustes
from recon3r_ros.io.sequences import open_sequence
from recon3r_ros.io.trajectory import read_tum
from recon3r_ros.models.geometric import GeometricPredictor
from recon3r_ros.models.types import Predictor
from recon3r_ros.models.vggt import VggtPredictor
from recon3r_ros.models.window_engine import WindowEngine
from recon3r_ros.nets.vggt import Vggt, VggtConfig
from recon3r_ros.slam.system import System
from simulated import absolute_error, path_length
import torch

if TYPE_CHECKING:
    from conftest import SharedData  # several folders have a conftest: not to be imported by name

Array = NDArray[np.float64]


def reconstruct(shared_data: SharedData, name: str, count: int | None = None,
                predictor: Predictor | None = None) -> tuple[System, int]:
    """Process the first images of a pack; also say how many they were."""
    reconstruction, used = System(predictor or GeometricPredictor()), 0
    for frame in open_sequence(images=shared_data.pack(name)):
        reconstruction.add(frame)
        used += 1
        if used == count:
            break
    reconstruction.finish()
    return reconstruction, used


def compare(shared_data: SharedData, name: str, reconstruction: System
            ) -> tuple[float, float]:
    """Return the absolute trajectory error after a similarity, and the path's length, metres."""
    stamps, poses = read_tum(shared_data.pack(name) / 'groundtruth.txt')
    tracked = sorted(reconstruction.trajectory(), key=lambda t: t[0].stamp_ns)
    assert len(tracked) >= 4
    nearest = [int(np.argmin(np.abs(stamps - f.stamp_ns))) for f, _ in tracked]
    gaps = [abs(int(stamps[n]) - f.stamp_ns) for n, (f, _) in zip(nearest, tracked)]
    assert max(gaps) < 20_000_000, 'each frame has its truth'
    truth = poses[nearest, :3, 3]
    estimated = np.stack([T[:3, 3] for _, T in tracked])
    return absolute_error(estimated, truth), path_length(truth)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['strecha_fountain_p11', 'strecha_herzjesu_p8'])
def test_wide_steps(shared_data: SharedData, name: str) -> None:
    reconstruction, count = reconstruct(shared_data, name)
    assert len(reconstruction.trajectory()) == count, 'every still has a pose'
    error, _ = compare(shared_data, name, reconstruction)
    assert error <= 0.05


def test_handheld(shared_data: SharedData) -> None:
    name = 'sevenscenes_redkitchen'
    reconstruction, count = reconstruct(shared_data, name, 60)
    assert len(reconstruction.trajectory()) >= 0.9 * count
    error, _ = compare(shared_data, name, reconstruction)
    assert error <= 0.03


def test_a_depth_camera(shared_data: SharedData) -> None:
    """Depth of every tenth image: metres from the first image on."""
    pack = shared_data.pack('sevenscenes_redkitchen')
    system = System(GeometricPredictor())
    for index, frame in enumerate(open_sequence(images=pack, depth=pack / 'depth')):
        update = system.add(frame)
        assert update.frames and system.metric() is not None, 'no image waits for its pose'
        if index == 59:
            break
    system.finish()
    metric = system.metric()
    assert metric is not None and metric.source == 'depth'
    _, truth = read_tum(pack / 'groundtruth.txt')
    tracked = system.trajectory()
    true = np.stack([truth[f.index, :3, 3] for f, _ in tracked])
    estimated = metric.value * np.stack([T[:3, 3] for _, T in tracked])
    S = weighted_procrustes(estimated, true, np.ones(len(true)), with_scale=False)
    distances = np.linalg.norm(se3.transform(S, estimated) - true, axis=1)
    # The way is 0.3 m; poses of the truth are off by some millimetres themselves
    assert np.sqrt(np.mean(distances ** 2)) <= 0.02


@pytest.mark.slow
@pytest.mark.parametrize('factor', [0.8, 1.0])
def test_a_given_focal_length_that_the_images_contradict(shared_data: SharedData, factor: float
                                                        ) -> None:
    system = System(GeometricPredictor())
    for frame in open_sequence(images=shared_data.pack('strecha_fountain_p11')):
        assert frame.camera is not None
        true = frame.camera.fx
        system.add(replace(frame, camera=replace(
            frame.camera, fx=factor * true, fy=factor * frame.camera.fy)))
    system.finish()
    assert (system.calibration_notice == '') == (factor == 1.0)
    if system.calibration_notice:
        given, best = re.findall(r'[\d.]+', system.calibration_notice)[:2]
        assert float(given) == pytest.approx(factor * true, rel=0.001)
        assert float(best) == pytest.approx(true, rel=0.01)


@pytest.mark.slow
def test_driving(shared_data: SharedData) -> None:
    name = 'kitti_06_first51'
    reconstruction, count = reconstruct(shared_data, name, 20)
    assert len(reconstruction.trajectory()) >= 0.9 * count
    error, length = compare(shared_data, name, reconstruction)
    assert error <= 0.02 * length


def test_a_camera_that_stands_still(shared_data: SharedData) -> None:
    reconstruction, _ = reconstruct(shared_data, 'euroc_v101_stationary')
    assert not reconstruction.map.started
    assert not any(k.confidence.any() for k in reconstruction.map.keyframes.values())
    for _, T_map_cam in reconstruction.trajectory():
        assert np.allclose(T_map_cam[:3, 3], 0), 'it may turn, but never moves'
        assert np.rad2deg(se3.rotation_angle(T_map_cam[:3, :3])) < 1.0


def test_a_window_network(shared_data: SharedData) -> None:
    """VGGT, small and untrained: nothing can be right, but all is finite."""
    torch.manual_seed(0)
    network = Vggt(VggtConfig(64, 4, 1, 1, (0, 1, 2, 3), 4)).requires_grad_(False)
    predictor = VggtPredictor(WindowEngine(network), network.config.image_size)
    reconstruction, _ = reconstruct(shared_data, 'sevenscenes_redkitchen', 40, predictor)
    assert reconstruction.map.keyframes
    for _, T_map_cam in reconstruction.trajectory():
        assert np.isfinite(T_map_cam).all()
    for keyframe in reconstruction.map.keyframes.values():
        assert np.isfinite(keyframe.inverse_depth).all()
