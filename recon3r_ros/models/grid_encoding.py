# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What networks keep of a view: its image on their grid, and its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.models.keypoints import detect_keypoints
from recon3r_ros.models.place import describe_place
from recon3r_ros.models.types import View

Tokens = TypeVar('Tokens')
Own = TypeVar('Own', bound='GridEncoding[Any]')


@dataclass(frozen=True, eq=False)
class GridEncoding(Generic[Tokens]):
    """
    A view on the network's grid, and its tokens.

    :param camera: pinhole camera of the grid
    :param calibrated: whether its intrinsics are known
    :param image: (H, W, 3) uint8 on the grid
    :param keypoints: (K, 2) salient grid pixels
    :param tokens: on the network's device
    """

    camera: Camera
    calibrated: bool
    image: NDArray[np.uint8]
    keypoints: NDArray[np.int32]
    tokens: Tokens

    @classmethod
    def of(cls: type[Own], view: View, tokens: Tokens) -> Own:
        """
        Make the encoding of a view, with its keypoints.

        :param view: on the network's grid, in colour
        """
        gray = cv2.cvtColor(view.image, cv2.COLOR_RGB2GRAY)
        return cls(view.camera, view.calibrated, view.image, detect_keypoints(
            gray, view.camera.width, view.camera.height, view.excluded), tokens)

    @property
    def features(self) -> NDArray[np.float32] | None:
        """Tokens (rows, columns, C) of the patches, for segmentation; None where not needed."""
        return None

    @cached_property
    def descriptor(self) -> NDArray[np.float32]:
        """Global descriptor, for loop closure and relocalisation."""
        return describe_place(cv2.cvtColor(self.image, cv2.COLOR_RGB2GRAY))
