# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The user's dynamic masks, beside a sequence's images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.io.base import Sequence, size_text
from recon3r_ros.io.decode import decode_image
from recon3r_ros.slam.types import Frame

_log = logging.getLogger(__name__)


#: Value of the pixels of a mask of which nothing is known: neither static, 0, nor dynamic, 255
UNKNOWN = 127


def read_static_mask(path: str | Path) -> NDArray[np.bool_]:
    """
    Read the mask (H, W) of what is fixed to a camera: white, or anything but 0.

    :param path: image file of the size of the camera's images
    :raises InputError: naming the file
    """
    try:
        image = decode_image(Path(path).read_bytes())
    except FileNotFoundError:
        raise InputError(f'{path}: no such mask') from None
    except (InputError, OSError) as error:
        raise InputError(f'{path}: {error}') from error
    mask = image != 0
    return np.asarray(mask.any(-1) if mask.ndim == 3 else mask)


def check_static_mask(path: str | Path, mask: NDArray[np.bool_], image: NDArray[np.uint8]) -> None:
    """Raise InputError where a mask is not of the size of an image (H, W) or (H, W, 3)."""
    if mask.shape != image.shape[:2]:
        raise InputError(f'{path}: mask of {size_text(mask)} for images of {size_text(image)}: '
                         "give a mask of the images' size")


class Wrapped:
    """A sequence that adds something to the frames of another."""

    def __init__(self, sequence: Sequence) -> None:
        self._sequence = sequence

    @property
    def name(self) -> str:
        """Source of the images."""
        return self._sequence.name

    @property
    def skipped(self) -> list[str]:
        """Unusable images."""
        return self._sequence.skipped

    @property
    def notes(self) -> list[str]:
        """Warnings that have been logged."""
        return self._sequence.notes

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes of its label images."""
        return self._sequence.class_names

    def __len__(self) -> int:
        """Return the number of images expected, skipped ones included."""
        return len(self._sequence)

    def file_name(self, frame: Frame) -> str:
        """Return the name of the image file of a frame, for a COLMAP model."""
        return self._sequence.file_name(frame)

    def original(self, frame: Frame) -> Frame:
        """Return a frame with its index and stamp in the input."""
        return self._sequence.original(frame)


class StaticMaskSequence(Wrapped):
    """
    A sequence with one mask of what is fixed to its camera.

    :param sequence: the images
    :param path: of the mask, see `read_static_mask`
    """

    def __init__(self, sequence: Sequence, path: str | Path) -> None:
        super().__init__(sequence)
        self._path = path
        self._mask = read_static_mask(path)

    def __iter__(self) -> Iterator[Frame]:
        """
        Iterate over the frames.

        :raises InputError: where the mask is not of the images' size
        """
        for frame in self._sequence:
            check_static_mask(self._path, self._mask, frame.image)
            yield replace(frame, static_mask=self._mask)


class MaskedSequence(Wrapped):
    """
    A sequence with the user's dynamic masks.

    :param sequence: the images
    :param folder: masks NAME.png of the images' sizes, dynamic where neither 0 nor UNKNOWN;
        they may be missing for some images
    :raises InputError: where there is no such folder, or no mask in it
    """

    def __init__(self, sequence: Sequence, folder: str | Path) -> None:
        super().__init__(sequence)
        self._folder = Path(folder)
        if not self._folder.is_dir():
            raise InputError(f'{folder}: no such folder of masks')
        self._files = {path.stem: path for path in sorted(self._folder.glob('*.png'))}
        if not self._files:
            raise InputError(f'{folder}: holds no mask NAME.png')
        self._damaged: set[str] = set()

    def __iter__(self) -> Iterator[Frame]:
        """
        Iterate over the frames.

        :raises InputError: for a mask of another size than its image
        """
        masked = False
        for frame in self._sequence:
            mask = self._mask(frame)
            masked |= mask is not None
            yield frame if mask is None else replace(frame, mask=mask)
        if not masked and not self._damaged:
            _log.warning('%s: no mask has the name of an image of %s; name them as the images, '
                         'with .png', self._folder, self.name)

    def _mask(self, frame: Frame) -> NDArray[np.bool_] | None:
        """Read the mask (H, W) of a frame, if there is a readable one."""
        path = self._files.get(frame.name)
        if path is None:
            return None
        try:
            image = decode_image(path.read_bytes())
        except (InputError, OSError) as error:
            if frame.name not in self._damaged:
                self._damaged.add(frame.name)
                _log.warning('%s: %s; its image is used without a mask', path, error)
            return None
        if image.shape[:2] != frame.image.shape[:2]:
            raise InputError(
                f'{path}: mask of {image.shape[1]}x{image.shape[0]} for an image of '
                f"{frame.image.shape[1]}x{frame.image.shape[0]}: give masks of the images' size")
        moving = (image != 0) & (image != UNKNOWN)
        return np.asarray(moving.any(-1) if moving.ndim == 3 else moving)
