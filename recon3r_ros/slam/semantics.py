# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What sources other than geometry know of an image's pixels: people, and classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class People:
    """
    The people in an image.

    :param instances: (H, W) uint16, at the image's size: 0 nobody, other values a person each
    :param scores: from the values of `instances` to [0, 1]; a person without one counts as sure
    :param keypoints: from the values of `instances` to (K, 3): column, row, and the probability
        that the point is visible; empty where the source has none
    """

    instances: NDArray[np.uint16]
    scores: dict[int, float] = field(default_factory=dict)
    keypoints: dict[int, NDArray[np.float32]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.instances.ndim != 2 or self.instances.dtype != np.uint16:
            raise ValueError(f'instances: got {self.instances.dtype} of shape '
                             f'{self.instances.shape}, expected uint16 (H, W)')

    @property
    def ids(self) -> list[int]:
        """The values of `instances`, nobody's excluded."""
        found: list[int] = np.flatnonzero(np.bincount(self.instances.ravel())).tolist()
        return [i for i in found if i > 0]


@dataclass(frozen=True, eq=False)
class Labels:
    """
    Classes of the pixels of an image.

    :param classes: (H, W) uint8; 0 where unknown
    :param confidence: (H, W) float32 in [0, 1]; None: the same everywhere
    :param instances: (H, W) uint16 objects of this image, 0 where unknown; None where the source
        has none
    """

    classes: NDArray[np.uint8]
    confidence: NDArray[np.float32] | None = None
    instances: NDArray[np.uint16] | None = None

    def __post_init__(self) -> None:
        wanted = (('classes', self.classes, np.uint8), ('confidence', self.confidence, np.float32),
                  ('instances', self.instances, np.uint16))
        for name, values, kind in wanted:
            if values is not None and (values.dtype != kind or values.ndim != 2
                                       or values.shape != self.classes.shape):
                raise ValueError(f'{name}: got {values.dtype} of shape {values.shape}, expected '
                                 f'{np.dtype(kind)} {self.classes.shape[:2]}')

    def mapped(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Labels:
        """Apply a change of the grid to all fields; it keeps their types."""
        return Labels(change(self.classes),
                      None if self.confidence is None else change(self.confidence),
                      None if self.instances is None else change(self.instances))
