# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What goes into a predictor and what comes out (design, section 3).

Conventions: `T_a_b` maps points of frame b to frame a; camera frames are optical (x right, y down,
z forward); pixel (u, v) = (column, row) with pixel centres at integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, Sequence

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.models.registry import Window


@dataclass(frozen=True, eq=False)
class PosePrior:
    """
    Where a camera is believed to be.

    :param T_map_cam: (4, 4), map units
    :param covariance: (6, 6) of [omega, v], left perturbation in the camera frame
    """

    T_map_cam: NDArray[np.float64]
    covariance: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class View:
    """
    One rectified image handed to a predictor, and what is known of it.

    :param image: (H, W, 3) RGB or (H, W) grey, uint8, free of lens distortion
    :param camera: pinhole camera of `image`; its focal length is a guess where `calibrated` is
        False
    :param calibrated: whether the intrinsics are known
    :param moving: (h, w) of any size, what is known to move in it, for predictors that measure
        the camera's motion; None where nothing is known
    :param depth: (H, W) float32 measured along the optical axis, metres, NaN where unknown; None
        where it was not measured
    :param pose: by tracking; None where it is not known
    """

    image: NDArray[np.uint8]
    camera: Camera
    calibrated: bool = True
    moving: NDArray[np.bool_] | None = None
    depth: NDArray[np.float32] | None = None
    pose: PosePrior | None = None


class Encoding(Protocol):
    """
    What a predictor keeps of one view for as long as its keyframe lives.

    `camera` is the pinhole camera of the pointmap grid: the view's camera carried through the
    predictor's own resize and crop. `image` (H, W, 3) uint8 is the view on that same grid.
    `descriptor` (D,) float32, unit length, compares whole images by dot product.
    `keypoints` (K, 2) int32 salient grid pixels (u, v), where correspondences are most exact:
    tracking and alignment sample there.
    `features` (rows, columns, C) float32 of the image's patches, alike for what belongs together;
    None where the predictor has none.
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
    What the decoders of a directed pair attend to (Easi3R, section 3.2).

    Cross-attention logits of each token, averaged over the tokens of the other view that ask;
    channels are decoder steps times heads.

    :param first: (rows, columns, channels) float16, what the second view asks of the first
    :param second: (rows, columns, channels) float16, what the first view asks of the second
    """

    first: NDArray[np.float16]
    second: NDArray[np.float16]


@dataclass(frozen=True, eq=False)
class Prediction:
    """
    A hyper-edge: the pointmaps of a group of views in the first view's camera frame.

    The pointmap of view k > 0, projected into the first camera, says where each of its pixels is
    seen there; alignment uses it as a correspondence field.

    :param pointmaps: one (H, W, 3) float32 array a view; arbitrary scale unless `metric`; NaN
        nowhere
    :param confidences: one (H, W) float32 array a view, > 0. A confidence is the
        inverse variance of the point's relative depth; at least `MATCHED` where the pixel is seen
        in the other view, whether or not it has depth, and `NO_CONFIDENCE` where it is not
    :param focal: focal length in pixels of the first view's grid, where the predictor estimates
        one
    :param metric: whether the scale is in metres
    :param learned: whether depths were learned from images, and so hold without parallax, rather
        than triangulated with the pair's own pose
    :param attention: statistics of the pair's attention, where the predictor has any
    :param moving: (H, W) int8 of the first view: 1 where it is seen in the other one but, however
        deep it were, not where the camera's motion can have brought it; -1 where that explains it;
        0 where nothing is known; (n, H, W) of all views of a larger group. None where the
        predictor does not tell
    :param T_first_view: (4, 4) for each view of a larger group: its camera in the first one's
        frame. None for pairs. Confidences of a larger group are those of the points, whether or
        not the first view sees them; see `pointmaps.as_pair`
    :param cameras: one for each view of a larger group: the pinhole camera, on its grid, that its
        points were made with
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


NO_CONFIDENCE = 1e-6
MATCHED = 1e-4


class Predictor(Protocol):
    """
    Encodes views once, then predicts pointmaps for groups of them.

    `single_view` says whether a group may be one view alone, `reweights` whether `predict` heeds
    `moving`: dynamic masks (H, W), one for each view of a group; `together` is itself where it
    looks at windows of views, else None.
    """

    @property
    def single_view(self) -> bool: ...

    @property
    def reweights(self) -> bool: ...

    @property
    def together(self) -> WindowPredictor | None: ...

    def encode(self, view: View) -> Encoding: ...

    def predict(self, groups: Sequence[tuple[Encoding, ...]],
                moving: Sequence[tuple[NDArray[np.bool_], ...]] | None = None
                ) -> list[Prediction]: ...


class WindowPredictor(Predictor, Protocol):
    """
    Looks at more than two views together: `window` of them.

    `remember` says what is kept of a view while its window lasts, given what is kept of the views
    before it, oldest first: its encoding, or a network's memory of it. It is a value, of which
    nothing changes any more. What is kept is never saved: it is made again of the views.
    `predict_together` predicts a group by what is kept of the views of its window, most important
    first; some of these may be of the group. It has `T_first_view` and `cameras`, for groups of
    one and two views, too.
    """

    @property
    def window(self) -> Window: ...

    def remember(self, view: Encoding, memory: Sequence[Any]) -> Any: ...

    def predict_together(self, group: tuple[Encoding, ...], memory: Sequence[Any] = ()
                         ) -> Prediction: ...
