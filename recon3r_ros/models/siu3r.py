# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
SIU3R as a `Predictor`: pointmaps of pairs, and the classes of what both views show.

The network gives its points no confidence. Whether a pair shows one place at all is checked by
appearance: the second image has to look as the points predict it in the first one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import pinhole
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.likeness import BLOCK, compared, small_gray, WIDTH
from recon3r_ros.models import registry, weights
from recon3r_ros.models.fallback import WithFallback
from recon3r_ros.models.grid_encoding import GridEncoding
from recon3r_ros.models.panoptic import labels_of, segmented
from recon3r_ros.models.pointmaps import centred, finite, implied_focal, onto_camera
from recon3r_ros.models.preprocess import covering
from recon3r_ros.models.registry import Model
from recon3r_ros.models.runtime import resolve
from recon3r_ros.models.siu3r_engine import Encoded, PixelGaussians, Seen, Siu3rEngine
from recon3r_ros.models.types import NO_CONFIDENCE, Prediction, View
from recon3r_ros.nets.siu3r import IMAGE_SIZE

#: Classes that are no objects: wall and floor, from 0
STUFF = (0, 1)
#: Inverse variance of the relative depth of all points: an error of 15 %
INFORMATION = 1 / 0.15 ** 2
#: Focal length over the image's side that the authors give the network where it is unknown
DEFAULT_FOCAL = 318 / 256

Points = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Siu3rEncoding(GridEncoding[Encoded]):
    """A view on the network's grid; its tokens are with features for the queries."""

    @cached_property
    def features(self) -> NDArray[np.float32]:
        """Tokens (rows, columns, C) of the patches, for segmentation."""
        tokens = self.tokens.tokens
        # The last one is that of the intrinsics
        values = tokens.values[0, :-1].float().cpu().numpy()
        return values.reshape(tokens.rows, tokens.columns, -1)

    @cached_property
    def gray(self) -> NDArray[np.uint8]:
        """Brightness (H, W)."""
        return np.asarray(cv2.cvtColor(self.image, cv2.COLOR_RGB2GRAY), np.uint8)


class Siu3rPredictor:
    """
    SIU3R: pairs of views.

    :param engine: runs the network
    :param image_size: side of the square images, pixels
    """

    single_view, reweights, together = False, False, None

    def __init__(self, engine: Siu3rEngine, image_size: int) -> None:
        self.engine = engine
        #: Brings a view to the network's grid: resizes its shorter side, and crops its centre
        self.prepared = partial(covering, width=image_size, height=image_size)

    def encode(self, view: View) -> Siu3rEncoding:
        """Resize a view to the network's grid and encode it; done once per view."""
        view = self.prepared(view)
        return Siu3rEncoding.of(view, self.engine.encode(
            view.image, normalised_intrinsics(view.camera, view.calibrated)))

    def predict(self, groups: Sequence[tuple[Siu3rEncoding, ...]], moving: object = None,
                priors: object = None) -> list[Prediction]:
        """
        Pointmaps and labels of pairs, decoded in batches.

        :param moving: ignored
        :param priors: ignored
        :raises ValueError: for a group of another size
        :raises Recon3rError: where the device runs out of memory
        """
        pairs = []
        for group in groups:
            if len(group) != 2:
                raise ValueError(f'SIU3R takes pairs, got {len(group)} views')
            pairs.append((group[0], group[1]))
        decoded = self.engine.decode([(a.tokens, b.tokens) for a, b in pairs])
        return [_prediction(pair, seen) for pair, seen in zip(pairs, decoded)]


def _prediction(pair: tuple[Siu3rEncoding, Siu3rEncoding], seen: Seen) -> Prediction:
    first, second = pair
    camera = first.camera
    pointmaps = [finite(p) for p in seen.points]
    confidences = [np.full(p.shape[:2], INFORMATION, np.float32) for p in pointmaps]
    # The network is told the focal length: what its points imply is no estimate of it
    focal = implied_focal(pointmaps[0], confidences[0])
    implied = camera if focal is None else centred(camera, focal)
    points, confidences_there = onto_camera(pointmaps, confidences, implied, camera)
    if not same_place(first, second, points[1], confidences_there[1] > NO_CONFIDENCE):
        return Prediction(points, tuple(np.full_like(c, NO_CONFIDENCE)
                                        for c in confidences_there), learned=True)
    found = segmented(seen.queries.classes, seen.queries.masks, first.image.shape[:2], STUFF)
    return Prediction(points, confidences_there, learned=True,
                      labels=labels_of(found) if found.segments else None)


def same_place(first: Siu3rEncoding, second: Siu3rEncoding, points: Points,
               seen: NDArray[np.bool_]) -> bool:
    """
    Whether the second image looks as the points predict it in the first one.

    Images of unrelated places do not, nor do those that have too little texture to tell.

    :param points: (H, W, 3) of the second view, in the first camera's frame
    :param seen: (H, W) those that the first view sees
    """
    rows, columns = points.shape[:2]
    size = WIDTH, max(BLOCK, round(rows * WIDTH / columns))
    use = cv2.resize(seen.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    few = cv2.resize(points, size, interpolation=cv2.INTER_NEAREST)
    # The camera of the first image at that size; behind it nothing is seen
    width, height = WIDTH, max(BLOCK, round(first.camera.height * WIDTH / first.camera.width))
    camera = first.camera.resized(width, height)
    targets = pinhole.project(np.where(
        use[..., None], few, np.array([0, 0, 1], np.float32)), camera)
    there = cv2.remap(small_gray(first.gray, (width, height)), targets.astype(np.float32), None,
                      cv2.INTER_LINEAR)
    found = compared(small_gray(second.gray, size), there, use)
    return found is not None and found.verified


def normalised_intrinsics(camera: Camera, calibrated: bool) -> NDArray[np.float32]:
    """
    Intrinsics as the network is told them, with pixel centres at halves.

    :param calibrated: whether they are known
    :return: (3, 3), the first row divided by the width, the second one by the height
    """
    width, height = camera.width, camera.height
    if not calibrated:
        focal = DEFAULT_FOCAL * min(width, height)
        return np.array([[focal / width, 0, 0.5], [0, focal / height, 0.5], [0, 0, 1]],
                        np.float32)
    return np.array([[camera.fx / width, 0, (camera.cx + 0.5) / width],
                     [0, camera.fy / height, (camera.cy + 0.5) / height], [0, 0, 1]], np.float32)


def view_gaussians(engine: Siu3rEngine, view: View, other: View, side: int = IMAGE_SIZE
                   ) -> tuple[Camera, PixelGaussians]:
    """
    Make the Gaussians of a view's centre square, with another view of the same place.

    :param side: of the square on the network's grid, pixels
    :return: pinhole camera of that grid, and its Gaussians
    :raises Recon3rError: where the pair does not fit into memory
    """
    grids = [covering(v, side, side) for v in (view, other)]
    return grids[0].camera, engine.gaussians(
        [grid.image for grid in grids],
        [normalised_intrinsics(grid.camera, grid.calibrated) for grid in grids])


def make(model: Model) -> WithFallback:
    """
    Load the network of a model.

    :raises Recon3rError: where the file or the device cannot be used
    """
    resolve(model.engine)  # before a large file is read
    checkpoint = weights.load(model.weights, model.name)
    names = registry.spec(model.name).classes
    count = checkpoint.network.config.masks.classes
    if count != len(names):
        raise InputError(f'{model.weights}: recognises {count} classes, expected the {len(names)} '
                         'of ScanNet, whose names are known; give the published file')
    return WithFallback(Siu3rPredictor(
        Siu3rEngine(checkpoint.network, model.engine), checkpoint.image_size))
