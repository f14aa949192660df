# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Scores of masks as DAVIS defines them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from recon3r_ros.bench.davis import measure, score
from recon3r_ros.errors import InputError


def write(folder: Path, values: list[np.ndarray]) -> Path:
    """Write masks of consecutive frames."""
    folder.mkdir(parents=True)
    for n, value in enumerate(values):
        cv2.imwrite(str(folder / f'{n:05}.png'), value)
    return folder


def half(columns: int, value: int = 255) -> np.ndarray:
    """Mask of the first columns of eight."""
    out = np.zeros((4, 8), np.uint8)
    out[:, :columns] = value
    return out


def test_scores_by_hand(tmp_path: Path) -> None:
    truth = write(tmp_path / 'truth', [half(4)] * 8)
    own = write(tmp_path / 'own', [half(4), half(4), half(2), half(3), half(2), half(4), half(1),
                                   np.full((4, 8), 127, np.uint8)])
    found = score(own, truth)
    values = [1, 1, 0.5, 0.75, 0.5, 1, 0.25, 0]
    assert found.mean == pytest.approx(np.mean(values))
    assert found.recall == pytest.approx(4 / 8), 'above one half, not equal to it'
    assert found.decay == pytest.approx(1 - 0.125)
    assert found.unknown == 1


def test_a_missing_mask_is_unknown(tmp_path: Path) -> None:
    truth = write(tmp_path / 'truth', [half(4), np.zeros((4, 8), np.uint8)])
    found = score(write(tmp_path / 'own', [half(4)]), truth)
    assert found.mean == 1 and found.unknown == 1, 'nothing is there, and nothing was found'


def test_folders_without_masks_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match='pack.*masks'):
        measure([tmp_path / 'pack'], tmp_path / 'page.md')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(InputError, match='no annotation'):
        score(tmp_path, tmp_path / 'empty')
