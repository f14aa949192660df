# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Label images beside a sequence's images, and the names of their classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from recon3r_ros.errors import InputError, OutputError
from recon3r_ros.io.atomic import write_bytes
from recon3r_ros.io.base import Sequence
from recon3r_ros.io.id_images import IdImages
from recon3r_ros.io.masks import Wrapped
from recon3r_ros.slam.semantics import Labels
from recon3r_ros.slam.types import Frame

#: File with the names of classes, in the folder of label images and among the results
NAMES = 'classes.txt'


def read_class_names(path: str | Path) -> tuple[str, ...]:
    """
    Read names of classes: a line each, the first is class 1.

    :raises InputError: naming the file; for more than 255 lines
    """
    try:
        lines = Path(path).read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f'{path}: cannot be read: {error}') from None
    if len(lines) > 255:
        raise InputError(f'{path}: {len(lines)} classes, of which 8 bits hold 255')
    return tuple(line.strip() for line in lines)


def write_class_names(folder: Path, names: Iterable[str]) -> None:
    """
    Write what `read_class_names` reads; without names, remove what earlier results have left.

    :param folder: of the results
    :raises OutputError: naming the file
    """
    lines = [f'{name}\n' for name in names]
    if lines:
        write_bytes(folder / NAMES, ''.join(lines).encode())
        return
    try:
        (folder / NAMES).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f'{folder / NAMES}: cannot be removed: {error.strerror}') from None


class LabelSequence(Wrapped):
    """
    A sequence with label images.

    :param sequence: the images
    :param folder: NAME.png, 8-bit classes, 0 where unknown; and optionally confidence/NAME.png,
        of which 255 is certain, instances/NAME.png, 8 or 16 bits, and classes.txt
    :raises InputError: where there is no such folder, or nothing in it
    """

    def __init__(self, sequence: Sequence, folder: str | Path) -> None:
        super().__init__(sequence)
        folder = Path(folder)
        self._classes = IdImages(folder, 'labels')
        self._confidence = self._optional(folder / 'confidence', 'confidences of labels')
        self._instances = self._optional(folder / 'instances', 'instances')
        self._names = read_class_names(folder / NAMES) if (folder / NAMES).exists() else ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, from 1 on; empty where they are unknown."""
        return self._names

    def __iter__(self) -> Iterator[Frame]:
        """
        Iterate over the frames.

        :raises InputError: for labels that do not fit their image
        """
        for frame in self._sequence:
            labels = self._labels(frame)
            yield frame if labels is None else replace(frame, labels=labels)
        self._classes.warn_if_unused(self.name)

    def _labels(self, frame: Frame) -> Labels | None:
        classes = self._classes.of(frame)
        if classes is None:
            return None
        confidence = None if self._confidence is None else self._confidence.of(frame)
        for what, values in (('label', classes), ('confidence', confidence)):
            if values is not None and values.max(initial=0) > 255:
                raise InputError(f'{what} {values.max()} of the image {frame.name}: give images '
                                 'of 8 bits, with values to 255')
        return Labels(classes.astype(np.uint8),
                      None if confidence is None else np.float32(1 / 255) * confidence.astype(
                          np.float32),
                      None if self._instances is None else self._instances.of(frame))

    @staticmethod
    def _optional(folder: Path, what: str) -> IdImages | None:
        return IdImages(folder, what) if folder.is_dir() else None
