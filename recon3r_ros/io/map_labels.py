# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The label images of keyframes in a map file; files without any, as older ones are, have none.

`labels` in `info` has the names of classes, and whether frames had the labels. `label_ids` are the
keyframes that have a label image, `label_fields` tells which of them have confidences and
instances; images are KEYFRAME/classes, KEYFRAME/label_confidence and KEYFRAME/instances.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.io.array_file import ArrayFile
from recon3r_ros.slam.saved_map import SavedLabels
from recon3r_ros.slam.semantics import Labels
from recon3r_ros.slam.types import Keyframe

#: Most names of classes: those that 8 bits hold
MOST_NAMES = 255


def packed_info(saved: SavedLabels | None) -> dict[str, Any] | None:
    """Return the part of `info` about labels."""
    return None if saved is None else {'given': bool(saved.given), 'names': list(saved.names)}


def packed_labels(saved: SavedLabels | None) -> list[tuple[str, NDArray[Any], bool]]:
    """List the arrays of label images: name, content, whether to compress it."""
    if saved is None:
        return []
    fields = [(v.confidence is not None, v.instances is not None) for v in saved.images.values()]
    out = [('label_ids', np.array(list(saved.images), '<i8'), False),
           ('label_fields', np.array(fields, '?').reshape(-1, 2), False)]
    for i, image in saved.images.items():
        for name, array, kind in (('classes', image.classes, 'u1'),
                                  ('label_confidence', image.confidence, '<f4'),
                                  ('instances', image.instances, '<u2')):
            if array is not None:
                out.append((f'{i}/{name}', array.astype(kind, casting='safe', copy=False), True))
    return out


def unpacked_labels(file: ArrayFile, info: object, keyframes: Mapping[int, Keyframe]
                    ) -> SavedLabels | None:
    """
    Read the label images of keyframes; None in a map without.

    :param info: the part of the file's `info` about labels
    :raises InputError: the error does not name the file
    """
    if info is None:
        return None
    if not isinstance(info, dict) or not isinstance(info.get('given'), bool) or not isinstance(
            info.get('names'), list):
        raise InputError(f'labels in info are {str(info)[:60]!r}, expected given and names')
    ids = file.read('label_ids', '<i8', (None,)).tolist()
    fields = file.read('label_fields', '?', (len(ids), 2)).tolist()
    images = {}
    for i, (has_confidence, has_instances) in zip(ids, fields):
        if i not in keyframes or i in images:
            raise InputError(f'labels are of keyframe {i}, which is none, or has two')
        camera = keyframes[i].camera
        shape = (camera.height, camera.width)
        images[i] = Labels(
            file.read(f'{i}/classes', 'u1', shape),
            file.read(f'{i}/label_confidence', '<f4', shape) if has_confidence else None,
            file.read(f'{i}/instances', '<u2', shape) if has_instances else None)
    return SavedLabels(images, tuple(info['names']), info['given'])


def check_labels(saved: SavedLabels, keyframes: Mapping[int, Keyframe]) -> None:
    """
    Check label images that are saved or have been loaded.

    :raises InputError: the error does not name the file
    """
    names = saved.names
    if len(names) > MOST_NAMES or not all(
            isinstance(name, str) and _is_line(name) for name in names):
        raise InputError(f'names of classes are not {MOST_NAMES} lines of text at most')
    for i, image in saved.images.items():
        if i not in keyframes:
            raise InputError(f'labels are of keyframe {i}, which is none')
        camera = keyframes[i].camera
        if image.classes.shape != (camera.height, camera.width):
            raise InputError(f'labels of keyframe {i} have shape {image.classes.shape}, expected '
                             f'{(camera.height, camera.width)}')
        # Not `any(values < 0)`: that lets NaN pass
        sure = image.confidence
        if sure is not None and not ((sure >= 0) & (sure <= 1)).all():
            raise InputError(f'confidence of labels of keyframe {i}: a value is not in 0 to 1')


def _is_line(name: str) -> bool:
    """Whether classes.txt can hold a name."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return '\0' not in name and len(name.splitlines()) <= 1 and not name.endswith(('\n', '\r'))
