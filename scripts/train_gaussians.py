#!/usr/bin/env python3
# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Train a small network of H3R's kind on simulated rooms, and measure it in rooms that it never saw.

Makes the file that `recon3r export --format gaussians --network` takes. Rooms and images are
tiny, for two cores of a CPU: this shows that the network learns, and makes nothing that real
images should be given to. Larger networks, images and data need a GPU and
`recon3r_ros.training.gaussians` with the renderer of `models/gsplat_renderer.py`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
import sys

import numpy as np
from recon3r_ros.bench.gaussian_rooms import measured, render_room, Room
from recon3r_ros.bench.simulated import one_thread
from recon3r_ros.nets import checkpoints, vae_encoder
from recon3r_ros.nets.h3r import H3r, H3rConfig
from recon3r_ros.nets.vae_encoder import VaeConfig
from recon3r_ros.sim import SceneConfig
from recon3r_ros.training.gaussians import train
from safetensors.torch import save_file
import torch

PATHS = ('orbit', 'handheld', 'sweep')
#: Rooms that are measured in; those of training have seeds from FIRST_SEED on
TESTED, FIRST_SEED = 6, 100
#: Rendered at 15 Hz: frame of the first view, and frames between two views
FRAMES, FIRST, STEP = 60, 20, 4
#: Images: the smallest in which rooms can be recognised
WIDTH, HEIGHT = 48, 32
RATE = 2e-3


def room(seed: int) -> Room:
    """Render a room, with one of three paths of the camera."""
    return render_room(SceneConfig(
        seed=seed, frames=FRAMES, fps=15, width=WIDTH, height=HEIGHT, supersampling=2,
        trajectory=PATHS[seed % len(PATHS)], moving_objects=0), FIRST, STEP)


def network(vae: Path | None) -> H3r:
    """
    Make an untrained network.

    :param vae: file of an encoder, which stays as it is; None for a small one that is trained
    """
    torch.manual_seed(0)
    small = VaeConfig((32, 32, 32), 1)
    encoder = None if vae is None else checkpoints.read(vae, (vae_encoder.FORMAT,)).network
    made = H3r(H3rConfig(small if encoder is None else encoder.config, 32, 4, 4, 4, 24, 64, 1, 16))
    if encoder is not None:
        made.vae.load_state_dict(encoder.state_dict())
        made.vae.requires_grad_(False)
    return made


def report(name: str, made: H3r, rooms: list[Room]) -> None:
    """Write means over rooms."""
    ratio, error = np.mean([measured(made, own) for own in rooms], axis=0)
    sys.stdout.write(f'{name}: {ratio:.1f} dB of views left out, depth wrong by '
                     f'{100 * error:.1f} % in the median, {len(rooms)} rooms\n')


def main() -> None:
    """Train, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('output', type=Path, help='file to write, .safetensors')
    parser.add_argument('--vae', type=Path, help="encoder's weights (default: a small encoder is "
                        'trained, too)')
    parser.add_argument('--rooms', type=int, default=24)
    parser.add_argument('--steps', type=int, default=400)
    asked = parser.parse_args()
    with one_thread():
        made = network(asked.vae)
        tested = [room(seed) for seed in range(TESTED)]
        trained = [room(FIRST_SEED + i) for i in range(asked.rooms)]
        report('untrained', made, tested)
        train(made, [own.example for own in trained], asked.steps, RATE)
        report('trained, rooms of the training', made, trained)
        report('trained, rooms never seen', made, tested)
    save_file(made.state_dict(), asked.output)


if __name__ == '__main__':
    main()
