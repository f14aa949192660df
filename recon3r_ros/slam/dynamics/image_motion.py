# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The dominant motion of an image: the flow of a static scene without intrinsics, poses or depth.

A static scene moves by a homography where the camera only turns, is far away or sees a plane.
Elsewhere what is off that plane has parallax, towards the epipole or away from it (plane and
parallax: Irani and Anandan, 'A Unified Approach to Moving Object Detection in 2D and 3D Scenes',
PAMI 1998; Hartley and Zisserman, Multiple View Geometry, 2004, section 13.3).

Where a homography explains most of the image, the rest may be near static things, or objects: an
epipole would explain a rigid object's motion as well. What is on the plane tells, because it is
never quite plane: if its small residuals lead to the same epipole, over some frames, the camera
translates, and the rest has parallax.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.compiled import compiled, f4

Array = NDArray[np.float64]
Map = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Residuals up to which flow agrees with a homography, mask pixels, and share of the flow's length
#: that is added; distance to the line through the epipole
PLANE_PIXELS, PLANE_SHARE, LINE_PIXELS = 0.6, 0.05, 0.36
#: A homography that explains this share of the image is the camera's motion, unless the plane
#: agrees with the epipole
DOMINANT = 0.75
#: Median flow, pixels, of what is on the plane, below which the camera rests: without parallax
AT_REST = 0.2
#: Share of a residual that is left where parallax explains it, because an object may move towards
#: the epipole: in general, and where the plane agrees with the epipole
PARALLAX, SURE_PARALLAX = f4(0.2), f4(0.05)
#: Component of the plane's residuals towards the epipole, relative to their length, at which it
#: agrees, averaged over about 1 / RATE frames. That of random directions is 0.64, 1 is certain
AGREES, RANDOM, SURE, RATE = 0.82, 2 / np.pi, 1.0, 0.2
#: Cells that models are fitted to: at most and at least
SAMPLES, MIN_SAMPLES = 250, 40
#: Cells off the plane that an epipole is found by, at least
MIN_OFF_PLANE = 4
#: Pairs of cells that are tried for the epipole
TRIALS, REFINEMENTS = 100, 3
#: Times that the homography is fitted again, and what its weights are scaled by, in medians of the
#: residuals
REFITS, SHARP = 4, 2.0
_1, _TINY = f4(1), f4(1e-9)


@dataclass(frozen=True, eq=False)
class ImageMotion:
    """
    Residuals of flow to an image's dominant motion.

    :param plane: (rows, columns) distance to the flow of a homography, mask pixels
    :param residual: (rows, columns) where parallax is the camera's motion, less what it explains
    :param agreement: mean component of the plane's residuals towards the epipole, see `AGREES`
    :param H: (3, 3) the homography, mask pixels
    """

    plane: Map
    residual: Map
    agreement: float
    H: Map


def dominant_motion(positions: Map, flow: Map, valid: Mask, agreement: float = RANDOM
                    ) -> ImageMotion | None:
    """
    Find the dominant motion of an image.

    :param positions: (2, rows, columns) of the cells, mask pixels
    :param flow: (2, rows, columns)
    :param valid: (rows, columns) where it can be trusted
    :param agreement: of the frame before
    :return: None where too little flow can be trusted
    """
    step = max(1, int(np.ceil(np.sqrt(valid.size / SAMPLES))))
    grid = np.s_[step // 2::step, step // 2::step]
    use = valid[grid]
    if use.sum() < MIN_SAMPLES:
        return None
    here = np.stack([p[grid][use] for p in positions], axis=1).astype(np.float64)
    there = here + np.stack([f[grid][use] for f in flow], axis=1)
    H, _ = cv2.findHomography(here, there, cv2.USAC_MAGSAC, PLANE_PIXELS, maxIters=300)
    if H is None:
        return None
    H = _sharpened(np.ascontiguousarray(H), here, there, REFITS)
    of_plane = H.astype(np.float32)
    plane = np.empty_like(flow[0])
    _plane_residuals(positions, flow, of_plane, plane)
    length = np.linalg.norm(there - here, axis=1)
    on_plane = plane[grid][use] < PLANE_PIXELS + PLANE_SHARE * length
    if ((~on_plane).sum() < MIN_OFF_PLANE or not on_plane.any()
            or np.median(length[on_plane]) < AT_REST):
        return ImageMotion(plane, plane, agreement, of_plane)
    e = _epipole(H, here, there, np.empty((len(here), 3)))
    agreement += RATE * (_agreement(H, e, here[on_plane], there[on_plane]) - agreement)
    sure = agreement > AGREES
    if on_plane.mean() >= DOMINANT and not sure:
        return ImageMotion(plane, plane, agreement, of_plane)
    residual = plane.copy()
    _line_residuals(positions, flow, of_plane, e.astype(np.float32),
                    SURE_PARALLAX if sure else PARALLAX, residual)
    return ImageMotion(plane, residual, agreement, of_plane)


def _agreement(H: Array, e: Array, here: Array, there: Array) -> float:
    """Component towards an epipole of the residuals (N, 2) to a homography, over their length."""
    expected = cv2.perspectiveTransform(here[:, None], H)[:, 0]
    towards = e[:2] - expected * e[2]
    residuals = there - expected
    lengths = np.linalg.norm(towards, axis=1)
    along = np.abs((towards * residuals).sum(axis=1)) / np.maximum(lengths, 1e-9)
    return float(along.sum() / max(np.linalg.norm(residuals, axis=1).sum(), 1e-9))


@compiled('f8[:,::1](f8[:,::1], f8[:,::1], f8[:,::1], i8)')
def _sharpened(H: Array, here: Array, there: Array, iterations: int) -> Array:
    """
    Fit a homography again to what agrees with it best: slow dynamic objects become outliers.

    Iteratively reweighted least squares with Geman and McClure's weights, whose scale is the
    noise of the half that agrees best.

    :param H: (3, 3)
    :param here: (N, 2)
    :param there: (N, 2)
    """
    count = len(here)
    residual, J = np.empty((count, 2)), np.empty((count, 2, 8))
    for _ in range(iterations):
        squares = np.empty(count)
        for n in range(count):
            x, y = here[n, 0], here[n, 1]
            z = 1 / (H[2, 0] * x + H[2, 1] * y + H[2, 2])
            u = (H[0, 0] * x + H[0, 1] * y + H[0, 2]) * z
            v = (H[1, 0] * x + H[1, 1] * y + H[1, 2]) * z
            residual[n, 0], residual[n, 1] = there[n, 0] - u, there[n, 1] - v
            squares[n] = residual[n, 0] ** 2 + residual[n, 1] ** 2
            x, y = x * z, y * z
            J[n] = 0
            J[n, 0, 0], J[n, 0, 1], J[n, 0, 2] = x, y, z
            J[n, 1, 3], J[n, 1, 4], J[n, 1, 5] = x, y, z
            J[n, 0, 6], J[n, 0, 7] = -u * x, -u * y
            J[n, 1, 6], J[n, 1, 7] = -v * x, -v * y
        scale = max(SHARP ** 2 * np.median(squares), 1e-4)
        A, b = np.zeros((8, 8)), np.zeros(8)
        for n in range(count):
            weight = (scale / (scale + squares[n])) ** 2
            for k in range(2):
                for i in range(8):
                    b[i] += weight * J[n, k, i] * residual[n, k]
                    for j in range(i + 1):
                        A[i, j] += weight * J[n, k, i] * J[n, k, j]
        for i in range(8):
            A[i, i] *= 1 + 1e-9
            for j in range(i):
                A[j, i] = A[i, j]
        change = np.linalg.solve(A, b)
        H = H / H[2, 2]
        for i in range(8):
            H[i // 3, i % 3] += change[i]
    return H


@compiled()
def _line_distance(x: float, y: float, u: float, v: float, e: Array) -> float:
    """Distance of (u, v) to the line through (x, y) and the epipole e, homogeneous."""
    a, b = y * e[2] - e[1], e[0] - x * e[2]
    return abs(a * (u - x) + b * (v - y)) / np.sqrt(a * a + b * b + 1e-18)


@compiled()
def _refined(e: Array, plane: Array, there: Array, lines: Array, moved: NDArray[np.int64]
             ) -> Array:
    """Fit the epipole e to the lines that lead to it, by weighted least squares."""
    scale = np.sqrt((e * e).sum())
    e = e / max(scale, 1e-18)
    M = np.zeros((3, 3))
    for n in moved:
        d = _line_distance(plane[n, 0], plane[n, 1], there[n, 0], there[n, 1], e)
        if d < LINE_PIXELS:
            length = np.hypot(there[n, 0] - plane[n, 0], there[n, 1] - plane[n, 1])
            distance = max(np.hypot(e[0] - plane[n, 0] * e[2], e[1] - plane[n, 1] * e[2]), 1e-9)
            # A line's distance to the epipole, over its lever
            weight = (length / distance) ** 2
            for i in range(3):
                for j in range(3):
                    M[i, j] += weight * lines[n, i] * lines[n, j]
    return np.ascontiguousarray(np.linalg.eigh(M)[1][:, 0])


@compiled('f8[::1](f8[:,::1], f8[:,::1], f8[:,::1], f8[:,::1])')
def _epipole(H: Array, here: Array, there: Array, lines: Array) -> Array:
    """
    Find the epipole that the parallax of most correspondences leads to.

    :param H: (3, 3) homography
    :param here: (N, 2)
    :param there: (N, 2)
    :param lines: (N, 3) space
    :return: (3,) homogeneous
    """
    count = len(here)
    plane, moved = np.empty_like(here), np.empty(count, np.int64)
    used = 0
    for n in range(count):
        z = H[2, 0] * here[n, 0] + H[2, 1] * here[n, 1] + H[2, 2]
        x = (H[0, 0] * here[n, 0] + H[0, 1] * here[n, 1] + H[0, 2]) / z
        y = (H[1, 0] * here[n, 0] + H[1, 1] * here[n, 1] + H[1, 2]) / z
        plane[n, 0], plane[n, 1] = x, y
        dx, dy = there[n, 0] - x, there[n, 1] - y
        length = np.sqrt(dx * dx + dy * dy)
        if length > PLANE_PIXELS:
            lines[n, 0], lines[n, 1] = -dy / length, dx / length
            lines[n, 2] = -(lines[n, 0] * x + lines[n, 1] * y)
            moved[used] = n
            used += 1
    best, least = np.zeros(3), np.inf
    if used < 2:
        return best
    for trial in range(TRIALS):
        # Pairs far apart in the list, each different
        i = moved[(trial * 7919) % used]
        j = moved[(trial * 7919 + 1 + (trial * 104729) % (used - 1)) % used]
        a, b = lines[i], lines[j]
        e = np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2],
                      a[0] * b[1] - a[1] * b[0]])
        cost = 0.0
        for n in moved[:used]:
            cost += min(_line_distance(plane[n, 0], plane[n, 1], there[n, 0], there[n, 1], e),
                        LINE_PIXELS)
        if cost < least:
            best, least = e, cost
    for _ in range(REFINEMENTS):
        best = _refined(best, plane, there, lines, moved[:used])
    return best


@compiled()
def transferred(H: Map, x: float, y: float) -> tuple[float, float]:
    """Where a homography takes a position."""
    z = _1 / (H[2, 0] * x + H[2, 1] * y + H[2, 2])
    return (H[0, 0] * x + H[0, 1] * y + H[0, 2]) * z, (H[1, 0] * x + H[1, 1] * y + H[1, 2]) * z


@compiled('void(f4[:,:,::1], f4[:,:,::1], f4[:,::1], f4[:,::1])')
def _plane_residuals(positions: Map, flow: Map, H: Map, out: Map) -> None:
    """Distances (rows, columns) of flow to that of a homography H."""
    xs, ys = positions[0].ravel(), positions[1].ravel()
    us, vs, distances = flow[0].ravel(), flow[1].ravel(), out.ravel()
    for n in range(len(xs)):
        x, y = xs[n], ys[n]
        u, v = transferred(H, x, y)
        u, v = u - x - us[n], v - y - vs[n]
        distances[n] = np.sqrt(u * u + v * v)


@compiled('void(f4[:,:,::1], f4[:,:,::1], f4[:,::1], f4[::1], f4, f4[:,::1])')
def _line_residuals(positions: Map, flow: Map, H: Map, e: Map, left: float, out: Map) -> None:
    """Reduce distances to a homography to those to lines through the epipole e, or a share."""
    xs, ys = positions[0].ravel(), positions[1].ravel()
    us, vs, distances = flow[0].ravel(), flow[1].ravel(), out.ravel()
    for n in range(len(xs)):
        x, y = xs[n], ys[n]
        u, v = transferred(H, x, y)
        a, b = v * e[2] - e[1], e[0] - u * e[2]
        line = abs(a * (x + us[n] - u) + b * (y + vs[n] - v)) / np.sqrt(a * a + b * b + _TINY)
        distances[n] = min(distances[n], max(line, left * distances[n]))
