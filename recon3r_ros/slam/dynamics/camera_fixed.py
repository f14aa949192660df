# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What is fixed to the camera: the robot's own body, a gripper, a bonnet, the surround of a lens.

It moves against the world, but it is no dynamic object: it stays at the same pixels for ever. What
a panning camera follows stays at about the same place, too; it differs in that its flow is rarely
zero, and its appearance changes. A cell is fixed where, while the image moves,

- its flow is zero in nearly all frames, and
- its detail (grey value less that of its neighbourhood) stays what it is on average: shadows and
  exposure change grey values, but not detail, and
- it belongs to a region that reaches the image's border: a zoom and a drive straight ahead leave
  the centre of an image in its place. `overlays` finds what lies elsewhere.

Flow says nothing where there is no texture. A region of constant grey value is fixed where the
edge around it is: by its flow or, if the region is black as the surround of a lens is, by its
detail alone.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.compiled import compiled, f4
from recon3r_ros.slam.dynamics.regions import labelled

Map = NDArray[np.float32]
Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

#: Median flow from which on the image moves: a multiple of the noise of flow, mask pixels; share
#: of the cells that must have trusted flow
IMAGE_MOVES, MIN_TRUSTED = 0.8, 0.05
#: The same by poses, which are less noisy, from which on the camera moves
CAMERA_MOVES = 0.3
#: What is remembered: this many frames in which the image moves, and at least those in which it
#: has moved by this share of its width. Less is no evidence
FRAMES, WAY = 15, 0.05
#: Flow up to this is zero, mask pixels
ZERO = f4(0.25)
#: Share of frames with zero flow: of the cells that a region begins with, and of all its cells;
#: share of frames in which flow must be trusted; cells that a region begins with, share of it
SURE, LIKELY, TRUSTED, SURE_SHARE = 0.8, 0.3, 0.25, 0.3
#: Variance of a cell's detail over time, share of its mean square, up to which it stays as it is.
#: That of moving detail is 1
SAME = 0.25
#: Rows and columns of the neighbourhood that detail is relative to, and of the cells that it is
#: averaged over
AROUND, COMPARED = (5, 5), (3, 3)
#: Variance of grey values over time up to which a cell is constant, the share of the edge around
#: such cells that must stay as it is, and the grey value up to which they are black
CONSTANT, EDGE, BLACK = 4.0, 0.4, 24.0
#: Smaller regions, share of the image, are noise; cells that count as the image's border
MIN_REGION, BORDER = 0.001, 2
#: Regions are found in one of so many frames, which takes longer than learning
EVERY = 3
#: A cell is fixed while its state, in [0, 1], is above 0.5: what each time adds that confirms it,
#: and each other one takes
CONFIRMED, MISSED = np.float32(0.3), np.float32(0.1)
_BESIDE, _NEAR = np.ones((3, 3), np.uint8), np.ones((5, 5), np.uint8)


class CameraFixed:
    """
    Finds the cells that are fixed to one camera, frame by frame; the only owner of that state.

    :param shape: rows and columns of the cells
    :param width: of the image, mask pixels
    """

    def __init__(self, shape: tuple[int, int], width: int) -> None:
        self._way = WAY * width
        self._border = np.ones(shape, bool)
        self._border[BORDER:-BORDER, BORDER:-BORDER] = False
        self._min_area = MIN_REGION * self._border.size
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next frame may be of another camera."""
        self._known, self._frames = 0.0, 0
        # Of each cell: share of frames with zero flow, and with trusted flow; mean of its grey
        # value and its variance; mean of its detail, its variance and its mean square
        self._statistics = np.zeros((7, *self._border.shape), np.float32)
        self._state = np.zeros(self._border.shape, np.float32)
        #: (rows, columns) that are fixed to the camera
        self.cells = np.zeros(self._border.shape, bool)

    def add(self, image: Image, length: Map, valid: Mask, lag: int, way: float | None = None
            ) -> None:
        """
        Take note of a frame; nothing is learned from one in which the image does not move.

        :param image: (rows, columns) grey values
        :param length: (rows, columns) of the flow to an earlier frame, mask pixels
        :param valid: (rows, columns) where it can be trusted
        :param lag: how many frames ago that was
        :param way: length of a static scene's flow by the frames' poses, mask pixels: before a
            camera at rest things can fill the image and move. None without poses
        """
        if way is not None and way < CAMERA_MOVES:
            return
        used = valid & ~self.cells
        way = max(way or 0.0, float(np.median(length[used])) if used.mean() > MIN_TRUSTED else 0.0)
        if way < IMAGE_MOVES:
            return
        rate = min(1 / FRAMES, way / (lag * self._way))
        self._known += rate
        self._frames += 1
        gray = image.astype(np.float32)
        _learn(gray, gray - cv2.blur(gray, AROUND), length, valid,
               max(rate, rate / self._known), self._statistics)
        if self._known < 1 or self._frames % EVERY:
            return
        found = self._found()
        self._state += np.where(found, CONFIRMED, -MISSED)
        np.clip(self._state, 0, 1, out=self._state)
        # A cell beside fixed ones has flow of both: of what is fixed, and of the scene
        self.cells = cv2.dilate((self._state > 0.5).astype(np.uint8), _BESIDE) > 0

    def _found(self) -> Mask:
        """Find the cells that are fixed by what is remembered."""
        zero, trusted, gray, variance, _, changes, energy = self._statistics
        # Rounding of grey values alone makes a variance of less than 1
        same = cv2.blur(changes, COMPARED) + 1 < SAME * cv2.blur(energy, COMPARED)
        speaks = same & (trusted > TRUSTED)
        sure = speaks & (zero > SURE)
        fixed = self._by_flow(speaks & (zero > LIKELY), sure) if sure.any() else sure
        if fixed.any():
            # Near the scene, flow may be the scene's
            near = cv2.dilate(fixed.astype(np.uint8), _NEAR) > 0
            fixed |= near & (changes + 1 < SAME * energy)
        constant = variance < CONSTANT
        black = constant & (gray < BLACK)
        if not (sure.any() or black.any()):
            return fixed
        return fixed | self._by_edges(constant & ~fixed, fixed) | self._by_edges(
            black & ~fixed, fixed | same, self._border)

    def _by_flow(self, likely: Mask, sure: Mask) -> Mask:
        """
        Keep regions of likely cells (rows, columns) that reach the image's border.

        :param sure: (rows, columns) those of them that a region begins with
        """
        regions = labelled(likely)
        areas, begun, at_border = (_counts(regions, regions.max() + 1, of)
                                   for of in (None, sure, self._border))
        keep = (areas >= self._min_area) & (begun >= SURE_SHARE * areas) & (at_border > 0)
        keep[0] = False
        return np.asarray(keep[regions])

    def _by_edges(self, constant: Mask, same: Mask, seeds: Mask | None = None) -> Mask:
        """
        Keep regions of constant cells (rows, columns) that have a fixed edge around them.

        :param same: (rows, columns) where the edge is fixed
        :param seeds: (rows, columns) of which a region must contain some; None for no condition
        """
        regions = labelled(constant)
        # Label of the region that a cell is beside
        beside = cv2.dilate(regions.astype(np.uint16), _BESIDE).astype(np.int32)
        beside[constant] = 0
        size = regions.max() + 1
        edges, stay = _counts(beside, size), _counts(beside, size, same)
        keep = (_counts(regions, size) >= self._min_area) & (edges > 0) & (stay >= EDGE * edges)
        keep[0] = False
        if seeds is not None:
            keep &= _counts(regions, size, seeds) > 0
        return np.asarray(keep[regions])


def _counts(labels: NDArray[np.int32], size: int, of: Mask | None = None) -> NDArray[np.int64]:
    """Count the cells (rows, columns) of each label, or those of a mask."""
    return np.bincount(labels.ravel() if of is None else labels[of], minlength=size)


@compiled('void(f4[:,::1], f4[:,::1], f4[:,::1], b1[:,::1], f8, f4[:,:,::1])')
def _learn(gray: Map, detail: Map, length: Map, valid: Mask, rate: float, statistics: Map) -> None:
    """
    Add a frame's cells (rows, columns) to running means.

    :param gray: values
    :param detail: grey values less those around
    :param length: of the flow, mask pixels
    :param valid: where it can be trusted
    :param rate: weight of the frame, 1 for the first
    :param statistics: (7, rows, columns), see `CameraFixed.reset`; takes the new ones
    """
    k = f4(rate)
    grays, details, lengths, valids = gray.ravel(), detail.ravel(), length.ravel(), valid.ravel()
    zero, trusted, mean, variance = (statistics[0].ravel(), statistics[1].ravel(),
                                     statistics[2].ravel(), statistics[3].ravel())
    usual, changes, energy = (statistics[4].ravel(), statistics[5].ravel(),
                              statistics[6].ravel())
    for n in range(len(grays)):
        known = f4(valids[n])
        zero[n] += k * known * (f4(lengths[n] < ZERO) - zero[n])
        trusted[n] += k * (known - trusted[n])
        # Weighted means and variances: West, 'Updating Mean and Variance Estimates', CACM 1979
        d = grays[n] - mean[n]
        mean[n] += k * d
        variance[n] = (f4(1) - k) * (variance[n] + k * d * d)
        d = details[n] - usual[n]
        usual[n] += k * d
        changes[n] = (f4(1) - k) * (changes[n] + k * d * d)
        energy[n] += k * (details[n] * details[n] - energy[n])
