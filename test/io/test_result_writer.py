# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The output folder: contents, background thread, full and unwritable disks."""

from dataclasses import dataclass
import errno
import json
import threading

import cv2
import numpy as np
import pytest
from recon3r_ros.errors import OutputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io import atomic
from recon3r_ros.io import writer as writer_module
from recon3r_ros.io.trajectory import read_tum
from recon3r_ros.io.writer import KeyframeRecord, ResultWriter
from recon3r_ros.slam.types import PointCloud, TrackingState

pytestmark = pytest.mark.usefixtures('no_new_threads')

DEPTH = np.random.default_rng(0).uniform(0.5, 4.0, (240, 320)).astype(np.float32)


def files(folder):
    """Return all files below a folder."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob('*') if p.is_file())


def test_everything_is_written(tmp_path):
    output = tmp_path / 'a' / 'b'
    depth = DEPTH.copy()
    depth[:10] = np.nan
    with ResultWriter(output) as results:
        flags = np.zeros((48, 64), bool)
        flags[5:9, 6:30] = True
        results.mask('m0', flags)
        results.mask('m1.5', flags.astype(np.uint8) * 3)
        results.depth('k', depth, 1 / depth)
        expected = depth.copy()
        flags[:] = True  # a later change of the array must have no effect
        depth[:] = 0
        results.trajectory([0, 5], np.stack([np.eye(4)] * 2))
        results.cloud(PointCloud(
            np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8), np.zeros(0, np.float32)))
        results.keyframes([])
        results.report({})
    assert files(output) == [
        'depth/k.npz', 'keyframes.json', 'map.ply', 'masks/m0.png', 'masks/m1.5.png',
        'report.json', 'trajectory.txt']
    for name in ('m0', 'm1.5'):
        mask = cv2.imread(str(output / 'masks' / f'{name}.png'), cv2.IMREAD_UNCHANGED)
        wanted = np.zeros((48, 64), np.uint8)
        wanted[5:9, 6:30] = 255
        np.testing.assert_array_equal(mask, wanted)
    with np.load(output / 'depth' / 'k.npz') as arrays:
        assert sorted(arrays) == ['confidence', 'depth']
        assert arrays['depth'].dtype == arrays['confidence'].dtype == np.float32
        np.testing.assert_array_equal(arrays['depth'], expected)
    assert read_tum(output / 'trajectory.txt')[0].tolist() == [0, 5]


def test_keyframes(tmp_path):
    camera = Camera(320, 240, 200.0, 201.0, 159.5, 119.5)
    pose = np.arange(16.0).reshape(4, 4)
    with ResultWriter(tmp_path) as results:
        results.keyframes([KeyframeRecord('k', 1403715273262143001, 7, pose, camera)])
        bent = Camera(320, 240, 200.0, 201.0, 159.5, 119.5, (.1, 0, 0, 0))
        with pytest.raises(OutputError, match='keyframe k: depth must have a pinhole'):
            results.keyframes([KeyframeRecord('k', 1, 7, pose, bent)])
    assert json.loads((tmp_path / 'keyframes.json').read_text()) == [{
        'name': 'k', 'stamp': 1403715273.262143001, 'stamp_ns': 1403715273262143001, 'index': 7,
        'T_world_cam': pose.tolist(), 'width': 320, 'height': 240, 'fx': 200.0, 'fy': 201.0,
        'cx': 159.5, 'cy': 119.5}]


@dataclass(frozen=True)
class Timing:
    """Example content of a report."""

    mean: float
    worst: np.float32


def test_report(tmp_path):
    with ResultWriter(tmp_path) as results:
        results.report({
            'timing': Timing(0.5, np.float32('nan')), 'count': np.int64(3), 'path': tmp_path,
            'array': np.arange(2), 'state': TrackingState.LOST, 'flags': (True, None), 'n': 'é'})
        with pytest.raises(OutputError, match='report.json: cannot be converted to JSON'):
            results.report({'x': object()})
    assert json.loads((tmp_path / 'report.json').read_text()) == {
        'timing': {'mean': 0.5, 'worst': None}, 'count': 3, 'path': str(tmp_path),
        'array': [0, 1], 'state': 'lost', 'flags': [True, None], 'n': 'é'}


def test_report_of_a_dataclass(tmp_path):
    with ResultWriter(tmp_path) as results:
        results.report(Timing(1.0, np.float32(2)))
    assert json.loads((tmp_path / 'report.json').read_text()) == {'mean': 1.0, 'worst': 2.0}


@pytest.mark.parametrize('name', ['', '..', 'a/b', '/a'])
def test_names_stay_in_their_folder(tmp_path, name):
    with ResultWriter(tmp_path) as results, pytest.raises(OutputError, match='not a valid name'):
        results.mask(name, np.zeros((2, 2), bool))


def test_wrong_shapes(tmp_path):
    with ResultWriter(tmp_path) as results:
        with pytest.raises(OutputError, match=r'shape \(2, 2, 3\), expected \(H, W\)'):
            results.mask('a', np.zeros((2, 2, 3), bool))
        with pytest.raises(OutputError, match=r'\(2, 2\) and confidence \(2, 3\)'):
            results.depth('a', np.zeros((2, 2), np.float32), np.zeros((2, 3), np.float32))
    assert files(tmp_path) == []


def test_full_disk_ends_in_one_line_without_partial_files(tmp_path, full_disk):
    results = ResultWriter(tmp_path)
    with full_disk(100_000):
        results.depth('k', DEPTH, DEPTH)
        with pytest.raises(OutputError, match='depth/k.npz: File too large; free space') as caught:
            results.close()
    assert '\n' not in str(caught.value)
    assert files(tmp_path) == []


def test_error_is_raised_by_the_next_call_and_nothing_blocks(tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError(errno.ENOSPC, 'No space left on device')

    results = ResultWriter(tmp_path)
    monkeypatch.setattr(atomic.os, 'replace', refuse)
    with pytest.raises(OutputError, match='masks/0.png: No space left on device; free space'):
        for _ in range(1000):
            results.mask('0', np.zeros((48, 64), bool))
    for call in (lambda: results.report({}), lambda: results.keyframes([]),
                 lambda: results.trajectory([], []), lambda: results.depth('k', DEPTH, DEPTH)):
        with pytest.raises(OutputError, match='masks/0.png'):
            call()
    with pytest.raises(OutputError, match='masks/0.png'):
        results.close()
    assert files(tmp_path) == []


def test_an_error_on_its_way_is_not_replaced(tmp_path, full_disk):
    with full_disk(100_000), pytest.raises(ValueError, match='mine'), \
            ResultWriter(tmp_path) as results:
        results.depth('k', DEPTH, DEPTH)
        raise ValueError('mine')


def test_slow_disk_bounds_the_queue(tmp_path, monkeypatch):
    gate = threading.Event()
    written = []

    def slow(path, *parts):
        gate.wait(10)
        written.append(path.name)

    results = ResultWriter(tmp_path)
    monkeypatch.setattr(writer_module, 'write_bytes', slow)
    done = threading.Event()

    def submit():
        for i in range(30):
            results.mask(str(i), np.zeros((4, 4), bool))
        done.set()

    thread = threading.Thread(target=submit)
    thread.start()
    assert not done.wait(0.2)
    gate.set()
    thread.join(10)
    results.close()
    assert written == [f'{i}.png' for i in range(30)]


def test_unwritable_folder(tmp_path):
    (tmp_path / 'file').write_text('')
    for path in (tmp_path / 'file', tmp_path / 'file' / 'out'):
        with pytest.raises(OutputError, match=f'cannot write {path}: .*choose another') as caught:
            ResultWriter(path)
        assert '\n' not in str(caught.value)


def test_earlier_results_are_pointed_out_and_replaced(tmp_path, caplog):
    for value in (False, True):
        with ResultWriter(tmp_path) as results:
            results.mask('a', np.full((4, 4), value))
    assert caplog.text.count('of an earlier run') == 1
    assert cv2.imread(str(tmp_path / 'masks' / 'a.png'), cv2.IMREAD_UNCHANGED).all()
