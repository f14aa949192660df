# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Gaussians as viewers read them.

The .ply has the layout of INRIA's 3DGS, little-endian: logit of the opacity, logarithms of the
scales, quaternion w x y z, and harmonics up to degree 3, of which all but the constant are 0. The
.splat has 32 bytes a Gaussian: position and scales in float32, RGBA and the quaternion in bytes,
the most visible ones first.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from recon3r_ros.errors import InputError, OutputError
from recon3r_ros.io.atomic import write_bytes
from recon3r_ros.slam.types import Gaussians

#: Harmonic of degree 0
C0 = 0.28209479177387814
_HARMONICS = 45
_GROUPS = {'means': ('x', 'y', 'z'), 'normals': ('nx', 'ny', 'nz'),
           'constant': ('f_dc_0', 'f_dc_1', 'f_dc_2'),
           'harmonics': tuple(f'f_rest_{i}' for i in range(_HARMONICS)), 'opacity': ('opacity',),
           'scales': ('scale_0', 'scale_1', 'scale_2'),
           'quaternions': ('rot_0', 'rot_1', 'rot_2', 'rot_3')}
_PLY = np.dtype([(name, '<f4', len(own)) for name, own in _GROUPS.items()])
_SPLAT = np.dtype([('means', '<f4', 3), ('scales', '<f4', 3), ('rgba', 'u1', 4),
                   ('quaternions', 'u1', 4)])


def write_gaussian_ply(path: str | Path, gaussians: Gaussians) -> None:
    """
    Write a .ply for viewers, and for training to continue.

    :raises OutputError: in one line that names the file
    """
    _check(Path(path), gaussians)
    rows = np.zeros(len(gaussians), _PLY)
    rows['means'] = gaussians.means
    rows['constant'] = (gaussians.colors - 0.5) / C0
    rows['opacity'] = np.log(gaussians.opacities / (1 - gaussians.opacities))[:, None]
    rows['scales'] = np.log(gaussians.scales)
    rows['quaternions'] = gaussians.quaternions_wxyz
    write_bytes(Path(path), _header(len(rows)).encode(), rows.tobytes())


def read_gaussian_ply(path: str | Path) -> Gaussians:
    """
    Read a file of `write_gaussian_ply`.

    :raises InputError: in one line that names the file, where it has another layout
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f'{path}: cannot be read: {error.strerror}') from None
    end = content.find(b'end_header\n') + len(b'end_header\n')
    count, rest = divmod(len(content) - end, _PLY.itemsize)
    if rest or content[:end] != _header(count).encode():
        raise InputError(f'{path}: is not a whole file of Gaussians as recon3r export writes it')
    rows = np.frombuffer(content, _PLY, offset=end)
    return Gaussians(
        rows['means'].copy(), rows['quaternions'].copy(), np.exp(rows['scales']),
        1 / (1 + np.exp(-rows['opacity'][:, 0])), rows['constant'] * np.float32(C0) + 0.5)


def write_splat(path: str | Path, gaussians: Gaussians) -> None:
    """
    Write a .splat for viewers.

    :raises OutputError: in one line that names the file
    """
    _check(Path(path), gaussians)
    order = np.argsort(-gaussians.opacities * gaussians.scales.prod(1), kind='stable')
    rows = np.empty(len(gaussians), _SPLAT)
    rows['means'], rows['scales'] = gaussians.means, gaussians.scales
    rows['rgba'][:, :3] = np.clip(np.rint(255 * gaussians.colors), 0, 255)
    rows['rgba'][:, 3] = np.rint(255 * gaussians.opacities)
    rows['quaternions'] = np.clip(np.rint(128 * gaussians.quaternions_wxyz + 128), 0, 255)
    write_bytes(Path(path), rows[order].tobytes())


def _header(count: int) -> str:
    properties = [f'property float {name}\n' for own in _GROUPS.values() for name in own]
    return ('ply\nformat binary_little_endian 1.0\ncomment Created by recon3r_ros\n'
            f'element vertex {count}\n{"".join(properties)}end_header\n')


def _check(path: Path, gaussians: Gaussians) -> None:
    """Check what the formats cannot hold."""
    if not ((gaussians.opacities > 0) & (gaussians.opacities < 1)).all():
        raise OutputError(f'{path}: an opacity is not above 0 and below 1')
    if not (gaussians.scales > 0).all() or not np.isfinite(gaussians.means).all():
        raise OutputError(f'{path}: a Gaussian has no extent, or no place')
