# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Windows of views as hyper-edges: processed jointly, aligned to the map by shared views.

A ring-shaped corridor whose depth is known in closed form; a predictor that gives it with noise
and at a scale of each window's own. Images are blank: there is no other source of depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera, pixel_grid
from recon3r_ros.models.pointmaps import as_pair
from recon3r_ros.models.registry import Window
from recon3r_ros.models.types import PosePrior, Prediction, View
from recon3r_ros.slam.backend import appearance, pair_graph
from recon3r_ros.slam.backend.mapping import Mapper
from recon3r_ros.slam.types import TrackedFrame
from simulated import absolute_error, path_length

Array = NDArray[np.float64]
WIDTH, HEIGHT, KEYFRAMES = 96, 72, 200
CAMERA = Camera(WIDTH, HEIGHT, 70.0, 70.0, (WIDTH - 1) / 2, (HEIGHT - 1) / 2)
#: The corridor's middle, half its width, and how far floor and ceiling are away, metres
RADIUS, HALF_WIDTH, HALF_HEIGHT = 10.0, 1.5, 1.2


def pose(angle: float) -> Array:
    """T_world_cam (4, 4) of a camera in the corridor that looks along it, with a little sway."""
    sway = np.array([0.25 * np.sin(7 * angle), 0.2 * np.sin(11 * angle), 0.1 * np.sin(5 * angle)])
    out, along = (np.array([np.cos(angle), np.sin(angle), 0.0]),
                  np.array([-np.sin(angle), np.cos(angle), 0.0]))
    R = np.stack([out, [0, 0, -1], along], axis=1) @ se3.so3_exp(0.3 * sway)
    return se3.from_rt(R, (RADIUS + sway[0]) * out + [0, 0, sway[1]])


def depth(T_world_cam: Array) -> Array:
    """Depth (H, W) of floor, ceiling and both walls, in closed form."""
    rays = CAMERA.unproject(pixel_grid(HEIGHT, WIDTH)) @ T_world_cam[:3, :3].T
    origin = T_world_cam[:3, 3]
    with np.errstate(divide='ignore', invalid='ignore'):
        flat = np.where(rays[..., 2] != 0,
                        (np.sign(rays[..., 2]) * HALF_HEIGHT - origin[2]) / rays[..., 2], np.inf)
        a = (rays[..., :2] ** 2).sum(-1)
        b = rays[..., :2] @ origin[:2]

        def hits(radius: float, sign: int) -> Array:
            root = np.sqrt(b ** 2 - a * ((origin[:2] ** 2).sum() - radius ** 2))
            found = (sign * root - b) / a
            return np.where(found > 0, found, np.inf)
        walls = np.fmin(hits(RADIUS + HALF_WIDTH, 1), hits(RADIUS - HALF_WIDTH, -1))
    return np.fmin(flat, walls)


@dataclass(frozen=True, eq=False)
class Encoding:
    """A view whose pose the oracle knows."""

    image: NDArray[np.uint8]
    descriptor: NDArray[np.float32]
    keypoints: NDArray[np.int32]
    number: int
    camera: Camera = CAMERA
    features: None = None


class WindowOracle:
    """Predicts ground truth of windows, with noise and at a scale of each one's own."""

    single_view, reweights, metric = True, False, False

    def pose(self, angle: float) -> Array:
        """T_world_cam (4, 4) of a view."""
        return pose(angle)

    def depth(self, T_world_cam: Array) -> Array:
        """Depth (H, W) of a view."""
        return depth(T_world_cam)

    def scale(self, memory: Sequence[Encoding]) -> float:
        """Draw the scale of a window."""
        return float(self._rng.uniform(0.5, 2.0))

    @property
    def together(self) -> WindowOracle:
        return self

    def __init__(self, angles: Array, window: Window, noise: float = 0.01) -> None:
        self.poses = [self.pose(a) for a in angles]
        self.window = window
        self._angles = angles
        self._noise = noise
        self._rng = np.random.default_rng(6)
        self._depths = [self.depth(T) for T in self.poses]
        self.images = [np.full((HEIGHT, WIDTH, 3), n, np.uint8) for n in range(len(angles))]
        self.looked: list[list[int]] = []
        self.encoded: list[int] = []

    def encode(self, view: View) -> Encoding:
        """Recognise a view by its grey."""
        number = round(float(view.image.mean()))
        self.encoded.append(number)
        # Alike within a few steps, and again where the ring closes
        lobes = np.exp(4 * (np.cos(self._angles[number] - np.linspace(0, 2 * np.pi, 60)) - 1) * 30)
        rows, columns = np.mgrid[4:HEIGHT - 4:6, 4:WIDTH - 4:6]
        return Encoding(view.image, (lobes / np.linalg.norm(lobes)).astype(np.float32),
                        np.stack([columns.ravel(), rows.ravel()], 1).astype(np.int32), number)

    def predict(self, groups: Sequence[tuple[Encoding, ...]], moving: object = None,
                priors: object = None) -> list[Prediction]:
        """Predict pairs and single views."""
        return [as_pair(self.predict_together(g), g, 0, len(g) - 1) for g in groups]

    def remember(self, view: Encoding, memory: Sequence[Encoding]) -> Encoding:
        """Keep the encoding."""
        return view

    def predict_together(self, group: tuple[Encoding, ...], memory: Sequence[Encoding] = (),
                         priors: object = ()) -> Prediction:
        """Predict ground truth of a window, with noise."""
        numbers = list(dict.fromkeys(e.number for e in (*group, *memory)))
        self.looked.append(numbers[:max(self.window.size, len(group))])
        scale = self.scale(memory)
        T_first_world = se3.inverse(self.poses[group[0].number])
        points, poses = [], []
        for encoding in group:
            T = T_first_world @ self.poses[encoding.number]
            own = (CAMERA.unproject(pixel_grid(HEIGHT, WIDTH))
                   * self._depths[encoding.number][..., None]
                   * self._rng.normal(1, self._noise, (HEIGHT, WIDTH, 1)))
            points.append((scale * se3.transform(T, own.reshape(-1, 3))).reshape(
                own.shape).astype(np.float32))
            poses.append(se3.stretched(T, scale))
        sure = np.full((HEIGHT, WIDTH), self._noise ** -2, np.float32)
        return Prediction(tuple(points), (sure,) * len(group), CAMERA.fx, self.metric, True,
                          T_first_view=tuple(poses), cameras=(CAMERA,) * len(group))


class MemoryOracle(WindowOracle):
    """
    Ground truth of a hall at a scale of each memory's own, as MUSt3R has one.

    The path is a figure of eight (Gerono's lemniscate), which crosses itself.
    """

    #: Half of the hall's sides, and of the path's length, metres
    SIDES, REACH = np.array([14.0, 9.0, 2.5]), 9.0

    def __init__(self, angles: Array, window: Window) -> None:
        self.scales: dict[int, float] = {}
        super().__init__(angles, window)

    def pose(self, angle: float) -> Array:
        """Look along the path, with a little sway."""
        ahead = np.array([np.cos(angle), np.cos(2 * angle), 0.0])
        ahead /= np.linalg.norm(ahead)
        sway = 0.1 * np.sin(np.array([7, 11, 5]) * angle)
        R = np.stack([np.cross(ahead, [0, 0, 1]), [0, 0, -1], ahead], axis=1) @ se3.so3_exp(sway)
        return se3.from_rt(R, self.REACH * np.array(
            [np.sin(angle), np.sin(angle) * np.cos(angle), 0.0]) + sway)

    def depth(self, T_world_cam: Array) -> Array:
        """Depth of the walls, the floor and the ceiling."""
        rays = CAMERA.unproject(pixel_grid(HEIGHT, WIDTH)) @ T_world_cam[:3, :3].T
        with np.errstate(divide='ignore'):
            return ((self.SIDES - np.sign(rays) * T_world_cam[:3, 3]) / np.abs(rays)).min(-1)

    def scale(self, memory: Sequence[Encoding]) -> float:
        """Draw the scale of a memory once."""
        if not memory:
            return super().scale(memory)
        first = min(encoding.number for encoding in memory)
        return self.scales.setdefault(first, super().scale(memory))


def walk(oracle: WindowOracle, mapper: Mapper | None = None, views: range | None = None) -> Mapper:
    """
    Add views to a map, each from the pose of the one before.

    :param mapper: with the views before; None begins a map, which is finished when all are added
    """
    out = Mapper(oracle) if mapper is None else mapper
    for n in range(len(oracle.images)) if views is None else views:
        image, frame = oracle.images[n], TrackedFrame(f'{n:03}', n * 10 ** 9, n)
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        if n == 0:
            out.start(frame, View(image, CAMERA), gray)
            continue
        last = out.keyframes[max(out.keyframes)].T_map_cam
        assert out.add(
            frame, View(image, CAMERA, pose=PosePrior(last, np.eye(6))), gray) is not None
    if views is None:
        out.finish()
    return out


def error(mapper: Mapper, oracle: WindowOracle) -> float:
    """Absolute trajectory error over the length of the path."""
    found = np.stack([k.T_map_cam[:3, 3] for k in mapper.keyframes.values()])
    true = np.stack([oracle.poses[k.index][:3, 3] for k in mapper.keyframes.values()])
    return absolute_error(found, true) / path_length(true)


@pytest.fixture
def alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let loops close without a look at the images, which are noise."""
    monkeypatch.setattr(appearance, 'verified', lambda *_: True)


@pytest.mark.slow
def test_windows_make_a_map_whose_drift_a_loop_corrects(alike: None) -> None:
    """First most of the way around the ring, then to where the map began."""
    oracle = WindowOracle(np.linspace(0, 2 * np.pi + 0.3, KEYFRAMES), Window(8, 2))
    most = 5 * KEYFRAMES // 6
    mapper = walk(oracle, views=range(most))
    assert len(mapper.keyframes) == most
    assert not any(e.loop for e in mapper.snapshot().edges)
    assert error(mapper, oracle) <= 0.005
    assert max(map(len, oracle.looked)) == 8
    assert sorted(oracle.encoded) == list(range(most)), 'each view is encoded once'
    walk(oracle, mapper, range(most, KEYFRAMES))
    mapper.finish()
    assert len(mapper.keyframes) == KEYFRAMES
    assert any(e.loop for e in mapper.snapshot().edges)
    assert error(mapper, oracle) <= 0.002


@pytest.mark.parametrize('verified', [True, False])
def test_only_a_loop_that_is_closed_is_one(monkeypatch: pytest.MonkeyPatch, verified: bool
                                           ) -> None:
    """A candidate whose image does not look as the map predicts it stays a candidate."""
    monkeypatch.setattr(appearance, 'verified', lambda *_: verified)
    oracle = WindowOracle(np.linspace(0, 2 * np.pi + 0.3, 50), Window(8, 2))
    mapper = walk(oracle)
    loops = [e for e in mapper.snapshot().edges if e.loop]
    assert bool(loops) == verified
    if loops:
        assert any(e.i < 5 and e.j > 45 for e in loops)


@pytest.mark.slow
def test_memories_on_a_figure_of_eight(alike: None) -> None:
    oracle = MemoryOracle(np.linspace(0, 2 * np.pi + 0.15, KEYFRAMES), Window(12, 2))
    most = 5 * KEYFRAMES // 6
    mapper = walk(oracle, views=range(most))
    assert not any(e.loop for e in mapper.snapshot().edges)
    assert error(mapper, oracle) <= 0.005
    assert len(oracle.scales) >= most // 12
    walk(oracle, mapper, range(most, KEYFRAMES))
    mapper.finish()
    assert len(mapper.keyframes) == KEYFRAMES
    assert any(e.loop for e in mapper.snapshot().edges)
    assert error(mapper, oracle) <= 0.002


def test_a_window_slides_view_by_view() -> None:
    oracle = WindowOracle(np.linspace(0, 0.5, 14), Window(5, 4))
    mapper = walk(oracle)
    together = [sorted(views) for views in oracle.looked if len(views) > 1]
    assert together == [list(range(max(0, n - 4), n + 1)) for n in range(1, 14)]
    assert error(mapper, oracle) <= 0.005


@pytest.mark.parametrize('size, overlap, expected', [
    (8, 2, [0, 0, 0, 0, 0, 0, 0, 0, 6, 6, 6, 6, 6, 6, 12]), (3, 2, [0, 0, 0, 1, 2, 3]),
    (2, 1, [0, 0, 1, 2, 3]), (4, 1, [0, 0, 0, 0, 3, 3, 3, 6])])
def test_windows_overlap(size: int, overlap: int, expected: list[int]) -> None:
    starts = [pair_graph.window_start(n + 1, size, overlap) for n in range(len(expected))]
    assert starts == expected
    assert all(n - start < size for n, start in enumerate(starts))
