# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From the folder of a run to the files of another tool, for `recon3r export` and `bench`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Sequence as Many
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from recon3r_ros.cli.console import ProgressBar
from recon3r_ros.errors import InputError
from recon3r_ros.io.atomic import output_error, write_bytes
from recon3r_ros.io.base import Sequence
from recon3r_ros.io.clouds import write_ply
from recon3r_ros.io.colmap_binary import SparseImage, SparseModel, write_sparse_model
from recon3r_ros.io.export_images import ExportedView, ImageExport
from recon3r_ros.io.nerfstudio import TransformsFrame, write_transforms
from recon3r_ros.io.run_folder import map_folders, PosedImage, read_run, RunFolder
from recon3r_ros.io.stamps import format_seconds
from recon3r_ros.io.trajectory import write_euroc, write_kitti, write_tum
from recon3r_ros.slam.products.landmarks import Tracks, tracks_of, tracks_of_cloud
from recon3r_ros.slam.types import Gaussians, Keyframe

if TYPE_CHECKING:
    from recon3r_ros.slam.learned_gaussians import LearnedGaussians

TRAJECTORIES = ('tum', 'kitti', 'euroc')
#: Points of the map in the model for Gaussian splatting, at most
MOST_POINTS = 200_000
_CLOUD = 'sparse_pc.ply'


@dataclass(frozen=True)
class Request:
    """
    What to write.

    :param format: one of the command's formats
    :param every_image: all images with a pose, not the keyframes alone
    :param voxel: distance of the Gaussians, unit of the results; None: that of the pixels
    :param network: file of a trained network that makes the Gaussians; None: the map makes them
    :param refine: steps of their refinement
    """

    format: str
    every_image: bool = False
    voxel: float | None = None
    network: Path | None = None
    refine: int = 0


@dataclass(frozen=True)
class GaussianMaker:
    """
    A network that makes Gaussians of keyframes.

    :param kind: of the network, in words
    :param make: given the keyframes of a map, and what to call after each
    """

    kind: str
    make: Callable[[Iterable[Keyframe], Callable[[], None]], LearnedGaussians]


def export(output: Path, target: Path, request: Request, sequence: Sequence | None,
           bar: ProgressBar) -> list[str]:
    """
    Write all maps of a run, each by itself.

    :param output: folder of the run
    :param target: folder to write to; with several maps, a folder in it for each
    :param sequence: the source images, for the formats that have images
    :returns: a line for each map: what was written, and what was left out
    :raises Recon3rError: where results or images cannot be used
    """
    folders = map_folders(output)
    maker = None if request.network is None else _gaussian_maker(request.network)
    lines = []
    for folder in folders:
        own = target if len(folders) == 1 else target / folder.name
        try:
            own.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(own, error) from error
        if request.format in TRAJECTORIES:
            found = _trajectories(folder, own, request.format)
        elif maker is not None:
            found = _learned_gaussians(folder, own, request, maker, bar)
        elif request.format == 'gaussians':
            bar.stage('gaussians')
            found = _gaussians(folder, own, request, bar)
        else:
            assert sequence is not None
            bar.stage('images', len(sequence))
            found = _images(read_run(folder), own, request, sequence, bar)
        lines.append(f'{own}: {found}')
    return lines


def _images(run: RunFolder, target: Path, request: Request, sequence: Sequence, bar: ProgressBar
            ) -> str:
    """Write a format with images."""
    nerfstudio = request.format == 'nerfstudio'
    writer = ImageExport(run, target, request.every_image,
                         (lambda name: f'{Path(name).stem}.png') if nerfstudio
                         else lambda name: f'{name}.png')
    views = writer.write(sequence, bar.advance)
    if not views:
        raise InputError(f'{run.folder}: of no image dynamic objects are known; run again without '
                         '--motion off')
    if nerfstudio:
        write_ply(target / _CLOUD, run.cloud)
        write_transforms(target / 'transforms.json', [
            TransformsFrame(v.image, v.camera, v.T_world_cam, v.mask, v.depth) for v in views],
            _CLOUD)
        text = f'{len(views)} images, {len(run.cloud)} points'
    else:
        tracks = [tracks_of(run.keyframes, run.observations)]
        if request.format == 'gsplat':
            tracks.append(tracks_of_cloud(run.cloud, run.keyframes, MOST_POINTS))
        model = sparse_model(views, tracks)
        write_sparse_model(target / 'sparse' / '0', model)
        text = (f'{len(views)} images, {len(model.points)} points with '
                f'{sum(len(i.points) for i in model.images)} observations, '
                f'mean reprojection error {_mean_error(tracks[0], views):.2f} pixels')
    left_out = len(writer.unknown)
    return text + (f'; {left_out} images left out, whose dynamic objects are unknown'
                   if left_out else '')


def sparse_model(views: Many[ExportedView], tracks: Many[Tracks]) -> SparseModel:
    """
    Join tracks to one sparse model.

    :param views: all images; those that are no keyframes have no observations
    :param tracks: of their keyframes
    """
    starts = np.cumsum([0, *(len(t) for t in tracks)])
    track = np.concatenate([t.track + start for t, start in zip(tracks, starts)])
    keyframe = np.concatenate([t.keyframe for t in tracks])
    pixels = np.concatenate([t.pixels for t in tracks])
    errors = np.concatenate([t.errors for t in tracks])
    images, sizes = [], np.ones(len(track))
    for view in views:
        own = np.zeros(0, np.int64)
        at = np.zeros((0, 2))
        if view.keyframe is not None:
            own = np.flatnonzero(keyframe == view.keyframe.id)
            finer = _finer(view)
            at, sizes[own] = (pixels[own] + 0.5) * finer - 0.5, float(np.mean(finer))
        images.append(SparseImage(Path(view.image).name, view.camera, view.T_world_cam, at,
                                  track[own]))
    counts = np.maximum(np.bincount(track, minlength=int(starts[-1])), 1)
    return SparseModel(
        images, np.concatenate([t.points for t in tracks]),
        np.concatenate([t.colors for t in tracks]),
        np.bincount(track, errors * sizes, minlength=int(starts[-1])) / counts)


def _finer(view: ExportedView) -> np.ndarray:
    """Return pixels (2,) of the view to one of its keyframe's grid."""
    assert view.keyframe is not None
    grid = view.keyframe.camera
    return np.array([view.camera.width / grid.width, view.camera.height / grid.height])


def _mean_error(tracks: Tracks, views: Many[ExportedView]) -> float:
    """Return the mean reprojection error of landmarks, pixels of the images."""
    finer = [float(np.mean(_finer(v))) for v in views if v.keyframe is not None]
    return float(np.mean(tracks.errors)) * max(finer, default=1.0) if len(tracks.errors) else 0.0


def _trajectories(folder: Path, target: Path, wanted: str) -> str:
    """Write the path of each camera, in folders of their own where there are several."""
    run = read_run(folder)
    images = run.images
    names = list(dict.fromkeys(image.camera_name for image in images))
    for name in names:
        own = [image for image in images if image.camera_name == name]
        where = target if len(names) == 1 else target / name
        where.mkdir(parents=True, exist_ok=True)
        _trajectory(sorted(own, key=lambda image: image.stamp_ns), where, wanted, run.metric)
    unposed = run.listed - len(images)
    return f'{len(images)} poses' + (
        f'; {unposed} of {run.listed} images have none' if unposed else '')


def _trajectory(images: list[PosedImage], target: Path, wanted: str, metric: bool) -> None:
    stamps_ns = [image.stamp_ns for image in images]
    poses = np.stack([image.T_world_cam for image in images])
    if wanted == 'tum':
        write_tum(target / 'trajectory.txt', stamps_ns, poses)
    elif wanted == 'euroc':
        write_euroc(target / 'data.csv', stamps_ns, poses, metric)
    else:
        write_kitti(target / 'poses.txt', poses)
        write_bytes(target / 'times.txt', ''.join(
            f'{format_seconds(s - stamps_ns[0])}\n' for s in stamps_ns).encode())
        write_bytes(target / 'images.txt', ''.join(
            f'{image.file_name}\n' for image in images).encode())


def _gaussians(folder: Path, target: Path, request: Request, bar: ProgressBar) -> str:
    """Write Gaussians made from the map."""
    from recon3r_ros.cli.map_gaussians import map_gaussians
    run = read_run(folder)
    made = map_gaussians(run, request.voxel)
    if len(made) == 0:
        raise InputError(f'{folder}: the map has no confident points; run with more images from '
                         'different positions')
    return f'{len(made)} Gaussians' + _write_gaussians(target, run, made, request.refine, bar)


def _gaussian_maker(path: Path) -> GaussianMaker:
    """Open the file of a network."""
    from recon3r_ros.models.h3r import H3rEngine  # loads torch
    from recon3r_ros.models.registry import EngineConfig
    from recon3r_ros.models.siu3r_engine import Siu3rEngine
    from recon3r_ros.models.weights import read_gaussian_network
    from recon3r_ros.nets.h3r import H3r
    from recon3r_ros.slam.learned_gaussians import learned_gaussians
    from recon3r_ros.slam.pair_gaussians import pair_gaussians
    network = read_gaussian_network(path)
    if isinstance(network, H3r):
        engine = H3rEngine(network)
        return GaussianMaker("a network of H3R's kind", lambda keyframes, advance:
                             learned_gaussians(keyframes, engine, advance))
    pairs = Siu3rEngine(network, EngineConfig(precision='float32'))
    return GaussianMaker('SIU3R', lambda keyframes, advance:
                         pair_gaussians(keyframes, pairs, advance))


def _learned_gaussians(folder: Path, target: Path, request: Request, maker: GaussianMaker,
                       bar: ProgressBar) -> str:
    """Write Gaussians made by a network from the keyframes."""
    run = read_run(folder)
    bar.stage('gaussians', len(run.keyframes))
    try:
        made = maker.make(run.keyframes.values(), bar.advance)
    except InputError as error:
        raise InputError(f'{folder}: {error}') from None
    if len(made.gaussians) == 0:
        raise InputError(f'{folder}: no keyframe sees what another one sees; run with more images '
                         'from different positions')
    note = _write_gaussians(target, run, made.gaussians, request.refine, bar)
    return f'{len(made.gaussians)} Gaussians by {maker.kind}{note}' + (
        f'; {made.left_out} keyframes left out, whose depth or scale is unknown, or which have no '
        'partner' if made.left_out else '')


def _write_gaussians(target: Path, run: RunFolder, made: Gaussians, steps: int,
                     bar: ProgressBar) -> str:
    """Write Gaussians, fitted to the images of the map where that is wanted; return a note."""
    from recon3r_ros.io.gaussian_files import write_gaussian_ply, write_splat
    if steps:
        from recon3r_ros.cli.refined_gaussians import refined
        made = refined(run, made, steps, bar)
    write_gaussian_ply(target / 'gaussians.ply', made)
    write_splat(target / 'gaussians.splat', made)
    return f', refined in {steps} steps' if steps else ''
