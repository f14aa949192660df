# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Tracks of keypoints through a window: matches of landmarks, and evidence of dynamic objects.

Simulated scenes. What stands in for VGGT knows exact tracks; its depths and poses err. The images
of keyframes are blank: nothing else gives matches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera, pixel_grid
from recon3r_ros.models import track_motion
from recon3r_ros.models.registry import VggtOptions
from recon3r_ros.models.types import PosePrior, Tracks, View
from recon3r_ros.models.vggt import VggtEncoding, VggtPredictor
from recon3r_ros.models.window_engine import ViewTokens, WindowOutput
from recon3r_ros.sim import SceneConfig, SimulatedFrame, SimulatedSequence
from recon3r_ros.sim.flow import true_flow, TrueFlow
from recon3r_ros.slam.backend.correspondence import tracked
from recon3r_ros.slam.backend.mapping import Mapper
from recon3r_ros.slam.types import at, Correspondence, TrackedFrame
from simulated import absolute_error, path_length, TrueView
import torch

#: Width of the grid, and keyframes of a sequence, every n-th frame
WIDTH, KEYFRAMES, EVERY = 224, 7, 8
Values = NDArray[np.float32]


@lru_cache(maxsize=None)
def scene(movers: int) -> tuple[SimulatedSequence, tuple[SimulatedFrame, ...]]:
    """Render the keyframes of a scene."""
    torch.set_num_threads(1)
    sequence = SimulatedSequence(SceneConfig(
        seed=5, frames=KEYFRAMES * EVERY, width=320, height=240, trajectory='sweep',
        moving_objects=movers, moving_size=0.12))
    return sequence, tuple(sequence.render(n * EVERY) for n in range(KEYFRAMES))


@lru_cache(maxsize=None)
def flow(movers: int, a: int, b: int) -> TrueFlow:
    """Return the true flow between two keyframes."""
    sequence, frames = scene(movers)
    return true_flow(sequence, frames[a], frames[b])


class TrueEngine:
    """
    Stands in for VGGT's engine.

    :param error: relative error of depths, smooth over the image, and of poses, share of their
        distance
    :param lost: share of the tracks that are wrong and known to be so
    """

    def __init__(self, movers: int, error: float = 0.06, lost: float = 0.2) -> None:
        self._movers, self._error, self._lost = movers, error, lost
        self.cameras: list[Camera] = []
        self._rng = np.random.default_rng(2)
        self.sets = 0

    def encode(self, image: NDArray[np.uint8]) -> ViewTokens:
        """Give each view its number, in order."""
        return ViewTokens(torch.tensor(len(self.cameras)), 1, 1)

    def look(self, tokens: Sequence[ViewTokens], wanted: int, queries: Sequence[Values] = ()
             ) -> WindowOutput:
        """Return depths and poses with errors, in the first view's frame, and exact tracks."""
        sequence, frames = scene(self._movers)
        numbers = [int(t.values) for t in tokens]
        cameras, dense = [], []
        for n, k in enumerate(numbers):
            T = se3.inverse(frames[k].T_world_cam) @ frames[numbers[0]].T_world_cam
            t = T[:3, 3] * (1 + self._error * self._rng.normal(size=3))
            cameras.append([*t, *se3.quat_xyzw_from_matrix(T[:3, :3]), 1.0, 1.0])
            if n < wanted:
                true = TrueView(View(frames[k].image, sequence.camera), frames[k].depth,
                                frames[k].T_world_cam)
                grid = self.cameras[k]
                bumps = cv2.resize(self._rng.normal(size=(6, 8)), (grid.width, grid.height),
                                   interpolation=cv2.INTER_CUBIC)
                depth = true.depth_on(grid)[0] * (1 + self._error * bumps)
                dense.append((depth.astype(np.float32), np.full(depth.shape, 3.0, np.float32)))
        self.sets += len(queries)
        return WindowOutput(np.float32(cameras), tuple(dense), tuple(
            self._tracks(numbers[n], numbers[:wanted], q) for n, q in enumerate(queries)))

    def _tracks(self, own: int, others: list[int], points: Values) -> tuple[Values, Values]:
        camera, grid = scene(self._movers)[0].camera, self.cameras[own]
        pixels = camera.project(grid.unproject(points.astype(float))).astype(np.float32)
        columns, rows = pixels.T
        positions, probability = [], []
        for other in others:
            true = flow(self._movers, own, other)
            exact = np.stack([cv2.remap(c.astype(np.float32), columns, rows, cv2.INTER_LINEAR)
                              for c in np.moveaxis(true.targets, -1, 0)], -1)[:, 0]
            seen = cv2.remap(true.visible.astype(np.float32), columns, rows,
                             cv2.INTER_LINEAR)[:, 0] > 0.99
            wrong = self._rng.random(len(points)) < self._lost
            exact[wrong] += self._rng.normal(0, 30, (int(wrong.sum()), 2))
            positions.append(self.cameras[other].project(camera.unproject(exact.astype(float))))
            probability.append(np.where(seen & ~wrong, 0.9, 0.1))
        return np.float32(positions), np.float32(probability)


class Blank(VggtPredictor):
    """Keyframes have keypoints and no texture."""

    def encode(self, view: View) -> VggtEncoding:
        """Encode a view, and forget its image."""
        encoding = super().encode(view)
        self.engine.cameras.append(encoding.camera)
        return replace(encoding, image=np.full_like(encoding.image, 128))


def mapped(movers: int, tracks: str, engine: TrueEngine | None = None) -> Mapper:
    """Make a map of a scene."""
    sequence, frames = scene(movers)
    mapper = Mapper(Blank(engine or TrueEngine(movers), WIDTH, VggtOptions(tracks=tracks)))
    for n, frame in enumerate(frames):
        about = TrackedFrame(f'{n:03}', n * 10 ** 9, n)
        blank = np.full(frame.image.shape[:2], 128, np.uint8)
        view = View(frame.image, sequence.camera)
        if n == 0:
            mapper.start(about, view, blank)
            continue
        last = mapper.keyframes[max(mapper.keyframes)].T_map_cam
        assert mapper.add(about, replace(view, pose=PosePrior(last, np.eye(6))), blank) is not None
    return mapper


def errors(mapper: Mapper, movers: int) -> tuple[float, float]:
    """Trajectory error over the path, and median relative error of landmarks after a scale."""
    sequence, frames = scene(movers)
    keyframes = list(mapper.keyframes.values())
    true = np.stack([frames[k.index].T_world_cam[:3, 3] for k in keyframes])
    found = np.stack([k.T_map_cam[:3, 3] for k in keyframes])
    ratios = []
    for k in keyframes:
        frame = frames[k.index]
        depth, _ = TrueView(View(frame.image, sequence.camera), frame.depth,
                            frame.T_world_cam).depth_on(k.camera)
        known = k.landmarks > 0
        ratios.append(np.log(k.landmarks[known] * at(depth, k.keypoints)[known]))
    ratio = np.concatenate(ratios)
    return (absolute_error(found, true) / path_length(true),
            float(np.median(np.abs(ratio - np.median(ratio)))))


def test_tracks_make_a_static_map_exact() -> None:
    """With 6 % error in the network's depths and poses, a fifth of the tracks known as wrong."""
    engine = TrueEngine(0)
    with_tracks, without = (errors(mapped(0, tracks, own), 0) for tracks, own in (
        ('keypoints', engine), ('none', None)))
    assert engine.sets > KEYFRAMES
    assert with_tracks[0] < 0.003 and with_tracks[1] < 0.01, with_tracks
    assert with_tracks[0] < 0.2 * without[0] and with_tracks[1] < 0.3 * without[1], without


def moving(movers: int, n: int, grid: Camera) -> NDArray[np.bool_]:
    """Return the true dynamic mask of a keyframe on its grid (H, W)."""
    sequence, frames = scene(movers)
    x, y = np.moveaxis(sequence.camera.project(grid.unproject(pixel_grid(
        grid.height, grid.width))), -1, 0).astype(np.float32)
    return cv2.remap(frames[n].motion_mask.astype(np.uint8), x, y, cv2.INTER_NEAREST) > 0


def test_tracks_find_what_moves() -> None:
    """Where an object has keypoints: its image alone would give more, which is not looked at."""
    for k in mapped(2, 'keypoints').keyframes.values():
        true = moving(2, k.index, k.camera)
        on = at(true, k.keypoints)
        assert on.sum() > 50, 'the scene has keypoints on its objects'
        assert at(k.mask, k.keypoints)[on].mean() > 0.9
        assert k.mask[true].mean() > 0.75 and k.mask[~true].mean() < 0.12
        assert not k.landmarks[on & at(k.mask, k.keypoints)].any()


def test_nothing_moves_in_a_static_scene() -> None:
    assert not any(k.mask.any() for k in mapped(0, 'keypoints').keyframes.values())


@pytest.mark.parametrize('views, found', [(4, 1), (2, -1)])
def test_motion_along_epipolar_lines_takes_three_views(views: int, found: int) -> None:
    """With two views the motion looks like another depth, with more it does not."""
    rng = np.random.default_rng(1)
    camera = Camera(518, 392, 400.0, 400.0, 258.5, 195.5)
    pixels = rng.integers([0, 0], [518, 392], (200, 2)).astype(np.int32)
    depths, car = rng.uniform(4, 12, 200), np.arange(200) < 30
    points = camera.unproject(pixels.astype(float)) * depths[:, None]
    poses, positions = [], []
    for n in range(views):
        poses.append(se3.from_rt(np.eye(3), [-0.3 * n, 0, 0]))  # sideways
        # Along the camera's path, there and back: parallel to the epipolar lines
        there = points + [-0.3 * n, 0, 0] + car[:, None] * np.array(
            [[0.0, -0.3, 0.3, -0.3][n], 0, 0])
        positions.append(camera.project(there))
    tracks = Tracks(np.float32(positions), np.full((views, 200), 0.9, np.float32))
    judged = track_motion.judged(pixels, tracks, depths * rng.uniform(0.9, 1.1, 200), 0,
                                 [camera] * views, poses)
    assert (judged[car] == found).mean() > 0.9
    assert (judged[~car] == -1).mean() > 0.95


def test_without_a_pose_nothing_is_known() -> None:
    camera, rng = Camera(518, 392, 400.0, 400.0, 258.5, 195.5), np.random.default_rng(1)
    pixels = rng.integers([0, 0], [518, 392], (40, 2)).astype(np.int32)
    for positions, probability in ((rng.uniform(0, 390, (2, 40, 2)), 0.9),
                                   (np.full((2, 40, 2), np.nan), 0.9),
                                   (np.stack([pixels, pixels + 4.0]), 0.4)):
        judged = track_motion.judged(
            pixels, Tracks(np.float32(positions), np.full((2, 40), probability, np.float32)),
            rng.uniform(2, 9, 40), 0, [camera] * 2, [np.eye(4)] * 2)
        assert not judged.any()


def test_tracks_replace_matches_where_enough_are_sure() -> None:
    camera = Camera(64, 48, 50.0, 50.0, 31.5, 23.5)
    keypoints = np.stack(np.meshgrid(range(4, 60, 8), range(4, 44, 8)), -1).reshape(-1, 2).astype(
        np.int32)
    found = Correspondence(np.full((48, 64, 2), 7, np.float32), np.full((48, 64), 30, np.float32))
    found.confidence[:24] = 0
    positions, probability = (keypoints + np.float32([1.5, 0.25]))[None], np.full(
        (1, len(keypoints)), 0.8, np.float32)
    positions[0, 0], positions[0, 1], probability[0, 2] = np.nan, [64, 5], 0.3
    out = tracked(found, keypoints, Tracks(positions, probability), camera)
    confidence, targets = at(out.confidence, keypoints), at(out.targets, keypoints)
    assert not confidence[:3].any() and (confidence[3:] > 0).all()
    assert np.array_equal(targets[3:], positions[0, 3:])
    rest = np.ones((48, 64), bool)
    rest[keypoints[:, 1], keypoints[:, 0]] = False
    assert np.array_equal(out.targets[rest], found.targets[rest])
    few = Tracks(positions, np.where(np.arange(len(keypoints)) < 12, probability, 0))
    assert tracked(found, keypoints, few, camera) is found
