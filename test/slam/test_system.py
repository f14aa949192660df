# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The whole pipeline on simulated sequences, against ground truth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Iterable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import se3, sim3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.procrustes import weighted_procrustes
from recon3r_ros.models.geometric import GeometricPredictor
from recon3r_ros.models.keypoints import detect_keypoints
from recon3r_ros.models.types import NO_CONFIDENCE, Prediction, Predictor, View
from recon3r_ros.sim import SceneConfig, SimulatedSequence
from recon3r_ros.slam.backend import mapping
from recon3r_ros.slam.backend.map_state import MapState
from recon3r_ros.slam.dynamics.motion_config import MotionConfig
from recon3r_ros.slam.options import FrontendOptions
from recon3r_ros.slam.system import System
from recon3r_ros.slam.types import TrackingState, Update
from simulated import as_frame, error_over_path, render, still_scene, TrueView

Array = NDArray[np.float64]


def run(scene: SimulatedSequence, indices: Iterable[int], predictor: Predictor
        ) -> tuple[System, list[Update]]:
    """Feed frames, and finish."""
    reconstruction = System(predictor)
    updates = [reconstruction.add(as_frame(scene, index)) for index in indices]
    reconstruction.finish()
    return reconstruction, updates


def map_scale(reconstruction: System, scene: SimulatedSequence) -> float:
    """Metres per map unit."""
    tracked = reconstruction.trajectory()
    estimated = np.stack([T[:3, 3] for _, T in tracked])
    truth = np.stack([render(scene, f.index).T_world_cam[:3, 3] for f, _ in tracked])
    S = weighted_procrustes(estimated, truth, np.ones(len(truth)))
    return float(sim3.decompose(S)[0])


def depth_errors(reconstruction: System, scene: SimulatedSequence) -> list[float]:
    """Mean relative depth error of each keyframe's more confident half."""
    scale, errors = map_scale(reconstruction, scene), []
    for keyframe in reconstruction.map.keyframes.values():
        known = keyframe.confidence > 0
        assert (known == (keyframe.inverse_depth > 0)).all()
        if not known.any():
            continue
        true, _ = TrueView.of(scene, keyframe.index).depth_on(keyframe.camera)
        sure = known & (keyframe.confidence >= np.median(keyframe.confidence[known]))
        depth = scale / keyframe.inverse_depth[sure]
        errors.append(float(np.mean(np.abs(depth / true[sure] - 1))))
    return errors


@pytest.fixture(scope='module', params=[1, 2, 3])
def handheld(request: pytest.FixtureRequest
             ) -> tuple[SimulatedSequence, System, list[Update]]:
    """Return a short walk of a hand-held camera, reconstructed."""
    scene = still_scene(request.param, frames=45)
    return scene, *run(scene, range(45), GeometricPredictor())


def test_all_frames_are_tracked(
        handheld: tuple[SimulatedSequence, System, list[Update]]) -> None:
    _, reconstruction, updates = handheld
    assert sorted(f.index for f, _ in reconstruction.trajectory()) == list(range(45))
    reported = [f.index for u in updates for f in u.frames]
    assert sorted(reported) == list(range(45)), 'each frame is reported once'
    assert updates[-1].state is TrackingState.TRACKING
    assert len(reconstruction.map.keyframes) >= 2


def test_initialisation_does_not_wait_long(
        handheld: tuple[SimulatedSequence, System, list[Update]]) -> None:
    """Half a second at 0.4 m/s is a step of a twentieth of the distance: enough for depth."""
    _, _, updates = handheld
    started = next((n for n, u in enumerate(updates) if u.keyframe is not None), None)
    assert started is not None and started <= 30


def test_trajectory(handheld: tuple[SimulatedSequence, System, list[Update]]) -> None:
    scene, reconstruction, _ = handheld
    assert error_over_path(reconstruction, scene) <= 0.02


def test_orientations(handheld: tuple[SimulatedSequence, System, list[Update]]) -> None:
    scene, reconstruction, _ = handheld
    poses = {f.index: T for f, T in reconstruction.trajectory()}
    assert reconstruction.map.started
    first = min(poses)
    for index, T in poses.items():
        turned = poses[first][:3, :3].T @ T[:3, :3]
        R_first, R = (render(scene, i).T_world_cam[:3, :3] for i in (first, index))
        true = R_first.T @ R
        assert np.rad2deg(se3.rotation_angle(turned.T @ true)) < 0.7


def test_depth(handheld: tuple[SimulatedSequence, System, list[Update]]) -> None:
    scene, reconstruction, _ = handheld
    assert reconstruction.map.started
    errors = depth_errors(reconstruction, scene)
    assert len(errors) >= 2
    assert max(errors) <= 0.05


@pytest.fixture(scope='module')
def walk() -> SimulatedSequence:
    """Return a scene for three seconds."""
    return still_scene(3, frames=90)


def test_a_gap_is_bridged(walk: SimulatedSequence) -> None:
    kept = [*range(45), *range(65, 90)]
    reconstruction, updates = run(walk, kept, GeometricPredictor())
    tracked = {f.index for f, _ in reconstruction.trajectory()}
    assert set(range(70, 90)) <= tracked, 'found again soon after the gap'
    assert updates[-1].state is TrackingState.TRACKING
    assert error_over_path(reconstruction, walk) <= 0.02


def test_black_frames_are_lost_and_the_rest_is_not(walk: SimulatedSequence) -> None:
    reconstruction = System(GeometricPredictor())
    states = {}
    for index in range(75):
        frame = as_frame(walk, index)
        if 50 <= index < 55:
            frame = replace(frame, image=np.zeros_like(frame.image))
        states[index] = reconstruction.add(frame).state
    reconstruction.finish()
    assert all(states[i] is TrackingState.LOST for i in range(50, 55))
    assert states[57] is TrackingState.TRACKING and states[74] is TrackingState.TRACKING
    tracked = {f.index for f, _ in reconstruction.trajectory()}
    assert not tracked & set(range(50, 55))
    assert set(range(57, 75)) <= tracked
    assert error_over_path(reconstruction, walk) <= 0.02


def test_grey_images_do_as_well(walk: SimulatedSequence) -> None:
    reconstruction = System(GeometricPredictor())
    for index in range(45):
        frame = as_frame(walk, index)
        reconstruction.add(replace(frame, image=cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY)))
    reconstruction.finish()
    assert len(reconstruction.trajectory()) == 45
    assert error_over_path(reconstruction, walk) <= 0.02


def test_deterministic(walk: SimulatedSequence) -> None:
    first, second = (run(walk, range(45), GeometricPredictor())[0].trajectory() for _ in range(2))
    for (_, T_first), (_, T_second) in zip(first, second):
        assert np.allclose(T_first, T_second, atol=1e-4)


def check_no_map(reconstruction: System) -> None:
    """Nothing is mapped; poses, where there are any, have rotated and not moved."""
    assert not reconstruction.map.started
    for keyframe in reconstruction.map.keyframes.values():
        assert not keyframe.confidence.any() and not keyframe.landmarks.any()
    for _, T_map_cam in reconstruction.trajectory():
        assert np.allclose(T_map_cam[:3, 3], 0)


def test_identical_frames_give_no_map(walk: SimulatedSequence) -> None:
    reconstruction = System(GeometricPredictor())
    for index in range(20):
        update = reconstruction.add(replace(as_frame(walk, 0), index=index, name=str(index)))
        assert update.state is TrackingState.INITIALISING
        assert update.frames == () and update.keyframe is None
    reconstruction.finish()
    check_no_map(reconstruction)
    for _, T_map_cam in reconstruction.trajectory():
        assert np.allclose(T_map_cam, np.eye(4), atol=1e-4)


def test_a_turning_camera_gives_no_map() -> None:
    """Pure rotation, 0.25 degrees a frame: there is no depth to be had."""
    wide = TrueView.of(still_scene(2, width=640, height=480), 0)
    turns = [se3.so3_exp(np.deg2rad(0.25 * n) * np.array([0.1, 1.0, 0.0])) for n in range(24)]
    reconstruction = System(GeometricPredictor())
    for index, turn in enumerate(turns):
        view = wide.turned(turn, 320, 240).view
        frame = replace(as_frame(still_scene(2), 0), image=view.image, camera=view.camera,
                        index=index, name=str(index))
        assert reconstruction.add(frame).frames == ()
    reconstruction.finish()
    check_no_map(reconstruction)
    for frame, T_map_cam in reconstruction.trajectory():
        assert np.rad2deg(se3.rotation_angle(turns[frame.index].T @ T_map_cam[:3, :3])) < 0.1


def test_starting_afresh_before_there_is_a_map(walk: SimulatedSequence) -> None:
    """The first frames show another scene; the keyframes of the map count from 0 all the same."""
    stranger = still_scene(9)
    for count in (1, 45):
        reconstruction = System(GeometricPredictor())
        for index in range(3):
            reconstruction.add(as_frame(stranger, index))
        for index in range(count):
            frame = as_frame(walk, index)
            reconstruction.add(replace(frame, index=3 + index, name=f'walk{index}'))
        reconstruction.finish()
        assert list(reconstruction.map.keyframes)[0] == 0
        for _, T_map_cam in reconstruction.trajectory():
            assert np.isfinite(T_map_cam).all()
    assert reconstruction.map.started


def test_a_camera_that_moves_is_not_said_to_stand_still() -> None:
    """A quarter of a metre sideways, which a rotation nearly explains: no or a correct pose."""
    scene = still_scene(2, frames=45)
    reconstruction, _ = run(scene, range(22), GeometricPredictor())
    for _, T_map_cam in reconstruction.trajectory()[-1:]:
        assert np.linalg.norm(T_map_cam[:3, 3]) > 0


@pytest.mark.parametrize('when', [3, 44])
def test_an_image_of_another_size_is_an_error(walk: SimulatedSequence, when: int) -> None:
    reconstruction = System(GeometricPredictor())
    for index in range(when):
        reconstruction.add(as_frame(walk, index))
    frame = as_frame(walk, when)
    small = replace(frame, image=np.ascontiguousarray(frame.image[:120, :160]))
    with pytest.raises(InputError):
        reconstruction.add(small)
    with pytest.raises(InputError):
        reconstruction.add(replace(small, camera=frame.camera and frame.camera.cropped(
            0, 0, 160, 120)))
    # and the next one is processed as if nothing had happened
    reconstruction.add(frame)


def test_no_frames() -> None:
    reconstruction = System(GeometricPredictor())
    assert reconstruction.finish().frames == ()
    assert reconstruction.trajectory() == []


def test_masks_of_the_user_hold_from_the_first_frame_on() -> None:
    """Without detecting dynamic objects, and in the first pair's landmarks, too."""
    scene = SimulatedSequence(SceneConfig(seed=1, frames=20, width=480, height=360,
                                          moving_objects=1, moving_size=0.25))
    reconstruction = System(GeometricPredictor(), motion=MotionConfig(detect=False))
    for index in range(20):
        mask = render(scene, index).motion_mask
        reconstruction.add(replace(as_frame(scene, index), mask=mask))
        for keyframe in reconstruction.map.keyframes.values():
            u, v = keyframe.keypoints.T
            moving = cv2.resize(render(scene, keyframe.index).motion_mask.astype(np.uint8),
                                keyframe.mask.shape[::-1]).astype(bool)
            assert not keyframe.landmarks[moving[v, u]].any()
            assert not keyframe.inverse_depth[moving].any()
    assert len(reconstruction.map.keyframes) >= 2
    assert error_over_path(reconstruction, scene) < 0.005


@dataclass(frozen=True, eq=False)
class OracleEncoding:
    """A view whose depth and pose the oracle knows."""

    camera: Camera
    image: NDArray[np.uint8]
    descriptor: NDArray[np.float32]
    keypoints: NDArray[np.int32]
    true: TrueView
    features: None = None


class Oracle:
    """
    A predictor of ground truth, with noise and at a scale of each pair's own.

    :param scene: what it is asked about
    :param noise: standard deviation of relative depths
    :param learned: whether it says that it has them from the images, and tells them of single ones
    """

    def __init__(self, scene: SimulatedSequence, noise: float, learned: bool) -> None:
        self._noise = noise
        self.reweights, self.together = False, None
        self.single_view = self._learned = learned
        self._rng = np.random.default_rng(4)
        self._known = {render(scene, i).image.tobytes(): TrueView.of(scene, i)
                       for i in range(len(scene))}

    def encode(self, view: View) -> OracleEncoding:
        """Recognise a view."""
        camera = view.camera.resized(view.camera.width // 2, view.camera.height // 2)
        gray = cv2.cvtColor(view.image, cv2.COLOR_RGB2GRAY)
        small = cv2.resize(gray, (20, 15), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
        small -= small.mean()
        size = (camera.width, camera.height)
        return OracleEncoding(
            camera, cv2.resize(view.image, size, interpolation=cv2.INTER_AREA),
            small / np.linalg.norm(small),
            detect_keypoints(gray, *size).astype(np.int32), self._known[view.image.tobytes()])

    def predict(self, groups: Sequence[tuple[OracleEncoding, ...]], moving: object = None,
                priors: object = None) -> list[Prediction]:
        """Predict ground truth, with noise."""
        return [self._pair(group[0], group[-1]) for group in groups]

    def _pair(self, a: OracleEncoding, b: OracleEncoding) -> Prediction:
        scale = self._rng.uniform(0.5, 2.0)
        T_a_b = se3.inverse(a.true.T_world_cam) @ b.true.T_world_cam
        shape = (a.camera.height, a.camera.width, 1)
        own, other = (e.true.points_on(e.camera) * self._rng.normal(1, self._noise, shape)
                      for e in (a, b))
        other = se3.transform(T_a_b, other.reshape(-1, 3)).reshape(other.shape)
        seen = (a.true.seen_in(a.camera, b.true, b.camera)[1],
                b.true.seen_in(b.camera, a.true, a.camera)[1])
        confidences = tuple(np.where(s, np.float32(self._noise ** -2), np.float32(NO_CONFIDENCE))
                            for s in seen)
        return Prediction(((scale * own).astype(np.float32), (scale * other).astype(np.float32)),
                          confidences, learned=self._learned)


@pytest.mark.parametrize('learned', [False, True])
def test_pairs_of_any_scale_are_aligned(walk: SimulatedSequence, learned: bool) -> None:
    """Alignment alone: an oracle's pointmaps, with 1 % of noise and scales in [0.5, 2]."""
    reconstruction, updates = run(walk, range(90), Oracle(walk, 0.01, learned))
    assert bool(updates[0].frames) == learned, 'one view is enough, or it is not'
    assert len(reconstruction.trajectory()) == 90
    assert len(reconstruction.map.keyframes) >= 3
    assert error_over_path(reconstruction, walk) <= 0.005
    assert max(depth_errors(reconstruction, walk)) <= 0.02


class Attentive(Oracle):
    """An oracle that finds a corner of every image dynamic, and records given masks."""

    CORNER = np.s_[:80, :100]

    def __init__(self, scene: SimulatedSequence) -> None:
        super().__init__(scene, 0.01, learned=True)
        self.reweights = True
        self.again: list[tuple[OracleEncoding, ...]] = []
        self.told: list[NDArray[np.bool_]] = []

    def predict(self, groups: Sequence[tuple[OracleEncoding, ...]], moving: object = None,
                priors: object = None) -> list[Prediction]:
        """Predict ground truth, and dynamic objects."""
        if moving is not None:
            self.again += groups
            self.told += [mask for masks in moving for mask in masks]
        votes = np.full((groups[0][0].camera.height, groups[0][0].camera.width), -1, np.int8)
        votes[self.CORNER] = 1
        return [replace(p, moving=votes) for p in super().predict(groups)]


def test_pairs_are_predicted_once_more_without_what_moves(walk: SimulatedSequence) -> None:
    oracle = Attentive(walk)
    reconstruction, _ = run(walk, range(90), oracle)
    assert error_over_path(reconstruction, walk) <= 0.005
    keyframes = list(reconstruction.map.keyframes.values())
    assert len(keyframes) >= 3
    for keyframe in keyframes:
        inside = keyframe.mask[5:70, 5:90]
        assert inside.mean() > 0.95 and keyframe.mask.mean() < 0.6
        assert not (keyframe.inverse_depth > 0)[keyframe.mask].any(), 'nor is it in the map'
    assert all(mask[5:70, 5:90].mean() > 0.95 for mask in oracle.told)
    edges = 2 * len(reconstruction.map.edges)
    assert edges <= len(oracle.again) <= 2 * edges, 'masks that stay as they are are no reason'


def test_a_loop_that_one_camera_closes_is_told_to_the_others(monkeypatch):
    """The graph makes all of the map larger; a second camera, at rest, continues tracking."""
    scene = still_scene(3, 40)
    reconstruction = System(GeometricPredictor())
    for index in range(20):
        reconstruction.add(as_frame(scene, index))
    away = 0.0
    for index in range(4, 19):  # it leaves its keyframe, and stops
        standing = replace(as_frame(scene, index), camera_name='standing')
        update = reconstruction.add(standing)
        tracked, = (f for f in update.frames if f.camera_name == 'standing')
        away = float(np.linalg.norm(tracked.T_keyframe_cam[:3, 3]))
        if away > 0.04 and update.keyframe is None:
            break
    before = reconstruction.pose_of(tracked)
    scaled: list[bool] = []

    def larger(state: MapState) -> None:
        """Change the map as a loop closure does."""
        if scaled:
            return
        scaled.append(True)
        for i, keyframe in state.keyframes.items():
            state.graph.scales[i] = 1.25
            T = se3.stretched(keyframe.T_map_cam, 1.25)
            state.change(i, T_map_cam=T, landmarks=keyframe.landmarks / 1.25,
                         inverse_depth=keyframe.inverse_depth / np.float32(1.25))

    monkeypatch.setattr(mapping, 'maintain', larger)
    for index in range(20, 40):
        reconstruction.add(as_frame(scene, index))
        if scaled:
            break
    assert scaled
    update = reconstruction.add(replace(standing, stamp_ns=10**12, index=500))
    after, = (reconstruction.pose_of(f) for f in update.frames if f.camera_name == 'standing')
    assert away > 0.04, 'a scale that it was not told of would show'
    assert np.linalg.norm((after - se3.stretched(before, 1.25))[:3, 3]) < 0.1 * away


def test_metres_come_of_measured_depth_and_of_odometry():
    """As the node uses them, and a run of files: one choice for both."""
    scene = still_scene(3, 40)
    reconstruction = System(GeometricPredictor())
    for index in range(40):
        true = render(scene, index)
        reconstruction.add(replace(as_frame(scene, index), depth=true.depth,
                                   T_odom_cam=true.T_world_cam))
    expected = map_scale(reconstruction, scene)
    for source in ('auto', 'depth'):
        metric = reconstruction.metric(source)
        assert metric is not None and metric.source == 'depth'
        assert metric.value == pytest.approx(expected, rel=0.03)
    assert reconstruction.metric('none') is None and reconstruction.metric('model') is None


def test_a_predictor_is_told_what_is_known_of_a_view(walk: SimulatedSequence) -> None:
    """Pose and its uncertainty by tracking, measured depth, and the user's mask."""
    views: list[View] = []

    class Curious(GeometricPredictor):
        def encode(self, view: View):
            views.append(view)
            return super().encode(view)

    system = System(Curious())
    unsafe = np.zeros((240, 320), bool)
    unsafe[:20] = True
    for index in range(40):
        system.add(replace(as_frame(walk, index), depth=render(walk, index).depth, mask=unsafe))
    first, *others = views
    assert first.pose is None and others
    for view in views:
        assert view.depth is not None and view.depth.shape == view.image.shape[:2]
        assert view.moving is not None and view.moving[0].all()
    truth = np.stack([render(walk, k.index).T_world_cam for k in system.map.keyframes.values()])
    metres = map_scale(system, walk)
    for view, T_world_cam in zip(others, truth[1:]):
        assert view.pose is not None and view.pose.covariance.shape == (6, 6)
        T_first_cam = se3.inverse(truth[0]) @ T_world_cam
        sigma = metres * np.sqrt(np.trace(view.pose.covariance[3:, 3:]))
        assert sigma > 0
        error = metres * view.pose.T_map_cam[:3, 3] - T_first_cam[:3, 3]
        assert np.linalg.norm(error) < max(5 * sigma, 0.02)


def test_keyframes_come_as_often_as_the_user_wants(walk: SimulatedSequence) -> None:
    def keyframes(**options: float) -> int:
        system = System(GeometricPredictor(), options=FrontendOptions(**options))
        for index in range(90):
            system.add(as_frame(walk, index))
        return len(system.map.keyframes)

    usual = keyframes()
    assert keyframes(keyframe_overlap=0.9) > usual
    assert keyframes(keyframe_parallax=45.0, keyframe_overlap=0.1) < usual


def test_a_near_static_object_is_not_masked_for_long_after_the_map_begins() -> None:
    """A box enters below while the map begins: its parallax looked like motion until then."""
    scene = SimulatedSequence(SceneConfig(
        seed=5, frames=34, width=480, height=360, moving_objects=0))
    reconstruction, masked = System(GeometricPredictor()), {}
    for index in range(34):
        update = reconstruction.add(as_frame(scene, index))
        frames = update.frames if update.unposed is None else (*update.frames, update.unposed)
        masked |= {f.index: float(f.mask.mean()) for f in frames if f.mask is not None}
    begun = min(reconstruction.map.keyframes[1].index, 30)
    assert max(masked.values()) > 0.01, 'it is masked at first'
    assert np.mean([masked[i] for i in range(begun + 3, 34)]) < 0.005


def test_what_the_camera_carries_is_left_out_of_all_keyframes(walk: SimulatedSequence) -> None:
    """Of those before it was found, too."""
    reconstruction = System(GeometricPredictor())
    rows = slice(180, 240)
    own = render(still_scene(7), 0).image[rows]
    for index in range(0, 90, 2):
        frame = as_frame(walk, index)
        image = frame.image.copy()
        image[rows] = own
        update = reconstruction.add(replace(frame, image=image))
    assert all(f.mask is not None and not f.mask[rows].any() for f in update.frames)
    reconstruction.finish()
    assert reconstruction.fixed(frame.camera_name)[64:].mean() > 0.9
    keyframes = list(reconstruction.map.keyframes.values())
    assert len(keyframes) > 2 and reconstruction.state is TrackingState.TRACKING
    for keyframe in keyframes:
        strip = slice(int(0.78 * len(keyframe.mask)), None)
        assert keyframe.mask[strip].mean() > 0.9
        assert keyframe.mask[:len(keyframe.mask) // 2].mean() < 0.05


def test_the_map_has_no_points_of_a_time_stamp() -> None:
    """Neither has it those of keyframes before it was found; some of its digits change."""
    scene, reconstruction = still_scene(3, frames=150), System(GeometricPredictor())
    where = np.zeros((240, 320), np.uint8)
    for index in range(0, 150, 3):
        frame = as_frame(scene, index)
        image = frame.image.copy()
        for level, thickness in ((0, 4), (255, 1)):
            for canvas, colour in ((image, (level,) * 3), (where, (1,))):
                cv2.putText(canvas, f'12:00:{index // 30:02d}', (20, 220),
                            cv2.FONT_HERSHEY_SIMPLEX, 0.6, colour, thickness)
        reconstruction.add(replace(frame, image=image))
    reconstruction.finish()
    fixed = cv2.resize(reconstruction.fixed(frame.camera_name).astype(np.uint8), (320, 240)) > 0
    assert fixed[where > 0].mean() > 0.95 and fixed[:160].mean() < 0.01
    assert reconstruction.state is TrackingState.TRACKING
    for keyframe in reconstruction.map.keyframes.values():
        stamp = cv2.resize(where, keyframe.mask.shape[::-1]) > 0
        assert (keyframe.inverse_depth[stamp] > 0).mean() < 0.05
        on_it = stamp[keyframe.keypoints[:, 1], keyframe.keypoints[:, 0]]
        assert not (keyframe.information[on_it] > 0).any()
