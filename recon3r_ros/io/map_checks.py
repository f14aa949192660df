# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Consistency checks of a map that is saved or loaded."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from recon3r_ros.errors import InputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.decode import check_complete
from recon3r_ros.io.map_labels import check_labels
from recon3r_ros.slam.archive import ArchivedView
from recon3r_ros.slam.saved_map import SavedMap, SavedObservations
from recon3r_ros.slam.types import Keyframe, Map

#: Largest distance of a rotation from an orthogonal matrix, for rounding errors
_RIGID = 1e-4
#: Largest magnitude; squares of larger numbers are meaningless
_LARGEST = 1e12
_SOURCES = ('odometry', 'depth', 'rig', 'camera_height', 'model')


def check(saved: SavedMap) -> None:
    """
    Check that mapping can continue in a map.

    :raises InputError: the error does not name the file
    """
    known = saved.map
    if not known.started:
        raise InputError(f'has {len(known.keyframes)} keyframes, expected two or more')
    if list(known.keyframes) != sorted(known.keyframes) or min(known.keyframes) < 0:
        raise InputError('keyframes are not in order')
    if set(saved.views) != set(known.keyframes):
        raise InputError('keyframes and their images do not match')
    for i, keyframe in known.keyframes.items():
        _check_keyframe(i, keyframe)
        _check_view(f'image {i}', saved.views[i])
    if len({len(k.descriptor) for k in known.keyframes.values()}) > 1:
        raise InputError('keyframes have descriptors of different sizes')
    _check_ties(known)
    for seen in saved.observations:
        _check_observations(known, seen)
    if len({(o.anchor, o.observer) for o in saved.observations}) < len(saved.observations):
        raise InputError('observations of a pair of keyframes are duplicated')
    if saved.labels is not None:
        check_labels(saved.labels, known.keyframes)
    if saved.metric is not None:
        _check_positive('metric scale', saved.metric.value)
        if not 0 <= saved.metric.sigma < _LARGEST or saved.metric.source not in _SOURCES:
            raise InputError(f'metric scale is {saved.metric}')


def _check_keyframe(i: int, keyframe: Keyframe) -> None:
    what, camera = f'keyframe {i}', keyframe.camera
    if keyframe.id != i:
        raise InputError(f'{what} has id {keyframe.id}')
    name = keyframe.name
    if name in ('', '..') or '\0' in name or name != Path(name).name:
        raise InputError(f'{what} is named {name!r}, expected a file name')
    _check_pinhole(what, camera)
    count = len(keyframe.keypoints)
    for array, shape in (
            (keyframe.image, (camera.height, camera.width, 3)),
            (keyframe.mask, (camera.height, camera.width)),
            (keyframe.inverse_depth, (camera.height, camera.width)),
            (keyframe.confidence, (camera.height, camera.width)),
            (keyframe.keypoints, (count, 2)),
            (keyframe.landmarks, (count,)),
            (keyframe.information, (count,)),
            (keyframe.descriptor, (len(keyframe.descriptor),))):
        if array.shape != shape:
            raise InputError(f'{what} has an array of shape {array.shape}, expected {shape}')
    if keyframe.gray.ndim != 2 or keyframe.gray.size == 0:
        raise InputError(f'{what} has a tracking image of shape {keyframe.gray.shape}')
    for name in ('inverse_depth', 'confidence', 'landmarks', 'information', 'descriptor'):
        _check_range(f'{name} of {what}', getattr(keyframe, name), 0.0, np.inf)
    if (keyframe.keypoints < 0).any() or (
            keyframe.keypoints >= (camera.width, camera.height)).any():
        raise InputError(f'{what} has keypoints outside of its image')
    _check_rigid(f'pose of {what}', keyframe.T_map_cam)


def _check_view(what: str, view: ArchivedView) -> None:
    _check_pinhole(what, view.camera)
    _check_positive(f'focal factor of {what}', view.focal_factor)
    data = view.jpeg.tobytes()
    size = (view.camera.width, view.camera.height)
    try:
        check_complete(data)
        # Before it is decoded, which takes as much memory as the header states
        with Image.open(io.BytesIO(data), formats=['JPEG']) as header:
            if header.size != size:
                raise InputError(f'has {header.size} pixels, expected {size}')
        if cv2.imdecode(view.jpeg, cv2.IMREAD_UNCHANGED) is None:
            raise InputError('is a damaged JPEG')
    except (InputError, cv2.error, OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f'{what} {error}') from None


def _check_ties(known: Map) -> None:
    """Check edges, scales, and culled keyframes."""
    _check_positive('focal factor', known.focal_factor)
    if known.metre is not None:
        _check_positive('length of a metre', known.metre)
    for i, scale in known.scales.items():
        _check_positive(f'scale of keyframe {i}', scale)
    for edge in known.edges:
        if edge.i == edge.j or not {edge.i, edge.j} <= set(known.keyframes):
            raise InputError(f'an edge joins {edge.i} and {edge.j}, which are not keyframes')
    ends = set(known.keyframes)
    for i, retired in known.retired.items():
        _check_rigid(f'pose of retired keyframe {i}', retired.T_keyframe_retired)
        _check_positive(f'scale of retired keyframe {i}', retired.scale)
        _check_positive(f'scale of retired keyframe {i}', retired.keyframe_scale)
        if i in known.keyframes:
            raise InputError(f'keyframe {i} is both present and retired')
        path, end = {i}, retired.keyframe
        while end in known.retired and end not in ends and end not in path:
            path.add(end)
            end = known.retired[end].keyframe
        if end not in ends:
            raise InputError(f'retired keyframe {i} leads to no keyframe')
        ends |= path


def _check_observations(known: Map, seen: SavedObservations) -> None:
    what = f'observations of keyframe {seen.anchor} in {seen.observer}'
    if seen.anchor == seen.observer or not {seen.anchor, seen.observer} <= set(known.keyframes):
        raise InputError(f'{what}: expected two keyframes')
    count = len(seen.landmarks)
    if seen.landmarks.shape != (count,) or seen.targets.shape != (count, 2):
        raise InputError(f'{what} have shapes {seen.landmarks.shape} and {seen.targets.shape}')
    _check_range(what, seen.landmarks, 0, len(known.keyframes[seen.anchor].keypoints) - 1)
    _check_range(what, seen.targets, -_LARGEST, _LARGEST)


def _check_pinhole(what: str, camera: Camera) -> None:
    if not camera.is_pinhole:
        raise InputError(f'{what} has the camera {camera}, expected a pinhole')


def _check_positive(what: str, value: float) -> None:
    if not 1 / _LARGEST < value < _LARGEST:
        raise InputError(f'{what} is {value}, expected a positive number')


def _check_range(what: str, values: NDArray[Any], low: float, high: float) -> None:
    # Not `any(values < low)`: that lets NaN pass
    if not (np.isfinite(values).all() and (values >= low).all() and (values <= high).all()):
        raise InputError(f'{what}: a value is not finite or out of range')


def _check_rigid(what: str, T: NDArray[np.float64]) -> None:
    _check_range(what, T, -_LARGEST, _LARGEST)
    if T.shape != (4, 4):
        raise InputError(f'{what} has shape {T.shape}, expected (4, 4)')
    R = T[:3, :3]
    if (np.abs(R @ R.T - np.eye(3)).max() > _RIGID or np.linalg.det(R) < 0
            or (T[3] != (0, 0, 0, 1)).any()):
        raise InputError(f'{what} is not a rigid motion')
