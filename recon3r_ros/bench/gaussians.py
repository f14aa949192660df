# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
`recon3r bench --gaussians`: views of simulated rooms that Gaussians of the map are rendered to.

Every eighth keyframe is left out, and every other view that is neither far nor turned from one.
Distances are the true ones. Images of the views left out are compared as a whole, what no other
view has seen included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
import tempfile

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.bench.page import write_page
from recon3r_ros.bench.simulated import one_thread, simulated_pack
from recon3r_ros.bench.yardstick import machine
from recon3r_ros.cli.console import progress_bar, ProgressBar
from recon3r_ros.cli.map_gaussians import map_gaussians
from recon3r_ros.cli.reconstruction import reconstruct, RunOptions
from recon3r_ros.cli.refined_gaussians import as_tensors, background
from recon3r_ros.errors import Recon3rError
from recon3r_ros.geometry import se3
from recon3r_ros.io.ground_truth import read_truth
from recon3r_ros.io.markdown import table
from recon3r_ros.io.run_folder import read_run, RunFolder
from recon3r_ros.io.sequences import open_sequence
from recon3r_ros.models.gaussian_refinement import over, PosedView, refine, TorchRenderer
from recon3r_ros.nets.gaussian_raster import GaussianTensors
from recon3r_ros.sim import SceneConfig
from recon3r_ros.slam.products.cloud import fuse
from recon3r_ros.slam.types import Keyframe
import torch

Array = NDArray[np.float64]

#: Path of the camera and seed of each room
ROOMS = (('orbit', 0), ('handheld', 1), ('sweep', 2), ('orbit', 3), ('handheld', 4))
_FRAMES, _FPS, _WIDTH, _HEIGHT = 150, 15.0, 320, 240
#: One keyframe of so many is left out, the first of them this one; never the last, beyond which
#: nothing has been seen
_EVERY, _FIRST = 8, 4
#: Views nearer to one that is left out, metres, and less turned, degrees, are left out as well
_NEAR, _TURNED = 0.3, 15.0
#: Refinement: steps, size of the images over that of the source, and Gaussians along the extent
_STEPS, _TINY, _ACROSS = 500, 0.25, 50
#: Share of points at each end of each axis that are excluded from the extent
_TAILS = 0.02
#: Targets, dB
ALONE, REFINED = 22.0, 26.0


@dataclass(frozen=True)
class Room:
    """
    What was measured in a room.

    :param name: path of the camera and seed
    :param views: number of views left out
    :param gaussians: number of Gaussians of the map
    :param seen: share of the views that Gaussians cover
    :param alone: PSNR of the map's Gaussians, dB, mean over the views
    :param coarse: PSNR of those of the tiny scene before refinement
    :param refined: and after it
    """

    name: str
    views: int
    gaussians: int
    seen: float
    alone: float
    coarse: float
    refined: float


def measure(output: Path) -> int:
    """
    Measure, and write the page.

    :param output: file of the page
    :returns: the exit status: 1 where a target is missed
    """
    line, rooms = machine(), []
    with progress_bar() as bar, tempfile.TemporaryDirectory() as scratch, one_thread():
        for path, seed in ROOMS:
            bar.stage(f'{path} {seed}', _STEPS)
            rooms.append(room(path, seed, Path(scratch) / f'{path}_{seed}', bar))
    page = f'{_introduction()}\n{line}.\n\n' + table(
        ('room', 'views', 'Gaussians', 'covered, %', f'map alone, dB (target >= {ALONE:g})',
         'tiny scene before, dB', f'after {_STEPS} steps, dB (target >= {REFINED:g})'),
        [(r.name, str(r.views), str(r.gaussians), f'{100 * r.seen:.1f}', f'{r.alone:.1f}',
          f'{r.coarse:.1f}', f'{r.refined:.1f}') for r in rooms])
    write_page(output, page)
    return 0 if all(r.alone >= ALONE and r.refined >= REFINED for r in rooms) else 1


def _introduction() -> str:
    return f"""\
# Gaussians

Written by `recon3r bench --gaussians`: simulated rooms, {_FRAMES} images of {_WIDTH}x{_HEIGHT},
geometric model. PSNR of whole images that were left out: every eighth keyframe, with all views
less than {_NEAR:g} m and {_TURNED:g} degrees from it. Renderer: {TorchRenderer.name}, on a
background of the Gaussians' mean colour. The tiny scene has images of {int(_TINY * _WIDTH)}x\
{int(_TINY * _HEIGHT)} and
Gaussians 1/{_ACROSS} of the extent apart.
"""


def room(path: str, seed: int, folder: Path, bar: ProgressBar) -> Room:
    """
    Reconstruct a room, and render the views left out.

    :param path: of the camera
    :param folder: for images and results
    """
    simulated_pack(SceneConfig(seed=seed, frames=_FRAMES, fps=_FPS, width=_WIDTH, height=_HEIGHT,
                               trajectory=path, moving_objects=0), folder / 'pack')
    reconstruct(open_sequence(folder / 'pack'), folder / 'out', RunOptions(progress=False))
    run = read_run(folder / 'out')
    images = {frame.index: frame.image for frame in open_sequence(folder / 'pack')}
    poses = read_truth(folder / 'pack' / 'groundtruth.txt').T_world_cam
    left_out = list(run.keyframes.values())[_FIRST:-1:_EVERY]
    if not left_out:
        raise Recon3rError(f'{path} {seed}: {len(run.keyframes)} keyframes are too few to leave '
                           'one out')
    used = [k for k in run.keyframes.values() if is_far(k.index, left_out, poses)]
    tested = [(k.index, k.T_map_cam) for k in left_out]
    trained = [(i.index, i.T_world_cam) for i in run.images if is_far(i.index, left_out, poses)]
    ids = [k.id for k in used]
    whole = map_gaussians(run, None, ids)
    alone, seen = psnr(as_tensors(whole), views(run, images, tested, 1.0), background(whole))
    points = fuse(used).points
    extent = float(np.ptp(np.quantile(points, [_TAILS, 1 - _TAILS], axis=0), axis=0).max())
    tiny = map_gaussians(run, extent / _ACROSS, ids)
    small, behind = views(run, images, tested, _TINY), background(tiny)
    refined = refine(as_tensors(tiny), views(run, images, trained, _TINY), _STEPS, behind,
                     advance=bar.advance)
    return Room(f'{path} {seed}', len(left_out), len(whole), seen, alone,
                psnr(as_tensors(tiny), small, behind)[0], psnr(refined, small, behind)[0])


def is_far(index: int, left_out: Sequence[Keyframe], poses: Array) -> bool:
    """
    Whether a view is far or turned from all that are left out.

    :param index: of its image
    :param poses: (N, 4, 4) true ones, camera to world, metres
    """
    def apart(other: int) -> bool:
        moved = poses[index][:3, 3] - poses[other][:3, 3]
        turned = poses[index][:3, :3].T @ poses[other][:3, :3]
        return bool(np.linalg.norm(moved) >= _NEAR
                    or np.rad2deg(se3.rotation_angle(turned)) >= _TURNED)
    return all(apart(keyframe.index) for keyframe in left_out)


def views(run: RunFolder, images: dict[int, NDArray[np.uint8]], posed: Sequence[tuple[int, Array]],
          size: float) -> list[PosedView]:
    """Return images with their poses, camera to world, of a size over the source's."""
    (source,) = run.cameras.values()
    camera = source.resized(round(size * source.width), round(size * source.height))
    K = torch.tensor(camera.K, dtype=torch.float32)
    return [PosedView(
        torch.tensor(cv2.resize(images[i], (camera.width, camera.height),
                                interpolation=cv2.INTER_AREA) / np.float32(255)),
        K, torch.tensor(se3.inverse(T), dtype=torch.float32)) for i, T in posed]


def psnr(made: GaussianTensors, tested: Sequence[PosedView], behind: torch.Tensor
         ) -> tuple[float, float]:
    """Return the peak signal-to-noise ratio, dB, and the share covered: means over views."""
    draw, ratios, seen = TorchRenderer(), [], []
    for view in tested:
        height, width = view.image.shape[:2]
        with torch.no_grad():
            rendered = draw(made, view.T_cam_world, view.K, height, width)
            error = over(rendered, behind).clamp(0, 1) - view.image
        ratios.append(-10 * float(torch.log10(error.square().mean())))
        seen.append(float(rendered.alpha.mean()))
    return float(np.mean(ratios)), float(np.mean(seen))
