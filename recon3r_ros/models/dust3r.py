# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""DUSt3R, MonST3R and MASt3R as a `Predictor`; see `pointmaps` for their pointmaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.concurrency import side_by_side
from recon3r_ros.models import weights
from recon3r_ros.models.engine import Engine
from recon3r_ros.models.fallback import WithFallback
from recon3r_ros.models.grid_encoding import GridEncoding
from recon3r_ros.models.matching import match_reciprocally
from recon3r_ros.models.pointmaps import (
    centred,
    finite,
    implied_focal,
    information,
    onto_camera,
)
from recon3r_ros.models.preprocess import prepare
from recon3r_ros.models.registry import Model
from recon3r_ros.models.runtime import resolve
from recon3r_ros.models.types import NO_CONFIDENCE, PairAttention, Prediction, View
from recon3r_ros.nets.dust3r import Tokens, ViewOutput

#: Two views overlap if this share of the pixels that matching starts from have a match whose
#: point lies this close to theirs, relative to its distance
MIN_MATCHED, SAME_POINT = 0.05, 0.1
MATCHING_STRIDE = 16

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Dust3rEncoding(GridEncoding[Tokens]):
    """A view on the network's grid, and its tokens, which segmentation needs, too."""

    @cached_property
    def features(self) -> NDArray[np.float32]:
        """Tokens (rows, columns, C), for segmentation."""
        tokens = self.tokens.values[0].float().cpu().numpy()
        return tokens.reshape(self.tokens.rows, self.tokens.columns, -1)


class Dust3rPredictor:
    """
    A network of DUSt3R's family: pairs, and single views as pairs with themselves.

    :param engine: runs the network
    :param image_size: longer side of the training images, pixels
    """

    single_view, reweights, together = True, True, None

    def __init__(self, engine: Engine, image_size: int) -> None:
        self.engine = engine
        #: Brings a view to the network's grid
        self.prepared = partial(prepare, image_size=image_size, patch=engine.config.patch)
        self._metric = engine.config.head in ('catmlp+dpt', 'human')

    def encode(self, view: View) -> Dust3rEncoding:
        """Resize a view to the network's grid and encode it; done once per view."""
        view = self.prepared(view)
        return Dust3rEncoding.of(view, self.engine.encode(view.image))

    def predict(self, groups: Sequence[tuple[Dust3rEncoding, ...]],
                moving: Sequence[tuple[Mask, ...]] | None = None, priors: object = None
                ) -> list[Prediction]:
        """
        Pointmaps of pairs and of single views, decoded in batches.

        :param moving: for each group, dynamic masks of its views (H, W) on their grids: static
            tokens then do not attend to dynamic ones (Easi3R, section 3.4)
        :param priors: ignored
        :raises ValueError: for a group of another size
        :raises Recon3rError: where the device runs out of memory
        """
        for group in groups:
            if len(group) not in (1, 2):
                raise ValueError(f'DUSt3R takes pairs or single views, got {len(group)} views')
        tokens = None
        if moving is not None:
            first, second = ([by_token(m[k], g[k].tokens.rows, g[k].tokens.columns)
                              for m, g in zip(moving, groups)] for k in (0, -1))
            tokens = list(zip(first, second))
        decoded = self.engine.decode([(g[0].tokens, g[-1].tokens) for g in groups], tokens)
        return side_by_side(self._prediction, groups, *zip(*decoded))

    def _prediction(self, group: tuple[Dust3rEncoding, ...], own: ViewOutput, other: ViewOutput
                    ) -> Prediction:
        camera = group[0].camera
        views = (own, other)[:len(group)]
        pointmaps = [finite(v.points.numpy()) for v in views]
        confidences = [information(v.confidence.numpy()) for v in views]
        focal = implied_focal(pointmaps[0], confidences[0])
        implied = camera if focal is None else centred(camera, focal)
        points, confidence = onto_camera(pointmaps, confidences, implied, camera)
        if len(group) == 2 and not _same_place(own, other):
            confidence = tuple(np.full_like(c, NO_CONFIDENCE) for c in confidence)
        return Prediction(points, confidence, focal, self._metric, learned=True,
                          attention=_attention(own, other) if len(group) == 2 else None)


def _attention(own: ViewOutput, other: ViewOutput) -> PairAttention | None:
    if own.attention is None or other.attention is None:
        return None
    # Copies: a view would keep the memory of the whole batch
    return PairAttention(own.attention.numpy().copy(), other.attention.numpy().copy())


def by_token(mask: Mask, rows: int, columns: int) -> Mask:
    """
    Mask of tokens (rows, columns): those that contain any masked pixel.

    :param mask: (H, W), sides multiples of `rows` and `columns`
    """
    height, width = mask.shape
    patches = mask.reshape(rows, height // rows, columns, width // columns)
    return np.asarray(patches.any((1, 3)))


def _same_place(own: ViewOutput, other: ViewOutput) -> bool:
    """Whether enough descriptor matches agree with the points; true without descriptors."""
    if own.descriptors is None or other.descriptors is None:
        return True
    first, second = match_reciprocally(own.descriptors, other.descriptors, MATCHING_STRIDE)
    points = own.points.numpy()[first[:, 1], first[:, 0]]
    partners = other.points.numpy()[second[:, 1], second[:, 0]]
    agree = (np.linalg.norm(points - partners, axis=1)
             < SAME_POINT * np.linalg.norm(points, axis=1))
    return int(agree.sum()) >= MIN_MATCHED * own.confidence.numel() / MATCHING_STRIDE ** 2


def make(model: Model) -> WithFallback:
    """
    Load the network of a model.

    :raises Recon3rError: where the file or the device cannot be used
    """
    resolve(model.engine)  # before a large file is read
    checkpoint = weights.load(model.weights, model.name)
    return WithFallback(Dust3rPredictor(
        Engine(checkpoint.network, model.engine, attention=True), checkpoint.image_size))
