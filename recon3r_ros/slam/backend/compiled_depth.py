# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The compiled loops over keyframes' pixels: `depth` and `correspondence` have the interface.

Pixels are (N,), N = H W, in float32; K is (fx, fy, cx, cy) of the other keyframe's grid.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.compiled import compiled
from recon3r_ros.geometry.compiled_two_view import along_ray, elements, LEAST_HEIGHT

Floats = NDArray[np.float32]

#: Votes farther apart than this many standard deviations contradict each other
_CONTRADICTION = np.float32(3.0)
#: Relative depth errors that averaging does not reduce: calibration, interpolation
_SYSTEMATIC = 0.01
#: Least information of a depth worth keeping: a relative error of 1 / sqrt(.)
MIN_CONFIDENCE = 6.0
_TINY, _LEAST_HEIGHT = np.finfo(np.float32).tiny, np.float32(LEAST_HEIGHT)
_LEAST_WEIGHT = np.float32(1e-9)
_ONE, _ZERO, _HALF = np.float32(1), np.float32(0), np.float32(0.5)


@compiled('Tuple((f4[::1], f4[::1]))(f4[:,::1], f4[:,::1], f4[::1], f4[::1], f4[:,::1])')
def triangulated(rays: Floats, targets: Floats, confidence: Floats, K: Floats, T: Floats
                 ) -> tuple[Floats, Floats]:
    """
    Triangulate correspondences.

    :param rays: (N, 3) of the keyframe
    :param targets: (N, 2) pixels of the other one
    :param confidence: (N,) of the correspondences, 0 where there is none
    :param T: T_other_own (4, 4)
    :return: inverse depths (N,) and confidences (N,), 0 where not in front of both cameras
    """
    count, motion = len(rays), elements(T)
    inverse_depth, sure = np.zeros(count, np.float32), np.zeros(count, np.float32)
    for n in range(count):
        if not confidence[n] > 0:
            continue
        inverse, height, _ = along_ray(
            motion, rays[n, 0], rays[n, 1], rays[n, 2], (targets[n, 0] - K[2]) / K[0],
            (targets[n, 1] - K[3]) / K[1], _TINY, _LEAST_HEIGHT)
        if inverse > 0 and height > _LEAST_HEIGHT:
            inverse_depth[n], sure[n] = inverse, confidence[n]
    return inverse_depth, sure


@compiled('Tuple((f4[::1], f4[::1]))(f4[:,::1], f4[:,::1])')
def fused(inverse_depths: Floats, confidences: Floats) -> tuple[Floats, Floats]:
    """
    Fuse votes (V, N); see `depth.fuse`.

    :return: inverse depths (N,) and confidences (N,)
    """
    votes, count = inverse_depths.shape
    inverse_depth, sure = np.zeros(count, np.float32), np.zeros(count, np.float32)
    logs, weights = np.empty(votes, np.float32), np.empty(votes, np.float32)
    for n in range(count):
        best, most, valid = _ZERO, _ZERO, 0
        for vote in range(votes):
            confidence = confidences[vote, n]
            if confidence > np.float32(MIN_CONFIDENCE / 4):
                logs[valid] = np.log(inverse_depths[vote, n])
                weights[valid] = confidence / (_ONE + confidence * np.float32(_SYSTEMATIC ** 2))
                if weights[valid] > most:
                    best, most = logs[valid], weights[valid]
                valid += 1
        # The most confident vote is the reference for the agreement of the others
        total, against, mean = _ZERO, _ZERO, _ZERO
        for k in range(valid):
            weight = weights[k]
            spread = _CONTRADICTION * np.sqrt(
                _ONE / max(weight, _LEAST_WEIGHT) + _ONE / max(most, _LEAST_WEIGHT))
            if abs(logs[k] - best) < spread:
                total += weight
                mean += weight * logs[k]
            else:
                against += weight
        if total - against > np.float32(MIN_CONFIDENCE):
            inverse_depth[n], sure[n] = np.exp(mean / total), total - against
    return inverse_depth, sure


@compiled('Tuple((f4[:,::1], f4[::1]))(f4[:,::1], f4[::1], f4[::1], f4, f4, f4)')
def projected(seen: Floats, confidence: Floats, K: Floats, width: np.float32,
              height: np.float32, least: np.float32) -> tuple[Floats, Floats]:
    """
    Project points (N, 3) into an image.

    :param confidence: (N,)
    :param least: confidence
    :return: pixels (N, 2) and confidences (N,), 0 where outside or not confident enough
    """
    targets, sure = np.zeros((len(seen), 2), np.float32), np.zeros(len(seen), np.float32)
    for n in range(len(seen)):
        z = seen[n, 2]
        if not (z > 0 and confidence[n] >= least):
            continue
        u, v = seen[n, 0] / z * K[0] + K[2], seen[n, 1] / z * K[1] + K[3]
        if -_HALF <= u <= width - _HALF and -_HALF <= v <= height - _HALF:
            targets[n, 0], targets[n, 1], sure[n] = u, v, confidence[n]
    return targets, sure
