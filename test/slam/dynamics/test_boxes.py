# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Boxes of objects by a mask and ids."""

from __future__ import annotations

import numpy as np
import pytest
from recon3r_ros.slam.dynamics.boxes import Box, boxes

SHAPE = (20, 30)


def test_boxes_enclose_what_is_masked() -> None:
    mask, ids = np.zeros(SHAPE, bool), np.zeros(SHAPE, np.int32)
    mask[2:8, 3:13] = True
    mask[2:5, 3:8] = False
    mask[10:20, 25:30] = True
    ids[3:6, 5:10], ids[10:15, 20:30] = 7, 2
    assert boxes(mask, ids) == [
        Box(2, 25, 10, 5, 10, 1.0), Box(7, 3, 2, 10, 6, pytest.approx(45 / 60))]


def test_an_object_that_the_mask_does_not_show_has_no_box() -> None:
    mask, ids = np.zeros(SHAPE, bool), np.zeros(SHAPE, np.int32)
    ids[3:6, 5:10] = 7
    assert boxes(mask, ids) == []
    mask[3:6, 5:10] = True
    ids[3:6, 25:30] = 8
    assert [box.id for box in boxes(mask, ids)] == [7]


def test_without_ids_there_are_no_boxes() -> None:
    assert boxes(np.ones(SHAPE, bool), np.zeros(SHAPE, np.int32)) == []
