# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Mutual nearest neighbours of sparse features' descriptors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.compiled import compiled, dense

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

#: Descriptors that are compared with all others at once: their similarities stay in the cache
_BLOCK = 128
_LOWEST = np.float32(-2)  # below the similarity of any two unit vectors
_ROUNDING = np.float32(1e-6)  # of similarities: descriptors may occur twice


def match_features(first: Floats, second: Floats, ratio: float) -> tuple[Indices, Indices]:
    """
    Match descriptors by Lowe's ratio test, in both directions (Lowe, IJCV 2004, section 7.1).

    :param first: (N, D) unit vectors
    :param second: (M, D) unit vectors
    :param ratio: largest distance to the nearest one over that to the second nearest
    :return: indices (K,) of the matches, in the first and in the second; ascending in the first
    """
    best, other, nearest, mutual = _neighbours(first, second)
    # The squared distance of unit vectors is 2 - 2 s
    keep = (1 - best + _ROUNDING < ratio**2 * (1 - other)) & mutual
    return np.flatnonzero(keep), nearest[keep]


def match_similar(first: Floats, second: Floats, least: float) -> tuple[Indices, Indices]:
    """
    Match descriptors that are each other's nearest, and similar.

    :param first: (N, D) unit vectors
    :param second: (M, D) unit vectors
    :param least: smallest cosine of the angle between two that match
    :return: indices (K,) of the matches, in the first and in the second; ascending in the first
    """
    best, _, nearest, mutual = _neighbours(first, second)
    keep = (best > least) & mutual
    return np.flatnonzero(keep), nearest[keep]


def _neighbours(first: Floats, second: Floats) -> tuple[Floats, Floats, Indices, Mask]:
    """Similarities (N,) of the nearest and second nearest; the nearest; whether it is mutual."""
    count = len(first)
    nearest, back = np.zeros(count, np.int64), np.zeros(len(second), np.int64)
    best, other = np.full(count, _LOWEST), np.full(count, _LOWEST)
    best_back = np.full(len(second), _LOWEST)
    transposed = dense(second.T)
    for start in range(0, count, _BLOCK):
        _scan(first[start:start + _BLOCK] @ transposed, start, best, other, nearest, best_back,
              back)
    return best, other, nearest, back[nearest] == np.arange(count)


@compiled('void(f4[:,::1], i8, f4[::1], f4[::1], i8[::1], f4[::1], i8[::1])')
def _scan(similarities: Floats, start: int, best: Floats, other: Floats, nearest: Indices,
          best_back: Floats, back: Indices) -> None:
    """
    Update the neighbours by some rows of the similarities (n, M).

    :param start: first row's index
    :param best: (N,) similarity of the nearest one, whose index is in `nearest` (N,)
    :param other: (N,) that of the second nearest
    :param best_back: (M,) similarity of the nearest one in the other direction; `back` its index
    """
    for n in range(len(similarities)):
        row = start + n
        for column in range(similarities.shape[1]):
            value = similarities[n, column]
            if value > best[row]:
                other[row], best[row], nearest[row] = best[row], value, column
            elif value > other[row]:
                other[row] = value
            if value > best_back[column]:
                best_back[column], back[column] = value, row
