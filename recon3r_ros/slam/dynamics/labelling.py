# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Dynamic objects from evidence of motion and from colours: a minimum cut of a frame's cells.

A cell's cost is the evidence of its motion and the likelihood of its colour; neighbours of alike
colours share a label (Boykov and Jolly, 'Interactive Graph Cuts', ICCV 2001). A region is a
dynamic object only where motion itself was seen in it: colours alone make none.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.compiled import compiled, f4, i4
from recon3r_ros.slam.dynamics import graph_cut
from recon3r_ros.slam.dynamics.colours import Colours
from recon3r_ros.slam.dynamics.compiled_grabcut import contrast
from recon3r_ros.slam.dynamics.graph_cut import DOWN, LEFT, RIGHT, UP
from recon3r_ros.slam.dynamics.regions import labelled, large_regions

Map = NDArray[np.float32]
Image = NDArray[np.uint8]
Integers = NDArray[np.int32]
Mask = NDArray[np.bool_]

#: Score of a cell that is as likely dynamic as static, and the difference that makes it certain;
#: the former where evidence is that of both directions of time, of twice as many votes
EVEN, CERTAIN, EVEN_OF_BOTH = f4(0.7), f4(1.5), f4(1.0)
#: Weights of colours, and of links between neighbours: of those of the same colour, and of all
COLOUR, LINK, LEAST_LINK = f4(1.0), f4(0.4), f4(0.05)
#: Passes in which colours are learned from labels that they have changed
PASSES = 2
#: Evidence for an object where it paused, before that of colours, which must be clear
HELD = f4(-0.3)
#: A dynamic object has scores above SEED somewhere, and of MEAN on average
SEED, MEAN = 1.0, 0.75
#: Regions of a smaller share of the image are noise
MIN_REGION = 0.002
#: Capacities are integers: of a unit of cost
_UNIT = f4(1000)
_1, _2 = f4(1), f4(2)


def label(colours: Colours, score: Map, held: Mask, fixed: Mask, learned: Callable[[Map], Map]
          ) -> tuple[Mask, Mask]:
    """
    Label the dynamic objects of a frame.

    :param colours: of the cells
    :param score: (rows, columns) evidence of motion
    :param held: (rows, columns) where an object paused: that it does not move says nothing there
    :param fixed: (rows, columns) what is fixed to the camera: neither objects nor scene
    :param learned: from the frame's evidence (rows, columns) to histograms of some frames
    :return: (rows, columns) each: objects that move, and those that pause
    """
    moves = by_motion(score)
    moves[held] = np.maximum(moves[held], HELD)
    evidence = without(fixed, moves)
    for _ in range(PASSES):
        evidence = without(fixed, by_colours(moves, colours, learned(evidence)))
    mask = cut(colours.image, evidence) & ~fixed
    moving = objects(mask, score)
    return moving, large_regions(mask & held & ~moving, MIN_REGION)


def by_motion(score: Map, even: np.float32 = EVEN) -> Map:
    """Evidence (rows, columns) for a dynamic object from that of motion."""
    return np.clip((score - even) / CERTAIN, -_2, _2)


def by_colours(moves: Map, colours: Colours, histograms: Map) -> Map:
    """Add the evidence of colours to that of motion."""
    return moves + COLOUR * colours.evidence(histograms)


def without(fixed: Mask, evidence: Map) -> Map:
    """Evidence (rows, columns) that says nothing where something is fixed to the camera."""
    return np.where(fixed, np.float32(0), evidence) if fixed.any() else evidence


def cut(image: Image, evidence: Map) -> Mask:
    """
    Cut a frame's cells into dynamic objects and the static scene.

    :param image: (rows, columns, 3) colours
    :param evidence: (rows, columns) for a dynamic object
    """
    rows, columns = evidence.shape
    capacity = np.zeros(((rows + 2) * (columns + 2), 4), np.int32)
    terminal, tree = np.zeros(len(capacity), np.int32), np.empty(len(capacity), np.int8)
    _build(image, evidence, 0.5 / max(contrast(image), 1e-9), capacity, terminal)
    graph_cut.cut(capacity, terminal, columns + 2, tree)
    return tree.reshape(rows + 2, columns + 2)[1:-1, 1:-1] == 1


def objects(mask: Mask, score: Map) -> Mask:
    """
    Keep the regions of a mask (rows, columns) in which motion was seen.

    Where alike colours led beyond an object, what was seen moving by itself is left of it.
    """
    kept = _moving(mask, score)
    return kept | _moving(mask & ~kept & (score > SEED), score)


def _moving(mask: Mask, score: Map) -> Mask:
    """Keep the regions of a mask that have enough evidence of motion."""
    regions = labelled(mask)
    count = int(regions.max(initial=0)) + 1
    areas = np.bincount(regions.ravel(), minlength=count)
    sums = np.bincount(regions.ravel(), score.ravel(), count)
    seeds = np.bincount(regions.ravel(), score.ravel() > SEED, count)
    keep = (areas >= MIN_REGION * mask.size) & (sums > MEAN * areas) & (seeds > 0)
    keep[0] = False
    return np.asarray(keep[regions])


@compiled()
def _link(image: Image, i: int, j: int, k: int, n: int, beta: float) -> int:
    """Capacity of the link between two cells."""
    r = f4(image[i, j, 0]) - f4(image[k, n, 0])
    g = f4(image[i, j, 1]) - f4(image[k, n, 1])
    b = f4(image[i, j, 2]) - f4(image[k, n, 2])
    return i4(_UNIT * LINK * (LEAST_LINK + np.exp(-beta * (r * r + g * g + b * b))))


@compiled('void(u1[:,:,::1], f4[:,::1], f4, i4[:,::1], i4[::1])')
def _build(image: Image, evidence: Map, beta: float, capacity: Integers, terminal: Integers
           ) -> None:
    """
    Build the graph of a frame's cells: see `graph_cut`.

    :param beta: over the squared difference of colours: 1 / (2 times its mean)
    :param capacity: ((rows + 2) (columns + 2), 4) of 0; takes the capacities
    :param terminal: ((rows + 2) (columns + 2),) takes the evidence
    """
    rows, columns = evidence.shape
    pitch = columns + 2
    for i in range(rows):
        for j in range(columns):
            cell = (i + 1) * pitch + j + 1
            terminal[cell] = i4(_UNIT * evidence[i, j])
            if j + 1 < columns:
                link = _link(image, i, j, i, j + 1, beta)
                capacity[cell, RIGHT], capacity[cell + 1, LEFT] = link, link
            if i + 1 < rows:
                link = _link(image, i, j, i + 1, j, beta)
                capacity[cell, DOWN], capacity[cell + pitch, UP] = link, link
