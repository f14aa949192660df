# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A zoom while the camera is tracked, told from an approach, by landmarks of known depth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.pnp import refine_pnp
from recon3r_ros.models.geometric import GeometricPredictor
from recon3r_ros.slam.dynamics.motion_config import MotionConfig
from recon3r_ros.slam.frontend.causes import Cause
from recon3r_ros.slam.frontend.tracking import Reference, Track
from recon3r_ros.slam.frontend.zoom import CONFIRMED, LEAST, Zoom, ZoomDetector
from recon3r_ros.slam.system import System
from recon3r_ros.slam.types import Frame, TrackingState
from simulated import as_frame, still_scene

Array = NDArray[np.float64]
CAMERA = Camera(640, 480, 525.0, 525.0, 319.5, 239.5)
#: Frames between references, and pixels by which landmarks are found elsewhere
REFERENCE_FRAMES, NOISE = 12, 0.3


def observed(points: Array, T_cam_world: Array, zoom: float) -> Array:
    """Project points (N, 3) of the world to pixels (N, 2) of a zoomed camera."""
    camera = replace(CAMERA, fx=CAMERA.fx * zoom, fy=CAMERA.fy * zoom)
    return camera.project(se3.transform(T_cam_world, points))


class Run:
    """
    A camera tracked by a map that knows one focal length.

    :param pose: T_world_cam (4, 4) by frame
    :param zoom: factor of the focal length by frame
    :param plane: whether all depths are the same
    :param distorted: whether the map's depths are compressed and tilted
    """

    def __init__(self, pose: Callable[[int], Array], zoom: Callable[[int], float],
                 plane: bool = False, distorted: bool = False) -> None:
        self._rng = np.random.default_rng(7)
        pixels = self._rng.uniform([20, 20], [620, 460], (150, 2))
        self.depths = np.full(150, 4.0) if plane else self._rng.uniform(2.0, 8.0, 150)
        self.world = CAMERA.unproject(pixels) * self.depths[:, None]
        self.pose, self.zoom, self._distorted = pose, zoom, distorted
        self._depth_noise = 0.0 if plane else 0.01
        self.detector = ZoomDetector()

    def until(self, frames: int) -> tuple[int, Zoom] | None:
        """Track frames; return the one that establishes a zoom, and the zoom."""
        reference = T_world_ref = None
        for i in range(frames):
            T = se3.inverse(self.pose(i))
            pixels = observed(self.world, T, self.zoom(i))
            pixels += self._rng.normal(0, NOISE, pixels.shape)
            if reference is not None:
                track = self.tracked(reference, pixels, T @ T_world_ref)
                assert track.pose is not None
                found = self.detector.add(i, reference, track, track.pose, CAMERA)
                if found is not None:
                    return i, found
            if i % REFERENCE_FRAMES == 0:
                depths = se3.transform(T, self.world)[:, 2:] * self._rng.normal(
                    1, self._depth_noise, (150, 1))
                if self._distorted:
                    tilt = 1 + 0.5 * (pixels[:, :1] - CAMERA.cx) / CAMERA.width
                    depths = np.sqrt(depths * np.median(depths)) * tilt
                T_world_ref = se3.inverse(T)
                reference = Reference(np.zeros((1, 1), np.uint8), pixels.astype(np.float32),
                                      CAMERA.unproject(pixels) * depths)
                self.detector.follow(reference, i)
        return None

    @staticmethod
    def tracked(reference: Reference, pixels: Array, T_cam_ref: Array) -> Track:
        """Estimate the pose that the old focal length gives."""
        pose = refine_pnp(reference.points, pixels, CAMERA, T_cam_ref, 20.0)
        return Track(pixels.astype(np.float32), np.ones(len(pixels), bool), pose)


def sideways(i: int) -> Array:
    """Return the pose of a camera that passes the scene."""
    return se3.from_rt(np.eye(3), [0.015 * i, 0.004 * i, 0.0])


def forward(i: int) -> Array:
    """Return the pose of a camera that approaches the scene, a third of the way in all."""
    return se3.from_rt(np.eye(3), [0.002 * i, 0.0, 0.02 * i])


def ramp(begin: int, frames: int, factor: float) -> Callable[[int], float]:
    """Return a zoom that begins with a frame."""
    return lambda i: 1 + (factor - 1) * float(np.clip((i - begin) / frames, 0, 1))


@pytest.mark.parametrize('pose', [sideways, forward])
@pytest.mark.parametrize('factor', [1.5, 0.7])
def test_a_zoom_is_found_where_it_begins(pose: Callable[[int], Array], factor: float) -> None:
    zoom = ramp(40, 30, factor)
    found = Run(pose, zoom).until(90)
    assert found is not None
    index, established = found
    enough = next(i for i in range(90) if abs(np.log(zoom(i))) > LEAST)
    assert enough <= index <= enough + CONFIRMED + 4
    assert 36 <= established.first <= 46
    assert established.factor == pytest.approx(zoom(index), rel=0.05)


@pytest.mark.parametrize('pose', [sideways, forward])
def test_a_camera_that_only_moves_does_not_zoom(pose: Callable[[int], Array]) -> None:
    assert Run(pose, lambda i: 1.0).until(90) is None


def test_a_wide_lens_that_breathes_with_its_focus_does_not_zoom() -> None:
    assert Run(sideways, ramp(40, 30, 1.05)).until(90) is None


def test_a_plane_tells_nothing() -> None:
    """Straight before a plane, a zoom and an approach look the same."""
    assert Run(sideways, ramp(40, 30, 1.5), plane=True).until(60) is None


def to_and_fro(i: int) -> Array:
    """Return the pose of a camera that approaches and goes back, and sways."""
    return se3.from_rt(np.eye(3), [
        0.3 * np.sin(i / 8), 0.1 * np.sin(i / 5), 0.6 * np.sin(i / 15)])


def after_a_rest(i: int) -> Array:
    """Return the pose of a camera that rests, and then approaches."""
    return forward(max(i - 80, 0))


@pytest.mark.parametrize('pose', [to_and_fro, after_a_rest])
def test_a_distorted_map_does_not_look_like_a_zoom(pose: Callable[[int], Array]) -> None:
    """Its errors are known by those before; a camera at rest tells nothing of them."""
    assert Run(pose, lambda i: 1.0, distorted=True).until(170) is None


def test_a_chain_ends_where_tracking_does() -> None:
    run = Run(sideways, lambda i: 1.0)
    assert run.until(40) is None
    run.zoom = lambda i: 1.5  # all of what follows, its references included
    run.detector.clear()
    assert run.until(40) is None


def zoomed(frame: Frame, factor: float) -> Frame:
    """Zoom in about the principal point."""
    camera = frame.camera
    assert camera is not None
    M = np.array([[factor, 0, (1 - factor) * camera.cx], [0, factor, (1 - factor) * camera.cy]])
    return replace(frame, image=cv2.warpAffine(
        frame.image, M, (camera.width, camera.height), flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE))


def test_zoomed_images_have_no_pose_until_the_focal_length_is_the_old_one(caplog) -> None:
    """In by 1.4 from frame 40 to 50, back from 52 to 55; the map forgets all of it."""
    scene = still_scene(3, 68, 'sweep')
    system = System(GeometricPredictor(), motion=MotionConfig(detect=False))
    factors, causes = {}, {}
    for i in range(68):
        factors[i] = ramp(40, 10, 1.4)(i) - ramp(52, 3, 1.4)(i) + 1
        frame = replace(as_frame(scene, i), stamp_ns=100_000_000 * i)
        causes[i] = system.add(zoomed(frame, factors[i])).cause
    posed = {frame.index for frame, _ in system.trajectory()}
    assert [i for i in posed if factors[i] > 1.06] == []
    assert {k.index for k in system.map.keyframes.values()} <= posed
    assert system.zoomed and min(system.zoomed) > 36 and not system.zoomed & posed
    assert causes[51] == Cause.ZOOMED.value
    assert set(range(25, 38)) <= posed
    assert system.state is TrackingState.TRACKING and max(posed) == 67
    warnings = [r.message for r in caplog.records if 'zooms from frame' in r.message]
    assert len(warnings) == 1 and f'{min(system.zoomed):06d} on' in warnings[0]
