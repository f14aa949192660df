# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What predictors have in common whose network processes windows of views of one size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from recon3r_ros.models.grid_encoding import GridEncoding
from recon3r_ros.models.pointmaps import as_pair
from recon3r_ros.models.types import MapPrior, NO_CONFIDENCE, Prediction


class _Joint(Protocol):
    """A predictor of one group."""

    def predict_together(self, group: Any, memory: Any = (), priors: Any = ()) -> Prediction: ...


def check_groups(groups: Sequence[Sequence[object]]) -> None:
    """
    Check that groups are pairs or single views.

    :raises ValueError: for a larger one, see `WindowPredictor.predict_together`
    """
    for group in groups:
        if len(group) not in (1, 2):
            raise ValueError(f'predict takes pairs or single views, got {len(group)} views')


def predict_pairs(predictor: _Joint, groups: Sequence[tuple[GridEncoding[Any], ...]],
                  priors: Sequence[tuple[MapPrior | None, ...]] | None = None
                  ) -> list[Prediction]:
    """
    Pointmaps of single views and pairs, each in a separate window.

    Views of different sizes cannot be processed jointly: they get no correspondences.

    :param priors: see `Predictor`
    :raises ValueError: for a larger group
    """
    check_groups(groups)
    known = priors or [(None,) * len(group) for group in groups]

    def window(group: tuple[GridEncoding[Any], ...], given: tuple[MapPrior | None, ...]
               ) -> Prediction:
        return as_pair(predictor.predict_together(group, (), given), group, 0, len(group) - 1)
    return [_apart(*(window((view,), (prior,)) for view, prior in zip(group, given)))
            if differ(group) else window(group, given) for group, given in zip(groups, known)]


def differ(views: Sequence[GridEncoding[Any]]) -> bool:
    """Whether views are not of one size."""
    return len({v.image.shape for v in views}) > 1


def check_window(name: str, views: Sequence[GridEncoding[Any]]) -> None:
    """
    Check the views of a window.

    :param name: of the network
    :raises ValueError: where there are none, or of different sizes
    """
    if not views or differ(views):
        raise ValueError(
            f'{name} takes views of one size, got {[v.image.shape[:2] for v in views]}')


def _apart(own: Prediction, other: Prediction) -> Prediction:
    """Combine predictions of two single views into a pair without correspondences."""
    unseen = np.full_like(other.confidences[0], NO_CONFIDENCE)
    return replace(own, pointmaps=own.pointmaps + other.pointmaps,
                   confidences=(*own.confidences, unseen))
