# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recordings that were cut off, compressed as a whole, or made by ROS 1."""

from binascii import crc32
from pathlib import Path
import shutil

from backports import zstd
import lz4.frame
import numpy as np
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.io.bag import open_bag
from recon3r_ros.io.bag_storage import is_recording, Recording
from recon3r_ros.io.mcap_stream import McapStream
from recon3r_ros.io.sequences import open_sequence
from recordings import (
    bare_file,
    image_message,
    info_message,
    rosbag2,
    stamps,
    START_NS,
    STORE,
    typesys,
    write_bag,
)

pytestmark = pytest.mark.usefixtures('no_new_threads')

COUNT = 12
NOISE = np.random.default_rng(0).integers(0, 255, (COUNT, 48, 64), dtype=np.uint8)
TOPICS = {'/c/image_raw': [image_message(s, n, 'mono8') for s, n in zip(stamps(COUNT), NOISE)],
          '/c/camera_info': [info_message(s) for s in stamps(COUNT)]}


def unchunked(data: bytes) -> bytes:
    """Return an MCAP whose one chunk, uncompressed, is unpacked, without index and footer."""
    start = data.index(b'\x06', 8 + 9 + int.from_bytes(data[9:17], 'little') - 1)
    length = int.from_bytes(data[start + 1:start + 9], 'little')
    records = data[start + 9 + 28 + 4 + 8:start + 9 + length]
    return data[:start] + records


def in_lz4(data: bytes, crc: int) -> bytes:
    """Return an MCAP whose one chunk is compressed with LZ4, without index and footer."""
    start = data.index(b'\x06', 8 + 9 + int.from_bytes(data[9:17], 'little') - 1)
    records = unchunked(data)[start:]
    compressed = lz4.frame.compress(records, block_size=lz4.frame.BLOCKSIZE_MAX64KB)
    chunk = (bytes(16) + len(records).to_bytes(8, 'little') + crc.to_bytes(4, 'little')
             + (3).to_bytes(4, 'little') + b'lz4' + len(compressed).to_bytes(8, 'little')
             + compressed)
    return data[:start] + b'\x06' + len(chunk).to_bytes(8, 'little') + chunk


@pytest.fixture(scope='module')
def mcaps(tmp_path_factory) -> dict[str, bytes]:
    """Return complete MCAP files with the same messages, by how they are stored."""
    folder = tmp_path_factory.mktemp('mcap')
    plain = bare_file(write_bag(folder / 'plain', TOPICS)).read_bytes()
    writer = rosbag2.Writer(folder / 'zstd', version=9,
                            storage_plugin=rosbag2.StoragePlugin.MCAP)
    writer.set_compression(rosbag2.CompressionMode.STORAGE, rosbag2.CompressionFormat.ZSTD)
    with writer:
        for topic, messages in TOPICS.items():
            connection = writer.add_connection(topic, messages[0].__msgtype__, typestore=STORE)
            for stamp, message in zip(stamps(COUNT), messages):
                writer.write(connection, stamp, STORE.serialize_cdr(message, message.__msgtype__))
    return {'plain': plain, 'zstd': bare_file(folder / 'zstd').read_bytes(),
            'unchunked': unchunked(plain), 'lz4': in_lz4(plain, 0)}


@pytest.mark.parametrize('kind', ['plain', 'zstd', 'unchunked', 'lz4'])
def test_mcap_that_was_cut_off_anywhere(tmp_path, mcaps, kind):
    """What was written before the cut is read, each image as it was."""
    data = mcaps[kind]
    file = tmp_path / 'cut.mcap'
    most = 0
    for size in (*range(60, len(data), len(data) // 19), len(data) - 1):
        file.write_bytes(data[:size])
        try:
            sequence = open_bag(file)
        except InputError as error:
            assert most == 0 and 'no images' in str(error)
            continue
        frames = list(sequence)
        assert len(frames) == len(sequence) >= most
        assert [f.stamp_ns for f in frames] == stamps(len(frames))
        for frame, noise in zip(frames, NOISE):
            np.testing.assert_array_equal(frame.image, noise)
        # A file is as good as complete where only its index is missing
        if len(frames) < COUNT:
            note, = [n for n in sequence.notes if 'camera_info' not in n]
            assert 'cut off' in note and 'mcap recover cut.mcap' in note
        most = len(frames)
    assert most == COUNT
    assert sequence.skipped == []


def test_zeros_that_a_file_system_leaves_at_the_end(tmp_path, mcaps):
    file = tmp_path / 'cut.mcap'
    data = mcaps['unchunked']
    file.write_bytes(data[:len(data) // 2] + bytes(50_000))
    sequence = open_bag(file)
    assert 3 <= len(list(sequence)) <= COUNT // 2 + 1


def test_lengths_and_bytes_that_cannot_be(tmp_path, mcaps):
    """Damage ends the reading; it raises nothing else and reads no gigabytes."""
    rng = np.random.default_rng(1)
    file = tmp_path / 'cut.mcap'
    for kind, data in mcaps.items():
        for _ in range(30):
            damaged = bytearray(data[:len(data) - 40])
            at = rng.integers(8, len(damaged) - 8)
            damaged[at:at + 8] = rng.integers(0, 255, 8, dtype=np.uint8).tobytes()
            file.write_bytes(damaged)
            assert 0 <= McapStream(file).message_count <= 2 * COUNT, kind


def test_a_chunk_that_is_not_what_was_written(tmp_path, mcaps):
    records = mcaps['unchunked'][len(mcaps['unchunked']) - len(unchunked(mcaps['plain'])):]
    start = mcaps['lz4'].index(b'\x06', 17 + int.from_bytes(mcaps['lz4'][9:17], 'little') - 1)
    crc = crc32(records[start:])
    file = tmp_path / 'a.mcap'
    for stated, count in ((crc, 2 * COUNT), (crc ^ 1, 0)):
        file.write_bytes(in_lz4(mcaps['plain'], stated))
        assert McapStream(file).message_count == count


@pytest.mark.parametrize('size', [None, -40])
def test_compression_that_is_not_known(tmp_path, mcaps, size):
    """It is named as what it is, not as damage, whether or not there is an index."""
    file = tmp_path / 'a.mcap'
    name = (4).to_bytes(4, 'little')
    file.write_bytes(mcaps['zstd'].replace(name + b'zstd', name + b'brot')[:size])
    with pytest.raises(InputError, match="a.mcap: its messages are compressed with 'brot', .*: "
                                         'convert it'):
        open_bag(file)
    file.write_bytes(mcaps['zstd'].replace(name + b'zstd', name + b'\0\1\2\3')[:size])
    with pytest.raises(InputError, match='no images|none of 12 images'):
        open_bag(file)


def test_compression_of_a_folder_with_metadata(tmp_path, mcaps):
    folder = tmp_path / 'bag'
    write_bag(folder, TOPICS)
    name = (4).to_bytes(4, 'little')
    bare_file(folder).write_bytes(mcaps['zstd'].replace(name + b'zstd', name + b'brot'))
    with pytest.raises(InputError, match="its messages are compressed with 'brot'"):
        open_bag(folder)


def test_complete_mcap_without_an_index(tmp_path, mcaps):
    """As the recorder's profile for fast writing makes it."""
    footer = b'\x0f' + (4).to_bytes(8, 'little') + bytes(4)
    footer += b'\x02' + (20).to_bytes(8, 'little') + bytes(20) + b'\x89MCAP0\r\n'
    (tmp_path / 'fast.mcap').write_bytes(mcaps['unchunked'] + footer)
    sequence = open_bag(tmp_path / 'fast.mcap')
    assert len(list(sequence)) == COUNT
    assert sequence.notes == []


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_bare_file_in_zstd(tmp_path, storage):
    file = bare_file(write_bag(tmp_path / 'bag', TOPICS, storage))
    packed = tmp_path / f'{file.name}.zstd'
    packed.write_bytes(zstd.compress(file.read_bytes()))
    sequence = open_bag(packed)
    frames = list(sequence)
    assert [f.stamp_ns for f in frames] == stamps(COUNT)
    assert frames[0].camera.fx == 50.0
    assert sequence.name == f'{packed} /c/image_raw'
    packed.write_bytes(b'not compressed')
    with pytest.raises(InputError, match='cannot be decompressed'):
        open_bag(packed)
    data = file.read_bytes()
    packed.write_bytes(zstd.compress(data[:-9000]) + zstd.compress(data[-9000:]))
    assert len(list(open_bag(packed))) == COUNT
    packed.write_bytes(zstd.compress(data)[:-100])
    with pytest.raises(InputError, match='cut off before anything'):
        open_bag(packed)
    if storage == 'mcap':
        packed.write_bytes(zstd.compress(data[:-9000]) + zstd.compress(data[-9000:])[:-100])
        sequence = open_bag(packed)
        assert any(f'{packed}: is cut off' in note for note in sequence.notes)
        assert 0 < len(list(sequence)) < COUNT


def test_decompressed_file_goes_with_the_recording(tmp_path, monkeypatch):
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path / 'temporary'))
    (tmp_path / 'temporary').mkdir()
    file = bare_file(write_bag(tmp_path / 'bag', TOPICS))
    packed = tmp_path / 'a.mcap.zstd'
    packed.write_bytes(zstd.compress(file.read_bytes()))
    recording = Recording(packed)
    assert list((tmp_path / 'temporary').iterdir())
    del recording
    assert not list((tmp_path / 'temporary').iterdir())


def test_folder_without_metadata(tmp_path):
    """A recorder that lost its power wrote none; it had split the recording."""
    first = {topic: messages[:7] for topic, messages in TOPICS.items()}
    last = {topic: messages[7:] for topic, messages in TOPICS.items()}
    folder = tmp_path / 'split'
    folder.mkdir()
    for number, topics in ((9, first), (10, last)):
        file = bare_file(write_bag(tmp_path / f'part{number}', topics))
        shutil.copyfile(file, folder / f'drive_{number}.mcap')
    last_file = folder / 'drive_10.mcap'
    data = last_file.read_bytes()
    last_file.write_bytes(data[:len(data) * 2 // 3])
    assert is_recording(folder)
    sequence = open_bag(folder)
    frames = list(sequence)
    assert 7 < len(frames) == len(sequence) < COUNT
    assert [f.stamp_ns for f in frames] == stamps(len(frames))
    assert str(last_file) in sequence.notes[0]
    shutil.copyfile(last_file, folder / 'other_0.mcap')
    with pytest.raises(InputError, match='several recordings: .*other_0.mcap'):
        open_bag(folder)


def test_metadata_of_a_file_that_was_cut_off(tmp_path):
    path = write_bag(tmp_path / 'bag', TOPICS)
    file = bare_file(path)
    file.write_bytes(file.read_bytes()[:-9000])
    sequence = open_bag(path)
    assert 0 < len(list(sequence)) < COUNT or sequence.notes


@pytest.mark.parametrize('compression', ['', 'BZ2', 'LZ4'])
def test_recording_of_ros_1(tmp_path, compression):
    rosbag1 = pytest.importorskip('rosbags.rosbag1')
    store = typesys.get_typestore(typesys.Stores.ROS1_NOETIC)
    types = store.types
    time = types['builtin_interfaces/msg/Time']

    def header(stamp_ns: int, number: int) -> object:
        return types['std_msgs/msg/Header'](
            seq=number, stamp=time(*divmod(stamp_ns, 10**9)), frame_id='c')

    writer = rosbag1.Writer(tmp_path / 'a.bag')
    if compression:
        writer.set_compression(writer.CompressionFormat[compression])
    with writer:
        images = writer.add_connection('/c/image_raw', 'sensor_msgs/msg/Image', typestore=store)
        infos = writer.add_connection('/c/camera_info', 'sensor_msgs/msg/CameraInfo',
                                      typestore=store)
        for number, stamp in enumerate(stamps(3)):
            image = types['sensor_msgs/msg/Image'](
                header(stamp, number), 48, 64, 'mono8', 0, 64, NOISE[number].reshape(-1))
            writer.write(images, stamp + 5, store.serialize_ros1(image, image.__msgtype__))
            info = types['sensor_msgs/msg/CameraInfo'](
                header(stamp, number), 48, 64, 'plumb_bob', np.zeros(5),
                np.array([50.0, 0, 31.5, 0, 50.0, 23.5, 0, 0, 1]), np.eye(3).reshape(-1),
                np.zeros(12), 0, 0,
                types['sensor_msgs/msg/RegionOfInterest'](0, 0, 0, 0, False))
            writer.write(infos, stamp + 5, store.serialize_ros1(info, info.__msgtype__))
    frames = list(open_sequence(bag=tmp_path / 'a.bag'))
    assert [f.stamp_ns for f in frames] == stamps(3)
    np.testing.assert_array_equal(frames[2].image, NOISE[2])
    assert frames[0].camera.fx == 50.0
    (tmp_path / 'cut.bag').write_bytes((tmp_path / 'a.bag').read_bytes()[:5000])
    with pytest.raises(InputError, match='rosbag reindex'):
        open_bag(tmp_path / 'cut.bag')


def test_field_mcap_that_was_cut_off(shared_data):
    sequence = open_sequence(bag=shared_data.field('mcap_cut_off') / 'cut.mcap')
    frames = list(sequence)
    assert len(frames) == 14
    assert frames[0].image.shape == (240, 320, 3)
    assert frames[0].camera is not None
    assert len(sequence.notes) == 1


def test_field_sqlite_in_zstd(shared_data):
    sequence = open_sequence(bag=shared_data.field('db3_zstd_bare') / 'bag_0.db3.zstd')
    assert len(list(sequence)) == len(sequence) > 1
    assert sequence.skipped == []


def test_names_of_recordings(tmp_path):
    for name in ('a.bag', 'a.mcap', 'a.db3', 'a.db3.zstd'):
        assert is_recording(Path(name))
    assert not is_recording(Path('a.mp4'))
    assert not is_recording(tmp_path)
    assert START_NS > 0
