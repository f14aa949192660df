# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Frames from a folder of images, a pack (see `packs`), or a data set (see `layouts`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.base import check_fps, fitted, PrefetchedSequence, size_text
from recon3r_ros.io.calibrations import Calibration
from recon3r_ros.io.data_set_cameras import CameraOfSize
from recon3r_ros.io.decode import decode_image, size_in_header
from recon3r_ros.io.depth_camera import DepthCamera
from recon3r_ros.io.depths import DepthImages
from recon3r_ros.io.exif import focal_prior
from recon3r_ros.io.layouts import find_images
from recon3r_ros.io.listing import Entry
from recon3r_ros.io.rigs import open_partner, Partner, PartnerImages
from recon3r_ros.io.stamps import NS_PER_S
from recon3r_ros.io.tone_map import ToneMap
from recon3r_ros.slam.types import Frame

if TYPE_CHECKING:
    from recon3r_ros.geometry.depth_registration import DepthRegistration

#: Time between images without order: one says nothing about where the next was taken
APART_NS = 10 * NS_PER_S
# Headers read to find the size of most images
_SAMPLE = 1000


class ImageFolder(PrefetchedSequence):
    """
    Images of one size, decoded on demand.

    A frame's `index` is its position among the images listed, so an unusable image leaves a gap,
    as in the stamps.
    """

    def __init__(self, name: str, folder: Path, entries: list[Entry], tone_map: ToneMap,
                 depths: DepthImages | None = None,
                 depth_camera: DepthCamera | None = None) -> None:
        """
        Prepare to decode.

        :param name: source of the images
        :param folder: base of the relative names in messages
        :param entries: images in the order of their stamps
        :param tone_map: 16 to 8 bits for the whole sequence
        :param depths: measured, where there are any
        :param depth_camera: that measured them; None where they are registered to the images
        """
        super().__init__(name)
        self._folder = folder
        self._entries = entries
        self._file_names = {entry.index: entry.path.name for entry in entries}
        self._originals: dict[int, Entry] = {}
        self._tone_map = tone_map
        self._depths = depths
        self._partner: PartnerImages | None = None
        self._depth_camera = depth_camera
        self._registration: DepthRegistration | None = None
        self._camera: Camera | None = None
        self._focal_prior: float | None = None
        self._size: tuple[int, ...] = ()
        self._size_text = ''

    def __len__(self) -> int:
        """Return the number of images listed, unusable ones included."""
        return len(self._entries)

    @property
    def folder(self) -> Path:
        """Folder that holds all of the images."""
        return self._folder

    def file_name(self, frame: Frame) -> str:
        """Return the name of the image file of a frame."""
        return self._file_names[frame.index]

    def original(self, frame: Frame) -> Frame:
        """Return a frame with its index and stamp before `rearranged`."""
        entry = self._originals.get(frame.index)
        return frame if entry is None else replace(
            frame, index=entry.index, stamp_ns=entry.stamp_ns)

    def rearranged(self, order: Sequence[int]) -> ImageFolder:
        """
        Return images in another order, as if each had been taken `APART_NS` after the one before.

        :param order: their indices
        """
        entries = {entry.index: entry for entry in self._entries}
        other = copy(self)
        other._originals = {n: entries[i] for n, i in enumerate(order)}
        other._entries = [replace(entry, index=n, stamp_ns=n * APART_NS)
                          for n, entry in other._originals.items()]
        other._file_names = {entry.index: entry.path.name for entry in other._entries}
        return other

    def settle(self, camera: CameraOfSize | None, camera_source: str, exif: bool = False) -> None:
        """
        Determine size and tone map of the sequence from the first image of most images' size.

        :param camera: intrinsics of the images, by their size
        :param camera_source: name of the camera in an error
        :param exif: whether the focal length in EXIF data is the first guess without a camera
        :raises InputError: where no image can be read or the camera has another size
        """
        sizes = self._sizes()
        usual = max(Counter(sizes.values()).items(), key=lambda item: item[1], default=(None, 0))
        # The sort is stable: images of the usual size first, in their order
        for entry in sorted(self._entries, key=lambda e: sizes.get(e.index) != usual[0]):
            image = self._decode(entry)
            if image is not None:
                height, width = self._size = image.shape[:2]
                self._size_text = f'{size_text(image)} as in most images'
                if camera is not None:
                    self._camera = fitted(camera(width, height), camera_source, image,
                                          entry.path.name, self.note)
                elif exif:
                    self._focal_prior = focal_prior(entry.path, width, height)
                return
        raise InputError(
            f'{self.name}: none of its {len(self)} images can be read; the first: '
            f'{self.skipped[0]}'
        )

    def pair_with(self, partner: Partner) -> None:
        """
        Take what a rig's second camera saw with each image; after `settle`, with intrinsics.

        :raises InputError: where the rig cannot be used
        """
        if self._camera is not None:
            self._partner = open_partner(partner, self._entries, self._camera, self.note)
    def check_depth_camera(self) -> None:
        """
        Check that depth of a camera of its own can be used.

        :raises InputError: where there is no depth, or the camera of the images is unknown
        """
        assert self._depth_camera is not None
        source = self._depth_camera.calibration.source
        if self._depths is None:
            raise InputError(f'{source}: there are no depth images: give their folder with '
                             '--depth')
        if self._camera is None:
            self._depth_camera.registration((1, 1), None)

    def _sizes(self) -> dict[int, tuple[int, int]]:
        """Return (width, height) by index of up to so many images, from their headers."""
        step = -(-len(self._entries) // _SAMPLE)
        found = ((e.index, size_in_header(e.path)) for e in self._entries[::step])
        return {index: size for index, size in found if size is not None}

    def _frames(self) -> Generator[Frame, None, None]:
        self._tone_map = ToneMap()  # it follows the images, the same each time
        for entry in self._entries:
            image = self._decode(entry)
            if image is None:
                continue
            if image.shape[:2] != self._size:
                self._skip(
                    f'{self._label(entry)}: has {size_text(image)} pixels, expected '
                    f'{self._size_text}'
                )
                continue
            yield Frame(image, entry.stamp_ns, entry.path.stem, entry.index, self._camera,
                        focal_prior=self._focal_prior, depth=self._depth(entry.path.stem),
                        stereo=None if self._partner is None
                        else self._partner.of(entry.path.stem))

    def _depth(self, name: str) -> NDArray[np.float32] | None:
        """Return the depth of an image in its view, if there is any."""
        depth = None if self._depths is None else self._depths.of(name)
        if depth is None or self._depth_camera is None:
            return depth
        if self._registration is None:
            self._registration = self._depth_camera.registration(depth.shape, self._camera)
        return self._registration(depth)

    def _decode(self, entry: Entry) -> NDArray[np.uint8] | None:
        """Return the pixels, or None after recording the reason."""
        try:
            return self._tone_map(decode_image(entry.path.read_bytes()))
        except FileNotFoundError:
            self._skip(f'{self._label(entry)}: no such file')
        except OSError as error:
            self._skip(f'{self._label(entry)}: {error.strerror}')
        except InputError as error:
            self._skip(f'{self._label(entry)}: {error}')
        return None

    def _label(self, entry: Entry) -> str:
        return str(entry.path.relative_to(self._folder))


def open_image_folder(
    path: str | Path,
    camera: Camera | Calibration | None = None,
    calibrated: bool = True,
    fps: float = 30.0,
    depth: str | Path | None = None,
    stereo: bool = True,
    depth_camera: DepthCamera | None = None,
) -> ImageFolder:
    """
    Open a folder of images, a pack, or a sequence of a data set; see `layouts`.

    :param path: folder
    :param camera: intrinsics of the images, instead of those that come with them
    :param calibrated: False ignores intrinsics that come with the images, and focal lengths in
        EXIF data
    :param fps: rate that gives stamps where there are none
    :param depth: folder of depth images, see `DepthImages.named`, instead of those that come with
        the images
    :param stereo: False uses the first camera of a rig alone
    :param depth_camera: that measured it; None where it is registered to the images
    :raises InputError: where there is nothing to read or the parts are inconsistent
    """
    check_fps(fps)
    folder = Path(path)
    if not folder.is_dir():
        problem = 'is not a folder' if folder.exists() else 'no such folder'
        raise InputError(f'{folder}: {problem}; expected a folder of images')
    found = find_images(folder, fps)
    entries = found.entries()
    if not entries:
        raise InputError(f'{found.stamps}: lists no images')
    depths = None if depth is None else DepthImages.named(depth)
    if depths is None and found.depths is not None:
        listed = found.depths()
        depths = DepthImages.by_stamps(entries, listed) if listed else None
    if depths is not None:
        depths.check([entry.path.stem for entry in entries])
    sequence = ImageFolder(str(path), found.folder, entries, ToneMap(), depths, depth_camera)
    if camera is not None:
        given = camera
        sequence.settle(lambda width, height: given, 'the camera given')
    else:
        sequence.settle(
            found.camera if calibrated else None, str(found.calibration), exif=calibrated)
    if stereo and found.partner is not None:
        sequence.pair_with(found.partner)
    if depth_camera is not None:
        sequence.check_depth_camera()
    return sequence
