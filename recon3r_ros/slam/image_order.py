# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Images without order: whether a set of stills has one, and a good one for those that have none.

Tracking and local mapping take each image for a neighbour of the one before. Photographs whose
names do not follow the camera's way are put into such an order first: along the maximum spanning
tree of their similarities (Prim, 1957), so that each image comes by its strongest link to those
before it, and the images of one place come together.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.models.place import describe_place
from recon3r_ros.slam.frontend.cuts import similarity
from recon3r_ros.slam.frontend.thumbnails import thumbnail

Array = NDArray[np.float64]
Descriptor = NDArray[np.float32]

#: Images at the beginning that tell whether there is an order: where there is none, hardly any of
#: so many follows a neighbour
SAMPLE = 20
#: Similarity of the thumbnails of two images in a row from which one is tracked from the other,
#: whatever the order. In videos it is 0.8 to 1; images of one scene in random order reach 0.75
TRACKABLE = 0.85
#: Similarity of images in a row, of that to their neighbours in the tree: 0.8 to 1 in videos and
#: in stills along a path, 0.4 at most in random order
MIN_SHARE = 0.6
#: Pixels of an image that is described
PIXELS = 640 * 480


def descriptor(image: NDArray[np.uint8]) -> Descriptor:
    """
    Describe an image (H, W) or (H, W, 3).

    :return: (D,), unit length
    """
    return describe_place(_small(image))


def has_order(first: Sequence[NDArray[np.uint8]]) -> bool:
    """
    Whether images follow each other, as in a video or along a camera's path.

    :param first: the first ones, (H, W) or (H, W, 3), up to `SAMPLE`
    """
    if len(first) < 3:
        return True
    small = [_small(image) for image in first]
    thumbnails = [thumbnail(gray) for gray in small]
    if np.median(list(map(similarity, thumbnails, thumbnails[1:]))) >= TRACKABLE:
        return True
    likeness = _likeness([describe_place(gray) for gray in small])
    usual = float(np.median(likeness[np.triu_indices(len(first), 1)]))
    row = float(np.mean(np.diag(likeness, 1)))
    _, links = _spanning_tree(likeness)
    return row - usual >= MIN_SHARE * (float(np.mean(links)) - usual)


def in_good_order(images: Sequence[Descriptor]) -> list[int]:
    """
    Begin with the two most similar images, and go on with the one most similar to any before.

    :param images: their descriptors
    :return: their indices
    """
    return _spanning_tree(_likeness(images))[0] if len(images) > 1 else list(range(len(images)))


def _small(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image in grey, with `PIXELS` at most."""
    gray = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    scale = (PIXELS / gray.size) ** 0.5
    return gray if scale >= 1 else cv2.resize(
        gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _likeness(images: Sequence[Descriptor]) -> Array:
    """Similarity (N, N) of images by their descriptors, 1 for equal ones."""
    descriptors = np.stack(images).astype(float)
    return descriptors @ descriptors.T


def _spanning_tree(likeness: Array) -> tuple[list[int], list[float]]:
    """
    Grow the maximum spanning tree from its strongest link.

    :param likeness: (N, N)
    :return: nodes in the order in which they are reached, and the N - 1 links
    """
    count = len(likeness)
    first = int(np.argmax(np.where(np.eye(count, dtype=bool), -np.inf, likeness))) // count
    order, links = [first], []
    to_tree = likeness[first].copy()
    while len(order) < count:
        to_tree[order] = -np.inf
        nearest = int(np.argmax(to_tree))
        order.append(nearest)
        links.append(float(to_tree[nearest]))
        to_tree = np.maximum(to_tree, likeness[nearest])
    return order, links
