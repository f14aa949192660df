# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The saved map, `map.npz`, from which mapping can continue.

`info` is JSON: format, version, names and scalars. Tables have a row per keyframe, in the order of
`ids`; arrays of varying size are named KEYFRAME/NAME. Label images are those of `map_labels`.
"""

from __future__ import annotations

from dataclasses import replace
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recon3r_ros import __version__
from recon3r_ros.errors import InputError, OutputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.array_file import ArrayFile, write_arrays
from recon3r_ros.io.map_checks import check
from recon3r_ros.io.map_labels import packed_info, packed_labels, unpacked_labels
from recon3r_ros.slam.archive import ArchivedView
from recon3r_ros.slam.saved_map import SavedMap, SavedObservations
from recon3r_ros.slam.types import Keyframe, Map, MapEdge, MetricScale, Retired

#: Name of the file in a result folder
MAP_FILE = 'map.npz'
FORMAT, VERSION = 'recon3r_ros map', 1
#: Arrays of a keyframe: type, shape (w and h of the grid, W and H of the tracking image, k
#: keypoints, d dimensions of the descriptor), whether they are compressed. The large ones are
#: not: they would shrink by a fifth, at 50 MB/s
_ARRAYS: dict[str, tuple[str, str, bool]] = {
    'image': ('u1', 'hw3', False),
    'gray': ('u1', 'HW', False),
    'descriptor': ('<f4', 'd', True),
    'keypoints': ('<i4', 'k2', False),
    'landmarks': ('<f8', 'k', False),
    'information': ('<f8', 'k', False),
    'inverse_depth': ('<f4', 'hw', False),
    'confidence': ('<f4', 'hw', False),
    'mask': ('?', 'hw', True),
}


def write_map(path: Path, saved: SavedMap) -> None:
    """
    Write a map, atomically.

    :raises OutputError: where the file cannot be written, or the map is inconsistent
    """
    try:
        check(saved)
        arrays = _packed(saved)
    except (InputError, TypeError, ValueError) as error:
        raise OutputError(f'{path}: this map cannot be saved: {error}; continue mapping or reset, '
                          'then save again') from error
    write_arrays(path, arrays)


def read_map(path: Path) -> SavedMap:
    """
    Read a map.

    :param path: of the file
    :raises InputError: in one line that names the file, what is wrong with it, and the remedy
    """
    try:
        with ArrayFile(path) as file:
            saved = _unpacked(file)
        check(saved)
    except InputError as error:
        raise InputError(f'cannot load the map {path}: {error}; give a folder whose {MAP_FILE} '
                         'was written by save_map or recon3r run') from error
    except OSError as error:
        raise InputError(f'cannot load the map {path}: {error.strerror or error}; check the file '
                         'and its permissions') from error
    return saved


def _packed(saved: SavedMap) -> list[tuple[str, NDArray[Any], bool]]:
    """List the file's arrays; the large ones are not copied."""
    known = saved.map
    keyframes, views = list(known.keyframes.values()), [saved.views[i] for i in known.keyframes]
    info = {
        'format': FORMAT, 'version': VERSION, 'package': __version__,
        'names': [k.name for k in keyframes],
        'camera_names': [k.camera_name for k in keyframes],
        'calibrated': bool(saved.calibrated),
        'focal_factor': float(known.focal_factor),
        'metric': None if saved.metric is None else [
            float(saved.metric.value), float(saved.metric.sigma), saved.metric.source],
        'metre': None if known.metre is None else float(known.metre),
        'labels': packed_info(saved.labels),
    }
    seen, retired = saved.observations, known.retired
    tables = {
        'ids': _table([k.id for k in keyframes], '<i8', ()),
        'stamps_ns': _table([k.stamp_ns for k in keyframes], '<i8', ()),
        'indices': _table([k.index for k in keyframes], '<i8', ()),
        'poses': _table([k.T_map_cam for k in keyframes], '<f8', (4, 4)),
        'sizes': _table([_sizes(k) for k in keyframes], '<i8', (6,)),
        'cameras': _table([_intrinsics(k.camera) for k in keyframes], '<f8', (4,)),
        'view_sizes': _table(
            [(v.camera.width, v.camera.height) for v in views], '<i8', (2,)),
        'view_cameras': _table([_intrinsics(v.camera) for v in views], '<f8', (4,)),
        'view_calibrated': _table([v.calibrated for v in views], '?', ()),
        'view_focal_factors': _table([v.focal_factor for v in views], '<f8', ()),
        'scale_ids': _table(list(known.scales), '<i8', ()),
        'scales': _table(list(known.scales.values()), '<f8', ()),
        'edges': _table([(e.i, e.j, e.loop) for e in known.edges], '<i8', (3,)),
        'retired': _table([(i, r.keyframe) for i, r in retired.items()], '<i8', (2,)),
        'retired_poses': _table(
            [r.T_keyframe_retired for r in retired.values()], '<f8', (4, 4)),
        'retired_scales': _table(
            [(r.keyframe_scale, r.scale) for r in retired.values()], '<f8', (2,)),
        'observations': _table(
            [(o.anchor, o.observer, len(o.landmarks)) for o in seen], '<i8', (3,)),
        'observed': np.concatenate([np.zeros(0, '<i8'), *(o.landmarks for o in seen)]),
        'targets': np.concatenate([np.zeros((0, 2)), *(o.targets for o in seen)]),
    }
    packed = [_packed_array(k, name) for k in keyframes for name in _ARRAYS]
    return [
        ('info', np.frombuffer(json.dumps(info, allow_nan=False).encode(), np.uint8), False),
        *((name, table, False) for name, table in tables.items()),
        *packed,
        *packed_labels(saved.labels),
        *((f'{i}/jpeg', np.asarray(v.jpeg, np.uint8), False) for i, v in saved.views.items()),
    ]


def _packed_array(keyframe: Keyframe, name: str) -> tuple[str, NDArray[Any], bool]:
    dtype, _, compress = _ARRAYS[name]
    array: NDArray[Any] = getattr(keyframe, name)
    return f'{keyframe.id}/{name}', array.astype(dtype, casting='safe', copy=False), compress


def _table(rows: list[Any], dtype: str, row: tuple[int, ...]) -> NDArray[Any]:
    return np.array(rows, dtype).reshape(-1, *row)


def _sizes(keyframe: Keyframe) -> tuple[int, ...]:
    """Return the sizes that the letters h, w, H, W, k, d of the arrays' shapes stand for."""
    return (*keyframe.inverse_depth.shape, *keyframe.gray.shape, len(keyframe.keypoints),
            len(keyframe.descriptor))


def _intrinsics(camera: Camera) -> tuple[float, ...]:
    return camera.fx, camera.fy, camera.cx, camera.cy


def _unpacked(file: ArrayFile) -> SavedMap:
    info = _Info(file)
    ids = file.read('ids', '<i8', (None,))
    n = len(ids)
    names, camera_names = info.texts('names', n), info.texts('camera_names', n)
    tables = {name: file.read(name, dtype, (n, *row)) for name, dtype, row in (
        ('stamps_ns', '<i8', ()), ('indices', '<i8', ()), ('poses', '<f8', (4, 4)),
        ('sizes', '<i8', (6,)), ('cameras', '<f8', (4,)), ('view_sizes', '<i8', (2,)),
        ('view_cameras', '<f8', (4,)), ('view_calibrated', '?', ()),
        ('view_focal_factors', '<f8', ()))}
    if len(set(ids.tolist())) < n or (tables['sizes'] < 0).any():
        raise InputError('has a duplicate keyframe, or one of negative size')
    keyframes, views = {}, {}
    for row, i in enumerate(ids.tolist()):
        sizes = dict(zip('hwHWkd', tables['sizes'][row].tolist()))
        arrays = {name: file.read(f'{i}/{name}', dtype, tuple(
            sizes[s] if s in sizes else int(s) for s in shape))
            for name, (dtype, shape, _) in _ARRAYS.items()}
        keyframes[i] = Keyframe(
            id=i, name=names[row], stamp_ns=int(tables['stamps_ns'][row]),
            index=int(tables['indices'][row]), T_map_cam=tables['poses'][row],
            camera=Camera(sizes['w'], sizes['h'], *tables['cameras'][row].tolist()),
            camera_name=camera_names[row], mount=None, labels=None, **arrays)
        views[i] = ArchivedView(
            file.read(f'{i}/jpeg', 'u1', (None,)),
            Camera(*tables['view_sizes'][row].tolist(), *tables['view_cameras'][row].tolist()),
            bool(tables['view_calibrated'][row]), float(tables['view_focal_factors'][row]))
    known = _map(file, keyframes, info.number('focal_factor'))
    return SavedMap(replace(known, metre=info.metre()), views,
                    _observations(file), info.flag('calibrated'), info.metric(),
                    unpacked_labels(file, info.labels, keyframes))


def _map(file: ArrayFile, keyframes: dict[int, Keyframe], focal_factor: float) -> Map:
    scale_ids = file.read('scale_ids', '<i8', (None,)).tolist()
    scales = file.read('scales', '<f8', (len(scale_ids),)).tolist()
    edges = file.read('edges', '<i8', (None, 3)).tolist()
    retired = file.read('retired', '<i8', (None, 2)).tolist()
    poses = file.read('retired_poses', '<f8', (len(retired), 4, 4))
    retired_scales = file.read('retired_scales', '<f8', (len(retired), 2)).tolist()
    return Map(
        keyframes, dict(zip(scale_ids, scales)),
        tuple(MapEdge(i, j, bool(loop)) for i, j, loop in edges), focal_factor,
        {i: Retired(keyframe, T, *pair)
         for (i, keyframe), T, pair in zip(retired, poses, retired_scales)})


def _observations(file: ArrayFile) -> tuple[SavedObservations, ...]:
    table = file.read('observations', '<i8', (None, 3))
    observed = file.read('observed', '<i8', (None,))
    targets = file.read('targets', '<f8', (len(observed), 2))
    counts = table[:, 2].tolist()
    if min(counts, default=0) < 0 or sum(counts) != len(observed):
        raise InputError('observations and observed are inconsistent')
    ends = np.cumsum([0, *counts]).tolist()
    return tuple(
        SavedObservations(anchor, observer, observed[begin:end], targets[begin:end])
        for (anchor, observer, _), begin, end in zip(table.tolist(), ends, ends[1:]))


class _Info:
    """The JSON part; a value of a wrong type raises InputError."""

    def __init__(self, file: ArrayFile) -> None:
        try:
            self._values = json.loads(file.read('info', 'u1', (None,)).tobytes())
        except (ValueError, RecursionError):
            raise InputError('info is damaged') from None
        if not isinstance(self._values, dict) or self._values.get('format') != FORMAT:
            raise InputError('is not a map of recon3r_ros')
        version = self._values.get('version')
        if version != VERSION:
            raise InputError(f'is a map of version {version!r}, written by recon3r_ros '
                             f'{self._values.get("package")!r}, expected version {VERSION}')

    def texts(self, name: str, count: int) -> list[str]:
        """Return one text per keyframe."""
        value = self._values.get(name)
        if (not isinstance(value, list) or len(value) != count
                or not all(isinstance(v, str) for v in value)):
            raise InputError(f'{name} are not {count} texts')
        return value

    def flag(self, name: str) -> bool:
        """Return a truth value."""
        value = self._values.get(name)
        if not isinstance(value, bool):
            raise InputError(f'{name} is {value!r}, expected true or false')
        return value

    def number(self, name: str) -> float:
        """Return a number."""
        return _number(name, self._values.get(name))

    @property
    def labels(self) -> object:
        """What `map_labels` wrote; None in a map without, and in older files."""
        return self._values.get('labels')

    def metre(self) -> float | None:
        """Length of a metre in map units; None in a map without, and in older files."""
        value = self._values.get('metre')
        return None if value is None else _number('metre', value)

    def metric(self) -> MetricScale | None:
        """Metres per map unit, where known."""
        value = self._values.get('metric')
        if value is None and 'metric' in self._values:
            return None
        if not isinstance(value, list) or len(value) != 3 or not isinstance(value[2], str):
            raise InputError('metric is damaged')
        return MetricScale(_number('metric', value[0]), _number('metric', value[1]), value[2])


def _number(name: str, value: object) -> float:
    if not isinstance(value, float):
        raise InputError(f'{name} is {value!r}, expected a number')
    return value
