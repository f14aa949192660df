# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Input and output of the networks of people, against cases computed by hand."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from recon3r_ros.errors import InputError, Recon3rError
from recon3r_ros.models import pose_decoding
from recon3r_ros.models.litert import tflite_files
from recon3r_ros.models.pose_networks import PoseNetworks

DETECTOR = pose_decoding.DETECTOR


def test_anchors_are_centres_of_cells_row_by_row():
    found = pose_decoding.anchors()
    assert found.shape == (2254, 2)
    np.testing.assert_allclose(found[[0, 1, 2, 56]], [
        [0.5 / 28, 0.5 / 28], [0.5 / 28, 0.5 / 28], [1.5 / 28, 0.5 / 28], [0.5 / 28, 1.5 / 28]])
    np.testing.assert_allclose(found[1568], [0.5 / 14, 0.5 / 14])
    np.testing.assert_allclose(found[1960:1966], [[0.5 / 7, 0.5 / 7]] * 6)
    np.testing.assert_allclose(found[-1], [6.5 / 7, 6.5 / 7])


@pytest.mark.parametrize('shape', [(480, 854), (640, 360), (100, 100)])
def test_a_letterbox_keeps_the_proportions(shape):
    image = np.zeros((*shape, 3), np.uint8)
    row, column = shape[0] // 3, shape[1] // 4
    reach = max(shape) // 40 + 1
    image[row - reach:row + reach + 1, column - reach:column + reach + 1] = 255
    square, to_image = pose_decoding.letterboxed(image)
    assert square.shape == (1, DETECTOR, DETECTOR, 3) and square.min() == -1
    weights = square[0, ..., 0] + 1
    v, u = (float((weights * g).sum() / weights.sum()) for g in np.mgrid[:DETECTOR, :DETECTOR])
    share = (np.array([u, v]) + 0.5) / DETECTOR
    np.testing.assert_allclose(to_image[:, :2] @ share + to_image[:, 2], [column, row],
                               atol=0.004 * max(shape))


def output(detections: dict[int, tuple[float, list[float]]]):
    """Make the detector's output: logits and values of some anchors."""
    values, logits = np.zeros((2254, 12), np.float32), np.full(2254, -100, np.float32)
    for n, (logit, row) in detections.items():
        logits[n] = logit
        values[n, :len(row)] = row
    return values, logits


def test_detections_are_decoded_and_overlaps_suppressed():
    anchor = 2 * (28 * 14 + 14)  # at 14.5 / 28 of both sides
    # 11.2 and -5.6 pixels off the centre, 56 wide and 112 high; points 8 below and 80 above it
    row = [11.2, -5.6, 56, 112, 0, 8, 0, -80]
    values, logits = output({
        anchor: (2.0, row), anchor + 1: (0.5, row),
        2 * (28 * 14 + 4): (1.0, row), 7: (-1.0, row)})
    to_image = np.array([[DETECTOR, 0, 0], [0, DETECTOR, 0]], float)
    first, second = pose_decoding.decoded(values, logits, to_image, 0.5)
    centre = 14.5 / 28 * DETECTOR
    assert first.score == pytest.approx(1 / (1 + np.exp(-2)))
    np.testing.assert_allclose(first.box, [centre + 11.2 - 28, centre - 5.6 - 56,
                                           centre + 11.2 + 28, centre - 5.6 + 56], rtol=1e-6)
    np.testing.assert_allclose(first.hip, [centre, centre + 8], rtol=1e-6)
    assert first.radius == pytest.approx(88)
    # 80 pixels to the left there is another one
    assert second.score == pytest.approx(1 / (1 + np.exp(-1)))
    assert first.hip[0] - second.hip[0] == pytest.approx(80)
    assert pose_decoding.decoded(*output({0: (-1, row)}), to_image, 0.5) == []
    # The logits of a broken input are finite
    assert np.isfinite(pose_decoding.sigmoid(np.array([-1e30, 1e30], np.float32))).all()


@pytest.mark.parametrize('up', [(0, -1), (1, 0), (0.6, 0.8)])
def test_the_square_about_a_body_is_upright_and_turns_back(up):
    hip, up = np.array([120.0, 90.0]), np.array(up, float)
    detection = pose_decoding.Detection(0.9, np.zeros(4), hip, hip + 40 * up)
    to_image = pose_decoding.crop_to_image(detection, 256)
    middle = np.array([127.5, 127.5, 1])
    np.testing.assert_allclose(to_image @ middle, hip)
    # The rim is straight above, 1 / 2.5 of the side away
    np.testing.assert_allclose(to_image @ (middle + [0, -256 / 2.5, 0]), detection.rim)
    assert np.linalg.det(to_image[:, :2]) == pytest.approx((100 / 256) ** 2), 'not mirrored'
    # A mask's left upper quarter, there and back
    logits = np.full((256, 256), -20, np.float32)
    logits[:128, :128] = 20
    mask = pose_decoding.mask_in_image(logits, to_image, (200, 240)) > 0.5
    right = np.array([-up[1], up[0]])
    rows, columns = np.nonzero(mask)
    assert mask.sum() == pytest.approx(50 ** 2, rel=0.05)
    np.testing.assert_allclose([columns.mean(), rows.mean()], hip + 25 * up - 25 * right, atol=0.7)
    image = np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2)
    square = pose_decoding.cropped(image, to_image, 256)[0, ..., 0]
    assert ((square > 0.5) == (logits > 0)).mean() > 0.98


def test_landmarks_are_brought_to_the_image():
    values = np.zeros((39, 5), np.float32)
    values[3] = [128, 25.6, 9, 0, 7]
    hip = np.array([60.0, 80.0])
    to_image = pose_decoding.crop_to_image(
        pose_decoding.Detection(1, np.zeros(4), hip, hip - [0, 40]), 256)
    found = pose_decoding.landmarks_in_image(values.ravel(), to_image, 33)
    assert found.shape == (33, 3)
    np.testing.assert_allclose(found[3], [60, 80 - 40, 0.5], atol=1e-4)


def test_files_are_found_in_folders_and_archives(tmp_path):
    (tmp_path / 'a.tflite').write_bytes(b'1')
    (tmp_path / 'b.tflite').write_bytes(b'22')
    assert [content for _, content in tflite_files(tmp_path)] == [b'22', b'1']
    with zipfile.ZipFile(tmp_path / 'x.task', 'w') as archive:
        archive.writestr('in/one.tflite', b'333')
        archive.writestr('other.txt', b'')
    ((name, content),) = tflite_files(tmp_path / 'x.task')
    assert content == b'333' and 'x.task' in name and 'one.tflite' in name


@pytest.mark.parametrize('name, content, words', [
    ('missing.task', None, 'no such file'), ('broken.task', b'no archive', 'cannot be read'),
    ('model.onnx', b'', 'expected a .task file'), ('empty', None, 'holds no .tflite file')])
def test_files_that_cannot_be_used_are_named(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    elif name == 'empty':
        (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=words) as caught:
        PoseNetworks.open(tmp_path / name)
    assert name in str(caught.value)


def test_without_the_package_or_with_other_networks_it_says_what_to_do(tmp_path):
    (tmp_path / 'x.tflite').write_bytes(b'no network')
    try:
        import ai_edge_litert  # noqa: F401
        words = 'LiteRT cannot load it'
    except ModuleNotFoundError:
        words = r'recon3r_ros\[people\]'
    with pytest.raises(Recon3rError, match=words):
        PoseNetworks.open(tmp_path)
