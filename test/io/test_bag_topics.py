# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which topics of a recording are taken: pictures, their intrinsics, their clock."""

import numpy as np
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.bag import open_bag
from recon3r_ros.io.bag_topics import camera_names
from recon3r_ros.io.base import causes
from recon3r_ros.io.sequences import open_sequence
from recordings import (
    compressed_message,
    image_message,
    info_message,
    stamps,
    START_NS,
    write_bag,
)

pytestmark = pytest.mark.usefixtures('no_new_threads')

GREY = np.random.default_rng(3).integers(0, 255, (48, 64), dtype=np.uint8)


def pictures(count=2, encoding='mono8', image=GREY, first_ns=0):
    """Return image messages."""
    return [image_message(s + first_ns, image, encoding) for s in stamps(count)]


def depths(count=2):
    """Return depth images in millimetres."""
    return pictures(count, '16UC1', GREY.astype(np.uint16) * 10)


METRES = GREY.astype(np.float32) / 40


@pytest.mark.parametrize('topics, reason', [
    ({'/camera/depth/image_rect_raw': depths()},
     'only depth images, on /camera/depth/image_rect_raw .16UC1 64x48, 2 images'),
    ({'/camera/aligned_depth_to_color/image_raw': depths()}, 'only depth images'),
    ({'/stereo/disparity': pictures(2, '32FC1', METRES)}, 'only depth images'),
    ({'/range': pictures(2, '32FC1', METRES)}, 'only depth images, on /range'),
    ({'/depth/image': depths(), '/range': pictures(2, '32FC1', METRES)},
     'on /depth/image .*, /range'),
    ({'/c/image_raw/compressedDepth': [compressed_message(
        s, b'x', '16UC1; compressedDepth png') for s in stamps(2)]}, 'only depth images'),
])
def test_depth_is_never_taken_for_pictures(tmp_path, topics, reason):
    path = write_bag(tmp_path / 'bag', topics)
    with pytest.raises(InputError, match=reason):
        open_bag(path)
    for topic in topics:
        with pytest.raises(InputError, match=f'{topic} .*holds depth images'):
            open_bag(path, (topic,))
    path = write_bag(tmp_path / 'both', {**topics, '/rgb/image': pictures()})
    assert open_bag(path).name.endswith(' /rgb/image')


def test_depth_as_png(tmp_path, save):
    """As image_transport compresses it without loss."""
    png = save(GREY.astype(np.uint16) * 10, 'PNG')
    path = write_bag(tmp_path / 'bag', {'/c/depth/image_raw/compressed': [
        compressed_message(s, png, '16UC1; png compressed ') for s in stamps(2)]})
    with pytest.raises(InputError, match='only depth images'):
        open_bag(path)


@pytest.mark.parametrize('topic, encoding, image', [
    ('/thermal/image_raw', '16UC1', GREY.astype(np.uint16) * 4 + 29000),
    ('/c/image_raw', '32FC1', GREY / np.float32(255)),
    ('/c/image_raw', '32FC1', GREY.astype(np.float32)),
    ('/depth_camera/color/image_raw', 'mono8', GREY),
    ('/depth_camera/infra1/image_rect_raw', 'mono16', GREY.astype(np.uint16) * 256),
])
def test_what_might_be_depth_but_is_a_picture(tmp_path, topic, encoding, image):
    path = write_bag(tmp_path / 'bag', {topic: pictures(2, encoding, image)})
    frame = next(iter(open_bag(path)))
    expected = frame.image if '16' in encoding else GREY
    np.testing.assert_allclose(frame.image.astype(int), expected, atol=1)
    assert np.corrcoef(frame.image.reshape(-1), GREY.reshape(-1))[0, 1] > 0.99


def test_several_topics_are_listed_with_what_tells_them_apart(tmp_path, save, block_image):
    path = write_bag(tmp_path / 'bag', {
        '/left/image_raw': pictures(3), '/right/image_raw': pictures(2, 'rgb8', block_image()),
        '/front/compressed': [compressed_message(s, save(block_image(), 'JPEG'),
                                                 'bgr8; jpeg compressed bgr8') for s in stamps(1)],
        '/left/depth': depths()})
    for call, words in (((), 'choose with --image-topic'), ((('/x',),), 'no images on /x')):
        with pytest.raises(InputError, match=words) as caught:
            open_bag(path, *call)
        for text in ('/left/image_raw (mono8 64x48, 3 images)',
                     '/right/image_raw (rgb8 64x48, 2 images)',
                     '/front/compressed (bgr8 64x48, 1 images)'):
            assert text in str(caught.value)


@pytest.mark.parametrize('others', [{}, {'/rgb/image': pictures()}])
def test_compressed_video_is_named(tmp_path, others, monkeypatch):
    from recon3r_ros.io import bag_topics
    monkeypatch.setattr(bag_topics, '_VIDEO', ('std_msgs/msg/String',))
    path = write_bag(tmp_path / 'bag', {
        '/c/ffmpeg': ['std_msgs/msg/String', b'\x00\x01\x00\x00\x00\x00\x00\x00'], **others})
    for wanted in ([()] if not others else []) + [('/c/ffmpeg',)]:
        with pytest.raises(InputError, match='/c/ffmpeg holds compressed video.*--video'):
            open_bag(path, wanted)


def camera_of(path, topic, *arguments):
    """Return the camera of a topic's images, and the sequence."""
    sequence = open_bag(path, (topic,), *arguments)
    return next(iter(sequence)).camera, sequence


def infos(focal, width=64, height=48):
    """Return one CameraInfo."""
    message = info_message(START_NS, focal=focal, width=width)
    message.height = height
    message.k[2], message.k[5] = (width - 1) / 2, (height - 1) / 2
    return [message]


def test_camera_info_elsewhere(tmp_path):
    path = write_bag(tmp_path / 'above', {
        '/front/rgb/image_raw': pictures(), '/front/camera_info': infos(70.0),
        '/camera_info': infos(80.0), '/rear/camera_info': infos(90.0)})
    camera, sequence = camera_of(path, '/front/rgb/image_raw')
    assert camera.fx == 70.0
    assert 'taking that on /front/camera_info' in sequence.notes[0]
    path = write_bag(tmp_path / 'alone', {
        '/front/rgb/image_raw': pictures(), '/calibration': infos(80.0, 128, 96)})
    camera, _ = camera_of(path, '/front/rgb/image_raw')
    assert camera == Camera(64, 48, 40.0, 40.0, 31.5, 23.5, (.1, .2, 0, 0, 0))  # half the size


@pytest.mark.parametrize('topics, listed', [
    # of another aspect, of another camera, two in the same place
    ({'/info': infos(80.0, 64, 64)}, ['/info']),
    ({'/rear/camera_info': infos(80.0), '/rear/image_raw': pictures()}, ['/rear/camera_info']),
    ({'/a/camera_info': infos(80.0), '/b/camera_info': infos(90.0)},
     ['/a/camera_info, /b/camera_info']),
    ({'/front/info_a': infos(80.0), '/front/info_b': infos(90.0)},
     ['/front/info_a, /front/info_b']),
])
def test_camera_info_that_is_not_clear(tmp_path, topics, listed):
    path = write_bag(tmp_path / 'bag', {'/front/rgb/image_raw': pictures(), **topics})
    camera, sequence = camera_of(path, '/front/rgb/image_raw')
    assert camera is None
    note, = sequence.notes
    assert 'intrinsics unknown' in note and '--camera-info-topic' in note
    for text in listed:
        assert text in note
    name = next(t for t in topics if 'info' in t)
    if name != '/info':
        assert camera_of(path, '/front/rgb/image_raw', (name,))[0].fx == 80.0


def test_several_cameras_are_merged_by_stamp(tmp_path):
    """The right one is triggered later, and its second image is damaged."""
    right = pictures(3, first_ns=4 * 10**7)
    right[1].data = right[1].data[:-1]
    path = write_bag(tmp_path / 'bag', {
        '/s/left/image_raw': pictures(3), '/s/left/camera_info': infos(50.0),
        '/s/right/image_raw': right, '/s/right/camera_info': infos(60.0)})
    sequence = open_bag(path, ('/s/left/image_raw', '/s/right/image_raw'))
    frames = list(sequence)
    assert len(sequence) == 6
    assert [f.camera_name for f in frames] == ['left', 'right', 'left', 'left', 'right']
    assert [f.stamp_ns for f in frames] == sorted(f.stamp_ns for f in frames)
    assert len({f.name for f in frames}) == 5
    assert frames[1].name == f'right_{START_NS + 4 * 10**7}'
    assert [f.camera.fx for f in frames] == [50.0, 60.0, 50.0, 50.0, 60.0]
    indices = [f.index for f in frames]
    assert indices == sorted(set(indices)) and indices[-1] == 5
    assert [f.index for f in sequence] == indices
    assert len(sequence.skipped) == 1
    with pytest.raises(InputError, match='one camera, but 2 image topics'):
        open_bag(path, ('/s/left/image_raw', '/s/right/image_raw'), (), frames[0].camera)
    with pytest.raises(InputError, match='1 topics of camera_info for 2 image'):
        open_bag(path, ('/s/left/image_raw', '/s/right/image_raw'), ('/s/left/camera_info',))
    with pytest.raises(InputError, match='each camera once'):
        open_bag(path, ('/s/left/image_raw', '/s/left/image_raw'))
    swapped = open_bag(path, ('/s/left/image_raw', '/s/right/image_raw'),
                       ('/s/right/camera_info', '/s/left/camera_info'))
    assert next(iter(swapped)).camera.fx == 60.0


def test_cameras_that_are_triggered_together(tmp_path):
    path = write_bag(tmp_path / 'bag', {'/left/image': pictures(3), '/right/image': pictures(3)})
    frames = list(open_bag(path, ('/left/image', '/right/image')))
    assert [f.camera_name for f in frames] == ['left', 'right'] * 3
    assert len({f.name for f in frames}) == len({f.index for f in frames}) == 6


@pytest.mark.parametrize('topics, names', [
    (('/left/image_raw', '/right/image_raw'), ['left', 'right']),
    (('/s/left/image_raw/compressed', '/s/right/image_rect'), ['left', 'right']),
    (('/cam0/image', '/cam1/image', '/imu/cam/image'), ['cam0', 'cam1', 'imu']),
    (('/r/front/left/image', '/r/front/right/image', '/r/rear/left/image'),
     ['front_left', 'front_right', 'rear_left']),
    (('/camera', '/camera/right'), ['camera', 'camera_right']),
    (('/image_left', '/image_right'), ['image_left', 'image_right']),
])
def test_names_of_cameras(topics, names):
    assert camera_names(topics) == names


def test_equal_stamps_fall_back_to_recording_times(tmp_path):
    same = [image_message(START_NS, GREY, 'mono8') for _ in range(5)]
    spread = write_bag(tmp_path / 'spread', {'/i': same}, step_ns=10**7)
    sequence = open_bag(spread)
    assert [f.stamp_ns for f in sequence] == [START_NS + 10**6 + i * 10**7 for i in range(5)]
    assert 'times of their recording' in sequence.notes[0]
    assert sequence.skipped == []
    stuck = write_bag(tmp_path / 'stuck', {'/i': same}, step_ns=0)
    sequence = open_bag(stuck)
    assert len(list(sequence)) == 1
    assert len(sequence.skipped) == 4
    line, = causes(sequence.skipped)
    assert line.startswith('4 images') and line.endswith('stamp is not after the previous image')


def test_stamps_that_go_backward_now_and_then_are_kept(tmp_path):
    """As where messages arrive in another order: only the late ones are skipped."""
    order = [0, 2, 1, 3, 4]
    path = write_bag(tmp_path / 'bag', {'/i': [
        image_message(stamps(5)[i], GREY, 'mono8') for i in order]}, step_ns=10**7)
    sequence = open_bag(path)
    assert [f.stamp_ns for f in sequence] == [stamps(5)[i] for i in (0, 2, 3, 4)]
    assert not any('recording' in note for note in sequence.notes)


def test_field_depth_topic_only(shared_data):
    with pytest.raises(InputError, match='only depth images'):
        open_sequence(bag=shared_data.field('depth_topic_only') / 'bag')


def test_field_camera_info_elsewhere(shared_data):
    sequence = open_sequence(bag=shared_data.field('camera_info_elsewhere') / 'bag')
    frames = list(sequence)
    assert len(frames) == 20
    assert frames[0].camera.fx == 262.5


def test_field_same_stamp(shared_data):
    """This one has no other recording times either, or has: each image once."""
    sequence = open_sequence(bag=shared_data.field('same_stamp') / 'bag')
    frames = list(sequence)
    assert len(frames) + len(sequence.skipped) == 20
    assert len(causes(sequence.skipped)) == (0 if len(frames) == 20 else 1)
    assert len({f.stamp_ns for f in frames}) == len(frames)


@pytest.mark.parametrize('encoding', ['32FC1', '8UC3', 'bayer_rggb16', 'nv12', 'nv21', 'rgb16'])
def test_field_encodings(shared_data, encoding):
    """They are the same two pictures."""
    folder = shared_data.field('encodings')
    frames = list(open_sequence(bag=folder / f'BAG_{encoding}'))
    reference = list(open_sequence(bag=folder / 'BAG_8UC3'))
    assert len(frames) == 2
    for frame, other in zip(frames, reference):
        grey, expected = (np.atleast_3d(f.image).astype(float).mean(2) for f in (frame, other))
        assert np.corrcoef(grey.reshape(-1), expected.reshape(-1))[0, 1] > 0.95
        if encoding != '32FC1':  # not grey, and not with red and blue exchanged
            red, blue = (frame.image[..., c].astype(float) for c in (0, 2))
            assert np.corrcoef((red - blue).reshape(-1), np.subtract(
                *(other.image[..., c].astype(float) for c in (0, 2))).reshape(-1))[0, 1] > 0.5
