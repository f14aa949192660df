# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Minimum cuts of images, by the maximum flow through their pixels.

Boykov and Kolmogorov, 'An Experimental Comparison of Min-Cut/Max-Flow Algorithms for Energy
Minimization in Vision', PAMI 2004: one tree of pixels grows from the source, another one from the
sink; flow is sent where they meet; what that disconnects is adopted by neighbours, or set free.

Pixels are numbered along the rows of an image with a border of one pixel. Capacities are integers,
so that sums are exact.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.compiled import compiled

Integers = NDArray[np.int32]
Bytes = NDArray[np.int8]

#: Directions of links; the opposite of d is 3 - d
LEFT, UP, DOWN, RIGHT = 0, 1, 2, 3
_FREE, _SOURCE, _SINK = 0, 1, 2
# Instead of the direction of a parent
_TERMINAL, _NONE = 4, 5


@compiled()
def _cancel(capacity: Integers, terminal: Integers, steps: Integers) -> None:
    """Send the flow from the source to the sink through two neighbours: most is of that kind."""
    for pixel in range(len(terminal)):
        if terminal[pixel] > 0:
            for d in range(4):
                other = pixel + steps[d]
                if capacity[pixel, d] > 0 and terminal[other] < 0:
                    flow = min(min(capacity[pixel, d], terminal[pixel]), -terminal[other])
                    terminal[pixel] -= flow
                    terminal[other] += flow
                    capacity[pixel, d] -= flow
                    capacity[other, 3 - d] += flow


@compiled()
def _bottleneck(capacity: Integers, terminal: Integers, parent: Bytes, steps: Integers, at: int,
                flow: int, sign: int) -> int:
    """Flow that can pass from the source to a pixel of its tree; sign -1: to the sink."""
    while parent[at] != _TERMINAL:
        towards = parent[at]
        up = at + steps[towards]
        flow = min(flow, capacity[up, 3 - towards] if sign > 0 else capacity[at, towards])
        at = up
    return min(flow, sign * terminal[at])


@compiled()
def _send(capacity: Integers, terminal: Integers, parent: Bytes, steps: Integers, at: int,
          flow: int, sign: int, orphans: Integers, count: int) -> int:
    """Send flow that way; append the pixels whose links are saturated, and return their count."""
    while True:
        towards, up = parent[at], at
        if towards == _TERMINAL:
            terminal[at] -= sign * flow
            left = terminal[at]
        else:
            up += steps[towards]
            capacity[at, towards] += sign * flow
            capacity[up, 3 - towards] -= sign * flow
            left = capacity[up, 3 - towards] if sign > 0 else capacity[at, towards]
        if left == 0:
            parent[at] = _NONE
            orphans[count] = at
            count += 1
        if towards == _TERMINAL:
            return count
        at = up


@compiled()
def _depth(parent: Bytes, depth: Integers, known: Integers, steps: Integers, pixel: int, time: int
           ) -> int:
    """Pixels from one to its terminal, itself included; 0 if it is disconnected."""
    length, at = 0, pixel
    while known[at] != time:
        if parent[at] == _NONE:
            return 0
        if parent[at] == _TERMINAL:
            depth[at], known[at] = 1, time
        else:
            at += steps[parent[at]]
            length += 1
    length += depth[at]
    # Later searches end here
    at, left = pixel, length
    while known[at] != time:
        depth[at], known[at] = left, time
        at += steps[parent[at]]
        left -= 1
    return length


@compiled('void(i4[:,::1], i4[::1], i8, i1[::1])')
def cut(capacity: Integers, terminal: Integers, pitch: int, tree: Bytes) -> None:
    """
    Cut an image.

    :param capacity: (N, 4) from each pixel to its neighbours, 0 to where there are none; changed
    :param terminal: (N,) from the source to each pixel, less that to the sink; changed
    :param pitch: from a pixel to the one below
    :param tree: (N,) takes 1 for pixels on the source's side
    """
    steps, size = np.array([-1, -pitch, pitch, 1]).astype(np.int32), len(terminal)
    _cancel(capacity, terminal, steps)
    parent, waits = np.empty(size, np.int8), np.empty(size, np.bool_)
    # Lengths of paths to terminals, and after which augmentation they were found
    depth, known = np.empty(size, np.int32), np.empty(size, np.int32)
    queue, orphans = np.empty(size, np.int32), np.empty(size, np.int32)
    begin, waiting, time = 0, 0, 0
    for pixel in range(size):
        parent[pixel], known[pixel], depth[pixel] = _NONE, 0, 1
        tree[pixel], waits[pixel] = _FREE, terminal[pixel] != 0
        if waits[pixel]:
            tree[pixel] = _SOURCE if terminal[pixel] > 0 else _SINK
            parent[pixel] = _TERMINAL
            queue[waiting] = pixel
            waiting += 1
    while waiting:
        pixel = queue[begin]
        begin = begin + 1 if begin + 1 < size else 0
        waiting -= 1
        waits[pixel] = False
        own, d = tree[pixel], 0
        while d < 4 and tree[pixel] != _FREE:
            other = pixel + steps[d]
            room = capacity[pixel, d] if own == _SOURCE else capacity[other, 3 - d]
            if room == 0 or tree[other] == own:
                d += 1
                continue
            if tree[other] == _FREE:
                tree[other], parent[other] = own, 3 - d
                depth[other], known[other] = depth[pixel] + 1, known[pixel]
                if not waits[other]:
                    end = begin + waiting
                    queue[end if end < size else end - size] = other
                    waits[other] = True
                    waiting += 1
                d += 1
                continue
            # The trees meet; the link may have room for more than one path
            time += 1
            upper, lower, over = (pixel, other, d) if own == _SOURCE else (other, pixel, 3 - d)
            flow = _bottleneck(capacity, terminal, parent, steps, upper, room, 1)
            flow = _bottleneck(capacity, terminal, parent, steps, lower, flow, -1)
            capacity[upper, over] -= flow
            capacity[lower, 3 - over] += flow
            count = _send(capacity, terminal, parent, steps, upper, flow, 1, orphans, 0)
            count = _send(capacity, terminal, parent, steps, lower, flow, -1, orphans, count)
            first = 0
            while first < count:
                orphan = orphans[first]
                first += 1
                its, best, least = tree[orphan], _NONE, size
                for e in range(4):
                    near = orphan + steps[e]
                    if tree[near] == its and (capacity[near, 3 - e] if its == _SOURCE
                                              else capacity[orphan, e]) > 0:
                        length = _depth(parent, depth, known, steps, near, time)
                        if 0 < length < least:
                            best, least = e, length
                parent[orphan] = best
                if best != _NONE:
                    depth[orphan], known[orphan] = least + 1, time
                    continue
                tree[orphan] = _FREE
                for e in range(4):
                    near = orphan + steps[e]
                    if tree[near] != its:
                        continue
                    if parent[near] == 3 - e:
                        parent[near] = _NONE
                        orphans[count] = near
                        count += 1
                    if not waits[near] and (capacity[near, 3 - e] if its == _SOURCE
                                            else capacity[orphan, e]) > 0:
                        end = begin + waiting
                        queue[end if end < size else end - size] = near
                        waits[near] = True
                        waiting += 1
