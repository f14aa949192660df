# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Results as a COLMAP text model.

COLMAP has pixel centres at +0.5 where this package has them at integers, poses world-to-camera,
and quaternions in the order w x y z.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import OutputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.se3 import inverse, quat_xyzw_from_matrix
from recon3r_ros.io.atomic import output_error, write_bytes
from recon3r_ros.slam.types import PointCloud

_PIXEL_CENTRE = 0.5
_POINTS_AT_ONCE = 100_000


@dataclass(frozen=True, eq=False)
class ColmapImage:
    """
    One posed image.

    :param name: file name of the image, relative to COLMAP's image folder
    :param camera: intrinsics of that image file
    :param T_world_cam: (4, 4), camera to world
    """

    name: str
    camera: Camera
    T_world_cam: NDArray[np.float64]


def is_representable(camera: Camera) -> bool:
    """Whether COLMAP has a model of the camera: none has OpenCV's thin prism or tilt."""
    return not any(camera.distortion[8:])


def write_colmap(
    folder: str | Path, images: Sequence[ColmapImage], cloud: PointCloud | None = None
) -> None:
    """
    Write cameras.txt, images.txt and points3D.txt; images without observations, empty tracks.

    :param folder: created where it does not exist
    :param images: in any order; equal cameras are written once
    :param cloud: points in the world frame
    :raises OutputError: in one line that names the file
    """
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(target, error) from error
    camera_ids: dict[Camera, int] = {}
    camera_lines = ['# CAMERA_ID MODEL WIDTH HEIGHT PARAMS[]\n']
    image_lines = ['# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME\n# POINTS2D[] as X Y ID\n']
    for image_id, image in enumerate(images, start=1):
        if image.camera not in camera_ids:
            camera_ids[image.camera] = len(camera_ids) + 1
            camera_lines.append(f'{camera_ids[image.camera]} {_camera_text(image.camera)}\n')
        T_cam_world = inverse(image.T_world_cam)
        x, y, z, w = quat_xyzw_from_matrix(T_cam_world[:3, :3])
        numbers = ' '.join(f'{value:.12g}' for value in (w, x, y, z, *T_cam_world[:3, 3]))
        # The empty second line is the list of observations.
        image_lines.append(f'{image_id} {numbers} {camera_ids[image.camera]} {image.name}\n\n')
    write_bytes(target / 'cameras.txt', ''.join(camera_lines).encode())
    write_bytes(target / 'images.txt', ''.join(image_lines).encode())
    write_bytes(target / 'points3D.txt', *_point_chunks(cloud))


def _camera_text(camera: Camera) -> str:
    """Return model, size and parameters."""
    model, coefficients = _lens(camera)
    parameters = (
        camera.fx,
        camera.fy,
        camera.cx + _PIXEL_CENTRE,
        camera.cy + _PIXEL_CENTRE,
        *coefficients,
    )
    numbers = ' '.join(f'{value:.12g}' for value in parameters)
    return f'{model} {camera.width} {camera.height} {numbers}'


def _lens(camera: Camera) -> tuple[str, tuple[float, ...]]:
    """Return COLMAP's model and its coefficients, which are in OpenCV's order."""
    values = camera.distortion
    if camera.model == 'equidistant':
        return 'OPENCV_FISHEYE', values
    if not any(values):
        return 'PINHOLE', ()
    if not any(values[4:]):
        return 'OPENCV', values[:4]
    if not any(values[8:]):
        values = values[:8]
        return 'FULL_OPENCV', (*values, *(0.0,) * (8 - len(values)))
    raise OutputError(f'COLMAP has no camera model for {len(values)} distortion coefficients')


def _point_chunks(cloud: PointCloud | None) -> list[bytes]:
    """Return the text of points3D.txt in parts."""
    chunks = [b'# POINT3D_ID X Y Z R G B ERROR TRACK[] as IMAGE_ID POINT2D_IDX\n']
    for start in range(0, 0 if cloud is None else len(cloud), _POINTS_AT_ONCE):
        assert cloud is not None
        points = cloud.points[start : start + _POINTS_AT_ONCE].tolist()
        colors = cloud.colors[start : start + _POINTS_AT_ONCE].tolist()
        lines = [
            f'{start + i} {x:.7g} {y:.7g} {z:.7g} {r} {g} {b} 0\n'
            for i, ((x, y, z), (r, g, b)) in enumerate(zip(points, colors, strict=True), start=1)
        ]
        chunks.append(''.join(lines).encode())
    return chunks
