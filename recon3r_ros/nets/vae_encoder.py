# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The encoder of Stable Diffusion's variational autoencoder: features that lie where pixels lie.

'High-Resolution Image Synthesis with Latent Diffusion Models' (Rombach et al., CVPR 2022,
section 3.1). Names of modules are those of the published files
(`vae/diffusion_pytorch_model.safetensors`); older names of the attention's layers are accepted.
The decoder in these files is left out. Their weights have licences of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from recon3r_ros.errors import InputError
from recon3r_ros.nets.checkpoints import Built, depth_of, Format
from torch import nn, Tensor
from torch.nn.functional import pad, scaled_dot_product_attention, silu

MODEL = 'sd-vae encoder'
#: Groups of every normalisation: no tensor's shape determines it
GROUPS = 32
_EPS = 1e-6
#: Range of the logarithm of the variance
_LEAST, _MOST = -30.0, 20.0
#: Side of the images that the published weights were trained with, pixels
_IMAGE_SIZE = 512
#: Names of the attention's layers in older files, and present ones
_RENAMED = {'query': 'to_q', 'key': 'to_k', 'value': 'to_v', 'proj_attn': 'to_out.0'}
_ATTENTION = 'encoder.mid_block.attentions.0'
#: What belongs to the decoder
_LEFT_OUT = ('decoder.', 'post_quant_conv.')


@dataclass(frozen=True)
class VaeConfig:
    """
    Sizes of an encoder.

    :param widths: channels of each level, multiples of 32; all but the last halve the image
    :param layers: residual blocks of a level
    :param latent: channels of the latents
    :param scale: factor of the latents: 0.18215 for Stable Diffusion 1 and 2
    """

    widths: tuple[int, ...] = (128, 256, 512, 512)
    layers: int = 2
    latent: int = 4
    scale: float = 0.18215

    @property
    def stride(self) -> int:
        """Side of a cell of the latents, pixels."""
        return 2 ** (len(self.widths) - 1)


@dataclass(frozen=True, eq=False)
class VaeFeatures:
    """
    An encoder's output for images of H x W pixels.

    :param levels: (B, C, h, w) after each level: at strides 2, 4, 8 and 8 for four
    :param middle: (B, C, H/8, W/8) what the output's normalisation takes
    :param mean: (B, latent, H/8, W/8)
    :param log_variance: the same shape
    :param latents: the mean times the factor
    """

    levels: tuple[Tensor, ...]
    middle: Tensor
    mean: Tensor
    log_variance: Tensor
    latents: Tensor


class VaeEncoder(nn.Module):
    """Encoder and the convolution after it."""

    def __init__(self, config: VaeConfig = VaeConfig()) -> None:
        super().__init__()
        self.config = config
        self.encoder = _Encoder(config)
        self.quant_conv = nn.Conv2d(2 * config.latent, 2 * config.latent, 1)

    def forward(self, image: Tensor) -> VaeFeatures:
        """
        Encode images.

        :param image: (B, 3, H, W) in [-1, 1], sides multiples of the stride
        :raises ValueError: for other sides
        """
        stride = self.config.stride
        if any(side % stride or not side for side in image.shape[2:]):
            raise ValueError(f'an image of {tuple(image.shape[2:])} pixels, expected multiples '
                             f'of {stride}')
        levels, middle, moments = self.encoder(image)
        mean, log_variance = self.quant_conv(moments).chunk(2, dim=1)
        return VaeFeatures(levels, middle, mean, log_variance.clamp(_LEAST, _MOST),
                           mean * self.config.scale)


class _Encoder(nn.Module):
    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        first, last = config.widths[0], config.widths[-1]
        self.conv_in = nn.Conv2d(3, first, 3, padding=1)
        self.down_blocks = nn.ModuleList(
            _Level(before, width, config.layers, halves=i + 1 < len(config.widths))
            for i, (before, width) in enumerate(zip((first, *config.widths), config.widths)))
        self.mid_block = _Middle(last)
        self.conv_norm_out = nn.GroupNorm(GROUPS, last, _EPS)
        self.conv_out = nn.Conv2d(last, 2 * config.latent, 3, padding=1)

    def forward(self, image: Tensor) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        """Return the levels' maps, the middle's, and mean and logarithm of variance."""
        x, levels = self.conv_in(image), []
        for level in self.down_blocks:
            x = level(x)
            levels.append(x)
        middle = self.mid_block(x)
        return tuple(levels), middle, self.conv_out(silu(self.conv_norm_out(middle)))


class _Resnet(nn.Module):
    """Two convolutions, each after a normalisation, and a shortcut."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, channels, _EPS)
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1)
        self.norm2 = nn.GroupNorm(GROUPS, out, _EPS)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        # Files have it where the widths differ
        self.conv_shortcut = nn.Conv2d(channels, out, 1) if channels != out else None

    def forward(self, x: Tensor) -> Tensor:
        """Transform (B, channels, H, W) to (B, out, H, W)."""
        change = self.conv2(silu(self.norm2(self.conv1(silu(self.norm1(x))))))
        out: Tensor = change + (x if self.conv_shortcut is None else self.conv_shortcut(x))
        return out


class _Downsampler(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Halve (B, C, H, W), with zeros to the right and below alone."""
        out: Tensor = self.conv(pad(x, (0, 1, 0, 1)))
        return out


class _Level(nn.Module):
    def __init__(self, channels: int, out: int, layers: int, halves: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(_Resnet(out if i else channels, out) for i in range(layers))
        self.downsamplers = nn.ModuleList([_Downsampler(out)] if halves else [])

    def forward(self, x: Tensor) -> Tensor:
        """Transform (B, channels, H, W) to (B, out, H/2, W/2), or of the same size."""
        for layer in (*self.resnets, *self.downsamplers):
            x = layer(x)
        return x


class _Attention(nn.Module):
    """Attention of all cells to all, in one head."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(GROUPS, channels, _EPS)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        # Index 1 is a dropout
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        """Transform (B, C, H, W)."""
        cells = self.group_norm(x).flatten(2).transpose(1, 2)  # (B, H W, C)
        out = scaled_dot_product_attention(self.to_q(cells), self.to_k(cells), self.to_v(cells))
        return x + self.to_out[0](out).transpose(1, 2).reshape(x.shape)


class _Middle(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(_Resnet(channels, channels) for _ in range(2))
        self.attentions = nn.ModuleList([_Attention(channels)])

    def forward(self, x: Tensor) -> Tensor:
        """Transform (B, C, H, W)."""
        out: Tensor = self.resnets[1](self.attentions[0](self.resnets[0](x)))
        return out


# File format

def _recognises(state: Mapping[str, Tensor]) -> bool:
    return 'encoder.conv_in.weight' in state and 'quant_conv.weight' in state


def _build(path: Path, state: dict[str, Tensor], description: str) -> Built:
    if any('.down.0.block.0.' in name for name in state):
        raise InputError(f'{path}: has the layer names of original Stable Diffusion files; give '
                         'vae/diffusion_pytorch_model.safetensors of the same model')
    state = {_present(name): value for name, value in state.items()
             if not name.startswith(_LEFT_OUT)}
    for name, value in state.items():
        if name.startswith(_ATTENTION) and value.shape[2:] == (1, 1):
            state[name] = value.flatten(1)  # a convolution of one pixel
    return Built(VaeEncoder(config_of(path, state)), state, (MODEL,), _IMAGE_SIZE)


def _present(name: str) -> str:
    """Return the present name of a tensor."""
    for old, new in _RENAMED.items():
        name = name.replace(f'{_ATTENTION}.{old}.', f'{_ATTENTION}.{new}.')
    return name


def config_of(path: Path, state: Mapping[str, Tensor], prefix: str = '') -> VaeConfig:
    """
    Return the sizes that follow from the tensors of a file.

    :param prefix: of the encoder's names
    :raises InputError: for a tensor that is missing or cannot be one of such an encoder
    """
    blocks = f'{prefix}encoder.down_blocks'
    widths = [_channels(path, state, f'{prefix}encoder.conv_in.weight', GROUPS)] + [
        _channels(path, state, f'{blocks}.{i}.resnets.0.conv1.weight', GROUPS)
        for i in range(depth_of(state, blocks))]
    if len(widths) < 2 or widths[0] != widths[1]:
        raise InputError(f'{path}: has no {blocks}.0 for {widths[0]} channels; it is damaged, or '
                         'another network')
    return VaeConfig(tuple(widths[1:]), depth_of(state, f'{blocks}.0.resnets'),
                     _channels(path, state, f'{prefix}quant_conv.weight', 2) // 2)


def _channels(path: Path, state: Mapping[str, Tensor], name: str, multiple: int) -> int:
    tensor = state.get(name)
    if tensor is None:
        raise InputError(f'{path}: has no {name}; it is damaged, or another network')
    channels = tensor.shape[0] if tensor.ndim else 0
    if not channels or channels % multiple:
        raise InputError(f'{path}: {name} has {channels} channels, expected a multiple of '
                         f'{multiple}: it is damaged, or another network')
    return channels


FORMAT = Format(_recognises, _build)
