# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Frames from a folder of images, or from a pack (see `packs`)."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
import re

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.base import check_camera, check_fps, PrefetchedSequence, size_text
from recon3r_ros.io.decode import decode_image
from recon3r_ros.io.stamps import parse_seconds, stamp_at_rate
from recon3r_ros.io.tone_map import ToneMap
from recon3r_ros.slam.types import Frame

SUFFIXES = ('.jpg', '.jpeg', '.png', '.tif', '.tiff', '.bmp')


@dataclass(frozen=True)
class _Entry:
    path: Path
    stamp_ns: int
    index: int


class ImageFolder(PrefetchedSequence):
    """
    Images of one size, decoded on demand.

    A frame's `index` is its position among the images listed, so an unusable image leaves a gap,
    as in the stamps.
    """

    def __init__(self, folder: Path, entries: list[_Entry], tone_map: ToneMap) -> None:
        """
        Prepare to decode.

        :param folder: base of the relative names in messages
        :param entries: images in the order of their stamps
        :param tone_map: 16 to 8 bits for the whole sequence
        """
        super().__init__(str(folder))
        self._folder = folder
        self._entries = entries
        self._file_names = {entry.index: entry.path.name for entry in entries}
        self._tone_map = tone_map
        self._camera: Camera | None = None
        self._size: tuple[int, ...] = ()
        self._size_text = ''

    def __len__(self) -> int:
        """Return the number of images listed, unusable ones included."""
        return len(self._entries)

    def file_name(self, frame: Frame) -> str:
        """Return the name of the image file of a frame."""
        return self._file_names[frame.index]

    def settle(self, camera: Camera | None, camera_source: str) -> None:
        """
        Determine size and tone map of the sequence from the first readable image.

        :param camera: intrinsics of the images
        :param camera_source: name of the camera in an error
        :raises InputError: where no image can be read or the camera has another size
        """
        for entry in self._entries:
            image = self._decode(entry)
            if image is not None:
                check_camera(camera, camera_source, image, entry.path.name)
                self._camera = camera
                self._size = image.shape[:2]
                self._size_text = f'{size_text(image)} as in {entry.path.name}'
                return
        raise InputError(
            f'{self.name}: none of its {len(self)} images can be read; the first: '
            f'{self.skipped[0]}'
        )

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
            yield Frame(image, entry.stamp_ns, entry.path.stem, entry.index, self._camera)

    def _decode(self, entry: _Entry) -> NDArray[np.uint8] | None:
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

    def _label(self, entry: _Entry) -> str:
        return str(entry.path.relative_to(self._folder))


def open_image_folder(
    path: str | Path, camera: Camera | None = None, calibrated: bool = True, fps: float = 30.0
) -> ImageFolder:
    """
    Open a folder of images, or a pack with `images/`, `frames.txt` and `camera.json`.

    :param path: folder; each of a pack's three parts is used where present
    :param camera: intrinsics of the images, instead of those in `camera.json`
    :param calibrated: False ignores `camera.json`
    :param fps: rate that gives stamps where there is no `frames.txt`
    :raises InputError: where there is nothing to read or the parts are inconsistent
    """
    check_fps(fps)
    folder = Path(path)
    if not folder.is_dir():
        problem = 'is not a folder' if folder.exists() else 'no such folder'
        raise InputError(f'{folder}: {problem}; expected a folder of images')
    images = folder / 'images' if (folder / 'images').is_dir() else folder
    listing = folder / 'frames.txt'
    if listing.is_file():
        entries = _read_listing(listing, images)
    else:
        entries = _list_images(images, fps)
    camera_source = 'the camera given'
    if camera is None and calibrated and (folder / 'camera.json').is_file():
        camera_source = str(folder / 'camera.json')
        camera = Camera.from_json(folder / 'camera.json')
    sequence = ImageFolder(folder, entries, ToneMap())
    sequence.settle(camera, camera_source)
    return sequence


def _list_images(images: Path, fps: float) -> list[_Entry]:
    """Return the images of a folder in natural order: img2 before img10."""
    try:
        paths = sorted(
            (
                path
                for path in images.iterdir()
                if path.suffix.lower() in SUFFIXES
                and not path.name.startswith('.')
                and path.is_file()
            ),
            key=lambda path: natural_key(path.name),
        )
    except OSError as error:
        raise InputError(f'{images}: {error.strerror}') from None
    if not paths:
        raise InputError(f'{images}: no images; expected files ending in {", ".join(SUFFIXES)}')
    seen: dict[str, Path] = {}
    for path in paths:
        if path.stem in seen:
            raise InputError(
                f'{images}: {seen[path.stem].name} and {path.name} would both be named '
                f'{path.stem} in the results; rename one'
            )
        seen[path.stem] = path
    return [_Entry(path, stamp_at_rate(i, fps), i) for i, path in enumerate(paths)]


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Return a sort key that orders numbers in names by value; ties are broken by the name."""
    parts = re.split(r'([0-9]+)', name.casefold())
    # Every second part is one the pattern matched.
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def _read_listing(listing: Path, images: Path) -> list[_Entry]:
    """Return the images of a `frames.txt`: a line is a stamp in seconds and a file name."""
    try:
        lines = listing.read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f'{listing}: cannot be read: {error}') from None
    entries: list[_Entry] = []
    seen: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields or fields[0].startswith('#'):
            continue
        where = f'{listing} line {number}'
        if len(fields) < 2:
            raise InputError(f'{where}: expected a stamp and an image name, got {line.strip()!r}')
        stamp_ns = _stamp(fields[0], where)
        if entries and stamp_ns <= entries[-1].stamp_ns:
            raise InputError(f'{where}: stamp {fields[0]} is not after the previous image')
        path = images / fields[1]
        if not path.is_file() and (listing.parent / fields[1]).is_file():
            path = listing.parent / fields[1]
        if not path.is_relative_to(listing.parent):
            raise InputError(f'{where}: {fields[1]} lies outside of {listing.parent}')
        if path.stem in seen:
            raise InputError(
                f'{where}: {fields[1]} and {seen[path.stem]} would both be named {path.stem} in '
                'the results; rename one'
            )
        seen[path.stem] = fields[1]
        entries.append(_Entry(path, stamp_ns, len(entries)))
    if not entries:
        raise InputError(f'{listing}: lists no images')
    return entries


def _stamp(text: str, where: str) -> int:
    """Return the integer nanoseconds of a stamp, which must not be negative."""
    try:
        stamp_ns = parse_seconds(text)
    except ValueError as error:
        raise InputError(f'{where}: {error}') from None
    if stamp_ns < 0:
        raise InputError(f'{where}: stamp {text} is negative')
    return stamp_ns
