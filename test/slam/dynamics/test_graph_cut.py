# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Minimum cuts of small images, against SciPy's maximum flow."""

from __future__ import annotations

import numpy as np
import pytest
from recon3r_ros.slam.dynamics.graph_cut import cut
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import maximum_flow


def graph(rng, height, width, largest):
    """Give random capacities of an image of which some pixels are missing."""
    pitch = width + 2
    present = np.zeros((height + 2, pitch), bool)
    present[1:-1, 1:-1] = rng.random((height, width)) < 0.9
    pixels = present.ravel()
    neighbours = np.arange(pixels.size)[:, None] + [-1, -pitch, pitch, 1]
    exists = pixels[:, None] & pixels[neighbours.clip(0, pixels.size - 1)]
    capacity = rng.integers(0, largest, (pixels.size, 4)) * exists
    terminal = rng.integers(-2 * largest, 2 * largest + 1, pixels.size) * pixels
    return capacity.astype(np.int32), terminal.astype(np.int32), pitch, neighbours


def value(capacity, terminal, neighbours, source_side):
    """Sum up what a cut severs."""
    severed = source_side[:, None] & ~source_side[neighbours.clip(0, len(terminal) - 1)]
    return int((capacity * severed).sum() + terminal[~source_side].clip(0).sum()
               - terminal[source_side].clip(None, 0).sum())


def flow(capacity, terminal, neighbours):
    """Maximum flow from the source to the sink."""
    size = len(terminal)
    rows, directions = np.nonzero(capacity)
    sources, sinks = np.flatnonzero(terminal > 0), np.flatnonzero(terminal < 0)
    rows_of_all = np.r_[rows, np.full(len(sources), size), sinks]
    columns = np.r_[neighbours[rows, directions], sources, np.full(len(sinks), size + 1)]
    values = np.r_[capacity[rows, directions], terminal[sources], -terminal[sinks]]
    links = coo_matrix((values.astype(np.int32), (rows_of_all, columns)),
                       shape=(size + 2, size + 2)).tocsr()
    return maximum_flow(links, size, size + 1).flow_value


@pytest.mark.parametrize('largest', [2, 20, 500])
def test_the_cut_is_a_minimum(largest):
    rng = np.random.default_rng(largest)
    for _ in range(30):
        capacity, terminal, pitch, neighbours = graph(rng, *rng.integers(1, 14, 2), largest)
        tree = np.empty(len(terminal), np.int8)
        cut(capacity.copy(), terminal.copy(), pitch, tree)
        assert (value(capacity, terminal, neighbours, tree == 1)
                == flow(capacity, terminal, neighbours))


def test_links_keep_neighbours_together():
    # A row of five pixels: the ends are certain, and the weakest link is the fourth
    capacity, terminal = np.zeros((3 * 7, 4), np.int32), np.zeros(3 * 7, np.int32)
    for n, link in enumerate((9, 8, 7, 2)):
        capacity[8 + n, 3] = capacity[9 + n, 0] = link
    terminal[8], terminal[12] = 100, -100
    tree = np.empty(len(terminal), np.int8)
    cut(capacity, terminal, 7, tree)
    np.testing.assert_array_equal(tree[8:13] == 1, [True, True, True, True, False])
