# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Online check of a stereo rig's extrinsics by sparse matches of the keyframes' pairs.

Matches are searched without the extrinsics, as wrong ones would hide them. What the matches of
several keyframes contradict significantly is named and refined; the baseline's length stays as
given, because a pair cannot tell it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.epipolar import (
    epipolar_errors,
    refine_extrinsics,
    RefinedExtrinsics,
)
from recon3r_ros.slam.types import StereoView

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

#: Width that features are matched at, features of an image, matches kept of a pair, pairs kept
_WIDTH, _FEATURES, _MATCHES, _PAIRS = 480, 400, 100, 24
#: Least matches of a pair, and least pairs before anything is said, and before it is used
_LEAST, NOTICE_AFTER, REFINE_AFTER = 20, 5, 10
#: Pixels: distance of forward and backward tracking; noise of a match
_BACK, _NOISE = 0.7, 0.05
#: Standard deviations of given extrinsics, of a rotation and of the baseline's direction
_ROTATION_PRIOR, _DIRECTION_PRIOR = np.deg2rad(2.0), np.deg2rad(5.0)
#: Angles above which given extrinsics are wrong: those of a good calibration are below
_WRONG_ROTATION, _WRONG_DIRECTION = np.deg2rad(0.4), np.deg2rad(2.0)
#: Standard deviations by which an angle must differ; those of a refined value that may be used.
#: Errors of matches are correlated: their number makes them look too certain
_SIGNIFICANT, _CORRELATED = 4.0, 2.5
_SURE_ROTATION, _SURE_DIRECTION = np.deg2rad(0.1), np.deg2rad(0.6)
#: Share of the error that refinement may leave
_EXPLAINED = 0.9
#: Median error, pixels, that other causes must have
_BAD = 2.0
#: A refined value replaces the one in use where they differ by a share of what is wrong
_CHANGE = 0.2
_AXES = ('x (pitch)', 'y (yaw)', 'z (roll)')


@dataclass(frozen=True, eq=False)
class ExtrinsicsState:
    """
    What the check knows.

    :param T_cam_other: (4, 4) to be used: as given, or refined
    :param pairs: of keyframes that it rests on
    :param error_px: median epipolar error with the given extrinsics, pixels of the first camera;
        None before the first pair with enough matches
    :param refined_error_px: the same with T_cam_other
    :param notice: what is wrong, in one line; '' where nothing is
    :param refined: whether T_cam_other is refined
    """

    T_cam_other: Array
    pairs: int = 0
    error_px: float | None = None
    refined_error_px: float | None = None
    notice: str = ''
    refined: bool = False


class ExtrinsicsCheck:
    """
    Owner of what is known of the extrinsics of one pair of cameras.

    :param T_cam_other: (4, 4) as given, metres
    :param name: of the second camera, for messages
    """

    def __init__(self, T_cam_other: Array, name: str) -> None:
        self.given = T_cam_other
        self._name = name
        self._pairs: deque[tuple[Array, Array, float]] = deque(maxlen=_PAIRS)
        self.state = ExtrinsicsState(T_cam_other)

    def add(self, image: Image, camera: Camera, other: StereoView) -> ExtrinsicsState:
        """
        Take the pair of a keyframe.

        :param image: (H, W, 3) RGB or (H, W) grey of the first camera
        :param camera: its intrinsics
        :param other: of the same instant
        """
        pixels, other_pixels = matches(image, other.image)
        rays, other_rays = camera.unproject(pixels), other.camera.unproject(other_pixels)
        valid = np.isfinite(rays).all(axis=1) & np.isfinite(other_rays).all(axis=1)
        if valid.sum() >= _LEAST:
            self._pairs.append((rays[valid], other_rays[valid], float(camera.fx)))
            self.state = self._judged()
        return self.state

    def _judged(self) -> ExtrinsicsState:
        rays = np.concatenate([a for a, _, _ in self._pairs])
        other_rays = np.concatenate([b for _, b, _ in self._pairs])
        focal = self._pairs[-1][2]
        count, used = len(self._pairs), self.state.T_cam_other
        error = _median(epipolar_errors(self.given, rays, other_rays), focal)
        refined = self.state.refined
        notice, found = '', None
        if count >= NOTICE_AFTER:
            found = refine_extrinsics(self.given, rays, other_rays, _NOISE / focal,
                                      _ROTATION_PRIOR, _DIRECTION_PRIOR)
            left = _median(found.errors, focal)
            wrong = _wrong(found)
            if left > _EXPLAINED * error or not wrong:
                found = None
                if error > _BAD:
                    notice = (
                        f'{self._name}: epipolar error {error:.1f} pixels, which other extrinsics '
                        'do not explain: check intrinsics and whether both cameras are triggered '
                        'at the same time')
        if found is not None:
            if count >= REFINE_AFTER and _sure(found) and (
                    not refined or _differ(found.T_a_b, used)):
                used, refined = found.T_a_b, True
            remedy = 'calibrate the rig' if not refined else (
                f'refined ones are used; set {self._name}.T_rig_cam: {_seven(used)}')
            notice = (f'{self._name}: extrinsics are wrong: {", ".join(_wrong(found))}; epipolar '
                      f'error {error:.1f} pixels, refined {_median(found.errors, focal):.1f}: '
                      f'{remedy}')
        return ExtrinsicsState(
            used, count, error, _median(epipolar_errors(used, rays, other_rays), focal), notice,
            refined)


def matches(first: Image, other: Image) -> tuple[Array, Array]:
    """
    Match corners of two images, anywhere.

    Described at low resolution, tracked to a fraction of a pixel at the full one.

    :param first: (H, W, 3) RGB or (H, W) grey
    :param other: the same, of any size
    :return: pixels (N, 2) of both
    """
    grey, other_grey = _grey(first), _grey(other)
    factor = min(1.0, _WIDTH / grey.shape[1])
    other_factor = factor * grey.shape[1] / other_grey.shape[1]
    orb = cv2.ORB.create(_FEATURES, nlevels=3, fastThreshold=10)
    points, words = orb.detectAndCompute(_small(grey, factor), None)
    other_points, other_words = orb.detectAndCompute(_small(other_grey, other_factor), None)
    none = np.zeros((0, 2)), np.zeros((0, 2))
    if words is None or other_words is None:
        return none
    found = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(words, other_words)
    best = sorted(found, key=lambda m: m.distance)[:2 * _MATCHES]
    if len(best) < _LEAST:
        return none
    begin = _full([points[m.queryIdx].pt for m in best], factor)
    guess = _full([other_points[m.trainIdx].pt for m in best], other_factor)
    if other_grey.shape != grey.shape:
        # LK tracks between images of one size: the second camera's is brought to the first's
        zoom = np.array(grey.shape[::-1]) / other_grey.shape[::-1]
        other_grey = cv2.resize(other_grey, grey.shape[::-1])
        guess = ((guess + 0.5) * zoom - 0.5).astype(np.float32)
    else:
        zoom = np.ones(2)
    options = {'winSize': (15, 15), 'maxLevel': 1, 'flags': cv2.OPTFLOW_USE_INITIAL_FLOW}
    end, forward, _ = cv2.calcOpticalFlowPyrLK(grey, other_grey, begin, guess.copy(), **options)
    back, backward, _ = cv2.calcOpticalFlowPyrLK(other_grey, grey, end, begin.copy(), **options)
    kept = ((forward.ravel() > 0) & (backward.ravel() > 0)
            & (np.linalg.norm(back - begin, axis=1) < _BACK)
            # A match that tracking moves far was wrong
            & (np.linalg.norm(end - guess, axis=1) < 3 / factor))
    kept = np.flatnonzero(kept)[:_MATCHES]
    return (begin[kept].astype(np.float64),
            (end[kept].astype(np.float64) + 0.5) / zoom - 0.5)


def _grey(image: Image) -> Image:
    return image if image.ndim == 2 else np.asarray(
        cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def _small(image: Image, factor: float) -> Image:
    if factor == 1.0:
        return image
    return np.asarray(cv2.resize(image, None, fx=factor, fy=factor,
                                 interpolation=cv2.INTER_AREA), np.uint8)


def _full(points: list[tuple[float, float]], factor: float) -> NDArray[np.float32]:
    return ((np.array(points) + 0.5) / factor - 0.5).astype(np.float32)


def _median(errors: Array, focal: float) -> float:
    return focal * float(np.median(np.abs(errors)))


def _wrong(found: RefinedExtrinsics) -> list[str]:
    """Name the angles that are significantly wrong."""
    margin = _SIGNIFICANT * _CORRELATED
    lines = [f'rotation by {np.rad2deg(abs(angle)):.1f} deg about {axis}'
             for angle, sigma, axis in zip(found.rotation, found.rotation_sigma, _AXES)
             if abs(angle) > max(_WRONG_ROTATION, margin * sigma)]
    if found.direction > max(_WRONG_DIRECTION, margin * found.direction_sigma):
        lines.append(f'direction of the baseline by {np.rad2deg(found.direction):.1f} deg')
    return lines


def _sure(found: RefinedExtrinsics) -> bool:
    return (_CORRELATED * float(found.rotation_sigma.max()) < _SURE_ROTATION
            and _CORRELATED * found.direction_sigma < _SURE_DIRECTION)


def _differ(T_a: Array, T_b: Array) -> bool:
    """Tell whether two extrinsics differ by more than estimates do."""
    directions = [T[:3, 3] / np.linalg.norm(T[:3, 3]) for T in (T_a, T_b)]
    angle = np.arccos(np.clip(directions[0] @ directions[1], -1, 1))
    rotation = float(se3.rotation_angle(T_a[:3, :3].T @ T_b[:3, :3]))
    return bool(rotation > _CHANGE * _WRONG_ROTATION or angle > _CHANGE * _WRONG_DIRECTION)


def _seven(T: Array) -> str:
    values = (*T[:3, 3], *se3.quat_xyzw_from_matrix(T[:3, :3]))
    return '[' + ', '.join(f'{value:.6f}' for value in values) + ']'
