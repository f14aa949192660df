# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rendering: the frames of a scene with exact depth, pose and dynamic mask."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Iterator

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.sim.config import SceneConfig
from recon3r_ros.sim.lighting import lamps, light_on_solid, LightMap
from recon3r_ros.sim.rays import Rays
from recon3r_ros.sim.scene import build_scene, Scene
from recon3r_ros.sim.shapes import face_half_sizes
from recon3r_ros.sim.textures import Textures
import torch
from torch import Tensor

Array = NDArray[np.float64]

_STEEPEST = 0.1  # cosine below which a pixel's footprint grows no further
_EXPOSURE = 0.98
_CHUNK = 1 << 15  # pixels shaded at once, so that intermediate results stay in the cache


@dataclass(frozen=True, eq=False)
class SimulatedFrame:
    """
    One frame with ground truth.

    :param index: position in the sequence, from 0
    :param stamp_ns: index / fps, integer nanoseconds
    :param image: (H, W, 3) uint8, RGB
    :param depth: (H, W) float32, metres along the optical axis, at the pixels' centres
    :param T_world_cam: camera pose (4, 4); world z up
    :param motion_mask: (H, W) bool, True on dynamic objects
    :param object_index: (H, W) int32, which of the scene's objects is visible, 0 for the room
    """

    index: int
    stamp_ns: int
    image: NDArray[np.uint8]
    depth: NDArray[np.float32]
    T_world_cam: Array
    motion_mask: NDArray[np.bool_]
    object_index: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class _Surface:
    # the surface hit by each ray of a grid; all (h, w)
    nearness: Tensor  # 1 / depth
    face: Tensor  # 6 * object + face of the object, int32
    u: Tensor
    v: Tensor
    slant: Tensor
    light: Tensor


class SimulatedSequence:
    """
    A sequence rendered on demand; frame i does not depend on which were rendered before.

    :param config: of the scene
    :param device: a torch device; on the CPU the result is bitwise reproducible
    :raises InputError: if there is no space for the dynamic objects
    """

    def __init__(self, config: SceneConfig, device: str | torch.device = 'cpu') -> None:
        self.config = config
        self._sensor = 'sensor'
        self.camera: Camera = config.camera
        self.scene: Scene = build_scene(config)
        self._device = torch.device(device)
        self._T_world_cam = self.scene.camera_path.poses(config.times)
        self._poses = np.stack([o.path.poses(config.times) for o in self.scene.objects], axis=1)
        rng = config.generator('textures')
        self._textures = Textures(
            [material for o in self.scene.objects for material in o.materials],
            np.concatenate([face_half_sizes(o.solid) for o in self.scene.objects]),
            rng, self._device)
        room, *others = self.scene.objects
        self._lamps = lamps(room.solid.half_size, rng)
        still = [(o.solid, T) for o, T in zip(others, self._poses[0, 1:]) if not o.moving]
        self._light_map = LightMap(room.solid, self._poses[0, 0], self._lamps, still, rng,
                                   self._device)
        self._moving = torch.tensor([o.moving for o in self.scene.objects], device=self._device)

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
        :returns: the frame
        :raises InputError: if the index is out of range
        """
        if not 0 <= index < len(self):
            raise InputError(f'frame: got {index}, expected 0 to {len(self) - 1}')
        samples = self.config.supersampling
        with torch.inference_mode():
            surface = self._trace(index, self._rays(1))
            seen = surface if samples == 1 else self._trace(index, self._rays(samples))
            color = self._shade(seen, 1.0 / (samples * self.camera.fx))
            if samples > 1:
                color = torch.nn.functional.avg_pool2d(color[None], samples)[0]
            image = self._expose(color, index)
            now = self.config.departure <= index / self.config.fps < self.config.arrival
            seen_object = surface.face // 6
            moving = self._moving[seen_object.long()] & now
            depth = surface.nearness.reciprocal()
        return SimulatedFrame(index, round(index * 1e9 / self.config.fps), image,
                              depth.cpu().numpy(), self._T_world_cam[index].copy(),
                              moving.cpu().numpy(), seen_object.cpu().numpy())

    def seen_by(self, T_cam_other: Array) -> SimulatedSequence:
        """
        Return the sequence of a rig's second camera, which has noise of its own.

        :param T_cam_other: (4, 4) its pose in the camera's frame, metres
        """
        other = copy(self)
        other._T_world_cam = self._T_world_cam @ T_cam_other
        other._sensor = 'second sensor'
        return other

    def _rays(self, samples: int) -> Rays:
        camera = self.camera

        def spread(size: int, centre: float, focal: float) -> Array:
            pixels = (np.arange(size * samples) + 0.5) / samples - 0.5
            return np.asarray((pixels - centre) / focal)
        return Rays.grid(spread(camera.width, camera.cx, camera.fx),
                         spread(camera.height, camera.cy, camera.fy), self._device)

    def _trace(self, index: int, rays: Rays) -> _Surface:
        T_world_cam, poses = self._T_world_cam[index], self._poses[index]
        T_object_cam = se3.inverse(poses) @ T_world_cam
        seen = _Surface(*(torch.zeros_like(rays.length, dtype=kind) for kind in
                          (torch.float32, torch.int32, *[torch.float32] * 4)))
        for number, item in enumerate(self.scene.objects):
            for hit in item.solid.intersect(rays, T_object_cam[number]):
                nearest = seen.nearness[hit.window]
                nearer = hit.hit & (hit.nearness > nearest)
                if number == 0:
                    light = self._light_map.sample(hit)
                else:
                    height = rays.crop(hit.window).component(T_world_cam[2, :3])
                    height = height.div_(hit.nearness).add_(float(T_world_cam[2, 3]))
                    light = light_on_solid(self._lamps, poses[number], hit, height)
                face = torch.as_tensor(hit.face + 6 * number, dtype=torch.int32,
                                       device=self._device)
                for old, new in ((nearest, hit.nearness), (seen.face[hit.window], face),
                                 (seen.u[hit.window], hit.u), (seen.v[hit.window], hit.v),
                                 (seen.slant[hit.window], hit.slant),
                                 (seen.light[hit.window], light)):
                    torch.where(nearer, new, old, out=old)
        return seen

    def _shade(self, seen: _Surface, pixel: float) -> Tensor:
        # pixel: its width at one metre; returns linear RGB (3, h, w)
        # the geometric mean of the footprint's two axes
        footprint = pixel / (seen.nearness * seen.slant.clamp(min=_STEEPEST).sqrt_()).view(-1)
        face, u, v, light = (t.view(-1) for t in (seen.face, seen.u, seen.v, seen.light))
        size = _CHUNK if self._device.type == 'cpu' else len(face)
        color = torch.empty((3, len(face)), device=self._device)
        for start in range(0, len(face), size):
            part = slice(start, start + size)
            albedo = self._textures.albedo(face[part], u[part], v[part], footprint[part])
            torch.mul(albedo, light[part], out=color[:, part])
        return color.view(3, *seen.light.shape)

    def _expose(self, color: Tensor, index: int) -> NDArray[np.uint8]:
        values = color.mul_(_EXPOSURE).sqrt_().mul_(255.0)
        if self.config.noise > 0:
            rng = self.config.generator(self._sensor, index)
            grain = rng.standard_normal(values.shape, dtype=np.float32)
            values += torch.from_numpy(grain).to(self._device) * self.config.noise
        image = values.round_().clamp_(0.0, 255.0).to(torch.uint8)
        return np.ascontiguousarray(image.cpu().numpy().transpose(1, 2, 0))
