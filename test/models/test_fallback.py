# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Out of memory while the camera moves: windows shrink, the geometric model takes over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.models import fallback
from recon3r_ros.models.fallback import WithFallback
from recon3r_ros.models.geometric import GeometricPredictor
from recon3r_ros.models.geometric_encoding import GeometricEncoding
from recon3r_ros.models.pointmaps import as_pair
from recon3r_ros.models.preprocess import prepare
from recon3r_ros.models.registry import Window
from recon3r_ros.models.runtime import too_little_memory
from recon3r_ros.models.types import MapPrior, NO_CONFIDENCE, Prediction, View
from recon3r_ros.slam.system import System
from recon3r_ros.slam.types import TrackingState
from simulated import as_frame, error_over_path, still_scene
import torch

SIZE, PATCH = 256, 16


@dataclass(frozen=True, eq=False)
class Encoded:
    """A view as a network encodes it: the fallback knows its image and camera alone."""

    inner: GeometricEncoding

    features = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Scarce:
    """
    Stands in for a network, with the geometric model's results, until its memory runs out.

    :param calls: after how many that is; of `encode` or `predict`, as `what` says
    :param most: largest number of views of a window, memories included
    """

    single_view, reweights = False, False

    def __init__(self, calls: int = 99, what: str = 'predict', most: int = 99,
                 windows: bool = False, error: Exception | None = None) -> None:
        self.calls, self.what, self.most, self._windows = calls, what, most, windows
        self.error = error or torch.OutOfMemoryError('CUDA out of memory. Tried\nto allocate')
        self.window = Window()
        self.prepared = partial(prepare, image_size=SIZE, patch=PATCH)
        self._geometric = GeometricPredictor()
        self.looked: list[int] = []
        self.told: list[int | None] = []

    @property
    def together(self) -> Scarce | None:
        return self if self._windows else None

    def _use(self, what: str) -> None:
        if what == self.what:
            self.calls -= 1
            if self.calls < 0:
                raise self.error

    def encode(self, view: View) -> Encoded:
        """Encode a view."""
        self._use('encode')
        return Encoded(fallback._geometric(self.prepared(view)))

    def predict(self, groups: Sequence[tuple[Encoded, ...]], moving: object = None,
                priors: Any = None) -> list[Prediction]:
        """Predict pairs."""
        self._use('predict')
        return self._geometric.predict([(a.inner, b.inner) for a, b in groups], priors=priors)

    def remember(self, view: Encoded, memory: object) -> Encoded:
        """Remember a view."""
        self._use('remember')
        return view

    def predict_together(self, group: tuple[Encoded, ...], memory: Sequence[Encoded] = (),
                         priors: Sequence[MapPrior | None] = ()) -> Prediction:
        """Say how many views there are, by their depth."""
        assert len(priors) in (0, len(group) + len(memory))
        self.told = [None if p is None else int(p.T_map_cam[0, 3]) for p in priors]
        self.looked.append(len(group) + len(memory))
        if self.looked[-1] > self.most:
            raise self.error
        out = fallback._nothing(group)
        return replace(out, confidences=tuple(np.full_like(c, 9) for c in out.confidences))


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage().split(' (')[0] for r in caplog.records
            if r.name == fallback.__name__]


GIVEN_WAY = 'out of memory: going on with the geometric model, until it is started again'


@pytest.mark.parametrize('what, calls', [('predict', 1), ('encode', 2)])
@pytest.mark.parametrize('error', [None, too_little_memory()])
def test_the_map_goes_on(what: str, calls: int, error: Exception | None,
                         caplog: pytest.LogCaptureFixture) -> None:
    scene = still_scene(3, 60, 'sweep')
    guarded = WithFallback(Scarce(calls, what, error=error))
    system = System(guarded)
    before = 0
    for index in range(60):
        system.add(as_frame(scene, index))
        if guarded.network is not None:
            before = len(system.map.keyframes)
    assert system.state is TrackingState.TRACKING
    assert before >= 2 and len(system.map.keyframes) >= before + 2
    assert messages(caplog) == [GIVEN_WAY]
    new = max(system.map.keyframes)
    # The one map: new keyframes are predicted with those of the network
    assert {e.i for e in system.map.edges if e.j == before} & set(range(before))
    assert system.map.keyframes[new].image.shape == system.map.keyframes[0].image.shape
    system.finish()
    assert error_over_path(system, scene) < 0.02


def views(count: int) -> list[View]:
    """Make noise."""
    rng, camera = np.random.default_rng(2), Camera(64, 48, 50.0, 50.0, 31.5, 23.5)
    return [View(rng.integers(0, 256, (48, 64, 3), np.uint8), camera) for _ in range(count)]


def test_windows_shrink_before_the_network_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    network = Scarce(most=4, windows=True)
    guarded = WithFallback(network)
    assert guarded.together is guarded and guarded.window == Window()
    group = tuple(guarded.encode(view) for view in views(3))
    memory = [guarded.remember(view, ()) for view in group for _ in range(2)]
    told = [MapPrior(se3.from_rt(np.eye(3), [n, 0, 0]), None, 1.0) for n in range(9)]
    found = guarded.predict_together(group, memory, told)
    assert network.looked == [9, 4] and network.told == [0, 1, 2, 8]
    assert all((c == 9).all() for c in found.confidences)
    network.most = 2
    found = guarded.predict_together(group, memory)
    assert network.looked == [9, 4, 4, 2]
    # The newest partner and the new view are left
    assert [bool((c == 9).all()) for c in found.confidences] == [True, False, True]
    assert (found.confidences[1] == np.float32(NO_CONFIDENCE)).all()
    assert len(found.T_first_view) == len(found.cameras) == 3
    assert np.isfinite(as_pair(found, group, 1, 2).pointmaps[0]).all()
    network.most = 1
    found = guarded.predict_together(group, memory)
    assert all((c == np.float32(NO_CONFIDENCE)).all() for c in found.confidences)
    assert guarded.together is None and guarded.network is None and not guarded.single_view
    assert messages(caplog) == [
        'out of memory with a window of 9 views; going on with 4',
        'out of memory with a window of 4 views; going on with 2', GIVEN_WAY]
    for prediction in guarded.predict([group[:2], group[2:]]):
        assert all(np.isfinite(p).all() for p in prediction.pointmaps)
    assert guarded.remember(group[0], ()) is group[0]


def test_other_errors_are_not_taken_for_it() -> None:
    guarded = WithFallback(Scarce(0, error=RuntimeError('illegal memory access')))
    group = tuple(guarded.encode(view) for view in views(2))
    with pytest.raises(RuntimeError, match='illegal'):
        guarded.predict([group])
    assert guarded.network is not None
