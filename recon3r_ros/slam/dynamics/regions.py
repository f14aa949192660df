# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Connected regions of masks: pixels belong together that share an edge or a corner."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.compiled import compiled, dense

Mask = NDArray[np.bool_]
Labels = NDArray[np.int32]


def large_regions(mask: NDArray[np.integer] | Mask, share: float, seeds: Mask | None = None
                  ) -> Mask:
    """
    Keep the large regions of a mask.

    :param mask: (H, W)
    :param share: of all pixels that a region must have
    :param seeds: (H, W) of which a region must contain some; None for no condition
    """
    pixels: Mask = dense(mask, bool)
    labels, count = _labelled(pixels)
    out = np.empty(pixels.shape, bool)
    _keep_large(labels, pixels if seeds is None else dense(seeds),
                share * pixels.size, np.zeros(count + 1, np.int64), out)
    return out


def labelled(mask: Mask) -> Labels:
    """Label the regions of a mask (H, W): from 1, in the order of their first pixels; else 0."""
    return _labelled(dense(mask))[0][1:, 1:-1]


def _labelled(mask: Mask) -> tuple[Labels, int]:
    """Labels with a border, so that all pixels have neighbours, and how many there are."""
    labels = np.zeros((mask.shape[0] + 1, mask.shape[1] + 2), np.int32)
    return labels, _label(mask, labels, np.empty(labels.size // 2, np.int32))


@compiled()
def _root(parents: Labels, label: int) -> int:
    while parents[label] != label:
        parents[label] = parents[parents[label]]
        label = parents[label]
    return label


@compiled('i8(b1[:,::1], i4[:,::1], i4[::1])')
def _label(mask: Mask, labels: Labels, parents: Labels) -> int:
    """
    Label regions: two passes with a union-find structure (Rosenfeld and Pfaltz, J. ACM, 1966).

    :param mask: (H, W)
    :param labels: (H + 1, W + 2) of 0; takes the labels, below a row and between two columns of 0
    :param parents: space
    :return: the number of regions
    """
    count = 0
    for i in range(mask.shape[0]):
        for j in range(mask.shape[1]):
            if not mask[i, j]:
                continue
            before, above, after = labels[i, j], labels[i, j + 1], labels[i, j + 2]
            left = labels[i + 1, j]
            found = above
            if found == 0:
                found = left if left else before
                if found == 0:
                    found = after
                elif after and after != found:
                    a, b = _root(parents, found), _root(parents, after)
                    found = min(a, b)
                    parents[max(a, b)] = found
            if found == 0:
                count += 1
                parents[count] = count
                found = count
            labels[i + 1, j + 1] = found
    regions = 0
    for label in range(1, count + 1):
        # Parents have smaller labels
        if parents[label] == label:
            regions += 1
            parents[label] = regions
        else:
            parents[label] = parents[parents[label]]
    for i in range(mask.shape[0]):
        for j in range(mask.shape[1]):
            if mask[i, j]:
                labels[i + 1, j + 1] = parents[labels[i + 1, j + 1]]
    return regions


@compiled('void(i4[:,::1], b1[:,::1], f8, i8[::1], b1[:,::1])')
def _keep_large(labels: Labels, seeds: Mask, least: float, areas: NDArray[np.int64], out: Mask
                ) -> None:
    """Keep regions of at least so many pixels that contain seeds; `areas` is space, of 0."""
    keep = np.zeros(len(areas), np.bool_)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            label = labels[i + 1, j + 1]
            if label:
                areas[label] += 1
                keep[label] |= seeds[i, j]
    for label in range(len(areas)):
        keep[label] &= areas[label] >= least
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            label = labels[i + 1, j + 1]
            out[i, j] = keep[label] if label else False
