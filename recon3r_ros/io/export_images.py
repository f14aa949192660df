# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The images of a map, undistorted, with masks and depth, for other tools."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
import io
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError, OutputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.atomic import output_error, write_bytes
from recon3r_ros.io.base import Sequence, size_text
from recon3r_ros.io.run_folder import PosedImage, RunFolder
from recon3r_ros.io.undistortion import enlarged, pinhole_of, Undistortion
from recon3r_ros.slam.types import Frame, Keyframe

_JPEG = ('.jpg', '.jpeg')
_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 97]
#: Values of depth images a unit of length: millimetres where that is the metre
DEPTH_UNIT = 1000.0
_NAMED = 3


@dataclass(frozen=True, eq=False)
class ExportedView:
    """
    An image that has been written.

    :param image: its file, relative to the export
    :param mask: that of its mask
    :param depth: that of its depth; None where it is no keyframe
    :param camera: its pinhole camera
    :param T_world_cam: (4, 4), camera to world
    :param keyframe: its keyframe, or None
    """

    image: str
    mask: str
    depth: str | None
    camera: Camera
    T_world_cam: NDArray[np.float64]
    keyframe: Keyframe | None


class ImageExport:
    """
    Writes images/, masks/, depth/ and confidence/ of one map.

    Masks are 0 on dynamic objects and where the source image shows nothing, else 255. Depth is
    16-bit, DEPTH_UNIT to the unit of length along the optical axis, 0 where it is unknown.
    Confidence is an .npz file with the float32 array `confidence`, the inverse variance of the
    relative depth, 0 where that is unknown. All have the size of the images.

    :param run: the map
    :param target: folder of the export; created
    :param every_image: whether to write all images with a pose, not the keyframes alone
    :param mask_name: name of a mask by the name of its image
    :raises OutputError: where the folder cannot be created
    """

    def __init__(self, run: RunFolder, target: Path, every_image: bool,
                 mask_name: Callable[[str], str]) -> None:
        self._run, self._target, self._mask_name = run, target, mask_name
        self._keyframes = run.keyframe_of
        self._wanted = {image.file_name: image for image in run.images
                        if every_image or image.index in self._keyframes}
        self._lenses: dict[str, Undistortion] = {}
        #: Images whose dynamic objects are unknown, which are left out
        self.unknown: list[str] = []
        for name in ('images', 'masks', 'depth', 'confidence'):
            try:
                (target / name).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise output_error(target / name, error) from error

    def write(self, sequence: Sequence, advance: Callable[[], None]) -> list[ExportedView]:
        """
        Write the images of the map that a sequence holds, in its order.

        :param sequence: the source images
        :param advance: called for each image of the sequence
        :raises InputError: where an image of the map is missing, or of another size
        """
        missing = dict(self._wanted)
        views = []
        for frame in sequence:
            posed = missing.pop(sequence.file_name(frame), None)
            if posed is not None:
                view = self._view(frame, posed, sequence.name)
                views += [] if view is None else [view]
            advance()
        if missing:
            names = list(missing)
            some = ', '.join(names[:_NAMED]) + ', ...' * (len(names) > _NAMED)
            raise InputError(
                f'{sequence.name}: {len(names)} of {len(self._wanted)} images of the map in '
                f'{self._run.folder} are not there ({some}); give the images that it was made of')
        return views

    def _view(self, frame: Frame, posed: PosedImage, source: str) -> ExportedView | None:
        """Write an image; None where its dynamic objects are unknown."""
        lens = self._lens(frame, posed, source)
        keyframe = self._keyframes.get(posed.index)
        mask = self._run.mask(frame.name)
        if mask is not None and mask.shape != frame.image.shape[:2]:
            raise InputError(
                f'{self._run.folder}: the mask of {posed.file_name} is {size_text(mask)}, its '
                f'image {size_text(frame.image)}; give the images that the map was made of')
        if mask is not None:
            excluded = lens.mask(mask)
        elif keyframe is not None:
            excluded = ~lens.seen | (enlarged(
                keyframe.mask.astype(np.float32), lens.pinhole) > 0)
        else:
            self.unknown.append(posed.file_name)
            return None
        suffix = Path(posed.file_name).suffix.lower()
        name = frame.name + (suffix if suffix in _JPEG else '.png')
        image, mask_file = f'images/{name}', f'masks/{self._mask_name(name)}'
        _write_image(self._target / image, lens.image(frame.image))
        _write_image(self._target / mask_file, np.where(excluded, np.uint8(0), np.uint8(255)))
        depth = None if keyframe is None else self._depth(frame.name, keyframe, lens.pinhole)
        return ExportedView(image, mask_file, depth, lens.pinhole, posed.T_world_cam, keyframe)

    def _lens(self, frame: Frame, posed: PosedImage, source: str) -> Undistortion:
        camera = self._run.cameras[posed.camera_name]
        if frame.image.shape[:2] != (camera.height, camera.width):
            raise InputError(
                f'{source}: {posed.file_name} is {size_text(frame.image)}, the map was made of '
                f'images of {camera.width}x{camera.height}; give these')
        if posed.camera_name not in self._lenses:
            pinhole = export_camera(posed.camera_name, camera, self._run.keyframes)
            self._lenses[posed.camera_name] = Undistortion(camera, pinhole)
        return self._lenses[posed.camera_name]

    def _depth(self, name: str, keyframe: Keyframe, camera: Camera) -> str:
        """Write depth and confidence of a keyframe; return the file of the depth."""
        known = keyframe.inverse_depth > 0
        depth = np.nan_to_num(keyframe.depth() * np.float32(DEPTH_UNIT))
        depth[depth > np.iinfo(np.uint16).max] = 0
        path = f'depth/{name}.png'
        _write_image(self._target / path, np.rint(enlarged(depth, camera)).astype(np.uint16))
        content = io.BytesIO()
        np.savez_compressed(content, confidence=enlarged(
            np.where(known, keyframe.confidence, np.float32(0)), camera))
        write_bytes(self._target / f'confidence/{name}.npz', content.getbuffer())
        return path


def export_camera(name: str, source: Camera, keyframes: Mapping[int, Keyframe]) -> Camera:
    """
    Return the pinhole camera of the undistorted images of a camera.

    :param name: of the camera
    :param source: camera of its images
    :param keyframes: by id; the newest one of this camera has the present focal length
    """
    own = [k.camera for k in keyframes.values() if k.camera_name == name]
    if own:
        return pinhole_of(source, own[-1])
    return source if source.is_pinhole else source.rectified()


def _write_image(path: Path, image: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    pixels = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    written, data = cv2.imencode(path.suffix, pixels, _QUALITY if path.suffix in _JPEG else [])
    if not written:
        raise OutputError(f'{path}: an image of shape {image.shape} cannot be encoded')
    write_bytes(path, data.data)
