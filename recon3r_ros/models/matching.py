# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Reciprocal matching of dense descriptors: MASt3R's fast version."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

#: Spacing of the pixels that matching starts from
STRIDE = 8
_ITERATIONS = 5
#: Similarities computed at once, to bound memory
_BLOCK = 1 << 24


def match_reciprocally(first: Tensor, second: Tensor, stride: int = STRIDE
                       ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """
    Find mutual nearest neighbours.

    From a coarse grid of the first view: nearest neighbour in the second view, and back, until
    convergence (MASt3R, Leroy et al., ECCV 2024, section 3.3). A pixel that returns to its start
    is a match; the others iterate from the pixel that they reached.

    :param first: (H, W, D) unit vectors
    :param second: (H', W', D) unit vectors
    :param stride: of the coarse grid
    :return: pixels (u, v) of the matches (M, 2), in the first view and in the second
    """
    flat1, flat2 = first.flatten(0, 1), second.flatten(0, 1)
    width1, width2 = first.shape[1], second.shape[1]
    grid = torch.arange(len(flat1), device=first.device).view(first.shape[:2])
    here = grid[stride // 2::stride, stride // 2::stride].flatten()
    found1: list[Tensor] = []
    found2: list[Tensor] = []
    for _ in range(_ITERATIONS):
        if not len(here):
            break
        there = _nearest(flat1[here], flat2)
        back = _nearest(flat2[there], flat1)
        returned = back == here
        found1.append(here[returned])
        found2.append(there[returned])
        here = torch.unique(back[~returned])
    if not found1:
        return np.empty((0, 2), np.int64), np.empty((0, 2), np.int64)
    pairs = torch.unique(torch.stack([torch.cat(found1), torch.cat(found2)], 1), dim=0).cpu()
    one, two = pairs.numpy().T
    return (np.stack([one % width1, one // width1], 1), np.stack([two % width2, two // width2], 1))


def _nearest(queries: Tensor, keys: Tensor) -> Tensor:
    """Index (Q,) of the key (K, D) that is most similar to each query (Q, D)."""
    step = max(_BLOCK // len(keys), 1)
    return torch.cat([(queries[i:i + step] @ keys.T).argmax(1)
                      for i in range(0, len(queries), step)])
