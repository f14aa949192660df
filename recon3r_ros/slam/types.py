# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The dataclasses that pass between the stages (design, section 1).

Conventions: `T_a_b` maps points of frame b to frame a; camera frames are optical (x right, y down,
z forward); pixel (u, v) = (column, row) with pixel centres at integers; stamps are integer
nanoseconds; lengths are in map units, metres once the scale is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera, pixel_grid
from recon3r_ros.models.types import Prediction, ViewLabels
from recon3r_ros.slam.imu.samples import ImuSamples
from recon3r_ros.slam.semantics import Labels, People

F = TypeVar('F', bound=np.floating)



@dataclass(frozen=True, eq=False)
class StereoView:
    """
    The image of a rig's second camera, of the same instant as a frame of the first one.

    :param image: (H, W, 3) RGB or (H, W) grey, uint8
    :param camera: intrinsics and distortion of `image`
    :param T_cam_other: (4, 4) pose of the second camera in the first one's frame, metres
    :param camera_name: which camera took it
    """

    image: NDArray[np.uint8]
    camera: Camera
    T_cam_other: NDArray[np.float64]
    camera_name: str = 'right'


@dataclass(frozen=True, eq=False)
class RigMount:
    """
    How a camera is mounted on a rig, and at which instant of the rig it took an image.

    :param T_rig_cam: (4, 4) pose of the camera on the rig, metres
    :param instant_ns: stamp of the instant, the same for all cameras' images of it
    """

    T_rig_cam: NDArray[np.float64]
    instant_ns: int


@dataclass(frozen=True, eq=False)
class Frame:
    """
    One source image.

    :param image: (H, W, 3) RGB or (H, W) grey, uint8
    :param stamp_ns: integer nanoseconds
    :param name: the source image's stem, unique within a sequence; names the output files
    :param index: position in the sequence, from 0
    :param camera: intrinsics and distortion of `image`, or None where unknown
    :param camera_name: which camera took it
    :param depth: (h, w) float32 metres along the optical axis, NaN where unknown: the same view
        in any size, or None
    :param mask: (H, W) True on dynamic objects that the user knows, or None
    :param T_odom_cam: (4, 4) pose of the camera by odometry, metres, or None
    :param static_mask: (H, W) True on what the user knows to be fixed to the camera, the same for
        all its images, or None
    :param focal_prior: focal length, pixels, that is refined where `camera` is None; None: guessed
    :param stereo: what the second camera of a stereo rig saw at the same instant, or None
    :param mount: of its camera, where that is one of several on a rig, or None
    :param imu: samples until this image, at least since its camera's image before, or None
    :param people: that a source found in `image`; None where it was not searched
    :param labels: classes of the pixels of `image`, or None
    """

    image: NDArray[np.uint8]
    stamp_ns: int
    name: str
    index: int
    camera: Camera | None = None
    camera_name: str = 'camera'
    depth: NDArray[np.float32] | None = None
    mask: NDArray[np.bool_] | None = None
    T_odom_cam: NDArray[np.float64] | None = None
    focal_prior: float | None = None
    static_mask: NDArray[np.bool_] | None = None
    stereo: StereoView | None = None
    mount: RigMount | None = None
    imu: ImuSamples | None = None
    people: People | None = None
    labels: Labels | None = None


@dataclass(frozen=True, eq=False)
class PointCloud:
    """
    Coloured points.

    :param points: (N, 3) float32
    :param colors: (N, 3) uint8 RGB
    :param confidences: (N,) float32, > 0
    :param labels: (N,) uint8 classes, 0 where unknown; None where there is no source of them
    :param instances: (N,) uint16 objects, 0 where unknown; None likewise
    """

    points: NDArray[np.float32]
    colors: NDArray[np.uint8]
    confidences: NDArray[np.float32]
    labels: NDArray[np.uint8] | None = None
    instances: NDArray[np.uint16] | None = None

    @classmethod
    def empty(cls) -> PointCloud:
        """Return a cloud without points."""
        return cls(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8),
                   np.zeros(0, np.float32))

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.points)

    def scaled(self, factor: float) -> PointCloud:
        """Give the points another unit of length."""
        return replace(self, points=self.points * np.float32(factor))


@dataclass(frozen=True, eq=False)
class Gaussians:
    """
    Coloured 3-D Gaussians: 3DGS (Kerbl et al., SIGGRAPH 2023) of SH degree 0.

    :param means: (N, 3) float32
    :param quaternions_wxyz: (N, 4) float32 unit quaternions: axes of the Gaussian to the frame
    :param scales: (N, 3) float32 standard deviations along those axes
    :param opacities: (N,) float32, above 0 and below 1
    :param colors: (N, 3) float32 RGB, 0 to 1
    """

    means: NDArray[np.float32]
    quaternions_wxyz: NDArray[np.float32]
    scales: NDArray[np.float32]
    opacities: NDArray[np.float32]
    colors: NDArray[np.float32]

    def __len__(self) -> int:
        """Return the number of Gaussians."""
        return len(self.means)


class TrackingState(Enum):
    """State of the tracker (design, section 5)."""

    INITIALISING = 'initialising'
    TRACKING = 'tracking'
    LOST = 'lost'


@dataclass(frozen=True, eq=False)
class Keyframe:
    """
    A keyframe: a view with its pose and depth.

    :param id: position among the keyframes, from 0
    :param name: of its frame
    :param stamp_ns: of its frame
    :param index: of its frame
    :param camera: pinhole camera of the pointmap grid
    :param image: (H, W, 3) uint8 RGB on the grid
    :param gray: (H', W') uint8 tracking image, the same view in finer pixels
    :param descriptor: (D,) float32 unit vector for place recognition
    :param keypoints: (K, 2) int32 salient grid pixels, the landmarks of bundle adjustment
    :param T_map_cam: (4, 4)
    :param landmarks: (K,) inverse depths of the keypoints, 1 / map units; 0 where unknown
    :param information: (K,) inverse variances of the keypoints' relative depths
    :param inverse_depth: (H, W) float32, 1 / map units along z; 0 where unknown
    :param confidence: (H, W) float32 inverse variance of the relative depth; 0 where unknown
    :param mask: (H, W) dynamic objects, which are excluded from the map
    :param camera_name: of its frame
    :param attention: (H, W) dynamic objects by the attention of a network, while the keyframe is
        in the window; None without one, or with too few partners
    :param mount: of its camera on a rig, or None
    :param labels: classes of the pixels of the grid by a network, or None
    """

    id: int
    name: str
    stamp_ns: int
    index: int
    camera: Camera
    image: NDArray[np.uint8]
    gray: NDArray[np.uint8]
    descriptor: NDArray[np.float32]
    keypoints: NDArray[np.int32]
    T_map_cam: NDArray[np.float64]
    landmarks: NDArray[np.float64]
    information: NDArray[np.float64]
    inverse_depth: NDArray[np.float32]
    confidence: NDArray[np.float32]
    mask: NDArray[np.bool_]
    camera_name: str = 'camera'
    attention: NDArray[np.bool_] | None = None
    mount: RigMount | None = None
    labels: ViewLabels | None = None

    def depth(self) -> NDArray[np.float32]:
        """Depth (H, W) float32 along the optical axis, map units; NaN where unknown."""
        return depth_of(self.inverse_depth)

    def pointmap(self) -> NDArray[np.float32]:
        """Points (H, W, 3) float32 in the keyframe's camera frame; NaN where unknown."""
        return (self.rays() * self.depth()[..., None]).astype(np.float32)

    def rays(self) -> NDArray[np.float32]:
        """Return the viewing rays (H, W, 3) float32 of the grid, z = 1."""
        return self.camera.unproject(
            pixel_grid(self.camera.height, self.camera.width)).astype(np.float32)

    def median_depth(self) -> float:
        """Median depth of the landmarks, map units; 1 where none is known."""
        known = self.landmarks[self.landmarks > 0]
        return 1 / float(np.median(known)) if len(known) else 1.0

    def landmark_points(self) -> NDArray[np.float64]:
        """Points (K, 3) of the keypoints in the camera frame; NaN where unknown."""
        return self.camera.unproject(self.keypoints) * depth_of(self.landmarks)[:, None]


@dataclass(frozen=True, eq=False)
class Correspondence:
    """
    Projections of an anchor's pixels in an observer, by the anchor's pointmap in its frame.

    :param targets: (H, W, 2) float32 pixels of the observer's grid
    :param confidence: (H, W) float32; 0 where unknown or outside the image
    """

    targets: NDArray[np.float32]
    confidence: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Pair:
    """
    The predictions of a new keyframe with a partner, in the partner's frame and in its own.

    :param window: of the hyper-edge that both were taken from, whose pairs have one unit of
        length; None for a pair that was predicted by itself
    """

    partner: int
    forward: Prediction
    backward: Prediction
    of_new: Correspondence
    of_partner: Correspondence
    window: int | None = None


@dataclass(frozen=True)
class MapEdge:
    """
    Two keyframes whose views were processed jointly.

    :param i: id of the older one
    :param j: id of the newer one
    :param loop: whether it closes a loop
    """

    i: int
    j: int
    loop: bool = False


@dataclass(frozen=True, eq=False)
class Retired:
    """
    A culled keyframe, and the one that replaces it.

    :param keyframe: id of the one that replaces it
    :param T_keyframe_retired: (4, 4)
    :param keyframe_scale: `Map.scale_of(keyframe)` at culling
    :param scale: of the culled one at culling
    """

    keyframe: int
    T_keyframe_retired: NDArray[np.float64]
    keyframe_scale: float
    scale: float


@dataclass(frozen=True)
class FocalEstimate:
    """
    A factor of given focal lengths that the images agree best with.

    :param factor: estimated over given focal length
    :param sigma: standard deviation of its logarithm
    """

    factor: float
    sigma: float


@dataclass(frozen=True, eq=False)
class Map:
    """
    An immutable snapshot of the keyframes.

    :param keyframes: by id, oldest first; a single first one has depth only where that was
        measured or predicted
    :param scales: factor of each keyframe's depths by loop closures since it was added
    :param edges: which keyframes were processed jointly
    :param focal_factor: true over initial focal length, of an uncalibrated camera
    :param retired: culled keyframes, by id
    :param metric: scale of the map, where predictions are metric
    :param number: of the map, in the order of their beginning: another one begins where tracking
        is lost for long. Ids of keyframes are unique in all of them
    :param focal_contradiction: what the images say where they contradict given focal lengths
    :param metre: length of a metre in map units, where the map was built with it: by measured
        depth, or by the distances between a rig's cameras
    :param focal_refined: refined over given focal length, of a calibrated camera with depth
    :param rig_metric: scale of the map, by stereo or by the distances between a rig's cameras
    """

    keyframes: Mapping[int, Keyframe] = field(default_factory=dict)
    scales: Mapping[int, float] = field(default_factory=dict)
    edges: tuple[MapEdge, ...] = ()
    focal_factor: float = 1.0
    retired: Mapping[int, Retired] = field(default_factory=dict)
    metric: MetricScale | None = None
    number: int = 0
    focal_contradiction: FocalEstimate | None = None
    metre: float | None = None
    focal_refined: float = 1.0
    rig_metric: MetricScale | None = None

    def __contains__(self, keyframe: int) -> bool:
        """Whether a keyframe is in the map, or was and has been replaced."""
        return keyframe in self.keyframes or keyframe in self.retired

    @property
    def started(self) -> bool:
        """Whether there is depth."""
        return len(self.keyframes) > 1 or any(
            bool(k.information.any()) for k in self.keyframes.values())

    @property
    def newest(self) -> Keyframe:
        """The keyframe added last."""
        return self.keyframes[max(self.keyframes)]

    def scale_of(self, i: int) -> float:
        """Factor of a keyframe's depths by loop closures since it was added."""
        return self.scales.get(i, 1.0)

    def present(self, i: int) -> Keyframe:
        """Return a keyframe, or the one that replaces it where it was culled."""
        while i in self.retired:
            i = self.retired[i].keyframe
        return self.keyframes[i]

    def pose_in_map(self, i: int, T_keyframe_cam: NDArray[np.float64], scale: float
                    ) -> NDArray[np.float64]:
        """
        Pose (4, 4) in the map of a camera near a keyframe.

        :param i: id of a keyframe, or of a culled one
        :param T_keyframe_cam: (4, 4)
        :param scale: `scale_of(i)` when that pose was found
        """
        T = T_keyframe_cam
        while i in self.retired:
            retired = self.retired[i]
            T = retired.T_keyframe_retired @ se3.stretched(T, retired.scale / scale)
            i, scale = retired.keyframe, retired.keyframe_scale
        return self.keyframes[i].T_map_cam @ se3.stretched(T, self.scale_of(i) / scale)


def depth_of(inverse_depth: NDArray[F]) -> NDArray[F]:
    """Depth of inverse depth; NaN where it is unknown, which is 0."""
    with np.errstate(divide='ignore'):
        return np.where(inverse_depth > 0, 1 / inverse_depth, inverse_depth.dtype.type(np.nan))


def at(field: NDArray[Any], pixels: NDArray[np.int32]) -> NDArray[Any]:
    """Values of a (H, W, ...) field at (K, 2) pixels."""
    return field[pixels[:, 1], pixels[:, 0]]


@dataclass(frozen=True)
class MetricScale:
    """
    Metric scale of the map.

    :param value: metres per map unit
    :param sigma: standard deviation of the value's logarithm: its relative error
    :param source: what estimated it: 'odometry', 'depth' of a depth camera, 'rig' of several
        cameras, 'camera_height', or 'model'
    """

    value: float
    sigma: float
    source: str


@dataclass(frozen=True, eq=False)
class TrackedFrame:
    """
    A frame with its pose relative to a keyframe, so that it moves with the map's corrections.

    :param name: of the frame
    :param stamp_ns: of the frame
    :param index: of the frame
    :param keyframe: id of the keyframe the pose is relative to
    :param T_keyframe_cam: (4, 4)
    :param covariance: (6, 6) of [omega, v], left perturbation in the camera frame
    :param scale: of the keyframe's depths when the pose was found (`Map.scale_of`)
    :param mask: dynamic objects, at the source image's size (H, W); None where nothing is known
    :param camera_name: which camera took it
    :param landmarks: number of landmarks that agree with the pose
    :param propagated: whether the mask is that of an earlier frame, moved by optical flow
    :param objects: (rows, columns) ids of the dynamic objects in cells of the rectified image, 0
        for none; None where they are not known
    :param mount: of its camera on a rig, or None
    """

    name: str
    stamp_ns: int
    index: int
    keyframe: int = 0
    T_keyframe_cam: NDArray[np.float64] = field(default_factory=lambda: np.eye(4))
    covariance: NDArray[np.float64] = field(default_factory=lambda: np.zeros((6, 6)))
    scale: float = 1.0
    mask: NDArray[np.bool_] | None = None
    camera_name: str = 'camera'
    landmarks: int = 0
    propagated: bool = False
    objects: NDArray[np.int32] | None = None
    mount: RigMount | None = None


@dataclass(frozen=True)
class StageTimes:
    """
    Run time of a frame in each stage, seconds; 0 for stages that did not run.

    CPU time does not depend on the load of the machine. That of a frame is the calling thread's,
    without OpenCV's own threads; that of a keyframe is of all threads and processes.

    :param track: rectification, KLT and PnP
    :param motion: detection of dynamic objects
    :param keyframe: prediction, alignment, refinement and depth, where it became a keyframe
    :param total: all of it
    :param track_cpu: CPU time of `track`
    :param motion_cpu: CPU time of `motion`
    :param total_cpu: CPU time of `total`
    """

    track: float = 0.0
    motion: float = 0.0
    keyframe: float = 0.0
    total: float = 0.0
    track_cpu: float = 0.0
    motion_cpu: float = 0.0
    total_cpu: float = 0.0


@dataclass(frozen=True, eq=False)
class Update:
    """
    Changes by one frame.

    :param state: of the tracker
    :param frames: newly posed frames; several when initialisation succeeds
    :param keyframe: the keyframe that was added, if any
    :param times: run times
    :param masked: frames of the update before that now have their dynamic masks
    :param unposed: the processed frame, with its dynamic mask, where it has no pose
    :param cause: why it has none, in words; '' where it has one
    :param rendered: the processed frame with pose and depth by the model, as a keyframe without
        landmarks that is not in the map, where `track_with_model` is set
    """

    state: TrackingState
    frames: tuple[TrackedFrame, ...]
    keyframe: Keyframe | None
    times: StageTimes = StageTimes()
    masked: tuple[TrackedFrame, ...] = ()
    unposed: TrackedFrame | None = None
    cause: str = ''
    rendered: Keyframe | None = None
