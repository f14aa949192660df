# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Samples of an IMU beside images.

Pack     imu.csv (stamp wx wy wz ax ay az: seconds, rad/s, m/s^2) and imu.json (T_cam_imu, and
         optionally gyroscope_noise and accelerometer_noise)
EuRoC    imu0/data.csv (nanoseconds) and sensor.yaml beside cam0/, each with T_BS
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import GeometryError, InputError
from recon3r_ros.geometry import se3
from recon3r_ros.io.atomic import write_bytes
from recon3r_ros.io.base import Sequence
from recon3r_ros.io.calibrations.document import parse
from recon3r_ros.io.listing import parse_nanoseconds, read_lines
from recon3r_ros.io.masks import Wrapped
from recon3r_ros.io.stamps import format_seconds, parse_seconds
from recon3r_ros.slam.imu.samples import ACCELEROMETER_NOISE, GYROSCOPE_NOISE, ImuSamples
from recon3r_ros.slam.types import Frame

Array = NDArray[np.float64]

_CSV, _JSON = 'imu.csv', 'imu.json'
#: Samples before the first image, and before each image beyond the one before: late ones are
#: known already
_LEAD_NS, _OVERLAP_NS = 2_000_000_000, 100_000_000
#: Largest rotation error of a matrix that is taken for a rotation
_TOLERANCE = 0.01


class ImuSequence(Wrapped):
    """
    A sequence with the samples of an IMU.

    :param sequence: the images
    :param samples: by the name of the camera, with its extrinsics, in the order of stamps
    """

    def __init__(self, sequence: Sequence, samples: Mapping[str, ImuSamples]) -> None:
        super().__init__(sequence)
        self._samples = samples

    def __iter__(self) -> Iterator[Frame]:
        """Iterate over the frames, each with the samples since its camera's frame before."""
        before: dict[str, int] = {}
        for frame in self._sequence:
            known = self._samples.get(frame.camera_name)
            if known is None:
                yield frame
                continue
            stamps_ns, last_ns = known.stamps_ns, before.get(frame.camera_name)
            begin_ns = frame.stamp_ns - _LEAD_NS if last_ns is None else last_ns - _OVERLAP_NS
            before[frame.camera_name] = frame.stamp_ns
            first = int(np.searchsorted(stamps_ns, begin_ns))
            # One sample more, so that the rate at the image is known
            last = int(np.searchsorted(stamps_ns, frame.stamp_ns)) + 1
            yield replace(frame, imu=known.chosen(slice(first, last)))


def find_imu(folder: Path) -> ImuSamples | None:
    """
    Read the IMU of a pack, or of EuRoC.

    :param folder: of the pack, or of EuRoC's camera
    :return: None where there is none
    :raises InputError: naming the file that cannot be used
    """
    if (folder / _CSV).is_file():
        return _of_pack(folder)
    imu = folder.parent / 'imu0'
    if (imu / 'data.csv').is_file() and (folder / 'sensor.yaml').is_file():
        return _of_euroc(imu, folder / 'sensor.yaml')
    return None


def read_extrinsics(path: Path) -> tuple[Array, float, float]:
    """
    Read an imu.json.

    :return: T_cam_imu (4, 4), and densities of the noise of gyroscope and accelerometer
    :raises InputError: where it is missing or cannot be used
    """
    if not path.is_file():
        raise InputError(f'{path}: is missing: it has the pose of the IMU in the camera, '
                         '{"T_cam_imu": 4x4 matrix}')
    data = parse(path).mapping
    return (_matrix(path, 'T_cam_imu', data.get('T_cam_imu')),
            _positive(path, data, 'gyroscope_noise', GYROSCOPE_NOISE),
            _positive(path, data, 'accelerometer_noise', ACCELEROMETER_NOISE))


def write_imu(folder: Path, samples: ImuSamples, T_cam_imu: Array) -> None:
    """
    Write imu.csv and imu.json of a pack.

    :param T_cam_imu: (4, 4), metres
    """
    rows = [' '.join([format_seconds(int(stamp)), *(f'{x:.9g}' for x in (*rate, *force))])
            for stamp, rate, force in zip(
                samples.stamps_ns, samples.gyroscope, samples.accelerometer)]
    write_bytes(folder / _CSV, '\n'.join(['# stamp wx wy wz ax ay az', *rows, '']).encode())
    about = {'T_cam_imu': T_cam_imu.tolist(), 'gyroscope_noise': samples.gyroscope_noise,
             'accelerometer_noise': samples.accelerometer_noise}
    write_bytes(folder / _JSON, (json.dumps(about, indent=1) + '\n').encode())


def in_order(samples: ImuSamples) -> ImuSamples:
    """Return samples in the order of their stamps, one for each."""
    return samples.joined(samples.chosen(slice(0)))


def mounted(source: object, stamps_ns: Any, values: Array, T_cam_imu: Array,
            gyroscope_noise: float = GYROSCOPE_NOISE,
            accelerometer_noise: float = ACCELEROMETER_NOISE) -> ImuSamples:
    """
    Make samples of rows.

    :param source: names them in an error
    :param stamps_ns: (N,) integer nanoseconds
    :param values: (N, 6) rad/s and m/s^2
    :param T_cam_imu: (4, 4)
    :raises InputError: where there are none
    """
    if not len(values):
        raise InputError(f'{source}: has no samples of an IMU')
    try:
        return in_order(ImuSamples(np.asarray(stamps_ns, np.int64), values[:, :3], values[:, 3:],
                                   T_cam_imu[:3, :3], gyroscope_noise, accelerometer_noise))
    except GeometryError as error:
        raise InputError(f'{source}: {error}') from error


def _of_pack(folder: Path) -> ImuSamples:
    T_cam_imu, gyroscope, accelerometer = read_extrinsics(folder / _JSON)
    path = folder / _CSV
    return mounted(path, *_rows(path, parse_seconds), T_cam_imu, gyroscope, accelerometer)


def _of_euroc(imu: Path, camera: Path) -> ImuSamples:
    sensor = imu / 'sensor.yaml'
    if not sensor.is_file():
        raise InputError(f'{sensor}: is missing: it has the pose T_BS of the IMU')
    data = parse(sensor).mapping
    T_body_imu = _euroc_pose(sensor, data)
    T_body_cam = _euroc_pose(camera, parse(camera).mapping)
    path = imu / 'data.csv'
    return mounted(path, *_rows(path, parse_nanoseconds), se3.inverse(T_body_cam) @ T_body_imu,
                   _positive(sensor, data, 'gyroscope_noise_density', GYROSCOPE_NOISE),
                   _positive(sensor, data, 'accelerometer_noise_density', ACCELEROMETER_NOISE))


def _euroc_pose(path: Path, data: Mapping[str, Any]) -> Array:
    found = data.get('T_BS')
    return _matrix(path, 'T_BS', found.get('data') if isinstance(found, Mapping) else found)


def _matrix(path: Path, key: str, given: Any) -> Array:
    """Return a rigid motion (4, 4) of a file."""
    try:
        T = np.array(given, np.float64).reshape(4, 4)
    except (TypeError, ValueError):
        raise InputError(f'{path}: {key} is {given!r}, expected a 4x4 matrix') from None
    R = T[:3, :3]
    if not (np.isfinite(T).all() and np.abs(R @ R.T - np.eye(3)).max() < _TOLERANCE
            and np.linalg.det(R) > 0 and np.allclose(T[3], [0, 0, 0, 1])):
        raise InputError(f'{path}: {key} is no rigid motion: expected a rotation and a '
                         'translation in metres, with the last row 0 0 0 1')
    return se3.normalized(T)


def _positive(path: Path, data: Mapping[str, Any], key: str, default: float) -> float:
    value = data.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 100:
        raise InputError(f'{path}: {key} is {value!r}, expected a positive number')
    return float(value)


def _rows(path: Path, stamp: Any) -> tuple[list[int], Array]:
    """Return stamps (N,) in ns, and values (N, 6); NaN is a value."""
    stamps, rows = [], []
    for number, line in enumerate(read_lines(path), start=1):
        fields = line.replace(',', ' ').split()
        if not fields or line.startswith('#') or (number == 1 and not _is_number(fields[0])):
            continue
        try:
            if len(fields) != 7:
                raise ValueError(f'{len(fields)} fields')
            stamps.append(stamp(fields[0]))
            rows.append([float(field) for field in fields[1:]])
        except ValueError as error:
            raise InputError(f'{path} line {number}: {error}; expected stamp wx wy wz ax ay az'
                             ) from None
    return stamps, np.array(rows, np.float64).reshape(-1, 6)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
