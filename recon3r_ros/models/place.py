# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Global descriptor of an image, without training."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_FEATURES, _TABLES, _BITS = 600, 8, 10


def describe_place(gray: NDArray[np.uint8]) -> NDArray[np.float32]:
    """
    Bag of visual words (D,), unit length, without a trained vocabulary.

    Words are random selections of the bits of ORB descriptors (Rublee et al., ICCV 2011), that is
    locality-sensitive hashes of them (Indyk and Motwani, STOC 1998), counted in several tables.

    :param gray: (H, W)
    """
    orb = cv2.ORB_create(_FEATURES, scaleFactor=1.3, nlevels=6, fastThreshold=10)
    _, packed = orb.detectAndCompute(gray, None)
    words = np.zeros((_TABLES, 1 << _BITS), np.float32)
    if packed is not None:
        bits = np.unpackbits(packed, axis=1)
        chosen = np.random.default_rng(0).permutation(256)[:_TABLES * _BITS]
        for table, columns in zip(words, chosen.reshape(_TABLES, _BITS)):
            index = bits[:, columns] @ (1 << np.arange(_BITS))
            table += np.bincount(index, minlength=len(table))
    bag: NDArray[np.float32] = np.sqrt(words).ravel()
    return bag / max(float(np.linalg.norm(bag)), 1e-6)
