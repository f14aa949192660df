# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A network of H3R's kind: posed views to depth and Gaussians, in one pass.

After 'H3R: Hybrid Multi-view Correspondence for Generalizable 3D Reconstruction' (ICCV 2025,
arXiv 2508.03118), of which this takes what its abstract tells: the encoder of Stable Diffusion's
autoencoder, a latent volume along epipolar lines, fused over views, and a transformer that knows
the cameras by Pluecker coordinates. From public systems before it, MVSplat (Chen et al., ECCV
2024) and pixelSplat (Charatan et al., CVPR 2024), are: hypotheses uniform in inverse depth, depth
as the expectation of a softmax with a residual, and the form of the Gaussians. Sizes, fusion,
normalisations, layers and names of tensors are this package's own: no weights of the authors fit,
and none are known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from recon3r_ros.errors import InputError
from recon3r_ros.nets import vae_encoder
from recon3r_ros.nets.checkpoints import Built, depth_of, Format, HEAD_SIZE
from recon3r_ros.nets.gaussian_raster import GaussianTensors
from recon3r_ros.nets.layers.attention import Mlp, MLP_RATIO, NORM_EPS
from recon3r_ros.nets.layers.dpt import ResidualConvUnit
from recon3r_ros.nets.layers.pixel_gaussians import CHANNELS, initialise, pixel_gaussians
from recon3r_ros.nets.layers.plane_sweep import of_cells, plucker, rays, static_cells, sweep
from recon3r_ros.nets.layers.rope import rope_table, RopeTable
from recon3r_ros.nets.vae_encoder import GROUPS, VaeConfig, VaeEncoder, VaeFeatures
import torch
from torch import nn, Tensor
from torch.nn.functional import gelu, interpolate, layer_norm, scaled_dot_product_attention

MODEL = 'h3r'
#: Longer side of the images, pixels
IMAGE_SIZE = 256
#: Factor of the score, a cosine, in the logits of depth, before training
_SHARPNESS = 10.0
#: Least share of a cell's depth distribution that lies where another view sees it
_SUPPORTED = 0.5


@dataclass(frozen=True)
class H3rConfig:
    """
    Sizes of a network.

    :param vae: of the encoder
    :param channels: that are matched, a multiple of the groups
    :param groups: whose products are separate scores
    :param fused: channels whose mean and variance over views enter the volume
    :param volume: channels of the volume
    :param hypotheses: of depth
    :param width: channels of the tokens, a multiple of 64
    :param depth: pairs of blocks, within a view and over all
    :param decoder: channels of the maps between tokens and pixels
    """

    vae: VaeConfig = VaeConfig()
    channels: int = 128
    groups: int = 8
    fused: int = 16
    volume: int = 8
    hypotheses: int = 64
    width: int = 384
    depth: int = 6
    decoder: int = 64


@dataclass(frozen=True, eq=False)
class Views:
    """
    Views of a static scene with known cameras; lengths have any unit.

    :param images: (V, 3, H, W) in [-1, 1], V >= 2, sides multiples of the encoder's stride
    :param K: (V, 3, 3) pinhole matrices, pixels, centres at integers
    :param T_world_cam: (V, 4, 4) camera to world, optical axes
    :param near: (V,) least depth, > 0
    :param far: (V,) largest depth
    :param static: (V, H, W) bool, pixels that are not of dynamic objects
    """

    images: Tensor
    K: Tensor
    T_world_cam: Tensor
    near: Tensor
    far: Tensor
    static: Tensor


@dataclass(frozen=True, eq=False)
class H3rOutput:
    """
    The network's output.

    :param depth: (V, H, W) along the optical axis
    :param certainty: (V, h, w) largest probability of a hypothesis, per cell
    :param valid: (V, H, W) bool: static, and at a depth at which another view sees it
    :param gaussians: V H W of them in the world frame, view by view, row by row
    """

    depth: Tensor
    certainty: Tensor
    valid: Tensor
    gaussians: GaussianTensors

    def kept(self) -> GaussianTensors:
        """Return the Gaussians of valid pixels."""
        keep, own = self.valid.flatten(), self.gaussians
        return GaussianTensors(own.means[keep], own.quaternions_wxyz[keep], own.scales[keep],
                               own.opacities[keep], own.harmonics[keep])


@dataclass(frozen=True, eq=False)
class Volume:
    """
    A latent volume over D hypotheses of depth.

    :param values: (V, C, D, h, w)
    :param score: (V, D, h, w) mean cosine over the sources that see the hypothesis; else 0
    :param seen: (V, D, h, w) bool, whether there is one
    """

    values: Tensor
    score: Tensor
    seen: Tensor


class LatentVolume(nn.Module):
    """Scores of matches, and moments of warped features over the sources, for each hypothesis."""

    def __init__(self, config: H3rConfig) -> None:
        super().__init__()
        self.groups = config.groups
        self.project = nn.Conv2d(config.channels, config.fused, 1)
        self.weigh = nn.Linear(config.groups, 1)
        inputs = config.groups + 2 * config.fused + 1
        self.mix1 = nn.Conv3d(inputs, config.volume, 3, padding=1)
        self.mix2 = nn.Conv3d(config.volume, config.volume, 3, padding=1)

    def forward(self, features: Tensor, static: Tensor, K: Tensor, T_world_cam: Tensor,
                depths: Tensor) -> Volume:
        """
        Sweep each view through all others, in any order.

        :param features: (V, C, h, w) normalised over channels
        :param static: (V, h, w) float
        :param K: (V, 3, 3) of the cells
        :param T_world_cam: (V, 3, 4)
        :param depths: (V, D)
        """
        projected = torch.cat([features, self.project(features)], dim=1)
        own_rays = rays(K, *features.shape[2:])
        found = [self._of_view(i, features, projected, static, K, T_world_cam, own_rays[i],
                               depths[i]) for i in range(len(features))]
        values, scores, seen = (torch.stack(each) for each in zip(*found))
        return Volume(gelu(self.mix2(gelu(self.mix1(values)))), scores, seen)

    def _of_view(self, i: int, features: Tensor, projected: Tensor, static: Tensor, K: Tensor,
                 T_world_cam: Tensor, view_rays: Tensor, depths: Tensor
                 ) -> tuple[Tensor, Tensor, Tensor]:
        channels = features.shape[1]
        scores = weights = count = first = second = torch.zeros((), device=features.device)
        for j in range(len(features)):
            if j == i:
                continue
            T = _relative(T_world_cam[j], T_world_cam[i])
            warped, seen = sweep(projected[j], static[j], K[j], T, view_rays, depths)
            # (C, D, h, w) -> (groups, D, h, w)
            score = (warped[:channels] * features[i][:, None]).unflatten(
                0, (self.groups, -1)).mean(1)
            there = seen.to(score.dtype)
            weight = self.weigh(score.movedim(0, -1))[..., 0].sigmoid() * there
            scores, weights = scores + weight * score, weights + weight
            latent = warped[channels:]
            first, second = first + there * latent, second + there * latent.square()
            count = count + there
        any_seen = count > 0
        scores = scores / torch.where(any_seen, weights, 1)
        some = count.clamp(min=1)
        mean = first / some
        variance = (second / some - mean.square()).clamp(min=0)
        share = count / (len(features) - 1)
        return torch.cat([scores, mean, variance, share[None]]), scores.mean(0), any_seen


def _relative(T_world_source: Tensor, T_world_view: Tensor) -> Tensor:
    """Return the transform (3, 4) from a view's camera frame to a source's."""
    R = T_world_source[:3, :3].T
    t = R @ (T_world_view[:3, 3] - T_world_source[:3, 3])
    return torch.cat([R @ T_world_view[:3, :3], t[:, None]], dim=1)


class CameraBlock(nn.Module):
    """A pre-norm transformer block whose queries and keys know their viewing rays."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // HEAD_SIZE
        self.norm1 = nn.LayerNorm(width, NORM_EPS)
        self.qkv = nn.Linear(width, 3 * width)
        self.ray = nn.Linear(6, 2 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, NORM_EPS)
        self.mlp = Mlp(width, MLP_RATIO * width, width)

    def forward(self, x: Tensor, lines: Tensor, rope: RopeTable | None = None) -> Tensor:
        """
        Transform tokens (B, N, C) that attend to all of their batch.

        :param lines: (B, N, 6) Pluecker coordinates
        :param rope: of the tokens; None for attention without positions
        """
        qk, v = self.qkv(self.norm1(x)).tensor_split([2 * x.shape[-1]], dim=-1)
        # (B, N, 2 C) -> (2, B, heads, N, C / heads)
        qk = (qk + self.ray(lines)).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = qk if rope is None else rope.rotate(qk)
        v = v.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        out = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.proj(out)
        return x + self.mlp(self.norm2(x))


class PixelDecoder(nn.Module):
    """Tokens and the encoder's maps to a map of the image's size."""

    def __init__(self, config: H3rConfig, out: int) -> None:
        super().__init__()
        inner = config.decoder
        self.tokens = nn.Conv2d(config.width, inner, 1)
        # The last level has the stride of the one before it, and is the features' source
        self.levels = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(GROUPS, c), nn.Conv2d(c, inner, 1))
            for c in config.vae.widths[:-1])
        self.refine = nn.ModuleList(ResidualConvUnit(inner) for _ in config.vae.widths)
        self.image = nn.Conv2d(3, inner, 3, padding=1)
        self.out = nn.Conv2d(inner, out, 3, padding=1)

    def forward(self, tokens: Tensor, encoded: VaeFeatures, images: Tensor) -> Tensor:
        """
        Decode views.

        :param tokens: (V, C, h, w)
        :returns: (V, out, H, W)
        """
        x = self.tokens(tokens)
        finer = [level(m) for level, m in zip(self.levels, encoded.levels)]
        for skip, unit in zip((*reversed(finer), self.image(images)), reversed(self.refine)):
            if x.shape[2:] != skip.shape[2:]:
                x = interpolate(x, skip.shape[2:], mode='bilinear', align_corners=False)
            x = unit(x + skip)
        out: Tensor = self.out(gelu(x))
        return out


class H3r(nn.Module):
    """The network."""

    def __init__(self, config: H3rConfig = H3rConfig()) -> None:
        super().__init__()
        self.config = config
        last = config.vae.widths[-1]
        self.vae = VaeEncoder(config.vae)
        self.norm = nn.GroupNorm(GROUPS, last)
        self.features = nn.Conv2d(last + config.vae.latent, config.channels, 1)
        self.volume = LatentVolume(config)
        self.embed = nn.Linear(
            config.volume * config.hypotheses + config.channels + 6, config.width)
        self.blocks = nn.ModuleList(CameraBlock(config.width) for _ in range(2 * config.depth))
        self.last_norm = nn.LayerNorm(config.width, NORM_EPS)
        self.depth = nn.Linear(config.width, config.hypotheses)
        self.sharpness = nn.Parameter(torch.tensor([_SHARPNESS]))
        self.decoder = PixelDecoder(config, 1 + CHANNELS)
        # Untrained, depth is that of the plane sweep
        nn.init.zeros_(self.depth.weight)
        nn.init.zeros_(self.depth.bias)
        initialise(self.decoder.out, first=1)

    def forward(self, views: Views) -> H3rOutput:
        """
        Predict depth and Gaussians of all views.

        :raises ValueError: for a single view, or sides that are no multiples of the stride
        """
        if len(views.images) < 2:
            raise ValueError(f'{len(views.images)} views, expected at least 2')
        stride, bounds = self.config.vae.stride, (views.near, views.far)
        # Hypotheses and translations in a unit of the scene's size
        unit = views.near.min()
        centres = (views.T_world_cam[:, :3, 3:] - views.T_world_cam[0, :3, 3:]) / unit
        T_world_cam = torch.cat([views.T_world_cam[:, :3, :3], centres], dim=2)
        nearest, farthest = (unit / bound[:, None] for bound in bounds)
        steps = torch.linspace(0, 1, self.config.hypotheses, device=unit.device, dtype=unit.dtype)
        inverse = farthest + (nearest - farthest) * steps  # (V, D), from far to near
        # Nothing of dynamic objects may reach what is static: not through the encoder either
        images = views.images * views.static[:, None]
        encoded = self.vae(images)
        features = self.features(torch.cat([self.norm(encoded.middle), encoded.latents], dim=1))
        # Each cell's vector gets length sqrt(C): a mean product is a cosine
        features = layer_norm(features.movedim(1, -1), features.shape[1:2]).movedim(-1, 1)
        K = of_cells(views.K, stride)
        static = static_cells(views.static, stride)
        volume = self.volume(features, static, K, T_world_cam, inverse.reciprocal())
        lines = plucker(T_world_cam, K, *features.shape[2:])
        tokens = self._attend(volume.values, features, lines)
        # (V, h, w, C) -> (V, D, h, w)
        logits = self.depth(tokens).movedim(-1, 1) + self.sharpness * volume.score
        probability = logits.softmax(1)
        coarse = (probability * inverse[:, :, None, None]).sum(1, keepdim=True)
        decoded = self.decoder(tokens.movedim(-1, 1), encoded, images)
        enlarged = interpolate(coarse, decoded.shape[2:], mode='bilinear', align_corners=False)
        span = (nearest - farthest)[..., None]  # (V, 1, 1)
        fine = enlarged[:, 0] + decoded[:, 0] * span
        depth = unit / fine.clamp(farthest[..., None], nearest[..., None])
        supported = (probability * volume.seen).sum(1, keepdim=True) >= _SUPPORTED
        supported = supported.repeat_interleave(stride, 2).repeat_interleave(stride, 3)
        return H3rOutput(
            depth, probability.amax(1), supported[:, 0] & views.static,
            pixel_gaussians(decoded[:, 1:], depth, images, views.K, views.T_world_cam))

    def _attend(self, volume: Tensor, features: Tensor, lines: Tensor) -> Tensor:
        """
        Make and transform tokens.

        :param volume: (V, c, D, h, w)
        :param lines: (V, h, w, 6)
        :returns: (V, h, w, C)
        """
        count, rows, columns = lines.shape[:3]
        cells = torch.cat([volume.flatten(1, 2), features], dim=1).movedim(1, -1)
        x = self.embed(torch.cat([cells, lines], dim=-1)).flatten(1, 2)  # (V, h w, C)
        lines = lines.flatten(1, 2)
        rope = rope_table(rows, columns, HEAD_SIZE, x.device, dtype=x.dtype)
        everything = 1, count * rows * columns, -1
        for within, across in zip(self.blocks[::2], self.blocks[1::2]):
            x = within(x, lines, rope)
            x = across(x.reshape(everything), lines.reshape(everything)).reshape(x.shape)
        out: Tensor = self.last_norm(x).unflatten(1, (rows, columns))
        return out


# File format

def _recognises(state: Mapping[str, Tensor]) -> bool:
    return 'volume.weigh.weight' in state and 'vae.quant_conv.weight' in state


def _build(path: Path, state: dict[str, Tensor], description: str) -> Built:
    def size(name: str, axis: int, multiple: int = 1) -> int:
        tensor = state.get(name)
        if tensor is None:
            raise InputError(f'{path}: has no {name}; it is damaged, or another network')
        found = tensor.shape[axis] if tensor.ndim > axis else 0
        if not found or found % multiple:
            raise InputError(f'{path}: {name} has {found} channels, expected a multiple of '
                             f'{multiple}: it is damaged, or another network')
        return found
    groups = size('volume.weigh.weight', 1)
    config = H3rConfig(
        vae_encoder.config_of(path, state, 'vae.'), size('features.weight', 0, groups), groups,
        size('volume.project.weight', 0), size('volume.mix1.weight', 0), size('depth.weight', 0),
        size('depth.weight', 1, HEAD_SIZE), depth_of(state, 'blocks') // 2,
        size('decoder.out.weight', 1))
    return Built(H3r(config), state, (MODEL,), IMAGE_SIZE)


FORMAT = Format(_recognises, _build)
