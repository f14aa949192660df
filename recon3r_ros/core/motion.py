# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Which pixels move by themselves: measured flow against the flow that camera and depth explain.

Easi3R (Chen et al., 2025, eq. 11) and MonST3R (Zhang et al., ICLR 2025, section 3.3) take a pixel for
moving where the two differ. Here the difference is measured to an interval: a pixel's depth is known
to lie between two bounds, so a static point must be seen between the bounds' projections, a piece of
its epipolar line. Where nothing is known the interval reaches from infinity to very near. An error of
the depth inside its bounds is thus never motion, nor is parallax at depth edges.

Evidence is collected over time in a score per pixel that moves with the flow: log odds in spirit.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from recon3r_ros.core.types import Keyframe
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.inference.flow import pixel_positions, sample

Array = NDArray[np.float64]
Map = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: The mask has 1 / this of the tracking image's width and height
MASK_STEP = 2
#: Residuals are computed on every second pixel of the mask: DIS' fastest preset resolves no more
CELL = 2
#: Frames back that flow is measured to, a short and a long baseline: in 1/10 s and 1/3 s at 30 Hz
#: things that move leave their place by several pixels while most of them stays in view
LAGS = (3, 9)
#: Median flow (share of the image's width) beyond which a nearer frame is taken: patches lose track
MAX_FLOW = 0.12
#: Least noise of flow, mask pixels: DIS without variational refinement (Kroeger et al., section 3)
MIN_NOISE = 0.5
RELATIVE_NOISE = 0.05
REACH = 0.2
MIN_VALID = 0.05
SURROUNDINGS = 8
#: Residual over noise beyond which a pixel speaks for motion; flow errors have heavier tails than a
#: normal distribution, whose 99.9 % lie within 3.3
MOVING = 4.0
#: Round trips that end farther away than this, plus a share of the way, lead over an occlusion
ROUND_TRIP, ROUND_TRIP_SHARE = 0.5, 0.1
#: Bounds of a known depth: this many standard deviations, at least this relative error
DEPTH_SIGMAS, MIN_DEPTH_SIGMA = 2.0, 0.03
#: Nearest depth where none is known, relative to the nearest known depths
NEAREST = 0.5
#: Least eigenvalue of the structure tensor that makes flow meaningful: twice that of sensor noise of
#: two grey levels
MIN_TEXTURE = 2e-4
#: How much of the score a frame inherits; bounds of the score; how much `still` votes count
MEMORY, MEMORY_UNKNOWN, SCORE_LIMIT = 0.97, 0.97, 3.0
MOVING_VOTE, STILL_VOTE, ALIKE_VOTE, ALIKE, OLDER, PATCH = 1.0, 0.3, 1.0, 1.5, 2, 3
#: A moving region has scores above LOW throughout and above HIGH somewhere: two votes and more
LOW, HIGH = 1.0, 2.0
#: Regions below this share of the image are noise
MIN_REGION = 0.002


@dataclass(frozen=True, eq=False)
class _Past:
    """A frame seen before, in mask pixels, with its pose in the present reference's frame."""

    gray: NDArray[np.uint8]
    T_ref_cam: Array


@dataclass(frozen=True, eq=False)
class _Surface:
    """Bounds of the reference's inverse depths on its grid, flattened, farthest first."""

    rays: Map  # (N, 3)
    middle: Map  # (N,)
    low: Map
    high: Map
    nearest: float

    def moved(self, T_new_old: Array) -> _Surface:
        """Express the surface in another frame."""
        T = T_new_old.astype(np.float32)
        points = self.rays @ T[:3, :3].T + self.middle[:, None] * T[:3, 3]
        use = points[:, 2] > 0.05
        z = points[use, 2]
        middle = self.middle[use] / z
        order = np.argsort(middle)
        return _Surface((points[use] / z[:, None])[order], middle[order],
                        (self.low[use] / z)[order], (self.high[use] / z)[order], self.nearest)


@dataclass(frozen=True, eq=False)
class _Bounds:
    """Between which inverse depths (h, w) a frame's cells may lie, and between which they likely do."""

    low: Map
    high: Map
    likely_low: Map
    likely_high: Map
    known: Mask
    own: Mask


class MotionDetector:
    """
    Masks what moves, frame by frame.

    :param camera: pinhole camera of the tracking images
    """

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        self.width = max(camera.width // MASK_STEP, 16)
        self.height = max(camera.height // MASK_STEP, 16)
        self._size = (self.width, self.height)
        self._cells = (max(self.width // CELL, 8), max(self.height // CELL, 8))
        # Coordinates of the cells' centres in mask pixels
        self._scale = np.float32([self.width / self._cells[0], self.height / self._cells[1]])
        self._positions = ((pixel_positions(self._cells[1], self._cells[0]) + 0.5) * self._scale
                           - 0.5).astype(np.float32)
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._flow.setFinestScale(1)
        self._flow.setGradientDescentIterations(6)
        self._check = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._check.setFinestScale(1)
        self._check.setGradientDescentIterations(6)
        self.reset()

    def reset(self) -> None:
        """Forget all frames."""
        self._past: deque[_Past] = deque(maxlen=max(LAGS))
        self._reference: Keyframe | None = None
        self._surface: _Surface | None = None
        self._older: list[_Surface] = []
        self._appearance = np.zeros((self._cells[1], self._cells[0]), np.float32)
        self._last_gray: NDArray[np.uint8] | None = None
        self._count = 0
        self._score = np.zeros((self._cells[1], self._cells[0]), np.float32)

    def detect(self, gray: NDArray[np.uint8], T_ref_cam: Array, reference: Keyframe) -> Mask:
        """
        Find what moves in a frame.

        :param gray: (H, W) uint8 image of the tracking camera
        :param T_ref_cam: (4, 4) pose of the frame in the reference's camera frame, map units
        :param reference: the newest keyframe; its depth should not include what moves
        :return: (H // 2, W // 2)
        """
        small = cv2.resize(gray, self._size, interpolation=cv2.INTER_AREA)
        self._follow(reference)
        bounds = self._bounds(T_ref_cam)
        lag, past = self._choose(T_ref_cam)
        flow, valid = self._measure(small, past.gray)
        T_past_cam = se3.inverse(past.T_ref_cam) @ T_ref_cam
        valid &= self._texture(small) > MIN_TEXTURE
        valid &= cv2.magnitude(*cv2.split(flow)) < REACH * self.width
        possible = self._residual(flow, T_past_cam, bounds.low, bounds.high)
        likely = self._residual(flow, T_past_cam, bounds.likely_low, bounds.likely_high)
        self._score = self._carried(flow, lag, T_past_cam, T_ref_cam, bounds)
        alike = self._looks_alike(small, T_ref_cam, bounds)
        self._score += _votes(possible, likely, cv2.magnitude(*cv2.split(flow)), valid, alike)
        np.clip(self._score, -SCORE_LIMIT, SCORE_LIMIT, out=self._score)
        self._past.append(_Past(small, T_ref_cam))
        self._last_gray = gray
        self._count += 1
        return self._segment(self._score)

    def _carried(self, flow: Map, lag: int, T_past_cam: Array, T_ref_cam: Array, bounds: _Bounds
                 ) -> Map:
        """Take over the previous frame's score along the flow, interpolated between `lag` frames."""
        T_last_cam = se3.inverse(self._past[-1].T_ref_cam) @ T_ref_cam
        middle = 0.5 * (bounds.likely_low + bounds.likely_high)
        before = self._seen(T_last_cam, middle)
        if lag > 1:
            before += (self._positions + flow - self._seen(T_past_cam, middle)) / lag
        else:
            before = self._positions + flow
        score = cv2.remap(self._score, (before + 0.5) / self._scale - 0.5, None, cv2.INTER_LINEAR,
                          borderMode=cv2.BORDER_REPLICATE)
        return score * np.where(bounds.known, MEMORY, MEMORY_UNKNOWN).astype(np.float32)

    def _follow(self, reference: Keyframe) -> None:
        """Take over a new reference: express earlier poses in its frame, bound its depths."""
        if reference is self._reference:
            return
        old = self._reference
        if old is None:
            small = cv2.resize(reference.gray, self._size, interpolation=cv2.INTER_AREA)
            self._past.append(_Past(small, np.eye(4)))
        elif old.id != reference.id:
            T_new_old = se3.inverse(reference.T_map_cam) @ old.T_map_cam
            if (self._last_gray is not None and self._past
                    and np.array_equal(self._last_gray, reference.gray)):
                # As it was tracked: the other poses are consistent with that
                T_new_old = se3.inverse(self._past[-1].T_ref_cam)
            self._older = [s.moved(T_new_old) for s in [self._surface, *self._older][:OLDER]
                           if s is not None]
            self._past = deque((_Past(p.gray, T_new_old @ p.T_ref_cam) for p in self._past),
                               maxlen=max(LAGS))
        self._reference = reference
        self._surface = self._bounded(reference)
        self._appearance = self._look(cv2.resize(reference.gray, self._size, interpolation=cv2.INTER_AREA))

    def _bounded(self, reference: Keyframe) -> _Surface:
        known = (reference.inverse_depth > 0) & ~reference.mask
        sigma = DEPTH_SIGMAS * np.maximum(
            1 / np.sqrt(np.maximum(reference.confidence, 1e-6)), MIN_DEPTH_SIGMA)
        factor = np.exp(np.minimum(sigma, 2.0)).astype(np.float32)
        kernel = np.ones((3, 3), np.uint8)
        far = np.float32(1e9)
        low = cv2.erode(np.where(known, reference.inverse_depth / factor, far), kernel)
        high = cv2.dilate(np.where(known, reference.inverse_depth * factor, 0), kernel)
        shape = reference.inverse_depth.shape
        rows = np.minimum(np.arange(self._cells[1]) * shape[0] // self._cells[1], shape[0] - 1)
        cols = np.minimum(np.arange(self._cells[0]) * shape[1] // self._cells[0], shape[1] - 1)
        grid = np.ix_(rows, cols)
        use = known[grid].ravel()
        middle = reference.inverse_depth[grid].ravel()[use]
        order = np.argsort(middle)
        camera = reference.camera
        rays = np.stack(np.broadcast_arrays(
            (cols[None, :] - camera.cx) / camera.fx, (rows[:, None] - camera.cy) / camera.fy, 1.0),
            axis=-1).reshape(-1, 3)[use][order].astype(np.float32)
        nearest = float(np.percentile(middle, 98)) if len(middle) else 1.0
        return _Surface(rays, middle[order], low[grid].ravel()[use][order],
                        high[grid].ravel()[use][order], nearest / NEAREST)

    def _bounds(self, T_ref_cam: Array) -> _Bounds:
        """Bounds of the inverse depth of the frame's cells, by projecting the reference's."""
        surface = self._surface
        assert surface is not None
        low, high = self._render(surface, T_ref_cam)
        own = high > 0
        for older in self._older:
            # What is hidden now, or moved when the reference was taken
            older_low, older_high = self._render(older, T_ref_cam)
            fill = (high <= 0) & (older_high > 0)
            low[fill], high[fill] = older_low[fill], older_high[fill]
        width, height = self._cells
        far = np.float32(1e9)
        known = high > 0
        # An unknown depth is likely one of its surroundings
        around = np.ones((2 * (height // SURROUNDINGS) + 1,) * 2, np.uint8)
        likely_low = np.where(known, low, cv2.erode(low, around))
        likely_high = np.where(known, high, cv2.dilate(high, around))
        likely_low[likely_low >= far] = 0
        return _Bounds(np.where(known, low, 0).astype(np.float32),
                       np.where(known, high, surface.nearest).astype(np.float32),
                       likely_low, likely_high, known, own)

    def _render(self, surface: _Surface, T_ref_cam: Array) -> tuple[Map, Map]:
        """Bounds of the cells' inverse depths from a surface: (1e9, 0) where it has none."""
        T = se3.inverse(T_ref_cam).astype(np.float32)
        K = self._matrix().astype(np.float32)
        K[:2, 2] += 0.5
        K[:2] /= self._scale[:, None]
        points = surface.rays @ T[:3, :3].T + surface.middle[:, None] * T[:3, 3]
        z = np.maximum(points[:, 2], 1e-3)
        pixels = points @ K[:2].T / z[:, None]
        width, height = self._cells
        inside = ((pixels > 0) & (pixels < [width, height])).all(1) & (points[:, 2] > 1e-2)
        cols, rows = pixels[inside].astype(np.int32).T
        z = z[inside]
        low = np.full((height, width), 1e9, np.float32)
        high = np.zeros((height, width), np.float32)
        # Nearest last, so that it stays where several points fall into one cell
        low[rows, cols] = surface.low[inside] / z
        high[rows, cols] = surface.high[inside] / z
        kernel = np.ones((3, 3), np.uint8)
        return cv2.erode(low, kernel), cv2.dilate(high, kernel)

    def _look(self, small: NDArray[np.uint8]) -> Map:
        """Grey values of the cells, a little blurred."""
        cells = cv2.resize(small, self._cells, interpolation=cv2.INTER_AREA)
        return cv2.GaussianBlur(cells, (3, 3), 0).astype(np.float32)

    def _looks_alike(self, small: NDArray[np.uint8], T_ref_cam: Array, bounds: _Bounds) -> Mask:
        """Where a cell looks as its depth says that it does in the reference."""
        seen = self._seen(T_ref_cam, 0.5 * (bounds.low + bounds.high))
        then = sample(self._appearance, (seen + 0.5) / self._scale - 0.5, -1e3)
        difference = cv2.blur(cv2.absdiff(self._look(small), then), (PATCH, PATCH))
        if not bounds.own.any():
            return bounds.own
        usual = float(np.median(difference[bounds.own]))
        return bounds.own & (difference < ALIKE * max(usual, 1.0))

    def _matrix(self) -> Array:
        """Intrinsics (3, 3) in mask pixels."""
        camera = self.camera.resized(self.width, self.height)
        return camera.K

    def _texture(self, small: NDArray[np.uint8]) -> Map:
        """Smaller eigenvalue of the structure tensor in each cell."""
        return cv2.cornerMinEigenVal(cv2.resize(small, self._cells, interpolation=cv2.INTER_AREA),
                                     blockSize=5, ksize=3)

    def _choose(self, T_ref_cam: Array) -> tuple[int, _Past]:
        """Pick an earlier frame to compare with, and how many frames ago it was."""
        surface = self._surface
        assert surface is not None
        fx = self._matrix()[0, 0]
        typical = float(np.median(surface.middle)) if len(surface.middle) else 1.0
        for lag in range(min(LAGS[self._count % len(LAGS)], len(self._past)), 1, -1):
            T = se3.inverse(self._past[-lag].T_ref_cam) @ T_ref_cam
            shift = fx * (se3.rotation_angle(T[:3, :3])
                          + typical * float(np.linalg.norm(T[:3, 3])))
            if shift < MAX_FLOW * self.width:
                return lag, self._past[-lag]
        return 1, self._past[-1]

    def _measure(self, small: NDArray[np.uint8], past: NDArray[np.uint8]) -> tuple[Map, Mask]:
        """Flow of the cells to an earlier frame, and where it finds its way back."""
        forward = self._flow.calc(small, past, None)
        backward = self._check.calc(past, small, None)
        flow = cv2.resize(forward, self._cells, interpolation=cv2.INTER_AREA)
        targets = self._positions + flow
        back = sample(cv2.resize(backward, self._cells, interpolation=cv2.INTER_AREA),
                      ((targets + 0.5) / self._scale - 0.5).astype(np.float32), 1e3)
        error = cv2.magnitude(*cv2.split(flow + back))
        length = cv2.magnitude(*cv2.split(flow))
        return flow, error < ROUND_TRIP + ROUND_TRIP_SHARE * length

    def _seen(self, T_past_cam: Array, inverse_depth: Map) -> Map:
        """Where (h, w, 2) static cells of these inverse depths were seen in an earlier frame."""
        # K R K^-1 and K t act on pixels directly
        K = self._matrix()
        H = (K @ T_past_cam[:3, :3] @ np.linalg.inv(K)).astype(np.float32)
        e = (K @ T_past_cam[:3, 3]).astype(np.float32)
        a, b, c = cv2.split(cv2.transform(self._positions, H))
        if e[2] < 0:
            inverse_depth = np.minimum(inverse_depth, 0.9 / -e[2] * c)
        z = 1 / (c + inverse_depth * e[2])
        return cv2.merge([(a + inverse_depth * e[0]) * z, (b + inverse_depth * e[1]) * z])

    def _residual(self, flow: Map, T_past_cam: Array, low: Map, high: Map) -> Map:
        """Distance (mask pixels) between where a cell is seen and where it could be, were it static."""
        far = self._seen(T_past_cam, low)
        du, dv = cv2.split(self._seen(T_past_cam, high) - far)
        x, y = cv2.split(self._positions + flow - far)
        along = np.clip((x * du + y * dv) / np.maximum(du * du + dv * dv, 1e-9), 0, 1)
        return cv2.magnitude(x - along * du, y - along * dv)

    def _segment(self, score: Map) -> Mask:
        full = cv2.resize(score, self._size, interpolation=cv2.INTER_LINEAR)
        candidates = (full > LOW).astype(np.uint8)
        candidates = cv2.morphologyEx(candidates, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
        count, labels, stats, _ = cv2.connectedComponentsWithStats(candidates)
        peaks = np.zeros(count, bool)
        peaks[np.unique(labels[full > HIGH])] = True
        keep = peaks & (stats[:, cv2.CC_STAT_AREA] >= MIN_REGION * labels.size)
        keep[0] = False
        return keep[labels]


def _votes(possible: Map, likely: Map, length: Map, valid: Mask, alike: Mask
           ) -> Map:
    """
    Votes in [-VOTE, VOTE] from residuals, normalised by their own noise level.

    :param possible: (h, w) distance to where a static cell can be
    :param likely: (h, w) to where it likely is
    :param length: (h, w) of the flow
    """
    if valid.sum() < MIN_VALID * valid.size:
        return np.zeros_like(possible)
    noise = max(MIN_NOISE, 1.4826 * float(np.median(likely[valid])))
    threshold = MOVING * np.maximum(noise, RELATIVE_NOISE * length)
    # Between the two nothing is said
    votes = (np.clip(2 * (possible / threshold - 1), 0, 1)
             - np.clip(2 * (1 - likely / threshold), 0, 1))
    votes *= np.where(votes > 0, MOVING_VOTE, np.where(alike, ALIKE_VOTE, STILL_VOTE))
    return np.where(valid, votes, np.where(alike, -ALIKE_VOTE, 0)).astype(np.float32)


def keyframe_mask(mask: Mask, keyframe: Keyframe) -> Mask:
    """
    Bring a detector's mask of the keyframe's own image to the keyframe's grid, with a margin.

    :param mask: (h, w) of any size
    :return: (H, W) on the grid, what to leave out of the map
    """
    height, width = keyframe.inverse_depth.shape
    full = cv2.resize(mask.astype(np.uint8) * 255, (width, height),
                      interpolation=cv2.INTER_LINEAR) >= 64
    # The margin covers what the cells blur: one and a half cells of the detector
    margin = max(3, 2 * round(0.006 * width) + 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin // 2 + 1,) * 2)
    return cv2.dilate(full.astype(np.uint8), kernel).astype(bool)
