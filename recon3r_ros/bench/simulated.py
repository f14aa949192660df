# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Simulated packs, rendered once and cached."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
import hashlib
import json
import os
from pathlib import Path
import shutil
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from recon3r_ros import sim
from recon3r_ros.errors import OutputError
from recon3r_ros.io.atomic import write_bytes
from recon3r_ros.io.imu import write_imu
from recon3r_ros.io.packs import write_pack
from recon3r_ros.sim import SceneConfig
from recon3r_ros.sim.imu import simulated_imu
from recon3r_ros.slam.imu.samples import ImuSamples

if TYPE_CHECKING:
    from recon3r_ros.geometry.camera import Camera
    from recon3r_ros.sim import BlurredSequence, SimulatedFrame, SimulatedSequence
    from recon3r_ros.sim.trajectories import CameraPath

#: File of a pack with the configuration of the simulation
RECIPE = 'scene.json'
#: Nominal share of the image that the demo's dynamic object covers; its mean is at least 0.1 for
#: the first ten seeds, although objects are smaller where space is scarce
_DEMO_OBJECT = 0.15


def demo_scene(seed: int, frames: int) -> SceneConfig:
    """
    Return the scene of the demo: a handheld camera, 640x480 at 30 Hz, and one dynamic object.

    :param frames: number of images
    """
    return sim.SceneConfig(seed=seed, frames=frames, moving_objects=1, moving_size=_DEMO_OBJECT)


def simulated_rig(config: SceneConfig, T_first_other: NDArray[np.float64], folder: Path,
                  names: tuple[str, str] = ('left', 'right')) -> None:
    """
    Render both cameras of a rig into a pack for each, with rig.json.

    :param T_first_other: (4, 4) pose of the second camera in the first one's frame, metres
    :param folder: a path that does not exist yet
    :param names: of the cameras
    :raises OutputError: where it cannot be written
    """
    first = sim.SimulatedSequence(config)
    camera = {name: getattr(config.camera, name)
              for name in ('width', 'height', 'fx', 'fy', 'cx', 'cy')}
    with one_thread():
        for name, sequence in zip(names, (first, first.seen_by(T_first_other))):
            write_pack(_Rendered(sequence), folder / name)
    write_bytes(folder / 'rig.json', json.dumps({
        names[0]: camera, names[1]: camera,
        f'T_{names[0]}_{names[1]}': T_first_other.tolist()}).encode())


def simulated_pack(config: SceneConfig, folder: Path,
                   progress: Callable[[int, int], None] | None = None) -> None:
    """
    Render the pack of a scene into a folder unless present; another simulated pack is replaced.

    :param config: of the scene
    :param folder: for the pack
    :param progress: called after each frame with the frames done and their total
    :raises OutputError: where the folder holds other files or cannot be written
    """
    recipe = _recipe(config)
    if folder.exists():
        if not (folder / RECIPE).is_file():
            raise OutputError(f'{folder}: exists and was not simulated by this command; move it '
                              'or choose another output folder')
        if (folder / RECIPE).read_text(encoding='utf-8') == recipe and _is_complete(
                folder, config.frames):
            return
        shutil.rmtree(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f'{folder.parent}: cannot be created: {error.strerror}') from None
    with one_thread():
        rendered = _Rendered(sim.BlurredSequence(config) if config.exposure > 0
                             else sim.SimulatedSequence(config))
        write_pack(rendered, folder, progress)
    if config.imu:
        _write_imu(config, rendered.camera_path, folder)
    write_bytes(folder / RECIPE, recipe.encode())


def _is_complete(folder: Path, frames: int) -> bool:
    """Whether a pack has all files of so many frames."""
    counts = [len(list((folder / kind).glob('*.png'))) for kind in ('images', 'depth', 'masks')]
    return counts == [frames] * 3 and all(
        (folder / name).is_file() for name in ('frames.txt', 'groundtruth.txt', 'camera.json'))


class _Rendered:
    """
    The frames of a sequence, rendered ahead by one thread for each core.

    :param sequence: of a scene
    """

    def __init__(self, sequence: SimulatedSequence | BlurredSequence) -> None:
        self._sequence = sequence

    @property
    def camera_path(self) -> CameraPath:
        """Pose of the camera over time."""
        return self._sequence.scene.camera_path

    @property
    def camera(self) -> Camera:
        """The camera of all frames."""
        return self._sequence.camera

    def __len__(self) -> int:
        return len(self._sequence)

    def __iter__(self) -> Iterator[SimulatedFrame]:
        cores = os.cpu_count() or 1
        pool = ThreadPoolExecutor(cores)
        waiting: deque[Future[SimulatedFrame]] = deque()
        try:
            for index in range(len(self)):
                waiting.append(pool.submit(self._sequence.render, index))
                if len(waiting) > 2 * cores:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _write_imu(config: SceneConfig, path: CameraPath, folder: Path) -> None:
    """Write the samples of a scene's IMU beside its images."""
    made = simulated_imu(path, config.frames / config.fps, config.generator('imu'))
    write_imu(folder, ImuSamples(
        made.stamps_ns, made.gyroscope, made.accelerometer, made.T_cam_imu[:3, :3],
        made.model.gyroscope_noise, made.model.accelerometer_noise), made.T_cam_imu)


@contextmanager
def one_thread() -> Iterator[None]:
    """
    Restrict torch to one thread in each that renders.

    A frame takes many small operations. Under load by other programs, synchronising threads at
    each of them makes rendering a hundred times slower.
    """
    import torch  # only rendering needs it, and it takes a second
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _recipe(config: SceneConfig) -> str:
    """Return the content of RECIPE: the configuration and the version of the simulator."""
    digest = hashlib.sha256()
    for path in sorted(Path(sim.__file__).parent.glob('*.py')):
        digest.update(path.read_bytes())
    content = {'simulator': digest.hexdigest()[:16], **asdict(config)}
    return f'{json.dumps(content, indent=1)}\n'
