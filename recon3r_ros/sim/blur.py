# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Motion blur: images that are the mean light of several instants during the exposure.

The stamp, depth, mask and pose are those of the middle of the exposure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.sim.config import SceneConfig
from recon3r_ros.sim.render import SimulatedFrame, SimulatedSequence
from recon3r_ros.sim.scene import Scene

#: Instants per second of which those during exposures are rendered, about
_RATE = 960.0


class BlurredSequence:
    """
    A simulated sequence with the configuration's exposure time.

    :param config: of the scene
    :raises InputError: as `SimulatedSequence`
    """

    def __init__(self, config: SceneConfig) -> None:
        self.config = config
        self._step = max(1, int(_RATE / config.fps))
        self._sharp = SimulatedSequence(replace(
            config, exposure=0.0, noise=0.0, fps=config.fps * self._step,
            frames=(config.frames - 1) * self._step + 1))
        self._half = round(config.exposure * config.fps * self._step / 2)

    @property
    def camera(self) -> Camera:
        """The camera of all frames."""
        return self._sharp.camera

    @property
    def scene(self) -> Scene:
        """What is rendered."""
        return self._sharp.scene

    def __len__(self) -> int:
        """Return the number of frames."""
        return self.config.frames

    def __iter__(self) -> Iterator[SimulatedFrame]:
        """Render all frames in order."""
        return (self.render(index) for index in range(len(self)))

    def render(self, index: int) -> SimulatedFrame:
        """
        Render one frame.

        :param index: its number, from 0
        """
        middle = index * self._step
        instants = np.arange(max(middle - self._half, 0),
                             min(middle + self._half, len(self._sharp) - 1) + 1)
        sharp = self._sharp.render(middle)
        if len(instants) > 1:
            poses = self.scene.camera_path.poses(instants[[0, -1]] / self._sharp.config.fps)
            angle = se3.rotation_angle(poses[0, :3, :3].T @ poses[1, :3, :3])
            # One instant for each pixel of motion
            count = min(len(instants), 1 + int(angle * self.camera.fx))
            instants = instants[np.rint(np.linspace(0, len(instants) - 1, count)).astype(int)]
        image = sharp.image
        if len(instants) > 1:
            image = self._mean([self._sharp.render(int(i)).image for i in instants])
        return replace(sharp, index=index, stamp_ns=round(index * 1e9 / self.config.fps),
                       image=self._noisy(image, index))

    @staticmethod
    def _mean(images: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Average light: grey levels are its square root."""
        light = np.mean([image.astype(np.float32) ** 2 for image in images], axis=0)
        return np.asarray(np.sqrt(light).round(), np.uint8)

    def _noisy(self, image: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
        rng = self.config.generator('sensor', index)
        grain = rng.standard_normal(image.shape, dtype=np.float32) * self.config.noise
        return np.asarray((image + grain).round().clip(0, 255), np.uint8)
