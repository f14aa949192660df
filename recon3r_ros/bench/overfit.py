# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
`recon3r bench --overfit`: HAMSt3R's heads learn eight pairs of simulated views by heart.

A small network, as there are no published weights, with the weights of the paper's losses. Views
of the same scenes at other times, which it was not trained on, show that it learns by heart alone.
"""

from __future__ import annotations

from dataclasses import astuple, replace
from pathlib import Path
import time

import numpy as np
from recon3r_ros.bench.page import write_page
from recon3r_ros.bench.yardstick import machine
from recon3r_ros.cli.console import progress_bar
from recon3r_ros.io.markdown import table
from recon3r_ros.sim import SceneConfig, SimulatedSequence
from recon3r_ros.training.losses import LossConfig
from recon3r_ros.training.overfit import Fit, fit_of, overfit, small_network
from recon3r_ros.training.simulated import simulated_batch

#: Scenes, and the frames of them that are learned, and others
_SCENES, _LEARNED, _OTHERS = range(4), (5, 50), (25,)
_BASELINE = 0.25  # metres between the two cameras
_CONFIG = SceneConfig(frames=60, width=84, height=84, moving_objects=0, people=2,
                      horizontal_fov_deg=50)
_STEPS, _RATE = 500, 3e-3
#: Points at which masks of so few cells are compared
_LOSS = LossConfig(samples=512)


def measure(output: Path) -> int:
    """
    Measure and write a page.

    :param output: file of the page
    :returns: the exit status
    """
    line = machine()
    T_cam_other = np.eye(4)
    T_cam_other[0, 3] = _BASELINE
    sequences = [SimulatedSequence(replace(_CONFIG, seed=seed)) for seed in _SCENES]
    learned = simulated_batch(sequences, _LEARNED, T_cam_other)
    others = simulated_batch(sequences, _OTHERS, T_cam_other)
    network = small_network(0)
    rows = [_row('before', fit_of(network.eval(), learned))]
    begin = time.monotonic()
    with progress_bar() as bar:
        bar.stage('training', _STEPS)
        losses = overfit(network, learned, _STEPS, _RATE, _LOSS, 0, lambda *_: bar.advance())
    seconds = time.monotonic() - begin
    rows += [_row('after', fit_of(network, learned)),
             _row('views not trained on', fit_of(network, others))]
    parameters = sum(p.numel() for p in network.parameters())
    page = ('# HAMSt3R learns simulated people by heart\n\n'
            f'Written by `recon3r bench --overfit`: {len(learned.first)} pairs of '
            f'{_CONFIG.width}x{_CONFIG.height} pixels with two people, a network of '
            f'{parameters / 1e6:.1f} million parameters, {_STEPS} steps in {seconds:.0f} s; loss '
            f'from {losses[0]:.1f} to {losses[-1]:.2f}. It says nothing of real images: nobody '
            f'has published weights of HAMSt3R.\n\n{line}.\n\n'
            + table(('', 'people: IoU', 'found per person', 'body: IoU',
                     "place on the body, of its template's box", 'points, relative',
                     'matches found'), rows))
    write_page(output, page)
    return 0


def _row(name: str, fit: Fit) -> tuple[str, ...]:
    return (name, *(f'{value:.3f}' for value in astuple(fit)))
