# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A small differentiable rasteriser of Gaussians, for tests and tiny scenes.

By the definitions of 3DGS (Kerbl et al., 'Real-Time Radiance Field Rendering', SIGGRAPH 2023,
sections 4 and 6): the projection of Zwicker et al. ('EWA Volume Splatting', 2001), and blending
from front to back. Cells of the image are blended in batches, padded to the longest list of
Gaussians among them. Pixel centres are at integers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

#: Variance that is added to a projected Gaussian, pixels^2
BLUR = 0.3
#: An opacity of a pixel, at most; what is below the least is left out
MOST, LEAST = 0.99, 1 / 255
#: A Gaussian that would leave less transmittance ends the pixel
OPAQUE = 1e-4
#: Standard deviations to the edge of a projected Gaussian: beyond, its opacity is below LEAST
EDGE = 3.33
#: Share of the image beyond its border at which the slope of the projection is kept constant
MARGIN = 0.15
#: Edge of a cell, pixels, and elements (cells x Gaussians x pixels) of a batch
_CELL, _BATCH = 8, 4_000_000
_C0, _C1 = 0.28209479177387814, 0.4886025119029199
_C2 = (1.0925484305920792, -1.0925484305920792, 0.31539156525252005, -1.0925484305920792,
       0.5462742152960396)
_C3 = (-0.5900435899266435, 2.890611442640554, -0.4570457994644658, 0.3731763325901154,
       -0.4570457994644658, 1.445305721320277, -0.5900435899266435)


@dataclass(frozen=True, eq=False)
class GaussianTensors:
    """
    Gaussians in a scene.

    :param means: (N, 3)
    :param quaternions_wxyz: (N, 4) of any length but 0: axes of the Gaussian to the scene
    :param scales: (N, 3) standard deviations
    :param opacities: (N,) 0 to 1
    :param harmonics: (N, n, 3) RGB, n = 1, 4, 9 or 16 for degree 0 to 3
    """

    means: Tensor
    quaternions_wxyz: Tensor
    scales: Tensor
    opacities: Tensor
    harmonics: Tensor


@dataclass(frozen=True, eq=False)
class Projected:
    """
    Gaussians in an image.

    :param means: (N, 2) pixels
    :param conics: (N, 3) inverse covariances, entries xx, xy, yy
    :param radii: (N, 2) half sides of the box, pixels; 0 where it does not meet the image
    :param depths: (N,) along the optical axis
    :param colors: (N, 3) as seen from the camera
    """

    means: Tensor
    conics: Tensor
    radii: Tensor
    depths: Tensor
    colors: Tensor


@dataclass(frozen=True, eq=False)
class Rendered:
    """
    A rendered view, without any background.

    :param image: (H, W, 3) weighted by opacity
    :param depth: (H, W) sum of depth times weight
    :param alpha: (H, W) sum of weights
    """

    image: Tensor
    depth: Tensor
    alpha: Tensor


def render(gaussians: GaussianTensors, T_cam_world: Tensor, K: Tensor, height: int, width: int,
           near: float = 1e-2) -> Rendered:
    """
    Render a view.

    :param T_cam_world: (4, 4) world to camera, optical axes
    :param K: (3, 3) pinhole matrix, pixels
    :param near: least depth
    """
    projected = project(gaussians, T_cam_world, K, height, width, near)
    features = torch.cat([projected.colors, projected.depths[:, None],
                          torch.ones_like(projected.depths)[:, None]], dim=1)
    blended = blend(projected, gaussians.opacities, features, height, width)
    return Rendered(blended[..., :3], blended[..., 3], blended[..., 4])


def project(gaussians: GaussianTensors, T_cam_world: Tensor, K: Tensor, height: int, width: int,
            near: float) -> Projected:
    """Project Gaussians to an image; see `render`."""
    R, t = T_cam_world[:3, :3], T_cam_world[:3, 3]
    inside = gaussians.means @ R.T + t
    before = inside[:, 2] > near
    x, y, z = inside.unbind(1)
    z = torch.where(before, z, torch.ones_like(z))
    (fx, fy), (cx, cy) = (K[0, 0], K[1, 1]), (K[0, 2], K[1, 2])
    means = torch.stack([fx * x / z + cx, fy * y / z + cy], dim=1)
    slope_x = _limited(x / z, (cx + 0.5) / fx, (width - cx - 0.5) / fx, MARGIN * width / fx)
    slope_y = _limited(y / z, (cy + 0.5) / fy, (height - cy - 0.5) / fy, MARGIN * height / fy)
    zero = torch.zeros_like(z)
    J = torch.stack([fx / z, zero, -fx * slope_x / z,
                     zero, fy / z, -fy * slope_y / z], dim=1).reshape(-1, 2, 3)
    # (N, 2, 3): the Gaussian's axes in the image, as long as its standard deviations
    M = J @ R @ _rotations(gaussians.quaternions_wxyz) * gaussians.scales[:, None]
    covariances = M @ M.transpose(1, 2)
    xx, xy, yy = covariances[:, 0, 0] + BLUR, covariances[:, 0, 1], covariances[:, 1, 1] + BLUR
    determinants = xx * yy - xy * xy
    conics = torch.stack([yy, -xy, xx], dim=1) / determinants[:, None]
    with torch.no_grad():
        radii = torch.ceil(EDGE * torch.stack([xx, yy], dim=1).sqrt())
        size = means.new_tensor([width, height])
        meets = ((means + radii > -0.5) & (means - radii < size - 0.5)).all(1)
        radii = radii * (before & meets & (determinants > 0))[:, None]
    eye = -R.T @ t
    colors = _colors(gaussians.harmonics, gaussians.means - eye)
    return Projected(means, conics, radii, inside[:, 2], colors)


def blend(projected: Projected, opacities: Tensor, features: Tensor, height: int, width: int
          ) -> Tensor:
    """
    Blend features of Gaussians from front to back.

    :param opacities: (N,)
    :param features: (N, C)
    :returns: (height, width, C)
    """
    rows, columns = -(-height // _CELL), -(-width // _CELL)
    pixels = _CELL * _CELL
    blended = features.new_zeros(rows * columns, pixels, features.shape[1])
    device = features.device
    place = torch.arange(pixels, device=device)
    offsets = torch.stack([place % _CELL, place // _CELL], dim=1).to(features.dtype)
    parts, where = [], []
    for cells, members, counts in _batches(projected, rows, columns):
        corner = torch.stack([cells % columns, cells // columns], dim=1) * _CELL
        at = corner[:, None].to(features.dtype) + offsets  # (T, P, 2)
        x, y = (at[:, None] - projected.means[members][:, :, None]).unbind(-1)  # (T, K, P)
        a, b, c = projected.conics[members].unsqueeze(2).unbind(-1)  # (T, K, 1)
        power = -0.5 * (a * x * x + c * y * y) - b * x * y
        there = torch.arange(members.shape[1], device=device) < counts[:, None]
        alpha = (opacities[members] * there)[..., None] * torch.exp(power)
        alpha = torch.where(alpha < LEAST, 0.0, alpha.clamp(max=MOST))
        parts.append(_FrontToBack.apply(alpha, features[members]))
        where.append(cells)
    if parts:
        blended = blended.index_copy(0, torch.cat(where), torch.cat(parts))
    image = blended.reshape(rows, columns, _CELL, _CELL, -1).transpose(1, 2)
    return image.reshape(rows * _CELL, columns * _CELL, -1)[:height, :width]


class _FrontToBack(torch.autograd.Function):
    """Blending with its derivative, which torch would take five times the memory for."""

    @staticmethod
    def forward(context: Any, alpha: Tensor, features: Tensor) -> Tensor:
        """
        Blend from front to back.

        :param alpha: (T, K, P) opacities of the pixels
        :param features: (T, K, C)
        :returns: (T, P, C)
        """
        after = torch.cumprod(1 - alpha, dim=1)
        before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], dim=1)
        before = torch.where(after > OPAQUE, before, 0.0)
        weights = alpha * before
        context.save_for_backward(alpha, features, before, weights)
        return weights.transpose(1, 2) @ features

    @staticmethod
    def backward(context: Any, *slopes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the slopes by opacities and features, of those by what is blended (T, P, C)."""
        alpha, features, before, weights = context.saved_tensors
        by_weight = features @ slopes[0].transpose(1, 2)  # (T, K, P)
        shares = weights * by_weight
        behind = shares.sum(1, keepdim=True) - shares.cumsum(1)
        by_alpha = before * by_weight - torch.where(before > 0, behind / (1 - alpha), 0.0)
        return by_alpha, weights @ slopes[0]


@torch.no_grad()
def _batches(projected: Projected, rows: int, columns: int
             ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """
    Yield cells that are blended together.

    :returns: numbers of the cells (T,), their Gaussians from front to back (T, K), of which only
        so many (T,) count
    """
    order = torch.argsort(projected.depths)
    order = order[projected.radii[order, 0] > 0]
    means, radii = projected.means[order], projected.radii[order]
    most = means.new_tensor([columns - 1, rows - 1])
    low = ((means - radii) / _CELL).floor().clamp(min=0).minimum(most).long()
    high = ((means + radii) / _CELL).floor().clamp(min=0).minimum(most).long()
    wide, count = high[:, 0] - low[:, 0] + 1, (high - low + 1).prod(1)
    device = means.device
    owner = torch.repeat_interleave(torch.arange(len(order), device=device), count)
    first = torch.repeat_interleave(count.cumsum(0) - count, count)
    nth = torch.arange(len(owner), device=device) - first
    cell = ((low[owner, 1] + nth // wide[owner]) * columns + low[owner, 0] + nth % wide[owner])
    by_cell = torch.argsort(cell, stable=True)
    listed = order[owner[by_cell]]
    counts = torch.bincount(cell, minlength=rows * columns)
    starts = counts.cumsum(0) - counts
    cells = torch.argsort(counts, descending=True)
    cells = cells[counts[cells] > 0]
    while len(cells):
        longest = int(counts[cells[0]])
        taken = max(1, _BATCH // (longest * _CELL * _CELL))
        some, cells = cells[:taken], cells[taken:]
        places = starts[some][:, None] + torch.arange(longest, device=device)
        yield some, listed[places.clamp(max=len(listed) - 1)], counts[some]


def _limited(slope: Tensor, low: Tensor, high: Tensor, margin: Tensor) -> Tensor:
    """Limit a slope of viewing rays to the image and a margin."""
    return torch.minimum(torch.maximum(slope, -(low + margin)), high + margin)


def _rotations(quaternions_wxyz: Tensor) -> Tensor:
    """Return rotations (N, 3, 3)."""
    w, x, y, z = torch.nn.functional.normalize(quaternions_wxyz, dim=1).unbind(1)
    return torch.stack([
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        dim=1).reshape(-1, 3, 3)


def _colors(harmonics: Tensor, directions: Tensor) -> Tensor:
    """Return the colours (N, 3) of harmonics (N, n, 3) in directions (N, 3) of any length."""
    count = harmonics.shape[1]
    x, y, z = torch.nn.functional.normalize(directions, dim=1).unbind(1)
    basis = [torch.full_like(x, _C0)]
    if count > 1:
        basis += [-_C1 * y, _C1 * z, -_C1 * x]
    if count > 4:
        basis += [c * term for c, term in zip(_C2, (
            x * y, y * z, 2 * z * z - x * x - y * y, x * z, x * x - y * y))]
    if count > 9:
        basis += [c * term for c, term in zip(_C3, (
            y * (3 * x * x - y * y), x * y * z, y * (4 * z * z - x * x - y * y),
            z * (2 * z * z - 3 * x * x - 3 * y * y), x * (4 * z * z - x * x - y * y),
            z * (x * x - y * y), x * (x * x - 3 * y * y)))]
    return (0.5 + torch.einsum('nk,nkc->nc', torch.stack(basis, dim=1), harmonics)).clamp(min=0)
