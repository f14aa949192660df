# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Depth of frames that are no keyframes, kept in files until the scale is final."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.slam.types import depth_of, Keyframe, Map, TrackedFrame

Values = NDArray[np.float32]


@dataclass(frozen=True)
class _Kept:
    """
    A frame's file.

    :param keyframe: that its pose is relative to
    :param scale: of that keyframe when it was written (`Map.scale_of`)
    """

    path: Path
    keyframe: int
    scale: float


class FrameDepths:
    """Depth of frames by `track_with_model`, in a folder that is deleted at the end."""

    def __init__(self) -> None:
        self._folder: TemporaryDirectory[str] | None = None
        self._kept: dict[str, _Kept] = {}

    def add(self, view: Keyframe, frame: TrackedFrame) -> None:
        """
        Keep the depth of a frame.

        :param view: with its depth, map units
        :param frame: the same, with its pose
        """
        if self._folder is None:
            self._folder = TemporaryDirectory(prefix='recon3r-frame-depths-')
        path = Path(self._folder.name) / f'{len(self._kept)}.npy'
        np.save(path, np.stack([view.inverse_depth, view.confidence]))
        self._kept[frame.name] = _Kept(path, frame.keyframe, frame.scale)

    def final(self, frames: Iterable[TrackedFrame], known: Map
              ) -> Iterator[tuple[str, Values, Values]]:
        """
        Iterate over depths in the present scale.

        :param frames: of the map; those that are keyframes have their depth in the map
        :param known: the map
        :return: name, depth (H, W) in map units, NaN where unknown, and confidence (H, W)
        """
        keyframes = {k.name for k in known.keyframes.values()}
        for frame in frames:
            kept = self._kept.get(frame.name)
            if kept is None or frame.name in keyframes or kept.keyframe not in known.keyframes:
                continue  # beside a keyframe that was culled, the scale is not known
            inverse, confidence = np.load(kept.path)
            factor = np.float32(known.scale_of(kept.keyframe) / kept.scale)
            yield frame.name, depth_of(inverse) * factor, confidence
