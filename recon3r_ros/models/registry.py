# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Which predictors there are, by name, and how to ask for one.

Importing this loads nothing else: whoever only names a model needs neither torch nor NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast, TYPE_CHECKING

from recon3r_ros.errors import missing_package, Recon3rError

if TYPE_CHECKING:
    from recon3r_ros.models.types import Predictor

PAIR_NETWORKS = ('dust3r', 'monst3r', 'mast3r')
MODELS = ('geometric', *PAIR_NETWORKS, 'vggt')
#: Whose predictions are in metres
METRIC_MODELS = ('mast3r',)
PRECISIONS = ('auto', 'float32', 'bfloat16', 'float16')
MODES = ('eager', 'compile', 'graphs')


@dataclass(frozen=True)
class EngineConfig:
    """
    Where and how a network runs.

    :param device: auto, cpu, cuda or cuda:N
    :param precision: of the trunk: one of `PRECISIONS`; auto is float32 on the CPU, else bfloat16
        where the device has it
    :param mode: one of `MODES`: as it is, compiled by torch.compile, or recorded as CUDA graphs
    """

    device: str = 'auto'
    precision: str = 'auto'
    mode: str = 'eager'


@dataclass(frozen=True)
class Window:
    """
    How many views are looked at together.

    :param size: at most
    :param overlap: views that a full window shares with the next one, less than `size`; `size - 1`
        slides it view by view
    """

    size: int = 8
    overlap: int = 2


@dataclass(frozen=True)
class Model:
    """
    What to predict with.

    :param name: one of `MODELS`
    :param weights: file; '' for a model that needs none
    :param engine: where and how its network runs
    :param window: of a network of many views
    """

    name: str = 'geometric'
    weights: str = ''
    engine: EngineConfig = EngineConfig()
    window: Window = Window()


def make_predictor(model: Model) -> Predictor:
    """
    Make a predictor.

    :raises Recon3rError: for a name there is none of, weights or a device that cannot be used, or
        a package that is not installed
    """
    try:
        return _make_predictor(model)
    except ModuleNotFoundError as error:
        raise missing_package(error, f'model {model.name}') from error


def _make_predictor(model: Model) -> Predictor:
    predictor: Any
    if model.name == 'geometric':
        if model.weights:
            raise Recon3rError(f'{model.weights}: model geometric takes no weights; name the '
                               'model that they are for')
        from recon3r_ros.models.geometric import GeometricPredictor
        predictor = GeometricPredictor()
    elif model.name not in MODELS:
        raise Recon3rError(f'model {model.name!r}: expected one of {", ".join(MODELS)}')
    elif not model.weights:
        raise Recon3rError(f'model {model.name} needs a file of weights; recon3r weights lists '
                           'what is published')
    elif model.name == 'vggt':
        from recon3r_ros.models.vggt import VggtPredictor
        if not 0 < model.window.overlap < model.window.size:
            raise Recon3rError(f'a window of {model.window.size} views cannot share '
                               f'{model.window.overlap} with the next: give an overlap of at '
                               'least 1 and less than its size')
        predictor = VggtPredictor.from_file(model.weights, model.engine, model.window)
    else:
        from recon3r_ros.models.dust3r import Dust3rPredictor
        predictor = Dust3rPredictor.from_file(model.weights, model.name, model.engine)
    # a predictor takes only encodings of its own, which its type says and the protocol's cannot
    return cast('Predictor', predictor)
