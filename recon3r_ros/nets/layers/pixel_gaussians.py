# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A Gaussian for each pixel of posed views, from a network's channels.

The form is that of pixelSplat (Charatan et al., CVPR 2024, section 4.3): a depth along the ray,
an opacity, widths in pixels at that depth, and a quaternion in the camera's frame. Colours are of
degree 0, and added to the pixel's own: the product's Gaussians hold no more.
"""

from __future__ import annotations

from recon3r_ros.nets.gaussian_raster import GaussianTensors
from recon3r_ros.nets.layers.plane_sweep import rays
import torch
from torch import nn, Tensor
from torch.nn.functional import normalize

#: Channels: offset in the pixel, opacity, widths, quaternion w x y z, colour
PARTS = (2, 1, 3, 4, 3)
CHANNELS = sum(PARTS)
#: Standard deviations, pixels
NARROWEST, WIDEST = 0.1, 3.0
#: Half the side of a pixel, in which the centre may move
_OFFSET = 0.5
#: Harmonic of degree 0
C0 = 0.28209479177387814
#: What an untrained network starts from: half a pixel wide, along the camera's axes
_WIDTH_LOGIT = -1.9
_START = (0.0, 0.0, 0.0, *(_WIDTH_LOGIT,) * 3, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
_START_NOISE = 1e-3


def initialise(layer: nn.Conv2d, first: int) -> None:
    """
    Start a network's last layer with plain Gaussians.

    :param first: channel from which on its output is that of `pixel_gaussians`; those before it
        start at 0
    """
    nn.init.normal_(layer.weight, std=_START_NOISE)
    assert layer.bias is not None
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([0.0] * first + list(_START)))


def pixel_gaussians(channels: Tensor, depth: Tensor, images: Tensor, K: Tensor,
                    T_world_cam: Tensor) -> GaussianTensors:
    """
    Make Gaussians.

    :param channels: (V, CHANNELS, H, W)
    :param depth: (V, H, W)
    :param images: (V, 3, H, W) in [-1, 1]
    :param K: (V, 3, 3) pixels
    :param T_world_cam: (V, 4, 4)
    :returns: V H W of them, view by view and row by row, in the world frame
    """
    offset, opacity, widths, quaternions, colors = (
        part.permute(0, 2, 3, 1) for part in channels.split(PARTS, dim=1))  # (V, H, W, n)
    focal = torch.stack([K[:, 0, 0], K[:, 1, 1]], dim=1)[:, None, None]
    moved = (offset.sigmoid() - 0.5) * 2 * _OFFSET / focal
    directions = rays(K, *depth.shape[1:])
    points = torch.cat([directions[..., :2] + moved, directions[..., 2:]], dim=-1)
    points = points * depth[..., None]
    R, centres = T_world_cam[:, :3, :3], T_world_cam[:, :3, 3]
    means = torch.einsum('vij,vhwj->vhwi', R, points) + centres[:, None, None]
    pixel = (depth[..., None] / focal).mean(-1, keepdim=True)
    scales = (NARROWEST + (WIDEST - NARROWEST) * widths.sigmoid()) * pixel
    turned = product_wxyz(quaternion_wxyz(R)[:, None, None], normalize(quaternions, dim=-1))
    colors = colors + (images.permute(0, 2, 3, 1) + 1) / 2
    return GaussianTensors(
        means.reshape(-1, 3), turned.reshape(-1, 4), scales.reshape(-1, 3),
        opacity.sigmoid().reshape(-1), ((colors - 0.5) / C0).reshape(-1, 1, 3))


def product_wxyz(a: Tensor, b: Tensor) -> Tensor:
    """Hamilton product of quaternions (..., 4)."""
    w, x, y, z = a.unbind(-1)
    s, i, j, k = b.unbind(-1)
    return torch.stack([w * s - x * i - y * j - z * k, w * i + x * s + y * k - z * j,
                        w * j - x * k + y * s + z * i, w * k + x * j - y * i + z * s], dim=-1)


def quaternion_wxyz(R: Tensor) -> Tensor:
    """
    Return unit quaternions (V, 4) of rotation matrices (V, 3, 3), without gradient.

    The eigenvector of the largest eigenvalue of Bar-Itzhack ('New method for extracting the
    quaternion from a rotation matrix', 2000), which has no special cases.
    """
    r = R.detach().double()
    xx, yy, zz = r[:, 0, 0], r[:, 1, 1], r[:, 2, 2]
    xy, xz, yz = r[:, 0, 1] + r[:, 1, 0], r[:, 0, 2] + r[:, 2, 0], r[:, 1, 2] + r[:, 2, 1]
    x, y, z = r[:, 2, 1] - r[:, 1, 2], r[:, 0, 2] - r[:, 2, 0], r[:, 1, 0] - r[:, 0, 1]
    symmetric = torch.stack([
        xx + yy + zz, x, y, z, x, xx - yy - zz, xy, xz, y, xy, yy - xx - zz, yz,
        z, xz, yz, zz - xx - yy], dim=-1).unflatten(-1, (4, 4))
    return torch.linalg.eigh(symmetric).eigenvectors[..., -1].to(R.dtype)
