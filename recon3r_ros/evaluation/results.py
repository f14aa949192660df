# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Evaluation of the files of a run against ground truth."""

from __future__ import annotations

from dataclasses import dataclass, replace
import json
from pathlib import Path
from typing import Any
import zipfile

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.evaluation.image_errors import (
    DepthErrors,
    jaccard,
    keyframe_errors,
    KeyframeDepth,
    mean_errors,
    on_grid,
)
from recon3r_ros.evaluation.trajectory_errors import (
    compare,
    MAX_STAMP_DIFFERENCE,
    TrajectoryErrors,
)
from recon3r_ros.evaluation.true_trajectory import true_trajectory
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.calibrations import read_calibration
from recon3r_ros.io.decode import decode_image
from recon3r_ros.io.masks import UNKNOWN
from recon3r_ros.io.trajectory import read_tum

_MILLIMETRE = 1e-3


@dataclass(frozen=True)
class DepthEvaluation:
    """
    Depth of all keyframes against ground truth.

    :param keyframes: number of keyframes compared
    :param known: share of the pixels with ground truth that have an estimate, mean over keyframes
    :param every: errors over all pixels known in both, mean over keyframes
    :param confident: the same over the half of them with the highest confidence
    """

    keyframes: int
    known: float
    every: DepthErrors
    confident: DepthErrors


@dataclass(frozen=True)
class MaskEvaluation:
    """
    Dynamic masks against ground truth.

    :param frames: number of masks
    :param masked: share of their pixels that is masked
    :param compared: of these frames, those with a true mask
    :param jaccard: intersection over union, mean over the frames compared; None without any
    """

    frames: int
    masked: float
    compared: int
    jaccard: float | None


@dataclass(frozen=True)
class Evaluation:
    """
    Evaluation of the results of a run.

    :param frames: input images
    :param tracked: of these, those with a pose
    :param trajectory: None where the ground truth has no poses
    :param depth: None where no keyframe has both depth and ground truth
    :param masks: None where the results hold no masks
    """

    frames: int
    tracked: int
    trajectory: TrajectoryErrors | None
    depth: DepthEvaluation | None
    masks: MaskEvaluation | None

    @property
    def tracked_share(self) -> float:
        """Share of the images that have a pose."""
        return self.tracked / self.frames if self.frames else 0.0


def map_folders(output: Path) -> list[Path]:
    """Return the folders of the maps of a run, where it has several."""
    path = output / 'report.json'
    report = _json(path, dict) if path.is_file() else {}
    return [output / f'map_{part["number"]}' for part in report.get('maps', ())]


def evaluate(output: str | Path, truth: str | Path,
             max_difference_s: float = MAX_STAMP_DIFFERENCE, offset_s: float = 0.0) -> Evaluation:
    """
    Compare the results of a run with ground truth.

    :param output: folder of the results
    :param truth: pack, or file of poses; see `io.ground_truth`
    :param max_difference_s: largest difference of the stamps of matched poses, seconds
    :param offset_s: seconds to add to the true stamps
    :raises InputError: with the file that cannot be used
    """
    output, truth = Path(output), Path(truth)
    if not (output / 'trajectory.txt').is_file():
        raise InputError(f'{output}: holds no trajectory.txt; expected the output of recon3r run')
    if not truth.exists():
        raise InputError(f'{truth}: no such file or folder; expected a pack or a file of poses')
    poses = truth / 'groundtruth.txt' if truth.is_dir() else truth
    parts = [poses.is_file(), (truth / 'depth').is_dir(), (truth / 'masks').is_dir()]
    if not any(parts):
        raise InputError(f'{truth}: holds neither groundtruth.txt nor depth/ nor masks/; give its '
                         'file of poses, if it has one')
    stamps_ns, T_map_cam = read_tum(output / 'trajectory.txt')
    report = _json(output / 'report.json', dict) if (output / 'report.json').is_file() else {}
    frames = int(report.get('frames_read', 0)) + int(report.get('frames_skipped', 0))
    trajectory = None
    if parts[0]:
        true_poses = true_trajectory(poses, output, frames, offset_s)
        frames = frames or len(true_poses.stamps_ns)
        try:
            trajectory = compare((stamps_ns, T_map_cam),
                                 (true_poses.stamps_ns, true_poses.T_world_cam),
                                 max_difference_s)
        except InputError as error:
            raise InputError(f'{poses}: {error}') from None
        notes = (*true_poses.notes, *([trajectory.note] if trajectory.note else ()))
        trajectory = replace(trajectory, note=', '.join(notes))
    return Evaluation(
        frames or len(stamps_ns), len(stamps_ns), trajectory,
        _depth(output, truth, bool(report.get('focal_estimated')), report.get('focal_pixels'))
        if parts[1] else None,
        _masks(output, truth / 'masks'))


def _depth(output: Path, truth: Path, uncalibrated: bool, focal: float | None
           ) -> DepthEvaluation | None:
    """
    Compare depth/ with that of the ground truth.

    :param uncalibrated: whether the run estimated its focal length: then its grid covers the whole
        source image, and its estimated camera is not used to relate them
    :param focal: focal length of the run, pixels: it may have refined the given one; None where
        it is not known
    """
    source = None
    if (truth / 'camera.json').is_file() and not uncalibrated:
        source = read_calibration(truth / 'camera.json').camera()
        if focal:
            # A pixel is a pixel, whatever ray the run took it for
            source = replace(source, fx=focal, fy=source.fy * focal / source.fx)
    results: list[KeyframeDepth] = []
    for entry in _json(output / 'keyframes.json', list):
        name, grid = _keyframe(entry, output / 'keyframes.json')
        path = truth / 'depth' / f'{name}.png'
        if not path.is_file():
            continue
        depth, confidence = _npz(output / 'depth' / f'{name}.npz', grid)
        true_depth = on_grid(_image(path) * _MILLIMETRE, source, grid)
        result = keyframe_errors(depth, confidence, true_depth)
        if result is not None:
            results.append(result)
    if not results:
        return None
    return DepthEvaluation(
        len(results), float(np.mean([r.known for r in results])),
        mean_errors([r.every for r in results]), mean_errors([r.confident for r in results]))


def _masks(output: Path, truth: Path) -> MaskEvaluation | None:
    """Compare masks/ with those of the ground truth, if any; a missing mask counts as empty."""
    estimated = sorted((output / 'masks').glob('*.png'))
    true_masks = {path.stem: path for path in sorted(truth.glob('*.png'))}
    shares, scores = [], []
    for path in estimated:
        mask = _image(path) > UNKNOWN
        shares.append(float(mask.mean()))
        true_path = true_masks.pop(path.stem, None)
        if true_path is not None:
            true_mask = _image(true_path) > 0
            if true_mask.shape != mask.shape:
                raise InputError(f'{path}: has shape {mask.shape}, but {true_path} has '
                                 f'{true_mask.shape}')
            scores.append(jaccard(mask, true_mask))
    if not shares:
        return None
    for path in true_masks.values():
        scores.append(0.0 if _image(path).any() else 1.0)
    return MaskEvaluation(len(shares), float(np.mean(shares)), len(scores),
                          float(np.mean(scores)) if scores else None)


def _keyframe(entry: Any, path: Path) -> tuple[str, Camera]:
    """Return name and grid of an entry of keyframes.json."""
    try:
        return str(entry['name']), Camera(
            **{key: entry[key] for key in ('width', 'height', 'fx', 'fy', 'cx', 'cy')})
    except (KeyError, TypeError) as error:
        raise InputError(f'{path}: an entry lacks {error}') from None


def _npz(path: Path, grid: Camera) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return depth and confidence (H, W) of a keyframe."""
    try:
        with np.load(path) as content:
            depth, confidence = content['depth'], content['confidence']
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f'{path}: cannot be read: {error}') from None
    if not depth.shape == confidence.shape == (grid.height, grid.width):
        raise InputError(f'{path}: has shapes {depth.shape} and {confidence.shape}, but its '
                         f'camera in keyframes.json is {grid.width}x{grid.height}')
    return depth, confidence


def _image(path: Path) -> NDArray[Any]:
    """Return a grey image (H, W)."""
    try:
        image = decode_image(path.read_bytes())
    except (OSError, InputError) as error:
        raise InputError(f'{path}: {getattr(error, "strerror", None) or error}') from None
    return image if image.ndim == 2 else image.max(axis=2)


def _json(path: Path, kind: type) -> Any:
    """Return the content of a JSON file, which must be of a type."""
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise InputError(f'{path}: cannot be read: {error}') from None
    if not isinstance(content, kind):
        raise InputError(f'{path}: expected a {kind.__name__}, got a {type(content).__name__}')
    return content
