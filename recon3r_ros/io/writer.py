# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The output folder of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
from enum import Enum
import io
import json
import logging
import math
from pathlib import Path
import re
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import OutputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.atomic import output_error, write_bytes
from recon3r_ros.io.background import BackgroundWorker
from recon3r_ros.io.clouds import write_ply
from recon3r_ros.io.masks import UNKNOWN
from recon3r_ros.io.source_cameras import SourceCamera, write_source_cameras
from recon3r_ros.io.stamps import format_seconds, NS_PER_S
from recon3r_ros.io.trajectory import write_tum
from recon3r_ros.slam.types import PointCloud

logger = logging.getLogger(__name__)

_WAITING = 16
_FAST_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1)


@dataclasses.dataclass(frozen=True, eq=False)
class KeyframeRecord:
    """
    One entry of keyframes.json.

    :param name: NAME of depth/NAME.npz and masks/NAME.png
    :param stamp_ns: integer nanoseconds
    :param index: position in the sequence
    :param T_world_cam: (4, 4), camera to world
    :param camera: pinhole camera of depth/NAME.npz
    """

    name: str
    stamp_ns: int
    index: int
    T_world_cam: NDArray[np.float64]
    camera: Camera


@dataclasses.dataclass(frozen=True)
class ImageRecord:
    """
    One line of frames.txt.

    :param stamp_ns: integer nanoseconds
    :param file_name: of the image
    :param index: position in the sequence
    """

    stamp_ns: int
    file_name: str
    index: int


class ResultWriter:
    """
    Writes results into one folder; a context manager.

    Masks and depth maps are encoded and written by one background thread, a few behind the caller.
    Its errors are raised as OutputError by the next call, or at the end.
    """

    def __init__(self, output: str | Path, masks: bool = True) -> None:
        """
        Create the folder and check that it is writable.

        :param output: folder; files of the same names are replaced
        :param masks: whether masks will be written
        :raises OutputError: in one line that names the folder
        """
        self.output = Path(output)
        self._masks = self.output / 'masks'
        self._depth = self.output / 'depth'
        try:
            for folder in (self._depth, *((self._masks,) if masks else ())):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(self.output, error) from error
        probe = self.output / '.recon3r-probe'
        write_bytes(probe, b'writable')
        probe.unlink(missing_ok=True)
        if (masks and any(self._masks.iterdir())) or any(self._depth.iterdir()):
            logger.warning(
                '%s holds masks or depth of an earlier run; those with other names are kept',
                self.output,
            )
        self._worker = BackgroundWorker('recon3r-writer', _WAITING)

    def __enter__(self) -> ResultWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
            return
        self._worker.close()  # the original exception matters more than one of the worker

    def close(self) -> None:
        """Wait until everything is written; raise OutputError where writing failed."""
        self._worker.close()
        self._worker.check()

    def mask(self, name: str, mask: NDArray[np.bool_] | NDArray[np.uint8]) -> None:
        """
        Queue masks/NAME.png, 0 or 255.

        :param name: source image's stem
        :param mask: (H, W), dynamic where not 0
        """
        path = self._masks / f'{_checked(name)}.png'
        if mask.ndim != 2 or mask.size == 0:
            raise OutputError(f'{path}: mask has shape {mask.shape}, expected (H, W)')
        pixels = np.where(mask, np.uint8(255), np.uint8(0))
        self._worker.submit(lambda: _write_png(path, pixels))

    def unknown_mask(self, name: str, shape: tuple[int, ...]) -> None:
        """
        Queue masks/NAME.png of an image of which nothing is known, UNKNOWN throughout.

        :param name: source image's stem
        :param shape: (H, W)
        """
        path = self._masks / f'{_checked(name)}.png'
        self._worker.submit(lambda: _write_png(path, np.full(shape, UNKNOWN, np.uint8)))

    def depth(
        self, name: str, depth: NDArray[np.float32], confidence: NDArray[np.float32]
    ) -> None:
        """
        Queue depth/NAME.npz with float32 arrays `depth` and `confidence`.

        :param name: source image's stem
        :param depth: (H, W) map units along the optical axis, NaN where there is none
        :param confidence: (H, W), > 0
        """
        path = self._depth / f'{_checked(name)}.npz'
        if depth.ndim != 2 or depth.shape != confidence.shape:
            raise OutputError(
                f'{path}: depth has shape {depth.shape} and confidence {confidence.shape}, '
                'expected (H, W) twice'
            )
        depth_copy = np.array(depth, dtype=np.float32)
        confidence_copy = np.array(confidence, dtype=np.float32)
        self._worker.submit(lambda: _write_npz(path, depth_copy, confidence_copy))

    def trajectory(
        self,
        stamps_ns: Sequence[int] | NDArray[np.int64],
        poses_T_world_cam: NDArray[np.float64] | Iterable[NDArray[np.float64]],
        camera_name: str = '',
    ) -> None:
        """
        Write trajectory.txt (TUM), or trajectory_NAME.txt of one of several cameras.

        :param stamps_ns: (N,) integer nanoseconds
        :param poses_T_world_cam: (N, 4, 4), camera to world
        :param camera_name: NAME
        """
        self._worker.check()
        name = trajectory_file(camera_name)
        write_tum(self.output / name, stamps_ns, poses_T_world_cam)

    def images(self, images: Iterable[ImageRecord]) -> None:
        """Write frames.txt, a line for each image: stamp in seconds, file name, index."""
        self._worker.check()
        lines = ['# stamp image index\n'] + [
            f'{format_seconds(image.stamp_ns)} {image.file_name} {image.index}\n'
            for image in images]
        write_bytes(self.output / 'frames.txt', ''.join(lines).encode())

    def cloud(self, cloud: PointCloud) -> None:
        """Write map.ply."""
        self._worker.check()
        write_ply(self.output / 'map.ply', cloud)

    def keyframes(self, records: Iterable[KeyframeRecord]) -> None:
        """Write keyframes.json; `stamp` is in seconds, `stamp_ns` the exact integer."""
        self._json('keyframes.json', [_keyframe(record) for record in records])

    def source_cameras(self, cameras: Iterable[SourceCamera]) -> None:
        """Write cameras.json, the cameras of the source images."""
        self._worker.check()
        write_source_cameras(self.output, cameras)

    def report(self, report: Mapping[str, Any] | object) -> None:
        """
        Write report.json.

        :param report: mapping or dataclass of numbers, texts, arrays, and nested ones; numbers
            that are not finite become null
        """
        self._json('report.json', _plain(report))

    def _json(self, name: str, content: object) -> None:
        self._worker.check()
        path = self.output / name
        try:
            text = json.dumps(content, indent=1, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise OutputError(f'{path}: cannot be converted to JSON: {error}') from error
        write_bytes(path, f'{text}\n'.encode())


def trajectory_file(camera_name: str = '') -> str:
    """Return the name of the file with a camera's path; of the only or first one for ''."""
    name = re.sub(r'\W', '_', camera_name)
    return f'trajectory_{name}.txt' if name else 'trajectory.txt'


def _checked(name: str) -> str:
    """Check that a name is one path component, and return it."""
    if name in ('', '..') or name != Path(name).name:
        raise OutputError(f'{name!r} is not a valid name of a result file')
    return name


def _write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write a mask; for two values, level 1 compresses as well as the default, twice as fast."""
    written, data = cv2.imencode('.png', pixels, _FAST_PNG)
    if not written:
        raise OutputError(f'{path}: mask of shape {pixels.shape} cannot be encoded')
    write_bytes(path, data.data)


def _write_npz(path: Path, depth: NDArray[np.float32], confidence: NDArray[np.float32]) -> None:
    """Write uncompressed: at 320x240 under 2 ms and 615 kB; compressed it is 34 ms and 490 kB."""
    content = io.BytesIO()
    np.savez(content, depth=depth, confidence=confidence)
    write_bytes(path, content.getbuffer())


def _keyframe(record: KeyframeRecord) -> dict[str, Any]:
    """Return the JSON form of a keyframe."""
    camera = record.camera
    if not camera.is_pinhole:
        raise OutputError(
            f'keyframe {record.name}: depth must have a pinhole camera, got {camera}'
        )
    return {
        'name': record.name,
        'stamp': record.stamp_ns / NS_PER_S,
        'stamp_ns': int(record.stamp_ns),
        'index': int(record.index),
        'T_world_cam': np.asarray(record.T_world_cam, np.float64).reshape(4, 4).tolist(),
        'width': camera.width,
        'height': camera.height,
        'fx': camera.fx,
        'fy': camera.fy,
        'cx': camera.cx,
        'cy': camera.cy,
    }


def _plain(value: object) -> object:
    """Return the value converted to the types of JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
