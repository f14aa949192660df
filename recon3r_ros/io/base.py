# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Interface of all image sequences."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
import logging
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.geometry.calibration_checks import unusual
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.calibrations import Calibration
from recon3r_ros.io.prefetch import prefetch
from recon3r_ros.slam.types import Frame

logger = logging.getLogger(__name__)

_NAMED = 3


class Sequence(Protocol):
    """
    Images in the order of their stamps; may be iterated more than once.

    `name` is the source of the images, for reports. `skipped` holds one line for every unusable
    image, `image: cause`; it grows while the sequence is iterated. `notes` are warnings that have
    been logged.
    """

    @property
    def name(self) -> str: ...

    @property
    def skipped(self) -> list[str]: ...

    @property
    def notes(self) -> list[str]: ...

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes of its label images, empty where unknown; None without labels."""
        ...

    def __len__(self) -> int:
        """Return the number of images expected, skipped ones included."""
        ...

    def __iter__(self) -> Iterator[Frame]: ...

    def file_name(self, frame: Frame) -> str:
        """Return the name of the image file of a frame, for a COLMAP model."""
        ...

    def original(self, frame: Frame) -> Frame:
        """Return a frame with its index and stamp in the input, which may have another order."""
        ...


class PrefetchedSequence(ABC):
    """
    Base of the sequences, with prefetching.

    :param name: source of the images
    """

    def __init__(self, name: str) -> None:
        """Begin with nothing skipped."""
        self.name = name
        self.skipped: list[str] = []
        self.notes: list[str] = []
        self.class_names: tuple[str, ...] | None = None
        self._known: set[str] = set()
        self._logged = 0

    def __iter__(self) -> Iterator[Frame]:
        """Iterate over the frames, decoded one thread ahead; log at the end what was skipped."""
        try:
            yield from prefetch(self._frames())
        finally:
            for line in causes(self.skipped[self._logged :]):
                logger.warning('skipped %s', line)
            self._logged = len(self.skipped)

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of images expected, skipped ones included."""

    @abstractmethod
    def _frames(self) -> Generator[Frame, None, None]:
        """Decode the frames in order; runs in the prefetching thread."""

    def file_name(self, frame: Frame) -> str:
        """Return the name of the image file of a frame, for a COLMAP model."""
        return f'{frame.name}.png'

    def original(self, frame: Frame) -> Frame:
        """Return a frame with its index and stamp in the input."""
        return frame

    def note(self, text: str) -> None:
        """Log a warning, which the report gets as well."""
        self.notes.append(text)
        logger.warning('%s', text)

    def _skip(self, reason: str) -> None:
        """
        Record one unusable image; only once if the sequence is iterated again.

        :param reason: `image: cause`
        """
        if reason not in self._known:
            self._known.add(reason)
            self.skipped.append(reason)


def causes(skipped: list[str]) -> list[str]:
    """
    Return a line for each cause, with the number of images and the names of the first.

    :param skipped: a line for each image, `image: cause`
    """
    images: dict[str, list[str]] = {}
    for reason in skipped:
        image, _, cause = reason.partition(': ')
        images.setdefault(cause, []).append(image)
    return [
        f'{names[0]}: {cause}' if len(names) == 1 else
        f'{len(names)} images ({", ".join(names[:_NAMED])}{", ..." * (len(names) > _NAMED)}): '
        f'{cause}'
        for cause, names in images.items()
    ]


def size_text(image: NDArray[np.generic]) -> str:
    """Return 'WIDTHxHEIGHT' of an image (H, W) or (H, W, 3)."""
    return f'{image.shape[1]}x{image.shape[0]}'


def fitted(given: Camera | Calibration | None, source: str, image: NDArray[np.generic],
           image_name: str, note: Callable[[str], None]) -> Camera | None:
    """
    Return the camera of images of a size.

    :param given: the intrinsics; of another resolution they are scaled
    :param source: name of the intrinsics: their file or topic
    :param image: first image (H, W) or (H, W, 3)
    :param image_name: name of the image
    :param note: takes what is unusual about the intrinsics, line by line
    :raises InputError: where the intrinsics are for images of another aspect
    """
    if given is None:
        return None
    height, width = image.shape[:2]
    if isinstance(given, Calibration):
        source = given.source
        if given.note:
            note(f'{source}: {given.note}')
        given = given.camera((width, height))
    camera = given.scaled_to(width, height)
    if camera is None:
        raise InputError(
            f'{source} is for images of {given.width}x{given.height} pixels, but {image_name} '
            f'has {size_text(image)}: give a camera file made for this size, or run uncalibrated')
    if camera is not given:
        note(f'{source} is for images of {given.width}x{given.height} pixels and is scaled to '
             f'{size_text(image)}')
    for line in unusual(camera):
        note(f'{source}: {line}')
    return camera


def check_fps(fps: float) -> None:
    """Raise InputError unless the rate is a positive, finite number of images a second."""
    if not 0.0 < fps < 1e6:
        raise InputError(f'fps is {fps}: expected a positive number of images a second')
