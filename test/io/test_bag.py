# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recordings, written by rosbags and read back."""

import shutil

import numpy as np
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.bag import open_bag, recorded_ages_ns, recorded_images
from recon3r_ros.io.sequences import open_sequence
from recordings import (
    bare_file,
    compressed_message,
    image_message,
    info_message,
    stamps,
    START_NS,
    STORE,
    write_bag,
)

pytestmark = pytest.mark.usefixtures('no_new_threads')


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize('bare', [False, True])
def test_raw_and_compressed_in_both_storages(tmp_path, save, block_image, storage, bare):
    image = block_image()
    path = write_bag(tmp_path / 'bag', {
        '/cam/image_raw': [image_message(s, image[:, :, ::-1], 'bgr8', 6) for s in stamps(5)],
        '/cam/image_raw/compressed': [
            compressed_message(s, save(image, 'PNG'), 'bgr8; png compressed bgr8')
            for s in stamps(5)],
        '/cam/camera_info': [info_message(s) for s in stamps(5)],
    }, storage)
    path = bare_file(path) if bare else path
    assert open_bag(path).name.endswith(' /cam/image_raw')  # the same images, untouched
    for topic in ('/cam/image_raw', '/cam/image_raw/compressed'):
        sequence = open_bag(path, (topic,))
        frames = list(sequence)
        assert len(sequence) == len(frames) == 5
        assert [f.stamp_ns for f in frames] == stamps(5)
        assert [f.name for f in frames] == [str(s) for s in stamps(5)]
        assert [f.index for f in frames] == list(range(5))
        for frame in frames:
            np.testing.assert_array_equal(frame.image, image)
            assert frame.camera == Camera(
                64, 48, 50.0, 50.0, 31.5, 23.5, (.1, .2, 0, 0, 0))
        assert sequence.skipped == []
        assert [f.stamp_ns for f in sequence] == stamps(5)


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_jpeg_and_abandoned_iteration(tmp_path, save, block_image, storage):
    data = save(block_image(), 'JPEG', quality=98)
    path = write_bag(tmp_path / 'bag', {
        '/c/compressed': [compressed_message(s, data, 'jpeg') for s in stamps(20)]}, storage)
    for frame in open_sequence(bag=path):
        assert np.abs(frame.image.astype(int) - block_image()).mean() < 5
        break


def test_wide_pixels_big_endian(tmp_path):
    ramp = np.linspace(0, 60000, 48 * 64).astype(np.uint16).reshape(48, 64)
    path = write_bag(tmp_path / 'bag', {'/i': [
        image_message(stamps(2)[0], ramp.astype('>u2'), 'mono16', 2, big=1),
        image_message(stamps(2)[1], ramp, 'mono16')]})
    frames = list(open_bag(path))
    assert frames[0].image.dtype == np.uint8
    np.testing.assert_array_equal(frames[0].image, frames[1].image)
    assert np.all(np.diff(frames[0].image.reshape(-1).astype(int)) >= 0)


def test_bad_messages_are_skipped_by_topic_and_stamp(tmp_path, save, block_image, caplog):
    grey = block_image(channels=1)
    s = stamps(9)
    short = image_message(s[1], grey, 'mono8')
    short.data = short.data[:-1]
    path = write_bag(tmp_path / 'bag', {'/i': [
        image_message(s[0], grey, 'mono8'), short,
        image_message(s[2], grey, 'nonsense'),
        image_message(s[3], grey[:16], 'mono8'),
        image_message(s[0] + 1, grey, 'mono8'),  # recorded second, by its stamp
        image_message(s[8], grey, 'mono8'),
        image_message(s[8], grey, 'mono8')]})
    sequence = open_bag(path)
    frames = list(sequence)
    assert [f.stamp_ns for f in frames] == [s[0], s[0] + 1, s[8]]
    assert [f.index for f in frames] == [0, 1, 5]
    assert sequence.skipped == [
        f'/i #2 at {s[1]}: image data has 3071 bytes, expected at least 3072',
        f"/i #3 at {s[2]}: encoding 'nonsense' is not one of "
        + sequence.skipped[1].split('one of ')[1],
        f'/i #4 at {s[3]}: has 64x16 pixels, expected 64x48 as in the first image',
        f'/i #6 at {s[8]}: stamp is not after the previous image',
    ]
    assert len(caplog.records) == 4 + 1  # and one on the missing camera_info


def test_undecodable_messages(tmp_path, save, block_image):
    jpeg = save(block_image(), 'JPEG')
    good = STORE.serialize_cdr(
        compressed_message(START_NS, jpeg, 'jpeg'), 'sensor_msgs/msg/CompressedImage')
    path = write_bag(tmp_path / 'bag', {'/i': [
        'sensor_msgs/msg/CompressedImage', bytes(good[:50]), bytes(good), b'',
        compressed_message(stamps(9)[8], jpeg[:-20], 'jpeg')]})
    sequence = open_bag(path)
    assert [f.stamp_ns for f in sequence] == [START_NS]
    assert len(sequence.skipped) == 3
    assert 'cannot be deserialised' in sequence.skipped[0]
    assert 'truncated JPEG' in sequence.skipped[2]


def test_images_of_a_topic_in_the_order_of_recording(tmp_path, block_image):
    """A late message counts, unlike in a sequence, whose stamps increase."""
    mask = np.ascontiguousarray(block_image(channels=1))
    order = [3, 1, 2]
    path = write_bag(tmp_path / 'bag', {
        '/mask': [*(image_message(s, mask + s, 'mono8') for s in order), b'damaged',
                  image_message(4, mask, 'nonsense')],
        '/other': [image_message(9, mask, 'mono8')]})
    found = list(recorded_images(path, '/mask'))
    assert [stamp for stamp, _ in found] == order
    assert all(np.array_equal(image, mask + stamp) for stamp, image in found)
    assert list(recorded_images(path, '/absent')) == []
    later = write_bag(tmp_path / 'later', {'/mask': [
        image_message(START_NS + n, mask, 'mono8') for n in range(3)]})
    assert recorded_ages_ns(later, '/mask') == [1_000_000] * 3
    assert recorded_ages_ns(path, '/absent') == []


def test_zero_stamps_fall_back_to_the_recording_time(tmp_path, block_image):
    grey = block_image(channels=1)
    path = write_bag(tmp_path / 'bag', {'/i': [image_message(0, grey, 'mono8')] * 3})
    assert [f.stamp_ns for f in open_bag(path)] == [s + 10**6 for s in stamps(3)]


def test_a_recording_may_begin_at_zero(tmp_path, block_image):
    """A simulation's clock starts at zero."""
    grey = block_image(channels=1)
    path = write_bag(tmp_path / 'bag', {'/i': [
        image_message(i * 10**9, grey, 'mono8') for i in range(4)]})
    assert [f.stamp_ns for f in open_bag(path)] == [i * 10**9 for i in range(4)]


def test_depth_and_masks_are_not_camera_images(tmp_path, block_image):
    """A recording of an RGB-D camera, and one of this node's output."""
    grey = block_image(channels=1)
    pictures = [image_message(s, grey, 'mono8') for s in stamps(2)]
    range_images = [image_message(s, grey.astype(np.uint16), '16UC1') for s in stamps(2)]
    path = write_bag(tmp_path / 'own', {
        '/camera/image_raw': pictures, '/recon3r/camera/dynamic_mask': pictures,
        '/recon3r/camera/depth/image': [image_message(s, grey.astype(np.float32), '32FC1')
                                        for s in stamps(2)]})
    assert open_bag(path).name.endswith(' /camera/image_raw')
    path = write_bag(tmp_path / 'rgbd', {
        '/rgb/image': pictures, '/ir/image': range_images, '/depth/image': range_images})
    assert open_bag(path).name.endswith(' /rgb/image')
    path = write_bag(tmp_path / 'two', {'/left/image_raw': pictures, '/right/image_raw': pictures})
    with pytest.raises(InputError, match=r'--image-topic.*: /left/image_raw \(mono8 64x48, 2 '
                       r'images\), /right/image_raw \(mono8'):
        open_bag(path)


def test_camera_choices(tmp_path, block_image, caplog):
    grey = block_image(channels=1)
    images = [image_message(s, grey, 'mono8') for s in stamps(2)]
    path = write_bag(tmp_path / 'bag', {
        '/a/image_raw': images, '/a/camera_info': [info_message(START_NS)],
        '/b/image_rect': images, '/b/camera_info': [info_message(START_NS)],
        '/c/image_raw': images, '/c/camera_info': [info_message(START_NS, focal=0.0)],
        '/d/image_raw': images,
        '/e/image_raw': images, '/e/camera_info': [info_message(START_NS, width=640)],
        '/f/image_raw': images, '/f/camera_info': [info_message(START_NS, 'odd')],
        'image': images, 'camera_info': [info_message(START_NS, focal=70.0)],
    })

    def camera(topic, *arguments):
        return next(iter(open_bag(path, (topic,), *arguments))).camera

    assert camera('/a/image_raw').fx == 50.0
    assert camera('/b/image_rect') == Camera(64, 48, 62.5, 62.5, 39.375, 29.375)
    assert camera('/c/image_raw') is None
    assert 'uncalibrated' in caplog.text
    assert camera('/d/image_raw') is None
    assert 'no camera_info beside /d/image_raw' in caplog.text
    assert camera('/d/image_raw', ('/a/camera_info',)).fx == 50.0
    assert camera('/a/image_raw', (), None, False) is None
    given = Camera(64, 48, 1.0, 1.0, 1.0, 1.0)
    assert camera('/e/image_raw', (), given) == given
    with pytest.raises(InputError, match=r'/e/camera_info of .* images of 640x48 .* has 64x48'):
        camera('/e/image_raw')
    with pytest.raises(InputError, match="/f/camera_info of .*: distortion model 'odd'"):
        camera('/f/image_raw')
    with pytest.raises(InputError, match='no camera_info on /x; recorded: /a/camera_info, '):
        camera('/a/image_raw', ('/x',))
    with pytest.raises(InputError, match='no images on /a/camera_info; its image topics are /a/'):
        camera('/a/camera_info')


def test_no_images(tmp_path):
    path = write_bag(tmp_path / 'bag', {'/camera_info': [info_message(START_NS)]})
    with pytest.raises(InputError, match='holds no images'):
        open_bag(path)
    grey = np.zeros((4, 4), np.uint8)
    path = write_bag(tmp_path / 'bad', {'/i': [image_message(START_NS, grey, 'nonsense')]})
    with pytest.raises(InputError, match="none of 1 images can be read; the first: /i at .*'nons"):
        open_bag(path)


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_damaged_storage(tmp_path, storage):
    noise = np.random.default_rng(0).integers(0, 255, (480, 640), dtype=np.uint8)
    path = write_bag(tmp_path / 'bag', {
        '/i': [image_message(s, noise, 'mono8') for s in stamps(20)]}, storage)
    file = bare_file(path)
    data = bytearray(file.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 500_000] = bytes(500_000)
    file.write_bytes(data)
    # either refused or read up to the damage
    try:
        sequence = open_bag(path)
        frames = list(sequence)
    except InputError as error:
        assert str(path) in str(error)
    else:
        assert 0 < len(frames) < 20
        assert sequence.skipped
    file.write_bytes(data[: len(data) // 2])
    try:
        sequence = open_bag(path)
        frames = list(sequence)
    except InputError as error:
        assert str(path) in str(error)
    else:
        assert 0 < len(frames) < 20
        assert sequence.notes or 'ends after' in sequence.skipped[-1]


def test_what_is_no_bag(tmp_path):
    text = tmp_path / 'text.mcap'
    text.write_text('not a bag')
    (tmp_path / 'text.db3').write_text('not a bag')
    (tmp_path / 'text.xyz').write_text('not a bag')
    (tmp_path / 'text.bag').write_text('not a bag')
    folder = tmp_path / 'folder'
    folder.mkdir()
    for path, reason in ((text, 'cannot be read as'), (tmp_path / 'text.db3', 'cannot be read as'),
                         (tmp_path / 'text.xyz', 'cannot be read as'),
                         (tmp_path / 'gone', 'no such bag'), (folder, 'no metadata.yaml'),
                         (tmp_path / 'text.bag', 'cannot be read as')):
        with pytest.raises(InputError, match=reason) as caught:
            open_bag(path)
        assert str(path) in str(caught.value)
        assert '\n' not in str(caught.value)
    (folder / 'metadata.yaml').write_text('a: [')
    with pytest.raises(InputError, match='cannot be read as') as caught:
        open_bag(folder)
    assert '\n' not in str(caught.value)


def test_definitions_in_the_bag_do_not_matter(tmp_path, block_image):
    grey = block_image(channels=1)
    path = write_bag(tmp_path / 'bag', {
        '/i': [image_message(s, grey, 'mono8') for s in stamps(2)]}, 'sqlite3')
    import sqlite3

    with sqlite3.connect(bare_file(path)) as database:
        database.execute('UPDATE message_definitions SET encoded_message_definition = "???"')
    assert len(list(open_bag(path))) == 2
    shutil.rmtree(path)
