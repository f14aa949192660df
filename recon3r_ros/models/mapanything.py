# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
MapAnything as a `WindowPredictor`: windows of views, with what is known of them, in metres.

The network is told the rays of calibrated cameras, measured depth, and the map's poses, which are
metric where measurements tell the map's metre. It is guided by them, and does not copy them: depth
is put onto known rays, and poses are those that it predicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera, pixel_grid
from recon3r_ros.models import weights
from recon3r_ros.models.fallback import WithFallback
from recon3r_ros.models.grid_encoding import GridEncoding
from recon3r_ros.models.joint import check_window, predict_pairs
from recon3r_ros.models.known import along_rays, KnownPose, rays_of
from recon3r_ros.models.known_engine import KnownEngine, KnownTokens, SeenDepth
from recon3r_ros.models.pointmaps import finite, information
from recon3r_ros.models.preprocess import covering
from recon3r_ros.models.registry import KnownWindow, Model
from recon3r_ros.models.runtime import resolve
from recon3r_ros.models.types import MapPrior, NO_CONFIDENCE, Prediction, View
from recon3r_ros.nets.vggt import PATCH

#: Aspect ratios that the network was trained with, as they are compared, and columns and rows of
#: patches of each
ASPECTS = ((1.0, 37, 37), (1.321, 37, 28), (1.542, 37, 24), (1.762, 37, 21), (2.056, 37, 18),
           (3.083, 37, 12), (0.757, 28, 37), (0.649, 24, 37), (0.567, 21, 37), (0.486, 18, 37))
_LONGER = 37
#: Share of pixels with depth below which all of them are taken: resampling would lose most
SPARSE = 0.2
#: A camera is fitted to every n-th predicted ray, and has a focal length, over the longer side of
#: its image, in this range
_STRIDE, _FOCALS = 8, (0.1, 20.0)

Array = NDArray[np.float64]
MapAnythingEncoding = GridEncoding[KnownTokens]


class MapAnythingPredictor:
    """
    MapAnything: windows of views, pairs, and single views.

    :param engine: runs the network
    :param image_size: longer side of the training images, pixels
    :param window: views that it processes jointly, and what it is told of them
    """

    single_view, reweights = True, False

    def __init__(self, engine: KnownEngine, image_size: int, window: KnownWindow = KnownWindow()
                 ) -> None:
        self.engine = engine
        self.window = window
        #: Brings a view to the network's grid
        self.prepared = partial(_on_grid, image_size=image_size)

    @property
    def together(self) -> MapAnythingPredictor:
        """Itself: it processes windows."""
        return self

    def encode(self, view: View) -> MapAnythingEncoding:
        """Resize a view to the network's grid, encode it and what is known; once per view."""
        grid = self.prepared(view)
        rays = depth = None
        if view.calibrated:
            own = rays_of(grid.camera)
            rays = own if 'rays' in self.window.priors else None
            if view.depth is not None and 'depth' in self.window.priors:
                depth = along_rays(depth_on(view, grid), own)
        return MapAnythingEncoding.of(grid, self.engine.encode(grid.image, rays, depth))

    def predict(self, groups: Sequence[tuple[MapAnythingEncoding, ...]], moving: object = None,
                priors: Sequence[tuple[MapPrior | None, ...]] | None = None) -> list[Prediction]:
        """
        Pointmaps of single views and pairs, see `predict_pairs`.

        :param moving: ignored
        :raises Recon3rError: where the device runs out of memory
        """
        return predict_pairs(self, groups, priors)

    def remember(self, view: MapAnythingEncoding, memory: object) -> MapAnythingEncoding:
        """Return the encoding: attention runs again as the window slides."""
        return view

    def predict_together(self, group: tuple[MapAnythingEncoding, ...],
                         memory: Sequence[MapAnythingEncoding] = (),
                         priors: Sequence[MapPrior | None] = ()) -> Prediction:
        """
        Pointmaps of a group, in a window with further views.

        :param memory: encodings of the window's other views, which get no pointmaps; the first
            ones are used where there are too many
        :raises ValueError: for views of different sizes
        :raises Recon3rError: where the device runs out of memory
        """
        views = [*group, *memory]
        known = priors or [None] * len(views)
        context = [n for n in range(len(group), len(views))
                   if not any(views[n] is view for view in group)]
        used = [*range(len(group)), *context[:max(self.window.size - len(group), 0)]]
        check_window('MapAnything', [views[n] for n in used] if group else [])
        output = self.engine.look([views[n].tokens for n in used], len(group),
                                  [self._pose(known[n]) for n in used])
        poses = [_transform(p) for p in output.poses[:len(group)].astype(float)]
        T_first = [None if T is None or poses[0] is None else se3.inverse(poses[0]) @ T
                   for T in poses]
        cameras = [v.camera if v.calibrated else _fitted(seen, v.camera)
                   for seen, v in zip(output.dense, group)]
        pointmaps, confidences = [], []
        for seen, T, camera, view in zip(output.dense, T_first, cameras, group):
            rays = rays_of(camera) if view.calibrated else seen.rays
            with np.errstate(invalid='ignore'):  # depths may be infinite, and are then unknown
                own = finite(seen.depth[..., None] * rays)
            sure = seen.valid & (own[..., 2] > 0) & (T is not None)
            confidences.append(np.where(sure, information(seen.confidence),
                                        np.float32(NO_CONFIDENCE)))
            points = own if T is None else se3.transform(T, own.reshape(-1, 3)).reshape(own.shape)
            pointmaps.append(points.astype(np.float32))
        return Prediction(
            tuple(pointmaps), tuple(confidences), (cameras[0].fx + cameras[0].fy) / 2,
            metric=True, learned=True, cameras=tuple(cameras),
            T_first_view=tuple(np.eye(4) if T is None else T for T in T_first))

    def _pose(self, prior: MapPrior | None) -> KnownPose | None:
        """Return what the network is told of a view's pose, in metres where they are known."""
        if prior is None or 'poses' not in self.window.priors:
            return None
        if prior.metre is None:
            return KnownPose.of(prior.T_map_cam, False)
        return KnownPose.of(se3.stretched(prior.T_map_cam, 1 / prior.metre), True)


def _on_grid(view: View, image_size: int) -> View:
    return covering(view, *grid_size(view.camera.width, view.camera.height, image_size))


def grid_size(width: int, height: int, image_size: int) -> tuple[int, int]:
    """
    Columns and rows, pixels, of the network's grid for an image.

    :param image_size: longer side of the grid
    """
    aspect = width / height
    _, columns, rows = min(ASPECTS, key=lambda known: abs(known[0] - aspect))
    patches = image_size / PATCH / _LONGER
    return max(round(columns * patches), 1) * PATCH, max(round(rows * patches), 1) * PATCH


def depth_on(view: View, grid: View) -> NDArray[np.float32]:
    """
    Measured depth (H, W) of a view on its grid, metres, 0 where it is unknown.

    Of sparse depth, as of a laser scanner, all points are taken, the nearest one of each pixel.

    :param view: with depth
    :param grid: the same view, resized and cropped
    """
    assert view.depth is not None and grid.depth is not None
    usable = view.depth_noise.usable(view.depth)
    if usable.mean() >= SPARSE:
        return np.where(view.depth_noise.usable(grid.depth), grid.depth, np.float32(0))
    rows, columns = np.nonzero(usable)
    depths = view.depth[rows, columns]
    camera, height, width = grid.camera, grid.camera.height, grid.camera.width
    x = np.round((columns - view.camera.cx) / view.camera.fx * camera.fx + camera.cx).astype(int)
    y = np.round((rows - view.camera.cy) / view.camera.fy * camera.fy + camera.cy).astype(int)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    out = np.full((height, width), np.inf, np.float32)
    np.minimum.at(out, (y[inside], x[inside]), depths[inside])
    return np.where(np.isfinite(out), out, np.float32(0))


def _transform(encoded: Array) -> Array | None:
    """T_first_view (4, 4) of translation and quaternion (7,); None where it is invalid."""
    if not np.isfinite(encoded).all() or np.linalg.norm(encoded[3:]) < 0.5:
        return None
    return se3.from_rt(se3.matrix_from_quat_xyzw(encoded[3:]), encoded[:3])


def _fitted(seen: SeenDepth, camera: Camera) -> Camera:
    """
    Pinhole camera that fits predicted rays best; the given one where none fits.

    :param camera: of the same grid, with default intrinsics
    """
    thin = slice(None, None, _STRIDE)
    rays = seen.rays[thin, thin].astype(float)
    pixels = pixel_grid(camera.height, camera.width)[thin, thin]
    front = rays[..., 2] > 0.1
    if front.sum() < 4:
        return camera
    found = []
    for axis in (0, 1):
        slopes = rays[..., axis][front] / rays[..., 2][front]
        design = np.stack([slopes, np.ones(len(slopes))], 1)
        found.append(np.linalg.lstsq(design, pixels[..., axis][front], rcond=None)[0])
    (fx, cx), (fy, cy) = found
    low, high = (share * max(camera.width, camera.height) for share in _FOCALS)
    inside = 0 <= cx < camera.width and 0 <= cy < camera.height
    if not (low < fx < high and low < fy < high and inside):
        return camera
    return Camera(camera.width, camera.height, fx, fy, cx, cy)


def make(model: Model) -> WithFallback:
    """
    Load the network of a model.

    :raises Recon3rError: where the file, the device or the options cannot be used
    """
    model.options.check()
    resolve(model.engine)  # before a large file is read
    checkpoint = weights.load(model.weights, model.name)
    return WithFallback(MapAnythingPredictor(KnownEngine(checkpoint.network, model.engine),
                                             checkpoint.image_size, model.options))
