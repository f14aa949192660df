# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which predictors there are, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from recon3r_ros.errors import Recon3rError
from recon3r_ros.inference.dust3r import Dust3rPredictor
from recon3r_ros.inference.engine import EngineConfig
from recon3r_ros.inference.geometric import GeometricPredictor
from recon3r_ros.inference.types import Predictor


@dataclass(frozen=True)
class Model:
    """
    What to predict with.

    :param name: one of `MODELS`
    :param weights: file; '' for a model that needs none
    :param engine: where and how its network runs
    """

    name: str = 'geometric'
    weights: str = ''
    engine: EngineConfig = EngineConfig()


_NETWORKS: dict[str, Callable[..., Any]] = {
    name: partial(Dust3rPredictor.from_file, model=name)
    for name in ('dust3r', 'monst3r', 'mast3r')
}
MODELS = ('geometric', *_NETWORKS)


def make_predictor(model: Model) -> Predictor:
    """
    Make a predictor.

    :raises Recon3rError: for a name there is none of, or weights or a device that cannot be used
    """
    if model.name not in MODELS:
        raise Recon3rError(f'model {model.name!r}: expected one of {", ".join(MODELS)}')
    if model.name == 'geometric':
        if model.weights:
            raise Recon3rError('model geometric has no weights: give --model as well')
        predictor: Any = GeometricPredictor()
    elif not model.weights:
        raise Recon3rError(f'model {model.name} needs a file of weights; recon3r weights lists '
                           'what is published')
    else:
        predictor = _NETWORKS[model.name](model.weights, config=model.engine)
    # a predictor takes only encodings of its own, which its type says and the protocol's cannot
    return cast(Predictor, predictor)
