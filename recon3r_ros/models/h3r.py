# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Gaussians and depth of posed images by a network of H3R's kind (`nets/h3r.py`).

It is no predictor: it needs poses, and runs after alignment. No trained weights are published
that fit; `scripts/train_gaussians.py` makes small ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import Recon3rError
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.models.registry import EngineConfig
from recon3r_ros.models.runtime import Runner, too_little_memory
from recon3r_ros.nets.gaussian_raster import LEAST, MOST
from recon3r_ros.nets.h3r import H3r, IMAGE_SIZE, Views
from recon3r_ros.nets.layers.pixel_gaussians import C0
import torch


@dataclass(frozen=True, eq=False)
class PosedImage:
    """
    An image of a static scene with known camera.

    :param image: (H, W, 3) uint8 RGB
    :param camera: pinhole of the image
    :param T_world_cam: (4, 4) camera to world
    :param near: least depth, unit of the world, > 0
    :param far: largest depth
    :param static: (H, W) bool, False on dynamic objects
    """

    image: NDArray[np.uint8]
    camera: Camera
    T_world_cam: NDArray[np.float64]
    near: float
    far: float
    static: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Made:
    """
    Gaussians of one image, of its static pixels that another image sees.

    :param means: (N, 3) float32 world frame
    :param quaternions_wxyz: (N, 4) float32 axes of the Gaussian to the world
    :param scales: (N, 3) float32 standard deviations
    :param opacities: (N,) float32
    :param colors: (N, 3) float32 RGB, 0 to 1
    """

    means: NDArray[np.float32]
    quaternions_wxyz: NDArray[np.float32]
    scales: NDArray[np.float32]
    opacities: NDArray[np.float32]
    colors: NDArray[np.float32]


def fitted(view: PosedImage, stride: int, longest: int = IMAGE_SIZE) -> PosedImage:
    """
    Resize an image to the sides that the network takes; its intrinsics follow.

    :param stride: of which the sides become multiples
    :param longest: longer side, at most, pixels
    """
    height, width = view.image.shape[:2]
    factor = min(1.0, longest / max(height, width))
    columns, rows = (max(round(side * factor / stride), 1) * stride for side in (width, height))
    if (columns, rows) == (width, height):
        return view
    image = cv2.resize(view.image, (columns, rows), interpolation=cv2.INTER_AREA)
    # A pixel that a dynamic one is part of is dynamic
    share = cv2.resize((~view.static).astype(np.float32), (columns, rows),
                       interpolation=cv2.INTER_AREA)
    return replace(view, image=np.asarray(image, np.uint8), static=share == 0,
                   camera=view.camera.resized(columns, rows))


def as_views(posed: Sequence[PosedImage], device: torch.device = torch.device('cpu')) -> Views:
    """
    Return images for the network.

    :param posed: of one size; lengths should be of the order of 1, since they become float32
    :param device: of the tensors
    """
    def tensor(values: object) -> torch.Tensor:
        return torch.tensor(np.asarray(values, np.float32), device=device)
    images = tensor(np.stack([view.image for view in posed])) / 127.5 - 1
    return Views(
        images.permute(0, 3, 1, 2).contiguous(), tensor([view.camera.K for view in posed]),
        tensor([view.T_world_cam for view in posed]), tensor([view.near for view in posed]),
        tensor([view.far for view in posed]),
        torch.tensor(np.stack([view.static for view in posed]), device=device))


class H3rEngine:
    """
    The network on a device, in float32.

    :param network: moved to the device; owned by this object
    :param device: as of `EngineConfig`
    :raises Recon3rError: where the device cannot be used
    """

    def __init__(self, network: H3r, device: str = 'auto') -> None:
        self._runner = Runner(EngineConfig(device, 'float32'))
        self._network = network.to(self._runner.device).eval()

    def gaussians(self, posed: Sequence[PosedImage]) -> list[Made]:
        """
        Make the Gaussians of images that see the same place.

        :param posed: at least two, of one camera size
        :returns: for each image its own
        :raises Recon3rError: for fewer images, sizes that differ once they are fitted, or too
            little memory
        """
        stride = self._network.config.vae.stride
        views = [fitted(view, stride) for view in posed]
        sizes = {view.image.shape[:2] for view in views}
        if len(views) < 2 or len(sizes) > 1:
            raise Recon3rError(f'{len(views)} images of {len(sizes)} sizes, expected at least 2 '
                               'of the same')
        # Around the first camera and in a unit near 1: float32 has seven digits
        origin, unit = views[0].T_world_cam[:3, 3], min(view.near for view in views)
        local = [replace(view, T_world_cam=se3.from_rt(
            view.T_world_cam[:3, :3], (view.T_world_cam[:3, 3] - origin) / unit),
            near=view.near / unit, far=view.far / unit) for view in views]
        try:
            with torch.inference_mode(), self._runner.on_stream():
                out = self._network(as_views(local, self._runner.device))
                own = out.gaussians
                fetched = self._runner.fetched([
                    out.valid.flatten(), own.means, own.quaternions_wxyz, own.scales,
                    own.opacities, own.harmonics[:, 0]])
        except torch.OutOfMemoryError as error:
            raise too_little_memory() from error
        # (V H W, n) -> (V, H W, n)
        valid, means, quaternions, scales, opacities, constant = (
            values.numpy().reshape(len(views), -1, *values.shape[1:]) for values in fetched)
        # What no renderer draws is left out
        keep = valid & (opacities >= LEAST)
        return [Made(
            (unit * means[i][k] + origin).astype(np.float32), quaternions[i][k],
            np.float32(unit) * scales[i][k], np.minimum(opacities[i][k], np.float32(MOST)),
            np.clip(np.float32(C0) * constant[i][k] + np.float32(0.5), 0, 1))
            for i, k in enumerate(keep)]
