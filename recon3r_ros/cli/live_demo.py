# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`recon3r demo --ros`: camera, node and recorder as processes that communicate over DDS."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, ExitStack
from dataclasses import dataclass
from pathlib import Path
import re
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

import cv2
import numpy as np
from recon3r_ros.bench.load import LoadMeter, MachineLoad
from recon3r_ros.cli.console import ProgressBar
from recon3r_ros.cli.play import OFFSET
from recon3r_ros.errors import Recon3rError
from recon3r_ros.evaluation.live import posed_in_time, tracking_95_ms
from recon3r_ros.io.atomic import write_bytes
from recon3r_ros.io.bag import recorded_images
from recon3r_ros.io.stamps import parse_seconds
from recon3r_ros.io.trajectory import read_tum, write_tum
from recon3r_ros.ros.demo_listener import Listener
from recon3r_ros.ros.environment import child_environment, prepare_process

#: Timeouts for the start and the end of a process, seconds; a first start compiles
READY_S, END_S = 300.0, 15.0
#: Timeout for playing all images, seconds
PLAYING_S = 3600.0
#: Topic of dynamic masks
MASKS = '/recon3r/camera/dynamic_mask'
#: What ROS writes before a log line
_PREFIX = re.compile(r'^\[\w+\] (\[[^]]*\] )*\[[^]]*\]: ')


@dataclass(frozen=True)
class LiveRig:
    """
    A rig whose first camera, `camera`, has the images of a pack.

    :param played: what `recon3r play` is given
    :param parameters: of the node
    :param tracked: number of cameras that are tracked
    """

    played: tuple[str, ...]
    parameters: tuple[str, ...]
    tracked: int = 1


@dataclass(frozen=True)
class LiveReport:
    """
    Statistics of a live run.

    :param published: images published, of the first camera
    :param poses: of these, images with a pose; of a rig, as a mean of all tracked cameras
    :param in_time: share of the images whose pose was received in time, see `evaluation.live`
    :param latency_ms: median from an image's stamp to its pose's arrival
    :param latency_95_ms: 95th percentile
    :param tracking_95_ms: the same without the images that waited for the first map
    :param callback_ms: median run time of the node's image callback; NaN where not received
    :param load: of the machine while images were played; None where unknown
    """

    published: int
    poses: float
    in_time: float
    latency_ms: float
    latency_95_ms: float
    tracking_95_ms: float
    callback_ms: float
    load: MachineLoad | None


def reconstruct_live(pack: Path, output: Path, record: bool = True, rate: float = 1.0,
                     bar: ProgressBar = ProgressBar(None), rig: LiveRig | None = None
                     ) -> LiveReport:
    """
    Play a pack to the node, record all topics, and save the map.

    The first image is published when the node is active and all processes are connected.

    :param pack: folder of the images
    :param output: folder for the map, recording/, published/trajectory.txt with the published
        poses, and truth/, the pack with the stamps and names of the published images
    :param record: whether to record all topics, so that the node publishes all of them
    :param rate: factor of the playback speed
    :param bar: shows the progress
    :param rig: of whose first camera the pack is; all its cameras are played
    :raises Recon3rError: where a process fails, with its last output
    """
    recording = output / 'recording'
    shutil.rmtree(recording, ignore_errors=True)
    output.mkdir(parents=True, exist_ok=True)
    prepare_process()
    with ExitStack() as stack:
        others = [stack.enter_context(_child(
            output, 'node', '-m', 'recon3r_ros.ros.start', '--ros-args', '-p',
            f'map_path:={output}', *(word for parameter in (() if rig is None else rig.parameters)
                                     for word in ('-p', parameter))))]
        if record:
            others.append(stack.enter_context(_child(
                output, 'recorder', '-m', 'recon3r_ros.ros.recorder', str(recording))))
        listener = stack.enter_context(Listener())
        says = _says(output / 'node.log', bar)
        _wait(listener.node_is_active, others, READY_S, 'the node', says)
        _wait(lambda: listener.is_connected(record), others, READY_S, 'the recorder')
        source = (str(pack),) if rig is None else rig.played
        load = _play(pack, source, output, len(others), rate, listener, others, bar)
        _restamp(pack, output / 'truth', _offset_ns(output), rate)
        bar.stage('saving the map')
        _save_map(listener, others)
        report = _report(listener, load, 1 if rig is None else rig.tracked)
        _write_poses(listener, output / 'published')
    if record:
        bar.stage('reading the recording')
        _take_masks(recording, output / 'masks')
    return report


def _play(pack: Path, source: Sequence[str], output: Path, subscribers: int, rate: float,
          listener: Listener, others: Sequence[subprocess.Popen[bytes]], bar: ProgressBar
          ) -> MachineLoad | None:
    """Play all images to so many subscribers; return the load of the machine meanwhile."""
    bar.stage('connecting the camera')
    with _child(output, 'camera', '-m', 'recon3r_ros.cli', 'play', *source,
                '--rate', f'{rate}', '--subscribers', f'{subscribers}') as camera:
        def ended() -> bool:
            return camera.poll() is not None
        _wait(lambda: bool(listener.stamps_ns) or ended(), others, READY_S, 'the first image')
        meter = LoadMeter(child.pid for child in (*others, camera))
        total = len(list((pack / 'images').iterdir()))
        bar.stage('playing', total)
        _wait(ended, others, PLAYING_S, 'the last image',
              lambda: bar.update(len(listener.stamps_ns), total))
        if camera.returncode:
            raise Recon3rError(_last_words(output, 'camera'))
        return meter.read()


def _says(log: Path, bar: ProgressBar) -> Callable[[], None]:
    """Return a function that shows the last line that the node has logged, if it is new."""
    shown = None

    def show() -> None:
        nonlocal shown
        lines = log.read_text(errors='replace').splitlines()
        line = f': {_PREFIX.sub("", lines[-1])}' if lines else ''
        if line != shown:
            shown = line
            bar.stage(f'starting the node{line}')
    return show


def _take_masks(recording: Path, folder: Path) -> None:
    """Write the published masks, one for each image that has one."""
    folder.mkdir(exist_ok=True)
    for stamp_ns, mask in recorded_images(recording, MASKS):
        _, data = cv2.imencode('.png', mask)
        write_bytes(folder / f'{stamp_ns}.png', data.data)


def _offset_ns(output: Path) -> int:
    """Read the camera's offset of the stamps."""
    for line in (output / 'camera.log').read_text().splitlines():
        if line.startswith(OFFSET):
            return int(line.removeprefix(OFFSET).split()[0])
    raise Recon3rError(_last_words(output, 'camera'))


def _restamp(pack: Path, folder: Path, offset_ns: int, rate: float) -> None:
    """Copy a pack's ground truth with the stamps and names of the published images."""
    shutil.rmtree(folder, ignore_errors=True)
    lines = (pack / 'frames.txt').read_text().splitlines()
    words = [line.split() for line in lines if line.strip() and not line.startswith('#')]
    frames = [(parse_seconds(stamp), name) for stamp, name, *_ in words]
    first_ns = frames[0][0]

    def played(stamp_ns: int) -> int:
        return first_ns + offset_ns + round((stamp_ns - first_ns) / rate)

    stamps_ns, T_world_cam = read_tum(pack / 'groundtruth.txt')
    folder.mkdir(parents=True)
    write_tum(folder / 'groundtruth.txt', [played(int(s)) for s in stamps_ns], T_world_cam)
    shutil.copy(pack / 'camera.json', folder)
    for kind in ('images', 'depth', 'masks'):
        if not (pack / kind).is_dir():
            continue
        (folder / kind).mkdir()
        for stamp_ns, name in frames:
            source = pack / kind / Path(name).with_suffix('.png').name
            target = folder / kind / f'{played(stamp_ns)}.png'
            if source.is_file():
                target.symlink_to(source.resolve())


def _save_map(listener: Listener, others: Sequence[subprocess.Popen[bytes]]) -> None:
    """Call ~/save_map."""
    _wait(listener.can_save, others, READY_S, 'the service save_map')
    answer = listener.save_map()
    _wait(answer.done, others, READY_S, 'the response of save_map')
    said: Any = answer.result()
    if not said.success:
        raise Recon3rError(f'save_map: {said.message}')


def _write_poses(listener: Listener, folder: Path) -> None:
    """Write the published poses as a trajectory.txt without keyframes."""
    folder.mkdir(exist_ok=True)
    write_bytes(folder / 'keyframes.json', b'[]\n')
    write_tum(folder / 'trajectory.txt', *listener.poses())


def _report(listener: Listener, load: MachineLoad | None, tracked: int) -> LiveReport:
    """Summarise what was received, and the load of the machine meanwhile."""
    delays = listener.delays_ms()
    if not delays:
        raise Recon3rError('no pose received from the node')
    stamps_ns = listener.stamps_ns
    return LiveReport(
        len(stamps_ns), listener.poses_received / tracked,
        posed_in_time(stamps_ns, listener.arrivals_ns), float(np.median(delays)),
        float(np.quantile(delays, 0.95)),
        tracking_95_ms(listener.arrivals_ns), listener.callback_ms, load)


@contextmanager
def _child(folder: Path, name: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run Python in a separate process; stop it at the end."""
    with (folder / f'{name}.log').open('wb') as log:
        process = subprocess.Popen([sys.executable, *arguments], env=child_environment(),
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   start_new_session=True)
        try:
            yield process
        except Recon3rError as error:
            if process.poll() not in (None, 0):
                raise Recon3rError(f'{error}; {_last_words(folder, name)}') from error
            raise
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _last_words(folder: Path, name: str) -> str:
    """Return the last output of a process."""
    lines = (folder / f'{name}.log').read_text(errors='replace').splitlines()
    said = ' | '.join(line.strip() for line in lines[-3:] if line.strip())
    return f'{name} failed: {said or "no output"}'


def _wait(condition: Callable[[], Any], children: Sequence[subprocess.Popen[bytes]],
          seconds: float, what: str, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Wait for a condition while the children run, and do something now and then."""
    deadline = time.monotonic() + seconds
    while not condition():
        meanwhile()
        if any(child.poll() is not None for child in children):
            raise Recon3rError(f'a process ended while waiting for {what}')
        if time.monotonic() > deadline:
            raise Recon3rError(f'timed out after {seconds:.0f} s waiting for {what}')
        time.sleep(0.02)
