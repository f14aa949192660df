# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Conversion of networks' pointmaps and confidences to the conventions of `Prediction`.

A network's points imply a camera: they are moved onto the rays of the camera that took the image,
which is known or will be refined. Confidences become inverse variances: trained with
C |error| - alpha log C (DUSt3R, equation 4; VGGT, equation 3), C converges to alpha / |error|.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import GeometryError
from recon3r_ros.geometry import pinhole, se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.focal import estimate_focal_weiszfeld
from recon3r_ros.models.types import Encoding, NO_CONFIDENCE, Prediction

#: Weight of the confidence's logarithm in the training loss (DUSt3R, section 4)
ALPHA = 0.2
#: A point is visible in the other view if its relative difference from that view's depth is below
OCCLUSION = 0.1
#: Largest depth of a point, in units of its view's median depth: beyond is sky
FARTHEST = 1e3
#: The focal length is fitted to every n-th pixel: neighbours are redundant
FOCAL_STRIDE = 4
#: The median depth is that of every n-th row and column
_THIN = 4

Points = NDArray[np.float32]


def information(confidence: Points) -> Points:
    """
    Inverse variance of the relative depth from a network's confidence.

    :param confidence: (H, W), 1 for no information
    """
    c = np.where(np.isfinite(confidence), confidence, np.float32(1)).clip(1, 1e3)
    return np.maximum((c ** 2 - 1) / ALPHA ** 2, NO_CONFIDENCE).astype(np.float32)


def finite(points: Points) -> Points:
    """Move points that are not finite behind the camera: exponentials may overflow."""
    x, y, z = np.moveaxis(points, -1, 0)
    some = z[::_THIN, ::_THIN]
    front = some[(some > 0) & (some < np.inf)]
    limit = FARTHEST * float(np.median(front)) if len(front) else 1.0
    # Each by itself: along an axis of three, NumPy is slow. NaN is not below the limit
    usable = (np.abs(x) <= limit) & (np.abs(y) <= limit) & (np.abs(z) <= limit)
    if usable.all():
        return points
    return np.where(usable[..., None], points, np.array([0, 0, -1], np.float32))


def implied_focal(points: Points, weights: Points) -> float | None:
    """
    Focal length implied by a network's points, pixels; None where it is undetermined.

    :param points: (H, W, 3) in the frame of their camera
    :param weights: (H, W)
    """
    height, width = weights.shape
    thin = slice(None, None, FOCAL_STRIDE)
    middle = (width - 1) / 2 / FOCAL_STRIDE, (height - 1) / 2 / FOCAL_STRIDE
    try:
        focal = FOCAL_STRIDE * estimate_focal_weiszfeld(points[thin, thin], weights[thin, thin],
                                                        middle)
    except GeometryError:
        return None
    return focal if 0.1 < focal / max(width, height) < 20 else None


def centred(camera: Camera, focal: float) -> Camera:
    """Camera of the same grid, as a network implies it."""
    return Camera(camera.width, camera.height, focal, focal, (camera.width - 1) / 2,
                  (camera.height - 1) / 2)


def onto_camera(pointmaps: Sequence[Points], confidences: Sequence[Points], implied: Camera,
                camera: Camera) -> tuple[tuple[Points, ...], tuple[Points, ...]]:
    """
    Convert a network's output for one view, or two, to the camera that took the first one.

    :param pointmaps: (H, W, 3) each, in the first view's frame, for the camera `implied`
    :param confidences: (H, W) each, inverse variances
    :param implied: the first view's camera implied by the network
    :param camera: the first view's camera
    :return: pointmaps and confidences of a `Prediction`
    """
    moved = [through(p, implied, camera) for p in pointmaps]
    sure = [np.where(p[..., 2] > 0, c, np.float32(NO_CONFIDENCE))
            for p, c in zip(moved, confidences)]
    for k in range(1, len(moved)):
        sure[k] = np.where(visible(moved[k], moved[0], camera), sure[k],
                           np.float32(NO_CONFIDENCE))
    # The first view's points lie on the rays of its pixels, in front of the camera
    depth = moved[0][..., 2]
    moved[0] = on_rays(np.where(depth > 0, depth, np.float32(1)), camera)
    return tuple(moved), tuple(sure)


def on_rays(depth: Points, camera: Camera) -> Points:
    """
    Return the points (H, W, 3) of a depth image.

    :param depth: (H, W) float32
    :param camera: without distortion
    """
    columns, rows = np.arange(camera.width), np.arange(camera.height)
    points = np.empty((*depth.shape, 3), np.float32)
    points[..., 0] = depth * ((columns - camera.cx) / camera.fx).astype(np.float32)
    points[..., 1] = depth * ((rows - camera.cy) / camera.fy).astype(np.float32)[:, None]
    points[..., 2] = depth
    return points


def as_pair(prediction: Prediction, group: Sequence[Encoding], i: int, j: int) -> Prediction:
    """
    Extract a pair from a prediction of several views.

    :param prediction: with `T_first_view` and `cameras`
    :param group: the views' encodings
    :param i: index of the first view
    :param j: index of the second view; equal to `i` for a single view
    """
    assert prediction.T_first_view is not None and prediction.cameras is not None
    T_i_first = se3.inverse(prediction.T_first_view[i])
    views = (i, j) if i != j else (i,)
    pointmaps = [se3.transform(T_i_first, prediction.pointmaps[k].reshape(-1, 3)).reshape(
        prediction.pointmaps[k].shape).astype(np.float32) for k in views]
    implied = prediction.cameras[i]
    points, confidences = onto_camera(pointmaps, [prediction.confidences[k] for k in views],
                                      implied, group[i].camera)
    tracks = prediction.tracks
    return Prediction(points, confidences, (implied.fx + implied.fy) / 2, prediction.metric,
                      prediction.learned,
                      moving=None if prediction.moving is None else prediction.moving[i],
                      tracks=None if tracks is None else (tracks[j].within(i),))


def through(points: Points, implied: Camera, camera: Camera) -> Points:
    """Move points at constant depth to the same projection in `camera` as in `implied`."""
    x, y, z = np.moveaxis(points, -1, 0)
    moved = np.empty(points.shape, np.float32)
    moved[..., 0] = x * (implied.fx / camera.fx) + z * ((implied.cx - camera.cx) / camera.fx)
    moved[..., 1] = y * (implied.fy / camera.fy) + z * ((implied.cy - camera.cy) / camera.fy)
    moved[..., 2] = z
    return moved


def visible(points: Points, seen: Points, camera: Camera) -> NDArray[np.bool_]:
    """
    Whether points are visible to the camera, not occluded by its own pointmap.

    :param points: (H', W', 3) in the camera's frame
    :param seen: (H, W, 3) its own pointmap
    """
    z = np.where(points[..., 2] > 0, points[..., 2], np.nan)
    with np.errstate(invalid='ignore'):
        u, v = np.moveaxis(np.round(pinhole.project(points, camera)), -1, 0)
        inside = (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
    column, row = (np.where(inside, x, 0).astype(int) for x in (u, v))
    return inside & (np.abs(seen[row, column, 2] / np.where(inside, z, 1) - 1) < OCCLUSION)
