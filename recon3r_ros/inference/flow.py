# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Dense correspondence between two images: DIS optical flow, seeded where the views lie far apart.

Kroeger et al., 'Fast Optical Flow using Dense Inverse Search', ECCV 2016 (OpenCV's implementation);
wide baselines start from sparse SIFT matches (Lowe, IJCV 2004), interpolated piecewise affinely.
All pixel coordinates are those of the images passed in.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator

#: Seeds are interpolated on a grid this many times coarser than the image
SEED_GRID_STEP = 8
LUCAS_KANADE_WINDOW = (15, 15)
LUCAS_KANADE_STOP = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 15, 0.01)
#: A refinement that moves a match farther than this (pixels) has found something else
MAX_REFINEMENT = 3.0


def pixel_positions(height: int, width: int) -> NDArray[np.float32]:
    """Return the (H, W, 2) float32 pixel coordinates (u, v)."""
    u, v = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return np.dstack([u, v])


def sample(field: NDArray[np.float32], pixels: NDArray[np.float32], outside: float = 0.0
           ) -> NDArray[np.float32]:
    """
    Bilinear look-up.

    :param field: (H, W) or (H, W, C) float32
    :param pixels: (h, w, 2) float32 positions in `field`
    :param outside: value beyond the border
    :return: (h, w) or (h, w, C)
    """
    return cv2.remap(field, pixels, None, cv2.INTER_LINEAR,
                     borderMode=cv2.BORDER_CONSTANT, borderValue=(outside,) * 4)


@dataclass(frozen=True, eq=False)
class Flow:
    """
    Correspondence from image a to image b.

    :param dense: (H, W, 2) float32: a's pixel p is seen in b at p + dense[p]
    :param targets: (N, 2) float32 positions in b of the keypoints that were asked for
    :param sharp: (N,) whether the keypoint's match was refined
    """

    dense: NDArray[np.float32]
    targets: NDArray[np.float32]
    sharp: NDArray[np.bool_]


def compute_flow(gray_a: NDArray[np.uint8], gray_b: NDArray[np.uint8],
                 keypoints: NDArray[np.float32], seed: NDArray[np.float32] | None = None) -> Flow:
    """
    Optical flow from a to b, refined at keypoints by Lucas and Kanade's method.

    With a seed, b is first warped by it, so that both methods see two similar images and their
    upright patches cope with the rotation and scaling between distant views.

    :param gray_a: (H, W) uint8
    :param gray_b: (H', W') uint8; of the same size where there is no seed
    :param keypoints: (N, 2) corners of a, where refinement pays (about 0.1 px)
    :param seed: (H, W, 2) approximate flow
    """
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    if seed is None:
        dense = dis.calc(gray_a, gray_b, None)
        targets, sharp = _refine(gray_a, gray_b, keypoints, keypoints + lookup(dense, keypoints))
        return Flow(dense, targets, sharp)
    positions = pixel_positions(*gray_a.shape)
    warped = cv2.remap(gray_b, positions + seed, None, cv2.INTER_LINEAR,
                       borderMode=cv2.BORDER_REPLICATE)
    residual = dis.calc(gray_a, warped, None)
    targets, sharp = _refine(gray_a, warped, keypoints, keypoints + lookup(residual, keypoints))
    corner = np.float32([gray_a.shape[1] - 1, gray_a.shape[0] - 1])
    dense = residual + sample(seed, np.clip(positions + residual, 0, corner))
    return Flow(dense, targets + lookup(seed, np.clip(targets, 0, corner)), sharp)


def lookup(field: NDArray[np.float32], pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Look up (N, 2) positions in a (H, W, C) field: (N, C)."""
    if len(pixels) == 0:
        return np.zeros((0, field.shape[2]), np.float32)
    return sample(field, pixels[:, None].astype(np.float32))[:, 0]


def _refine(gray_a: NDArray[np.uint8], gray_b: NDArray[np.uint8], pixels: NDArray[np.float32],
            initial: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    if len(pixels) == 0:
        return initial, np.zeros(0, bool)
    refined, status, _ = cv2.calcOpticalFlowPyrLK(
        gray_a, gray_b, pixels[:, None].astype(np.float32), initial[:, None].copy(),
        winSize=LUCAS_KANADE_WINDOW, maxLevel=0, criteria=LUCAS_KANADE_STOP,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW)
    refined = refined[:, 0]
    sharp = (status[:, 0] == 1) & (np.linalg.norm(refined - initial, axis=1) < MAX_REFINEMENT)
    return np.where(sharp[:, None], refined, initial), sharp


def round_trip_error(forward: NDArray[np.float32], backward: NDArray[np.float32]
                     ) -> NDArray[np.float32]:
    """
    Distance between a pixel of a and where it comes back to after a trip to b.

    :param forward: (H, W, 2) flow from a to b
    :param backward: (H', W', 2) flow from b to a
    :return: (H, W) pixels; infinite where the trip leaves b
    """
    targets = pixel_positions(*forward.shape[:2]) + forward
    height, width = backward.shape[:2]
    inside = ((targets[..., 0] >= 0) & (targets[..., 0] <= width - 1)
              & (targets[..., 1] >= 0) & (targets[..., 1] <= height - 1))
    back = sample(backward, targets)
    error = np.linalg.norm(forward + back, axis=-1)
    return np.where(inside, error, np.float32(np.inf))


def seed_flow(pixels_a: NDArray[np.float32], pixels_b: NDArray[np.float32],
              height: int, width: int) -> NDArray[np.float32]:
    """
    Interpolate sparse matches into a dense, piecewise affine flow.

    Beyond the convex hull of the matches the flow of the nearest one is taken.

    :param pixels_a: (N, 2) in a, N >= 4, not collinear
    :param pixels_b: (N, 2) in b
    :return: (height, width, 2) float32 flow from a to b
    """
    rows = int(np.ceil(height / SEED_GRID_STEP)) + 1
    cols = int(np.ceil(width / SEED_GRID_STEP)) + 1
    grid = pixel_positions(rows, cols) * SEED_GRID_STEP
    motion = pixels_b - pixels_a
    coarse = LinearNDInterpolator(pixels_a, motion)(grid)
    holes = np.isnan(coarse[..., 0])
    if holes.any():
        coarse[holes] = NearestNDInterpolator(pixels_a, motion)(grid[holes])
    return sample(coarse.astype(np.float32), pixel_positions(height, width) / SEED_GRID_STEP)
