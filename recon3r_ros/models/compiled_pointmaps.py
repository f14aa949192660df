# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The compiled loops of dense two-view geometry; `geometric_pointmaps` has the interface.

In float32. K is (fx, fy, cx, cy) of a view's grid, own and other; T is T_other_own (4, 4). Targets
are (2, H, W), u and v: loops over planes are vectorised, those over interleaved coordinates are
not, and take nine times as long.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.compiled import compiled
from recon3r_ros.geometry.compiled_two_view import along_ray, elements, LEAST_HEIGHT, turned
from recon3r_ros.models.types import MATCHED, NO_CONFIDENCE

Floats = NDArray[np.float32]

#: Error of a flow vector (grid pixels): its floor, and its growth in plain texture
FLOW_ERROR, PLAIN_ERROR = 0.25, 3.0
#: Largest forward-backward error and epipolar distance (grid pixels) of a valid match
MAX_ROUND_TRIP = 1.0
MAX_EPIPOLAR = 1.5
#: A match is dynamic if it is farther than this, in its errors, from its epipolar segment; that
#: reaches from infinity to this many times the largest inverse depth
MOVING_ERRORS, NEAREST = 4.0, 2.0
_LARGEST = 0.98  # quantile of the inverse depths that counts as their largest
_TINY, _LEAST_HEIGHT = np.finfo(np.float32).tiny, np.float32(LEAST_HEIGHT)
_LEAST_DEPTH = np.float32(1e-3)  # in front of the other camera, in baselines, to be projected
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_INFINITE = np.float32(np.inf)


@compiled('Tuple((f4[:,:,::1], f4[:,::1]))(f4[:,:,::1], f4[:,:,::1], f4[:,::1])')
def matched(forward: Floats, backward: Floats, texture: Floats) -> tuple[Floats, Floats]:
    """
    Match each pixel by flow, and check it forward and backward.

    :param forward: (H, W, 2) flow to the other grid, pixels
    :param backward: (H', W', 2) flow from there
    :param texture: (H, W) mean squared gradient, grey levels^2 / pixel^2
    :return: targets (2, H, W) in the other grid, and their errors (H, W), pixels; infinite where
        the check fails
    """
    height, width = texture.shape
    last_x, last_y = np.float32(backward.shape[1] - 1), np.float32(backward.shape[0] - 1)
    targets, error = np.empty((2, height, width), np.float32), np.empty_like(texture)
    for v in range(height):
        for u in range(width):
            trip_u, trip_v = forward[v, u, 0], forward[v, u, 1]
            x, y = np.float32(u) + trip_u, np.float32(v) + trip_v
            targets[0, v, u], targets[1, v, u], error[v, u] = x, y, np.inf
            if not (x >= 0 and x <= last_x and y >= 0 and y <= last_y):
                continue
            # Bilinear; unsigned indices need no check for negative ones
            left, top = np.uint32(min(x, last_x - _ONE)), np.uint32(min(y, last_y - _ONE))
            right, below = left + np.uint32(1), top + np.uint32(1)
            p, q = x - np.float32(left), y - np.float32(top)
            trip_u += ((backward[top, left, 0] * (_ONE - p) + backward[top, right, 0] * p)
                       * (_ONE - q)
                       + (backward[below, left, 0] * (_ONE - p) + backward[below, right, 0] * p)
                       * q)
            trip_v += ((backward[top, left, 1] * (_ONE - p) + backward[top, right, 1] * p)
                       * (_ONE - q)
                       + (backward[below, left, 1] * (_ONE - p) + backward[below, right, 1] * p)
                       * q)
            squared = trip_u * trip_u + trip_v * trip_v
            if squared <= np.float32(MAX_ROUND_TRIP ** 2):
                error[v, u] = np.sqrt(np.float32(FLOW_ERROR ** 2) + squared
                                      + np.float32(PLAIN_ERROR ** 2) / (_ONE + texture[v, u]))
    return targets, error


@compiled()
def _ranked(values: Floats, rank: int) -> np.float32:
    """Return the value of a rank among positive ones: their bits are ordered as they are."""
    bits, half = values.view(np.uint32), np.uint32(16)
    counts = np.zeros(1 << 16, np.int32)
    for n in range(len(bits)):
        counts[bits[n] >> half] += 1
    high = np.uint32(0)
    while counts[high] <= rank:
        rank -= counts[high]
        high += np.uint32(1)
    # Among those with the same upper half, by the lower one
    for n in range(len(counts)):
        counts[n] = 0
    for n in range(len(bits)):
        if bits[n] >> half == high:
            counts[bits[n] & np.uint32(0xffff)] += 1
    low = np.uint32(0)
    while counts[low] <= rank:
        rank -= counts[low]
        low += np.uint32(1)
    found = np.empty(1, np.uint32)
    found[0] = (high << half) | low
    return found.view(np.float32)[0]


@compiled('f4(f4[::1], f8)')
def quantile(values: Floats, share: float) -> np.float32:
    """Quantile of at least one positive value, interpolated linearly as by NumPy."""
    position = share * (len(values) - 1)
    rank = int(position)
    low = _ranked(values, rank)
    if rank == position:
        return low
    return np.float32(low + (position - rank) * (_ranked(values, rank + 1) - low))


@compiled()
def _triangulated(targets: Floats, error: Floats, K_own: Floats, K_other: Floats, T: Floats
                  ) -> tuple[Floats, Floats, NDArray[np.bool_], NDArray[np.bool_]]:
    """Inverse depths (H, W), confidences, which are in front of both cameras, and which valid."""
    motion = elements(T)
    own_fx, own_fy, own_cx, own_cy = K_own[0], K_own[1], K_own[2], K_own[3]
    fx, fy, cx, cy = K_other[0], K_other[1], K_other[2], K_other[3]
    inverse_depth, confidence = np.empty_like(error), np.empty_like(error)
    in_front, known = np.empty(error.shape, np.bool_), np.empty(error.shape, np.bool_)
    for row in range(error.shape[0]):
        y = (np.float32(row) - own_cy) / own_fy
        for column in range(error.shape[1]):
            x = (np.float32(column) - own_cx) / own_fx
            u, v = (targets[0, row, column] - cx) / fx, (targets[1, row, column] - cy) / fy
            inverse, height, sensitivity = along_ray(
                motion, x, y, _ONE, u, v, _TINY, _LEAST_HEIGHT)
            front = (inverse > 0) & (height > _LEAST_HEIGHT)
            # The point, projected in the other view
            e_x, e_y, _ = turned(motion, x, y, _ONE)
            off_u = (e_x + inverse * motion[3]) / height - u
            off_v = (e_y + inverse * motion[7]) / height - v
            off = np.sqrt(off_u * off_u + off_v * off_v) * fx
            found = sensitivity * fx / np.sqrt(
                error[row, column] * error[row, column] + off * off)
            found *= found
            valid = front & (off < np.float32(MAX_EPIPOLAR)) & (found < _INFINITE)
            inverse_depth[row, column] = inverse
            in_front[row, column], known[row, column] = front, valid
            sure = found if found > np.float32(MATCHED) else np.float32(MATCHED)
            confidence[row, column] = sure if valid else np.float32(NO_CONFIDENCE)
    return inverse_depth, confidence, in_front, known


@compiled()
def _placed(targets: Floats, inverse_depth: Floats, confidence: Floats, filler: np.float32,
            nearest: np.float32, K_own: Floats, K_other: Floats, T: Floats
            ) -> tuple[Floats, Floats, Floats]:
    """
    Place the points of all pixels, in both views, and measure how far they are off the segment.

    :param filler: depth of pixels without one
    :param nearest: inverse depth at the near end of the epipolar segment
    :return: points (H, W, 3) in the own view, in the other one, and distances (H, W), pixels
    """
    height, width = confidence.shape
    motion = elements(T)
    own_fx, own_fy, own_cx, own_cy = K_own[0], K_own[1], K_own[2], K_own[3]
    fx, fy, cx, cy = K_other[0], K_other[1], K_other[2], K_other[3]
    points, seen = (np.empty((height, width, 3), np.float32),
                    np.empty((height, width, 3), np.float32))
    off, line = np.empty_like(confidence), np.empty((6, width), np.float32)
    for row in range(height):
        y = (np.float32(row) - own_cy) / own_fy
        for column in range(width):
            x = (np.float32(column) - own_cx) / own_fx
            u, v = (targets[0, row, column] - cx) / fx, (targets[1, row, column] - cy) / fy
            e_x, e_y, e_z = turned(motion, x, y, _ONE)
            valid = confidence[row, column] > np.float32(NO_CONFIDENCE)
            inverse = inverse_depth[row, column]
            depth = _ONE / inverse if valid else filler
            there = e_z * depth + motion[11]
            # The projection of a point there is the measured match, not the triangulated point's
            line[0, column], line[1, column], line[2, column] = x * depth, y * depth, depth
            line[3, column] = u * there if valid else e_x * depth + motion[3]
            line[4, column] = v * there if valid else e_y * depth + motion[7]
            line[5, column] = there
            # From infinity to very near
            possible = inverse if inverse > 0 else _ZERO
            possible = nearest if possible > nearest else possible
            distance = e_z + possible * motion[11]
            distance = distance if distance > _LEAST_DEPTH else _LEAST_DEPTH
            off_u = (e_x + possible * motion[3]) / distance - u
            off_v = (e_y + possible * motion[7]) / distance - v
            off[row, column] = np.sqrt(off_u * off_u + off_v * off_v) * fx
        for column in range(width):
            for k in range(3):
                points[row, column, k] = line[k, column]
                seen[row, column, k] = line[3 + k, column]
    return points, seen, off


@compiled()
def _chosen(values: Floats, where: NDArray[np.bool_]) -> Floats:
    """Return those values (H, W) where a mask is set: (n,)."""
    out, count = np.empty(values.size, np.float32), 0
    for row in range(values.shape[0]):
        for column in range(values.shape[1]):
            if where[row, column]:
                out[count] = values[row, column]
                count += 1
    return out[:count]


@compiled()
def _moving(off: Floats, error: Floats) -> NDArray[np.int8]:
    """Classify pixels by their distance from the epipolar segment: see `Prediction.moving`."""
    out, is_matched = np.zeros(off.shape, np.int8), np.empty(off.shape, np.bool_)
    for row in range(off.shape[0]):
        for column in range(off.shape[1]):
            is_matched[row, column] = error[row, column] < _INFINITE
    known = _chosen(off, is_matched)
    if len(known) == 0:
        return out
    usual = max(quantile(known, 0.5), np.float32(FLOW_ERROR))
    for row in range(off.shape[0]):
        for column in range(off.shape[1]):
            own = error[row, column]
            limit = np.float32(MOVING_ERRORS) * np.sqrt(own * own + usual * usual)
            still = -1 if off[row, column] < _HALF * limit else 0
            out[row, column] = (1 if off[row, column] > limit else still) if own < _INFINITE else 0
    return out


@compiled('Tuple((f4[:,:,::1], f4[:,::1], f4[:,:,::1], i1[:,::1]))'
          '(f4[:,:,::1], f4[:,::1], f4[::1], f4[::1], f4[:,::1])')
def pointmap(targets: Floats, error: Floats, K_own: Floats, K_other: Floats, T: Floats
             ) -> tuple[Floats, Floats, Floats, NDArray[np.int8]]:
    """Triangulate the matches of a view: see `geometric_pointmaps.Pointmap`."""
    inverse_depth, confidence, in_front, known = _triangulated(
        targets, error, K_own, K_other, T)
    front, depths = _chosen(inverse_depth, in_front), _chosen(inverse_depth, known)
    for n in range(len(depths)):
        depths[n] = _ONE / depths[n]
    nearest = np.float32(NEAREST) * quantile(front, _LARGEST) if len(front) else _ZERO
    # Pixels without depth are put at the median depth to stay finite, without confidence
    filler = quantile(depths, 0.5) if len(depths) else _ONE
    points, seen, off = _placed(
        targets, inverse_depth, confidence, filler, nearest, K_own, K_other, T)
    moving = _moving(off, error) if len(front) else np.zeros(off.shape, np.int8)
    return points, confidence, seen, moving


@compiled('b1[:,::1](f4[:,:,::1], f4[:,::1], f4[::1], f4[::1], f4[:,::1])')
def only_turned(targets: Floats, error: Floats, K_own: Floats, K_other: Floats, T: Floats
                ) -> NDArray[np.bool_]:
    """Tell which matches (H, W) a pure rotation explains."""
    motion = elements(T)
    own_fx, own_fy, own_cx, own_cy = K_own[0], K_own[1], K_own[2], K_own[3]
    fx, fy, cx, cy = K_other[0], K_other[1], K_other[2], K_other[3]
    out = np.empty(error.shape, np.bool_)
    for row in range(error.shape[0]):
        y = (np.float32(row) - own_cy) / own_fy
        for column in range(error.shape[1]):
            e_x, e_y, e_z = turned(
                motion, (np.float32(column) - own_cx) / own_fx, y, _ONE)
            height = e_z if e_z > _LEAST_DEPTH else _LEAST_DEPTH
            off_u = e_x / height - (targets[0, row, column] - cx) / fx
            off_v = e_y / height - (targets[1, row, column] - cy) / fy
            off = np.sqrt(off_u * off_u + off_v * off_v) * fx
            out[row, column] = ((error[row, column] < _INFINITE)
                                & (off < np.float32(MAX_EPIPOLAR)))
    return out
