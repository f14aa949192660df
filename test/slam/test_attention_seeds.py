# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Attention of keyframes in the masks of the frames between them, through the whole pipeline.

A toy predictor pays attention to a thing of one colour, which stands still: flow cannot tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import pixel_grid
from recon3r_ros.models.geometric import GeometricPredictor
from recon3r_ros.models.geometric_encoding import GeometricEncoding
from recon3r_ros.models.types import MapPrior, PairAttention, Prediction, View
from recon3r_ros.slam.keyframe_lag import KeyframeLag
from recon3r_ros.slam.options import FrontendOptions
from recon3r_ros.slam.system import System
from recon3r_ros.slam.types import Frame
from simulated import as_frame, render, still_scene

Mask = NDArray[np.bool_]
SCENE = still_scene(3, 90)
COLOUR = (200, 60, 60)
#: Where the thing's middle is seen: frame, column and row; and its radius over its distance
SEEN, COLUMN, ROW, RADIUS = 25, 160, 110, 0.225
#: Tokens of the network
ROWS, COLUMNS = 15, 20


def shown(index: int) -> Mask:
    """Mask (H, W) of the thing in a frame."""
    camera, first, frame = SCENE.camera, render(SCENE, SEEN), render(SCENE, index)
    distance = first.depth[ROW, COLUMN]
    middle = se3.transform(
        first.T_world_cam, camera.unproject(np.array([[COLUMN, ROW]], float)) * distance)
    points = camera.unproject(pixel_grid(camera.height, camera.width)) * frame.depth[..., None]
    points = se3.transform(frame.T_world_cam, points.reshape(-1, 3)).reshape(points.shape)
    return np.asarray(np.linalg.norm(points - middle, axis=-1) < RADIUS * distance)


def painted(index: int) -> Frame:
    """Take a frame of the scene with the thing."""
    frame = as_frame(SCENE, index)
    image = frame.image.copy()
    image[shown(index)] = COLOUR
    return replace(frame, image=image)


class Encoding(GeometricEncoding):
    """A view with features of its tokens."""

    @property
    def tokens(self) -> Mask:
        """Tokens (rows, columns) of the thing."""
        coloured = (self.view.image == COLOUR).all(-1).astype(np.float32)
        return np.asarray(cv2.resize(
            coloured, (COLUMNS, ROWS), interpolation=cv2.INTER_AREA) > 0.5)

    @property
    def features(self) -> NDArray[np.float32]:  # type: ignore[override]
        """Return features (rows, columns, 8)."""
        out = np.random.default_rng(0).normal(0, 0.1, (ROWS, COLUMNS, 8)).astype(np.float32)
        out[..., 0] += 5 * self.tokens
        return out


class Attentive(GeometricPredictor):
    """
    The geometric predictor with statistics made up, as Easi3R's section 3.2 describes them.

    :param attends: whether there are any
    """

    def __init__(self, attends: bool) -> None:
        super().__init__()
        self._attends = attends
        self._rng = np.random.default_rng(7)

    def encode(self, view: View) -> GeometricEncoding:
        """Prepare a view."""
        return Encoding.of(view)

    def predict(self, groups: Sequence[tuple[GeometricEncoding, ...]],
                moving: Sequence[tuple[Mask, ...]] | None = None,
                priors: Sequence[tuple[MapPrior | None, ...]] | None = None
                ) -> list[Prediction]:
        """Add attention to the predictions of pairs."""
        predictions = super().predict(groups, moving, priors)
        if not self._attends:
            return predictions
        return [replace(p, attention=PairAttention(
            self._statistics(first, 1.5, 0.1), self._statistics(second, -1.5, 0.8)))
            for p, (first, second) in zip(predictions, groups)]

    def _statistics(self, encoding: GeometricEncoding, level: float, spread: float
                    ) -> NDArray[np.float16]:
        assert isinstance(encoding, Encoding)
        still = self._rng.normal(0.0, 0.25, (ROWS, COLUMNS, 24))
        own = level + spread * self._rng.normal(0.0, 1.0, 24) + 0.5 * still
        return np.where(encoding.tokens[..., None], own, still).astype(np.float16)


def run(attends: bool) -> tuple[System, dict[int, Mask], int | None]:
    """
    Feed every other frame; a keyframe is finished some frames after its own.

    :return: the system, masks of all frames, and the frame in which the first keyframe with
        attention was taken over
    """
    system = System(Attentive(attends), lag=KeyframeLag(),
                    options=FrontendOptions(keyframe_overlap=0.9))
    masks, taken_over = {}, None
    for index in range(0, 58, 2):
        update = system.add(painted(index))
        masks |= {f.index: f.mask for f in update.frames if f.mask is not None}
        if update.keyframe is not None and update.keyframe.attention is not None:
            taken_over = taken_over or index
    return system, masks, taken_over


def test_attention_of_a_keyframe_masks_frames_after_it() -> None:
    system, masks, taken_over = run(attends=True)
    attended = [k for k in system.map.keyframes.values() if k.attention is not None]
    assert [k.id for k in attended] == [3], 'the first one with two partners'
    assert taken_over is not None and taken_over > attended[0].index, 'it took a while'
    attention = attended[0].attention
    assert attention is not None and attention.shape == attended[0].mask.shape
    assert not any(mask.any() for index, mask in masks.items() if index < taken_over)
    after = {index: mask for index, mask in masks.items() if index >= taken_over}
    assert len(after) >= 3
    for index, mask in after.items():
        thing = shown(index)
        assert mask[thing].mean() > 0.2, 'its inside: flow says that the edges stand still'
        assert (mask & thing).sum() > 0.95 * mask.sum()


def test_without_attention_it_is_static() -> None:
    system, masks, taken_over = run(attends=False)
    assert len(system.map.keyframes) >= 4 and taken_over is None
    assert not any(mask.any() for mask in masks.values())
