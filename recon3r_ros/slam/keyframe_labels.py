# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The label images of keyframes: of their frames, or by the network that predicted them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping

import cv2
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.slam.frontend.rectification import Rectifier
from recon3r_ros.slam.products.labels import LabelledView
from recon3r_ros.slam.semantics import Labels
from recon3r_ros.slam.types import Frame, Keyframe, Map

#: Frames whose label images wait at most until they become keyframes
WAITING = 150
#: Label images are kept at this share of the tracking image's size: that of a keyframe's grid
SHARE = 0.5


class KeyframeLabels:
    """
    Keeps the label images of frames that may become keyframes, and those of keyframes.

    A network's classes have other numbers: they count only as long as no frame has had labels.
    One thread calls `note` and `update`; others may read `views`.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[tuple[str, int], Labels] = OrderedDict()
        self._kept: dict[int, Labels] = {}
        #: Whether frames have had labels
        self.given = False

    def note(self, frame: Frame, lens: Rectifier | None) -> None:
        """Keep the label image of a frame, where it has one and its camera is known."""
        if frame.labels is None or lens is None:
            return
        if not self.given:
            self.given, self._kept = True, {}
        size = _size(lens.tracking_camera)
        self._waiting[frame.camera_name, frame.stamp_ns] = frame.labels.mapped(
            lambda field: lens.field_from_source(field, size))
        while len(self._waiting) > WAITING:
            self._waiting.popitem(last=False)

    def update(self, maps: Iterable[Map]) -> None:
        """
        Take over the label images of frames that have become keyframes, or those of a network.

        :param maps: all that there are: those of other keyframes are dropped
        """
        kept = {}
        for known in maps:
            for i, keyframe in known.keyframes.items():
                waiting = self._waiting.get((keyframe.camera_name, keyframe.stamp_ns))
                if i in self._kept:
                    kept[i] = self._kept[i]
                elif waiting is not None:
                    kept[i] = _on_grid(waiting, keyframe)
                elif keyframe.labels is not None and not self.given:
                    own = keyframe.labels
                    kept[i] = Labels(own.classes, own.confidence, own.instances)
        self._kept = kept  # replaced, never changed: another thread may be reading it

    def views(self, known: Map) -> Mapping[int, LabelledView]:
        """Return the label images of a map's keyframes, by keyframe."""
        kept = self._kept
        return {i: LabelledView(keyframe, kept[i])
                for i, keyframe in known.keyframes.items() if i in kept}


def _size(camera: Camera) -> tuple[int, int]:
    """Return rows and columns of a label image that waits."""
    return round(camera.height * SHARE), round(camera.width * SHARE)


def _on_grid(labels: Labels, keyframe: Keyframe) -> Labels:
    """Resize a label image of the rectified view to a keyframe's grid."""
    size = keyframe.camera.width, keyframe.camera.height
    return labels.mapped(lambda field: cv2.resize(
        field, size, interpolation=cv2.INTER_NEAREST_EXACT))
