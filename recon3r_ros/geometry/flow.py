# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Dense correspondence between two images: DIS optical flow, seeded for wide baselines.

Kroeger et al., 'Fast Optical Flow using Dense Inverse Search', ECCV 2016 (OpenCV's
implementation); wide baselines are seeded by sparse SIFT matches (Lowe, IJCV 2004), interpolated
piecewise affinely.
Pixel (u, v) of the coarse image is centred on (2 u + 0.5, 2 v + 0.5) of the fine one.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

#: Seeds are interpolated on a grid this many times coarser than the image
SEED_GRID_STEP = 8
LUCAS_KANADE_WINDOW = (15, 15)
LUCAS_KANADE_STOP = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 15, 0.01)
#: A refinement that moves a match farther than this (coarse pixels) is rejected as a mismatch
MAX_REFINEMENT = 1.5


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
class Pyramid:
    """
    One image at the two resolutions of matching.

    :param fine: (2 H, 2 W) uint8, where keypoints are matched
    :param coarse: (H, W) uint8, where flow is dense
    """

    fine: NDArray[np.uint8]
    coarse: NDArray[np.uint8]

    def warped(self, flow: NDArray[np.float32]) -> Pyramid:
        """
        Warp this image by a flow (h, w, 2) in coarse pixels.

        :return: images of twice the flow's size and of the flow's size
        """
        height, width = flow.shape[:2]
        to_fine = cv2.resize(2 * flow, (2 * width, 2 * height), interpolation=cv2.INTER_LINEAR)
        return Pyramid(*(cv2.remap(image, pixel_positions(*f.shape[:2]) + f, None,
                                   cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
                         for image, f in ((self.fine, to_fine), (self.coarse, flow))))


@dataclass(frozen=True, eq=False)
class Flow:
    """
    Correspondence from image a to image b, in coarse pixels.

    :param dense: (H, W, 2) float32: a's pixel p corresponds to p + dense[p] in b
    :param targets: (N, 2) float32 positions in b of the given keypoints
    :param sharp: (N,) whether the keypoint's match was refined
    """

    dense: NDArray[np.float32]
    targets: NDArray[np.float32]
    sharp: NDArray[np.bool_]


def compute_flow(a: Pyramid, b: Pyramid, keypoints: NDArray[np.float32],
                 seed: NDArray[np.float32] | None = None) -> Flow:
    """
    Optical flow from a to b, refined at keypoints by Lucas and Kanade's method.

    With a seed, b is first warped by it: both methods then compare similar images, and their
    upright patches tolerate the rotation and scale change of a wide baseline.

    :param a: image a
    :param b: image b; of a's size where there is no seed
    :param keypoints: (N, 2) corners of a in coarse pixels, to be refined
    :param seed: (H, W, 2) approximate flow, coarse pixels
    """
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    dis.setFinestScale(1)
    target = b if seed is None else b.warped(seed)
    dense = dis.calc(a.coarse, target.coarse, None)
    targets, sharp = _refine(a.fine, target.fine, keypoints, keypoints + lookup(dense, keypoints))
    if seed is None:
        return Flow(dense, targets, sharp)
    positions = pixel_positions(*a.coarse.shape)
    corner = np.array([a.coarse.shape[1] - 1, a.coarse.shape[0] - 1], np.float32)
    dense = dense + sample(seed, np.clip(positions + dense, 0, corner))
    return Flow(dense, targets + lookup(seed, np.clip(targets, 0, corner)), sharp)


def lookup(field: NDArray[np.float32], pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Look up (N, 2) positions in a (H, W, C) field: (N, C)."""
    if len(pixels) == 0:
        return np.zeros((0, field.shape[2]), np.float32)
    return sample(field, pixels[:, None].astype(np.float32))[:, 0]


def _refine(fine_a: NDArray[np.uint8], fine_b: NDArray[np.uint8], pixels: NDArray[np.float32],
            initial: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    if len(pixels) == 0:
        return initial, np.zeros(0, bool)
    start, guess = 2 * pixels + 0.5, 2 * initial + 0.5
    refined, status, _ = cv2.calcOpticalFlowPyrLK(
        fine_a, fine_b, start[:, None].astype(np.float32), guess[:, None].astype(np.float32),
        winSize=LUCAS_KANADE_WINDOW, maxLevel=0, criteria=LUCAS_KANADE_STOP,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW)
    refined = (refined[:, 0] - 0.5) / 2
    sharp = (status[:, 0] == 1) & (np.linalg.norm(refined - initial, axis=1) < MAX_REFINEMENT)
    return np.where(sharp[:, None], refined, initial).astype(np.float32), sharp


def seed_flow(pixels_a: NDArray[np.float32], pixels_b: NDArray[np.float32],
              height: int, width: int) -> NDArray[np.float32]:
    """
    Interpolate sparse matches into a dense, piecewise affine flow.

    Beyond the convex hull of the matches, the flow of the nearest match is used.

    :param pixels_a: (N, 2) in a, N >= 4, not collinear
    :param pixels_b: (N, 2) in b
    :return: (height, width, 2) float32 flow from a to b
    """
    rows = int(np.ceil(height / SEED_GRID_STEP)) + 1
    cols = int(np.ceil(width / SEED_GRID_STEP)) + 1
    nodes = (pixel_positions(rows, cols) * SEED_GRID_STEP).reshape(-1, 2)
    corners, weights = _interpolation(pixels_a, nodes)
    coarse = np.einsum('nk,nkd->nd', weights, (pixels_b - pixels_a)[corners])
    return sample(coarse.reshape(rows, cols, 2).astype(np.float32),
                  pixel_positions(height, width) / np.float32(SEED_GRID_STEP))


def _interpolation(points: NDArray[np.float32], nodes: NDArray[np.float32]
                   ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """
    Barycentric coordinates in the Delaunay triangulation of points; beyond it, the nearest point.

    SciPy would do the same, but takes a third of a second to import.

    :param points: (N, 2)
    :param nodes: (M, 2)
    :return: (M, 3) indices of points and their weights
    """
    # Its first triangle is as large as this square, and must be far away from the convex hull
    far = 20 * int(np.ceil(np.abs(np.vstack([points, nodes])).max()) + 1)
    mesh = cv2.Subdiv2D((-far, -far, 2 * far, 2 * far))
    index = {mesh.insert(point): n for n, point in enumerate(points.tolist())}
    corners = np.zeros((len(nodes), 3), np.int64)
    inside = np.ones(len(nodes), bool)
    for n, node in enumerate(nodes.tolist()):
        _, edge, vertex = mesh.locate(node)
        around = (vertex,) * 3 if vertex else (
            mesh.edgeOrg(edge)[0], mesh.edgeDst(edge)[0],
            mesh.edgeDst(mesh.getEdge(edge, cv2.SUBDIV2D_NEXT_AROUND_LEFT))[0])
        inside[n] = all(v in index for v in around)  # others span the plane
        if not inside[n]:
            around = (mesh.findNearest(node)[0],) * 3
        corners[n] = [index[v] for v in around]
    a, b, c = np.moveaxis(points.astype(float)[corners], 1, 0)
    area = _cross(b - a, c - a)
    inside &= area != 0
    area[~inside] = 1.0
    second, third = _cross(nodes - a, c - a) / area, _cross(b - a, nodes - a) / area
    weights = np.stack([1 - second - third, second, third], axis=1)
    weights[~inside] = 1.0, 0.0, 0.0
    return corners, weights


def _cross(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
