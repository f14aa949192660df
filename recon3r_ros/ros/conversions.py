# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Between messages and arrays: pure functions, one copy at most.

Numbers going out are packed into `array.array`, which rclpy takes as it is: it looks at every
element of a list, and at every one of a numpy array too.
"""

from __future__ import annotations

from array import array
from typing import Any

from builtin_interfaces.msg import Time
import cv2
from geometry_msgs.msg import Point, Pose, Quaternion, Transform, TransformStamped, Vector3
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.core.types import PointCloud
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.decode import decode_compressed
from recon3r_ros.io.encodings import ENCODINGS, image_to_array
from recon3r_ros.io.stamps import NS_PER_S
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField
from std_msgs.msg import Header

Array = NDArray[np.float64]

#: Quaternions shorter than this have no direction
MIN_QUATERNION = 1e-6
_CLOUD_FIELDS = ('x', 'y', 'z', 'rgb', 'confidence')


def stamp_to_ns(stamp: Time) -> int:
    """Integer nanoseconds of a stamp."""
    return int(stamp.sec) * NS_PER_S + int(stamp.nanosec)


def ns_to_stamp(stamp_ns: int) -> Time:
    """Stamp of integer nanoseconds."""
    seconds, nanoseconds = divmod(int(stamp_ns), NS_PER_S)
    return Time(sec=seconds, nanosec=nanoseconds)


def header(stamp_ns: int, frame_id: str) -> Header:
    """Header of a stamp and a frame."""
    return Header(stamp=ns_to_stamp(stamp_ns), frame_id=frame_id)


def packed(values: NDArray[Any]) -> array[int]:
    """Bytes of an array, in a form that a message takes without looking at each."""
    data = array('B')
    data.frombytes(memoryview(np.ascontiguousarray(values).data).cast('B'))
    return data


def image_from_message(message: Image) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """
    Pixels of an image: RGB (H, W, 3) or grey (H, W); a view of the message where possible.

    :raises InputError: for an encoding that neither this package nor cv_bridge knows, a wrong
        step, too few bytes, an image without pixels
    """
    if message.encoding not in ENCODINGS:
        bridged = _bridged(message)
        if bridged is not None:
            return bridged
    return image_to_array(message.height, message.width, message.encoding, message.step,
                          bool(message.is_bigendian), message.data)


def _bridged(message: Image) -> NDArray[np.uint8] | None:
    """Have cv_bridge decode an image, where it is installed and works beside this NumPy."""
    try:
        from cv_bridge import CvBridge
    except (ImportError, AttributeError):
        return None
    try:
        return np.asarray(CvBridge().imgmsg_to_cv2(message, 'rgb8'), np.uint8)
    except Exception as error:  # it raises what Boost, OpenCV or NumPy raise
        raise InputError(
            f'encoding {message.encoding!r} is none of {", ".join(ENCODINGS)}, and cv_bridge '
            f'fails: {error}') from error


def image_from_compressed(message: CompressedImage) -> NDArray[np.generic]:
    """
    Pixels of a compressed image: RGB (H, W, 3) or grey (H, W).

    :raises InputError: where they cannot be decoded
    """
    return decode_compressed(message.data, message.format)


def depth_from_message(message: Image) -> NDArray[np.float32]:
    """
    Depth (H, W) in metres, NaN where there is none (REP-118).

    :raises InputError: for another encoding than 32FC1 and 16UC1, a wrong step, too few bytes
    """
    sizes = {'32FC1': 4, '16UC1': 2, 'mono16': 2}
    if message.encoding not in sizes:
        raise InputError(f'depth in encoding {message.encoding!r}: expected 32FC1 or 16UC1')
    height, width, step = message.height, message.width, message.step
    sample = sizes[message.encoding]
    samples = np.frombuffer(message.data, np.uint8)
    if height <= 0 or width <= 0 or step < width * sample:
        raise InputError(f'depth image of {width}x{height} pixels with a step of {step} bytes')
    needed = (height - 1) * step + width * sample
    if samples.size < needed:
        raise InputError(f'depth image has {samples.size} bytes, expected at least {needed}')
    order = '>' if message.is_bigendian else '<'
    kind = 'f4' if sample == 4 else 'u2'
    grid: NDArray[Any] = np.ndarray(
        (height, width), np.dtype(order + kind), samples, strides=(step, sample))
    depth = grid.astype(np.float32)
    if sample == 2:
        depth *= np.float32(1e-3)
    depth[~(depth > 0) | np.isinf(depth)] = np.nan
    return depth


def mask_from_message(message: Image) -> NDArray[np.bool_]:
    """
    Mask (H, W), True where a pixel is not zero.

    :raises InputError: for another encoding than mono8, a wrong step, too few bytes
    """
    if message.encoding not in ('mono8', '8UC1'):
        raise InputError(f'mask in encoding {message.encoding!r}: expected mono8')
    return image_to_array(message.height, message.width, 'mono8', message.step, False,
                          message.data) > 0


def image_message(image: NDArray[np.uint8], stamp_ns: int, frame_id: str) -> Image:
    """
    Image message in rgb8 or mono8.

    :param image: (H, W, 3) RGB or (H, W) grey
    """
    height, width = image.shape[:2]
    channels = 1 if image.ndim == 2 else 3
    return Image(header=header(stamp_ns, frame_id), height=height, width=width,
                 encoding='mono8' if channels == 1 else 'rgb8', is_bigendian=0,
                 step=width * channels, data=packed(image))


def mask_message(mask: NDArray[np.bool_], stamp_ns: int, frame_id: str) -> Image:
    """Image message in mono8: 255 where a mask (H, W) is True."""
    return image_message(mask.astype(np.uint8) * np.uint8(255), stamp_ns, frame_id)


def depth_message(depth: NDArray[np.float32], stamp_ns: int, frame_id: str) -> Image:
    """Image message in 32FC1 of depths (H, W): metres, NaN where there is none."""
    height, width = depth.shape
    return Image(header=header(stamp_ns, frame_id), height=height, width=width, encoding='32FC1',
                 is_bigendian=0, step=4 * width, data=packed(depth.astype('<f4', copy=False)))


def camera_info_message(camera: Camera, stamp_ns: int, frame_id: str) -> CameraInfo:
    """Intrinsics of a camera; P is K, as of an image that is rectified or is to be."""
    K = camera.K
    return CameraInfo(
        header=header(stamp_ns, frame_id), height=camera.height, width=camera.width,
        distortion_model=camera.model, d=array('d', camera.distortion or (0.0,) * 5),
        k=array('d', K.ravel()), r=array('d', np.eye(3).ravel()),
        p=array('d', np.hstack([K, np.zeros((3, 1))]).ravel()))


def cloud_message(cloud: PointCloud, stamp_ns: int, frame_id: str) -> PointCloud2:
    """
    Cloud with fields x y z rgb confidence, all float32; rgb holds 0x00RRGGBB, as PCL and RViz do.

    :param cloud: points in the frame, metres
    """
    count = len(cloud)
    rows = np.empty((count, len(_CLOUD_FIELDS)), np.uint32)
    rows[:, :3] = np.ascontiguousarray(cloud.points, np.float32).view(np.uint32)
    colors = cloud.colors.astype(np.uint32)
    rows[:, 3] = colors[:, 0] << 16 | colors[:, 1] << 8 | colors[:, 2]
    rows[:, 4] = np.ascontiguousarray(cloud.confidences, np.float32).view(np.uint32)
    step = 4 * len(_CLOUD_FIELDS)
    fields = [PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
              for i, name in enumerate(_CLOUD_FIELDS)]
    return PointCloud2(
        header=header(stamp_ns, frame_id), height=1, width=count, fields=fields,
        is_bigendian=False, point_step=step, row_step=step * count, data=packed(rows),
        is_dense=True)


def cloud_from_message(message: PointCloud2) -> PointCloud:
    """
    Points of a cloud like those of `cloud_message`.

    :raises InputError: where a field is missing or the data is too short
    """
    offsets = {field.name: field.offset for field in message.fields}
    missing = set(_CLOUD_FIELDS) - set(offsets)
    count = message.width * message.height
    if missing or len(message.data) < count * message.point_step:
        raise InputError(f'cloud of {count} points: fields {", ".join(sorted(missing)) or "none"} '
                         f'missing, {len(message.data)} bytes')
    layout = np.dtype({
        'names': list(_CLOUD_FIELDS), 'offsets': [offsets[n] for n in _CLOUD_FIELDS],
        'formats': ['<f4', '<f4', '<f4', '<u4', '<f4'], 'itemsize': message.point_step})
    rows = np.frombuffer(message.data, layout, count)
    rgb = rows['rgb']
    return PointCloud(
        np.stack([rows['x'], rows['y'], rows['z']], axis=1),
        np.stack([rgb >> 16 & 255, rgb >> 8 & 255, rgb & 255], axis=1).astype(np.uint8),
        rows['confidence'].copy())


def pose_message(T: Array) -> Pose:
    """Pose of a rigid motion (4, 4)."""
    x, y, z, w = se3.quat_xyzw_from_matrix(T[:3, :3]).tolist()
    return Pose(position=Point(x=float(T[0, 3]), y=float(T[1, 3]), z=float(T[2, 3])),
                orientation=Quaternion(x=x, y=y, z=z, w=w))


def matrix_from_pose(pose: Pose) -> Array:
    """
    Rigid motion (4, 4) of a pose.

    :raises InputError: where a number is not finite or the quaternion is zero
    """
    return _matrix(pose.position, pose.orientation)


def transform_message(T_parent_child: Array, parent: str, child: str, stamp_ns: int
                      ) -> TransformStamped:
    """Transform of a rigid motion (4, 4) that maps the child frame's points to the parent."""
    pose = pose_message(T_parent_child)
    p = pose.position
    return TransformStamped(
        header=header(stamp_ns, parent), child_frame_id=child,
        transform=Transform(translation=Vector3(x=p.x, y=p.y, z=p.z), rotation=pose.orientation))


def matrix_from_transform(transform: Transform) -> Array:
    """
    Rigid motion (4, 4) of a transform.

    :raises InputError: where a number is not finite or the quaternion is zero
    """
    return _matrix(transform.translation, transform.rotation)


def _matrix(position: Any, quaternion: Any) -> Array:
    t = np.array([position.x, position.y, position.z])
    q = np.array([quaternion.x, quaternion.y, quaternion.z, quaternion.w])
    if not np.isfinite([*t, *q]).all() or np.linalg.norm(q) < MIN_QUATERNION:
        raise InputError(f'pose with position {t.tolist()} and quaternion {q.tolist()}: expected '
                         'finite numbers and a quaternion that is not zero')
    return se3.from_rt(se3.matrix_from_quat_xyzw(q / np.linalg.norm(q)), t)


def pose_covariance(covariance: Array, T_ref_cam: Array, T_cam_body: Array, length: float,
                    length_sigma: float = 0.0) -> list[float]:
    """
    Covariance of a body's pose, in ROS's order (x y z, rotations about x y z), row by row.

    A body that is fixed to a camera errs with it: with p = R_ref_cam t_cam_body, an error of the
    camera's position by dp and orientation by the small rotation w moves the body by dp + w x p.

    :param covariance: (6, 6) of [omega, v], a perturbation exp([omega, v]) T_cam_ref, map units
    :param T_ref_cam: (4, 4) pose of the camera in the header's frame
    :param T_cam_body: (4, 4) of the body in the camera, metres
    :param length: metres per map unit
    :param length_sigma: its relative error, which acts along the position
    """
    R = T_ref_cam[:3, :3]
    # exp(d) T_cam_ref has the inverse T_ref_cam exp(-d): seen from ref, by -R v and -R omega
    J = np.zeros((6, 6))
    J[:3, 3:] = -R * length
    J[:3, :3] = se3.hat(R @ T_cam_body[:3, 3]) @ R
    J[3:, :3] = -R
    result = J @ covariance @ J.T
    p = (T_ref_cam @ T_cam_body)[:3, 3]
    result[:3, :3] += length_sigma ** 2 * np.outer(p, p)
    return [float(x) for x in (0.5 * (result + result.T)).ravel()]


def resized_to(image: NDArray[np.uint8], camera: Camera) -> NDArray[np.uint8]:
    """Image at the size that a camera is for."""
    if image.shape[:2] == (camera.height, camera.width):
        return image
    return np.asarray(cv2.resize(image, (camera.width, camera.height),
                                 interpolation=cv2.INTER_AREA), np.uint8)
