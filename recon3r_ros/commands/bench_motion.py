# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
`recon3r bench --motion`: what large moving objects do to poses and map.

Simulated scenes with objects that cover a quarter of the image and more, each reconstructed
without them, with them, and with them but without looking for what moves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from recon3r_ros.commands.console import output as console
from recon3r_ros.commands.console import progress_bar
from recon3r_ros.commands.pictures import draw_motion
from recon3r_ros.commands.trajectory_errors import compare
from recon3r_ros.core.motion import MotionConfig
from recon3r_ros.core.reconstruction import Reconstruction
from recon3r_ros.core.types import Frame
from recon3r_ros.inference.registry import make_predictor, Model
from recon3r_ros.io.atomic import write_bytes
from recon3r_ros.sim import SceneConfig, SimulatedFrame, SimulatedSequence

_FRAMES = 120
_SIZE = {'frames': _FRAMES, 'width': 480, 'height': 360}
SCENES = (
    SceneConfig(seed=0, trajectory='handheld', moving_objects=1, moving_size=0.25, **_SIZE),
    SceneConfig(seed=1, trajectory='handheld', moving_objects=1, moving_size=0.25, **_SIZE),
    SceneConfig(seed=0, trajectory='orbit', moving_objects=3, moving_size=0.12, **_SIZE),
    SceneConfig(seed=1, trajectory='orbit', moving_objects=3, moving_size=0.12, **_SIZE),
    SceneConfig(seed=2, trajectory='orbit', moving_objects=3, moving_size=0.12, **_SIZE),
)


@dataclass(frozen=True)
class _Row:
    """ATE in percent of the path, and the map's share of points on what moves in percent."""

    ate: float
    on_movers: float


def measure(output: Path) -> int:
    """
    Measure, and write a page and a picture.

    :param output: file of the page; the picture lies beside it
    :returns: the exit status
    """
    lines = []
    with progress_bar() as bar:
        bar.stage('scenes', 3 * len(SCENES))
        for n, scene in enumerate(SCENES):
            with_movers = list(SimulatedSequence(scene))
            alone = SimulatedSequence(replace(scene, moving_objects=0))
            none, _ = _run(alone, list(alone), True)
            bar.advance()
            on, reconstruction = _run(SimulatedSequence(scene), with_movers, True)
            bar.advance()
            off, other = _run(SimulatedSequence(scene), with_movers, False)
            bar.advance()
            shares = [f.motion_mask.mean() for f in with_movers]
            lines.append(
                f'| {scene.trajectory}, seed {scene.seed}, {scene.moving_objects} | '
                f'{np.mean(shares):.0%}, {np.max(shares):.0%} | {none.ate:.2f} | {on.ate:.2f} | '
                f'{off.ate:.2f} | {on.ate / none.ate:.2f} | {off.ate / on.ate:.2f} | '
                f'{on.on_movers:.2f} | {off.on_movers:.2f} |\n')
            if n == len(SCENES) - 1:
                draw_motion([reconstruction.map, other.map], with_movers,
                            output.with_suffix('.png'))
    page = ('# Large moving objects\n\n'
            'Written by `recon3r bench --motion`: simulated rooms, geometric model, ATE after '
            'alignment by a similarity in percent of the path. *on* looks for what moves, *off* '
            'does not (poses are robust in any case); *none* is the same scene without the '
            'objects. Where an ATE is a few millimetres, ratios are noisy.\n\n'
            '| scene, moving objects | of the image: mean, most | ATE none | on | off | on / none '
            '(target <= 1.2) | off / on (target >= 2) | map on moving objects, %: on (target < 1) '
            f'| off |\n{9 * "| --- "}|\n{"".join(lines)}\n'
            f'![masks and maps]({output.with_suffix(".png").name})\n\n'
            'Above: a keyframe, its depth, and its mask; below: the map from above without and '
            'with looking for what moves, points on moving objects in red.\n')
    write_bytes(output, page.encode())
    console().print(page, soft_wrap=True)
    return 0


def _run(scene: SimulatedSequence, frames: list[SimulatedFrame], detect: bool
         ) -> tuple[_Row, Reconstruction]:
    reconstruction = Reconstruction(make_predictor(Model()), motion=MotionConfig(detect))
    for f in frames:
        reconstruction.add(Frame(f.image, f.stamp_ns, f'{f.index:06}', f.index, scene.camera))
    reconstruction.finish()
    tracked = sorted(reconstruction.trajectory(), key=lambda t: t[0].stamp_ns)
    errors = compare((np.array([f.stamp_ns for f, _ in tracked]),
                      np.array([T for _, T in tracked]).reshape(-1, 4, 4)),
                     (np.array([f.stamp_ns for f in frames]),
                      np.stack([f.T_world_cam for f in frames]))).sim3
    known = on_movers = 0
    for keyframe in reconstruction.map.keyframes.values():
        truth = cv2.resize(frames[keyframe.index].motion_mask.astype(np.uint8),
                           keyframe.mask.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
        known += int((keyframe.inverse_depth > 0).sum())
        on_movers += int(((keyframe.inverse_depth > 0) & truth).sum())
    percent = None if errors is None else errors.ate_percent_of_path
    return _Row(np.nan if percent is None else percent, 100 * on_movers / max(known, 1)
                ), reconstruction
