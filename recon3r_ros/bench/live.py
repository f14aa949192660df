# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`recon3r bench --live`: the node against `recon3r run` on the same images, and the transport."""

from __future__ import annotations

from pathlib import Path
from statistics import median
import tempfile

import numpy as np
from recon3r_ros.bench.load import busy_processes
from recon3r_ros.bench.page import write_page
from recon3r_ros.bench.simulated import demo_scene, simulated_pack, simulated_rig
from recon3r_ros.bench.transport import run as run_transport
from recon3r_ros.bench.yardstick import machine
from recon3r_ros.cli.live_demo import LiveReport, LiveRig, reconstruct_live
from recon3r_ros.cli.reconstruction import reconstruct
from recon3r_ros.errors import InputError
from recon3r_ros.evaluation.live import compare_live_masks
from recon3r_ros.evaluation.results import evaluate, Evaluation
from recon3r_ros.geometry import se3
from recon3r_ros.io.bag import recorded_ages_ns
from recon3r_ros.io.markdown import table
from recon3r_ros.io.sequences import open_sequence
from recon3r_ros.ros.transport_probe import cloud_stream, image_stream
from recon3r_ros.sim import SceneConfig

#: Sequences that are played, poses of the second cameras of rigs, and duration of the transport
#: measurement, seconds
PACK = 'sevenscenes_redkitchen'
WIDE = SceneConfig(seed=3, frames=150, width=1280, height=720, fps=30.0, trajectory='sweep',
                   moving_objects=1)
STEREO = SceneConfig(seed=3, frames=300, moving_objects=0)
T_LEFT_RIGHT = se3.from_rt(np.eye(3), [0.11, 0.0, 0.0])
BACK_TO_BACK = SceneConfig(seed=3, frames=150, fps=15.0, moving_objects=0)
T_FRONT_BACK = se3.from_rt(se3.so3_exp([0.0, np.pi, 0.0]), [0.0, 0.0, -0.3])
TRANSPORT_S = 60.0
#: Topic of the clouds of keyframes
CLOUDS = '/recon3r/camera/points'
#: Runs of a sequence, and of the demo
RUNS, DEMOS = 5, 3
#: Images of the demo, and what it must show beside 0, 1 and 2 busy processes
DEMO_IMAGES = 120
DEMO_TARGETS = tuple(
    (f'target, {busy}', f'>= {posed} %', '', f'<= {latency} ms', '', f'>= {jaccard}', '')
    for busy, posed, latency, jaccard in (
        (0, 98, 100, 0.7), (1, 95, 200, 0.65), (2, 85, 400, 0.5)))
_TITLE = f"""\
# The node, live

Written by `recon3r bench --live`. All processes (camera, node, a subscriber to poses, the recorder
where all is recorded) run on the same machine and communicate over DDS with the shipped profile.
Medians of {RUNS} runs; of one where all is recorded. The first images wait until the camera has
moved far enough for a map: they count in *95 %*, not in *95 % once there is a map*.

"""


def measure(packs: Path, output: Path, load: int = 0) -> int:
    """
    Measure and write a table.

    :param packs: folder with a data/ folder of packs
    :param output: file of the table
    :param load: busy processes beside the node
    :returns: the exit status
    :raises InputError: where the sequence is absent
    """
    pack = packs / 'data' / PACK
    if not pack.is_dir():
        raise InputError(f'{pack}: no such pack; give its folder with --packs')
    line = machine()
    with tempfile.TemporaryDirectory(prefix='recon3r-bench-live-') as name:
        folder = Path(name)
        simulated_pack(WIDE, folder / 'wide')
        sequences = (('kitchen', pack), ('simulated, 1280x720', folder / 'wide'))
        runs = []
        for label, images in sequences:
            reconstruct(open_sequence(images=images), folder / label)
            runs.append((label, _ate(evaluate(folder / label, images))))
        with busy_processes(load):
            rows = [_row(f'{label}, node alone', images, folder / 'live', RUNS)
                    for label, images in sequences]
            rows += [stereo_row(folder), rig_row(folder)]
            rows.append(_row('kitchen, all recorded', pack, folder / 'live', 1, record=True))
        ages_ns = recorded_ages_ns(folder / 'live' / 'recording', CLOUDS)
        simulated_pack(demo_scene(0, DEMO_IMAGES), folder / 'demo')
        demos = [_demo_row(folder / 'demo', folder / 'demos', busy) for busy in range(3)]
    rows += [(f'{label}, `recon3r run`', '', '', '', '', '', '', _metres(ate))
             for label, ate in runs]
    rows.append(('target, simulated rig', '>= 95 %', '', '<= 150 ms', '', '<= 3 ms', '', ''))
    rows += [(f'target, {label}', f'>= {posed} %', '', f'<= {latency} ms', '', '<= 3 ms',
              f'<= {_metres(1.1 * ate)}', '')
             for (label, ate), posed, latency in zip(runs, (99, 95), (60, 120))]
    streams = (image_stream(), cloud_stream())
    beside = f', beside {load} busy processes' if load else ''
    text = _TITLE + f'{line}.\n\n## 30 images a second{beside}\n\n' + table(
        ('', 'images with a pose', 'stamp to pose, median', '95 %', '95 % once there is a map',
         'image callback', 'ATE as published', 'ATE as saved'), rows)
    transport = [(
        f'{s.topic.name}, {s.size / 1e6:.1f} MB', f'{s.sent}', f'{s.lost}',
        f'{s.latency_median_ms:.1f} ms', f'{s.latency_95_ms:.1f} ms', f'{s.publish_ms:.1f} ms',
        f'{s.cost_ratio:.1f}') for s in run_transport(TRANSPORT_S, streams)]
    age, age_95 = np.quantile(ages_ns, (0.5, 0.95)) / 1e6
    text += ('\nAge of the cloud of a keyframe when it is received, all recorded: '
             f'median {age:.0f} ms, 95 % within {age_95:.0f} ms (target: 1000 ms), '
             f'{len(ages_ns)} clouds.\n')
    text += f'\n## `recon3r demo --ros`, medians of {DEMOS} runs\n\n' + table(
        ('busy processes beside it', 'posed within 500 ms', 'stamp to pose, median', '95 %',
         '95 % once there is a map', 'mask J after 1 s', 'of these without mask (J = 0)'),
        (*demos, *DEMO_TARGETS))
    text += '\n## Transport, 60 s\n\n' + table(
        ('messages', 'sent', 'lost', 'latency', '95 %', 'build and publish',
         'as ratio to a bare publisher'), transport)
    write_page(output, text)
    return 0


def stereo_row(folder: Path, runs: int = RUNS) -> tuple[str, ...]:
    """Measure a stereo pair at 30 Hz."""
    simulated_rig(STEREO, T_LEFT_RIGHT, folder / 'stereo')
    return _row('simulated stereo, 640x480, node alone', folder / 'stereo' / 'left',
                folder / 'live stereo', runs, rig=LiveRig(
                    (str(folder / 'stereo'), '--camera', 'camera', '--stereo'),
                    ('camera.stereo:=right',)))


def rig_row(folder: Path, runs: int = RUNS) -> tuple[str, ...]:
    """Measure two cameras back to back at 15 Hz each, by the last pose of each instant."""
    simulated_rig(BACK_TO_BACK, T_FRONT_BACK, folder / 'rig', ('camera', 'back'))
    return _row('simulated rig, 2 x 640x480 at 15 Hz, node alone', folder / 'rig' / 'camera',
                folder / 'live rig', runs, rig=LiveRig(
                    (str(folder / 'rig'),), ("cameras:=['camera', 'back']",), 2))


def _demo_row(pack: Path, output: Path, busy: int) -> tuple[str, ...]:
    """Medians of several demos beside busy processes."""
    reports, masks = [], []
    with busy_processes(busy):
        for n in range(DEMOS):
            own = output / f'{busy} busy, {n}'
            reports.append(reconstruct_live(pack, own, True))
            compared = compare_live_masks(own / 'masks', own / 'truth' / 'masks')
            assert compared is not None
            masks.append(compared)
    return (str(busy), f'{100 * median(r.in_time for r in reports):.1f} %', *_latencies(reports),
            f'{median(m.jaccard for m in masks):.2f}',
            f'{median(m.missing for m in masks):.0f} of {masks[0].images}')


def _latencies(reports: list[LiveReport]) -> tuple[str, ...]:
    return tuple(f'{median(values):.0f} ms' for values in zip(*(
        (r.latency_ms, r.latency_95_ms, r.tracking_95_ms) for r in reports)))


def _row(name: str, pack: Path, output: Path, runs: int, record: bool = False,
         rig: LiveRig | None = None) -> tuple[str, ...]:
    """Medians of several runs."""
    reports, published, saved = [], [], []
    for _ in range(runs):
        reports.append(reconstruct_live(pack, output, record, rig=rig))
        published.append(_ate(evaluate(output / 'published', output / 'truth')))
        saved.append(_ate(evaluate(output, output / 'truth')))
    spread = f' ({min(published):.4f} to {max(published):.4f})' if runs > 1 else ''
    return (name, f'{100 * median(r.poses / r.published for r in reports):.1f} %',
            *_latencies(reports),
            f'{median(r.callback_ms for r in reports):.1f} ms',
            _metres(median(published)) + spread, _metres(median(saved)))


def _metres(length: float) -> str:
    return f'{length:.4f} m'


def _ate(evaluation: Evaluation) -> float:
    assert evaluation.trajectory is not None and evaluation.trajectory.sim3 is not None
    return evaluation.trajectory.sim3.ate_rmse
