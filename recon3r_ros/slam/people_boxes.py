# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Boxes of people in space: a mask and depth become an upright box in a frame whose z is up.

Only the side of a person that the camera sees has depth. A person whose depth is unknown has no
box: none is invented.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import pinhole, se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.models.people_mask import MIN_SCORE
from recon3r_ros.slam.dynamics.movers import (
    MEASURED_CONFIDENCE,
    STANDING_CONFIDENCE,
    standing_depth,
)
from recon3r_ros.slam.semantics import People
from recon3r_ros.slam.visibility import Surface

Array = NDArray[np.float64]

#: Pixels of a person with depth at least, and share of the person's pixels
MIN_PIXELS, MIN_KNOWN = 64, 0.2
#: Depth further from a person's median than this many median absolute deviations is another
#: surface's; the deviation is at least this share of the depth
DEVIATIONS, MIN_SPREAD = 3.0, 0.01
#: Percentiles of a person's points between which the box reaches
LOW, HIGH = 2.0, 98.0
#: Least thickness of a box along the view, share of its largest side: the far side is not seen
MIN_THICKNESS = 0.15
#: Points of a person that are used at most
MAX_POINTS = 4000


@dataclass(frozen=True, eq=False)
class PersonBox:
    """
    An upright box around what is seen of a person, in a frame whose z is up.

    :param instance: value of the person's pixels in `People.instances`
    :param score: of the detection, [0, 1]
    :param centre: (3,)
    :param yaw: angle of the box's first axis about z, radians
    :param size: (3,) along the box's axes: away from the camera, across, and up
    :param covariance: (3, 3) of the centre: the error of the depth, along the viewing ray
    """

    instance: int
    score: float
    centre: Array
    yaw: float
    size: Array
    covariance: Array


def person_boxes(people: People, mask: NDArray[np.bool_], depth: NDArray[np.float32] | Surface,
                 camera: Camera, T_up_cam: Array, unit: float = 1.0) -> list[PersonBox]:
    """
    Find the boxes of the people in an image.

    :param people: (H, W), in the pixels of `camera`
    :param mask: (H, W) all that is dynamic, people included
    :param depth: (H, W) measured depth, NaN where unknown; or where there is none, a keyframe's
        static surface: the depth of a person is that of what is right below
    :param camera: pinhole camera
    :param T_up_cam: (4, 4) pose of the camera in a frame whose z is up
    :param unit: length of the unit of `depth` in that of `T_up_cam`
    :return: a box for each person whose depth is known, in the order of their instances
    """
    found = []
    for instance in people.ids:
        score = people.scores.get(instance, 1.0)
        if score < MIN_SCORE:
            continue
        own = people.instances == instance
        if isinstance(depth, Surface):
            pixels, depths = _standing(own, mask | own, depth)
            sigma = STANDING_CONFIDENCE ** -0.5
        else:
            pixels, depths = _measured(own, depth)
            sigma = MEASURED_CONFIDENCE ** -0.5
        if len(pixels):
            points = pinhole.rays(pixels, camera) * (unit * depths)[:, None]
            found.append(_box(instance, score, points.astype(np.float64), T_up_cam, sigma))
    return found


def _measured(own: NDArray[np.bool_], depth: NDArray[np.float32]
              ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Pixels (n, 2) of a person and their depths (n,), of one surface; none where too few."""
    known = own & (np.isfinite(depth) & (depth > 0))
    rows, columns = np.nonzero(known)
    if len(rows) < max(MIN_PIXELS, MIN_KNOWN * np.count_nonzero(own)):
        return _none()
    depths = depth[rows, columns]
    median = np.median(depths)
    deviation = np.abs(depths - median)
    near = deviation <= DEVIATIONS * max(float(np.median(deviation)), MIN_SPREAD * float(median))
    return _thinned(rows[near], columns[near], depths[near])


def _standing(own: NDArray[np.bool_], mask: NDArray[np.bool_], surface: Surface
              ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Pixels (n, 2) of a person and their one depth (n,); none where it is not known."""
    if np.count_nonzero(own) < MIN_PIXELS:
        return _none()
    left, top, width, height = cv2.boundingRect(own.astype(np.uint8))
    region = own[top:top + height, left:left + width]
    depth = standing_depth(region, top, left, mask, surface)
    if not (np.isfinite(depth) and depth > 0):
        return _none()
    rows, columns = np.nonzero(region)
    return _thinned(top + rows, left + columns, np.full(len(rows), depth, np.float32))


def _none() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return np.zeros((0, 2), np.float32), np.zeros(0, np.float32)


def _thinned(rows: NDArray[np.int64], columns: NDArray[np.int64], depths: NDArray[np.float32]
             ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    step = 1 + len(rows) // MAX_POINTS
    return (np.stack([columns[::step], rows[::step]], axis=1).astype(np.float32), depths[::step])


def _box(instance: int, score: float, points: Array, T_up_cam: Array, sigma: float) -> PersonBox:
    """
    Make the box around points.

    :param points: (n, 3) in the camera frame
    :param sigma: relative error of their depth
    """
    placed, eye = se3.transform(T_up_cam, points), T_up_cam[:3, 3]
    view = np.median(placed, axis=0) - eye
    # Seen from right above, no horizontal direction leads away from the camera
    level = np.hypot(view[0], view[1]) > 1e-3 * np.linalg.norm(view)
    yaw = float(np.arctan2(view[1], view[0])) if level else 0.0
    R = _about_z(yaw)
    low, high = np.percentile(placed @ R, (LOW, HIGH), axis=0)
    high[0] = max(high[0], low[0] + MIN_THICKNESS * float((high - low).max()))
    centre = R @ ((low + high) / 2)
    error = sigma * (centre - eye)
    return PersonBox(instance, score, centre, yaw, high - low, np.outer(error, error))


def _about_z(yaw: float) -> Array:
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
