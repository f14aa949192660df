# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Metric scale: simulated walks with the errors of real odometry, and depth cameras."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.depth_noise import DepthNoise, STRUCTURED_LIGHT
from recon3r_ros.slam.scale import (
    choose,
    DepthScale,
    MAX_CHORDS,
    MAX_KEYFRAMES,
    MAX_MEASURED,
    ModelScale,
    ODOMETRY_FLOOR,
    OdometryScale,
    robust_mean,
    ScaleSources,
)
from recon3r_ros.slam.types import Frame, Keyframe, Map, MetricScale

Array = NDArray[np.float64]

#: Metres per map unit in all simulations
TRUE = 2.5
#: Of a stereo rig
RIG = DepthNoise.of_rig(0.3, 500.0, 0.12, 0.2)
W, H = 64, 48


@dataclass(frozen=True)
class Walk:
    """
    A robot that wanders about a plane at a constant speed, with odometry at 20 Hz.

    :param metres: length of the path
    :param speed: metres a second
    :param increments: relative error of each increment of the odometry
    :param jitter: error of each position of the odometry, metres; does not add up
    :param map_noise: error of each position in the map, metres
    :param slip: share of half seconds in which odometry reports up to three times too much
    :param stand: seconds that it stands first, and rotates in place
    :param frame_rate: of the camera
    """

    metres: float = 3.0
    speed: float = 0.4
    increments: float = 0.05
    jitter: float = 0.0
    map_noise: float = 0.003
    slip: float = 0.0
    stand: float = 0.0
    frame_rate: float = 30.0

    def samples(self, seed: int) -> tuple[Array, Array, Array]:
        """Return stamps (N,) in seconds, odometry (N, 3) and positions in the map (N, 3)."""
        rng = np.random.default_rng(seed)
        times = np.arange(0, self.stand + self.metres / self.speed + 1e-9, 0.05)
        heading = rng.uniform(0, 2 * np.pi) + np.cumsum(0.05 * rng.normal(size=len(times)))
        steps = 0.05 * self.speed * (times > self.stand + 1e-9)[:, None] * np.stack(
            [np.cos(heading), np.sin(heading), 0 * heading], axis=1)
        factors = 1 + self.increments * rng.normal(size=(len(times), 1))
        for begin in range(0, len(times), 10):
            if rng.random() < self.slip:
                factors[begin:begin + 10] *= rng.uniform(1.5, 3)
        odometry = np.cumsum(steps * factors, axis=0)
        odometry += self.jitter * rng.normal(size=odometry.shape)
        stamps = np.arange(0, times[-1], 1 / self.frame_rate)
        odometry, true = (np.stack([np.interp(stamps, times, p[:, k]) for k in range(3)], axis=1)
                          for p in (odometry, np.cumsum(steps, axis=0)))
        return stamps, odometry, (true + self.map_noise * rng.normal(size=true.shape)) / TRUE

    def scale(self, seed: int) -> OdometryScale:
        """Feed an estimator."""
        scale = OdometryScale()
        for stamp, odom, position in zip(*self.samples(seed)):
            scale.add(round(stamp * 1e9), odom, position)
        return scale

    def errors(self, seeds: int) -> tuple[Array, Array]:
        """Errors of the scale's logarithm (seeds,), and the estimator's sigmas."""
        estimates = [self.scale(seed).estimate for seed in range(seeds)]
        assert all(e is not None and e.source == 'odometry' for e in estimates)
        return np.array([[np.log(e.value / TRUE), e.sigma] for e in estimates if e]).T


@pytest.mark.parametrize('walk, share', [
    pytest.param(Walk(), 0.99, id='plain'),
    pytest.param(Walk(speed=1.5), 0.97, id='fast'),
    pytest.param(Walk(speed=0.1, jitter=0.005), 0.97, id='slow, jitter'),
    pytest.param(Walk(map_noise=0.01), 0.97, id='poor map'),
    pytest.param(Walk(speed=1.0, frame_rate=5.0), 0.97, id='few frames'),
    pytest.param(Walk(stand=60.0, jitter=0.005, map_noise=0.005), 0.97, id='stands first'),
    pytest.param(Walk(slip=0.1), 0.93, id='slips a tenth of the time'),
    pytest.param(Walk(slip=0.2, metres=10.0), 0.9, id='slips a fifth of the time'),
])
def test_three_percent_after_three_metres(walk, share):
    errors, sigmas = walk.errors(200 if walk == Walk() else 100)
    assert np.mean(np.abs(errors) < np.log(1.03)) >= share
    # Honest: neither far too sure nor of no use
    assert np.mean(np.abs(errors) < 3 * sigmas) >= share
    assert np.median(sigmas) < 0.03


def test_uncertainty_is_that_of_the_errors():
    for walk in (Walk(increments=0.3), Walk(increments=0.2, map_noise=0.01), Walk(metres=1.5)):
        errors, sigmas = walk.errors(200)
        # Chords share their ends, so that errors partly cancel; what they share also holds for all
        assert 0.4 < np.std(errors / sigmas) < 1.3, walk
        assert abs(np.mean(errors)) < 0.35 * np.median(sigmas), walk
    assert np.median(Walk(increments=0.3).errors(50)[1]) > 1.5 * np.median(Walk().errors(50)[1])


def test_systematic_error_has_a_floor():
    _, sigmas = Walk(metres=60.0, increments=0.0, map_noise=0.0).errors(1)
    assert sigmas[0] >= ODOMETRY_FLOOR


def test_too_short_a_way_says_nothing():
    assert OdometryScale().estimate is None
    assert Walk(metres=0.8).scale(1).estimate is None
    assert Walk(metres=0.001, stand=120.0, jitter=0.005, map_noise=0.02).scale(1).estimate is None


def test_interruption_is_not_part_of_the_way():
    scale, jumps = OdometryScale(), Walk(metres=12.0).samples(3)
    for n, (stamp, odom, position) in enumerate(zip(*jumps)):
        if n % 30 == 0:
            scale.interrupt()  # the map has moved by several metres
        scale.add(round(stamp * 1e9), odom, position + 3 * (n // 30))
    assert scale.estimate is not None
    assert scale.estimate.value == pytest.approx(TRUE, rel=0.03)


def test_corrections_of_the_map_are_outliers():
    scale = OdometryScale()
    for n, (stamp, odom, position) in enumerate(zip(*Walk(metres=12.0).samples(3))):
        scale.add(round(stamp * 1e9), odom, position + 0.5 * (n // 100))
    assert scale.estimate is not None
    assert scale.estimate.value == pytest.approx(TRUE, rel=0.03)


def test_long_pauses_and_clocks_that_jump_back_begin_anew():
    scale = OdometryScale()
    origin, far = np.zeros(3), np.array([5.0, 0, 0])
    for n in range(20):
        scale.add(n * 60_000_000_000, far if n % 2 else origin, origin if n % 2 else far)
        scale.add(n * 60_000_000_000 - 10, origin, far)
    assert scale.estimate is None


def test_wheels_that_spin_on_the_spot_give_nothing():
    scale = OdometryScale()
    for n in range(100):
        scale.add(n * 50_000_000, np.array([0.1 * n, 0, 0]), np.zeros(3))
    assert scale.estimate is None


def test_old_chords_are_forgotten():
    scale = OdometryScale()
    length = 0.0
    for n in range(2 * MAX_CHORDS + 2):
        # In the middle of it a loop has made the map half as long
        length += 0.3 / (TRUE if n < MAX_CHORDS else 2 * TRUE)
        scale.add(n * 1_000_000_000, np.array([0.3 * n, 0, 0]), np.array([length, 0, 0]))
    assert scale.estimate is not None
    assert scale.estimate.value == pytest.approx(2 * TRUE, rel=1e-6)


def keyframe(i: int, rng: np.random.Generator, error: float = 0.03, known: float = 0.8
             ) -> tuple[Keyframe, Array]:
    """Make a keyframe and its true depth (H, W) in metres: a slope with a box in front."""
    depth = np.linspace(1.5, 4.0, W) * np.ones((H, 1)) * rng.uniform(0.7, 1.3)
    depth[10:30, 20:40] *= 0.5
    inverse = TRUE / depth * np.exp(error * rng.normal(size=(H, W)))
    has_depth = rng.random((H, W)) < known
    nothing = np.zeros(0)
    return Keyframe(
        i, f'{i}', i, i, Camera(W, H, 60.0, 60.0, 31.5, 23.5), np.zeros((H, W, 3), np.uint8),
        np.zeros((2 * H, 2 * W), np.uint8), np.zeros(4, np.float32), np.zeros((0, 2), np.int32),
        np.eye(4), nothing, nothing, (inverse * has_depth).astype(np.float32),
        (has_depth / error ** 2).astype(np.float32), np.zeros((H, W), bool)), depth


def measured(depth: Array, rng: np.random.Generator, error: float = 0.015, factor: int = 2
             ) -> NDArray[np.float32]:
    """Return a larger depth image, as of a depth camera: noise, holes, and an offset."""
    fine = depth.repeat(factor, axis=0).repeat(factor, axis=1)
    fine = fine * np.exp(error * rng.normal(size=fine.shape) + 0.005 * rng.normal())
    fine[rng.random(fine.shape) < 0.2] = np.nan
    return fine.astype(np.float32)


def fed_with_depth(seed: int, keyframes: int) -> DepthScale:
    """Feed keyframes whose own scale differs by 1 %."""
    rng, scale = np.random.default_rng(seed), DepthScale()
    for i in range(keyframes):
        frame, depth = keyframe(i, rng)
        scale.add(measured(depth * np.exp(0.01 * rng.normal()), rng), frame)
    return scale


@pytest.mark.parametrize('keyframes, error', [(1, 0.04), (5, 0.015), (30, 0.01)])
def test_depth_camera(keyframes, error):
    estimates = [fed_with_depth(seed, keyframes).estimate for seed in range(60)]
    errors = np.array([np.log(e.value / TRUE) for e in estimates if e])
    sigmas = np.array([e.sigma for e in estimates if e])
    assert len(errors) == 60
    assert np.mean(np.abs(errors) < error) >= 0.95
    assert 0.3 < np.std(errors / sigmas) < 1.3
    assert (sigmas >= STRUCTURED_LIGHT.floor).all() and np.median(sigmas) < 0.02


@pytest.mark.parametrize('factor', [1, 2, 5])
def test_pixels_of_a_finer_image_are_found(factor):
    rng, scale = np.random.default_rng(0), DepthScale()
    frame, depth = keyframe(0, rng, error=0.01)
    depth = depth * np.linspace(0.5, 2, H)[:, None]
    frame = replace(frame, inverse_depth=np.where(
        frame.inverse_depth > 0, TRUE / depth, 0).astype(np.float32))
    scale.add(np.float32(depth.repeat(factor, axis=0).repeat(factor, axis=1)), frame)
    assert scale.estimate is not None
    assert scale.estimate.value == pytest.approx(TRUE, rel=1e-3)
    assert scale.estimate.sigma < 0.01


def test_depth_that_says_nothing_is_left_out():
    rng = np.random.default_rng(1)
    frame, depth = keyframe(0, rng)
    good = measured(depth, rng)
    wrong = np.where(np.arange(2 * W) < W, good, 3 * good).astype(np.float32)
    moving = np.broadcast_to(np.arange(W) >= W // 2, (H, W))
    for depths, view in (
            (np.full_like(good, np.nan), frame), (np.zeros_like(good), frame),
            (good + 100, frame), (np.full_like(good, np.inf), frame), (good / 100, frame),
            (good, replace(frame, mask=np.ones((H, W), bool))),
            (good, replace(frame, confidence=frame.confidence * np.float32(0.01))),
            (good, replace(frame, inverse_depth=np.zeros((H, W), np.float32)))):
        scale = DepthScale()
        scale.add(depths, view)
        assert scale.estimate is None
    scale = DepthScale()
    scale.add(wrong, replace(frame, mask=moving))
    assert scale.estimate is not None
    assert scale.estimate.value == pytest.approx(TRUE, rel=0.02)


def test_a_third_of_wrong_pixels_and_keyframes_does_no_harm():
    rng, scale = np.random.default_rng(2), DepthScale()
    for i in range(12):
        frame, depth = keyframe(i, rng)
        depths = measured(depth, rng)
        depths[:30] = rng.uniform(0.3, 7.0, depths[:30].shape)  # reflections
        scale.add(depths * np.float32(1.4 if i % 3 == 0 else 1.0), frame)
    assert scale.estimate is not None
    assert scale.estimate.value == pytest.approx(TRUE, rel=0.02)


def test_keyframe_is_replaced_and_old_ones_are_forgotten():
    rng, scale = np.random.default_rng(3), DepthScale()
    frame, depth = keyframe(0, rng)
    scale.add(measured(2 * depth, rng), frame)
    scale.add(measured(depth, rng), frame)
    assert scale.estimate is not None
    assert scale.estimate.value == pytest.approx(TRUE, rel=0.03)
    for i in range(MAX_KEYFRAMES):
        scale.add(measured(1.7 * depth, rng), replace(frame, id=i + 1))
    assert scale.estimate.value == pytest.approx(1.7 * TRUE, rel=0.02)


def test_choice_of_a_source():
    nothing, walked = (OdometryScale(), DepthScale()), Walk().scale(0)
    measured_well = fed_with_depth(0, 10)
    assert choose('auto', *(s.estimate for s in nothing)) is None
    assert choose('none', walked.estimate, measured_well.estimate) is None
    for source, odometry, depth, expected in (
            ('auto', walked, measured_well, 'depth'), ('auto', walked, nothing[1], 'odometry'),
            ('auto', nothing[0], measured_well, 'depth'),
            ('odometry', walked, measured_well, 'odometry'),
            ('depth', walked, measured_well, 'depth')):
        chosen = choose(source, odometry.estimate, depth.estimate)
        assert chosen is not None and chosen.source == expected
    assert choose('odometry', None, measured_well.estimate) is None
    assert choose('depth', walked.estimate, None) is None
    model = ModelScale()
    model.add(0, [2.0])
    assert choose('model', walked.estimate, model.estimate).source == 'model'
    assert choose('auto', walked.estimate, model.estimate).source == 'odometry'


def test_a_network_that_predicts_metres():
    rng = np.random.default_rng(9)
    scale = ModelScale()
    assert scale.estimate is None
    scale.add(0, [])
    assert scale.estimate is None
    for i in range(20):
        scale.add(i, TRUE * np.exp(rng.normal(0, 0.05, 3)))
    assert scale.estimate.value == pytest.approx(TRUE, rel=0.03)
    assert 0.1 <= scale.estimate.sigma < 0.12, 'networks are never sure of metres'
    scale.add(3, [7 * TRUE])
    assert scale.estimate.value == pytest.approx(TRUE, rel=0.03), 'one that is wrong'
    for i in range(20):
        scale.rescale(i, 2.0)
    assert scale.estimate.value == pytest.approx(TRUE / 2, rel=0.03), 'depths became longer'


def test_robust_mean():
    assert robust_mean(np.array([3.0]), 0.1) == pytest.approx((3.0, 0.05))
    assert robust_mean(np.full(100, 3.0), 0.1) == pytest.approx((3.0, 0.005))
    rng = np.random.default_rng(4)
    means, sigmas = np.array([robust_mean(rng.normal(1.0, 0.2, 40), 0.1)
                              for _ in range(300)]).T
    assert 0.8 < np.std((means - 1.0) / sigmas) < 1.25
    # More than half spoilt, all on one side
    good, spoilt = rng.normal(0.0, 0.02, 45), rng.uniform(0.2, 1.1, 55)
    mean, sigma = robust_mean(np.concatenate([spoilt, good]), 0.02)
    assert abs(mean) < 0.02
    assert sigma > robust_mean(good, 0.02)[1]


def driven(scale: ScaleSources, true: float = TRUE, odometry: bool = True, jump_at: int = -1,
           interrupted: bool = False) -> None:
    """
    Drive 6 m along a line at 0.5 m/s, with a camera that looks ahead and exact odometry.

    :param true: metres per map unit
    :param jump_at: frame at which the map moves by 50 units under the camera
    :param interrupted: whether the estimator is told so
    """
    image = np.zeros((1, 1), np.uint8)
    R_odom_map = se3.so3_exp([0.3, 0.2, -0.5])
    for n in range(120):
        way = np.array([0.0, 0.0, 0.05 * n])
        T_odom_cam = se3.from_rt(R_odom_map, R_odom_map @ way + [4.0, -2.0, 1.0])
        moved = way / true + ([50.0, 0, 0] if jump_at >= 0 and n >= jump_at else [0.0, 0, 0])
        if n == jump_at and interrupted:
            scale.interrupt()
        scale.add_pose(Frame(image, n * 10 ** 8, f'{n}', n,
                             T_odom_cam=T_odom_cam if odometry else None),
                       se3.from_rt(np.eye(3), moved))


def test_odometry_that_comes_with_frames_tells_metres() -> None:
    """Whatever frame it is in."""
    sources = ScaleSources()
    assert sources.metric('auto', None) is None
    driven(sources)
    for source in ('auto', 'odometry'):
        metric = sources.metric(source, None)
        assert metric is not None and metric.source == 'odometry'
        assert metric.value == pytest.approx(TRUE, rel=1e-6)
    assert sources.metric('depth', None) is None and sources.metric('none', None) is None


def test_frames_without_odometry_tell_nothing() -> None:
    sources = ScaleSources()
    driven(sources, odometry=False)
    assert sources.metric('auto', None) is None


def test_no_piece_of_the_way_reaches_across_an_interruption() -> None:
    """The chord with the jump is the only wrong one; without it the estimate is surer."""
    told, untold = ScaleSources(), ScaleSources()
    driven(told, jump_at=60, interrupted=True)
    driven(untold, jump_at=60)
    right, worse = told.metric('auto', None), untold.metric('auto', None)
    assert right is not None and worse is not None
    assert right.value == pytest.approx(TRUE, rel=1e-6) and right.sigma < worse.sigma


def seen_at(metres_per_unit: float, i: int = 0) -> tuple[Keyframe, NDArray[np.float32]]:
    """Make a keyframe with exact depth in some unit of length, and the depth in metres."""
    known, depth = keyframe(i, np.random.default_rng(7), error=0.01, known=1.0)
    exact = (metres_per_unit / depth).astype(np.float32)
    return replace(known, inverse_depth=exact), depth.astype(np.float32)


def test_measured_depth_is_compared_as_the_map_comes_to_know_it() -> None:
    """A first keyframe has no depth; it gets some, which a loop then corrects."""
    sources = ScaleSources()
    known, depth = seen_at(TRUE)
    blind = replace(known, inverse_depth=np.zeros_like(known.inverse_depth))
    sources.add_depth(0, depth, Map())
    sources.add_depth(1, None, Map({0: blind}))
    assert sources.metric('auto', None) is None
    for now in (TRUE, 1.7 * TRUE):
        corrected, _ = seen_at(now)
        sources.add_depth(2, None, Map({0: corrected}))
        metric = sources.metric('depth', None)
        assert metric is not None and metric.source == 'depth'
        assert metric.value == pytest.approx(now, rel=1e-4)


def test_only_the_newest_measurements_are_compared_again() -> None:
    """What the map says of older keyframes has settled."""
    sources, known = ScaleSources(), {}
    for i in range(MAX_MEASURED + 1):
        known[i], depth = seen_at(TRUE, i)
        sources.add_depth(i, depth, Map(known))
    before = sources.metric('auto', None)
    assert before is not None and before.value == pytest.approx(TRUE, rel=1e-4)
    first, _ = seen_at(9 * TRUE, 0)
    sources.add_depth(99, None, Map({0: first}))
    assert sources.metric('auto', None) == before, 'an outlier would make it less sure'
    second, _ = seen_at(9 * TRUE, 1)
    sources.add_depth(99, None, Map({1: second}))
    after = sources.metric('auto', None)
    assert after is not None and after.sigma > before.sigma
    for i in range(1, MAX_MEASURED + 1):
        known[i], _ = seen_at(1.2 * TRUE, i)
    sources.add_depth(99, None, Map(known))
    metric = sources.metric('auto', None)
    assert metric is not None and metric.value == pytest.approx(1.2 * TRUE, rel=0.01)


def test_a_saved_scale_holds_until_there_is_one_of_its_own() -> None:
    saved = MetricScale(3.0, 0.01, 'odometry')
    sources = ScaleSources(saved)
    for source in ('auto', 'odometry', 'depth', 'model'):
        assert sources.metric(source, None) is saved
    model = MetricScale(2.0, 0.5, 'model')
    assert sources.metric('auto', model) is model, 'however unsure'
    assert sources.metric('odometry', model) is saved
    driven(sources)
    metric = sources.metric('auto', model)
    assert metric is not None and metric.value == pytest.approx(TRUE, rel=1e-6)
    assert sources.metric('model', model) is model
    assert sources.metric('none', model) is None, 'map units are asked for'


def test_a_scale_by_measured_depth_follows_loops_and_joined_maps() -> None:
    scale, other = DepthScale(), DepthScale()
    for i in range(3):
        known, depth = seen_at(TRUE, i)
        scale.add(depth, known, RIG)
        known, depth = seen_at(4 * TRUE, 10 + i)
        other.add(depth, known, RIG)
    before = scale.copy()
    joined = scale.joined(other, 4.0)
    assert joined.estimate is not None and scale.estimate == before.estimate
    assert joined.estimate.value == pytest.approx(TRUE, rel=1e-4)
    assert scale.estimate is not None and joined.estimate.sigma < scale.estimate.sigma
    for i in range(3):
        scale.rescale(i, 1.25)  # depths are longer by a loop: a unit is shorter
    assert scale.estimate is not None and before.estimate is not None
    assert scale.estimate.value == pytest.approx(TRUE / 1.25, rel=1e-4)
    assert before.estimate.value == pytest.approx(TRUE, rel=1e-4), 'a fork stays as it was'
    assert scale.estimate.source == 'rig'
    assert DepthScale(before.estimate).estimate == before.estimate
