# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""People and labels of an image, from their topics."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is missing')

from recon3r_ros.ros import conversions  # noqa: E402
from recon3r_ros.ros.id_input import IdInput  # noqa: E402
from recon3r_ros.slam.types import PointCloud  # noqa: E402


def message(values: np.ndarray, stamp_ns: int, encoding: str):
    """Make a message of numbers."""
    out = conversions.image_message(np.zeros(values.shape, np.uint8), stamp_ns, 'camera')
    out.encoding, out.step = encoding, values[:1].nbytes
    out.data = np.ascontiguousarray(values).view(np.uint8).ravel().tolist()
    return out


@pytest.mark.parametrize('encoding, kind', [('mono8', np.uint8), ('16UC1', np.uint16)])
def test_numbers_are_those_of_the_nearest_message_within_the_tolerance(encoding, kind):
    ids = IdInput('camera/people', 0.02, lambda text: None)
    ids.on_image(message(np.full((4, 6), 3, kind), 1_000_000_000, encoding))
    ids.on_image(message(np.full((4, 6), 200, kind), 1_030_000_000, encoding))
    assert (ids.of(1_020_000_000, (4, 6)) == 200).all()
    assert (ids.of(990_000_000, (4, 6)) == 3).all()
    assert ids.of(1_060_000_000, (4, 6)) is None


@pytest.mark.parametrize('values, encoding, words', [
    (np.zeros((4, 3), np.uint8), 'mono8', "publish them at the image's size"),
    (np.zeros((4, 6, 3), np.uint8), 'rgb8', 'expected mono8'),
    (np.full((4, 6), 256, np.uint16), '16UC1', 'more than 255')])
def test_an_unusable_message_is_left_out_with_a_warning(values, encoding, words):
    said: list[str] = []
    ids = IdInput('camera/labels', 0.02, said.append, 255)
    ids.on_image(message(values, 5, encoding))
    assert ids.of(5, (4, 6)) is None
    assert len(said) == 1 and words in said[0] and 'camera/labels' in said[0]


def test_clouds_have_a_field_for_labels_where_there_are_some():
    cloud = PointCloud(np.arange(9, dtype=np.float32).reshape(3, 3),
                       np.full((3, 3), 7, np.uint8), np.ones(3, np.float32))
    assert 'label' not in [f.name for f in conversions.cloud_message(cloud, 1, 'map').fields]
    labelled = PointCloud(cloud.points, cloud.colors, cloud.confidences,
                          np.array([0, 9, 255], np.uint8))
    out = conversions.cloud_message(labelled, 1, 'map')
    field = next(f for f in out.fields if f.name == 'label')
    raw = np.frombuffer(out.data, np.uint8).reshape(3, out.point_step)
    assert raw[:, field.offset].tolist() == [0, 9, 255]
    numbered = PointCloud(cloud.points, cloud.colors, cloud.confidences, labelled.labels,
                          np.array([0, 700, 65535], np.uint16))
    for given in (numbered, PointCloud(*(getattr(numbered, n) for n in (
            'points', 'colors', 'confidences')), instances=numbered.instances)):
        both = conversions.cloud_message(given, 1, 'map')
        offsets = {f.name: f.offset for f in both.fields}
        raw = np.frombuffer(both.data, np.uint8).reshape(3, both.point_step)
        place = offsets['instance']
        assert raw[:, place:place + 2].copy().view('<u2').ravel().tolist() == [0, 700, 65535]
        if given.labels is not None:
            assert raw[:, offsets['label']].tolist() == [0, 9, 255]
        assert (conversions.cloud_from_message(both).points == cloud.points).all()
    back = conversions.cloud_from_message(out)
    assert (back.points == cloud.points).all() and (back.colors == cloud.colors).all()
