# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The compiled loops of GrabCut: colour models, and the graph that is cut.

Rother et al., 'GrabCut: Interactive Foreground Extraction using Iterated Graph Cuts', SIGGRAPH
2004. A model is a mixture of Gaussians, (COMPONENTS, 10) float32: per component its mean, the
inverse of its covariance (xx, xy, xz, yy, yz, zz) and the cost of its mean, -log p. Clusters are
split along their principal axes (Orchard and Bouman, 'Color Quantization of Images', 1991), which
takes no random numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.compiled import compiled, f4, i4
from recon3r_ros.slam.dynamics.graph_cut import DOWN, LEFT, RIGHT, UP

Array = NDArray[np.float64]
Map = NDArray[np.float32]
Image = NDArray[np.uint8]
Labels = NDArray[np.int8]
Integers = NDArray[np.int32]

COMPONENTS = 5
#: Values of trimaps
BACKGROUND, FOREGROUND, DOUBT = 0, 1, 2
#: Weight of edges between pixels of the same colour (section 2.1), and of a unit of cost in flow
GAMMA, UNIT = f4(50.0), f4(10.0)
#: Difference of costs beyond which neighbours cannot change a pixel: more than their four links
_CERTAIN = f4(1000.0)
#: Variance of grey values by rounding
_ROUNDING = 1 / 12
_HALF = f4(0.5)
_POWER_ITERATIONS = 12


@compiled()
def _covariance(sums: Array, k: int, out: Array) -> None:
    """Scatter (xx, xy, xz, yy, yz, zz) of a cluster, from its count, sums and sums of products."""
    count = max(sums[k, 0], 1.0)
    x, y, z = sums[k, 1], sums[k, 2], sums[k, 3]
    out[0], out[1] = sums[k, 4] - x * x / count, sums[k, 5] - x * y / count
    out[2], out[3] = sums[k, 6] - x * z / count, sums[k, 7] - y * y / count
    out[4], out[5] = sums[k, 8] - y * z / count, sums[k, 9] - z * z / count


@compiled()
def _principal_axis(C: Array, axis: Array) -> float:
    """Largest eigenvalue of a symmetric matrix (xx, xy, xz, yy, yz, zz), and its eigenvector."""
    # The column of the largest diagonal element is not orthogonal to it
    if C[0] >= C[3] and C[0] >= C[5]:
        x, y, z = C[0], C[1], C[2]
    elif C[3] >= C[5]:
        x, y, z = C[1], C[3], C[4]
    else:
        x, y, z = C[2], C[4], C[5]
    length = np.sqrt(x * x + y * y + z * z)
    for _ in range(_POWER_ITERATIONS):
        if length <= 1e-9:
            return 0.0
        x, y, z = x / length, y / length, z / length
        axis[0], axis[1], axis[2] = x, y, z
        x, y, z = (C[0] * x + C[1] * y + C[2] * z, C[1] * x + C[3] * y + C[4] * z,
                   C[2] * x + C[4] * y + C[5] * z)
        length = np.sqrt(x * x + y * y + z * z)
    return length


@compiled()
def _accumulate(pixels: Image, labels: Labels, sums: Array) -> None:
    """Sum up the counts, colours and their products of all clusters."""
    sums[:] = 0
    for n in range(len(pixels)):
        x, y, z = float(pixels[n, 0]), float(pixels[n, 1]), float(pixels[n, 2])
        k = labels[n]
        sums[k, 0] += 1
        sums[k, 1] += x
        sums[k, 2] += y
        sums[k, 3] += z
        sums[k, 4] += x * x
        sums[k, 5] += x * y
        sums[k, 6] += x * z
        sums[k, 7] += y * y
        sums[k, 8] += y * z
        sums[k, 9] += z * z


@compiled()
def _gaussians(sums: Array, size: int, model: Map) -> None:
    """Gaussians of the clusters; clusters without pixels cost infinity."""
    C = np.empty(6)
    for k in range(COMPONENTS):
        count = sums[k, 0]
        if count == 0:
            model[k] = 0
            model[k, 9] = np.inf
            continue
        _covariance(sums, k, C)
        xx, xy, xz, yy, yz, zz = (C[0] / count + _ROUNDING, C[1] / count, C[2] / count,
                                  C[3] / count + _ROUNDING, C[4] / count,
                                  C[5] / count + _ROUNDING)
        determinant = (xx * (yy * zz - yz * yz) - xy * (xy * zz - yz * xz)
                       + xz * (xy * yz - yy * xz))
        for c in range(3):
            model[k, c] = sums[k, 1 + c] / count
        model[k, 3] = (yy * zz - yz * yz) / determinant
        model[k, 4] = (xz * yz - xy * zz) / determinant
        model[k, 5] = (xy * yz - xz * yy) / determinant
        model[k, 6] = (xx * zz - xz * xz) / determinant
        model[k, 7] = (xy * xz - xx * yz) / determinant
        model[k, 8] = (xx * yy - xy * xy) / determinant
        model[k, 9] = 0.5 * np.log(determinant) - np.log(count / size)


@compiled()
def _cost(model: Map, k: int, r: float, g: float, b: float) -> float:
    """Cost of a colour as one of a component: -log of its weighted density (equation 9)."""
    x, y, z = r - model[k, 0], g - model[k, 1], b - model[k, 2]
    return model[k, 9] + _HALF * (
        x * (model[k, 3] * x + f4(2) * (model[k, 4] * y + model[k, 5] * z))
        + y * (model[k, 6] * y + f4(2) * model[k, 7] * z) + z * model[k, 8] * z)


@compiled('void(u1[:,::1], i1[::1], f4[:,::1])')
def learn(pixels: Image, labels: Labels, model: Map) -> None:
    """
    Learn the colours of a region.

    :param pixels: (N, 3), at least one
    :param labels: (N,) space
    :param model: takes the model
    """
    size = len(pixels)
    sums, C, axis, best_axis = np.zeros((COMPONENTS, 10)), np.empty(6), np.zeros(3), np.zeros(3)
    for n in range(size):
        labels[n] = 0
    _accumulate(pixels, labels, sums)
    for new in range(1, COMPONENTS):
        largest, old = 0.0, -1
        for k in range(new):
            _covariance(sums, k, C)
            spread = _principal_axis(C, axis)
            if spread > largest:
                largest, old = spread, k
                best_axis[:] = axis
        if old < 0:
            break
        x, y, z = best_axis
        middle = (x * sums[old, 1] + y * sums[old, 2] + z * sums[old, 3]) / sums[old, 0]
        for n in range(size):
            along = x * pixels[n, 0] + y * pixels[n, 1] + z * pixels[n, 2]
            if labels[n] == old and along > middle:
                labels[n] = new
        _accumulate(pixels, labels, sums)
    _gaussians(sums, size, model)
    # Each pixel to its likeliest component
    for n in range(size):
        r, g, b = f4(pixels[n, 0]), f4(pixels[n, 1]), f4(pixels[n, 2])
        least = f4(np.inf)
        for k in range(COMPONENTS):
            cost = _cost(model, k, r, g, b)
            if cost < least:
                least, labels[n] = cost, k
    _accumulate(pixels, labels, sums)
    _gaussians(sums, size, model)


@compiled()
def _square(image: Image, i: int, j: int, k: int, n: int) -> int:
    """Squared difference of the colours of two pixels."""
    r = i4(image[i, j, 0]) - i4(image[k, n, 0])
    g = i4(image[i, j, 1]) - i4(image[k, n, 1])
    b = i4(image[i, j, 2]) - i4(image[k, n, 2])
    return r * r + g * g + b * b


@compiled('f8(u1[:,:,::1])')
def contrast(image: Image) -> float:
    """Mean squared difference of the colours of neighbours."""
    height, width = image.shape[:2]
    total = 0
    for i in range(height):
        for j in range(width - 1):
            total += _square(image, i, j, i, j + 1)
    for i in range(height - 1):
        for j in range(width):
            total += _square(image, i, j, i + 1, j)
    return total / max(height * (width - 1) + (height - 1) * width, 1)


@compiled('void(u1[:,:,::1], u1[:,::1], f4[:,::1], f4[:,::1], f4, i4[:,::1], i4[::1])')
def build(image: Image, trimap: Image, foreground: Map, background: Map, beta: float,
          capacity: Integers, terminal: Integers) -> None:
    """
    Build the graph of the pixels in doubt; links to others become part of those to terminals.

    :param image: (h, w, 3)
    :param trimap: (h, w) BACKGROUND, FOREGROUND or DOUBT
    :param foreground: its model
    :param background: its model
    :param beta: of the links' weights (equation 5)
    :param capacity: ((h + 2) (w + 2), 4) of 0; takes the capacities: see `graph_cut`
    :param terminal: ((h + 2) (w + 2),) of 0
    """
    height, width = trimap.shape
    pitch = width + 2
    for i in range(height):
        for j in range(width):
            if trimap[i, j] == DOUBT:
                r, g, b = (f4(image[i, j, 0]), f4(image[i, j, 1]),
                           f4(image[i, j, 2]))
                inner, outer = f4(np.inf), f4(np.inf)
                for k in range(COMPONENTS):
                    inner = min(inner, _cost(foreground, k, r, g, b))
                    outer = min(outer, _cost(background, k, r, g, b))
                terminal[(i + 1) * pitch + j + 1] += i4(
                    UNIT * min(max(outer - inner, -_CERTAIN), _CERTAIN))
    for down in range(2):
        step = pitch if down else 1
        for i in range(height - down):
            for j in range(width - 1 + down):
                own, other = trimap[i, j], trimap[i + down, j + 1 - down]
                if own != DOUBT and other != DOUBT:
                    continue
                link = i4(UNIT * GAMMA * np.exp(
                    -beta * f4(_square(image, i, j, i + down, j + 1 - down))))
                pixel = (i + 1) * pitch + j + 1
                if own == other:
                    capacity[pixel, DOWN if down else RIGHT] = link
                    capacity[pixel + step, UP if down else LEFT] = link
                elif own == DOUBT:
                    terminal[pixel] += link if other == FOREGROUND else -link
                else:
                    terminal[pixel + step] += link if own == FOREGROUND else -link
