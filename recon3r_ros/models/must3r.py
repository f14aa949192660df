# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
MUSt3R as a `WindowPredictor`: views are rendered against a memory of the window's views.

A view's pose is the rigid motion between its two pointmaps (MUSt3R, section 3): the one in its own
frame, and the one in the frame of the memory's first view. The memory of a window is that of its
views in turn; a view that shows nothing new has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import GeometryError
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.procrustes import weighted_procrustes
from recon3r_ros.models import weights
from recon3r_ros.models.fallback import WithFallback
from recon3r_ros.models.grid_encoding import GridEncoding
from recon3r_ros.models.joint import check_groups
from recon3r_ros.models.memory_engine import MemoryEngine, Seen
from recon3r_ros.models.pointmaps import (
    as_pair,
    centred,
    finite,
    implied_focal,
    information,
    Points,
    visible,
)
from recon3r_ros.models.preprocess import prepare
from recon3r_ros.models.registry import Model, Window
from recon3r_ros.models.runtime import resolve
from recon3r_ros.models.types import NO_CONFIDENCE, Prediction, View
from recon3r_ros.nets.dust3r import PATCH, Tokens
from torch import Tensor

#: A view is not remembered if views before it show this share of its points: a camera that stands
#: would fill the memory. Half a second of sideways or hand-held motion in simulated rooms leaves
#: 0.86 to 0.94
COVERED = 0.95
#: From this many times as far away, a view shows too little of a surface's detail to count
FARTHER = 1.5
#: Poses are fitted to every n-th pixel, and overlap is measured there: neighbours are redundant
POSE_STRIDE, OVERLAP_STRIDE = 4, 8

Array = NDArray[np.float64]


Must3rEncoding = GridEncoding[Tokens]


@dataclass(frozen=True, eq=False)
class Placed:
    """
    A view in the frame of the memory's first view.

    :param own_points: (H, W, 3) in its own frame, metres
    :param confidence: (H, W), as of a `Prediction`
    :param camera: of the grid, as the network implies it
    :param T_reference_cam: (4, 4), metres; None where its pointmaps are of different shape
    """

    own_points: Points
    confidence: Points
    camera: Camera
    T_reference_cam: Array | None


@dataclass(frozen=True, eq=False)
class ViewMemory:
    """
    What is remembered of a view.

    :param encoding: its encoding
    :param tokens: (L, 1, N, C) on the network's device; None where it shows nothing new
    :param placed: the view, on every n-th pixel of its grid
    """

    encoding: Must3rEncoding
    tokens: Tensor | None
    placed: Placed


class Must3rPredictor:
    """
    MUSt3R: views against a memory, pairs, and single views.

    :param engine: runs the network
    :param image_size: longer side of the training images, pixels
    :param window: views that are remembered before a new memory begins
    """

    single_view, reweights = True, False

    def __init__(self, engine: MemoryEngine, image_size: int, window: Window = Window()) -> None:
        self.engine = engine
        self.window = window
        #: Brings a view to the network's grid
        self.prepared = partial(prepare, image_size=image_size, patch=PATCH)

    @property
    def together(self) -> Must3rPredictor:
        """Itself: it processes windows."""
        return self

    def encode(self, view: View) -> Must3rEncoding:
        """Resize a view to the network's grid and encode it; done once per view."""
        view = self.prepared(view)
        return Must3rEncoding.of(view, self.engine.encode(view.image))

    def predict(self, groups: Sequence[tuple[Must3rEncoding, ...]],
                moving: object = None, priors: object = None) -> list[Prediction]:
        """
        Pointmaps of single views and pairs of any sizes, each with an empty memory.

        :param moving: ignored
        :param priors: ignored
        :raises ValueError: for a larger group, see `predict_together`
        :raises Recon3rError: where the device runs out of memory
        """
        check_groups(groups)
        return [as_pair(self.predict_together(group), group, 0, len(group) - 1)
                for group in groups]

    def remember(self, view: Must3rEncoding, memory: Sequence[ViewMemory]) -> ViewMemory:
        """
        Join a view to a memory, if it shows anything new.

        :param memory: of the views before it, oldest first
        :raises Recon3rError: where the device runs out of memory
        """
        (seen, tokens), = self.engine.join([view.tokens], _tokens(memory))
        placed = _placed(seen, view.camera)
        new = not memory or (placed.T_reference_cam is not None
                             and overlap(_thinned(placed), [m.placed for m in memory]) < COVERED)
        return ViewMemory(view, tokens if new else None, _thinned(placed))

    def predict_together(self, group: tuple[Must3rEncoding, ...],
                         memory: Sequence[ViewMemory] = (), priors: object = ()) -> Prediction:
        """
        Pointmaps of a group, rendered against the memory of a window.

        Several views that are not remembered see each other, too, as if they joined; nothing of
        that is kept.

        :param memory: of the window's views, in any order
        :param priors: ignored
        :raises ValueError: for an empty group
        :raises Recon3rError: where the device runs out of memory
        """
        if not group:
            raise ValueError('a group of views: got none, expected at least one')
        known = [m.encoding for m in memory if m.tokens is not None]
        new = [n for n, view in enumerate(group) if not any(view is k for k in known)]
        if known and len(new) == 1:
            new = []
        rest = [n for n in range(len(group)) if n not in new]
        seen: dict[int, Seen] = {}
        if new:
            joined = self.engine.join([group[n].tokens for n in new], _tokens(memory))
            seen.update(zip(new, (view for view, _ in joined)))
        if rest:
            seen.update(zip(rest, self.engine.render([group[n].tokens for n in rest],
                                                     _tokens(memory))))
        return _prediction([_placed(seen[n], view.camera) for n, view in enumerate(group)])


def _tokens(memory: Sequence[ViewMemory]) -> list[Tensor]:
    return [m.tokens for m in memory if m.tokens is not None]


def _placed(seen: Seen, camera: Camera) -> Placed:
    """
    Place a view by its two pointmaps.

    Where these differ by more than the confidence tells, the difference counts.

    :param camera: of its grid
    """
    own, points, known = finite(seen.own_points), seen.points, information(seen.confidence)
    focal = implied_focal(own, known)
    implied = camera if focal is None else centred(camera, focal)
    T = _registered(own, points, seen.confidence)
    if T is None:
        return Placed(own, np.full_like(known, NO_CONFIDENCE), implied, None)
    moved = se3.transform(T, own.reshape(-1, 3)).reshape(own.shape)
    with np.errstate(all='ignore'):  # points may be infinite, and are then unknown
        apart = np.linalg.norm(moved - points, axis=-1) / np.linalg.norm(own, axis=-1)
        known = np.minimum(known, 1 / apart ** 2)
    known = np.where((own[..., 2] > 0) & np.isfinite(known), known, 0)
    return Placed(own, np.maximum(known, NO_CONFIDENCE).astype(np.float32), implied, T)


def _registered(own: Points, points: Points, confidence: Points) -> Array | None:
    """Return the rigid motion from own points to points; None where it is undetermined."""
    thin = slice(None, None, POSE_STRIDE)
    source, target = (p[thin, thin].reshape(-1, 3).astype(float) for p in (own, points))
    sure = confidence[thin, thin].ravel().astype(float) - 1
    usable = np.isfinite(target).all(1) & np.isfinite(sure) & (source[:, 2] > 0)
    try:
        return weighted_procrustes(source[usable], target[usable], sure[usable].clip(min=0),
                                   with_scale=False)
    except GeometryError:
        return None


def _thinned(placed: Placed) -> Placed:
    """Keep every n-th pixel, for the overlap."""
    n, camera = OVERLAP_STRIDE, placed.camera
    points, confidence = (np.ascontiguousarray(x[::n, ::n])
                          for x in (placed.own_points, placed.confidence))
    height, width = confidence.shape
    return Placed(points, confidence, Camera(
        width, height, camera.fx / n, camera.fy / n, camera.cx / n, camera.cy / n),
        placed.T_reference_cam)


def overlap(view: Placed, others: Sequence[Placed]) -> float:
    """
    Share of a view's points that at least one of the others shows, too.

    Not those that are occluded there, or much farther away. Zero where the view has no point in
    front of it.
    """
    front = view.own_points[..., 2] > 0
    shown = np.zeros(front.shape, bool)
    for other in others:
        if view.T_reference_cam is None or other.T_reference_cam is None:
            continue
        T_other_view = se3.inverse(other.T_reference_cam) @ view.T_reference_cam
        points = se3.transform(T_other_view, view.own_points.reshape(-1, 3)).reshape(
            view.own_points.shape).astype(np.float32)
        near = points[..., 2] < FARTHER * view.own_points[..., 2]
        shown |= near & visible(points, other.own_points, other.camera)
    return float((shown & front).sum() / max(int(front.sum()), 1))


def _prediction(views: Sequence[Placed]) -> Prediction:
    """Combine views in the first one's frame; one that cannot be placed has no confidence."""
    reference = views[0].T_reference_cam
    pointmaps, confidences, poses = [], [], []
    for n, view in enumerate(views):
        T, confidence = np.eye(4), view.confidence
        if reference is None or view.T_reference_cam is None:
            confidence = np.full_like(confidence, NO_CONFIDENCE)
        elif n > 0:
            T = se3.inverse(reference) @ view.T_reference_cam
        pointmaps.append(se3.transform(T, view.own_points.reshape(-1, 3)).reshape(
            view.own_points.shape).astype(np.float32))
        confidences.append(confidence)
        poses.append(T)
    camera = views[0].camera
    return Prediction(tuple(pointmaps), tuple(confidences), (camera.fx + camera.fy) / 2,
                      metric=True, learned=True, T_first_view=tuple(poses),
                      cameras=tuple(v.camera for v in views))


def make(model: Model) -> WithFallback:
    """
    Load the network of a model.

    :raises Recon3rError: where the file, the device or the window cannot be used
    """
    model.options.check()
    resolve(model.engine)  # before a large file is read
    checkpoint = weights.load(model.weights, model.name)
    return WithFallback(Must3rPredictor(
        MemoryEngine(checkpoint.network, model.engine), checkpoint.image_size, model.options))
