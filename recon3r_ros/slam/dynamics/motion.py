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

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.flow import sample
from recon3r_ros.slam.dynamics.cells import CELL, Cells
from recon3r_ros.slam.dynamics.depth_bounds import BoundedSurface, DepthBounds
from recon3r_ros.slam.dynamics.mask_refinement import grabcut, MaskRefiner
from recon3r_ros.slam.dynamics.regions import large_regions
from recon3r_ros.slam.dynamics.resting import Resting
from recon3r_ros.slam.types import Keyframe

Array = NDArray[np.float64]
Map = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Size and distance of the patches of optical flow, in cells: large ones spread motion beyond its
#: outline by half their size
PATCH_SIZE, PATCH_STRIDE, FLOW_ITERATIONS = 6, 4, 6
#: Frames back that flow is measured to, in turn: the short way blurs outlines less, on the long
#: way slow things move farther
LAGS = (2, 6)
#: Flow of the static scene (share of the image's width) beyond which a nearer frame is taken, and
#: length beyond which flow is not trusted: coarse-to-fine search loses motion that far
MAX_FLOW, REACH = 0.12, 0.2
#: Noise of flow: at least this many mask pixels, the usual error of inverse search, and this share
#: of its length, because patches do not turn or scale with the scene
MIN_NOISE, RELATIVE_NOISE = 0.35, 0.05
#: Residual over noise beyond which a pixel speaks for motion: 99.7 % of a normal distribution
MOVING = 3.0
#: Round trips that end farther away (mask pixels, and share of the way) lead over an occlusion
ROUND_TRIP, ROUND_TRIP_SHARE = 0.5, 0.1
#: Share of pixels with valid flow below which a frame says nothing
MIN_VALID = 0.05
#: Least eigenvalue of the structure tensor (OpenCV's scaling) that makes flow meaningful: below it
#: lies the noise of a camera on a blank wall
MIN_TEXTURE = 2e-4
#: A cell looks as it did when its grey value, averaged with its neighbours', differs by less than
#: this many times what is usual
ALIKE = 1.5
#: Votes: for motion, for stillness (weak, because things pause), and for stillness where the cell
#: also looks as in the reference (strong, because what moved away uncovers what was there before)
MOVING_VOTE, STILL_VOTE, ALIKE_VOTE = 1.0, 0.15, 1.0
#: How much of its score a cell keeps from frame to frame, and the score's bounds: without evidence
#: a moving region lasts for half a second at 30 Hz
MEMORY, SCORE_LIMIT = 0.94, 3.0
#: A moving region has scores above LOW throughout and above HIGH, two or three votes, somewhere
LOW, HIGH = 1.0, 2.0
#: Regions below this share of the image are noise
MIN_REGION = 0.002
#: Margin around dynamic objects that stays out of the map, share of the image's width
MARGIN = 0.01


@dataclass(frozen=True)
class MotionConfig:
    """
    Handling of dynamic objects.

    :param detect: whether to detect them; masks that come with frames are used in any case
    :param refiner: refines masks to image edges; None leaves them coarse
    :param rest_s: seconds that an object must rest before it may enter the map
    :param offline: whether masks are computed again at the end, from earlier and later frames
    """

    detect: bool = True
    refiner: MaskRefiner | None = grabcut
    rest_s: float = 2.0
    offline: bool = False


@dataclass(frozen=True, eq=False)
class _Past:
    """A frame seen before, in mask pixels, with its pose in the present reference's frame."""

    gray: NDArray[np.uint8]
    T_ref_cam: Array


class MotionDetector:
    """
    Masks dynamic objects, frame by frame.

    :param camera: pinhole camera of the tracking images
    :param rest_s: seconds for which `unsettled` keeps what was dynamic
    """

    def __init__(self, camera: Camera, rest_s: float = 0.0) -> None:
        self._rest_s = rest_s
        self._cells = Cells.of_camera(camera)
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._flow.setFinestScale(1)
        self._flow.setPatchSize(PATCH_SIZE)
        self._flow.setPatchStride(PATCH_STRIDE)
        self._flow.setGradientDescentIterations(FLOW_ITERATIONS)
        self.reset()

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of masks: a third of the image's, at least 16 each."""
        return self._cells.height, self._cells.width

    def refocus(self, camera: Camera) -> None:
        """Set another camera for images of the same size."""
        self._cells = Cells.of_camera(camera)

    def reset(self) -> None:
        """Drop all frames."""
        self._past: deque[_Past] = deque(maxlen=max(LAGS))
        self._reference: Keyframe | None = None
        self._surface: BoundedSurface | None = None
        self._appearance = np.zeros(self._cells.shape, np.float32)
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
        small = self._cells.resized(gray)
        self.follow(reference)
        assert self._surface is not None
        bounds = self._surface.seen(T_ref_cam, self._cells)
        lag, past = self._choose(T_ref_cam)
        T_past_cam = se3.inverse(past.T_ref_cam) @ T_ref_cam
        flow, length, valid = self._measure(small, past.gray)
        valid &= self._texture(small) > MIN_TEXTURE
        possible = self._residual(flow, T_past_cam, bounds.low, bounds.high)
        likely = self._residual(flow, T_past_cam, bounds.likely_low, bounds.likely_high)
        alike = self._looks_alike(small, T_ref_cam, bounds)
        before = self._cells_before(flow, lag, T_past_cam, T_ref_cam, bounds)
        self.votes = _votes(possible, likely, length, valid, alike)
        carried = cv2.remap(self.score, before, None, cv2.INTER_LINEAR,
                            borderMode=cv2.BORDER_REPLICATE)
        self.score = np.clip(np.float32(MEMORY) * carried + self.votes, -SCORE_LIMIT, SCORE_LIMIT)
        self._past.append(_Past(small, T_ref_cam))
        self._count += 1
        mask = self.segment(self.score)
        self._resting.update(self._cells.averaged(mask.astype(np.uint8) * 255) > 0, before,
                             stamp_ns * 1e-9)
        return mask

    def unsettled(self, stamp_ns: int) -> Mask:
        """
        Mask what may not enter the map yet: dynamic in the newest frame, or shortly before.

        :return: (H // 3, W // 3), at least 16 each
        """
        mask = self._resting.unsettled(stamp_ns * 1e-9).astype(np.uint8)
        return cv2.resize(mask, self.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0

    def _cells_before(self, flow: Map, lag: int, T_past_cam: Array, T_ref_cam: Array,
                      bounds: DepthBounds) -> Map:
        """Where (h, w, 2) in cells the previous frame saw what the cells show, by the flow."""
        T_last_cam = se3.inverse(self._past[-1].T_ref_cam) @ T_ref_cam
        middle = 0.5 * (bounds.likely_low + bounds.likely_high)
        if lag > 1:
            # A share 1 / lag of what goes beyond the flow of a static scene
            before = self._cells.static(T_last_cam, middle)
            before += (self._cells.positions + flow - self._cells.static(T_past_cam, middle)) / lag
        else:
            before = self._cells.positions + flow
        return self._cells.from_pixels(before)

    def rescale(self, reference: Keyframe, factor: float) -> None:
        """Scale past poses by a factor, as a loop closure scaled the reference's depths."""
        self._past = deque((_Past(p.gray, se3.stretched(p.T_ref_cam, factor))
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
        small = self._cells.resized(reference.gray)
        surface = BoundedSurface.of(reference, self._cells)
        if old is None:
            self._past.append(_Past(small, np.eye(4)))
        elif old.id != reference.id:
            if T_new_old is None:
                T_new_old = se3.inverse(reference.T_map_cam) @ old.T_map_cam
            self._past = deque((_Past(p.gray, T_new_old @ p.T_ref_cam) for p in self._past),
                               maxlen=max(LAGS))
            assert older is not None
            surface = surface.completed(older.moved(T_new_old), self._cells)
        self._reference, self._surface, self._appearance = reference, surface, self._look(small)

    def _look(self, small: NDArray[np.uint8]) -> Map:
        """Grey values of the cells, a little blurred."""
        return cv2.GaussianBlur(self._cells.averaged(small), (3, 3), 0).astype(np.float32)

    def _looks_alike(self, small: NDArray[np.uint8], T_ref_cam: Array, bounds: DepthBounds
                     ) -> Mask:
        """Where a cell looks as its depth says that it does in the reference."""
        if not bounds.known.any():
            return bounds.known
        seen = self._cells.static(T_ref_cam, 0.5 * (bounds.likely_low + bounds.likely_high))
        then = sample(self._appearance, self._cells.from_pixels(seen), -1e3)
        difference = cv2.blur(cv2.absdiff(self._look(small), then), (3, 3))
        usual = float(np.median(difference[bounds.known]))
        # Grey values are integers: rounding alone makes differences of this size
        return bounds.known & (difference < ALIKE * max(usual, 1.0))

    def _texture(self, small: NDArray[np.uint8]) -> Map:
        """Smaller eigenvalue of the structure tensor in each cell."""
        return cv2.cornerMinEigenVal(self._cells.averaged(small), blockSize=5, ksize=3)

    def _choose(self, T_ref_cam: Array) -> tuple[int, _Past]:
        """Pick an earlier frame to compare with, and how many frames ago it was."""
        surface = self._surface
        assert surface is not None
        fx = self._cells.K[0, 0]
        typical = float(np.median(surface.middle)) if len(surface.middle) else 1.0
        for lag in range(min(LAGS[self._count % len(LAGS)], len(self._past)), 1, -1):
            T = se3.inverse(self._past[-lag].T_ref_cam) @ T_ref_cam
            shift = fx * (se3.rotation_angle(T[:3, :3])
                          + typical * float(np.linalg.norm(T[:3, 3])))
            if shift < MAX_FLOW * self._cells.width:
                return lag, self._past[-lag]
        return 1, self._past[-1]

    def _measure(self, small: NDArray[np.uint8], past: NDArray[np.uint8]) -> tuple[Map, Map, Mask]:
        """Flow of the cells to an earlier frame, its length, and where it finds its way back."""
        flow, back = (self._cells.averaged(self._flow.calc(*pair, None))
                      for pair in ((small, past), (past, small)))
        cells = self._cells.from_pixels(self._cells.positions + flow)
        error = cv2.magnitude(*cv2.split(flow + sample(back, cells, 1e3)))
        length = cv2.magnitude(*cv2.split(flow))
        valid = ((error < ROUND_TRIP + ROUND_TRIP_SHARE * length)
                 & (length < REACH * self._cells.width))
        return flow, length, valid

    def _residual(self, flow: Map, T_past_cam: Array, low: Map, high: Map) -> Map:
        """Distance (mask pixels) of where a cell was seen to where it was, were it static."""
        far = self._cells.static(T_past_cam, low)
        du, dv = cv2.split(self._cells.static(T_past_cam, high) - far)
        x, y = cv2.split(self._cells.positions + flow - far)
        along = np.clip((x * du + y * dv) / np.maximum(du * du + dv * dv, 1e-9), 0, 1)
        return cv2.magnitude(x - along * du, y - along * dv)

    def segment(self, score: Map) -> Mask:
        """
        Regions of high score.

        :param score: (h, w) of cells
        :return: (H // 3, W // 3), at least 16 each
        """
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


def _votes(possible: Map, likely: Map, length: Map, valid: Mask, alike: Mask
           ) -> Map:
    """
    Votes in [-ALIKE_VOTE, MOVING_VOTE] from residuals, normalised by their own noise level.

    :param possible: (h, w) distance to where a static cell can be
    :param likely: (h, w) to where it likely is
    :param length: (h, w) of the flow
    :param valid: (h, w) where the flow can be trusted
    :param alike: (h, w) where the frame looks as the reference and its depth say
    """
    if valid.sum() < MIN_VALID * valid.size:
        return np.zeros_like(possible)
    noise = max(MIN_NOISE, 1.4826 * float(np.median(likely[valid])))
    threshold = MOVING * np.maximum(noise, RELATIVE_NOISE * length)
    # Half of each full vote at 1.25 and 0.75 times the threshold
    moving = np.clip(2 * (possible / threshold - 1), 0, 1)
    still = np.clip(2 * (1 - likely / threshold), 0, 1)
    votes = MOVING_VOTE * moving - np.where(alike, ALIKE_VOTE, STILL_VOTE) * still
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
    # The detector's cells are two pixels of a usual grid wide
    margin = max(1, round(MARGIN * width))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1,) * 2)
    return cv2.dilate(full.astype(np.uint8), kernel).astype(bool)
