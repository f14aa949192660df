# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The floor below a camera, in keyframes whose depth is that of a drawn scene, and in a drive."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera, pixel_grid
from recon3r_ros.slam.ground import camera_height
from recon3r_ros.slam.scale import HEIGHT_FLOOR, ScaleSources
from recon3r_ros.slam.types import Keyframe, Map

Array = NDArray[np.float64]

CAMERA = Camera(160, 120, 130.0, 130.0, 79.5, 59.5)
#: Height of the camera in map units, and in metres
UNITS, METRES = 1.3, 0.52


def keyframe(i: int, planes: list[tuple[Array, float]], position: Array, pitch: float = 0.2,
             noise: float = 0.02) -> Keyframe:
    """
    Draw a keyframe whose depth is that of the nearest of some planes.

    :param planes: normals n and distances d, n . x = d, in the map's frame (y down)
    :param pitch: of the camera downwards, radians
    :param noise: relative error of the depths
    """
    T = se3.from_rt(se3.so3_exp(np.array([-pitch, 0.0, 0.0])), position)
    rays = CAMERA.unproject(pixel_grid(CAMERA.height, CAMERA.width)) @ T[:3, :3].T
    with np.errstate(all='ignore'):
        hits = np.stack([(d - n @ position) / (rays @ n) for n, d in planes])
    depth = np.where(hits > 0, hits, np.inf).min(axis=0)
    rng = np.random.default_rng(i)
    inverse = (1 + noise * rng.normal(size=depth.shape)) / depth
    inverse[depth > 40] = 0
    nothing = np.zeros(0)
    return Keyframe(
        i, str(i), i, i, CAMERA, np.zeros((120, 160, 3), np.uint8),
        np.zeros((120, 160), np.uint8), np.zeros(1, np.float32), np.zeros((0, 2), np.int32), T,
        nothing, nothing, inverse.astype(np.float32),
        np.full(depth.shape, 1 / max(noise, 1e-3) ** 2, np.float32), np.zeros(depth.shape, bool))


FLOOR = (np.array([0.0, 1.0, 0.0]), UNITS)
WALL = (np.array([0.0, 0.0, 1.0]), 9.0)
SIDE = (np.array([1.0, 0.0, 0.0]), 1.5)


def drive(planes: list[tuple[Array, float]], step: Array = np.array([0.0, 0.0, 0.4]),
          **drawn: float) -> Map:
    """Draw a map of five keyframes along a straight way."""
    return Map({i: keyframe(i, planes, i * step, **drawn) for i in range(5)})


@pytest.mark.parametrize('pitch', [-0.05, 0.2, 0.5])
def test_a_floor_gives_metres(pitch: float) -> None:
    known = drive([FLOOR, WALL, SIDE], pitch=pitch)
    sources = ScaleSources(height=METRES)
    for i in known.keyframes:
        sources.add_depth(i, None, replace(
            known, keyframes={n: k for n, k in known.keyframes.items() if n <= i}))
    metric = sources.metric('camera_height', None)
    assert metric is not None and metric.source == 'camera_height'
    assert metric.value == pytest.approx(METRES / UNITS, rel=0.02)
    assert HEIGHT_FLOOR <= metric.sigma < 0.1
    assert sources.metric('auto', None) == metric and sources.metric('depth', None) is None


def test_noise_does_not_move_the_floor() -> None:
    """A fit to points in space would put it too far away."""
    known = drive([FLOOR, WALL], noise=0.04)
    heights = [camera_height(k, known) for k in known.keyframes.values()]
    assert all(h is not None and h == pytest.approx(UNITS, rel=0.01) for h in heights)


@pytest.mark.parametrize('known', [
    drive([WALL, SIDE]),
    drive([FLOOR, WALL], step=np.zeros(3)),
    drive([FLOOR, WALL], step=np.array([0.0, -0.3, 0.3])),
    drive([(np.array([0.7, 0.7, 0.0]), 1.0), WALL]),
], ids=['walls', 'at rest', 'climbing', 'slope'])
def test_what_is_no_clear_floor_is_none(known: Map) -> None:
    assert all(camera_height(k, known) is None for k in known.keyframes.values())


def test_a_table_is_not_the_floor() -> None:
    """Its top is nearer and holds more points, but there is something beneath."""
    known = drive([FLOOR, WALL])
    for i, k in known.keyframes.items():
        ray = k.rays() @ k.T_map_cam[:3, :3].T
        top = (UNITS / 2 - k.T_map_cam[1, 3]) / np.where(ray[..., 1] > 0, ray[..., 1], np.nan)
        on = np.abs(ray[..., 0] * top) < 0.6
        inverse = np.where(on, 1 / top, k.inverse_depth).astype(np.float32)
        found = camera_height(replace(k, inverse_depth=inverse), known)
        assert found is None or found == pytest.approx(UNITS, rel=0.05)


def test_keyframes_that_disagree_say_nothing() -> None:
    """So do those of two cameras, whose heights differ."""
    heights = (1.0, 1.6, 2.3, 0.7, 3.1)
    mixed = Map({i: keyframe(i, [(FLOOR[0], h), WALL], np.array([0, 0, 0.4 * i]))
                 for i, h in enumerate(heights)})
    known = drive([FLOOR, WALL])
    cameras = Map({i: replace(k, camera_name=f'{i % 2}') for i, k in known.keyframes.items()})
    for each in (mixed, cameras):
        sources = ScaleSources(height=METRES)
        sources.add_refined(each)
        assert sources.metric('auto', None) is None
    sources = ScaleSources()
    sources.add_refined(known)
    assert sources.metric('auto', None) is None, 'the height is unknown'
