# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
transforms.json, as nerfstudio and instant-ngp read it.

Poses are camera-to-world with the camera's axes x right, y up, z back (OpenGL). Centres of pixels
are at +0.5 where this package has them at integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import OutputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.atomic import write_bytes

_PIXEL_CENTRE = 0.5
#: Camera axes x right, y up, z back in those of the optical frame
T_OPTICAL_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True, eq=False)
class TransformsFrame:
    """
    An image of transforms.json; files are relative to its folder.

    :param image: file of the image
    :param camera: its pinhole camera
    :param T_world_cam: (4, 4), camera to world, optical axes
    :param mask: file of its mask, 0 where nothing may be learned from, else 255
    :param depth: file of its depth in thousandths of the unit, 0 where unknown; None without
    """

    image: str
    camera: Camera
    T_world_cam: NDArray[np.float64]
    mask: str
    depth: str | None = None


def write_transforms(path: Path, frames: Sequence[TransformsFrame], cloud: str) -> None:
    """
    Write the file.

    Depth files are listed where every image has one: readers refuse some without.

    :param cloud: file of the points, relative to its folder
    :raises OutputError: in one line that names the file
    """
    cameras = {frame.camera for frame in frames}
    if not all(camera.is_pinhole for camera in cameras):
        raise OutputError(f'{path}: a camera is distorted; expected images that are undistorted')
    shared = len(cameras) == 1
    with_depth = all(frame.depth is not None for frame in frames)
    listed = []
    for frame in frames:
        entry: dict[str, object] = {'file_path': frame.image, 'mask_path': frame.mask}
        if with_depth:
            entry['depth_file_path'] = frame.depth
        if not shared:
            entry |= _intrinsics(frame.camera)
        entry['transform_matrix'] = (frame.T_world_cam @ T_OPTICAL_OPENGL).tolist()
        listed.append(entry)
    content: dict[str, object] = {'camera_model': 'PINHOLE', 'ply_file_path': cloud}
    if shared:
        content |= _intrinsics(next(iter(cameras)))
    content['frames'] = listed
    write_bytes(path, f'{json.dumps(content, indent=1, allow_nan=False)}\n'.encode())


def _intrinsics(camera: Camera) -> dict[str, float]:
    """Return the fields of a camera."""
    return {'w': camera.width, 'h': camera.height, 'fl_x': camera.fx, 'fl_y': camera.fy,
            'cx': camera.cx + _PIXEL_CENTRE, 'cy': camera.cy + _PIXEL_CENTRE,
            'k1': 0.0, 'k2': 0.0, 'p1': 0.0, 'p2': 0.0}
