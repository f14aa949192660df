# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Images of numbers beside a sequence's images: classes, instances, people."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.io.decode import decode_image
from recon3r_ros.slam.types import Frame

_log = logging.getLogger(__name__)


class IdImages:
    """
    A folder of images NAME.png of one channel, of the sizes of the images NAME.

    Not every image needs one; a damaged one is left out, with a warning.

    :param folder: of the images
    :param what: they are, for messages
    :raises InputError: where there is no such folder, or no PNG image in it
    """

    def __init__(self, folder: str | Path, what: str) -> None:
        self._folder = Path(folder)
        self._what = what
        if not self._folder.is_dir():
            raise InputError(f'{folder}: no such folder of {what}')
        self._files = {path.stem: path for path in sorted(self._folder.glob('*.png'))}
        if not self._files:
            raise InputError(f'{folder}: holds no {what} NAME.png')
        self._damaged: set[str] = set()
        self._found = False

    def of(self, frame: Frame) -> NDArray[np.uint16] | None:
        """
        Read the numbers (H, W) of a frame's pixels; None where there are none.

        :raises InputError: for an image of several channels, or of another size than the frame's
        """
        path = self._files.get(frame.name)
        if path is None:
            return None
        self._found = True
        try:
            image = decode_image(path.read_bytes())
        except (InputError, OSError) as error:
            if frame.name not in self._damaged:
                self._damaged.add(frame.name)
                _log.warning('%s: %s; its image is used without %s', path, error, self._what)
            return None
        if image.ndim == 3:
            raise InputError(f'{path}: {self._what} in colours: give an image of one channel, '
                             'whose values are the numbers')
        if image.shape != frame.image.shape[:2]:
            raise InputError(
                f'{path}: {self._what} of {image.shape[1]}x{image.shape[0]} for an image of '
                f"{frame.image.shape[1]}x{frame.image.shape[0]}: give them at the images' size")
        return image.astype(np.uint16)

    def warn_if_unused(self, images: str) -> None:
        """Warn where no file has the name of an image."""
        if not self._found:
            _log.warning('%s: none of the %s has the name of an image of %s; name them as the '
                         'images, with .png', self._folder, self._what, images)
