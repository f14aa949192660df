# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Simulated packs, rendered once and cached."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
import hashlib
import json
from pathlib import Path
import shutil

from recon3r_ros import sim
from recon3r_ros.errors import OutputError
from recon3r_ros.io.atomic import write_bytes
from recon3r_ros.io.packs import write_pack
from recon3r_ros.sim import SceneConfig, SimulatedSequence
import torch

#: File of a pack with the configuration of the simulation
RECIPE = 'scene.json'


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
        if (folder / RECIPE).read_text(encoding='utf-8') == recipe:
            return
        shutil.rmtree(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f'{folder.parent}: cannot be created: {error.strerror}') from None
    with _one_thread():
        write_pack(SimulatedSequence(config), folder, progress)
    write_bytes(folder / RECIPE, recipe.encode())


@contextmanager
def _one_thread() -> Iterator[None]:
    """
    Restrict torch to one thread.

    A frame takes many small operations. Under load by other programs, synchronising threads at
    each of them makes rendering a hundred times slower.
    """
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
