# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Evidence for motion in the cells of a frame: the compiled loops of `motion`.

A static cell of a known depth is seen in another frame where P = [K R K^-1 | K t] takes its
position (x, y, 1) and inverse depth; between two bounds of that, on a piece of its epipolar line.

Fields are (rows, columns) float32, vectors have their components first, and positions are mask
pixels. Loops are over all cells and without branches, so that they become vector instructions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.compiled import compiled, f4, i4, u4
from recon3r_ros.slam.dynamics.image_motion import transferred

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]

_0, _HALF, _1, _2 = f4(0), f4(0.5), f4(1), f4(2)
_3 = f4(3)
_TINY = f4(1e-9)
#: Noise of flow: at least this many mask pixels, the usual error of inverse search, and this share
#: of its length, because patches do not turn or scale with the scene
MIN_NOISE, RELATIVE_NOISE = f4(0.35), f4(0.05)
#: Residual over noise beyond which a pixel speaks for motion: 99.7 % of a normal distribution
MOVING = f4(3.0)
#: The same up to which a model of the static scene explains a cell: 95 %. The image's dominant
#: motion votes for motion not far below: what it calls motion, it must not count as explained
EXPLAINED = f4(2.0)
#: Round trips that end farther away (mask pixels, and share of the way) lead over an occlusion
ROUND_TRIP, ROUND_TRIP_SHARE = f4(0.5), f4(0.1)
#: Share of pixels with valid flow below which a frame says nothing
MIN_VALID = 0.05
#: Least eigenvalue of the structure tensor (OpenCV's scaling) that makes flow meaningful: below it
#: lies the noise of a camera on a blank wall
MIN_TEXTURE = f4(2e-4)
#: A cell looks as it did when its grey value, averaged with its neighbours', differs by less than
#: this many times what is usual
ALIKE = f4(1.5)
#: Votes: for motion, for stillness (weak, because things pause), and for stillness where the cell
#: also looks as in the reference (strong, because what moved away uncovers what was there before)
MOVING_VOTE, STILL_VOTE, ALIKE_VOTE = f4(1.0), f4(0.15), f4(1.0)
#: The same of flow against the image's dominant motion, which is fitted to that flow: added noise,
#: mask pixels, and share of the flow's length; ratio of residual to noise of a vote of 0, and its
#: difference to a vote of 1; weight of stillness; and what is taken from all votes, because most
#: of an image is static
IMAGE_NOISE, IMAGE_RELATIVE_NOISE = f4(0.12), f4(0.04)
IMAGE_NEUTRAL, IMAGE_RANGE, IMAGE_STILL, IMAGE_PRIOR = f4(1.5), f4(3.0), f4(0.5), f4(0.1)
#: Grey values by which the image must fit the flow better than the dominant motion, to count as
#: motion; otherwise there is only the prior: along an edge any flow fits
DISTINCT = f4(2.0)
#: Bounds of the score
SCORE_LIMIT = f4(3.0)
#: Border of fields that are interpolated: above, below, left, right
BORDER = (1, 2, 1, 2)


@compiled()
def _elements(P: Map) -> tuple[float, ...]:
    return (P[0, 0], P[0, 1], P[0, 2], P[0, 3], P[1, 0], P[1, 1], P[1, 2], P[1, 3],
            P[2, 0], P[2, 1], P[2, 2], P[2, 3])


@compiled()
def _static(p: tuple[float, ...], x: float, y: float, inverse_depth: float
            ) -> tuple[float, float]:
    """Where a static cell is seen in another frame, by P's elements."""
    a = p[0] * x + p[1] * y + p[2]
    b = p[4] * x + p[5] * y + p[6]
    c = p[8] * x + p[9] * y + p[10]
    if p[11] < 0:
        inverse_depth = min(inverse_depth, f4(0.9) / -p[11] * c)
    z = _1 / (c + inverse_depth * p[11])
    return (a + inverse_depth * p[3]) * z, (b + inverse_depth * p[7]) * z


@compiled()
def _residual(p: tuple[float, ...], x: float, y: float, u: float, v: float, low: float,
              high: float) -> float:
    """Distance of where a cell was seen, (u, v), to where it was, were it static."""
    far_u, far_v = _static(p, x, y, low)
    near_u, near_v = _static(p, x, y, high)
    du, dv = near_u - far_u, near_v - far_v
    u, v = u - far_u, v - far_v
    along = min(max((u * du + v * dv) / max(du * du + dv * dv, _TINY), _0), _1)
    u, v = u - along * du, v - along * dv
    return np.sqrt(u * u + v * v)


@compiled()
def _corner(x: float, y: float, rows: float, columns: float) -> tuple[int, float, float]:
    """Index in a field with a border of the value left above of a position, and its distance."""
    # Also where it is not finite
    x = x if x > -_1 else -_1
    x = x if x < columns else columns
    y = y if y > -_1 else -_1
    y = y if y < rows else rows
    first_x, first_y = np.floor(x), np.floor(y)
    index = i4((first_y + _1) * (columns + _3) + (first_x + _1))
    return index, x - first_x, y - first_y


@compiled()
def _value(flat: Map, columns: float, corner: int, s: float, t: float) -> float:
    """Interpolate a flattened field with a border bilinearly."""
    pitch = i4(columns + _3)
    upper = (_1 - s) * flat[u4(corner)] + s * flat[u4(corner + 1)]
    lower = (_1 - s) * flat[u4(corner + pitch)] + s * flat[u4(corner + pitch + 1)]
    return (_1 - t) * upper + t * lower


@compiled('void(f4[:,:,::1], f4[:,:,::1], f4[:,:,::1], f4[:,::1], f4, f4[:,::1], b1[:,::1])')
def verify(positions: Map, flow: Map, back: Map, texture: Map, reach: float, length: Map,
           valid: Mask) -> None:
    """
    Find where flow can be trusted.

    :param positions: (2, rows, columns) of the cells
    :param flow: (2, rows, columns) to an earlier frame
    :param back: (2, rows, columns) from that frame, with a border
    :param texture: least eigenvalues of the structure tensor
    :param reach: length of flow that is not trusted
    :param length: takes the flow's length
    :param valid: takes where round trips end where they began
    """
    rows, columns = f4(texture.shape[0]), f4(texture.shape[1])
    xs, ys = positions[0].ravel(), positions[1].ravel()
    du, dv = flow[0].ravel(), flow[1].ravel()
    back_u, back_v = back[0].ravel(), back[1].ravel()
    scale_x, scale_y = _2 * xs[0] + _1, _2 * ys[0] + _1
    lengths, textures, valids = length.ravel(), texture.ravel(), valid.ravel()
    for n in range(len(xs)):
        corner, s, t = _corner((xs[n] + du[n] + _HALF) / scale_x - _HALF,
                               (ys[n] + dv[n] + _HALF) / scale_y - _HALF, rows, columns)
        u = du[n] + _value(back_u, columns, corner, s, t)
        v = dv[n] + _value(back_v, columns, corner, s, t)
        lengths[n] = np.sqrt(du[n] * du[n] + dv[n] * dv[n])
        valids[n] = ((np.sqrt(u * u + v * v) < ROUND_TRIP + ROUND_TRIP_SHARE * lengths[n])
                     & (lengths[n] < reach) & (textures[n] > MIN_TEXTURE))


@compiled('void(f4[:,:,::1], f4[:,:,::1], f4[:,:,::1], f4[:,::1], f4[:,:,::1])')
def residuals(positions: Map, flow: Map, bounds: Map, P: Map, out: Map) -> None:
    """
    Distances of where cells were seen to where they were, were they static.

    :param positions: (2, rows, columns) of the cells
    :param flow: (2, rows, columns) to an earlier frame
    :param bounds: (4, rows, columns) of the inverse depth: possible and likely ones
    :param P: (3, 4) to that frame
    :param out: (2, rows, columns) takes the distances to where a static cell can be and to where
        it likely is
    """
    xs, ys = positions[0].ravel(), positions[1].ravel()
    du, dv = flow[0].ravel(), flow[1].ravel()
    p = _elements(P)
    for k in range(2):
        low, high, distances = bounds[2 * k].ravel(), bounds[2 * k + 1].ravel(), out[k].ravel()
        for n in range(len(xs)):
            distances[n] = _residual(p, xs[n], ys[n], xs[n] + du[n], ys[n] + dv[n], low[n],
                                     high[n])


@compiled('void(f4[:,:,::1], f4[:,:,::1], f4[:,:,::1], f4[:,:,::1], i8, f4[:,:,::1], f4[:,:,::1])')
def correspondences(positions: Map, flow: Map, bounds: Map, P: Map, lag: int, before: Map,
                    then: Map) -> None:
    """
    Where cells are seen, in cells: in the previous frame by the flow, in the reference if static.

    :param positions: (2, rows, columns) of the cells
    :param flow: (2, rows, columns) to the earlier frame
    :param bounds: (4, rows, columns) of the inverse depth: possible and likely ones
    :param P: (3, 3, 4) to the earlier frame, the previous one and the reference
    :param lag: how many frames ago the earlier one was
    :param before: (2, rows, columns) takes positions in the previous frame
    :param then: (2, rows, columns) takes those in the reference
    """
    xs, ys = positions[0].ravel(), positions[1].ravel()
    du, dv = flow[0].ravel(), flow[1].ravel()
    scale_x, scale_y = _2 * xs[0] + _1, _2 * ys[0] + _1
    low, high = bounds[2].ravel(), bounds[3].ravel()
    to_earlier, to_last, to_reference = _elements(P[0]), _elements(P[1]), _elements(P[2])
    before_x, before_y = before[0].ravel(), before[1].ravel()
    share = _1 / f4(lag)
    for n in range(len(xs)):
        u, v, middle = xs[n] + du[n], ys[n] + dv[n], _HALF * (low[n] + high[n])
        if lag > 1:
            # A share 1 / lag of what goes beyond the flow of a static scene
            static_u, static_v = _static(to_earlier, xs[n], ys[n], middle)
            last_u, last_v = _static(to_last, xs[n], ys[n], middle)
            u, v = last_u + (u - static_u) * share, last_v + (v - static_v) * share
        before_x[n] = (u + _HALF) / scale_x - _HALF
        before_y[n] = (v + _HALF) / scale_y - _HALF
    then_x, then_y = then[0].ravel(), then[1].ravel()
    for n in range(len(xs)):
        u, v = _static(to_reference, xs[n], ys[n], _HALF * (low[n] + high[n]))
        then_x[n] = (u + _HALF) / scale_x - _HALF
        then_y[n] = (v + _HALF) / scale_y - _HALF


@compiled('void(f4[:,::1], f4[:,:,::1], f4[:,::1])')
def interpolate(field: Map, places: Map, out: Map) -> None:
    """
    Interpolate a field with a border bilinearly.

    :param places: (2, rows, columns) of its cells
    """
    rows, columns = f4(out.shape[0]), f4(out.shape[1])
    flat, xs, ys, values = field.ravel(), places[0].ravel(), places[1].ravel(), out.ravel()
    for n in range(len(xs)):
        corner, s, t = _corner(xs[n], ys[n], rows, columns)
        values[n] = _value(flat, columns, corner, s, t)


@compiled('f4(f4[::1], b1[::1], f4[::1])')
def _median(values: Map, used: Mask, space: Map) -> float:
    """Median of the values used; 0 of none."""
    count = 0
    for n in range(len(values)):
        space[count] = values[n]
        count += used[n]
    return f4(np.median(space[:count])) if count else _0


@compiled('void(f4[:,:,::1], f4[:,::1], b1[:,::1], f4[:,::1], b1[:,::1], f4[:,::1])')
def map_votes(residual: Map, length: Map, valid: Mask, difference: Map, known: Mask, votes: Map
              ) -> None:
    """
    Votes from residuals to the map, normalised by their own noise level.

    :param residual: (2, rows, columns) as of `residuals`
    :param length: of the flow
    :param valid: where the flow can be trusted
    :param difference: of grey values, to where the reference saw a static cell
    :param known: where that is known
    :param votes: takes values in [-ALIKE_VOTE, MOVING_VOTE]
    """
    possible, likely, lengths = residual[0].ravel(), residual[1].ravel(), length.ravel()
    valids, differences, knowns = valid.ravel(), difference.ravel(), known.ravel()
    out, space = votes.ravel(), np.empty(valid.size, np.float32)
    noise = max(MIN_NOISE, f4(1.4826) * _median(likely, valids, space))
    # Grey values are integers: rounding alone makes differences of this size
    usual = ALIKE * max(_median(differences, knowns, space), _1)
    says = _1 if valid.sum() >= MIN_VALID * valid.size else _0
    for n in range(valid.size):
        threshold = MOVING * max(noise, RELATIVE_NOISE * lengths[n])
        # Half of each full vote at 1.25 and 0.75 times the threshold
        moving = min(max(_2 * (possible[n] / threshold - _1), _0), _1)
        still = min(max(_2 * (_1 - likely[n] / threshold), _0), _1)
        alike = knowns[n] & (differences[n] < usual)
        weight = ALIKE_VOTE if alike else STILL_VOTE
        otherwise = -ALIKE_VOTE if alike else _0
        out[n] = says * (MOVING_VOTE * moving - weight * still if valids[n] else otherwise)


@compiled('void(f4[:,:,::1], f4[:,:,::1], f4[:,::1], f4[:,::1], f4[:,::1], f4[:,:,::1])')
def differences(positions: Map, flow: Map, H: Map, now: Map, then: Map, out: Map) -> None:
    """
    Differences of grey values to where cells were in an earlier frame.

    :param positions: (2, rows, columns) of the cells
    :param flow: (2, rows, columns) to the earlier frame
    :param H: (3, 3) homography to the earlier frame
    :param now: grey values of the cells, with a border
    :param then: of the earlier frame's, with a border
    :param out: (2, rows, columns) takes the differences by the homography and by the flow
    """
    rows, columns = f4(out.shape[1]), f4(out.shape[2])
    xs, ys = positions[0].ravel(), positions[1].ravel()
    du, dv, earlier = flow[0].ravel(), flow[1].ravel(), then.ravel()
    by_plane, by_flow = out[0].ravel(), out[1].ravel()
    scale_x, scale_y = _2 * xs[0] + _1, _2 * ys[0] + _1
    grey = now[1:1 + out.shape[1], 1:1 + out.shape[2]].copy().ravel()
    for n in range(len(xs)):
        x, y = xs[n], ys[n]
        u, v = transferred(H, x, y)
        corner, s, t = _corner((u + _HALF) / scale_x - _HALF, (v + _HALF) / scale_y - _HALF,
                               rows, columns)
        by_plane[n] = abs(grey[n] - _value(earlier, columns, corner, s, t))
        corner, s, t = _corner((x + du[n] + _HALF) / scale_x - _HALF,
                               (y + dv[n] + _HALF) / scale_y - _HALF, rows, columns)
        by_flow[n] = abs(grey[n] - _value(earlier, columns, corner, s, t))


@compiled('void(f4[:,::1], f4[:,:,::1], f4[:,::1], b1[:,::1], f4[:,::1])')
def image_votes(residual: Map, difference: Map, length: Map, valid: Mask, votes: Map) -> None:
    """
    Votes from residuals to the image's dominant motion, normalised by their own noise level.

    Flow of patches is also wrong beside objects and along edges, which the dominant motion shows:
    the image looks as it predicts there.

    :param residual: pixels
    :param difference: (2, rows, columns) as of `differences`
    :param length: of the flow
    :param valid: where the flow can be trusted; elsewhere there is no vote
    :param votes: takes values in [-IMAGE_STILL - IMAGE_PRIOR, 1 - IMAGE_PRIOR], times the share
        of the flow that can be trusted
    """
    distances, lengths, valids, out = (residual.ravel(), length.ravel(), valid.ravel(),
                                       votes.ravel())
    by_plane, by_flow = difference[0].ravel(), difference[1].ravel()
    noise = IMAGE_NOISE + f4(1.4826) * _median(distances, valids, np.empty(valid.size, np.float32))
    share = f4(valid.sum()) / f4(valid.size)
    for n in range(valid.size):
        ratio = distances[n] / max(noise, IMAGE_RELATIVE_NOISE * lengths[n])
        vote = min(max((ratio - IMAGE_NEUTRAL) / IMAGE_RANGE, -IMAGE_STILL), _1) - IMAGE_PRIOR
        vote = vote if by_plane[n] > by_flow[n] + DISTINCT else min(vote, -IMAGE_PRIOR)
        out[n] = share * vote if valids[n] else _0


@compiled('f8(f4[:,::1], f4[:,::1], b1[:,::1])')
def explained(residual: Map, length: Map, used: Mask) -> float:
    """
    Share of cells whose flow a model of the static scene explains, whatever their noise level.

    :param residual: pixels
    :param length: of the flow
    :param used: which cells count
    """
    distances, lengths, useds = residual.ravel(), length.ravel(), used.ravel()
    count, agree = 0, 0
    for n in range(used.size):
        limit = EXPLAINED * max(MIN_NOISE, RELATIVE_NOISE * lengths[n])
        count += useds[n]
        agree += useds[n] & (distances[n] < limit)
    return agree / max(count, 1)


@compiled('void(f4[:,::1], f4, f4[:,::1])')
def accumulate(votes: Map, memory: float, score: Map) -> None:
    """
    Add votes to what earlier frames say.

    :param votes: of a frame
    :param memory: share of its score that a cell keeps
    :param score: of the frames before, in this one's cells; takes the sum
    """
    values, scores = votes.ravel(), score.ravel()
    for n in range(votes.size):
        scores[n] = min(max(memory * scores[n] + values[n], -SCORE_LIMIT), SCORE_LIMIT)
