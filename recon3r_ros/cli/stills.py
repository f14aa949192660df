# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Stills whose names do not follow the camera's way, for `recon3r run`."""

from __future__ import annotations

from itertools import islice

from recon3r_ros.io.image_folder import ImageFolder
from recon3r_ros.slam.image_order import descriptor, has_order, in_good_order, SAMPLE

#: Images up to which an order is sought: they are all read before the first one is processed
MAX_IMAGES = 1000


def ordered(sequence: ImageFolder) -> ImageFolder:
    """Return the images in an order in which each follows a similar one, if they have none."""
    if len(sequence) > MAX_IMAGES:
        return sequence
    if has_order([frame.image for frame in islice(sequence, SAMPLE)]):
        return sequence
    images = {frame.index: descriptor(frame.image) for frame in sequence}
    indices = list(images)
    return sequence.rearranged([indices[n] for n in in_good_order(list(images.values()))])
