# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Messages to arrays and back, byte for byte; poses and their covariances."""

from array import array
import struct
import sys
from types import ModuleType, SimpleNamespace

import cv2
from geometry_msgs.msg import Pose, Quaternion, TransformStamped
import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.camera_info import camera_from_info
from recon3r_ros.io.encodings import ENCODINGS
from recon3r_ros.ros import conversions
from recon3r_ros.slam.types import PointCloud
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField

STAMP_NS = 1_700_000_000_123_456_789
CAMERA = Camera(640, 480, 525.0, 526.0, 319.5, 239.5, (0.1, -0.2, 0.001, 0.002, 0.05))
COLOURS = np.random.default_rng(3).integers(0, 256, (4, 6, 3)).astype(np.uint8)
# two rows of two pixels, as (R, G, B)
RGB = np.array([[(10, 20, 30), (40, 50, 60)], [(70, 80, 90), (100, 110, 120)]], np.uint8)
ALPHA = np.full((2, 2, 1), 7, np.uint8)
WIDE = np.array([[0x1234, 0x00FF], [0xFF00, 0x8001]], np.uint16)


def through_dds(message):
    """Return what a subscriber gets."""
    return deserialize_message(serialize_message(message), type(message))


def image_of(encoding, rows, pad=0, big=False, width=None):
    """Make an image message of rows of samples (H, ...), padded with what must not show up."""
    rows = np.ascontiguousarray(rows)
    size = rows[0].nbytes
    data = b''.join(row.tobytes() + b'\xee' * pad for row in rows)
    return through_dds(Image(
        header=conversions.header(STAMP_NS, 'camera'), height=len(rows),
        width=rows.shape[1] if width is None else width, encoding=encoding, step=size + pad,
        is_bigendian=int(big), data=array('B', data)))


def yuv_rows(order):
    """Return two rows of two pixels of one colour; `order` says which byte is what."""
    sample = {'y': 90, 'u': 100, 'v': 180}
    return np.array([[sample[c] for c in order]] * 2, np.uint8)


def bayer_rows(pattern):
    """Return a uniform (200, 120, 40) seen through a colour filter, 8 rows of 8."""
    tile = np.array([{'r': 200, 'g': 120, 'b': 40}[c] for c in pattern], np.uint8).reshape(2, 2)
    return np.tile(tile, (4, 4))


def grey_cases():
    rows = RGB[..., 0]
    return {'mono8': (rows, rows), '8UC1': (rows, rows)}


def colour_cases():
    return {'rgb8': (RGB, RGB), 'bgr8': (RGB[..., ::-1], RGB),
            'rgba8': (np.dstack([RGB, ALPHA]), RGB),
            'bgra8': (np.dstack([RGB[..., ::-1], ALPHA]), RGB)}


def yuv_cases():
    # BT.601, video range, worked out by hand: 1.164 (Y - 16) + 1.596 (V - 128), and so on
    pixel = [round(1.164 * 74 + 1.596 * 52), round(1.164 * 74 - 0.813 * 52 + 0.391 * 28),
             round(1.164 * 74 - 2.018 * 28)]
    expected = np.tile(np.array(pixel, np.uint8), (2, 2, 1))
    return {name: (yuv_rows(order), expected) for name, order in (
        ('yuv422', 'uyvy'), ('uyvy', 'uyvy'), ('yuv422_yuy2', 'yuyv'), ('yuyv', 'yuyv'))}


def bayer_cases():
    expected = np.tile(np.array([200, 120, 40], np.uint8), (8, 8, 1))
    return {f'bayer_{p}8': (bayer_rows(p), expected) for p in ('rggb', 'bggr', 'gbrg', 'grbg')}


CASES = {**grey_cases(), **colour_cases(), **yuv_cases(), **bayer_cases()}


def test_the_cases_are_of_known_encodings():
    """The others are tested with the function that decodes them all."""
    assert {*CASES, 'mono16', '16UC1'} < set(ENCODINGS)


@pytest.mark.parametrize('pad', [0, 3])
@pytest.mark.parametrize('encoding', sorted(CASES))
def test_image_in_every_encoding(encoding, pad):
    rows, expected = CASES[encoding]
    message = image_of(encoding, rows, pad, width=expected.shape[1])
    image = conversions.image_from_message(message)
    assert image.dtype == np.uint8
    # OpenCV's colour equations are rounded once more
    tolerance = 1 if 'yu' in encoding or 'uyvy' in encoding else 0
    np.testing.assert_allclose(image.astype(int), expected.astype(int), atol=tolerance)


@pytest.mark.parametrize('encoding', ['mono16', '16UC1'])
@pytest.mark.parametrize('pad', [0, 1, 6])
@pytest.mark.parametrize('big', [False, True])
def test_wide_image_in_both_byte_orders(encoding, pad, big):
    message = image_of(encoding, WIDE.astype('>u2' if big else '<u2'), pad, big)
    image = conversions.image_from_message(message)
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image, WIDE)


def test_image_is_a_view_of_the_message_where_it_can_be():
    message = image_of('rgb8', RGB)
    assert np.shares_memory(conversions.image_from_message(message),
                            np.frombuffer(message.data, np.uint8))


def broken(**changes):
    """Return a good image message with some fields changed."""
    message = image_of('rgb8', RGB)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize('changes, words', [
    ({'step': 5}, 'step is 5'),
    ({'step': 0}, 'step is 0'),
    ({'data': array('B', range(11))}, '11 bytes'),
    ({'data': array('B')}, '0 bytes'),
    ({'height': 0}, 'no pixels'),
    ({'width': 0}, 'no pixels'),
    ({'height': 2**32 - 1}, 'bytes'),
    ({'encoding': 'rgb9'}, "'rgb9'"),
    ({'encoding': ''}, "''"),
], ids=str)
def test_broken_images_are_refused_with_the_reason(changes, words):
    with pytest.raises(InputError, match=words):
        conversions.image_from_message(broken(**changes))


@pytest.fixture
def cv_bridge(monkeypatch):
    """Stand in for cv_bridge; it returns `pixels`, or raises them where they are an exception."""
    fake = SimpleNamespace(pixels=RGB, asked=[])

    class CvBridge:

        def imgmsg_to_cv2(self, message, encoding):
            fake.asked.append((message.encoding, encoding))
            if isinstance(fake.pixels, Exception):
                raise fake.pixels
            return fake.pixels

    module = ModuleType('cv_bridge')
    module.CvBridge = CvBridge
    monkeypatch.setitem(sys.modules, 'cv_bridge', module)
    return fake


def test_other_encodings_go_to_cv_bridge(cv_bridge):
    image = conversions.image_from_message(broken(encoding='32FC3'))
    np.testing.assert_array_equal(image, RGB)
    assert cv_bridge.asked == [('32FC3', 'rgb8')]


def test_own_encodings_do_not_need_cv_bridge(cv_bridge):
    cv_bridge.pixels = AssertionError('asked')
    for encoding, (rows, expected) in CASES.items():
        conversions.image_from_message(image_of(encoding, rows, width=expected.shape[1]))
    assert not cv_bridge.asked


def test_what_cv_bridge_refuses_is_named(cv_bridge):
    cv_bridge.pixels = RuntimeError('unrecognised')
    with pytest.raises(InputError, match="'32FC3'.*unrecognised"):
        conversions.image_from_message(broken(encoding='32FC3'))


def test_a_cv_bridge_for_another_numpy_counts_as_absent(monkeypatch):
    monkeypatch.setitem(sys.modules, 'cv_bridge', ModuleType('cv_bridge'))  # without CvBridge
    with pytest.raises(InputError, match="'32FC3' is not one of"):
        conversions.image_from_message(broken(encoding='32FC3'))


@pytest.mark.parametrize('encoding', ['mono8', 'rgb8', 'bgr8', 'mono16'])
def test_images_agree_with_cv_bridge(encoding):
    oracle = pytest.importorskip('cv_bridge', reason='cv_bridge is not installed').CvBridge()
    rows = WIDE if encoding == 'mono16' else CASES[encoding][0]
    message = image_of(encoding, rows)
    wanted = encoding if encoding.startswith('mono') else 'rgb8'
    np.testing.assert_array_equal(conversions.image_from_message(message),
                                  oracle.imgmsg_to_cv2(message, wanted))


def compressed(suffix, image_format, image=COLOURS):
    _, data = cv2.imencode(suffix, image[..., ::-1] if image.ndim == 3 else image)
    return through_dds(CompressedImage(format=image_format, data=array('B', data.tobytes())))


@pytest.mark.parametrize('image', [COLOURS, COLOURS[..., 0]], ids=['colour', 'grey'])
def test_compressed_image(image):
    message = compressed('.png', 'rgb8; png compressed bgr8', image)
    np.testing.assert_array_equal(conversions.image_from_compressed(message), image)


@pytest.mark.parametrize('suffix, image_format', [('.png', 'png'), ('.jpg', 'jpeg')])
def test_truncated_compressed_image_is_refused(suffix, image_format):
    message = compressed(suffix, image_format)
    message.data = message.data[:len(message.data) // 2]
    with pytest.raises(InputError, match='truncated'):
        conversions.image_from_compressed(message)


def test_empty_and_foreign_compressed_images_are_refused():
    for data in (b'', b'not an image at all'):
        with pytest.raises(InputError):
            conversions.image_from_compressed(CompressedImage(format='jpeg',
                                                              data=array('B', data)))


@pytest.mark.parametrize('pad', [0, 1, 5])
@pytest.mark.parametrize('big', [False, True])
def test_depth_in_metres(pad, big):
    values = np.array([[0.5, np.nan, 0.0], [-1.0, np.inf, 65.25]])
    depth = conversions.depth_from_message(
        image_of('32FC1', values.astype('>f4' if big else '<f4'), pad, big))
    assert depth.dtype == np.float32
    np.testing.assert_array_equal(depth, np.float32([[0.5, np.nan, np.nan],
                                                     [np.nan, np.nan, 65.25]]))


@pytest.mark.parametrize('pad', [0, 1, 6])
@pytest.mark.parametrize('big', [False, True])
@pytest.mark.parametrize('encoding', ['16UC1', 'mono16'])
def test_depth_in_millimetres(encoding, pad, big):
    values = np.array([[0, 1], [1500, 65535]])
    depth = conversions.depth_from_message(
        image_of(encoding, values.astype('>u2' if big else '<u2'), pad, big))
    np.testing.assert_allclose(depth, [[np.nan, 0.001], [1.5, 65.535]], rtol=1e-6)


@pytest.mark.parametrize('changes', [
    {'encoding': 'rgb8'}, {'step': 3}, {'height': 0}, {'width': 0}, {'height': 9},
    {'data': array('B', range(7))}], ids=str)
def test_broken_depth_is_refused(changes):
    message = image_of('32FC1', np.ones((2, 2), '<f4'))
    for name, value in changes.items():
        setattr(message, name, value)
    with pytest.raises(InputError):
        conversions.depth_from_message(message)


def test_depth_leaves_the_message_alone():
    message = image_of('32FC1', np.full((2, 2), -1.0, '<f4'))
    before = bytes(message.data)
    conversions.depth_from_message(message)
    assert bytes(message.data) == before


@pytest.mark.parametrize('pad', [0, 2])
def test_mask(pad):
    values = np.array([[0, 1, 255], [254, 0, 0]], np.uint8)
    mask = conversions.mask_from_message(image_of('mono8', values, pad))
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, values > 0)
    with pytest.raises(InputError, match='rgb8'):
        conversions.mask_from_message(image_of('rgb8', RGB))


def check_header(message, frame_id='camera'):
    assert message.header.frame_id == frame_id
    assert conversions.stamp_to_ns(message.header.stamp) == STAMP_NS


@pytest.mark.parametrize('image', [COLOURS, COLOURS[..., 1], COLOURS[:, ::-1], COLOURS[::2, ::2]],
                         ids=['colour', 'strided grey', 'flipped', 'strided colour'])
def test_image_message(image):
    message = through_dds(conversions.image_message(image, STAMP_NS, 'camera'))
    check_header(message)
    assert (message.height, message.width) == image.shape[:2]
    assert message.encoding == ('rgb8' if image.ndim == 3 else 'mono8')
    assert message.step * message.height == len(message.data)
    assert bytes(message.data) == image.tobytes()
    np.testing.assert_array_equal(conversions.image_from_message(message), image)


def test_messages_do_not_share_memory_with_what_they_are_made_of():
    image, depth = COLOURS.copy(), np.ones((2, 2), np.float32)
    messages = [conversions.image_message(image, 0, ''), conversions.depth_message(depth, 0, '')]
    before = [bytes(m.data) for m in messages]
    image[:], depth[:] = 0, 2
    assert [bytes(m.data) for m in messages] == before


def test_mask_message():
    mask = np.array([[True, False, True], [False, False, True]])
    message = through_dds(conversions.mask_message(mask, STAMP_NS, 'camera'))
    check_header(message)
    assert message.encoding == 'mono8'
    assert list(message.data) == [255, 0, 255, 0, 0, 255]
    np.testing.assert_array_equal(conversions.mask_from_message(message), mask)


def test_depth_message():
    depth = np.float32([[0.5, np.nan, 3.25], [1.0, 2.0, np.nan]])
    message = through_dds(conversions.depth_message(depth, STAMP_NS, 'camera'))
    check_header(message)
    assert (message.encoding, message.step, message.is_bigendian) == ('32FC1', 12, 0)
    assert bytes(message.data) == depth.tobytes()
    np.testing.assert_array_equal(conversions.depth_from_message(message), depth)


@pytest.mark.parametrize('camera', [
    CAMERA, Camera(320, 240, 200.0, 201.0, 160.0, 120.0),
    Camera(320, 240, 200.0, 201.0, 160.0, 120.0, tuple(0.01 * i for i in range(1, 9)),
           'rational_polynomial'),
    Camera(320, 240, 200.0, 201.0, 160.0, 120.0, tuple(0.01 * i for i in range(1, 15)),
           'rational_polynomial'),
    Camera(320, 240, 200.0, 201.0, 160.0, 120.0, (0.1, 0.02, 0.003, 0.0004), 'equidistant')],
    ids=['plumb_bob', 'pinhole', 'rational', 'tilted', 'fisheye'])
def test_camera_info(camera):
    message = through_dds(conversions.camera_info_message(camera, STAMP_NS, 'camera'))
    check_header(message)
    assert camera_from_info(message) == camera
    # consumers of the rectified image read P, whose left part is K here
    assert list(message.p) == [camera.fx, 0, camera.cx, 0, 0, camera.fy, camera.cy, 0, 0, 0, 1, 0]
    assert list(message.r) == [1, 0, 0, 0, 1, 0, 0, 0, 1]
    assert isinstance(message, CameraInfo)


def a_cloud(count):
    rng = np.random.default_rng(count)
    return PointCloud(rng.normal(size=(count, 3)).astype(np.float32),
                      rng.integers(0, 256, (count, 3)).astype(np.uint8),
                      rng.uniform(1, 9, count).astype(np.float32))


def assert_same_cloud(cloud, expected):
    for name in ('points', 'colors', 'confidences'):
        values, wanted = getattr(cloud, name), getattr(expected, name)
        assert values.dtype == wanted.dtype
        np.testing.assert_array_equal(values, wanted)


@pytest.mark.parametrize('count', [0, 1, 1000])
def test_cloud_there_and_back(count):
    cloud = a_cloud(count)
    message = through_dds(conversions.cloud_message(cloud, STAMP_NS, 'camera'))
    check_header(message)
    assert (message.height, message.width, message.point_step) == (1, count, 20)
    assert message.row_step == len(message.data) == 20 * count
    assert_same_cloud(conversions.cloud_from_message(message), cloud)


def test_cloud_byte_for_byte():
    # read as float32 these colours are denormal, which must not be flushed to zero
    colors = np.array([[1, 2, 3], [255, 255, 255], [127, 128, 1], [0, 0, 0]], np.uint8)
    points = np.float32([[1, 2, 3], [-1, 0, 0.5], [1e-30, 1e30, 0], [0, 0, 0]])
    message = conversions.cloud_message(
        PointCloud(points, colors, np.float32([1, 2, 3, 4])), STAMP_NS, 'camera')
    expected = b''.join(
        struct.pack('<fffIf', *p.tolist(), int(c[0]) << 16 | int(c[1]) << 8 | int(c[2]), i + 1)
        for i, (p, c) in enumerate(zip(points, colors)))
    assert bytes(message.data) == expected
    assert [(f.name, f.offset, f.datatype, f.count) for f in message.fields] == [
        (name, 4 * i, PointField.FLOAT32, 1)
        for i, name in enumerate(('x', 'y', 'z', 'rgb', 'confidence'))]
    assert not message.is_bigendian


def test_cloud_of_strided_and_double_arrays():
    cloud = a_cloud(10)
    views = PointCloud(cloud.points[::2], cloud.colors[::2], cloud.confidences[::2])
    doubles = PointCloud(views.points.astype(float), views.colors, views.confidences.astype(float))
    for given in (views, doubles):
        assert_same_cloud(conversions.cloud_from_message(
            conversions.cloud_message(given, STAMP_NS, 'camera')), views)


def test_cloud_says_whether_all_its_points_are_finite():
    cloud = a_cloud(3)
    assert conversions.cloud_message(cloud, 0, '').is_dense is True
    cloud.points[1, 2] = np.nan
    assert conversions.cloud_message(cloud, 0, '').is_dense is False


def test_cloud_in_padded_rows_and_another_order():
    # two rows of one point, big-endian, confidence first
    names = ['confidence', 'x', 'y', 'z', 'rgb']
    rows = [struct.pack('>ffffI', 9.0, 1.0, 2.0, 3.0, 0x102030),
            struct.pack('>ffffI', 8.0, 4.0, 5.0, 6.0, 0x405060)]
    message = PointCloud2(
        height=2, width=1, point_step=20, row_step=23, is_bigendian=True,
        data=array('B', b'abc'.join(rows)),
        fields=[PointField(name=n, offset=4 * i, datatype=PointField.FLOAT32, count=1)
                for i, n in enumerate(names)])
    assert_same_cloud(conversions.cloud_from_message(message), PointCloud(
        np.float32([[1, 2, 3], [4, 5, 6]]),
        np.uint8([[0x10, 0x20, 0x30], [0x40, 0x50, 0x60]]), np.float32([9, 8])))


@pytest.mark.parametrize('changes', [
    {'data': array('B', range(39))}, {'point_step': 19}, {'point_step': 0}, {'width': 3},
    {'height': 2}, {'fields': []}], ids=lambda c: next(iter(c)))
def test_broken_clouds_are_refused(changes):
    message = conversions.cloud_message(a_cloud(2), 0, 'map')
    for name, value in changes.items():
        setattr(message, name, value)
    with pytest.raises(InputError):
        conversions.cloud_from_message(message)


def test_cloud_field_of_another_type_is_named():
    message = conversions.cloud_message(a_cloud(2), 0, 'map')
    message.fields[4].datatype = PointField.FLOAT64
    with pytest.raises(InputError, match='confidence'):
        conversions.cloud_from_message(message)


def test_clouds_agree_with_sensor_msgs_py():
    oracle = pytest.importorskip('sensor_msgs_py.point_cloud2',
                                 reason='sensor_msgs_py is not installed')
    cloud = a_cloud(50)
    message = conversions.cloud_message(cloud, STAMP_NS, 'camera')
    points = oracle.read_points_numpy(message, ['x', 'y', 'z', 'confidence'])
    np.testing.assert_array_equal(points, np.column_stack([cloud.points, cloud.confidences]))
    rgb = oracle.read_points(message, ['rgb'])['rgb'].view(np.uint32)
    np.testing.assert_array_equal(rgb >> 16, cloud.colors[:, 0])


@pytest.mark.parametrize('stamp_ns', [0, 1, 999_999_999, 10**9, STAMP_NS, (2**31 - 1) * 10**9, -1])
def test_stamps_are_exact(stamp_ns):
    stamp = conversions.ns_to_stamp(stamp_ns)
    assert 0 <= stamp.nanosec < 10**9
    header = through_dds(conversions.header(stamp_ns, 'map'))
    assert (header.stamp, header.frame_id) == (stamp, 'map')
    assert conversions.stamp_to_ns(header.stamp) == stamp_ns


def random_poses(count, seed=0):
    rng = np.random.default_rng(seed)
    return se3.exp(np.hstack([rng.uniform(-1.8, 1.8, (count, 3)), rng.normal(size=(count, 3))]))


@pytest.mark.parametrize('T', [np.eye(4), *random_poses(5),
                               se3.exp([np.pi, 0, 0, 1, 2, 3]), se3.exp([0, 0, -np.pi, 1, 2, 3])])
def test_pose_there_and_back(T):
    pose = through_dds(conversions.pose_message(T))
    np.testing.assert_allclose(conversions.matrix_from_pose(pose), T, atol=1e-12)


def test_pose_quaternion_is_in_the_order_x_y_z_w():
    # a quarter turn to the left about z, and one metre forward
    pose = conversions.pose_message(se3.exp([0, 0, np.pi / 2, 0, 0, 0]))
    half = np.sqrt(0.5)
    q = pose.orientation
    np.testing.assert_allclose([q.x, q.y, q.z, q.w], [0, 0, half, half], atol=1e-12)


def test_quaternions_agree_with_tf_transformations():
    oracle = pytest.importorskip('tf_transformations', reason='tf_transformations is missing')
    for T in random_poses(5):
        q = conversions.pose_message(T).orientation
        expected = np.array(oracle.quaternion_from_matrix(T))
        np.testing.assert_allclose([q.x, q.y, q.z, q.w], expected * np.sign(expected[3] * q.w),
                                   atol=1e-9)


def test_transform_there_and_back():
    T = random_poses(1)[0]
    message = through_dds(conversions.transform_message(T, 'odom', 'base_link', STAMP_NS))
    assert isinstance(message, TransformStamped)
    check_header(message, 'odom')
    assert message.child_frame_id == 'base_link'
    np.testing.assert_allclose(conversions.matrix_from_transform(message.transform), T, atol=1e-12)


@pytest.mark.parametrize('length', [1e-3, 0.9999, 1e3, 1e300])
def test_quaternions_need_not_be_of_unit_length(length):
    T = random_poses(1)[0]
    pose = conversions.pose_message(T)
    q = pose.orientation
    pose.orientation = Quaternion(x=q.x * length, y=q.y * length, z=q.z * length, w=q.w * length)
    np.testing.assert_allclose(conversions.matrix_from_pose(pose), T, atol=1e-12)


@pytest.mark.parametrize('part, name', [('position', 'x'), ('position', 'z'),
                                        ('orientation', 'x'), ('orientation', 'w')])
@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_poses_that_are_not_finite_are_refused(part, name, value):
    pose = conversions.pose_message(np.eye(4))
    setattr(getattr(pose, part), name, float(value))
    with pytest.raises(InputError):
        conversions.matrix_from_pose(pose)
    transform = conversions.transform_message(np.eye(4), 'a', 'b', 0).transform
    field = {'position': 'translation', 'orientation': 'rotation'}[part]
    setattr(getattr(transform, field), name, float(value))
    with pytest.raises(InputError):
        conversions.matrix_from_transform(transform)


def test_a_zero_quaternion_is_refused():
    pose = Pose(orientation=Quaternion(x=0.0, y=0.0, z=0.0, w=0.0))
    with pytest.raises(InputError, match='quaternion'):
        conversions.matrix_from_pose(pose)


def sampled_covariance(T_map_cam, T_cam_body, covariance, length, length_sigma, count=200_000):
    """
    Covariance (6, 6), in ROS's order, of a body's pose by trying it out.

    :param T_map_cam: (4, 4) in map units
    """
    rng = np.random.default_rng(11)
    deltas = rng.multivariate_normal(np.zeros(6), covariance, count)
    lengths = length * np.exp(length_sigma * rng.normal(size=count))
    T_cams = se3.inverse(se3.exp(deltas) @ se3.inverse(T_map_cam))
    T_cams[:, :3, 3] *= lengths[:, None]
    T_bodies = T_cams @ T_cam_body
    T = T_map_cam.copy()
    T[:3, 3] *= length
    true = T @ T_cam_body
    # fixed axes: the error's rotation comes last, about the axes of the header's frame
    turns = se3.so3_log(T_bodies[:, :3, :3] @ true[:3, :3].T)
    return np.cov(np.hstack([T_bodies[:, :3, 3] - true[:3, 3], turns]).T)


def some_covariance():
    """Return one of a camera whose every error goes with every other."""
    factor = np.random.default_rng(2).normal(size=(6, 6))
    return factor @ factor.T * 1e-6


@pytest.mark.parametrize('T_cam_body, length, length_sigma', [
    (np.eye(4), 1.0, 0.0),
    (np.eye(4), 2.5, 0.0),
    (se3.exp([0.3, -1.2, 0.4, 0.2, -0.5, 0.9]), 1.0, 0.0),
    (se3.exp([0.3, -1.2, 0.4, 0.2, -0.5, 0.9]), 2.5, 0.0),
    (np.eye(4), 2.5, 0.002),
], ids=['camera', 'in metres', 'on a lever', 'on a lever in metres', 'with an unsure scale'])
def test_covariance_against_samples(T_cam_body, length, length_sigma):
    covariance = some_covariance()
    T_map_cam = random_poses(1, seed=4)[0]
    T_metric = T_map_cam.copy()
    T_metric[:3, 3] *= length
    got = np.reshape(conversions.pose_covariance(covariance, T_metric, T_cam_body, length,
                                                 length_sigma), (6, 6))
    expected = sampled_covariance(T_map_cam, T_cam_body, covariance, length, length_sigma)
    deviations = np.sqrt(np.diag(expected))
    # correlations from 200 000 samples are right to half a percent
    np.testing.assert_allclose(got / np.outer(deviations, deviations),
                               expected / np.outer(deviations, deviations), atol=0.02)


def test_covariance_by_hand():
    # Optical axes to those of a body: the camera's z error is along the map's x
    T = np.eye(4)
    T[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    variances = [1e-6, 2e-6, 3e-6, 4e-6, 5e-6, 6e-6]
    got = np.reshape(conversions.pose_covariance(np.diag(variances), T, np.eye(4), 2.0), (6, 6))
    np.testing.assert_allclose(got, np.diag([24e-6, 16e-6, 20e-6, 3e-6, 1e-6, 2e-6]), atol=1e-15)


def test_covariance_is_what_the_message_takes():
    T = random_poses(1, seed=8)[0]
    values = conversions.pose_covariance(some_covariance(), T, random_poses(1)[0], 3.0, 0.01)
    assert len(values) == 36 and all(type(v) is float for v in values)
    matrix = np.reshape(values, (6, 6))
    np.testing.assert_array_equal(matrix, matrix.T)
    assert np.linalg.eigvalsh(matrix).min() > 0
