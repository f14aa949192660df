# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A sparse model in COLMAP's binary format: cameras.bin, images.bin, points3D.bin, little-endian.

COLMAP has pixel centres at +0.5 where this package has them at integers, poses world-to-camera,
and quaternions in the order w x y z. Cameras are PINHOLE, which all readers know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
import struct

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import OutputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.se3 import inverse, quat_xyzw_from_matrix
from recon3r_ros.io.atomic import output_error, write_bytes

PIXEL_CENTRE = 0.5
_PINHOLE = 1
_OBSERVATION = np.dtype([('pixel', '<f8', 2), ('point', '<i8')])
_TRACK_ELEMENT = np.dtype([('image', '<u4'), ('observation', '<u4')])


@dataclass(frozen=True, eq=False)
class SparseImage:
    """
    A posed image with its observations.

    :param name: file name, relative to the folder of images
    :param camera: pinhole camera of that file
    :param T_world_cam: (4, 4), camera to world
    :param pixels: (n, 2) observations, centres of pixels at integers
    :param points: (n,) rows of the model's points that they show
    """

    name: str
    camera: Camera
    T_world_cam: NDArray[np.float64]
    pixels: NDArray[np.float64]
    points: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SparseModel:
    """
    Images and the points that they observe.

    :param images: at least one
    :param points: (N, 3) in the world frame
    :param colors: (N, 3) uint8 RGB
    :param errors: (N,) mean reprojection error, pixels
    """

    images: Sequence[SparseImage]
    points: NDArray[np.float64]
    colors: NDArray[np.uint8]
    errors: NDArray[np.float64]


def write_sparse_model(folder: str | Path, model: SparseModel) -> None:
    """
    Write the three files; ids are positions counted from 1.

    :param folder: created where it does not exist
    :raises OutputError: in one line that names the file, or the image whose camera is no pinhole
    """
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(target, error) from error
    cameras: dict[Camera, int] = {}
    for image in model.images:
        if not image.camera.is_pinhole:
            raise OutputError(f'{target}: {image.name} has a distorted camera; expected images '
                              'that are undistorted')
        cameras.setdefault(image.camera, len(cameras) + 1)
    write_bytes(target / 'cameras.bin', struct.pack('<Q', len(cameras)), *(
        struct.pack('<IiQQ4d', number, _PINHOLE, c.width, c.height, c.fx, c.fy,
                    c.cx + PIXEL_CENTRE, c.cy + PIXEL_CENTRE)
        for c, number in cameras.items()))
    write_bytes(target / 'images.bin', struct.pack('<Q', len(model.images)), *(
        _image(number, image, cameras[image.camera])
        for number, image in enumerate(model.images, start=1)))
    write_bytes(target / 'points3D.bin', struct.pack('<Q', len(model.points)), *_points(model))


def _image(number: int, image: SparseImage, camera: int) -> bytes:
    """Return an image of images.bin."""
    T_cam_world = inverse(image.T_world_cam)
    x, y, z, w = quat_xyzw_from_matrix(T_cam_world[:3, :3])
    rows = np.empty(len(image.points), _OBSERVATION)
    rows['pixel'] = image.pixels + PIXEL_CENTRE
    rows['point'] = image.points + 1
    return b''.join((
        struct.pack('<I7dI', number, w, x, y, z, *T_cam_world[:3, 3], camera),
        image.name.encode(), b'\0', struct.pack('<Q', len(rows)), rows.tobytes()))


def _points(model: SparseModel) -> list[bytes]:
    """Return the points of points3D.bin, each with its track."""
    counts = [len(image.points) for image in model.images]
    elements = np.empty(sum(counts), _TRACK_ELEMENT)
    elements['image'] = np.repeat(np.arange(1, len(counts) + 1), counts)
    elements['observation'] = np.concatenate([np.arange(0), *(np.arange(n) for n in counts)])
    point = np.concatenate([np.zeros(0, np.int64), *(image.points for image in model.images)])
    order = np.argsort(point, kind='stable')
    ends = np.cumsum(np.bincount(point, minlength=len(model.points)))
    elements = elements[order]
    found, begin = [], 0
    for row, end in enumerate(ends.tolist()):
        found.append(struct.pack('<Q3d3BdQ', row + 1, *model.points[row].tolist(),
                                 *model.colors[row].tolist(), float(model.errors[row]),
                                 end - begin))
        found.append(elements[begin:end].tobytes())
        begin = end
    return found
