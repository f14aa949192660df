# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Metric scale of the map: by odometry, a depth camera, a rig, the camera's height, or a network.

All are robust means of ratios of lengths. Ratios are compared by their logarithms, so that twice
too long and half as long are errors of one size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry.depth_noise import DepthNoise, STRUCTURED_LIGHT
from recon3r_ros.slam.ground import camera_height
from recon3r_ros.slam.types import Frame, Keyframe, Map, MetricScale

Array = NDArray[np.float64]

#: Length (metres, by odometry) of the pieces of the way that are compared
CHORD = 0.2
#: Pieces that are kept, the newest ones, and that it takes for an estimate
MAX_CHORDS, MIN_CHORDS = 200, 5
#: A piece that took longer than this (ns) is not compared: odometry drifts even at rest
MAX_DURATION_NS = 20_000_000_000
#: Relative error of odometry that no number of pieces averages out: wheels' radii
ODOMETRY_FLOOR = 0.01
#: Relative error of a network's metres, likewise: scenes unlike those it was trained on
MODEL_FLOOR = 0.1
#: Relative error of a height above the floor, likewise: depths of floors are hardly textured, and
#: err alike. Those of KITTI 06 are 6 % too far, of simulated rooms 3 %
HEIGHT_FLOOR = 0.06
#: Keyframes with a floor that it takes, and share of those examined that must agree
MIN_FLOORS, AGREEING = 3, 0.5
#: Newest keyframes whose floor is searched again: their depths still change
FLOORS = 3
#: Pixels of a keyframe that it takes, and inverse variance of their relative depths in the map
MIN_PIXELS, MIN_CONFIDENCE = 200, 25.0
#: Keyframes whose ratio is kept, the newest ones
MAX_KEYFRAMES = 50
#: Measured depths that are kept until the map's own are settled
MAX_MEASURED = 4
#: Depths beyond this ratio to their keyframe's are its outliers: steps, reflections
MAX_RATIO = 1.5
#: Spread of the ratios of chords, keyframes and predictions that is expected at least
_CHORD_SPREAD, _KEYFRAME_SPREAD, _MODEL_SPREAD, _FLOOR_SPREAD = 0.03, 0.01, 0.05, 0.03
#: Independent pieces of a keyframe's depth: its errors are alike from pixel to pixel
_PIECES = 10
#: Width of Tukey's biweight in standard deviations: 95 % efficient
_BIWEIGHT = 4.685
_ROUNDS = 20


class OdometryScale:
    """
    Compares distances travelled in the map with those that odometry reports.

    The way is cut into chords of equal length. A chord begins where the last one ended; what the
    robot does in between, standing or turning on the spot, does not count.
    """

    def __init__(self) -> None:
        self._begin: tuple[int, Array, Array] | None = None
        self._chords: deque[tuple[float, float]] = deque(maxlen=MAX_CHORDS)
        self._estimate: MetricScale | None = None

    def add(self, stamp_ns: int, odom: Array, position: Array) -> None:
        """
        Add a place of the camera.

        :param stamp_ns: in ascending order
        :param odom: (3,) in the odometry frame, metres
        :param position: (3,) in the map, map units
        """
        if self._begin is None or not 0 <= stamp_ns - self._begin[0] < MAX_DURATION_NS:
            self._begin = (stamp_ns, odom.copy(), position.copy())
            return
        travelled = float(np.linalg.norm(odom - self._begin[1]))
        if travelled < CHORD:
            return
        moved = float(np.linalg.norm(position - self._begin[2]))
        self._begin = (stamp_ns, odom.copy(), position.copy())
        if moved == 0:
            return
        self._chords.append((travelled, moved))
        if len(self._chords) >= MIN_CHORDS:
            ratios = np.log(np.array(self._chords))
            value, sigma = robust_mean(ratios[:, 0] - ratios[:, 1], _CHORD_SPREAD)
            self._estimate = MetricScale(
                float(np.exp(value)), float(np.hypot(sigma, ODOMETRY_FLOOR)), 'odometry')

    def interrupt(self) -> None:
        """End the present chord: tracking was lost, or the map was corrected."""
        self._begin = None

    @property
    def estimate(self) -> MetricScale | None:
        """The scale, where the robot has travelled far enough to tell."""
        return self._estimate


class DepthScale:
    """
    Compares depths in the map with those that a depth camera, or a stereo rig, measures.

    :param before: the scale of a recovered map, until there are measurements
    """

    def __init__(self, before: MetricScale | None = None) -> None:
        self._before = before
        self._ratios: dict[int, tuple[float, float]] = {}
        self._noise = STRUCTURED_LIGHT
        self._estimate: MetricScale | None = None

    def copy(self) -> DepthScale:
        """Return what is known now, to come back to."""
        return self.joined(DepthScale(), 1.0)

    def joined(self, addition: DepthScale, scale: float) -> DepthScale:
        """
        Return this one with what was measured in another map.

        :param addition: of that map; where a keyframe is in both, it is left out
        :param scale: factor from its units of length to these
        """
        out = DepthScale(self._before)
        out._noise = self._noise if self._ratios else addition._noise
        moved = {i: (ratio - float(np.log(scale)), spread)
                 for i, (ratio, spread) in addition._ratios.items() if i not in self._ratios}
        out._ratios = {**self._ratios, **moved}
        out._settle()
        return out

    def rescale(self, keyframe: int, factor: float) -> None:
        """Take into account that a keyframe's depths in the map have become longer."""
        if keyframe in self._ratios:
            ratio, spread = self._ratios[keyframe]
            self._ratios[keyframe] = ratio - float(np.log(factor)), spread
            self._settle()

    def add(self, depth: NDArray[np.float32], keyframe: Keyframe,
            noise: DepthNoise = STRUCTURED_LIGHT) -> None:
        """
        Add a keyframe whose depth was measured; one that is known already is replaced.

        :param depth: (H, W) metres along the optical axis, NaN or 0 where unknown: the keyframe's
            view in any size
        :param noise: of depths by this source; its floor is an error that no number of keyframes
            averages out
        """
        height, width = keyframe.inverse_depth.shape
        rows = ((np.arange(height) + 0.5) * depth.shape[0] / height).astype(int)
        cols = ((np.arange(width) + 0.5) * depth.shape[1] / width).astype(int)
        measured = depth[np.ix_(rows, cols)].astype(np.float64)
        with np.errstate(invalid='ignore'):
            use = (noise.usable(measured) & (keyframe.inverse_depth > 0)
                   & (keyframe.confidence > MIN_CONFIDENCE) & ~keyframe.mask)
        if use.sum() < MIN_PIXELS:
            return
        ratios = np.log(measured[use] * keyframe.inverse_depth[use])
        middle = float(np.median(ratios))
        near = ratios[np.abs(ratios - middle) < np.log(MAX_RATIO)]
        self._ratios.pop(keyframe.id, None)
        self._ratios[keyframe.id] = (float(np.median(near)), float(np.std(near)))
        self._noise = noise
        self._settle()

    def _settle(self) -> None:
        """Keep the newest keyframes; the estimate is made again when it is asked for."""
        while len(self._ratios) > MAX_KEYFRAMES:
            del self._ratios[next(iter(self._ratios))]
        self._estimate = None

    @property
    def estimate(self) -> MetricScale | None:
        """The scale, from the first keyframe with enough depth on."""
        if not self._ratios:
            return self._before
        if self._estimate is None:
            values, spreads = np.array(list(self._ratios.values())).T
            value, sigma = robust_mean(values, _KEYFRAME_SPREAD)
            # A few keyframes may agree by chance
            sigma = max(sigma, float(np.median(spreads)) / np.sqrt(_PIECES * len(values)))
            self._estimate = MetricScale(float(np.exp(value)), float(
                np.hypot(sigma, self._noise.floor)), self._noise.source)
        return self._estimate


class ModelScale:
    """
    Compares depths in the map with those that a network predicts in metres.

    :param before: the scale of a recovered map, until there are predictions
    """

    def __init__(self, before: MetricScale | None = None) -> None:
        self._before = before
        self._ratios: dict[int, float] = {}

    def copy(self) -> ModelScale:
        """Return what is known now, to come back to."""
        out = ModelScale(self._before)
        out._ratios = dict(self._ratios)
        return out

    def add(self, keyframe: int, metres: Sequence[float]) -> None:
        """
        Add a keyframe's predictions, in place of earlier ones.

        :param metres: per map unit, one for each prediction; may be empty
        """
        if len(metres) == 0:
            return
        self._ratios.pop(keyframe, None)
        self._ratios[keyframe] = float(np.mean(np.log(metres)))
        while len(self._ratios) > MAX_KEYFRAMES:
            del self._ratios[next(iter(self._ratios))]

    def rescale(self, keyframe: int, factor: float) -> None:
        """Take into account that a keyframe's depths in the map have become longer."""
        if keyframe in self._ratios:
            self._ratios[keyframe] -= float(np.log(factor))

    @property
    def estimate(self) -> MetricScale | None:
        """The scale, where there are metric predictions."""
        if not self._ratios:
            return self._before
        value, sigma = robust_mean(np.array(list(self._ratios.values())), _MODEL_SPREAD)
        return MetricScale(float(np.exp(value)), float(np.hypot(sigma, MODEL_FLOOR)), 'model')


class HeightScale:
    """
    Compares heights of the camera above the floor with the known one.

    :param height: of the camera above the floor, metres; 0 where unknown
    """

    def __init__(self, height: float) -> None:
        self._height = height
        self._ratios: dict[int, float] = {}
        self._estimate: MetricScale | None = None

    def add(self, known: Map, newest: int = FLOORS) -> None:
        """
        Search the floor below some keyframes, in place of what was found before.

        :param known: the map; one of several cameras, whose heights differ, is left out
        :param newest: how many keyframes
        """
        if self._height == 0 or len({k.camera_name for k in known.keyframes.values()}) != 1:
            self._estimate = None
            return
        for i in list(known.keyframes)[-newest:]:
            found = camera_height(known.keyframes[i], known)
            self._ratios.pop(i, None)
            if found is not None:
                self._ratios[i] = float(np.log(self._height / found))
        while len(self._ratios) > MAX_KEYFRAMES:
            del self._ratios[next(iter(self._ratios))]
        self._estimate = self._agreed()

    def _agreed(self) -> MetricScale | None:
        """Return what most keyframes say, if there are enough."""
        values = np.array(list(self._ratios.values()))
        if len(values) < MIN_FLOORS:
            return None
        value, sigma = robust_mean(values, _FLOOR_SPREAD)
        if np.mean(np.abs(values - value) < 2 * HEIGHT_FLOOR) < AGREEING:
            return None
        return MetricScale(
            float(np.exp(value)), float(np.hypot(sigma, HEIGHT_FLOOR)), 'camera_height')

    @property
    def estimate(self) -> MetricScale | None:
        """The scale, where enough keyframes agree on a floor."""
        return self._estimate


class ScaleSources:
    """
    All estimates of the metric scale of one map.

    :param saved: the scale of a loaded map, used until there is an estimate
    :param height: of the camera above the floor, metres; 0 where unknown
    """

    def __init__(self, saved: MetricScale | None = None, height: float = 0.0) -> None:
        self._saved = saved
        self._height = height
        self._floor = HeightScale(height)
        self._odometry = OdometryScale()
        self._depths: dict[str, DepthScale] = {}
        self._measured: dict[int, tuple[NDArray[np.float32], DepthNoise]] = {}

    def of_another(self) -> ScaleSources:
        """Return those of another map of the same cameras, without estimates."""
        return ScaleSources(height=self._height)

    def add_pose(self, frame: Frame, T_map_cam: Array) -> None:
        """Compare a frame's pose (4, 4), map units, with the odometry that came with it."""
        if frame.T_odom_cam is not None:
            self._odometry.add(frame.stamp_ns, frame.T_odom_cam[:3, 3], T_map_cam[:3, 3])

    def add_depth(self, keyframe: int, depth: NDArray[np.float32] | None, known: Map,
                  noise: DepthNoise = STRUCTURED_LIGHT) -> None:
        """
        Compare measured depths and heights with the map's, which come with later keyframes.

        :param keyframe: id of a new one
        :param depth: (H, W) measured with it, metres, NaN where unknown; None where it was not
        :param noise: of that depth
        """
        self._floor.add(known)
        if depth is not None:
            self._measured[keyframe] = depth, noise
        while len(self._measured) > MAX_MEASURED:
            del self._measured[next(iter(self._measured))]
        for i, (measured, noise) in self._measured.items():
            if i in known.keyframes:
                self._depths.setdefault(noise.source, DepthScale()).add(
                    measured, known.keyframes[i], noise)

    def add_refined(self, known: Map) -> None:
        """Compare heights with those in a map that was refined as a whole."""
        self._floor.add(known, MAX_KEYFRAMES)

    def interrupt(self) -> None:
        """End the present chord: tracking was lost, or the map was corrected."""
        self._odometry.interrupt()

    def metric(self, source: str, model: MetricScale | None, rig: MetricScale | None = None
               ) -> MetricScale | None:
        """
        Metres per map unit, where known.

        :param source: 'odometry', 'depth', 'rig', 'camera_height', 'model', 'none', or 'auto' for
            the most certain one
        :param model: what metric predictions say
        :param rig: what stereo, or the distances between a rig's cameras say
        """
        if source == 'none':
            return None
        depths = (rig, *(depth.estimate for depth in self._depths.values()))
        return choose(source, self._odometry.estimate, *depths, self._floor.estimate,
                      model) or self._saved


def choose(source: str, *estimates: MetricScale | None) -> MetricScale | None:
    """
    Take the estimate of a source.

    :param source: see `ScaleSources.metric`
    :param estimates: of all sources
    """
    known = [e for e in estimates if e is not None and source in ('auto', e.source)]
    return min(known, key=lambda e: e.sigma, default=None)


def robust_mean(values: Array, least: float) -> tuple[float, float]:
    """
    Mean of the values that agree, however many others there are on one side.

    Wheels that slip only ever report too much, in bursts that spoil half of the chords and more:
    then the median lies among the spoilt ones. So the search begins where values lie closest, in
    the shortest interval with a quarter of them, and goes on by Tukey's biweight.

    :param values: (N,), N > 0
    :param least: spread of good values that is expected at least
    :return: the mean and its standard deviation
    """
    values = np.sort(values)
    count = min(len(values), max(3, -(-len(values) // 4)))
    begin = int(np.argmin(values[count - 1:] - values[:len(values) - count + 1]))
    # A value, not a mean of some: there is always one with weight
    mean, spread = float(values[begin + count // 2]), least
    for _ in range(_ROUNDS):
        u = (values - mean) / (_BIWEIGHT * spread)
        weights = np.maximum(1 - u ** 2, 0) ** 2
        mean = float(np.average(values, weights=weights))
        variance = float(np.average((values - mean) ** 2, weights=weights))
        # A normal distribution's variance is 0.8 of its own under these weights
        spread = max(float(np.sqrt(variance / 0.8)), least)
    kept = int((weights > 0).sum())
    # Asymptotic variance (Huber 1981, section 3.2), for small samples; at least a quarter of what
    # the expected spread gives; and the less certain the more values do not agree
    slope = float(np.sum(np.where(np.abs(u) < 1, (1 - u ** 2) * (1 - 5 * u ** 2), 0)))
    error = float(np.linalg.norm(weights * (values - mean))) / max(slope, 1.0)
    error = max(error * np.sqrt(kept / max(kept - 1, 1)), 0.5 * least / np.sqrt(kept))
    return mean, float(error) * len(values) / kept
