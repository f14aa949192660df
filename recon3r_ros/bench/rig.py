# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
`recon3r bench --rig`: two cameras back to back on a rig, of which one sees nothing for a while.

The map begins without metres; the distance between the cameras tells them. Nothing else is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.bench.measures import Measure, write
from recon3r_ros.bench.yardstick import machine
from recon3r_ros.cli.console import progress_bar
from recon3r_ros.evaluation.trajectory_errors import aligning_similarity
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.models.registry import make_predictor, Model
from recon3r_ros.sim import SceneConfig, SimulatedSequence
from recon3r_ros.slam.system import System
from recon3r_ros.slam.types import Frame, RigMount, TrackingState

Array = NDArray[np.float64]

_SEEDS = range(3)
_RATE, _SECONDS = 15.0, 30.0
#: When one camera sees nothing, seconds
_DARK = (12.0, 22.0)
#: Error over that of the undisturbed rig
_WORSE = 1.5
#: Poses of the cameras: the second one looks back, 0.3 m behind the first
MOUNTS: Mapping[str, Array] = {
    'front': np.eye(4),
    'back': se3.from_rt(se3.so3_exp([0.05, np.pi, 0.03]), [0.1, 0.02, -0.3])}
_INTRODUCTION = f"""\
# Several cameras on a rig

Written by `recon3r bench --rig`. Simulated: two cameras of 640x480 pixels back to back, 0.3 m
apart, {_SECONDS:.0f} s at {_RATE:.0f} Hz; the front or the back one is dark from {_DARK[0]:.0f} to
{_DARK[1]:.0f} s. The map begins without metres. The error is the root mean square of the distances
of the positions from the true ones, after one rigid alignment of both cameras; the scale is not
aligned.
"""


def measure(output: Path) -> int:
    """
    Measure, and write the page.

    :param output: file of the page
    :returns: the exit status
    """
    line, found = machine(), []
    with progress_bar() as bar:
        bar.stage('rigs', 4 * len(_SEEDS))
        for seed in _SEEDS:
            recording = record(SceneConfig(
                seed=seed, frames=round(_SECONDS * _RATE), fps=_RATE, moving_objects=0))
            bar.advance()
            undisturbed: Array | None = None
            for dark in ('', *MOUNTS):
                measures, errors = run(recording, f'seed {seed}', dark, undisturbed)
                undisturbed = errors if undisturbed is None else undisturbed
                found += measures
                bar.advance()
    write(output, f'{_INTRODUCTION}\n{line}.\n\n', found)
    return 0


@dataclass(frozen=True, eq=False)
class Recording:
    """
    What the cameras of a rig saw.

    :param camera: of each
    :param stamps: (N,) of the instants, nanoseconds
    :param images: N by camera
    :param poses: true T_world_cam (N, 4, 4) by camera
    """

    camera: Camera
    stamps: NDArray[np.int64]
    images: Mapping[str, list[NDArray[np.uint8]]]
    poses: Mapping[str, Array]


def record(config: SceneConfig) -> Recording:
    """Render what the cameras see."""
    first = SimulatedSequence(config)
    images, poses, stamps = {}, {}, []
    for name, mount in MOUNTS.items():
        seen = first if name == 'front' else first.seen_by(mount)
        frames = [(f.image, f.T_world_cam, f.stamp_ns) for f in map(seen.render,
                                                                    range(config.frames))]
        images[name] = [image for image, _, _ in frames]
        poses[name] = np.stack([T for _, T, _ in frames])
        stamps = [stamp for _, _, stamp in frames]
    return Recording(first.camera, np.array(stamps), images, poses)


def run(recording: Recording, case: str, dark: str, undisturbed: Array | None
        ) -> tuple[list[Measure], Array]:
    """
    Run a rig.

    :param dark: name of the camera that sees nothing for a while; '' for none
    :param undisturbed: what was returned without
    :return: figures, and distances (cameras, N) from the true positions, metres, NaN without a
        pose
    """
    system = System(make_predictor(Model()))
    seconds = (recording.stamps - recording.stamps[0]) / 1e9
    hidden = (seconds >= _DARK[0]) & (seconds < _DARK[1])
    tracked = np.zeros((len(MOUNTS), len(seconds)), bool)
    metric_from = None
    for i in range(len(seconds)):
        updates = system.add_instant(list(_instant(recording, i, dark if hidden[i] else '')))
        tracked[:, i] = [u.state is TrackingState.TRACKING for u in updates]
        if metric_from is None and tracked[:, i].all():
            metric_from = i
    system.finish()
    errors = _errors(system, recording)
    name = f'{case}, {dark or "neither"} dark'
    since = tracked[:, metric_from:] if metric_from is not None else tracked
    measures = [
        Measure(name, 'until both cameras are tracked',
                None if metric_from is None else float(seconds[metric_from]), None, 's'),
        Measure(name, 'images tracked from then on', 100 * float(since.mean()), 100, least=True),
        Measure(name, 'images with a pose at the end', 100 * float(np.isfinite(errors).mean()),
                100, least=True),
        *(Measure(name, f'error of the {camera} camera', 1e3 * _rms(errors[n]), None, 'mm')
          for n, camera in enumerate(MOUNTS))]
    if undisturbed is not None:
        measures += [
            Measure(name, 'error, of the undisturbed one',
                    _rms(errors) / _rms(undisturbed), _WORSE, 'times'),
            Measure(name, 'the same of the images meanwhile',
                    _rms(errors[:, hidden]) / _rms(undisturbed[:, hidden]), _WORSE, 'times')]
    return measures, errors


def _instant(recording: Recording, i: int, dark: str) -> Iterator[Frame]:
    stamp = int(recording.stamps[i])
    for n, (name, mount) in enumerate(MOUNTS.items()):
        image = recording.images[name][i]
        yield Frame(np.zeros_like(image) if name == dark else image, stamp, f'{name}{i}',
                    len(MOUNTS) * i + n, recording.camera, name, mount=RigMount(mount, stamp))


def _errors(system: System, recording: Recording) -> Array:
    """Distances (cameras, N) from the true positions after one rigid alignment, metres."""
    metric = system.metric('rig')
    truth = np.stack([recording.poses[name] for name in MOUNTS], axis=1).reshape(-1, 4, 4)
    errors = np.full(len(truth), np.nan)
    posed = [(f.index, se3.stretched(T, 1.0 if metric is None else metric.value))
             for f, T in system.trajectory()]
    if posed:
        indices, poses = np.array([i for i, _ in posed]), np.stack([T for _, T in posed])
        aligned = aligning_similarity(poses, truth[indices], False) @ poses
        errors[indices] = np.linalg.norm((aligned - truth[indices])[:, :3, 3], axis=1)
    return errors.reshape(-1, len(MOUNTS)).T


def _rms(errors: Array) -> float:
    return float(np.sqrt(np.nanmean(errors ** 2)))
