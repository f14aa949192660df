# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Simulated images and the truth about them, for the tests of several stages."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera, pixel_grid
from recon3r_ros.geometry.procrustes import weighted_procrustes
from recon3r_ros.models.types import View
from recon3r_ros.sim import SceneConfig, SimulatedFrame, SimulatedSequence
from recon3r_ros.slam.system import System
from recon3r_ros.slam.types import Frame
import torch

Array = NDArray[np.float64]

#: Depths differ by less than this factor around a pixel that lies on one surface
_SMOOTH = 1.03


@lru_cache(maxsize=None)
def still_scene(seed: int, frames: int = 60, trajectory: str = 'handheld', width: int = 320,
                height: int = 240, fps: float = 30.0) -> SimulatedSequence:
    """Make a scene in which only the camera moves."""
    torch.set_num_threads(1)
    return SimulatedSequence(SceneConfig(
        seed=seed, frames=frames, width=width, height=height, trajectory=trajectory,
        fps=fps, moving_objects=0))


@lru_cache(maxsize=200)
def render(sequence: SimulatedSequence, index: int) -> SimulatedFrame:
    """Render a frame, once."""
    return sequence.render(index)


def as_frame(sequence: SimulatedSequence, index: int) -> Frame:
    """Turn a simulated frame into the pipeline's input."""
    frame = render(sequence, index)
    return Frame(frame.image, frame.stamp_ns, f'{index:06d}', index, sequence.camera)


@dataclass(frozen=True, eq=False)
class TrueView:
    """
    A view with exact depth and pose.

    :param view: what a predictor sees
    :param depth: (H, W) float32, metres
    :param T_world_cam: (4, 4)
    """

    view: View
    depth: NDArray[np.float32]
    T_world_cam: Array

    @classmethod
    def of(cls, sequence: SimulatedSequence, index: int) -> TrueView:
        """Take a frame of a sequence."""
        frame = render(sequence, index)
        return cls(View(frame.image, sequence.camera), frame.depth, frame.T_world_cam)

    def cropped(self, x: int, y: int, width: int, height: int) -> TrueView:
        """Cut out a window."""
        rows, columns = slice(y, y + height), slice(x, x + width)
        camera = self.view.camera.cropped(x, y, width, height)
        return TrueView(View(np.ascontiguousarray(self.view.image[rows, columns]), camera),
                        np.ascontiguousarray(self.depth[rows, columns]), self.T_world_cam)

    def grey(self) -> TrueView:
        """Drop the colours."""
        image = cv2.cvtColor(self.view.image, cv2.COLOR_RGB2GRAY)
        return TrueView(View(image, self.view.camera), self.depth, self.T_world_cam)

    def turned(self, R_cam_turned: Array, width: int, height: int) -> TrueView:
        """Look from the same place in another direction, at the image's middle."""
        source = self.view.camera
        camera = Camera(width, height, source.fx, source.fy, (width - 1) / 2, (height - 1) / 2)
        rays = camera.unproject(pixel_grid(height, width)) @ R_cam_turned.T
        x, y = np.moveaxis(source.project(rays), -1, 0).astype(np.float32)
        assert 0 <= x.min() and x.max() <= source.width - 1, 'looks beyond the image'
        assert 0 <= y.min() and y.max() <= source.height - 1, 'looks beyond the image'
        image = cv2.remap(self.view.image, x, y, cv2.INTER_CUBIC)
        depth = cv2.remap(self.depth, x, y, cv2.INTER_LINEAR) / rays[..., 2]
        return TrueView(View(image, camera), depth.astype(np.float32),
                        self.T_world_cam @ se3.from_rt(R_cam_turned, np.zeros(3)))

    def depth_on(self, camera: Camera) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """
        Look up the depth on another grid of the same camera.

        :param camera: resized or cropped from the view's
        :return: depth (H, W), and where it lies on one surface (H, W)
        """
        pixels = self.view.camera.project(
            camera.unproject(pixel_grid(camera.height, camera.width))).astype(np.float32)
        window = np.ones((5, 5), np.uint8)
        smooth = cv2.dilate(self.depth, window) < _SMOOTH * cv2.erode(self.depth, window)
        x, y = pixels[..., 0], pixels[..., 1]
        depth = cv2.remap(self.depth, x, y, cv2.INTER_LINEAR)
        return depth, cv2.remap(smooth.astype(np.float32), x, y, cv2.INTER_NEAREST) > 0

    def points_on(self, camera: Camera) -> Array:
        """Points (H, W, 3) of a grid in this view's camera frame, metres."""
        rays = camera.unproject(pixel_grid(camera.height, camera.width))
        return rays * self.depth_on(camera)[0][..., None]

    def seen_in(self, camera: Camera, other: TrueView, other_camera: Camera
                ) -> tuple[Array, NDArray[np.bool_]]:
        """
        Find where this view's pixels are seen in another view.

        :param camera: grid of this view
        :param other_camera: grid of the other one
        :return: pixels (H, W, 2) of the other grid, and where they are visible there (H, W)
        """
        T_other_own = se3.inverse(other.T_world_cam) @ self.T_world_cam
        points = se3.transform(T_other_own, self.points_on(camera).reshape(-1, 3))
        pixels = other_camera.project(points).reshape(camera.height, camera.width, 2)
        there, smooth = other.depth_on(other_camera)
        x, y = np.moveaxis(np.nan_to_num(pixels, nan=-9.0), -1, 0).astype(np.float32)
        nearest = cv2.remap(there, x, y, cv2.INTER_LINEAR, borderValue=0.0)
        smooth_there = cv2.remap(smooth.astype(np.float32), x, y, cv2.INTER_NEAREST) > 0
        z = points[:, 2].reshape(nearest.shape)
        return pixels, (np.abs(z / np.maximum(nearest, 1e-3) - 1) < 0.02) & smooth_there


def absolute_error(estimated: Array, truth: Array) -> float:
    """Root mean square distance of positions (N, 3) after the best similarity, metres."""
    S = weighted_procrustes(estimated, truth, np.ones(len(truth)))
    difference = se3.transform(S, estimated) - truth
    return float(np.sqrt(np.mean(np.sum(difference ** 2, axis=1))))


def path_length(positions: Array) -> float:
    """Length of a polygon of positions (N, 3)."""
    return float(np.linalg.norm(np.diff(positions, axis=0), axis=1).sum())


def degrees_between(R_a: Array, R_b: Array) -> float:
    """Angle between two rotations (3, 3)."""
    return float(np.rad2deg(se3.rotation_angle(R_a.T @ R_b)))


def error_over_path(reconstruction: System, scene: SimulatedSequence) -> float:
    """Absolute trajectory error after a similarity, relative to the length of the path."""
    assert reconstruction.map.started
    tracked = sorted(reconstruction.trajectory(), key=lambda t: t[0].index)
    assert len(tracked) >= 10
    estimated = np.stack([T[:3, 3] for _, T in tracked])
    truth = np.stack([render(scene, f.index).T_world_cam[:3, 3] for f, _ in tracked])
    return absolute_error(estimated, truth) / path_length(truth)
