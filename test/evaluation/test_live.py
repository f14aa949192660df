# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Measures of a live run, against those computed by hand."""

import cv2
import numpy as np
import pytest
from recon3r_ros.evaluation.live import compare_live_masks, posed_in_time, tracking_95_ms

MS = 10**6
SECOND = 10**9


def test_late_and_missing_poses_do_not_count():
    stamps = [SECOND + i * 100 * MS for i in range(5)]
    arrivals = {stamps[0]: stamps[0] + 5 * MS,
                stamps[1]: stamps[1] + 500 * MS,
                stamps[2]: stamps[2] + 501 * MS,
                stamps[4]: stamps[4] + 499 * MS,
                stamps[4] + 1: stamps[4] + 2}  # of no image
    assert posed_in_time(stamps, arrivals) == pytest.approx(3 / 5)
    assert posed_in_time([], arrivals) == 0


def test_missing_masks_count_as_wrong_after_the_first_second(tmp_path):
    """Images at 0, 0.5 ... 3 s: those at 1 s and later are compared."""
    published, truth = tmp_path / 'masks', tmp_path / 'truth'
    published.mkdir()
    truth.mkdir()
    left, half, none = np.zeros((3, 10, 20), np.uint8)
    left[:, :8], half[:, :4] = 255, 255

    def write(folder, half_seconds, mask):
        cv2.imwrite(str(folder / f'{5 * SECOND + half_seconds * SECOND // 2}.png'), mask)

    for k, mask in enumerate((left, left, left, left, left, none, none)):
        write(truth, k, mask)
    for k, mask in ((2, left), (3, half), (5, none)):
        write(published, k, mask)
    found = compare_live_masks(published, truth)
    assert (found.images, found.missing) == (5, 2)
    # equal, half of it, missing, both empty, missing although there is nothing to see
    assert found.jaccard == pytest.approx((1 + 0.5 + 0 + 1 + 0) / 5)


def test_without_images_there_is_nothing_to_compare(tmp_path):
    assert compare_live_masks(tmp_path, tmp_path) is None


def test_images_before_the_map_do_not_count_once_there_is_one() -> None:
    """Images at 0 and 100 ms get their poses at 200 ms, those from 201 ms on after 10 ms."""
    waited = {0: 200 * MS, 100 * MS: 200 * MS}
    tracked = {n * MS: (n + 10) * MS for n in range(201, 301)}
    assert tracking_95_ms({**waited, **tracked}) == pytest.approx(10.0)
    assert np.isnan(tracking_95_ms(waited))
