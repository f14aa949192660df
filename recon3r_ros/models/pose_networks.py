# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
MediaPipe's networks of people: a detector, and landmarks with a mask of one body.

Their files (Apache-2.0) are the user's: pose_landmarker_*.task, or pose_detection.tflite and
pose_landmark_*.tflite in a folder or in a wheel of MediaPipe up to 0.10.21.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.models.litert import LiteRtNetwork, tflite_files
from recon3r_ros.models.pose_decoding import (
    crop_to_image,
    cropped,
    decoded,
    Detection,
    DETECTOR,
    landmarks_in_image,
    letterboxed,
    mask_in_image,
)

Floats = NDArray[np.float32]
Network = Callable[[Floats], list[Floats]]

#: Side of the square that landmarks are found in
SIDE = 256
#: Landmarks of a body; the others are auxiliary
LANDMARKS = 33
#: Sizes of the outputs that are used
_VALUES, _SCORES, _POINTS, _PRESENCE, _MASK = 2254 * 12, 2254, 195, 1, SIDE * SIDE


@dataclass(frozen=True, eq=False)
class Body:
    """
    A body in an image.

    :param detection: that it was looked for at
    :param presence: probability that there is one
    :param mask: (H, W) probability of its pixels
    :param landmarks: (33, 3) column, row, and probability of being visible
    """

    detection: Detection
    presence: float
    mask: Floats
    landmarks: Floats


class PoseNetworks:
    """
    Both networks.

    :param detector: takes (1, 224, 224, 3), gives (1, 2254, 12) and (1, 2254, 1), in any order
    :param landmarks: takes (1, 256, 256, 3), gives (1, 195), (1, 1), (1, 256, 256, 1) and others
    """

    def __init__(self, detector: Network, landmarks: Network) -> None:
        self._detector = detector
        self._landmarks = landmarks

    @classmethod
    def open(cls, path: str | Path) -> PoseNetworks:
        """
        Load the networks, which are told by their inputs and outputs.

        :param path: a .task file, a folder of .tflite files, or a wheel; of several networks of
            landmarks the largest is taken
        :raises InputError: where one is missing, or cannot be read
        :raises Recon3rError: where LiteRT is not installed
        """
        detector = landmarks = None
        for name, content in tflite_files(path):
            network = LiteRtNetwork(content, name)
            sizes = {int(np.prod(shape)) for shape in network.outputs}
            if network.inputs == [(1, DETECTOR, DETECTOR, 3)] and {_VALUES, _SCORES} <= sizes:
                detector = detector or network
            elif (network.inputs == [(1, SIDE, SIDE, 3)]
                  and {_POINTS, _PRESENCE, _MASK} <= sizes):
                landmarks = landmarks or network
            if detector is not None and landmarks is not None:
                return cls(detector, landmarks)
        missing = ' and '.join(what for what, network in (
            ('detector of people (pose_detection.tflite)', detector),
            ('landmarks of a body (pose_landmark_full.tflite)', landmarks)) if network is None)
        raise InputError(f'{path}: holds no {missing}: give pose_landmarker_full.task of '
                         'MediaPipe, or a folder with both .tflite files')

    def detections(self, image: NDArray[np.uint8], least: float) -> list[Detection]:
        """
        Detect bodies.

        :param image: (H, W, 3) RGB
        :param least: score that a detection needs
        :return: the best first
        """
        square, to_image = letterboxed(image)
        found = _by_size(self._detector(square))
        return decoded(found[_VALUES].reshape(-1, 12), found[_SCORES].ravel(), to_image, least)

    def body(self, image: NDArray[np.uint8], detection: Detection) -> Body:
        """
        Find the mask and the landmarks of a body.

        :param image: (H, W, 3) RGB
        """
        to_image = crop_to_image(detection, SIDE)
        found = _by_size(self._landmarks(cropped(image, to_image, SIDE)))
        return Body(
            detection, float(found[_PRESENCE].ravel()[0]),
            mask_in_image(found[_MASK].reshape(SIDE, SIDE), to_image, image.shape[:2]),
            landmarks_in_image(found[_POINTS].ravel(), to_image, LANDMARKS))


def _by_size(outputs: list[Floats]) -> dict[int, Floats]:
    return {int(one.size): one for one in outputs}
