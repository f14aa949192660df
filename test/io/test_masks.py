# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The user's masks."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.io.masks import MaskedSequence, read_static_mask, StaticMaskSequence
from recon3r_ros.io.sequences import open_sequence


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Return three images, and masks for the first two of them: one grey, one in colour."""
    images, masks = tmp_path / 'images', tmp_path / 'masks'
    for folder in (images, masks):
        folder.mkdir()
    for n in range(3):
        cv2.imwrite(str(images / f'{n}.png'), np.full((24, 32, 3), 40 * n, np.uint8))
    mask = np.zeros((24, 32), np.uint8)
    mask[5:9, 3:20] = 1
    cv2.imwrite(str(masks / '0.png'), mask)
    cv2.imwrite(str(masks / '1.png'), cv2.merge([0 * mask, 0 * mask, 255 * mask]))
    return images, masks


def test_masks_come_with_their_images(folders: tuple[Path, Path]) -> None:
    images, masks = folders
    sequence = MaskedSequence(open_sequence(images=images), masks)
    assert len(sequence) == 3 and sequence.name == open_sequence(images=images).name
    for _ in range(2):
        first, second, third = sequence
        assert first.mask is not None and second.mask is not None and third.mask is None
        assert first.mask.dtype == bool and first.mask.sum() == 4 * 17
        assert np.array_equal(first.mask, second.mask)
        assert sequence.file_name(first) == '0.png' and not sequence.skipped


def test_an_image_with_a_damaged_mask_is_used(folders: tuple[Path, Path], caplog) -> None:
    images, masks = folders
    (masks / '0.png').write_bytes((masks / '0.png').read_bytes()[:-20])
    for _ in range(2):
        frames = list(MaskedSequence(open_sequence(images=images), masks))
        assert [f.mask is None for f in frames] == [True, False, True]
    assert str(masks / '0.png') in caplog.text


def test_masks_that_fit_nothing(folders: tuple[Path, Path], tmp_path: Path, caplog) -> None:
    images, masks = folders
    sequence = open_sequence(images=images)
    with pytest.raises(InputError, match='no such folder of masks'):
        MaskedSequence(sequence, tmp_path / 'none')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(InputError, match='no mask NAME.png'):
        MaskedSequence(sequence, tmp_path / 'empty')
    (masks / '0.png').rename(masks / 'a.png')
    (masks / '1.png').rename(masks / 'b.png')
    assert len(list(MaskedSequence(sequence, masks))) == 3
    assert 'no mask has the name of an image' in caplog.text
    cv2.imwrite(str(masks / '2.png'), np.zeros((12, 16), np.uint8))
    with pytest.raises(InputError, match='2.png: mask of 16x12 for an image of 32x24'):
        list(MaskedSequence(sequence, masks))


def test_one_mask_for_all_images(folders: tuple[Path, Path]) -> None:
    images, masks = folders
    sequence = StaticMaskSequence(MaskedSequence(open_sequence(images=images), masks),
                                  masks / '1.png')
    frames = list(sequence)
    assert len(sequence) == len(frames) == 3 and sequence.file_name(frames[2]) == '2.png'
    for frame in frames:
        assert frame.static_mask is frames[0].static_mask and frame.static_mask.sum() == 4 * 17
    assert frames[0].mask is not None and frames[2].mask is None, 'dynamic ones stay'


def test_a_static_mask_that_cannot_be_used(folders: tuple[Path, Path], tmp_path: Path) -> None:
    images, masks = folders
    with pytest.raises(InputError, match='no such mask'):
        read_static_mask(tmp_path / 'none.png')
    (tmp_path / 'text.png').write_text('no image')
    with pytest.raises(InputError, match=r'text\.png'):
        read_static_mask(tmp_path / 'text.png')
    cv2.imwrite(str(tmp_path / 'small.png'), np.zeros((12, 16), np.uint8))
    with pytest.raises(InputError, match='mask of 16x12 for images of 32x24'):
        list(StaticMaskSequence(open_sequence(images=images), tmp_path / 'small.png'))
