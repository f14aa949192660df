# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
XFeat: sparse local features for wide baselines.

'XFeat: Accelerated Features for Lightweight Image Matching' (Potje et al., CVPR 2024). One small
network gives descriptors and their reliability at an eighth of the image's size, and a second
branch the probability of a keypoint at each pixel, from the image's 8 x 8 cells alone.

Names of modules are those of the published weights. Written from the paper and from the names and
shapes of the tensors; the branch that refines semi-dense matches (section 3.3) is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from recon3r_ros.errors import InputError
from recon3r_ros.nets.checkpoints import Built, Format
import torch
from torch import nn, Tensor
from torch.nn.functional import (
    grid_sample,
    instance_norm,
    interpolate,
    max_pool2d,
    normalize,
    pixel_shuffle,
    pixel_unshuffle,
)

#: Image sides are multiples of this: the coarsest map has a 32nd of the image's size
STRIDE = 32
#: Pixels of the side of a cell, which has one descriptor and one reliability
CELL = 8
DESCRIPTOR_DIM = 64
#: Least probability of a keypoint, and side of the square in which it is the greatest, pixels
MIN_PROBABILITY, SUPPRESSION = 0.05, 5
#: Longer side of the training images, pixels (section 4)
IMAGE_SIZE = 800
#: That uses the network
MODEL = 'geometric'
#: Of the batch normalisation, whose statistics are folded into the convolutions
_BATCH_NORM_EPS = 1e-5
#: Tensors without use here: of the match refinement, and the training's counters
_REFINEMENT, _COUNTER = 'fine_matcher.', '.num_batches_tracked'
_KERNEL, _MEAN, _VARIANCE = 'layer.0.weight', 'layer.1.running_mean', 'layer.1.running_var'


@dataclass(frozen=True, eq=False)
class DenseFeatures:
    """
    The network's output.

    :param descriptors: (B, 64, H/8, W/8) float32 unit vectors
    :param keypoints: (B, H, W) float32 probabilities
    :param reliability: (B, H/8, W/8) float32, 0 to 1
    """

    descriptors: Tensor
    keypoints: Tensor
    reliability: Tensor


class BasicLayer(nn.Module):
    """Convolution and ReLU; the normalisation between them is folded into the convolution."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2), nn.ReLU(True))

    def forward(self, x: Tensor) -> Tensor:
        """Transform (B, inputs, H, W) to (B, outputs, H/stride, W/stride)."""
        out: Tensor = self.layer(x)
        return out


class XFeat(nn.Module):
    """The network of the paper's figure 3, without the match refinement."""

    def __init__(self) -> None:
        super().__init__()
        self._precision = torch.float32
        self.skip1 = nn.Sequential(nn.AvgPool2d(4), nn.Conv2d(1, 24, 1))
        self.block1 = nn.Sequential(
            BasicLayer(1, 4), BasicLayer(4, 8, stride=2), BasicLayer(8, 8),
            BasicLayer(8, 24, stride=2))
        self.block2 = nn.Sequential(BasicLayer(24, 24), BasicLayer(24, 24))
        self.block3 = nn.Sequential(
            BasicLayer(24, 64, stride=2), BasicLayer(64, 64), BasicLayer(64, 64, 1))
        self.block4 = nn.Sequential(
            BasicLayer(64, 64, stride=2), BasicLayer(64, 64), BasicLayer(64, 64))
        self.block5 = nn.Sequential(
            BasicLayer(64, 128, stride=2), BasicLayer(128, 128), BasicLayer(128, 128),
            BasicLayer(128, 64, 1))
        self.block_fusion = nn.Sequential(
            BasicLayer(64, 64), BasicLayer(64, 64), nn.Conv2d(64, DESCRIPTOR_DIM, 1))
        self.heatmap_head = nn.Sequential(
            BasicLayer(64, 64, 1), BasicLayer(64, 64, 1), nn.Conv2d(64, 1, 1))
        self.keypoint_head = nn.Sequential(
            *(BasicLayer(CELL * CELL, 64, 1) for _ in range(3)),
            nn.Conv2d(64, CELL * CELL + 1, 1))

    def lower_precision(self, dtype: torch.dtype) -> XFeat:
        """Change the data type of what gives descriptors; keypoints need float32."""
        for module in (self.skip1, self.block1, self.block2, self.block3, self.block4,
                       self.block5, self.block_fusion, self.heatmap_head):
            module.to(dtype)
        self._precision = dtype
        return self

    def forward(self, gray: Tensor) -> DenseFeatures:
        """
        Transform images.

        :param gray: (B, 1, H, W) float32 of any range, sides multiples of `STRIDE`
        """
        gray = instance_norm(gray)
        image = gray.to(self._precision)
        fine = self.block2(self.block1(image) + self.skip1(image))  # (B, 24, H/4, W/4)
        third = self.block3(fine)  # (B, 64, H/8, W/8)
        fourth = self.block4(third)  # (B, 64, H/16, W/16)
        fifth = self.block5(fourth)  # (B, 64, H/32, W/32)
        for coarse in (fourth, fifth):
            third = third + interpolate(coarse, third.shape[-2:], mode='bilinear')
        descriptors = self.block_fusion(third)
        reliability = self.heatmap_head(descriptors).float().sigmoid()
        # (B, 1, H, W) -> (B, 64, H/8, W/8): a cell's pixels, row by row
        logits = self.keypoint_head(pixel_unshuffle(gray, CELL))
        # The last channel means that a cell has no keypoint
        keypoints = pixel_shuffle(logits.softmax(1)[:, :-1], CELL)
        return DenseFeatures(
            normalize(descriptors.float(), dim=1), keypoints[:, 0], reliability[:, 0])


def strongest(dense: DenseFeatures, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """
    Select the sparse features of an image (section 3.2, 'sparse matching').

    :param dense: output for one image
    :param most: number of features
    :return: pixels (N, 2) as (u, v), int64; scores (N,), probability times reliability,
        descending; descriptors (N, 64), unit vectors
    """
    probability = dense.keypoints
    # The square's maximum, by its rows and then by its columns
    reach = SUPPRESSION // 2
    rows = max_pool2d(probability, (1, SUPPRESSION), 1, (0, reach))
    peak = max_pool2d(rows, (SUPPRESSION, 1), 1, (reach, 0))
    at = ((probability == peak) & (probability > MIN_PROBABILITY))[0].nonzero()
    v, u = at.T
    reliability = _sampled(dense.reliability[None], at, 'bilinear')[:, 0]
    scores, order = (probability[0, v, u] * reliability).sort(descending=True, stable=True)
    order = order[:most]
    descriptors = _sampled(dense.descriptors, at[order], 'bicubic')
    return at[order].flip(1), scores[:most], normalize(descriptors, dim=1)


def _sampled(maps: Tensor, at: Tensor, mode: str) -> Tensor:
    """
    Interpolate maps (1, C, H/8, W/8) at pixels (N, 2) of the image, rows first, to (N, C).

    The published weights' convention: first and last pixel lie on the map's borders, which is
    within half a pixel of what the centres of pixels and cells imply.
    """
    sides = at.new_tensor([CELL * maps.shape[-2] - 1, CELL * maps.shape[-1] - 1])
    grid = (2 * at / sides - 1).flip(1)  # (N, 2) as (x, y), -1 to 1
    out = grid_sample(maps, grid[None, None], mode, align_corners=False)  # (1, C, 1, N)
    return out[0, :, 0].T


def _recognises(state: Mapping[str, Tensor]) -> bool:
    return 'block_fusion.2.weight' in state and 'keypoint_head.3.weight' in state


def _build(path: Path, state: dict[str, Tensor], description: str) -> Built:
    return Built(XFeat(), _folded(path, state), (MODEL,), IMAGE_SIZE)


def _folded(path: Path, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Fold the statistics of each normalisation into the convolution before it."""
    folded = {}
    for name, tensor in state.items():
        if name.startswith(_REFINEMENT) or name.endswith((_COUNTER, _MEAN, _VARIANCE)):
            continue
        folded[name] = tensor
        if not name.endswith(_KERNEL):
            continue
        block = name.removesuffix(_KERNEL)
        try:
            mean, variance = (state[block + part] for part in (_MEAN, _VARIANCE))
        except KeyError as missing:
            raise InputError(f'{path}: has no {missing.args[0]}; it is damaged, or another '
                             'network') from None
        if mean.shape != tensor.shape[:1] or variance.shape != tensor.shape[:1]:
            raise InputError(f'{path}: {block}{_MEAN} has shape {tuple(mean.shape)}, expected '
                             f'{tuple(tensor.shape[:1])}')
        factor = (variance + _BATCH_NORM_EPS).rsqrt()
        folded[name] = tensor * factor.reshape(-1, 1, 1, 1)
        folded[f'{block}layer.0.bias'] = -mean * factor
    return folded


FORMAT = Format(_recognises, _build)
