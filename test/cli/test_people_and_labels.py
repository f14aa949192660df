# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`recon3r run` with people and labels, on a simulated room."""

from __future__ import annotations

import cv2
import numpy as np
from recon3r_ros.io.clouds import read_ply
from recon3r_ros.io.labels import read_class_names
from recon3r_ros.io.map_store import read_map


def test_a_given_person_is_masked_and_the_map_has_classes(recon3r, pack, tmp_path):
    people, labels = tmp_path / 'people', tmp_path / 'labels'
    people.mkdir()
    (labels / 'instances').mkdir(parents=True)
    (labels / 'classes.txt').write_text('a\nb\nc\nroom\n')
    truth = {path.name: cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 0
             for path in (pack / 'masks').glob('*.png')}
    assert max(mask.mean() for mask in truth.values()) > 0.02
    for name, person in truth.items():
        cv2.imwrite(str(people / name), 5 * person.astype(np.uint8))
        cv2.imwrite(str(labels / name), np.where(person, 9, 4).astype(np.uint8))
        number = 1 + len(list((labels / 'instances').iterdir()))  # another one in each image
        cv2.imwrite(str(labels / 'instances' / name), np.full(person.shape, number, np.uint8))
    out = tmp_path / 'out'
    outcome = recon3r('run', '--images', pack, '--people', people, '--labels', labels,
                      '--motion', 'off', '--output', out)
    assert outcome.status == 0, outcome.err
    for name, person in truth.items():
        mask = cv2.imread(str(out / 'masks' / name), cv2.IMREAD_GRAYSCALE) == 255
        assert mask[person].all()
        assert mask.mean() < 2 * person.mean() + 0.05
    cloud = read_ply(out / 'map.ply')
    found = cloud.labels
    assert (found == 4).mean() > 0.7
    assert (found == 9).mean() < 0.001  # the person is not in the map
    assert (cloud.instances[found == 4] == 1).mean() > 0.9, 'one object'
    saved = read_map(out / 'map.npz')
    assert saved.labels is not None and saved.labels.given
    assert saved.labels.names == read_class_names(out / 'classes.txt') == ('a', 'b', 'c', 'room')
    assert saved.labels.images.keys() == saved.map.keyframes.keys()
