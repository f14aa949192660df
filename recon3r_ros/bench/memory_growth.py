# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Memory of local mapping over many keyframes with MUSt3R's memories.

A small random network makes the tokens, so that they are real; its points are replaced by those of
a simulated room, so that every image becomes a keyframe. The camera goes round and round, so that
loops close, memories begin anew, and keyframes are culled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
import math
from typing import cast
from weakref import ref

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import pixel_grid
from recon3r_ros.io.memory import resident_memory_mb
from recon3r_ros.io.stamps import NS_PER_S
from recon3r_ros.models.memory_engine import MemoryEngine, Seen
from recon3r_ros.models.must3r import Must3rPredictor
from recon3r_ros.models.types import PosePrior, Predictor, View
from recon3r_ros.nets.dust3r import Tokens
from recon3r_ros.nets.must3r import Must3r, Must3rConfig
from recon3r_ros.sim import SceneConfig, SimulatedSequence
from recon3r_ros.slam.backend.mapping import Mapper
from recon3r_ros.slam.options import MappingOptions
from recon3r_ros.slam.types import TrackedFrame
import torch
from torch import Tensor

#: Keyframes, those after which memory is measured, and views of a lap
KEYFRAMES, EVERY, LAP = 1000, 200, 30
#: Keyframes of the map at most, beyond which the most redundant ones are culled
MOST = 100
#: Images a second of the camera's motion, so far apart that most show something new
FPS = 2.0
#: Size of the images, pixels, and relative noise of the points
WIDTH, HEIGHT, NOISE = 160, 112, 0.005


class _TrueEngine(MemoryEngine):
    """Tokens by a small random network, whose first number is the view's; points by the truth."""

    def __init__(self, scene: SimulatedSequence) -> None:
        torch.manual_seed(0)
        super().__init__(Must3r(Must3rConfig(64, 1, 1, 64, 3, 1)).requires_grad_(False))
        self._scene = [scene.render(n) for n in range(len(scene))]
        self._rays = scene.camera.unproject(pixel_grid(HEIGHT, WIDTH))
        self._thumbnails = np.stack([_thumbnail(view.image) for view in self._scene])
        self._made: list[ref[Tensor]] = []
        self._rng = np.random.default_rng(0)

    def view(self, n: int) -> NDArray[np.uint8]:
        """Return the image (H, W, 3) of a view of the lap."""
        return self._scene[n].image

    @property
    def tokens_mb(self) -> float:
        """Size of all memories that are alive."""
        return sum(t.numel() * t.element_size() for t in (r() for r in self._made)
                   if t is not None) / 1e6

    def encode(self, image: NDArray[np.uint8]) -> Tokens:
        """Encode an image of the lap, which may have been compressed by the map's archive."""
        tokens = super().encode(image)
        apart = np.abs(self._thumbnails - _thumbnail(image)).mean(axis=(1, 2, 3))
        return Tokens(_numbered(tokens.values, int(apart.argmin())), tokens.rows, tokens.columns)

    def join(self, views: Sequence[Tokens], memory: Sequence[Tensor]) -> list[tuple[Seen, Tensor]]:
        """Join views to a memory."""
        reference = _number((*memory, views[0].values)[0])
        made = [_numbered(tokens, _number(view.values))
                for view, (_, tokens) in zip(views, super().join(views, memory))]
        self._made = [r for r in self._made if r() is not None] + [ref(t) for t in made]
        return [(self._seen(_number(t), reference), t) for t in made]

    def render(self, views: Sequence[Tokens], memory: Sequence[Tensor]) -> list[Seen]:
        """Render views against a memory."""
        super().render(views, memory)
        return [self._seen(_number(v.values), _number(memory[0])) for v in views]

    def _seen(self, number: int, reference: int) -> Seen:
        own = self._rays * self._scene[number].depth[..., None]
        T = se3.inverse(self._scene[reference].T_world_cam) @ self._scene[number].T_world_cam
        own = own * self._rng.normal(1, NOISE, (*own.shape[:2], 1))
        return Seen(se3.transform(T, own.reshape(-1, 3)).reshape(own.shape).astype(np.float32),
                    own.astype(np.float32), np.full(own.shape[:2], 5.0, np.float32))


def measure(keyframes: int = KEYFRAMES, every: int = EVERY) -> list[tuple[int, int, float, float]]:
    """
    Add keyframes to a map, each from the pose of the one before.

    :param every: how often to measure
    :return: keyframes that were added, those of the map, megabytes of the memories' tokens, at
        most since the measurement before, and of the process (NaN where it is not known)
    """
    scene = SimulatedSequence(SceneConfig(
        seed=3, frames=LAP, width=WIDTH, height=HEIGHT, trajectory='orbit', moving_objects=0,
        fps=FPS))
    engine = _TrueEngine(scene)
    mapper = Mapper(cast(Predictor, Must3rPredictor(engine, WIDTH)),
                    MappingOptions(max_keyframes=MOST))
    rows, added, tokens = [], 0, 0.0
    for n in range(keyframes):
        image = engine.view(n % LAP)
        frame = TrackedFrame(f'{n:06d}', n * NS_PER_S, n)
        view, gray = View(image, scene.camera), cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        if n == 0:
            mapper.start(frame, view, gray)
        else:
            last = mapper.keyframes[max(mapper.keyframes)].T_map_cam
            view = replace(view, pose=PosePrior(last, np.eye(6)))
            added += mapper.add(frame, view, gray) is not None
        tokens = max(tokens, engine.tokens_mb)
        if (n + 1) % every == 0:
            resident = resident_memory_mb()
            rows.append((added + 1, len(mapper.keyframes), tokens,
                         math.nan if resident is None else resident))
            tokens = 0.0
    return rows


def _thumbnail(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    return cv2.resize(image, (40, 28), interpolation=cv2.INTER_AREA).astype(np.float32)


def _numbered(tokens: Tensor, number: int) -> Tensor:
    out = tokens.clone()
    out.view(-1)[0] = number
    return out


def _number(tokens: Tensor) -> int:
    return round(float(tokens.flatten()[0]))
