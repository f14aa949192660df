# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`recon3r run` with people and labels, on a simulated room."""

from __future__ import annotations

import cv2
import numpy as np
from recon3r_ros.io.clouds import read_ply


def test_a_given_person_is_masked_and_the_map_has_classes(recon3r, pack, tmp_path):
    people, labels = tmp_path / 'people', tmp_path / 'labels'
    people.mkdir()
    labels.mkdir()
    truth = {path.name: cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 0
             for path in (pack / 'masks').glob('*.png')}
    assert max(mask.mean() for mask in truth.values()) > 0.02
    for name, person in truth.items():
        cv2.imwrite(str(people / name), 5 * person.astype(np.uint8))
        cv2.imwrite(str(labels / name), np.where(person, 9, 4).astype(np.uint8))
    out = tmp_path / 'out'
    outcome = recon3r('run', '--images', pack, '--people', people, '--labels', labels,
                      '--motion', 'off', '--output', out)
    assert outcome.status == 0, outcome.err
    for name, person in truth.items():
        mask = cv2.imread(str(out / 'masks' / name), cv2.IMREAD_GRAYSCALE) == 255
        assert mask[person].all()
        assert mask.mean() < 2 * person.mean() + 0.05
    found = read_ply(out / 'map.ply').labels
    assert (found == 4).mean() > 0.7
    assert (found == 9).mean() < 0.001  # the person is not in the map
