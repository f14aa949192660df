# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Depth of another camera: a box before a slanted wall, whose depth is known in any camera."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera, pixel_grid
from recon3r_ros.geometry.depth_registration import DepthRegistration, is_registered

Array = NDArray[np.float64]

DEPTH = Camera(640, 480, 585.0, 585.0, 320.0, 240.0)
BENT = Camera(640, 480, 500.0, 502.0, 325.0, 236.0, (-0.2, 0.05, 1e-3, -5e-4))
COLOUR = Camera(1280, 960, 1050.0, 1050.0, 640.0, 480.0)
FISHEYE = Camera(640, 480, 300.0, 300.0, 320.0, 240.0, (0.01, -2e-3, 1e-4, 0.0), 'equidistant')
T_COLOUR_DEPTH = se3.from_rt(
    se3.so3_exp(np.radians([1.0, -2.0, 0.7])), np.array([0.06, 0.01, 0.0]))
#: Wall n . x = 3, and a box's face at z = 1.2, in the colour camera's frame
NORMAL, WALL, FACE, HALF = np.array([0.3, -0.2, 1.0]), 3.0, 1.2, 0.2


def seen(camera: Camera, T_colour_own: Array) -> NDArray[np.float32]:
    """Depth (H, W) of the scene in a camera, metres, by its rays; NaN where it sees nothing."""
    rays = camera.unproject(pixel_grid(camera.height, camera.width)) @ T_colour_own[:3, :3].T
    begin = T_colour_own[:3, 3]
    with np.errstate(all='ignore'):
        wall = (WALL - begin @ NORMAL) / (rays @ NORMAL)
        face = (FACE - begin[2]) / rays[..., 2]
        hit = begin + face[..., None] * rays
        front = (face > 0) & (np.abs(hit[..., :2]) < HALF).all(axis=-1)
    return np.where(front, face, np.where(wall > 0, wall, np.nan)).astype(np.float32)


@pytest.mark.parametrize('depth', [DEPTH, BENT], ids=['pinhole', 'bent'])
@pytest.mark.parametrize('colour', [COLOUR, BENT, FISHEYE], ids=['colour', 'bent', 'fisheye'])
def test_depth_is_that_of_the_colour_camera(depth: Camera, colour: Camera) -> None:
    found = DepthRegistration(depth, colour, T_COLOUR_DEPTH)(seen(depth, T_COLOUR_DEPTH))
    view = colour.resized(found.shape[1], found.shape[0])
    true = seen(view, np.eye(4))
    known = np.isfinite(found)
    points = view.unproject(pixel_grid(view.height, view.width)) * true[..., None]
    there = depth.project(se3.transform(se3.inverse(T_COLOUR_DEPTH), points.reshape(-1, 3)))
    inside = ((there > 0) & (there < (depth.width - 1, depth.height - 1))).all(axis=1)
    # What both see, but for what the box hides, and the corners of a distorted image
    assert known.ravel()[inside].mean() > 0.85
    assert not known.ravel()[~inside].sum() > 0.02 * known.sum()
    error = np.abs(found[known] / true[known] - 1)
    assert np.median(error) < 2e-3
    # Along outlines alone the two differ
    assert (error > 0.05).mean() < 0.01


def test_the_background_does_not_show_through() -> None:
    """A depth camera of half the resolution, close to the box: patches must cover it."""
    coarse = DEPTH.resized(320, 240)
    near = se3.from_rt(np.eye(3), np.array([0.05, 0.0, 0.4]))
    found = DepthRegistration(coarse, COLOUR, near)(seen(coarse, near))
    colour = COLOUR.resized(found.shape[1], found.shape[0])
    true = seen(colour, np.eye(4))
    pixels = pixel_grid(colour.height, colour.width)
    hit = np.abs(colour.unproject(pixels)[..., :2] * FACE)
    inside = (hit < HALF - 0.02).all(axis=-1)
    np.testing.assert_allclose(found[inside], true[inside], rtol=1e-3)
    # What the box hides from the depth camera alone is unknown, not the wall's depth or the box's
    wall = (hit > HALF + 0.02).any(axis=-1) & np.isfinite(found)
    assert np.abs(found[wall] / true[wall] - 1).max() < 0.03
    assert np.isnan(found[(hit > HALF + 0.02).any(axis=-1)]).any()


def test_noise_is_not_drawn_nearer() -> None:
    """Where many patches meet in a pixel, the nearest would be too near."""
    rng = np.random.default_rng(0)
    flat = (2 + 0.02 * rng.normal(size=(480, 640))).astype(np.float32)
    small = Camera(320, 240, 262.0, 262.0, 159.5, 119.5)
    found = DepthRegistration(DEPTH, small, se3.from_rt(np.eye(3), np.array([0.03, 0, 0])))(flat)
    assert float(np.nanmean(found)) == pytest.approx(2.0, abs=2e-3)


def test_unknown_stays_unknown() -> None:
    depth = np.full((480, 640), np.nan, np.float32)
    register = DepthRegistration(DEPTH, COLOUR, T_COLOUR_DEPTH)
    assert np.isnan(register(depth)).all()
    depth[200:280, 300:340] = (0.0, -1.0, np.inf, np.nan) * 10
    assert np.isnan(register(depth)).all()
    # Behind the colour camera, and before its nose
    for z in (-2.0, -1.0 + 1e-4):
        T = se3.from_rt(np.eye(3), np.array([0.0, 0.0, z]))
        assert np.isnan(DepthRegistration(DEPTH, COLOUR, T)(np.ones((480, 640), np.float32))).all()


def test_it_takes_some_milliseconds() -> None:
    register, depth = DepthRegistration(DEPTH, COLOUR, T_COLOUR_DEPTH), seen(DEPTH, T_COLOUR_DEPTH)
    times = []
    for _ in range(5):
        begin = time.thread_time()
        register(depth)
        times.append(time.thread_time() - begin)
    assert min(times) < 0.05


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(InputError, match='rotation'):
        DepthRegistration(DEPTH, COLOUR, np.diag([2.0, 1.0, 1.0, 1.0]))
    with pytest.raises(InputError, match='320x240.*640x480'):
        DepthRegistration(DEPTH, COLOUR, np.eye(4))(np.ones((240, 320), np.float32))


def test_registered_depth_is_recognised() -> None:
    assert is_registered(COLOUR.resized(640, 480), COLOUR, np.eye(4))
    assert is_registered(BENT, BENT, np.eye(4))
    assert not is_registered(DEPTH, COLOUR, np.eye(4))
    assert not is_registered(BENT, Camera(640, 480, 500.0, 502.0, 325.0, 236.0), np.eye(4))
    assert not is_registered(COLOUR, COLOUR, T_COLOUR_DEPTH)
