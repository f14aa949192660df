# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
`recon3r bench --motion`: effect of large dynamic objects on poses and map.

Simulated scenes with objects that cover a quarter of the image and more, each reconstructed
without them, with them, and with them but without detection of dynamic objects; and the masks
of these and other scenes (`simulated_masks`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.bench import simulated_masks
from recon3r_ros.bench.motion_picture import draw_motion, true_mask
from recon3r_ros.bench.page import write_page
from recon3r_ros.cli.console import progress_bar
from recon3r_ros.evaluation.trajectory_errors import compare
from recon3r_ros.io.markdown import table
from recon3r_ros.models.registry import make_predictor, Model
from recon3r_ros.sim import SimulatedFrame, SimulatedSequence
from recon3r_ros.slam.dynamics.motion_config import MotionConfig
from recon3r_ros.slam.system import System
from recon3r_ros.slam.types import Frame

SCENES = tuple(replace(scene, seed=seed) for scene in simulated_masks.LARGE_OBJECTS
               for seed in simulated_masks.SEEDS)
_HEAD = ('scene, moving objects', 'of the image: mean, most', 'ATE none', 'on', 'off', 'given',
         'on / none (target <= 1.2)', 'off / on (target >= 2)', 'given / none',
         'map on moving objects, %: on (target < 1)', 'off')
#: Index of the scene that is drawn
_DRAWN = 7


@dataclass(frozen=True)
class _Row:
    """ATE in percent of the path, and the map's share of points on dynamic objects in percent."""

    ate: float
    on_movers: float


def measure(output: Path) -> int:
    """
    Measure, and write a page and a figure.

    :param output: file of the page; the figure is written beside it
    :returns: the exit status
    """
    lines: list[tuple[str | None, ...]] = []
    rows: list[tuple[_Row, _Row, _Row, _Row]] = []
    with progress_bar() as bar:
        bar.stage('scenes', 4 * len(SCENES))
        for n, scene in enumerate(SCENES):
            with_movers = list(SimulatedSequence(scene))
            alone = SimulatedSequence(replace(scene, moving_objects=0))
            none, _ = _run(alone, list(alone), True)
            bar.advance()
            on, reconstruction = _run(SimulatedSequence(scene), with_movers, True)
            bar.advance()
            off, other = _run(SimulatedSequence(scene), with_movers, False)
            bar.advance()
            given, _ = _run(SimulatedSequence(scene), with_movers, False, given=True)
            bar.advance()
            rows.append((none, on, off, given))
            shares = [f.motion_mask.mean() for f in with_movers]
            lines.append((
                f'{scene.trajectory}, seed {scene.seed}, {scene.moving_objects}',
                f'{np.mean(shares):.0%}, {np.max(shares):.0%}',
                *_cells(np.array([none.ate, on.ate, off.ate, given.ate]), on.on_movers,
                        off.on_movers)))
            if n == _DRAWN:
                draw_motion([reconstruction.map, other.map], with_movers,
                            output.with_suffix('.png'))
    ate = np.array([[row.ate for row in scene] for scene in rows])
    typical = np.exp(np.mean(np.log(ate), axis=0))
    lines.append(('geometric mean', None, *_cells(
        typical, *(float(np.mean([row[n].on_movers for row in rows])) for n in (1, 2)))))
    page = ('# Large moving objects\n\n'
            'Written by `recon3r bench --motion`: simulated rooms, geometric model, ATE after '
            'alignment by a similarity in percent of the path. *on* detects dynamic objects, '
            '*off* '
            'does not (poses are robust in any case); *none* is the same scene without the '
            'objects; *given* uses the true masks and no detection: the effect of the masked part '
            'of the image alone. Where an ATE is a few millimetres, ratios are noisy: a path is '
            '1.3 to 2.3 m long.\n\n'
            + table(_HEAD, lines)
            + f'\n![masks and maps]({output.with_suffix(".png").name})\n\n'
            'Above: a keyframe, the votes of its pairs with neighbouring keyframes (red: dynamic, '
            'blue: static), its mask, and its depth; below: the map from above without and with '
            'detection of dynamic objects, points on dynamic objects in red.\n\n'
            + simulated_masks.section())
    write_page(output, page)
    return 0


def _cells(ate: NDArray[np.float64], on_movers: float, on_movers_off: float) -> list[str]:
    """Format a row: ATE none, on, off, given (4,), and shares of points on dynamic objects."""
    none, on, off, given = ate
    return [f'{value:.2f}' for value in (none, on, off, given, on / none, off / on, given / none,
                                         on_movers, on_movers_off)]


def _run(scene: SimulatedSequence, frames: list[SimulatedFrame], detect: bool,
         given: bool = False) -> tuple[_Row, System]:
    reconstruction = System(make_predictor(Model()), motion=MotionConfig(detect))
    for f in frames:
        reconstruction.add(Frame(f.image, f.stamp_ns, f'{f.index:06}', f.index, scene.camera,
                                 mask=f.motion_mask if given else None))
    reconstruction.finish()
    tracked = sorted(reconstruction.trajectory(), key=lambda t: t[0].stamp_ns)
    errors = compare((np.array([f.stamp_ns for f, _ in tracked]),
                      np.array([T for _, T in tracked]).reshape(-1, 4, 4)),
                     (np.array([f.stamp_ns for f in frames]),
                      np.stack([f.T_world_cam for f in frames]))).sim3
    known = on_movers = 0
    for keyframe in reconstruction.map.keyframes.values():
        truth = true_mask(frames[keyframe.index], keyframe)
        known += int((keyframe.inverse_depth > 0).sum())
        on_movers += int(((keyframe.inverse_depth > 0) & truth).sum())
    percent = None if errors is None else errors.ate_percent_of_path
    return _Row(np.nan if percent is None else percent, 100 * on_movers / max(known, 1)
                ), reconstruction
