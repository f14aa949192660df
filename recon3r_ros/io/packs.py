# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Packs: a sequence in a folder, with ground truth, for the recon3r command and other tools.

Layout: images/NAME.png, frames.txt (stamp image), camera.json, groundtruth.txt (TUM: stamp
tx ty tz qx qy qz qw, camera-to-world), depth/NAME.png (16-bit millimetres), masks/NAME.png
(255 = dynamic); stamps in seconds.

Of a stereo rig images/ is left/, and right/NAME.png lies beside it; rig.json stands for
camera.json and holds left and right, each like that, and T_left_right, the right camera's pose in
the left one's frame, metres. All else is of the left camera.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import repeat
import json
import os
from pathlib import Path
import shutil
from typing import Callable, Iterable, Iterator, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import OutputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.se3 import quat_xyzw_from_matrix

_MILLIMETRES = 1000.0
#: A third faster than level 3, for files that are 2 % larger
_FAST_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1)


class TrueFrame(Protocol):
    """An image (H, W, 3) with its exact depth (H, W), metres, dynamic mask (H, W) and pose."""

    @property
    def index(self) -> int: ...

    @property
    def stamp_ns(self) -> int: ...

    @property
    def image(self) -> NDArray[np.uint8]: ...

    @property
    def depth(self) -> NDArray[np.float32]: ...

    @property
    def motion_mask(self) -> NDArray[np.bool_]: ...

    @property
    def T_world_cam(self) -> NDArray[np.float64]: ...


class TrueSequence(Protocol):
    """Frames with ground truth, all of one pinhole camera."""

    @property
    def camera(self) -> Camera: ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[TrueFrame]: ...


@dataclass(frozen=True, eq=False)
class SecondCamera:
    """
    The second camera of a stereo rig.

    :param sequence: its images, of the same instants
    :param T_cam_other: (4, 4) its pose in the first one's frame, metres
    """

    sequence: TrueSequence
    T_cam_other: NDArray[np.float64]


def write_pack(sequence: TrueSequence, folder: str | Path,
               progress: Callable[[int, int], None] | None = None,
               second: SecondCamera | None = None) -> None:
    """
    Write a sequence with its ground truth into a folder, which appears only once it is complete.

    :param sequence: the frames
    :param folder: a path that does not exist yet, or an empty folder
    :param progress: called after each frame with the frames done and their total
    :param second: of a stereo rig; None for one camera
    :raises OutputError: if the folder is not empty or cannot be written
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f'{folder}: exists and is not empty')
    partial = folder.with_name(f'.{folder.name}.partial-{os.getpid()}')
    try:
        images = 'images' if second is None else 'left'
        for name in (images, 'depth', 'masks', *(() if second is None else ('right',))):
            (partial / name).mkdir(parents=True)
        frames, poses = [], []
        others: Iterable[TrueFrame | None] = repeat(None) if second is None else second.sequence
        for frame, other in zip(sequence, others):
            name = f'{frame.index:06d}.png'
            write_png(partial / images / name, frame.image)
            if other is not None:
                write_png(partial / 'right' / name, other.image)
            millimetres = np.rint(frame.depth * _MILLIMETRES).clip(0, 65535).astype(np.uint16)
            write_png(partial / 'depth' / name, millimetres)
            write_png(partial / 'masks' / name, frame.motion_mask.astype(np.uint8) * 255)
            stamp = f'{frame.stamp_ns // 10**9}.{frame.stamp_ns % 10**9:09d}'
            frames.append(f'{stamp} {name}')
            poses.append(f'{stamp} {_tum_pose(frame)}')
            if progress is not None:
                progress(frame.index + 1, len(sequence))
        _write_lines(partial / 'frames.txt', frames)
        _write_lines(partial / 'groundtruth.txt', poses)
        if second is None:
            _write_lines(partial / 'camera.json',
                         [json.dumps(_intrinsics(sequence.camera), indent=2)])
        else:
            _write_lines(partial / 'rig.json', [json.dumps({
                'left': _intrinsics(sequence.camera),
                'right': _intrinsics(second.sequence.camera),
                'T_left_right': second.T_cam_other.tolist()}, indent=2)])
        partial.replace(folder)
    except OSError as error:
        raise OutputError(f'{folder}: cannot be written: {error}') from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _tum_pose(frame: TrueFrame) -> str:
    quat_xyzw = quat_xyzw_from_matrix(frame.T_world_cam[:3, :3])
    return ' '.join(f'{value:.9f}' for value in (*frame.T_world_cam[:3, 3], *quat_xyzw))


def _intrinsics(camera: Camera) -> dict[str, object]:
    names = ('width', 'height', 'fx', 'fy', 'cx', 'cy')
    return {**{name: getattr(camera, name) for name in names}, 'distortion': []}


def write_png(path: Path, array: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    """
    Write an image losslessly.

    :param path: the file
    :param array: grey (H, W) or RGB (H, W, 3)
    :raises OutputError: where it cannot be written
    """
    pixels = array if array.ndim == 2 else cv2.cvtColor(array, cv2.COLOR_RGB2BGR)
    if not cv2.imwrite(str(path), pixels, _FAST_PNG):
        raise OutputError(f'{path}: cannot be written: free space on that disk')


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text('\n'.join(lines) + '\n', encoding='utf-8')
