# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The second camera of a stereo rig in a folder: its images, its intrinsics, and its pose.

A layout (see `layouts`) states them as a `Partner`, which is read where the rig is used. Images
without a partner are images of one camera.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
import json
import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.stereo_rectification import StereoRectification
from recon3r_ros.io.base import fitted
from recon3r_ros.io.calibrations import Calibration, read_calibration
from recon3r_ros.io.calibrations.camera_json import CAMERA_JSON
from recon3r_ros.io.calibrations.document import Document, parse
from recon3r_ros.io.calibrations.extrinsics import rigid
from recon3r_ros.io.data_set_cameras import CameraOfSize, kitti_projection
from recon3r_ros.io.decode import decode_image
from recon3r_ros.io.instants import MAX_DIFFERENCE_NS
from recon3r_ros.io.listing import Entry, images_of
from recon3r_ros.io.tone_map import ToneMap
from recon3r_ros.slam.types import StereoView

Array = NDArray[np.float64]

_log = logging.getLogger(__name__)

#: Side of the images on which a rig is checked, pixels: geometry needs no more
_CHECKED = 160
_ALONE = 'the first camera is used alone'
_REMEDY = 'correct it, or use the first camera alone with --no-stereo'


@dataclass(frozen=True)
class Partner:
    """
    The images of the second camera, not read yet.

    :param images: their folder
    :param files: from the images of the first camera to those of the second, by the first one's
        name without suffix; not all need one
    :param source: file of intrinsics and pose
    :param camera: reads the intrinsics
    :param pose: reads T_cam_other (4, 4), the second camera in the first one's frame, metres; None
        where the file states none
    """

    images: Path
    files: Callable[[Sequence[Entry]], Mapping[str, Path]]
    source: Path
    camera: CameraOfSize
    pose: Callable[[], Array | None]


class PartnerImages:
    """
    What the second camera saw, decoded on demand.

    :param files: by the name of the first camera's image
    :param camera: intrinsics
    :param T_cam_other: (4, 4), metres
    """

    def __init__(self, files: Mapping[str, Path], camera: Camera, T_cam_other: Array) -> None:
        self._files = dict(files)
        self._camera = camera
        self._T_cam_other = T_cam_other
        self._tone_map = ToneMap()
        self._unusable: set[str] = set()

    def of(self, name: str) -> StereoView | None:
        """Decode the image of an instant, if there is a usable one."""
        path = self._files.get(name)
        if path is None or name in self._unusable:
            return None
        try:
            image = self._tone_map(decode_image(path.read_bytes()))
            if image.shape[1::-1] != (self._camera.width, self._camera.height):
                raise InputError(f'has {image.shape[1]}x{image.shape[0]} pixels, expected '
                                 f'{self._camera.width}x{self._camera.height}')
        except (InputError, OSError) as error:
            self._unusable.add(name)
            _log.warning('%s: %s; its partner is used alone', path, error)
            return None
        return StereoView(image, self._camera, self._T_cam_other)


def open_partner(partner: Partner, entries: Sequence[Entry], first: Camera,
                 note: Callable[[str], None]) -> PartnerImages | None:
    """
    Open the images of a rig's second camera.

    :param entries: images of the first camera
    :param first: its intrinsics
    :param note: takes what is unusual, line by line
    :returns: None where there are none, or their pose is not stated
    :raises InputError: where intrinsics or pose cannot be used, with the remedy
    """
    files = partner.files(entries)
    found = _first_readable(files)
    if found is None:
        note(f'{partner.images}: none of its images can be read and is of the instant of one of '
             f'the other camera: {_ALONE}')
        return None
    image, name = found
    try:
        pose = partner.pose()
        if pose is None:
            note(f'{partner.source}: states no pose of the camera: {_ALONE}')
            return None
        camera = fitted(partner.camera(*image.shape[1::-1]), str(partner.source), image, name,
                        note)
        if camera is None:
            return None
        check_pair(first, camera, pose)
    except InputError as error:
        raise InputError(f'{partner.source}: {error}; {_REMEDY}') from None
    return PartnerImages(files, camera, pose)


def _first_readable(files: Mapping[str, Path]) -> tuple[NDArray[np.generic], str] | None:
    for path in files.values():
        try:
            return decode_image(path.read_bytes()), path.name
        except (InputError, OSError):
            continue
    return None


def check_pair(first: Camera, other: Camera, T_first_other: Array) -> None:
    """
    Check that two cameras may be a stereo pair.

    :raises InputError: where they see too little of the same, or their distance is implausible
    """
    # Smaller images have the same geometry
    StereoRectification.of(_small(first), _small(other), T_first_other)


def _small(camera: Camera) -> Camera:
    factor = min(1.0, _CHECKED / max(camera.width, camera.height))
    return camera.resized(max(round(camera.width * factor), 8),
                          max(round(camera.height * factor), 8))


def named_alike(images: Path, entries: Sequence[Entry]) -> Mapping[str, Path]:
    """Find the images of a folder that have the names of the first camera's."""
    files = {path.stem: path for path in images_of(images)}
    return {e.path.stem: files[e.path.stem] for e in entries if e.path.stem in files}


def at_the_same_time(others: Callable[[], list[Entry]], entries: Sequence[Entry]
                     ) -> Mapping[str, Path]:
    """Find the images nearest in time, within 5 ms."""
    there = others()
    if not there:
        return {}
    stamps = np.array([other.stamp_ns for other in there])
    files = {}
    for entry in entries:
        nearest = int(np.argmin(np.abs(stamps - entry.stamp_ns)))
        if abs(int(stamps[nearest]) - entry.stamp_ns) <= MAX_DIFFERENCE_NS:
            files[entry.path.stem] = there[nearest].path
    return files


def pack_partner(rig: Path, images: Path) -> Partner:
    """
    Return the right camera of a pack.

    :param rig: rig.json with `left` and `right`, each as in camera.json, and `T_left_right` (4, 4)
    :param images: folder of the right images, named as the left ones
    """
    return Partner(images, partial(named_alike, images), rig, pack_camera(rig, 'right'),
                   lambda: rigid(read_rig(rig).get('T_left_right'), 'T_left_right'))


def pack_camera(rig: Path, side: str) -> CameraOfSize:
    """
    Return the reader of a camera in the rig.json of a pack.

    :param side: 'left' or 'right'
    """
    def camera(width: int, height: int) -> Calibration:
        values = read_rig(rig).get(side)
        try:
            found = CAMERA_JSON.read(Document((), values)) if isinstance(values, dict) else None
        except InputError as error:
            raise InputError(f'{rig}: {side}: {error}') from None
        if found is None:
            raise InputError(f'{rig}: {side}: expected width, height, fx, fy, cx and cy')
        return found
    return camera


def euroc_partner(first: Path, other: Path, others: Callable[[], list[Entry]]) -> Partner:
    """
    Return another camera of EuRoC.

    :param first: sensor.yaml of the first one; T_BS is the sensor's pose in the body's frame
    :param other: of the other one
    :param others: lists its images
    """
    def pose() -> Array | None:
        found = [parse(path).mapping.get('T_BS') for path in (first, other)]
        if any(value is None for value in found):
            return None
        T_body_cam, T_body_other = (rigid(value, 'T_BS') for value in found)
        return np.asarray(se3.inverse(T_body_cam) @ T_body_other)
    return Partner(other.parent / 'data', partial(at_the_same_time, others), other,
                   lambda width, height: read_calibration(other), pose)


def kitti_partner(calibration: Path, key: str, first: int, other: int, images: Path,
                  camera: CameraOfSize) -> Partner:
    """
    Return another camera of KITTI, whose images are rectified, in rows of equal names.

    :param calibration: file with lines of projection matrices
    :param key: of the matrices, with the number of the camera in braces: `P{}` or `P_rect_{:02d}`
    :param images: folder of the other one's images
    :param camera: reads the other one's intrinsics
    """
    def pose() -> Array:
        centres = []
        for number in (first, other):
            P = kitti_projection(calibration, key.format(number))
            centres.append(-np.linalg.solve(P[:, :3], P[:, 3]))
        return np.asarray(se3.from_rt(np.eye(3), centres[1] - centres[0]))
    return Partner(images, partial(named_alike, images), calibration, camera, pose)


def read_rig(path: Path) -> dict[str, object]:
    """
    Read the rig.json of a pack: intrinsics and poses of its cameras, by name.

    :raises InputError: where it cannot be read
    """
    try:
        found = json.loads(path.read_text(encoding='utf-8-sig'))
    except (OSError, ValueError) as error:
        raise InputError(f'{path}: cannot be read: {error}') from None
    if not isinstance(found, dict):
        raise InputError(f'{path}: expected the cameras by name, and their poses')
    return found
