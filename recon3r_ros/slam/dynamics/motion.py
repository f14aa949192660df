# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Dynamic objects by residual flow: measured flow against the flow of a static scene.

Easi3R (Chen et al., 2025, eq. 11) and MonST3R (Zhang et al., ICLR 2025, section 3.3) take a pixel
for moving where the two differ. Here there are two predictions of a static scene's flow.

The map's, where the frame has a pose. A pixel's depth is known to lie between two bounds, so a
static point must be seen between the bounds' projections, on a piece of its epipolar line. Where
nothing is known the interval reaches from infinity to very near. An error of the depth inside its
bounds is thus never motion, nor is parallax at depth edges. What entered the image recently was
never seen against the map: it may be anywhere in front of the surface that the map shows there.

The image's dominant motion, always: see `image_motion`. It needs neither intrinsics nor a map, but
near static things have parallax to it, and objects that fill the image can be it.

The two are weighted by how much of the image they leave unexplained: the map, and a homography
alone, in a frame's cells of known depth if there are enough. Where the scene has parallax, the map
explains more, and decides. Where it has none, both explain as much, and a map with a wrong focal
length, or of dynamic objects, explains less: the homography, which has eight parameters and
no memory, has the greater weight. A map of a guessed focal length must explain clearly more. The
weights also decide where the previous frame saw a cell: by the flow, or by the map's static scene.

Evidence is collected over time in a score per pixel that moves with the flow: log odds in spirit.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
import math

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.slam.dynamics import evidence
from recon3r_ros.slam.dynamics.camera_fixed import CameraFixed
from recon3r_ros.slam.dynamics.cells import CELL, Cells, FINE_CELL, resized_mask
from recon3r_ros.slam.dynamics.depth_bounds import BoundedSurface
from recon3r_ros.slam.dynamics.image_motion import dominant_motion, ImageMotion, RANDOM, SURE
from recon3r_ros.slam.dynamics.inverse_search import flow, Level, pyramid
from recon3r_ros.slam.dynamics.overlays import Overlays, static_flow
from recon3r_ros.slam.dynamics.seen_frame import SeenFrame
from recon3r_ros.slam.types import Keyframe

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
Map = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Flow of patches is a little coarser than cells: weights of a cell and of its neighbours
FLOW_KERNEL = np.array([1, 6, 1], np.float32) / 8
#: Frames back that flow is measured to, in turn: the short way blurs outlines less, on the long
#: way slow things move farther
LAGS = (2, 6)
#: The same of finer cells, which show slow things sooner
FINE_LAGS = (1, 2, 4, 6)
#: Median flow (share of the image's width) beyond which a nearer frame is taken, and length beyond
#: which flow is not trusted: coarse-to-fine search loses motion that far
MAX_FLOW, REACH = 0.12, 0.2
#: Time constant of the score, seconds: without evidence a moving region lasts for as long. It is
#: assumed that frames without stamps come at the usual rate
MEMORY_S, USUAL_STEP_S = 0.6, 1 / 30
#: Frames more than the first of these seconds apart are few: no more is forgotten from one to the
#: next than in that time, and their votes have a greater weight; the greatest, and the memory of
#: a video, have those more than the second apart, stills
SLOW_S, STILLS_S, STILL_WEIGHT = 0.1, 0.9, 3.0
#: Median flow, share of the image's width, beyond which stills are from different places: what is
#: off the plane has parallax, whatever is known of the epipole
STILL_WAY = 0.01
#: Share of the cells that must have trusted flow and a known depth to be compared alone
MIN_KNOWN = 0.05
#: The map and the dominant motion have the same weight where the homography leaves so many times
#: the share of the image unexplained that the map does: of a calibrated camera, and of one with a
#: guessed focal length, whose map is distorted
MAP_LEAD, GUESSED_LEAD = 1.0, 1 / 0.15
#: Power of that ratio that the ratio of the weights is; share of the image that counts as
#: unexplained in any case
MAP_POWER, UNEXPLAINED = 4.0, 0.005
#: Time constant, seconds, and share that is left, of the time for which a cell counts as one that
#: entered the image recently: a keyframe shows it by then
ENTERED_S, ENTERED = 3.0, 0.2
#: The length of a static scene's flow is that of one of so many cells along rows and columns
WAY_STEP = 6
#: Flow and grey value beyond an image's border, which agree with nothing
NO_FLOW, NO_GREY = 1e3, -1e3


@dataclass(frozen=True, eq=False)
class _Past:
    """
    A frame in cells.

    :param levels: its pyramid
    :param look: its grey values, with a border
    :param T_ref_cam: (4, 4) its pose in the present reference's frame; None where unknown
    """

    levels: list[Level]
    look: Map
    T_ref_cam: Array | None

    @classmethod
    def of(cls, image: Image, T_ref_cam: Array | None) -> _Past:
        """Take an image (rows, columns)."""
        look = cv2.copyMakeBorder(_look(image), *evidence.BORDER, cv2.BORDER_REPLICATE)
        return cls(pyramid(image), look, T_ref_cam)

    def moved(self, T_new_old: Array) -> _Past:
        """Express the pose in another reference's frame."""
        return self if self.T_ref_cam is None else replace(
            self, T_ref_cam=T_new_old @ self.T_ref_cam)

    def stretched(self, factor: float) -> _Past:
        """Scale the pose's translation."""
        return self if self.T_ref_cam is None else replace(
            self, T_ref_cam=se3.stretched(self.T_ref_cam, factor))


@dataclass(frozen=True, eq=False)
class _Flow:
    """
    Flow of the cells to an earlier frame.

    :param lag: how many frames ago that was
    :param forward: (2, rows, columns) mask pixels
    :param length: (rows, columns)
    :param trusted: (rows, columns) where it can be trusted
    :param valid: (rows, columns) the same, without what is fixed to the camera
    """

    lag: int
    forward: Map
    length: Map
    trusted: Mask
    valid: Mask


@dataclass(frozen=True, eq=False)
class _MapMotion:
    """
    What a frame's pose and the map say.

    :param votes: (rows, columns)
    :param residual: (rows, columns) distance of flow to where a static cell likely is, or can be
        where it entered the image recently
    :param known: (rows, columns) where depth is known
    :param before: (2, rows, columns) where the previous frame saw the cells, in cells
    :param static: (2, rows, columns) a static scene's flow, mask pixels
    :param way: its median length
    """

    votes: Map
    residual: Map
    known: Mask
    before: Map
    static: Map
    way: float


class MotionEvidence:
    """
    Collects evidence for motion in the frames of one camera, in order.

    :param camera: pinhole camera of the tracking images
    :param fine: whether cells are as fine as mask pixels: better, in four times the time
    :param calibrated: whether the camera's intrinsics are known
    """

    def __init__(self, camera: Camera, fine: bool = False, calibrated: bool = True) -> None:
        self._lead = MAP_LEAD if calibrated else GUESSED_LEAD
        self.cells = Cells.of_camera(camera, FINE_CELL if fine else CELL)
        self._lags = FINE_LAGS if fine else LAGS
        self._fixed = CameraFixed(self.cells.shape, self.cells.width)
        self._overlays = Overlays(camera, self.cells)
        self._static: Mask | None = None
        self.reset()

    def refocus(self, camera: Camera) -> None:
        """Set another camera for images of the same size."""
        self.cells = self.cells.refocused(camera)

    @property
    def fixed(self) -> Mask:
        """Cells (rows, columns) that are fixed to the camera: nothing is said about them."""
        fixed = self._fixed.cells | self._overlays.cells
        return fixed if self._static is None else fixed | self._static

    @property
    def overlays(self) -> Mask:
        """What lies over the images: (h, w) in mask pixels, see `Overlays`."""
        return self._overlays.mask

    def reset(self) -> None:
        """Drop all frames, and what is fixed to the camera."""
        self._fixed.reset()
        self._overlays.reset()
        self.restart()

    def restart(self) -> None:
        """Drop all frames."""
        self._past: deque[_Past] = deque(maxlen=max(self._lags))
        self._reference: Keyframe | None = None
        self._surface: BoundedSurface | None = None
        self._appearance = _bordered(np.zeros(self.cells.shape, np.float32), NO_GREY)
        self._count = 0
        self._stamp_ns: int | None = None
        self._step_s, self._is_still, self._weight = USUAL_STEP_S, False, np.float32(1)
        self._speed = 0.0
        self._agreement = RANDOM
        self._map_weight = np.float32(0)
        #: (rows, columns) how recently cells entered the image, 1 for now
        self._entered = np.zeros(self.cells.shape, np.float32)
        #: Whether there has been any evidence
        self.known = False
        #: Evidence (rows, columns) for motion in the newest frame, and what it says by itself
        self.score = np.zeros(self.cells.shape, np.float32)
        self.votes = np.zeros_like(self.score)

    def add(self, frame: SeenFrame) -> Map:
        """
        Collect the evidence of a frame.

        :return: (2, rows, columns) where the previous frame saw what the cells show, in cells
        """
        T = None
        if frame.reference is not None:
            self.follow(frame.reference)
            T = frame.T_reference_cam
        image = self.cells.of_image(frame.gray)
        self._static = (
            None if frame.static is None else resized_mask(frame.static, self.cells.shape))
        self._step_to(frame.stamp_ns)
        seen = _Past.of(image, T)
        before = self._collect(frame, image, seen) if self._past else self._everywhere()
        self._past.append(seen)
        self._count += 1
        return before

    def _step_to(self, stamp_ns: int) -> None:
        """Take note of the time since the last frame, backwards in time, too."""
        last_ns = stamp_ns if self._stamp_ns is None else self._stamp_ns
        step_s, self._stamp_ns = abs(stamp_ns - last_ns) * 1e-9, stamp_ns
        self._is_still = step_s > STILLS_S
        self._step_s = min(step_s, SLOW_S) if step_s and not self._is_still else USUAL_STEP_S
        self._weight = np.float32(np.interp(step_s, (SLOW_S, STILLS_S), (1, STILL_WEIGHT)))

    def add_unposed(self, other: MotionEvidence) -> None:
        """
        Add what was found in the same frames while their poses were unknown.

        It counts as far as the map does not explain the newest frame. What is fixed to the camera
        is taken from there, too.

        :param other: up to the same frame
        """
        self.score = other.score + self._map_weight * (self.score - other.score)
        self.known |= other.known
        self._fixed, self._overlays = other._fixed, other._overlays
        self._entered = np.maximum(self._entered, other._entered)

    def vote(self, votes: Map) -> None:
        """Add votes (rows, columns) of another source to the newest frame's score."""
        self.score = np.clip(self.score + votes, -evidence.SCORE_LIMIT, evidence.SCORE_LIMIT)

    def _collect(self, source: SeenFrame, image: Image, frame: _Past) -> Map:
        flow = self._measure(image, frame)
        before = self._moved(flow)
        self._note_entered(before)
        by_map = self._compare_with_map(image, frame, flow)
        elsewhere = self._is_still and self._speed * flow.lag > STILL_WAY * self.cells.width
        by_image = dominant_motion(
            self.cells.positions, flow.forward, flow.valid,
            SURE if elsewhere else self._agreement)
        votes, score = np.zeros((2, *self.cells.shape), np.float32)
        if by_image is not None:
            if not elsewhere:
                self._agreement = by_image.agreement
            evidence.image_votes(by_image.residual, self._differences(frame, flow, by_image),
                                 flow.length, flow.valid, votes)
        if by_map is not None:
            self._map_weight = np.float32(_weight_of_map(flow, by_map, by_image, self._lead))
            votes += self._map_weight * (by_map.votes - votes)
            before += self._map_weight * (by_map.before - before)
        self.known |= by_image is not None or by_map is not None
        evidence.interpolate(
            cv2.copyMakeBorder(self.score, *evidence.BORDER, cv2.BORDER_REPLICATE), before, score)
        self._fixed.add(image, flow.length, flow.trusted, flow.lag,
                        None if by_map is None else by_map.way)
        static = self._static_flow(by_map, by_image)
        if static is not None:
            self._overlays.add(source.gray, source.stamp_ns, static, flow.lag)
        fixed = self.fixed
        votes[fixed] = 0
        votes *= self._weight
        evidence.accumulate(votes, math.exp(-self._step_s / MEMORY_S), score)
        score[fixed] = 0
        self.score, self.votes = score, votes
        return before

    def _note_entered(self, before: Map) -> None:
        """
        Follow what has entered the image.

        :param before: (2, rows, columns) where the previous frame saw the cells, in cells
        """
        entered = np.empty_like(self._entered)
        evidence.interpolate(cv2.copyMakeBorder(
            self._entered, *evidence.BORDER, cv2.BORDER_CONSTANT, value=1), before, entered)
        self._entered = entered * np.float32(math.exp(-self._step_s / ENTERED_S))

    def _measure(self, image: Image, frame: _Past) -> _Flow:
        """Measure flow to an earlier frame: less far back, the faster the image moves."""
        lag = min(self._lags[self._count % len(self._lags)], len(self._past))
        while lag > 1 and lag * self._speed > MAX_FLOW * self.cells.width:
            lag -= 1
        forward = _flow_of_cells(frame, self._past[-lag], self.cells)
        back = _flow_of_cells(self._past[-lag], frame, self.cells)
        length, valid = np.empty_like(forward[0]), np.empty(self.cells.shape, bool)
        evidence.verify(self.cells.positions, forward, _bordered(back, NO_FLOW),
                        cv2.cornerMinEigenVal(image, blockSize=5, ksize=3),
                        REACH * self.cells.width, length, valid)
        trusted, valid = valid, valid & ~self.fixed
        self._speed = float(np.median(length[valid])) / lag if valid.any() else 0.0
        return _Flow(lag, forward, length, trusted, valid)

    def _compare_with_map(self, image: Image, frame: _Past, flow: _Flow) -> _MapMotion | None:
        """Compare flow with a static scene's by the map; None without the frames' poses."""
        T_earlier, T_last = self._past[-flow.lag].T_ref_cam, self._past[-1].T_ref_cam
        if frame.T_ref_cam is None or T_earlier is None or T_last is None:
            return None
        assert self._surface is not None
        P = self.cells.projections(np.stack([
            se3.inverse(T_earlier) @ frame.T_ref_cam, se3.inverse(T_last) @ frame.T_ref_cam,
            frame.T_ref_cam]))
        entered = self._entered > ENTERED
        bounds = self._surface.seen(se3.inverse(frame.T_ref_cam), self.cells, entered)
        positions, shape = self.cells.positions, self.cells.shape
        residual, before, then = np.empty((3, 2, *shape), np.float32)
        look, votes = np.empty((2, *shape), np.float32)
        evidence.residuals(positions, flow.forward, bounds.values, P[0], residual)
        evidence.correspondences(positions, flow.forward, bounds.values, P, flow.lag, before, then)
        evidence.interpolate(self._appearance, then, look)
        difference = cv2.blur(cv2.absdiff(_look(image), look), (3, 3))
        evidence.map_votes(residual, flow.length, flow.valid, difference, bounds.known, votes)
        static = np.empty((2, *shape), np.float32)
        static_flow(positions, bounds.values[2], P[0], static)
        return _MapMotion(votes, np.where(entered, residual[0], residual[1]), bounds.known, before,
                          static, _way(static))

    def _static_flow(self, by_map: _MapMotion | None, by_image: ImageMotion | None) -> Map | None:
        """Flow (2, rows, columns) of a static scene, as far as anything is known of it."""
        if by_map is not None:
            return by_map.static
        if by_image is None:
            return None
        out = np.empty((2, *self.cells.shape), np.float32)
        static_flow(self.cells.positions, np.zeros(self.cells.shape, np.float32),
                    np.pad(by_image.H, ((0, 0), (0, 1))), out)
        return out

    def _differences(self, frame: _Past, flow: _Flow, by_image: ImageMotion) -> Map:
        """Differences of grey values by the dominant motion and by the flow, averaged a little."""
        out = np.empty((2, *self.cells.shape), np.float32)
        evidence.differences(self.cells.positions, flow.forward, by_image.H, frame.look,
                             self._past[-flow.lag].look, out)
        for difference in out:
            cv2.blur(difference, (3, 3), difference)
        return out

    def _moved(self, flow: _Flow) -> Map:
        """Where the previous frame saw the cells, by the flow alone."""
        scale = 2 * self.cells.positions[:, 0, 0] + 1
        return self._everywhere() + flow.forward / (flow.lag * scale[:, None, None])

    def _everywhere(self) -> Map:
        """Cells' own places (2, rows, columns), in cells."""
        rows, columns = self.cells.shape
        return np.stack(np.meshgrid(np.arange(columns, dtype=np.float32),
                                    np.arange(rows, dtype=np.float32)))

    def rescale(self, reference: Keyframe, factor: float) -> None:
        """Scale past poses by a factor, as a loop closure scaled the reference's depths."""
        self._past = deque((p.stretched(factor) for p in self._past), maxlen=max(self._lags))
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
        gray = self.cells.of_image(reference.gray)
        if old is None:
            if not self._past:
                self._past.append(_Past.of(gray, np.eye(4)))
        elif old.id == reference.id:
            older = None
        else:
            if T_new_old is None:
                T_new_old = se3.inverse(reference.T_map_cam) @ old.T_map_cam
            self._past = deque((p.moved(T_new_old) for p in self._past), maxlen=max(self._lags))
            assert older is not None
            older = older.moved(T_new_old)
        self._reference = reference
        self._surface = BoundedSurface.of(reference, self.cells, older)
        self._appearance = _bordered(_look(gray), NO_GREY)


def _way(flow: Map) -> float:
    """Median length of flow (2, rows, columns)."""
    step = slice(WAY_STEP // 2, None, WAY_STEP)
    return float(np.median(np.hypot(*flow[:, step, step])))


def _weight_of_map(flow: _Flow, by_map: _MapMotion, by_image: ImageMotion | None, lead: float
                   ) -> float:
    """
    Weight of the map's votes in [0, 1], by the shares of the image that are explained.

    Where there is no dominant motion, no homography explains anything.

    :param lead: see MAP_LEAD
    """
    used = flow.valid & by_map.known
    if used.mean() < MIN_KNOWN:
        used = flow.valid  # epipolar lines of the pose are known nevertheless
    of_map, of_plane = (
        UNEXPLAINED + (1.0 if residual is None else 1 - evidence.explained(
            residual, flow.length, used))
        for residual in (by_map.residual, None if by_image is None else by_image.plane))
    return 1 / (1 + (lead * of_map / of_plane) ** MAP_POWER)


def _flow_of_cells(frame: _Past, other: _Past, cells: Cells) -> Map:
    """Flow (2, rows, columns) of the cells from one frame to another, mask pixels."""
    out = np.empty((2, *cells.shape), np.float32)
    size = (cells.width / cells.columns, cells.height / cells.rows)
    for channel, smoothed, pixels in zip(flow(frame.levels, other.levels), out, size):
        cv2.sepFilter2D(channel, -1, np.float32(pixels) * FLOW_KERNEL, FLOW_KERNEL, smoothed,
                        borderType=cv2.BORDER_REPLICATE)
    return out


def _look(gray: Image) -> Map:
    """Grey values of cells, a little blurred."""
    return cv2.GaussianBlur(gray, (3, 3), 0).astype(np.float32)


def _bordered(field: Map, outside: float) -> Map:
    """Give fields (..., rows, columns) the border that `evidence` expects."""
    above, below, left, right = evidence.BORDER
    out = np.full((*field.shape[:-2], field.shape[-2] + above + below,
                   field.shape[-1] + left + right), outside, np.float32)
    out[..., above:-below, left:-right] = field
    return out
