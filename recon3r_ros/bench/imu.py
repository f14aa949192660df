# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
`recon3r bench --imu`: gravity, and fast turns with and without a gyroscope.

A real camera that stands still, and simulated ones that pan slowly and turn back at 3 rad/s, with
motion blur. Poses are those that each frame got when it came, before anything is completed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
import os
from pathlib import Path
import tempfile

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.bench.simulated import simulated_pack
from recon3r_ros.cli.console import output as console
from recon3r_ros.cli.console import progress_bar
from recon3r_ros.cli.reconstruction import reconstruct, RunOptions
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import se3
from recon3r_ros.io.atomic import write_bytes
from recon3r_ros.io.ground_truth import read_truth
from recon3r_ros.io.imu import find_imu, ImuSequence
from recon3r_ros.io.markdown import table
from recon3r_ros.io.sequences import open_sequence
from recon3r_ros.models.registry import make_predictor, Model
from recon3r_ros.sim import SceneConfig
from recon3r_ros.sim.fast_turn import turn_times
from recon3r_ros.slam.dynamics.motion_config import MotionConfig
from recon3r_ros.slam.system import System
from recon3r_ros.slam.types import Frame

Array = NDArray[np.float64]

SEEDS = range(4)
#: Stereo and IMU standing still, and the same instants with their true poses
_STILL, _STILL_TRUTH = 'euroc_v101_stereo_imu', 'euroc_v101_stationary'
_FRAMES, _EXPOSURE_S = 165, 0.03
#: Grey level, and its noise, of images that show nothing
_DARK, _DARK_NOISE = 12.0, 1.5
_INTRODUCTION = f"""\
# Inertial measurement unit

Written by `recon3r bench --imu`, geometric model. Online: the pose that a frame has when the next
one comes.

## Fast turns

Simulated, 640x480 at 30 Hz: a hand that sways, a slow pan by 77 degrees, and a turn back at
3 rad/s, with an exposure of {1e3 * _EXPOSURE_S:.0f} ms: 47 pixels of blur. *dark*: the images of
the turn show nothing at all. *lost*: frames without a pose online from the begin of the turn on;
*gyro*: frames whose pose is by the gyroscope alone; *turn*, *after*: greatest rotation error
(degrees) in it and after it, after alignment of the frames before; *off*: error of the gyroscope's
rotations since the last tracked frame in their own standard deviations, the greatest; *again*:
seconds from the end of the turn to the first frame with a pose; *up*: error of gravity in the map
(degrees), with its stated standard deviation.

"""
_HEAD = ('seed', 'images', 'gyroscope', 'lost (target 0)', 'gyro', 'turn', 'after (target <= 2)',
         'off', 'again', 'up')


@dataclass(frozen=True)
class TurnOutcome:
    """
    Result of a fast turn.

    :param lost: frames without a pose from the begin of the turn on
    :param coasted: frames posed by the gyroscope alone
    :param turn: greatest rotation error in the turn, degrees; NaN where no frame has a pose
    :param after: the same after it
    :param off: greatest error of the gyroscope's poses, standard deviations
    :param again_s: seconds from the end of the turn to the next pose; infinite without one
    :param up: error of gravity and its standard deviation, degrees; NaN where it is not known
    """

    lost: int
    coasted: int
    turn: float
    after: float
    off: float
    again_s: float
    up: tuple[float, float]

    @property
    def kept(self) -> bool:
        """Whether no pose was lost and the direction is right afterwards."""
        return self.lost == 0 and self.after <= 2.0


def scene(seed: int) -> SceneConfig:
    """Return the scene of a fast turn."""
    return SceneConfig(seed=seed, frames=_FRAMES, trajectory='fast turn', moving_objects=0,
                       exposure=_EXPOSURE_S, imu=True)


def measure(data: Path, page: Path) -> int:
    """
    Measure and write a page.

    :param data: folder of the packs
    :returns: the exit status: 1 where a target is missed
    """
    cache = Path(tempfile.gettempdir()) / f'recon3r-bench-{os.getuid()}'
    rows, kept = [], True
    for seed in SEEDS:
        pack = cache / f'fast-turn-{seed}'
        with progress_bar() as bar:
            bar.stage(f'simulating scene {seed}', _FRAMES)
            simulated_pack(scene(seed), pack, bar.update)
        for dark, with_imu in product((False, True), (True, False)):
            outcome = turned(pack, with_imu, dark)
            kept &= outcome.kept or not with_imu
            kept &= bool(np.isfinite(outcome.again_s))
            rows.append(_row(seed, dark, with_imu, outcome))
            console().print(' '.join(rows[-1]), soft_wrap=True)
    text, still_ok = _still(data)
    write_bytes(page, (_INTRODUCTION + table(_HEAD, rows) + text).encode())
    console().print(f'{text}\nwritten to {page}', soft_wrap=True)
    return 0 if kept and still_ok else 1


def turned(pack: Path, with_imu: bool, dark: bool) -> TurnOutcome:
    """
    Track a simulated fast turn frame by frame.

    :param pack: with imu.csv
    :param dark: whether the images of the turn show nothing
    """
    sequence: Iterable[Frame] = open_sequence(images=pack)
    samples = find_imu(pack)
    if samples is None:
        raise InputError(f'{pack}: has no imu.csv')
    if with_imu:
        sequence = ImuSequence(open_sequence(images=pack), {'camera': samples})
    system = System(make_predictor(Model()), motion=MotionConfig(False))
    online: dict[int, tuple[Array, float, bool]] = {}  # R_map_cam, sigma, by the gyroscope
    begin, end = turn_times()
    for frame in sequence:
        if dark and begin <= frame.stamp_ns * 1e-9 < end:
            frame = replace(frame, image=_nothing(frame))
        began = not online  # frames that waited for the first pair come together
        for posed in system.add(frame).frames:
            if posed.index == frame.index or began:
                online[posed.index] = (
                    system.pose_of(posed)[:3, :3],
                    float(np.sqrt(np.linalg.eigvalsh(posed.covariance[:3, :3])[-1])),
                    posed.landmarks == 0 and not np.array_equal(posed.T_keyframe_cam, np.eye(4)))
    return _outcome(pack, system, online)


def _nothing(frame: Frame) -> NDArray[np.uint8]:
    """Return an image of darkness, with the noise of a sensor."""
    rng = np.random.default_rng(frame.index)
    return rng.normal(_DARK, _DARK_NOISE, frame.image.shape).round().astype(np.uint8)


def _outcome(pack: Path, system: System, online: dict[int, tuple[Array, float, bool]]
             ) -> TurnOutcome:
    truth = read_truth(pack / 'groundtruth.txt')
    assert truth.stamps_ns is not None
    seconds, R_true = truth.stamps_ns * 1e-9, truth.T_world_cam[:, :3, :3]
    begin, end = turn_times()
    before = [i for i in online if seconds[i] < begin]
    # The mean rotation is the nearest one to the sum (Hartley et al., IJCV 2013, section 5.3)
    total = np.sum([R_true[i] @ online[i][0].T for i in before], axis=0)
    R_world_map = se3.normalized(se3.from_rt(total, np.zeros(3)))[:3, :3]
    errors = {i: float(se3.rotation_angle(R_true[i].T @ R_world_map @ R))
              for i, (R, _, _) in online.items()}
    coasted = [i for i, (_, _, by_gyroscope) in online.items() if by_gyroscope]
    last = {i: max(j for j in online if j < i and not online[j][2]) for i in coasted}
    off = [float(se3.rotation_angle((R_true[j].T @ R_true[i]).T @ online[j][0].T @ online[i][0]))
           / online[i][1] for i, j in last.items()]
    later = [i for i in online if seconds[i] >= end]
    found = system.gravity()
    up = (float('nan'),) * 2 if found is None else (
        float(np.rad2deg(np.arccos(np.clip((R_world_map @ found.up)[2], -1, 1)))),
        float(np.rad2deg(found.sigma)))
    return TurnOutcome(
        sum(i not in online for i in range(len(seconds)) if seconds[i] >= begin), len(coasted),
        _worst(errors, [i for i in online if begin <= seconds[i] < end]),
        _worst(errors, later),
        max(off, default=float('nan')),
        min((float(seconds[i] - end) for i in later), default=float('inf')), (up[0], up[1]))


def _worst(errors: dict[int, float], of: Sequence[int]) -> float:
    return float(np.rad2deg(max((errors[i] for i in of), default=float('nan'))))


def _row(seed: int, dark: bool, with_imu: bool, o: TurnOutcome) -> tuple[str, ...]:
    return (str(seed), 'dark' if dark else 'blurred', 'yes' if with_imu else 'no', str(o.lost),
            str(o.coasted), _text(o.turn),
            _text(o.after), _text(o.off, 1), _text(o.again_s),
            f'{o.up[0]:.2f} ± {o.up[1]:.2f}' if np.isfinite(o.up[0]) else '')


def _text(value: float, digits: int = 2) -> str:
    return f'{value:.{digits}f}' if np.isfinite(value) else ''


def _still(data: Path) -> tuple[str, bool]:
    """Measure gravity of a real camera that stands still, by its first camera."""
    heading = '\n## Gravity of a real camera\n\n'
    images, true = data / _STILL / 'mav0' / 'cam0', data / _STILL_TRUTH / 'groundtruth.txt'
    if not (images.is_dir() and true.is_file()):
        return f'{heading}Not measured: {_STILL} or {_STILL_TRUTH} is absent.\n', True
    worst, gravity = still_error(images, true)
    return (f'{heading}EuRoC V1_01_easy, eight instants at rest, left camera and IMU: z of the '
            f'trajectory is off the vertical by the true orientations by {worst:.2f} degrees '
            f'(target <= 1). The run says: {gravity}.\n', worst <= 1.0)


def still_error(images: Path, true: Path) -> tuple[float, str]:
    """
    Return the greatest error of the vertical in results, degrees, and what the report says.

    :param images: folder of EuRoC's camera
    :param true: file of true poses at the same instants
    """
    samples = find_imu(images)
    if samples is None:
        raise InputError(f'{images}: has no IMU beside it')
    with tempfile.TemporaryDirectory(prefix='recon3r-bench-') as output:
        report = reconstruct(
            ImuSequence(open_sequence(images=images), {'camera': samples}), output,
            RunOptions(progress=False))
        own = read_truth(Path(output) / 'trajectory.txt')
    truth = read_truth(true)
    assert own.stamps_ns is not None and truth.stamps_ns is not None
    if not len(own.stamps_ns):
        return float('inf'), report.gravity
    nearest = np.abs(truth.stamps_ns[None] - own.stamps_ns[:, None]).argmin(axis=1)
    # The third row of R_world_cam is up in the camera's frame
    cosines = np.sum(own.T_world_cam[:, 2, :3] * truth.T_world_cam[nearest, 2, :3], axis=1)
    return float(np.rad2deg(np.arccos(np.clip(cosines, -1, 1)).max())), report.gravity
