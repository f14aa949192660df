# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Both cameras of a recorded stereo rig: packs with left/, right/ and rig.json, and EuRoC."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
import heapq
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.io.base import Sequence
from recon3r_ros.io.calibrations import Calibration
from recon3r_ros.io.calibrations.camera_json import CAMERA_JSON
from recon3r_ros.io.calibrations.document import Document, parse
from recon3r_ros.io.calibrations.extrinsics import pair_extrinsics, rigid
from recon3r_ros.io.image_folder import open_image_folder
from recon3r_ros.slam.types import Frame

_SIDES = ('left', 'right')


@dataclass(frozen=True, eq=False)
class RecordedRig:
    """
    Images of two cameras and their extrinsics.

    :param first: images of the first camera
    :param second: of the second one
    :param T_first_second: (4, 4) pose of the second camera in the frame of the first, metres
    """

    first: Sequence
    second: Sequence
    T_first_second: NDArray[np.float64]

    @property
    def name(self) -> str:
        """Source of the images."""
        return self.first.name

    @property
    def T_first_cam(self) -> tuple[NDArray[np.float64], ...]:
        """Poses (4, 4) of the cameras in the frame of the first, metres."""
        return np.eye(4), self.T_first_second

    def in_order(self) -> Iterator[tuple[int, Frame]]:
        """Yield the frames of both in the order of their stamps, with 0 or 1 for the camera."""
        return heapq.merge(((0, f) for f in self.first), ((1, f) for f in self.second),
                           key=lambda item: (item[1].stamp_ns, item[0]))


def open_recorded_rig(folder: str | Path, fps: float = 30.0) -> RecordedRig:
    """
    Open a folder with the images of a stereo rig.

    Layouts: left/ and right/ (each a folder of images, with frames.txt where they have stamps) and
    rig.json (cameras `left` and `right` as in camera.json, `T_left_right`); or EuRoC's mav0/ with
    cam0/ and cam1/.

    :param fps: images a second, where they have no stamps
    :raises InputError: where it is neither, or a part is missing
    """
    root = Path(folder)
    if (root / 'rig.json').is_file():
        return _pack(root, fps)
    outer = root / 'mav0' if (root / 'mav0').is_dir() else root
    cameras = [outer / name for name in ('cam0', 'cam1')]
    if not all((camera / 'sensor.yaml').is_file() for camera in cameras):
        raise InputError(f'{root}: no stereo rig: expected left/, right/ and rig.json, or cam0/ '
                         'and cam1/ of EuRoC, each with sensor.yaml')
    T = pair_extrinsics(*(camera / 'sensor.yaml' for camera in cameras))
    if T is None:
        raise InputError(f'{cameras[1]}/sensor.yaml: no T_BS, or none in that of cam0')
    first, second = (open_image_folder(camera, fps=fps) for camera in cameras)
    return RecordedRig(first, second, T)


def _pack(root: Path, fps: float) -> RecordedRig:
    path = root / 'rig.json'
    values = parse(path).mapping
    if 'T_left_right' not in values:
        raise InputError(f'{path}: T_left_right: missing')
    first, second = (open_image_folder(root / side, _camera(path, values, side), fps=fps)
                     for side in _SIDES)
    return RecordedRig(first, second, rigid(values['T_left_right'], f'{path}: T_left_right'))


def _camera(path: Path, values: Mapping[str, Any], side: str) -> Calibration:
    given = values.get(side)
    found = CAMERA_JSON.read(Document((), given)) if isinstance(given, Mapping) else None
    if found is None:
        raise InputError(f'{path}: {side}: expected width, height, fx, fy, cx and cy')
    return found
