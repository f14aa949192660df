# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Measured depth beside a sequence's images: 16-bit images of a depth camera."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.io.decode import decode_image
from recon3r_ros.io.listing import Entry

_log = logging.getLogger(__name__)

#: Values of a metre: in millimetres, and in the files of TUM RGB-D
MILLIMETRES, TUM_RGBD = 1000.0, 5000.0
#: Longest time between an image and its depth, as the tools of TUM RGB-D associate them
MAX_DIFFERENCE_NS = 20_000_000


class DepthImages:
    """
    Depth images, registered to the images of a sequence; not every image needs one.

    :param folder: of the depth images, for messages
    :param files: by the name of the image
    :param per_metre: what a metre is in the files; 0 is unknown
    """

    def __init__(self, folder: Path, files: Mapping[str, Path], per_metre: float) -> None:
        self._folder = folder
        self._files = dict(files)
        self._per_metre = per_metre
        self._damaged: set[str] = set()

    @classmethod
    def named(cls, folder: str | Path) -> DepthImages:
        """
        Find NAME.png of the images NAME, millimetres.

        :raises InputError: where there is no such folder, or no PNG image in it
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(f'{folder}: no such folder of depth images')
        files = {path.stem: path for path in sorted(folder.glob('*.png'))}
        if not files:
            raise InputError(f'{folder}: holds no depth image NAME.png')
        return cls(folder, files, MILLIMETRES)

    @classmethod
    def by_stamps(cls, images: Sequence[Entry], depths: Sequence[Entry]) -> DepthImages:
        """
        Associate each image of TUM RGB-D with the depth nearest in time, within 20 ms.

        :param depths: at least one; files that are missing are left out
        """
        stamps = np.array([depth.stamp_ns for depth in depths])
        files: dict[str, Path] = {}
        for image in images:
            nearest = int(np.argmin(np.abs(stamps - image.stamp_ns)))
            if (abs(depths[nearest].stamp_ns - image.stamp_ns) <= MAX_DIFFERENCE_NS
                    and depths[nearest].path.is_file()):
                files[image.path.stem] = depths[nearest].path
        return cls(depths[0].path.parent, files, TUM_RGBD)

    def check(self, names: Sequence[str]) -> None:
        """Warn where no depth image belongs to one of the images of these names."""
        if not self._files.keys() & set(names):
            _log.warning('%s: no depth image belongs to an image; name them as the images, with '
                         '.png', self._folder)

    def of(self, name: str) -> NDArray[np.float32] | None:
        """
        Read the depth (H, W) of an image, metres, NaN where unknown, if there is a readable one.

        :raises InputError: where it is not an image of one 16-bit channel
        """
        path = self._files.get(name)
        if path is None:
            return None
        try:
            image = decode_image(path.read_bytes())
        except (InputError, OSError) as error:
            if name not in self._damaged:
                self._damaged.add(name)
                _log.warning('%s: %s; its image is used without depth', path, error)
            return None
        if image.dtype != np.uint16 or image.ndim != 2:
            raise InputError(f'{path}: has {image.dtype} samples in '
                             f'{1 if image.ndim == 2 else image.shape[2]} channels: expected '
                             'depth as 16-bit grey values')
        depth = image.astype(np.float32) / np.float32(self._per_metre)
        depth[image == 0] = np.nan
        return depth
