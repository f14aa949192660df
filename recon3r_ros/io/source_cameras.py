# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The file cameras.json of a result folder: the cameras of the source images.

A list with an object for each camera: `name`, `estimated` (whether its intrinsics come from the
images alone), `images` (their indices, of those with a pose), and the fields of `Camera`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
import json
from pathlib import Path
from typing import Any

from recon3r_ros.errors import InputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.atomic import write_bytes

#: Name of the file in a result folder
CAMERAS_FILE = 'cameras.json'


@dataclass(frozen=True)
class SourceCamera:
    """
    The camera that took some of the source images.

    :param name: of the camera
    :param camera: intrinsics and distortion of the source images
    :param estimated: whether they come from the images alone
    :param images: indices in the input of the images that have a pose
    """

    name: str
    camera: Camera
    estimated: bool
    images: tuple[int, ...]


def write_source_cameras(folder: Path, cameras: Iterable[SourceCamera]) -> None:
    """
    Write the file.

    :raises OutputError: in one line that names the file
    """
    content = [{'name': own.name, 'estimated': own.estimated, 'images': list(own.images),
                **asdict(own.camera)} for own in cameras]
    write_bytes(folder / CAMERAS_FILE, f'{json.dumps(content, indent=1)}\n'.encode())


def read_source_cameras(folder: Path) -> list[SourceCamera]:
    """
    Read the file.

    :raises InputError: in one line that names the file and the remedy
    """
    path = folder / CAMERAS_FILE
    if not path.is_file():
        raise InputError(f'{folder}: holds no {CAMERAS_FILE}, which tells the lens of the images; '
                         'write the results again with recon3r run')
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        return [_camera(own) for own in content]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, InputError) as error:
        raise InputError(f'{path}: is damaged ({error}); write the results again with recon3r '
                         'run') from None


def _camera(content: dict[str, Any]) -> SourceCamera:
    """Build a camera from its object."""
    intrinsics = {name: content[name] for name in (
        'width', 'height', 'fx', 'fy', 'cx', 'cy', 'model')}
    return SourceCamera(
        str(content['name']),
        Camera(**intrinsics, distortion=tuple(content['distortion'])), bool(content['estimated']),
        tuple(int(i) for i in content['images']))
