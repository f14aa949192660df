# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Input and output of a predictor.

Conventions: `T_a_b` maps points of frame b to frame a; camera frames are optical (x right, y down,
z forward); pixel (u, v) = (column, row) with pixel centres at integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable, Sequence

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.depth_noise import DepthNoise, STRUCTURED_LIGHT
from recon3r_ros.geometry.stereo_pair import StereoPair
from recon3r_ros.models.registry import Window


@dataclass(frozen=True, eq=False)
class PosePrior:
    """
    Prior of a camera's pose.

    :param T_map_cam: (4, 4), map units
    :param covariance: (6, 6) of [omega, v], left perturbation in the camera frame
    """

    T_map_cam: NDArray[np.float64]
    covariance: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class View:
    """
    One rectified image, the input of a predictor, with its camera and priors.

    :param image: (H, W, 3) RGB or (H, W) grey, uint8, free of lens distortion
    :param camera: pinhole camera of `image`; its focal length is a default where `calibrated`
        is False
    :param calibrated: whether the intrinsics are known
    :param moving: (h, w) of any size, known dynamic mask, for predictors that estimate the
        camera's motion; None where unknown
    :param excluded: (h, w) of any size, the part of `moving` that is certain: masks by the user,
        what is fixed to the camera; no keypoints lie there. None for nothing
    :param depth: (H, W) float32 measured along the optical axis, metres, NaN where unknown; None
        where it was not measured
    :param depth_noise: of `depth`, by what measured it
    :param pose: prior from tracking; None where unknown
    :param stereo: images that `depth` is still to be measured from; None where there are none
    :param searched: whether people were looked for in the image: they are part of `excluded`
    """

    image: NDArray[np.uint8]
    camera: Camera
    calibrated: bool = True
    moving: NDArray[np.bool_] | None = None
    excluded: NDArray[np.bool_] | None = None
    depth: NDArray[np.float32] | None = None
    depth_noise: DepthNoise = STRUCTURED_LIGHT
    pose: PosePrior | None = None
    stereo: StereoPair | None = None
    searched: bool = False


@dataclass(frozen=True, eq=False)
class MapPrior:
    """
    What the map knows of a view.

    :param T_map_cam: (4, 4) present estimate of its pose, map units
    :param inverse_depth: (H, W) float32 on the encoding's grid, 0 where unknown; None where there
        is no depth yet
    :param metre: length of a metre in map units, where something other than a network tells it
    """

    T_map_cam: NDArray[np.float64]
    inverse_depth: NDArray[np.float32] | None = None
    metre: float | None = None


class Encoding(Protocol):
    """
    A predictor's encoding of one view, kept for the lifetime of its keyframe.

    `camera` is the pinhole camera of the pointmap grid: the view's camera after the predictor's
    resize and crop. `image` (H, W, 3) uint8 is the view on that same grid.
    `descriptor` (D,) float32, unit length, is a global descriptor, compared by dot product.
    `keypoints` (K, 2) int32 salient grid pixels (u, v), where correspondences are most exact:
    tracking and alignment sample there.
    `features` (rows, columns, C) float32 of the image's patches, similar within an object; None
    where the predictor has none.
    """

    @property
    def camera(self) -> Camera: ...

    @property
    def image(self) -> NDArray[np.uint8]: ...

    @property
    def descriptor(self) -> NDArray[np.float32]: ...

    @property
    def keypoints(self) -> NDArray[np.int32]: ...

    @property
    def features(self) -> NDArray[np.float32] | None: ...


@dataclass(frozen=True, eq=False)
class PairAttention:
    """
    Cross-attention statistics of a directed pair (Easi3R, section 3.2).

    Cross-attention logits of each token as key, averaged over the other view's queries; channels
    are decoder steps times heads.

    :param first: (rows, columns, channels) float16, keys of the first view, queries of the second
    :param second: (rows, columns, channels) float16, keys of the second view, queries of the first
    """

    first: NDArray[np.float16]
    second: NDArray[np.float16]


@dataclass(frozen=True, eq=False)
class Tracks:
    """
    Keypoints of a view in a number of views.

    :param positions: (V, K, 2) float32 pixels of each view's grid, not clamped to it
    :param probability: (V, K) float32, that the point is seen there, and found to a few pixels
    """

    positions: NDArray[np.float32]
    probability: NDArray[np.float32]

    def within(self, view: int) -> Tracks:
        """Select one of the views."""
        return Tracks(self.positions[view:view + 1], self.probability[view:view + 1])


@dataclass(frozen=True, eq=False)
class ViewLabels:
    """
    Classes of the pixels of a view's grid, by a network.

    :param classes: (H, W) uint8; 0 where unknown
    :param confidence: (H, W) float32 in [0, 1]
    :param instances: (H, W) uint16 objects, the same ones in all views of a group; 0 where there
        is none
    """

    classes: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    instances: NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class Prediction:
    """
    A hyper-edge: the pointmaps of a group of views in the first view's camera frame.

    The pointmap of view k > 0, projected into the first camera, gives the correspondence of each
    of its pixels; alignment uses it as a correspondence field.

    :param pointmaps: one (H, W, 3) float32 array per view; arbitrary scale unless `metric`; never
        NaN
    :param confidences: one (H, W) float32 array per view, > 0. A confidence is the inverse
        variance of the point's relative depth; at least `MATCHED` where the pixel is visible in
        the other view, with or without depth, and `NO_CONFIDENCE` where it is not
    :param focal: focal length in pixels of the first view's grid, where the predictor estimates
        one
    :param metric: whether the scale is in metres
    :param learned: whether depths are a network's, and so valid without parallax, rather than
        triangulated with the pair's own pose
    :param attention: statistics of the pair's attention, where the predictor has any
    :param moving: (H, W) int8 of the first view: 1 where the match in the other view is dynamic,
        that is inconsistent with the camera's motion at any depth; -1 where it is static; 0 where
        unknown; (n, H, W) of all views of a larger group. None where the predictor does not
        estimate it
    :param T_first_view: (4, 4) for each view of a larger group: its camera in the first one's
        frame. None for pairs. Confidences of a larger group are those of the points, visible
        or not in the first view; see `pointmaps.as_pair`
    :param cameras: one for each view of a larger group: the pinhole camera of its points, on its
        grid
    :param tracks: for each view of a larger group, its keypoints in all views of the group; of a
        pair, for the second view, its keypoints in the first. None where the predictor tracks
        none
    :param labels: for each view, where the predictor recognises objects
    """

    pointmaps: tuple[NDArray[np.float32], ...]
    confidences: tuple[NDArray[np.float32], ...]
    focal: float | None = None
    metric: bool = False
    learned: bool = False
    attention: PairAttention | None = None
    moving: NDArray[np.int8] | None = None
    T_first_view: tuple[NDArray[np.float64], ...] | None = None
    cameras: tuple[Camera, ...] | None = None
    tracks: tuple[Tracks, ...] | None = None
    labels: tuple[ViewLabels, ...] | None = None


NO_CONFIDENCE = 1e-6
MATCHED = 1e-4
#: Least probability of a track that is used; the authors of VGGT draw tracks from 0.2 on
SURE_TRACK = 0.5


@runtime_checkable
class PeopleFinder(Protocol):
    """Finds the people in an image: a predictor may do it, too."""

    def find(self, image: NDArray[np.uint8]
             ) -> tuple[NDArray[np.uint16], dict[int, float]] | None:
        """
        Find people.

        :param image: (H, W, 3) RGB or (H, W) grey
        :return: (H, W), 0 nobody, other values a person each, and their scores in [0, 1]; None
            where it cannot look for them any more
        """


class Predictor(Protocol):
    """
    Encodes views once, then predicts pointmaps for groups of them.

    `single_view`: whether a group may be a single view. `reweights`: whether `predict` uses
    `moving`, dynamic masks (H, W), one for each view of a group. `priors` are of the views of a
    group, None for one that is not in the map; a predictor may ignore them. `together`: itself
    where it is a `WindowPredictor`, else None.
    """

    @property
    def single_view(self) -> bool: ...

    @property
    def reweights(self) -> bool: ...

    @property
    def together(self) -> WindowPredictor | None: ...

    def encode(self, view: View) -> Encoding: ...

    def predict(self, groups: Sequence[tuple[Encoding, ...]],
                moving: Sequence[tuple[NDArray[np.bool_], ...]] | None = None,
                priors: Sequence[tuple[MapPrior | None, ...]] | None = None
                ) -> list[Prediction]: ...


class WindowPredictor(Predictor, Protocol):
    """
    Processes a window of more than two views jointly.

    `remember` returns the memory of a view, kept while it is in the window: its encoding, or a
    network's memory, given the memories of the views before it, oldest first. It is immutable, and
    not saved with the map: it is recomputed from the views.
    `predict_together` predicts a group, given the memories of the window's views, most important
    first, which may include views of the group. Its prediction has `T_first_view` and `cameras`,
    for groups of one and two views, too. `priors` are of the views of the group, then of those of
    the memory, None for one that is not in the map; nothing is known where it is empty.
    """

    @property
    def window(self) -> Window: ...

    def remember(self, view: Encoding, memory: Sequence[Any]) -> Any: ...

    def predict_together(self, group: tuple[Encoding, ...], memory: Sequence[Any] = (),
                         priors: Sequence[MapPrior | None] = ()) -> Prediction: ...
