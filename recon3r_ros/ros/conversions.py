# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Between messages and arrays: pure functions, one copy at most.

Bytes going out are written into the `array.array` that a new message holds. Assigned, an array is
copied twice, and of a list, or a numpy array, every element is checked.
"""

from __future__ import annotations

from array import array
import math
from typing import Any

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, Quaternion, Transform, TransformStamped, Vector3
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.compressed_depth import depth_of_message
from recon3r_ros.io.decode import decode_compressed
from recon3r_ros.io.encodings import ENCODINGS, image_to_array, Pixels
from recon3r_ros.io.stamps import NS_PER_S
from recon3r_ros.slam.types import PointCloud
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField
from std_msgs.msg import Header

Array = NDArray[np.float64]

#: Quaternions shorter than this have no direction
MIN_QUATERNION = 1e-6
_CLOUD_FIELDS = ('x', 'y', 'z', 'rgb', 'confidence')
_CLOUD_STEP = 4 * len(_CLOUD_FIELDS)


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


def image_from_message(message: Image) -> Pixels:
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


def depth_from_message(message: Image | CompressedImage) -> NDArray[np.float32]:
    """
    Depth (H, W) in metres, NaN where there is none (REP-118).

    :raises InputError: for another encoding than 32FC1 and 16UC1, a wrong step, too few bytes,
        compressed depth that cannot be decoded
    """
    return depth_of_message(message)


def mask_from_message(message: Image) -> NDArray[np.bool_]:
    """
    Mask (H, W), True where a pixel is not zero.

    :raises InputError: for another encoding than mono8, a wrong step, too few bytes
    """
    if message.encoding not in ('mono8', '8UC1'):
        raise InputError(f'mask in encoding {message.encoding!r}: expected mono8')
    return image_to_array(message.height, message.width, 'mono8', message.step, False,
                          message.data) > 0


def ids_from_message(message: Image) -> NDArray[np.uint16]:
    """
    Numbers (H, W) of an image's pixels: classes or instances.

    :raises InputError: for another encoding than mono8 and 16UC1, a wrong step, too few bytes
    """
    encoding = {'mono8': 'mono8', '8UC1': 'mono8', '16UC1': 'mono16', 'mono16': 'mono16'}.get(
        message.encoding)
    if encoding is None:
        raise InputError(f'encoding {message.encoding!r}: expected mono8 or 16UC1')
    return image_to_array(message.height, message.width, encoding, message.step,
                          bool(message.is_bigendian), message.data).astype(np.uint16)


def ids_message(ids: NDArray[np.uint16], stamp_ns: int, frame_id: str) -> Image:
    """Image message in 16UC1 of numbers (H, W)."""
    return _image_message(ids.astype('<u2', copy=False), '16UC1', stamp_ns, frame_id)


def image_message(image: NDArray[np.uint8], stamp_ns: int, frame_id: str) -> Image:
    """
    Image message in rgb8 or mono8.

    :param image: (H, W, 3) RGB or (H, W) grey
    """
    return _image_message(image, 'mono8' if image.ndim == 2 else 'rgb8', stamp_ns, frame_id)


def mask_message(mask: NDArray[np.bool_], stamp_ns: int, frame_id: str) -> Image:
    """Image message in mono8: 255 where a mask (H, W) is True."""
    return image_message(mask.astype(np.uint8) * np.uint8(255), stamp_ns, frame_id)


def depth_message(depth: NDArray[np.float32], stamp_ns: int, frame_id: str) -> Image:
    """Image message in 32FC1 of depths (H, W): metres, NaN where there is none."""
    return _image_message(depth.astype('<f4', copy=False), '32FC1', stamp_ns, frame_id)


def _image_message(pixels: NDArray[Any], encoding: str, stamp_ns: int, frame_id: str) -> Image:
    height, width = pixels.shape[:2]
    message = Image(header=header(stamp_ns, frame_id), height=height, width=width,
                    encoding=encoding, is_bigendian=0, step=pixels[:1].nbytes)
    message.data.frombytes(np.ascontiguousarray(pixels).reshape(-1).view(np.uint8))
    return message


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

    Where the cloud has them, label (uint8) and instance (uint16) follow.

    :param cloud: points in the frame, metres
    """
    count = len(cloud)
    fields = [PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
              for i, name in enumerate(_CLOUD_FIELDS)]
    step = _CLOUD_STEP
    if cloud.labels is not None:
        fields.append(PointField(name='label', offset=step, datatype=PointField.UINT8, count=1))
    if cloud.instances is not None:
        fields.append(PointField(
            name='instance', offset=step + 2, datatype=PointField.UINT16, count=1))
    if len(fields) > len(_CLOUD_FIELDS):
        step += 4  # floats stay aligned
    message = PointCloud2(
        header=header(stamp_ns, frame_id), height=1, width=count, fields=fields,
        is_bigendian=False, point_step=step, row_step=step * count,
        is_dense=bool(np.isfinite(cloud.points).all()))
    data = message.data
    data.append(0)
    data *= step * count
    # Columns one by one: numpy takes three times as long for rows of three
    numbers = np.frombuffer(data, '<f4').reshape(count, step // 4)
    for axis in range(3):
        numbers[:, axis] = cloud.points[:, axis]
    numbers[:, 4] = cloud.confidences
    # As bytes: read as float32 most colours are denormal, and may be flushed to zero
    samples = np.frombuffer(data, np.uint8).reshape(count, step)
    if cloud.labels is not None:
        samples[:, _CLOUD_STEP] = cloud.labels
    if cloud.instances is not None:
        np.frombuffer(data, '<u2').reshape(count, step // 2)[
            :, _CLOUD_STEP // 2 + 1] = cloud.instances
    for channel, offset in enumerate((14, 13, 12)):
        samples[:, offset] = cloud.colors[:, channel]
    return message


def cloud_from_message(message: PointCloud2) -> PointCloud:
    """
    Points of a cloud like those of `cloud_message`.

    :raises InputError: where a field is missing or no float32, or the data is too short
    """
    offsets = {field.name: field.offset for field in message.fields
               if field.datatype == PointField.FLOAT32}
    height, width, step = message.height, message.width, message.point_step
    missing = [name for name in _CLOUD_FIELDS if name not in offsets]
    if missing:
        raise InputError(f'cloud: {", ".join(missing)}: missing, or no float32')
    needed = (height - 1) * message.row_step + width * step if height and width else 0
    if (len(message.data) < needed or step < 4 + max(offsets[n] for n in _CLOUD_FIELDS)
            or (height > 1 and message.row_step < width * step)):
        raise InputError(f'cloud of {width}x{height} points of {step} bytes in rows of '
                         f'{message.row_step}: {len(message.data)} bytes do not hold it')
    order = '>' if message.is_bigendian else '<'
    layout = np.dtype({
        'names': list(_CLOUD_FIELDS), 'offsets': [offsets[n] for n in _CLOUD_FIELDS],
        'formats': [order + ('u4' if n == 'rgb' else 'f4') for n in _CLOUD_FIELDS],
        'itemsize': step})
    grid: NDArray[Any] = np.ndarray((height, width), layout, np.frombuffer(message.data, np.uint8),
                                    strides=(message.row_step, step))
    rows = grid.ravel()
    rgb = rows['rgb']
    return PointCloud(
        np.stack([rows['x'], rows['y'], rows['z']], axis=1).astype(np.float32),
        np.stack([rgb >> 16 & 255, rgb >> 8 & 255, rgb & 255], axis=1).astype(np.uint8),
        rows['confidence'].astype(np.float32))


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
    # hypot, as the squares of very long ones overflow
    length = math.hypot(*q)
    if not np.isfinite([*t, *q, length]).all() or length < MIN_QUATERNION:
        raise InputError(f'pose with position {t.tolist()} and quaternion {q.tolist()}: expected '
                         'finite numbers and a quaternion that is not zero')
    return se3.from_rt(se3.matrix_from_quat_xyzw(q / length), t)


def pose_covariance(covariance: Array, T_ref_cam: Array, T_cam_body: Array, length: float,
                    length_sigma: float = 0.0, origin: tuple[float, ...] = (0.0, 0.0, 0.0)
                    ) -> list[float]:
    """
    Covariance of a body's pose, in ROS's order (x y z, rotations about x y z), row by row.

    The error of a body fixed to a camera follows from the camera's: with p = R_ref_cam t_cam_body,
    an error of the camera's position by dp and orientation by the small rotation w moves the body
    by dp + w x p.

    :param covariance: (6, 6) of [omega, v], a perturbation exp([omega, v]) T_cam_ref, map units
    :param T_ref_cam: (4, 4) pose of the camera in the header's frame
    :param T_cam_body: (4, 4) of the body in the camera, metres
    :param length: metres per map unit
    :param length_sigma: its relative error, which acts along the displacement of the camera from
        `origin`, (3,) in the header's frame
    """
    R = T_ref_cam[:3, :3]
    # exp(d) T_cam_ref has the inverse T_ref_cam exp(-d): seen from ref, by -R v and -R omega
    J = np.zeros((6, 6))
    J[:3, 3:] = -R * length
    J[:3, :3] = se3.hat(R @ T_cam_body[:3, 3]) @ R
    J[3:, :3] = -R
    result = J @ covariance @ J.T
    p = T_ref_cam[:3, 3] - np.array(origin)
    result[:3, :3] += length_sigma ** 2 * np.outer(p, p)
    return [float(x) for x in (0.5 * (result + result.T)).ravel()]
