# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What lies over a camera's images: time stamps, logos, crosshairs, reflections, dirt on the lens.

It may be transparent, and finer than the cells of flow, which is that of the scene behind it. But
it adds the same to the gradients of all images (Dekel et al., 'On the Effectiveness of Visible
Watermarks', CVPR 2017, section 3), while those of a scene that moves change at random. So images
are sampled, each cell of them when it shows a part of the static scene that no other sample of it
shows, as the map or the dominant motion has it. A pixel's gradient along the way d that the scene
has moved since the last sample, a unit vector, is explained by a constant gradient g as g . d:
linear regression over the samples, whose two unknowns are g.

Only gradients along the way count: edges that slide along themselves, as a horizon does before a
camera that turns, or the borders of a road before one that follows it, stay at their pixels, too.
Around the focus of expansion, where a scene hardly moves, there are no samples.

A constant gradient explains the share R^2 of what the samples have. It is judged by the number n
of samples, weighted by their squared cosines to g: others would not show it. Of random gradients,
n R^2 has a mean of about 1; the greatest of neighbourhoods of 5 x 5 pixels was 2 to 5 in clean
images of 14 unrelated sequences. What a camera follows stays at its pixels, too, for a while: up
to 11 with many samples a second, hence they are rare.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.compiled import compiled, dense, f4
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.slam.dynamics.cells import Cells, resized_mask
from recon3r_ros.slam.dynamics.regions import labelled

Map = NDArray[np.float32]
Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Indices = NDArray[np.int32]

#: Images of more pixels are halved: the strokes of text and crosshairs grow with an image
MOST_PIXELS = 120_000
#: Share of the image's width by which the scene must have moved from where it was at all other
#: samples: farther than edges are wide, so that they are independent
WAY = 0.02
#: Seconds between samples, and how many a cell needs: what a camera follows by hand moves in its
#: image by more than an edge is wide sooner than in two seconds
PERIOD_S, ENOUGH = 0.2, 10
#: Samples remembered, and new ones after which overlays are looked for, which takes longer
SAMPLES, NEWS = 25, 2.0
#: Gradients, grey levels a pixel: their limit, so that no strong edge of the scene outweighs all
#: others, and their noise
LIMIT, NOISE = f4(10), f4(1)
_TINY = 1e-6
#: Share by which directions must differ for gradients across the usual one to be known
RIDGE = np.float32(0.05)
#: Pixels that are judged together
NEAR = (5, 5)
#: n R^2, and R^2, of the pixels that a region begins with, and of all its pixels
SURE, SURE_SHARE, LIKELY, LIKELY_SHARE = 5.0, 0.5, 3.0, 0.25
#: Share of the image beyond which it is no overlay: the image rests
MOST = 0.4
#: Half the window of tracking and of keypoints, pixels of the tracking image: what is nearer to an
#: overlay is tracked with it
WINDOW = 8


class Overlays:
    """
    Finds what lies over one camera's images; the only owner of that state.

    :param camera: pinhole camera of the tracking images
    :param cells: of its images
    """

    def __init__(self, camera: Camera, cells: Cells) -> None:
        self._step = 1 if camera.width * camera.height <= MOST_PIXELS else 2
        self._size = camera.height // self._step, camera.width // self._step
        self._cells = cells.shape
        self._masks = cells.height, cells.width
        self._way = WAY * cells.width
        self._row_of, self._column_of = (
            ((np.arange(pixels) * count) // pixels).astype(np.int32)
            for pixels, count in zip(self._size, cells.shape))
        window = 2 * (WINDOW // self._step) + 1
        self._window = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (window, window))
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next frame may be of another camera."""
        self._sampled_ns: int | None = None
        self._news = 0.0
        # Of each cell: how far its scene has moved, by now and at its samples, mask pixels
        self._moved = np.zeros((2, *self._cells), np.float32)
        self._places = np.zeros((SAMPLES, *self._moved.shape), np.float32)
        # Number of these places, that of the first included; of samples remembered; and the means
        # of d d^T in them: xx, xy, yy
        self._total = np.zeros(self._cells, np.int32)
        self._count = np.zeros(self._cells, np.float32)
        self._directions = np.zeros((3, *self._cells), np.float32)
        # Of each pixel: means of gradients along d, times d, and of their squares
        self._gradients = np.zeros((3, *self._size), np.float32)
        self._found = np.zeros(self._size, bool)
        #: (h, w) in mask pixels, with what is tracked with it, and (rows, columns) of cells
        self.mask = np.zeros(self._masks, bool)
        self.cells = np.zeros(self._cells, bool)

    def add(self, gray: Image, stamp_ns: int, flow: Map, lag: int) -> None:
        """
        Take note of a frame.

        :param gray: (H, W) tracking image
        :param stamp_ns: of the frame
        :param flow: (2, rows, columns) of a static scene to an earlier frame, mask pixels
        :param lag: how many frames ago that was
        """
        self._moved += flow / np.float32(lag)
        if self._sampled_ns is not None and abs(stamp_ns - self._sampled_ns) < PERIOD_S * 1e9:
            return
        self._sampled_ns = stamp_ns
        directions = np.zeros_like(self._moved)
        due = np.zeros(self._cells, bool)
        _visit(self._moved, self._way, self._places, self._total, due, directions)
        if not due.any():
            return
        self._sample(gray, due, directions)
        self._news += float(due.mean())
        if self._news < NEWS:
            return
        self._news = 0.0
        had_some, self._found = self._found.any(), self._find()
        if not (had_some or self._found.any()):
            return
        near = cv2.dilate(self._found.astype(np.uint8), self._window) > 0
        self.mask = resized_mask(near, self._masks)
        self.cells = resized_mask(self.mask, self._cells)

    def _sample(self, gray: Image, due: Mask, directions: Map) -> None:
        """
        Add a sample of some cells.

        :param due: (rows, columns) which
        :param directions: (2, rows, columns) unit vectors in these
        """
        self._count = np.minimum(self._total - 1, SAMPLES).astype(np.float32)
        weights = np.where(due, 1 / np.maximum(self._count, 1), 0).astype(np.float32)
        x, y = directions
        self._directions += weights * (np.stack([x * x, x * y, y * y]) - self._directions)
        if self._step == 2:
            height, width = self._size
            gray = cv2.resize(gray[:2 * height, :2 * width], (width, height),
                              interpolation=cv2.INTER_AREA)
        _learn(dense(gray), self._row_of, self._column_of, directions, weights, self._gradients)

    def _find(self) -> Mask:
        """Find the pixels (rows, columns) whose gradients are constant, with those around."""
        if self._count.max() < ENOUGH:
            return np.zeros(self._size, bool)
        xx, xy, yy = self._directions
        xx, yy = xx + RIDGE, yy + RIDGE
        inverse = np.stack([yy, -xy, xx]) / (xx * yy - xy * xy)
        xx, xy, yy, count = (
            cv2.resize(of_cells, self._size[::-1], interpolation=cv2.INTER_NEAREST)
            for of_cells in (*inverse, self._count))
        x, y, squares = self._gradients
        g_x, g_y = xx * x + xy * y, xy * x + yy * y
        explained = cv2.blur(g_x * x + g_y * y, NEAR)
        share = explained / (cv2.blur(squares, NEAR) + NOISE ** 2)
        across = explained / (cv2.blur(g_x * g_x + g_y * g_y, NEAR) + _TINY)
        known = count * np.minimum(across, 1) * share
        likely = (known > LIKELY) & (share > LIKELY_SHARE)
        sure = likely & (self._found | (
            (known > SURE) & (share > SURE_SHARE) & (count >= ENOUGH)))
        if not sure.any() or np.count_nonzero(likely) > MOST * likely.size:
            return np.zeros_like(sure)
        regions = labelled(likely)
        begun = np.zeros(regions.max() + 1, bool)
        begun[regions[sure]] = True
        return np.asarray(begun[regions])


@compiled('void(f4[:,:,::1], f8, f4[:,:,:,::1], i4[:,::1], b1[:,::1], f4[:,:,::1])')
def _visit(moved: Map, way: float, places: Map, total: Indices, due: Mask, directions: Map
           ) -> None:
    """
    Find the cells (rows, columns) whose scene is at a new place, other than the first.

    :param moved: (2, rows, columns) how far it has moved
    :param way: least distance to all remembered places
    :param places: (SAMPLES, 2, rows, columns) these; takes the new one
    :param total: number of places so far; takes the new one
    :param due: takes the cells
    :param directions: (2, rows, columns) takes the unit vectors from the last place
    """
    square = f4(way * way)
    rows, columns = total.shape
    for r in range(rows):
        for c in range(columns):
            count = total[r, c]
            new = True
            for i in range(min(count, SAMPLES)):
                x = moved[0, r, c] - places[i, 0, r, c]
                y = moved[1, r, c] - places[i, 1, r, c]
                if x * x + y * y < square:
                    new = False
                    break
            if not new:
                continue
            last = (count + SAMPLES - 1) % SAMPLES
            x = moved[0, r, c] - places[last, 0, r, c]
            y = moved[1, r, c] - places[last, 1, r, c]
            length = np.sqrt(x * x + y * y)
            if count > 0:
                directions[0, r, c], directions[1, r, c] = x / length, y / length
                due[r, c] = True
            slot = count % SAMPLES
            places[slot, 0, r, c], places[slot, 1, r, c] = moved[0, r, c], moved[1, r, c]
            total[r, c] = count + 1


@compiled('void(u1[:,::1], i4[::1], i4[::1], f4[:,:,::1], f4[:,::1], f4[:,:,::1])')
def _learn(gray: Image, row_of: Indices, column_of: Indices, directions: Map, weights: Map,
           gradients: Map) -> None:
    """
    Add a sample to running means.

    :param gray: (H, W) image
    :param row_of: (H,) row of the cells that each pixel lies in
    :param column_of: (W,) its column
    :param directions: (2, rows, columns) unit vectors
    :param weights: (rows, columns) of the sample, 0 where there is none
    :param gradients: (3, H, W), see `Overlays.reset`; takes the new ones
    """
    height, width = gray.shape
    k, x, y = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    row = -1
    for v in range(1, height - 1):
        if row_of[v] != row:
            row = row_of[v]
            for u in range(width):
                column = column_of[u]
                k[u], x[u], y[u] = (weights[row, column], directions[0, row, column],
                                    directions[1, row, column])
        above, here, below = gray[v - 1], gray[v], gray[v + 1]
        by_x, by_y, squares = gradients[0, v], gradients[1, v], gradients[2, v]
        for u in range(1, width - 1):
            along = f4(0.5) * ((f4(here[u + 1]) - f4(here[u - 1])) * x[u]
                               + (f4(below[u]) - f4(above[u])) * y[u])
            along = min(max(along, -LIMIT), LIMIT)
            by_x[u] += k[u] * (along * x[u] - by_x[u])
            by_y[u] += k[u] * (along * y[u] - by_y[u])
            squares[u] += k[u] * (along * along - squares[u])


@compiled('void(f4[:,:,::1], f4[:,::1], f4[:,::1], f4[:,:,::1])')
def static_flow(positions: Map, inverse_depth: Map, P: Map, out: Map) -> None:
    """
    Flow of a static scene; none behind the other frame's camera.

    :param positions: (2, rows, columns) of the cells, mask pixels
    :param inverse_depth: (rows, columns)
    :param P: (3, 4) to the other frame: see `evidence`
    :param out: (2, rows, columns), takes the flow, mask pixels
    """
    xs, ys, depths = positions[0].ravel(), positions[1].ravel(), inverse_depth.ravel()
    us, vs = out[0].ravel(), out[1].ravel()
    for n in range(len(xs)):
        x, y, d = xs[n], ys[n], depths[n]
        w = P[2, 0] * x + P[2, 1] * y + P[2, 2] + P[2, 3] * d
        ahead = f4(w > f4(1e-3))
        z = ahead / max(w, f4(1e-3))
        us[n] = ((P[0, 0] * x + P[0, 1] * y + P[0, 2] + P[0, 3] * d) * z - x) * ahead
        vs[n] = ((P[1, 0] * x + P[1, 1] * y + P[1, 2] + P[1, 3] * d) * z - y) * ahead
