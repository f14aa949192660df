# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Point clouds in PLY files, with colour and confidence."""

from __future__ import annotations

from pathlib import Path
import re
from typing import Any

import numpy as np
from recon3r_ros.errors import InputError, OutputError, Recon3rError
from recon3r_ros.io.atomic import write_bytes
from recon3r_ros.slam.types import PointCloud

_LONGEST_HEADER = 65536
_PLY_BYTES = {
    'short': 2, 'ushort': 2, 'int16': 2, 'uint16': 2,
    'int': 4, 'uint': 4, 'float': 4, 'int32': 4, 'uint32': 4, 'float32': 4,
    'double': 8, 'float64': 8,
}  # fmt: skip

_HEADER = """ply
format binary_little_endian 1.0
comment Created by recon3r_ros
element vertex {count}
property float x
property float y
property float z
property uchar red
property uchar green
property uchar blue
property float confidence
"""
_LAYOUT = [('points', '<f4', 3), ('colors', 'u1', 3), ('confidences', '<f4')]
#: Where a cloud has them: field of the cloud, its type, and its property; Open3D drops ushort
_OPTIONAL = (('labels', 'u1', 'uchar label'), ('instances', '<i4', 'int instance'))


def write_ply(path: str | Path, cloud: PointCloud) -> None:
    """
    Write a binary PLY: x y z float, red green blue uchar, confidence float.

    Where the cloud has them, label uchar and instance int follow.

    :raises OutputError: in one line that names the file
    """
    target = Path(path)
    if target.suffix.lower() != '.ply':
        raise OutputError(f'{target}: expected a name ending in .ply')
    optional = [row for row in _OPTIONAL if getattr(cloud, row[0]) is not None]
    rows = np.empty(len(cloud), np.dtype([*_LAYOUT, *(row[:2] for row in optional)]))
    for name in rows.dtype.names or ():
        rows[name] = getattr(cloud, name)
    header = _HEADER.format(count=len(cloud)) + ''.join(
        f'property {row[2]}\n' for row in optional) + 'end_header\n'
    write_bytes(target, header.encode() + rows.tobytes())


def read_ply(path: str | Path) -> PointCloud:
    """
    Read a PLY; points without colour become white, those without confidence get 1.

    :raises InputError: in one line that names the file
    """
    source = Path(path)
    count = _vertex_count(source)
    if count == 0:
        return PointCloud.empty()
    o3d = _open3d()
    with o3d.utility.VerbosityContextManager(o3d.utility.VerbosityLevel.Error):
        try:
            point = o3d.t.io.read_point_cloud(str(source), format='ply').point
        except RuntimeError as error:
            raise InputError(f'{source}: cannot be read: {" ".join(str(error).split())}') from None
    points = point.positions.numpy() if 'positions' in point else np.zeros((0, 3))
    if len(points) != count:
        raise InputError(f'{source}: holds {len(points)} of {count} points; the file is damaged')
    colors = np.full((count, 3), 255, np.uint8)
    if 'colors' in point:
        colors = point.colors.numpy()
        if colors.dtype != np.uint8:  # float colours are 0..1
            colors = np.clip(np.rint(colors * 255.0), 0, 255).astype(np.uint8)
    confidences = np.ones(count, np.float32)
    if 'confidence' in point:
        confidences = point.confidence.numpy().astype(np.float32).reshape(-1)
    optional = {name: point[label].numpy().astype(kind).reshape(-1)
                for name, label, kind in (('labels', 'label', np.uint8),
                                          ('instances', 'instance', np.uint16)) if label in point}
    return PointCloud(points.astype(np.float32), colors, confidences, **optional)


def _vertex_count(path: Path) -> int:
    """
    Return the number of vertices of the header.

    :raises InputError: where there is no such header, or the file is too short, which Open3D would
        fill with zeros
    """
    try:
        with path.open('rb') as file:
            header, _, _ = file.read(_LONGEST_HEADER).partition(b'end_header')
        body_size = path.stat().st_size - len(header)
    except OSError as error:
        raise InputError(f'{path}: cannot be read: {error.strerror}') from None
    found = re.search(
        rb'^element vertex (\d+)\s*?\n((?:(?:property|comment) .*\n)*)', header, re.M
    )
    if not header.startswith(b'ply') or found is None:
        raise InputError(f'{path}: is not a PLY file with vertices')
    count = int(found.group(1))
    types = re.findall(rb'^property (\w+) \w+\s*$', found.group(2), re.M)
    # In text a number takes two characters or more.
    is_text = b'format ascii' in header
    needed = count * sum(2 if is_text else _PLY_BYTES.get(kind.decode(), 1) for kind in types)
    if body_size < needed:
        raise InputError(f'{path}: is too short for its {count} points; the file is damaged')
    return count


def _open3d() -> Any:
    """Import Open3D, or raise an error with what to install."""
    try:
        import open3d
    except ImportError as error:
        raise Recon3rError(
            f'open3d cannot be imported ({error}); it is installed with pip install open3d and '
            'needs the system library libusb-1.0-0 (apt-get install libusb-1.0-0)'
        ) from error
    return open3d
