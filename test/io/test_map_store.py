# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The map file: an exact round trip, and refusal of all other files."""

from __future__ import annotations

from dataclasses import fields, replace
import io
import json
import pickle
import tracemalloc
from typing import Any
import zipfile

import cv2
from hypothesis import example, given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from recon3r_ros.errors import InputError, OutputError
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io import array_file
from recon3r_ros.io.map_store import MAP_FILE, read_map, write_map
from recon3r_ros.models.geometric import GeometricPredictor
from recon3r_ros.models.types import View
from recon3r_ros.slam.archive import ArchivedView
from recon3r_ros.slam.saved_map import SavedLabels, SavedMap, SavedObservations
from recon3r_ros.slam.semantics import Labels
from recon3r_ros.slam.system import System
from recon3r_ros.slam.types import Keyframe, Map, MapEdge, MetricScale, Retired
from simulated import as_frame, still_scene

W, H, K = 32, 24, 7


def keyframe(i: int, rng: np.random.Generator) -> Keyframe:
    """Make a keyframe of random numbers."""
    count = K + i
    return Keyframe(
        id=i, name=f'{i:06d} ü', stamp_ns=1403715273262143001 + i, index=10 * i,
        camera=Camera(W, H, 0.1 + 30 * rng.random(), 31.0, 15.5, 11.25),
        image=rng.integers(0, 256, (H, W, 3), np.uint8),
        gray=rng.integers(0, 256, (2 * H, 2 * W + i), np.uint8),
        descriptor=rng.random(64).astype(np.float32),
        keypoints=rng.integers(0, (W, H), (count, 2), np.int32),
        T_map_cam=se3.exp(rng.normal(size=6)),
        landmarks=rng.random(count), information=1e5 * rng.random(count),
        inverse_depth=rng.random((H, W)).astype(np.float32),
        confidence=rng.random((H, W)).astype(np.float32),
        mask=rng.random((H, W)) < 0.1, camera_name='left' if i % 2 else 'right')


def synthetic_map() -> SavedMap:
    """Make a map of keyframes 0, 2 and 5; 1, 3 and 4 have been retired, 3 onto 1."""
    rng = np.random.default_rng(3)
    keyframes = {i: keyframe(i, rng) for i in (0, 2, 5)}
    camera = Camera(64, 48, 60.0, 61.0, 31.5, 23.5)
    views = {i: ArchivedView.of(View(cv2.blur(
        rng.integers(0, 256, (48, 64, 3), np.uint8), (5, 5)), camera, i > 0), 1.1)
        for i in keyframes}
    retired = {i: Retired(onto, se3.exp(rng.normal(size=6)), rng.random(), rng.random())
               for i, onto in ((3, 1), (1, 2), (4, 5))}
    observations = tuple(
        SavedObservations(i, j, rng.integers(0, K, n), rng.normal(size=(n, 2)))
        for i, j, n in ((0, 2, 4), (2, 0, 0), (5, 2, 3)))
    known = Map(keyframes, {0: 1.0, 1: 1 / 3, 5: np.float64(0.7)},
                (MapEdge(0, 2), MapEdge(0, 5, True)), 1.0700000001, retired)
    labels = {i: Labels(
        rng.integers(0, 256, (H, W), np.uint8),
        rng.random((H, W)).astype(np.float32) if i == 2 else None,
        rng.integers(0, 65536, (H, W), np.uint16) if i > 0 else None) for i in (0, 2)}
    return SavedMap(known, views, observations, False, MetricScale(0.1 + 0.2, 0.013, 'odometry'),
                    SavedLabels(labels, ('wall', 'Tür'), False))


def same(a: Any, b: Any) -> bool:
    """Compare to the last bit, types of arrays and the order of mappings included."""
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if hasattr(a, '__dataclass_fields__'):
        return type(a) is type(b) and all(
            same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[i], b[i]) for i in a)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@pytest.fixture(scope='module')
def saved() -> SavedMap:
    """Return a map."""
    return synthetic_map()


@pytest.fixture
def path(tmp_path, saved):
    """Return the file of that map."""
    write_map(tmp_path / MAP_FILE, saved)
    return tmp_path / MAP_FILE


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Return a folder for the examples of hypothesis."""
    return tmp_path_factory.mktemp('maps')


def changed(path, name, value):
    """Write the file again with one array changed, or removed where the value is None."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {n: file[n] for n in file.files}
    del arrays[name]
    if value is not None:
        arrays[name] = value
    array_file.write_arrays(path, [(n, a, False) for n, a in arrays.items()])


def array_of(path, name):
    """Read one array as numpy does."""
    with np.load(path, allow_pickle=False) as file:
        return file[name]


def info_with(path, **changes):
    """Change the JSON part."""
    info = {**json.loads(array_of(path, 'info').tobytes()), **changes}
    changed(path, 'info', np.frombuffer(json.dumps(info).encode(), np.uint8))


def assert_refused(path, reason=None):
    """Check that the error is one line with the file, the reason and the remedy."""
    with pytest.raises(InputError, match=reason) as caught:
        read_map(path)
    message = str(caught.value)
    assert message.startswith(f'cannot load the map {path}: ')
    assert '\n' not in message
    assert 'save_map' in message or 'rights' in message


def test_round_trip_is_exact(path, saved):
    again = read_map(path)
    assert same(saved, again)
    assert [p.name for p in path.parent.iterdir()] == [MAP_FILE]
    for loaded in again.map.keyframes.values():
        assert loaded.inverse_depth.flags.writeable
        assert loaded.T_map_cam.flags.writeable


def test_without_what_may_be_absent(tmp_path, saved):
    bare = replace(saved, observations=(), metric=None, calibrated=True, labels=None,
                   map=replace(saved.map, edges=(), retired={}, scales={}))
    write_map(tmp_path / MAP_FILE, bare)
    assert same(bare, read_map(tmp_path / MAP_FILE))


def test_attention_is_not_kept(tmp_path, path, saved):
    """It seeds masks of the frames that follow a keyframe; a saved map has none."""
    keyframes = {i: replace(k, attention=k.mask) for i, k in saved.map.keyframes.items()}
    write_map(tmp_path / 'other.npz', replace(saved, map=replace(saved.map, keyframes=keyframes)))
    assert (tmp_path / 'other.npz').read_bytes() == path.read_bytes()


def test_same_map_makes_the_same_bytes(path, saved, tmp_path):
    write_map(tmp_path / 'other.npz', saved)
    assert (tmp_path / 'other.npz').read_bytes() == path.read_bytes()


def test_mapping_continues_in_a_loaded_map(tmp_path):
    scene = still_scene(1, frames=40)
    reconstruction = System(GeometricPredictor())
    for index in range(40):
        reconstruction.add(as_frame(scene, index))
    saved = reconstruction.saved(MetricScale(1.5, 0.02, 'depth'))
    write_map(tmp_path / MAP_FILE, saved)
    again = read_map(tmp_path / MAP_FILE)
    assert same(saved, again)
    # With depths and images, it is smaller than the source images
    raw = sum(getattr(k, f.name).nbytes for k in saved.map.keyframes.values()
              for f in fields(k) if isinstance(getattr(k, f.name), np.ndarray))
    assert (tmp_path / MAP_FILE).stat().st_size < 1.1 * raw
    other = System(GeometricPredictor())
    other.restore(again)
    assert other.map.started
    assert same(other.map.keyframes, saved.map.keyframes)


def test_inconsistent_map_is_not_written(tmp_path, saved):
    broken = [
        Map(),
        replace(saved.map, keyframes={0: saved.map.keyframes[0]}),
        replace(saved.map, keyframes={
            **saved.map.keyframes,
            5: replace(saved.map.keyframes[5], landmarks=np.full(12, np.nan)),
        }),
    ]
    for known in broken:
        with pytest.raises(OutputError, match='cannot be saved'):
            write_map(tmp_path / MAP_FILE, replace(saved, map=known))
    assert list(tmp_path.iterdir()) == []


def test_unwritable_places(tmp_path, saved):
    with pytest.raises(OutputError, match='No such file'):
        write_map(tmp_path / 'absent' / MAP_FILE, saved)
    (tmp_path / 'file').write_text('x')
    with pytest.raises(OutputError, match='Not a directory'):
        write_map(tmp_path / 'file' / MAP_FILE, saved)
    (tmp_path / MAP_FILE).mkdir()
    with pytest.raises(OutputError, match='map.npz'):
        write_map(tmp_path / MAP_FILE, saved)
    assert {p.name for p in tmp_path.iterdir()} == {'file', MAP_FILE}


def test_full_disk_leaves_the_earlier_map(path, saved, full_disk):
    before = path.read_bytes()
    with full_disk(len(before) // 2), pytest.raises(OutputError, match='free space'):
        write_map(path, replace(saved, calibrated=True))
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [MAP_FILE]


def test_truncated_anywhere(path):
    content = path.read_bytes()
    for length in {*range(0, len(content), 997), *range(len(content) - 70, len(content))}:
        path.write_bytes(content[:length])
        assert_refused(path)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_flipped_bits_are_detected_or_harmless(folder, saved, data):
    path = folder / 'flipped.npz'
    write_map(path, saved)
    content = bytearray(path.read_bytes())
    # Half of them in the last part, the archive's directory
    place = data.draw(st.one_of(st.integers(0, len(content) - 1),
                                st.integers(len(content) * 3 // 4, len(content) - 1)))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    try:
        again = read_map(path)
    except InputError:
        return
    assert same(saved, again)


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=400))
@example(content=b'')
@example(content=b'PK\x05\x06' + bytes(18))
@example(content=b'\x93NUMPY\x01\x00')
def test_random_bytes(folder, content):
    (folder / 'random.npz').write_bytes(content)
    assert_refused(folder / 'random.npz')


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(['info', 'ids', '0/image', 'edges', '0/jpeg', 'observations']),
       content=st.one_of(
           st.binary(max_size=200),
           st.binary(max_size=60).map(lambda b: b'\x93NUMPY\x01\x00\x30\x00' + b),
           st.text('{}[]()\'",:0123456789 descrfotan_shpeTu<i8-*', max_size=80).map(
               lambda t: b'\x93NUMPY\x01\x00' + len(t).to_bytes(2, 'little') + t.encode())))
def test_random_arrays(folder, saved, name, content):
    path = folder / 'arrays.npz'
    write_map(path, saved)
    with_member(path, name, content)
    assert_refused(path, name)


def with_member(path, name, content):
    """Replace an array by any bytes."""
    with zipfile.ZipFile(path) as archive:
        members = {m.filename: archive.read(m) for m in archive.infolist()}
    members[f'{name}.npy'] = content
    with zipfile.ZipFile(path, 'w') as archive:
        for member, data in members.items():
            archive.writestr(member, data)


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (open, (self.trace, 'w'))


def test_pickles_are_not_opened(path, tmp_path):
    trace = tmp_path / 'trace'
    trap = pickle.dumps(Trap(str(trace)))
    pickle.loads(trap).close()
    assert trace.exists(), 'the trap works'
    trace.unlink()
    content = io.BytesIO()
    array = np.empty(3, object)
    array[:] = Trap(str(trace))
    np.save(content, array, allow_pickle=True)
    for name in array_names(path):
        original = path.read_bytes()
        with_member(path, name, content.getvalue())
        assert_refused(path, name.split('/')[-1])
        path.write_bytes(original)
    path.write_bytes(trap)
    assert_refused(path, 'not a .npz file')
    assert not trace.exists()


def array_names(path):
    """List the arrays of a file."""
    with np.load(path, allow_pickle=False) as file:
        return list(file.files)


def test_every_array_is_needed_with_its_type_and_shape(path):
    original = path.read_bytes()
    for name in array_names(path):
        array = array_of(path, name)
        another = np.float32 if array.dtype != np.float32 else np.float64
        for value in (None, array.astype(another), array[None], array[..., None],
                      array.astype(array.dtype.newbyteorder('>'))):
            if value is not None and value.dtype == array.dtype and value.shape == array.shape:
                continue  # a byte has no order
            changed(path, name, value)
            assert_refused(path, name)
            path.write_bytes(original)
        if len(array) > 1 and name != 'edges':
            changed(path, name, array[:-1])
            assert_refused(path)
            path.write_bytes(original)


def test_foreign_npz(tmp_path):
    np.savez(tmp_path / MAP_FILE, depth=np.ones((4, 4)), confidence=np.ones((4, 4)))
    assert_refused(tmp_path / MAP_FILE, 'has no info')
    np.savez(tmp_path / MAP_FILE, info=np.frombuffer(b'{"format": "other"}', np.uint8))
    assert_refused(tmp_path / MAP_FILE, 'is not a map of recon3r_ros')


def test_other_places(tmp_path):
    assert_refused(tmp_path / 'absent.npz', 'no such file')
    assert_refused(tmp_path, 'is not a file')


@pytest.mark.parametrize('version', [0, 2, '1', None, 1.5])
def test_other_versions(path, version):
    info_with(path, version=version, package='9.9')
    assert_refused(path, f"version {version!r}, written by recon3r_ros '9.9', expected version 1")


@pytest.mark.parametrize('changes', [
    {'focal_factor': 0.0}, {'focal_factor': -1.0}, {'focal_factor': float('nan')},
    {'focal_factor': '1'}, {'focal_factor': True}, {'calibrated': 1}, {'calibrated': None},
    {'metre': 0.0}, {'metre': 'long'},
    {'metric': [1.0, 0.1]}, {'metric': [0.0, 0.1, 'depth']}, {'metric': [1.0, -1.0, 'depth']},
    {'metric': [1.0, 0.1, 'guess']}, {'metric': [float('inf'), 0.1, 'depth']}, {'metric': {}},
    {'names': ['a', 'b']}, {'names': ['a', 'b', 1]}, {'names': 'abc'},
    {'names': ['a', 'b', '../c']}, {'names': ['a', 'b', '']}, {'names': ['a', 'b', 'c\0']},
    {'camera_names': []},
])
def test_wrong_info(path, changes):
    info_with(path, **changes)
    assert_refused(path)


@pytest.mark.parametrize('text', [b'', b'{', b'[]', b'1', b'\xff', b'[' * 100_000])
def test_info_that_is_no_json_object(path, text):
    changed(path, 'info', np.frombuffer(text, np.uint8))
    assert_refused(path, 'info|is not a map')


@pytest.mark.parametrize('name, index, value, reason', [
    ('ids', 1, 0, 'duplicate'),
    ('ids', 0, -3, 'has no -3/image'),
    ('poses', (1, 0, 3), np.nan, 'pose of keyframe 2'),
    ('poses', (1, 0, 3), np.inf, 'pose of keyframe 2'),
    ('poses', (1, 0, 0), 2.0, 'not a rigid motion'),
    ('poses', (1, 3, 0), 0.1, 'not a rigid motion'),
    ('cameras', (0, 0), 0.0, 'fx'),
    ('cameras', (0, 1), -1.0, 'fy'),
    ('cameras', (2, 2), np.nan, 'cx'),
    ('view_cameras', (0, 0), -5.0, 'fx'),
    ('view_sizes', (0, 0), 63, 'image 0 has .64, 48. pixels'),
    ('view_sizes', (0, 0), 0, 'width'),
    ('view_focal_factors', 1, 0.0, 'focal factor of image 2'),
    ('sizes', (0, 0), -1, 'negative'),
    ('sizes', (0, 4), K + 1, '0/keypoints'),
    ('scales', 0, 0.0, 'scale of keyframe 0'),
    ('scales', 0, np.nan, 'scale of keyframe 0'),
    ('edges', (0, 1), 4, 'an edge joins 0 and 4'),
    ('edges', (0, 1), 0, 'an edge joins 0 and 0'),
    ('retired', (0, 0), 2, 'keyframe 2 is both present and retired'),
    ('retired', (0, 1), 77, 'retired keyframe 3 leads to no keyframe'),
    ('retired', (1, 1), 3, 'leads to no keyframe'),
    ('retired_poses', (1, 0, 0), 3.0, 'not a rigid motion'),
    ('retired_scales', (1, 1), -1.0, 'scale of retired keyframe'),
    ('observations', (0, 0), 2, 'expected two keyframes'),
    ('observations', (0, 1), 3, 'expected two keyframes'),
    ('observations', (0, 2), 5, 'inconsistent'),
    ('observations', (0, 2), -1, 'inconsistent'),
    ('observed', 0, K, 'out of range'),
    ('observed', 0, -1, 'out of range'),
    ('targets', (0, 0), np.nan, 'not finite'),
    ('0/keypoints', (0, 0), W, 'keypoints outside'),
    ('0/keypoints', (0, 1), -1, 'keypoints outside'),
    ('0/landmarks', 0, -1.0, 'landmarks of keyframe 0'),
    ('0/information', 0, np.inf, 'information of keyframe 0'),
    ('0/inverse_depth', (3, 4), np.nan, 'inverse_depth of keyframe 0'),
    ('2/confidence', (3, 4), -np.inf, 'confidence of keyframe 2'),
    ('2/descriptor', 0, np.nan, 'descriptor of keyframe 2'),
    ('0/jpeg', 0, 0, 'image 0'),
])
def test_wrong_numbers(path, name, index, value, reason):
    array = array_of(path, name)
    array[index] = value
    changed(path, name, array)
    assert_refused(path, reason)


@pytest.mark.parametrize('keep', [0.2, 0.7, 0.99])
def test_truncated_image(path, keep):
    jpeg = array_of(path, '2/jpeg')
    changed(path, '2/jpeg', jpeg[:int(keep * len(jpeg))])
    assert_refused(path, 'image 2')


def test_image_that_is_no_jpeg(path):
    _, png = cv2.imencode('.png', np.zeros((48, 64), np.uint8))
    changed(path, '2/jpeg', png)
    assert_refused(path, 'image 2')


def peak_of_refusal(path, reason=None):
    """Return the peak memory of refusing a file, bytes."""
    tracemalloc.start()
    try:
        assert_refused(path, reason)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize('name', ['info', 'ids', '0/image', '0/jpeg', 'observed', 'targets'])
@pytest.mark.parametrize('shape', ['(100000000000,)', '(4294967296, 4294967296, 3)', '(-1,)'])
def test_huge_shape_in_an_array(path, name, shape):
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + '\n'
    with_member(path, name, b'\x93NUMPY\x01\x00' + len(header).to_bytes(2, 'little')
                + header.encode())
    assert peak_of_refusal(path, name) < 30e6


@pytest.mark.parametrize('column', [0, 3, 4, 5])
def test_huge_size_in_the_table(path, column):
    sizes = array_of(path, 'sizes')
    sizes[0, column] = 2 ** 62
    changed(path, 'sizes', sizes)
    assert peak_of_refusal(path) < 30e6


def test_zip_bomb(path):
    zeros = np.zeros(300_000_000, np.uint8)
    with np.load(path, allow_pickle=False) as file:
        arrays = {n: file[n] for n in file.files}
    del arrays['0/jpeg']
    array_file.write_arrays(path, [
        *((n, a, False) for n, a in arrays.items()), ('0/jpeg', zeros, True)])
    assert path.stat().st_size < 10e6
    assert peak_of_refusal(path, 'is not packed as a map file') < 30e6


def test_archive_with_a_wrong_size(path):
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        entry = content.index(b'PK\x01\x02', archive.start_dir)
    for size in (0, 100, 2_000_000, 0xfffffff0):
        lie = bytearray(content)
        lie[entry + 24:entry + 28] = size.to_bytes(4, 'little')
        path.write_bytes(lie)
        assert peak_of_refusal(path) < 30e6


def test_duplicate_name(path):
    with zipfile.ZipFile(path, 'a') as archive, pytest.warns(UserWarning, match='Duplicate'):
        archive.writestr('ids.npy', b'')
    assert_refused(path, 'is not packed as a map file')


def test_older_files_have_no_labels(path, saved):
    info = json.loads(array_of(path, 'info').tobytes())
    del info['labels']
    changed(path, 'info', np.frombuffer(json.dumps(info).encode(), np.uint8))
    for name in [n for n in array_names(path) if n.split('/')[-1] in (
            'classes', 'instances', 'label_confidence', 'label_ids', 'label_fields')]:
        changed(path, name, None)
    assert same(replace(saved, labels=None), read_map(path))


@pytest.mark.parametrize(('name', 'value', 'reason'), [
    ('label_ids', np.array([0, 4]), 'keyframe 4'),
    ('label_ids', np.array([0, 0]), 'keyframe 0, which is none, or has two'),
    ('label_fields', np.ones((2, 2), bool), 'label_confidence'),
    ('2/label_confidence', np.full((H, W), np.nan, np.float32), 'keyframe 2: a value is not in'),
    ('2/label_confidence', np.full((H, W), 1.5, np.float32), 'keyframe 2: a value is not in')])
def test_bad_labels_are_refused(path, name, value, reason):
    changed(path, name, value)
    assert_refused(path, reason)


@pytest.mark.parametrize('labels', [
    3, [], {}, {'given': 1, 'names': []}, {'given': True, 'names': 'wall'},
    {'given': True, 'names': [1]}, {'given': True, 'names': ['a\nb']},
    {'given': True, 'names': ['x'] * 256}])
def test_bad_names_of_classes_are_refused(path, labels):
    info_with(path, labels=labels)
    assert_refused(path, 'labels in info|names of classes')


def test_labels_that_fit_no_keyframe_are_not_written(tmp_path, saved):
    image = saved.labels.images[0]
    for images in ({1: image}, {0: image.mapped(lambda field: field[1:])}):
        with pytest.raises(OutputError, match='labels of keyframe|labels are of keyframe'):
            write_map(tmp_path / MAP_FILE, replace(saved, labels=SavedLabels(images)))
