# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A folder with the images of a rig of several cameras, which need not see the same.

    rig.json        see `rig_calibration`
    NAME/           images of camera NAME, or a pack with its images/
    frames.txt      stamps of images that have the same names in all cameras; or in each NAME/
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from heapq import merge
from itertools import repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.io.base import PrefetchedSequence
from recon3r_ros.io.calibrations import Calibration
from recon3r_ros.io.image_folder import ImageFolder
from recon3r_ros.io.instants import instants
from recon3r_ros.io.listing import at_rate, Entry, has_images, images_of, listed
from recon3r_ros.io.rig_calibration import read_rig_calibration
from recon3r_ros.io.rigs import read_rig
from recon3r_ros.io.tone_map import ToneMap
from recon3r_ros.slam.types import Frame, RigMount

Array = NDArray[np.float64]

LISTING = 'frames.txt'


@dataclass(frozen=True, eq=False)
class _Camera:
    """Images of one camera, and its pose T_rig_cam (4, 4) on the rig, metres."""

    images: ImageFolder
    T_rig_cam: Array


def is_rig_folder(folder: Path) -> bool:
    """Whether a folder has the images of a rig that is no stereo pair left/, right/."""
    rig = folder / 'rig.json'
    return rig.is_file() and not has_images(_images(folder, 'left')) and len(_names(folder)) > 1


def _names(folder: Path) -> list[str]:
    """Names of the cameras that have images, the first one's first."""
    return [name for name, values in read_rig(folder / 'rig.json').items()
            if isinstance(values, dict) and has_images(_images(folder, name))]


def _images(folder: Path, name: str) -> Path:
    """Return the folder with the images of a camera."""
    inner = folder / name / 'images'
    return inner if inner.is_dir() else folder / name


class RigFolder(PrefetchedSequence):
    """
    Images of all cameras of a rig, in the order of their stamps; those of one instant together.

    :param folder: of the rig
    :param fps: rate that gives stamps where there are none
    :raises InputError: where intrinsics, poses or images cannot be used
    """

    def __init__(self, folder: Path, fps: float) -> None:
        super().__init__(str(folder))
        self._cameras = dict(_cameras(folder, fps))
        self._files: dict[int, str] = {}
        for camera in self._cameras.values():
            self.notes += camera.images.notes

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras that have images."""
        return tuple(self._cameras)

    @property
    def T_first_cam(self) -> tuple[Array, ...]:
        """Poses (4, 4) of these cameras in the frame of the first, metres."""
        poses = [camera.T_rig_cam for camera in self._cameras.values()]
        return tuple(se3.inverse(poses[0]) @ T for T in poses)

    def in_order(self) -> Iterator[tuple[int, Frame]]:
        """Yield the frames in the order of their stamps, with the number of the camera."""
        numbers = {name: number for number, name in enumerate(self._cameras)}
        return ((numbers[frame.camera_name], frame) for frame in self)

    def __len__(self) -> int:
        """Return the number of images listed, unusable ones included."""
        return sum(len(camera.images) for camera in self._cameras.values())

    def file_name(self, frame: Frame) -> str:
        """Return the name of the image file of a frame, with its folder."""
        return self._files[frame.index]

    def _frames(self) -> Generator[Frame, None, None]:
        index = 0
        for instant in self._instants():
            yield from self._numbered(instant, index)
            index += len(instant)
        for name, camera in self._cameras.items():
            for reason in camera.images.skipped:
                self._skip(f'{name}/{reason}')

    def _instants(self) -> Iterator[dict[str, Frame]]:
        """Group the images of all cameras by their stamps."""
        streams = [zip(repeat(name), camera.images) for name, camera in self._cameras.items()]
        return instants(merge(*streams, key=lambda item: item[1].stamp_ns))

    def _numbered(self, frames: Mapping[str, Frame], index: int) -> Generator[Frame, None, None]:
        """
        Give numbers and mounts to the frames of an instant.

        :param index: of its first frame
        """
        stamp_ns = min(frame.stamp_ns for frame in frames.values())
        for name, camera in self._cameras.items():
            frame = frames.get(name)
            if frame is None:
                continue
            self._files[index] = f'{name}/{camera.images.file_name(frame)}'
            yield replace(frame, name=f'{name}_{frame.name}', index=index, camera_name=name,
                          mount=RigMount(camera.T_rig_cam, stamp_ns))
            index += 1


def _cameras(folder: Path, fps: float) -> Generator[tuple[str, _Camera], None, None]:
    path = folder / 'rig.json'
    for camera in read_rig_calibration(path):
        name, given = camera.name, camera.calibration
        files = _images(folder, name)
        if not has_images(files):
            continue
        images = ImageFolder(f'{folder}/{name}', files, _entries(folder, name, files, fps),
                             ToneMap())
        images.settle(partial(_given, given), str(path))
        yield name, _Camera(images, camera.T_rig_cam)


def _given(calibration: Calibration, width: int, height: int) -> Calibration:
    """Return the intrinsics, whatever the images' size."""
    return calibration


def _entries(folder: Path, name: str, images: Path, fps: float) -> list[Entry]:
    """List the images of a camera."""
    for listing in (folder / name / LISTING, folder / LISTING):
        if listing.is_file():
            return listed(listing, images)
    return at_rate(images_of(images), fps)
