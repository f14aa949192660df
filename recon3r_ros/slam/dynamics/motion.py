# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Dynamic objects by residual flow: measured flow against the flow of a static scene.

Easi3R (Chen et al., 2025, eq. 11) and MonST3R (Zhang et al., ICLR 2025, section 3.3) take a pixel
for moving where the two differ. Here the difference is measured to an interval: a pixel's depth is
known to lie between two bounds, so a static point must be seen between the bounds' projections, on
a piece of its epipolar line. Where nothing is known the interval reaches from infinity to very
near. An error of the depth inside its bounds is thus never motion, nor is parallax at depth edges.

Evidence is collected over time in a score per pixel that moves with the flow: log odds in spirit.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
import math

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.slam.dynamics import evidence
from recon3r_ros.slam.dynamics.cells import CELL, Cells
from recon3r_ros.slam.dynamics.depth_bounds import BoundedSurface
from recon3r_ros.slam.dynamics.inverse_search import flow, Level, pyramid
from recon3r_ros.slam.dynamics.regions import large_regions
from recon3r_ros.slam.dynamics.resting import Resting
from recon3r_ros.slam.types import Keyframe

Array = NDArray[np.float64]
Map = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Flow of patches is a little coarser than cells: weights of a cell and of its neighbours
FLOW_KERNEL = np.array([1, 6, 1], np.float32) / 8
#: Frames back that flow is measured to, in turn: the short way blurs outlines less, on the long
#: way slow things move farther
LAGS = (2, 6)
#: Flow of the static scene (share of the image's width) beyond which a nearer frame is taken, and
#: length beyond which flow is not trusted: coarse-to-fine search loses motion that far
MAX_FLOW, REACH = 0.12, 0.2
#: A moving region has scores above LOW throughout and above HIGH, two or three votes, somewhere
LOW, HIGH = 1.0, 2.0
#: Regions below this share of the image are noise
MIN_REGION = 0.002
#: Flow and grey value beyond an image's border, which agree with nothing
NO_FLOW, NO_GREY = 1e3, -1e3
#: Margin around dynamic objects that stays out of the map, share of the image's width
MARGIN = 0.01


@dataclass(frozen=True, eq=False)
class _Past:
    """A frame seen before, in cells, with its pose in the present reference's frame."""

    levels: list[Level]
    T_ref_cam: Array
    T_cam_ref: Array

    @classmethod
    def of(cls, levels: list[Level], T_ref_cam: Array) -> _Past:
        return cls(levels, T_ref_cam, se3.inverse(T_ref_cam))


_REFERENCE = _Past([], np.eye(4), np.eye(4))


class MotionDetector:
    """
    Masks dynamic objects, frame by frame.

    :param camera: pinhole camera of the tracking images
    :param rest_s: seconds for which `unsettled` keeps what was dynamic
    """

    def __init__(self, camera: Camera, rest_s: float = 0.0) -> None:
        self._rest_s = rest_s
        self._cells = Cells.of_camera(camera)
        self.reset()

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of masks: a third of the image's, at least 16 each."""
        return self._cells.height, self._cells.width

    def refocus(self, camera: Camera) -> None:
        """Set another camera for images of the same size."""
        self._cells = self._cells.refocused(camera)

    def reset(self) -> None:
        """Drop all frames."""
        self._past: deque[_Past] = deque(maxlen=max(LAGS))
        self._reference: Keyframe | None = None
        self._surface: BoundedSurface | None = None
        self._typical = 1.0
        self._appearance = _bordered(np.zeros(self._cells.shape, np.float32), NO_GREY)
        self._count = 0
        #: Evidence (h, w) for motion in the newest frame's cells, and what it says by itself
        self.score = np.zeros(self._cells.shape, np.float32)
        self.votes = np.zeros_like(self.score)
        self._resting = Resting(self.score.shape, self._rest_s)

    def detect(self, gray: NDArray[np.uint8], T_ref_cam: Array, reference: Keyframe,
               stamp_ns: int = 0) -> Mask:
        """
        Find dynamic objects in a frame.

        :param gray: (H, W) uint8 image of the tracking camera
        :param T_ref_cam: (4, 4) pose of the frame in the reference's camera frame, map units
        :param reference: a keyframe near it; its depth should not include dynamic objects
        :param stamp_ns: of the frame, for `unsettled`
        :return: (H // 3, W // 3), at least 16 each
        """
        self.follow(reference)
        image = self._cells.of_image(gray)
        frame = _Past.of(pyramid(image), T_ref_cam)
        before = self._collect(image, frame)
        self._past.append(frame)
        self._count += 1
        mask = self.segment(self.score)
        moving = self._cells.of_mask(mask) if mask.any() else np.zeros(self.score.shape, bool)
        self._resting.update(moving, before, stamp_ns * 1e-9)
        return mask

    def _collect(self, image: NDArray[np.uint8], frame: _Past) -> Map:
        """
        Collect the evidence of a frame.

        :return: (2, rows, columns) where the previous frame saw what the cells show, in cells
        """
        assert self._surface is not None
        lag, past = self._choose(frame.T_ref_cam)
        P = self._cells.projections(np.stack([other.T_cam_ref @ frame.T_ref_cam
                                              for other in (past, self._past[-1], _REFERENCE)]))
        bounds = self._surface.seen(frame.T_cam_ref, self._cells)
        forward, positions = _measured(frame, past), self._cells.positions
        residual = np.empty((3, *self._cells.shape), np.float32)
        valid = np.empty(self._cells.shape, bool)
        evidence.residuals(positions, forward, _bordered(_measured(past, frame), NO_FLOW),
                           cv2.cornerMinEigenVal(image, blockSize=5, ksize=3),
                           bounds.values, P[0], REACH * self._cells.width, residual, valid)
        before, then = np.empty_like(positions), np.empty_like(positions)
        evidence.correspondences(positions, forward, bounds.values, P, lag, before, then)
        look, score, votes = np.empty((3, *self._cells.shape), np.float32)
        evidence.interpolate(self._appearance, then, look)
        difference = cv2.blur(cv2.absdiff(_look(image), look), (3, 3))
        evidence.interpolate(
            cv2.copyMakeBorder(self.score, *evidence.BORDER, cv2.BORDER_REPLICATE), before, score)
        evidence.vote(residual, valid, difference, bounds.known, votes, score)
        self.score, self.votes = score, votes
        return before

    def unsettled(self, stamp_ns: int) -> Mask:
        """
        Mask what may not enter the map yet: dynamic in the newest frame, or shortly before.

        :return: (H // 3, W // 3), at least 16 each
        """
        mask = self._resting.unsettled(stamp_ns * 1e-9).astype(np.uint8)
        return cv2.resize(mask, self.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0

    def rescale(self, reference: Keyframe, factor: float) -> None:
        """Scale past poses by a factor, as a loop closure scaled the reference's depths."""
        self._past = deque((_Past.of(p.levels, se3.stretched(p.T_ref_cam, factor))
                            for p in self._past), maxlen=max(LAGS))
        self.follow(reference)

    def follow(self, reference: Keyframe, T_new_old: Array | None = None) -> None:
        """
        Take over a new reference: express what is known in its frame, bound its depths.

        :param T_new_old: (4, 4) pose of the former reference in the new one as it was tracked,
            with which the poses of the frames so far agree; None takes the map's
        """
        if reference is self._reference:
            return
        old, older = self._reference, self._surface
        gray = self._cells.of_image(reference.gray)
        if old is None:
            self._past.append(_Past.of(pyramid(gray), np.eye(4)))
        elif old.id == reference.id:
            older = None
        else:
            if T_new_old is None:
                T_new_old = se3.inverse(reference.T_map_cam) @ old.T_map_cam
            self._past = deque((_Past.of(p.levels, T_new_old @ p.T_ref_cam) for p in self._past),
                               maxlen=max(LAGS))
            assert older is not None
            older = older.moved(T_new_old)
        self._reference = reference
        self._surface = BoundedSurface.of(reference, self._cells, older)
        self._typical = self._surface.typical()
        self._appearance = _bordered(_look(gray), NO_GREY)

    def _choose(self, T_ref_cam: Array) -> tuple[int, _Past]:
        """Pick an earlier frame to compare with, and how many frames ago it was."""
        fx = self._cells.K[0, 0]
        for lag in range(min(LAGS[self._count % len(LAGS)], len(self._past)), 1, -1):
            T = self._past[-lag].T_cam_ref @ T_ref_cam
            shift = fx * (_angle(T) + self._typical * math.hypot(*T[:3, 3]))
            if shift < MAX_FLOW * self._cells.width:
                return lag, self._past[-lag]
        return 1, self._past[-1]

    def segment(self, score: Map) -> Mask:
        """
        Regions of high score.

        :param score: (h, w) of cells
        :return: (H // 3, W // 3), at least 16 each
        """
        if not score.max() > HIGH:
            return np.zeros(self.shape, bool)
        full = cv2.resize(score, self.shape[::-1], interpolation=cv2.INTER_LINEAR)
        candidates = cv2.morphologyEx((full > LOW).astype(np.uint8), cv2.MORPH_CLOSE,
                                      np.ones((2 * CELL + 1,) * 2, np.uint8))
        # Patches that overlap an outline move with what has more texture: mostly the nearer side
        candidates = cv2.erode(candidates, np.ones((CELL + 1,) * 2, np.uint8), borderValue=1)
        mask = large_regions(candidates, MIN_REGION, full > HIGH)
        # What a moving region encloses moves too, unless it was seen standing still
        outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL,
                                       cv2.CHAIN_APPROX_NONE)
        filled = cv2.drawContours(np.zeros(mask.shape, np.uint8), outlines, -1, 1, cv2.FILLED)
        return mask | ((filled > 0) & (full > -LOW))


def _measured(frame: _Past, other: _Past) -> Map:
    """Flow (2, rows, columns) of the cells from one frame to another, mask pixels."""
    out = np.empty((2, *frame.levels[0].shape), np.float32)
    for channel, smoothed in zip(flow(frame.levels, other.levels), out):
        cv2.sepFilter2D(channel, -1, CELL * FLOW_KERNEL, FLOW_KERNEL, smoothed,
                        borderType=cv2.BORDER_REPLICATE)
    return out


def _look(gray: NDArray[np.uint8]) -> Map:
    """Grey values of cells, a little blurred."""
    return cv2.GaussianBlur(gray, (3, 3), 0).astype(np.float32)


def _bordered(field: Map, outside: float) -> Map:
    """Give fields (..., rows, columns) the border that `evidence` expects."""
    above, below, left, right = evidence.BORDER
    out = np.full((*field.shape[:-2], field.shape[-2] + above + below,
                   field.shape[-1] + left + right), outside, np.float32)
    out[..., above:-below, left:-right] = field
    return out


def _angle(T: Array) -> float:
    """Angle of a rigid motion's rotation, by its sine and cosine."""
    sine = math.hypot(T[2, 1] - T[1, 2], T[0, 2] - T[2, 0], T[1, 0] - T[0, 1])
    return math.atan2(sine, T[0, 0] + T[1, 1] + T[2, 2] - 1)


def keyframe_mask(mask: Mask, keyframe: Keyframe) -> Mask:
    """
    Bring a detector's mask of the keyframe's own image to the keyframe's grid, with a margin.

    :param mask: (h, w) of any size
    :return: (H, W) on the grid, what to leave out of the map
    """
    height, width = keyframe.inverse_depth.shape
    full = cv2.resize(mask.astype(np.uint8) * 255, (width, height),
                      interpolation=cv2.INTER_LINEAR) >= 64
    # The detector's cells are two pixels of a usual grid wide
    margin = max(1, round(MARGIN * width))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1,) * 2)
    return cv2.dilate(full.astype(np.uint8), kernel).astype(bool)
