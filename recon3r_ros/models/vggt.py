# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
VGGT as a `WindowPredictor`.

Points are computed from depth and cameras, which its authors find more exact than the point head's
(VGGT, section 4.3). Known intrinsics replace estimated ones. On request, the keypoints of the
views of a group are tracked through it: matches, and what no motion of the camera explains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import tan

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.models import weights
from recon3r_ros.models.fallback import WithFallback
from recon3r_ros.models.grid_encoding import GridEncoding
from recon3r_ros.models.joint import check_window, predict_pairs
from recon3r_ros.models.pointmaps import finite, information, on_rays
from recon3r_ros.models.preprocess import cropped, prepare
from recon3r_ros.models.registry import Model, VggtOptions
from recon3r_ros.models.runtime import resolve
from recon3r_ros.models.track_motion import moving_points
from recon3r_ros.models.types import NO_CONFIDENCE, Prediction, Tracks, View
from recon3r_ros.models.window_engine import ViewTokens, WindowEngine
from recon3r_ros.nets.vggt import PATCH
from recon3r_ros.nets.vggt_tracks import FORMAT, TrackConfig

#: Valid fields of view, radians; others are treated as unknown
_MIN_FIELD, _MAX_FIELD = 0.05, 3.0
#: Least side of an image in which points can be tracked, pixels
LEAST_SIDE = TrackConfig().least_side

Array = NDArray[np.float64]


VggtEncoding = GridEncoding[ViewTokens]


class VggtPredictor:
    """
    VGGT: windows of views, pairs, and single views.

    :param engine: runs the network
    :param image_size: width of the training images, pixels
    :param options: views that it processes jointly, and whether it tracks points
    """

    single_view, reweights = True, False

    def __init__(self, engine: WindowEngine, image_size: int,
                 options: VggtOptions = VggtOptions()) -> None:
        self.engine = engine
        self.window = self._options = options
        #: Brings a view to the network's grid
        self.prepared = partial(_on_grid, image_size=image_size)

    @property
    def together(self) -> VggtPredictor:
        """Itself: it processes windows."""
        return self

    def encode(self, view: View) -> VggtEncoding:
        """Resize a view to the network's grid and encode it; done once per view."""
        view = self.prepared(view)
        return VggtEncoding.of(view, self.engine.encode(view.image))

    def predict(self, groups: Sequence[tuple[VggtEncoding, ...]],
                moving: object = None, priors: object = None) -> list[Prediction]:
        """
        Pointmaps of single views and pairs, see `predict_pairs`.

        :param moving: ignored
        :param priors: ignored
        :raises Recon3rError: where the device runs out of memory
        """
        return predict_pairs(self, groups)

    def remember(self, view: VggtEncoding, memory: object) -> VggtEncoding:
        """Return the encoding: global attention runs again as the window slides."""
        return view

    def predict_together(self, group: tuple[VggtEncoding, ...],
                         memory: Sequence[VggtEncoding] = (), priors: object = ()) -> Prediction:
        """
        Pointmaps of a group, in a window with further views.

        :param memory: encodings of the window's other views, which get no pointmaps; the first
            ones are used where there are too many
        :param priors: ignored
        :raises ValueError: for views of different sizes
        :raises Recon3rError: where the device runs out of memory
        """
        context = [m for m in memory if not any(m is view for view in group)]
        views = [*group, *context[:max(self.window.size - len(group), 0)]]
        check_window('VGGT', views)
        output = self.engine.look([v.tokens for v in views], len(group), self._queries(group))
        encodings = output.cameras[:len(group)].astype(float)
        poses = [_pose(e) for e in encodings]
        T_first = [None if T is None or poses[0] is None else poses[0] @ se3.inverse(T)
                   for T in poses]
        cameras = [_camera(e, v) for e, v in zip(encodings, group)]
        pointmaps, confidences = [], []
        for (depth, confidence), T, camera in zip(output.dense, T_first, cameras):
            own = finite(on_rays(depth, camera))
            known = information(confidence)
            if T is None:
                known = np.full_like(known, NO_CONFIDENCE)
            known = np.where(own[..., 2] > 0, known, np.float32(NO_CONFIDENCE))
            points = own if T is None else se3.transform(T, own.reshape(-1, 3)).reshape(own.shape)
            pointmaps.append(points.astype(np.float32))
            confidences.append(known.astype(np.float32))
        prediction = Prediction(
            tuple(pointmaps), tuple(confidences), (cameras[0].fx + cameras[0].fy) / 2,
            learned=True, cameras=tuple(cameras),
            T_first_view=tuple(np.eye(4) if T is None else T for T in T_first))
        if not output.tracks:
            return prediction
        prediction = replace(prediction, tracks=tuple(Tracks(*t) for t in output.tracks))
        return replace(prediction, moving=moving_points([v.keypoints for v in group], prediction))

    def _queries(self, group: tuple[VggtEncoding, ...]) -> list[NDArray[np.float32]]:
        """Return the points to track of each view of a group; none where nothing is tracked."""
        small = min(group[0].image.shape[:2]) < LEAST_SIDE
        if self._options.tracks == 'none' or small or len(group) < 2 or not all(
                len(v.keypoints) for v in group):
            return []
        return [v.keypoints.astype(np.float32) for v in group]


def _on_grid(view: View, image_size: int) -> View:
    return prepare(_not_portrait(view), image_size, PATCH)


def _not_portrait(view: View) -> View:
    """Crop an image that is higher than wide to a square: the training images are not portrait."""
    camera = view.camera
    if camera.height <= camera.width:
        return view
    top = (camera.height - camera.width) // 2
    return cropped(view, 0, top, camera.width, camera.width)


def _pose(encoded: Array) -> Array | None:
    """T_cam_first (4, 4) of an encoded camera (9,); None where it is invalid."""
    length = np.linalg.norm(encoded[3:7])
    if not np.isfinite(encoded).all() or length < 1e-6:
        return None
    return se3.from_rt(se3.matrix_from_quat_xyzw(encoded[3:7] / length), encoded[:3])


def _camera(encoded: Array, view: VggtEncoding) -> Camera:
    """Camera of a view's grid: the known one, or the network's estimate."""
    width, height = view.camera.width, view.camera.height
    vertical, horizontal = encoded[7:]
    if view.calibrated or not all(_MIN_FIELD < f < _MAX_FIELD for f in (vertical, horizontal)):
        return view.camera
    return Camera(width, height, width / 2 / tan(horizontal / 2), height / 2 / tan(vertical / 2),
                  width / 2, height / 2)


def make(model: Model) -> WithFallback:
    """
    Load the network of a model.

    :raises Recon3rError: where the file, the device or the window cannot be used
    """
    model.options.check()
    resolve(model.engine)  # before a large file is read
    tracks = model.options.tracks != 'none'
    checkpoint = weights.load(model.weights, model.name, [FORMAT] if tracks else ())
    return WithFallback(VggtPredictor(
        WindowEngine(checkpoint.network, model.engine), checkpoint.image_size, model.options))
