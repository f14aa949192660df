# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Inputs that people have, from the first image to the poses: none is misplaced, few are lost.

Those that are about files alone are tested where they are read, in `test/io`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.procrustes import weighted_procrustes
from recon3r_ros.io.base import Sequence
from recon3r_ros.io.calibrations import read_calibration
from recon3r_ros.io.masks import StaticMaskSequence
from recon3r_ros.io.sequences import open_sequence
from recon3r_ros.io.trajectory import read_tum
from recon3r_ros.models.geometric import GeometricPredictor
from recon3r_ros.slam.dynamics.motion_config import MotionConfig
from recon3r_ros.slam.keyframe_lag import KeyframeLag
from recon3r_ros.slam.system import System
from recon3r_ros.slam.types import Frame, Map

if TYPE_CHECKING:
    from conftest import SharedData

Array = NDArray[np.float64]

#: ATE of the undisturbed images that most inputs were made of, metres
UNDISTURBED = 0.0086


@dataclass(frozen=True)
class Outcome:
    """Poses of the largest map by the frames' index, and all maps."""

    system: System
    maps: list[Map]
    count: int

    @property
    def poses(self) -> dict[int, Array]:
        """Poses (4, 4) of the frames in the largest map, or without a map, by index."""
        largest = max(self.maps, default=self.system.map,
                      key=lambda m: len(self.system.trajectory(known=m)))
        return {f.index: T for f, T in self.system.trajectory(known=largest)}


def run(sequence: Sequence, detect: bool = False) -> Outcome:
    """Reconstruct, as `recon3r run` does."""
    system = System(GeometricPredictor(), motion=MotionConfig(detect=detect), lag=KeyframeLag())
    count = 0
    for frame in sequence:
        system.add(frame)
        count += 1
    for known in system.maps:
        system.activate(known.number)
        needed = {i for s in system.stretches()['camera'] for i in s.needed}

        def again(needed: set[int] = needed) -> Iterator[Frame]:
            return (frame for frame in sequence if frame.index in needed)
        system.complete(again())
    system.finish()
    return Outcome(system, system.maps, count)


def video(folder: Path) -> Sequence:
    """Open a calibrated video."""
    return open_sequence(video=folder / 'video.mp4',
                         camera=read_calibration(folder / 'camera.json').camera())


def errors(poses: dict[int, Array], truth: dict[int, Array]) -> NDArray[np.float64]:
    """Distances (N,) to the true positions, metres, after alignment by a similarity."""
    both = sorted(set(poses) & set(truth))
    found = np.stack([poses[i][:3, 3] for i in both])
    true = np.stack([truth[i][:3, 3] for i in both])
    S = weighted_procrustes(found, true, np.ones(len(true)))
    return np.linalg.norm(found @ S[:3, :3].T + S[:3, 3] - true, axis=1)


def truth_of(path: Path, fps: float = 30.0) -> dict[int, Array]:
    """Read true poses; the n-th image of a video has the stamp n / fps."""
    stamps_ns, poses = read_tum(path)
    return {round(s * 1e-9 * fps): T for s, T in zip(stamps_ns, poses)}


@pytest.fixture
def kitchen(shared_data: SharedData) -> dict[int, Array]:
    """Return the truth of the images that most inputs were made of."""
    _, poses = read_tum(shared_data.pack('sevenscenes_redkitchen') / 'groundtruth.txt')
    return dict(enumerate(poses[:120]))


def check(outcome: Outcome, truth: dict[int, Array], least: int) -> None:
    """Check that nearly all images have a pose, and none of them is misplaced."""
    assert len(outcome.poses) >= least
    off = errors(outcome.poses, truth)
    assert np.sqrt(np.mean(off ** 2)) < 2 * UNDISTURBED
    assert off.max() < 5 * np.median(off)


@pytest.mark.parametrize('name', ['flicker_10_percent', 'bonnet', 'curved_border',
                                  'blur_at_start'])
def test_disturbed_images(shared_data: SharedData, kitchen: dict[int, Array], name: str) -> None:
    check(run(video(shared_data.field(name)), detect=name in ('bonnet', 'curved_border')),
          kitchen, 114)


def test_half_of_the_image_is_masked(shared_data: SharedData, kitchen: dict[int, Array]) -> None:
    folder = shared_data.field('mask_of_half_the_image')
    check(run(StaticMaskSequence(video(folder), folder / 'mask.png')), kitchen, 114)


def test_a_camera_that_only_turns(shared_data: SharedData) -> None:
    folder = shared_data.field('pure_rotation')
    outcome = run(video(folder))
    truth = truth_of(folder / 'groundtruth.txt')
    assert not outcome.maps and len(outcome.poses) >= 78
    first = min(outcome.poses)
    for i, T in outcome.poses.items():
        found = outcome.poses[first][:3, :3].T @ T[:3, :3]
        true = truth[first][:3, :3].T @ truth[i][:3, :3]
        assert np.degrees(se3.rotation_angle(found.T @ true)) < 1.0


def test_a_periodic_texture(shared_data: SharedData) -> None:
    folder = shared_data.field('brick_wall')
    poses, truth = run(video(folder)).poses, truth_of(folder / 'groundtruth.txt')
    assert not poses or errors(poses, truth).max() < 0.05, 'a brick is 0.4 m'


def test_noise_and_drift_of_a_thermal_camera(shared_data: SharedData) -> None:
    folder = shared_data.field('thermal16')
    sequence = open_sequence(images=folder)
    _, true = read_tum(folder / 'groundtruth.txt')
    poses = run(sequence).poses
    assert not poses or errors(poses, dict(enumerate(true))).max() < 0.15, 'of 0.66 m'


def test_two_scenes(shared_data: SharedData, kitchen: dict[int, Array]) -> None:
    outcome = run(open_sequence(video=shared_data.field('two_scenes_cut') / 'video.mp4'))
    assert len(outcome.maps) == 2
    first, second = ({f.index for f, _ in outcome.system.trajectory(known=m)}
                     for m in outcome.maps)
    assert first <= set(range(90)) and second <= set(range(90, 150))
    assert len(first) >= 85 and len(second) >= 50


def test_a_zoom_from_a_tripod(shared_data: SharedData) -> None:
    outcome = run(open_sequence(video=shared_data.field('zoom_static') / 'video.mp4'))
    assert not outcome.maps and not outcome.poses


def test_an_object_before_a_static_camera(shared_data: SharedData) -> None:
    folder = shared_data.field('static_camera_mover')
    system = System(GeometricPredictor())
    overlaps = []
    for frame in video(folder):
        update = system.add(frame)
        mask = None if update.unposed is None else update.unposed.mask
        true = cv2.imread(str(folder / 'masks' / f'{frame.name}.png'), cv2.IMREAD_GRAYSCALE)
        if mask is not None and true is not None and true.any():
            overlaps.append((mask & (true > 0)).sum() / (mask | (true > 0)).sum())
    assert not system.maps and len(overlaps) > 40
    assert np.mean(np.array(overlaps) > 0.4) > 0.6
