# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Folders of a rig of several cameras."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import se3
from recon3r_ros.io.sequences import open_sequence

CAMERA = {'width': 64, 'height': 48, 'fx': 60.0, 'fy': 60.0, 'cx': 31.5, 'cy': 23.5}
T_FRONT_BACK = se3.from_rt(se3.so3_exp([0.0, np.pi, 0.0]), [0.0, 0.0, -0.2])


def make(folder: Path, **changes: object) -> Path:
    """Write three instants, of the second only the front image."""
    for name, numbers in (('front', (0, 1, 2)), ('back', (0, 2))):
        (folder / name).mkdir(parents=True)
        for i in numbers:
            image = np.full((48, 64, 3), 40 * i + (100 if name == 'back' else 0), np.uint8)
            cv2.imwrite(str(folder / name / f'{i}.png'), image)
        (folder / name / 'frames.txt').write_text(''.join(
            f'{0.1 * i + (0.002 if name == "back" else 0.0)} {i}.png\n' for i in numbers))
    rig = {'front': CAMERA, 'back': CAMERA, 'T_front_back': T_FRONT_BACK.tolist(), **changes}
    (folder / 'rig.json').write_text(json.dumps(
        {key: value for key, value in rig.items() if value is not None}))
    return folder


def test_images_of_an_instant_come_together(tmp_path: Path) -> None:
    sequence = open_sequence(make(tmp_path / 'rig'))
    for _ in range(2):
        frames = list(sequence)
        assert [(f.camera_name, f.index) for f in frames] == [
            ('front', 0), ('back', 1), ('front', 2), ('front', 3), ('back', 4)]
        assert [f.image[0, 0, 0] for f in frames] == [0, 100, 40, 80, 180]
        instants = [f.mount.instant_ns for f in frames if f.mount is not None]
        assert instants == [0, 0, 100_000_000, 200_000_000, 200_000_000]
        assert frames[1].stamp_ns == 2_000_000 and frames[1].name == 'back_0'
        assert sequence.file_name(frames[1]) == 'back/0.png'
    assert frames[1].mount is not None and frames[1].camera is not None
    np.testing.assert_allclose(frames[1].mount.T_rig_cam, T_FRONT_BACK, atol=1e-9)
    assert len(sequence) == 5


@pytest.mark.parametrize('changes, words', [
    ({'T_front_back': None}, 'T_front_back is missing'),
    ({'T_front_back': np.ones((4, 4)).tolist()}, 'T_front_back'),
    ({'back': {'width': 64}}, 'back: height: missing')])
def test_what_is_wrong_with_a_rig_is_named(tmp_path: Path, changes: dict[str, object], words: str
                                           ) -> None:
    with pytest.raises(InputError, match=words):
        open_sequence(make(tmp_path / 'rig', **changes))


def test_an_image_that_cannot_be_read_leaves_the_others(tmp_path: Path) -> None:
    folder = make(tmp_path / 'rig')
    (folder / 'back' / '2.png').write_bytes(b'no image')
    sequence = open_sequence(folder)
    assert [f.name for f in sequence] == ['front_0', 'back_0', 'front_1', 'front_2']
    assert any('back/2' in reason for reason in sequence.skipped)
