# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The results of a run, read back from its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.clouds import read_ply
from recon3r_ros.io.decode import decode_image
from recon3r_ros.io.map_store import MAP_FILE, read_map
from recon3r_ros.io.masks import UNKNOWN
from recon3r_ros.io.source_cameras import read_source_cameras, SourceCamera
from recon3r_ros.io.stamps import parse_seconds
from recon3r_ros.io.trajectory import read_tum
from recon3r_ros.io.writer import trajectory_file
from recon3r_ros.slam.archive import ArchivedView
from recon3r_ros.slam.saved_map import SavedObservations
from recon3r_ros.slam.types import Keyframe, PointCloud

_RUN = 'give a folder that recon3r run has written'


@dataclass(frozen=True, eq=False)
class PosedImage:
    """
    A source image with its pose.

    :param name: its stem, which names its mask
    :param file_name: of the image
    :param stamp_ns: integer nanoseconds
    :param index: position in the input
    :param camera_name: which camera took it
    :param T_world_cam: (4, 4), camera to world
    """

    name: str
    file_name: str
    stamp_ns: int
    index: int
    camera_name: str
    T_world_cam: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RunFolder:
    """
    One map of a run.

    :param folder: of the map's results
    :param cameras: of the source images, by name
    :param images: those with a pose, by their position in the input
    :param keyframes: by id, with poses and depths in the world frame's unit
    :param observations: of their landmarks
    :param cloud: map.ply
    :param metric: whether the unit is the metre
    :param listed: number of images of the run, those without a pose included
    :param archive: compressed images of the keyframes, often finer than their grids, by id
    """

    folder: Path
    cameras: Mapping[str, Camera]
    images: tuple[PosedImage, ...]
    keyframes: Mapping[int, Keyframe]
    observations: tuple[SavedObservations, ...]
    cloud: PointCloud
    metric: bool
    listed: int
    archive: Mapping[int, ArchivedView]

    @property
    def keyframe_of(self) -> dict[int, Keyframe]:
        """The keyframes by their position in the input."""
        return {keyframe.index: keyframe for keyframe in self.keyframes.values()}

    def mask(self, name: str) -> NDArray[np.bool_] | None:
        """
        Return the dynamic mask (H, W) of a source image; None where it is unknown.

        :param name: the image's stem
        """
        for folder in (self.folder, self.folder.parent):  # masks of all maps lie beside them
            path = folder / 'masks' / f'{name}.png'
            if path.is_file():
                try:
                    values = decode_image(path.read_bytes())
                except (InputError, OSError) as error:
                    raise InputError(f'{path}: {error}') from None
                return None if bool((values == UNKNOWN).any()) else np.asarray(values != 0)
        return None


def map_folders(output: Path) -> list[Path]:
    """
    Return the folder of each map of a run: the run's own where there is one map.

    :raises InputError: where there is no map
    """
    report = output / 'report.json'
    if not output.is_dir():
        raise InputError(f'{output}: no such folder; {_RUN}')
    parts = _json(report).get('maps', ()) if report.is_file() else ()
    try:
        folders = [output / f'map_{int(part["number"])}' for part in parts] or [output]
    except (TypeError, KeyError, ValueError):
        raise InputError(f'{report}: is damaged; {_RUN}') from None
    found = [folder for folder in folders if (folder / MAP_FILE).is_file()]
    if not found:
        raise InputError(f'{output}: holds no map ({MAP_FILE}); {_RUN}, with images from '
                         'different positions')
    return found


def _posed_images(folder: Path) -> tuple[dict[str, Camera], tuple[PosedImage, ...]]:
    """
    Read the cameras and the images that have a pose.

    :param folder: of one map's results
    :returns: the cameras by name, and the images by their position in the input
    :raises InputError: in one line that names the file
    """
    cameras = read_source_cameras(folder)
    listed = _frames(folder / 'frames.txt')
    images: list[PosedImage] = []
    seen = [camera for camera in cameras if camera.images]
    for camera in seen:
        path = folder / trajectory_file(camera.name if len(seen) > 1 else '')
        stamps_ns, poses = read_tum(path)
        by_stamp = dict(zip(stamps_ns.tolist(), poses))
        images += _posed(camera, listed, by_stamp)
    return ({camera.name: camera.camera for camera in cameras},
            tuple(sorted(images, key=lambda image: image.index)))


def read_run(folder: Path) -> RunFolder:
    """
    Read one map's results.

    :param folder: of the run, or of one of its maps
    :raises InputError: in one line that names the file and the remedy
    """
    saved = read_map(folder / MAP_FILE)
    cameras, images = _posed_images(folder)
    unit = 1.0 if saved.metric is None else saved.metric.value
    poses = _keyframe_poses(folder / 'keyframes.json')
    keyframes = {
        i: _in_unit(k, poses[k.index], unit) for i, k in saved.map.keyframes.items()
        if k.index in poses and k.camera_name in cameras}
    if not keyframes:
        raise InputError(f'{folder}: {MAP_FILE} and keyframes.json are not of the same run; '
                         f'{_RUN}')
    at_keyframes = {k.index: k.T_map_cam for k in keyframes.values()}
    images = tuple(replace(image, T_world_cam=at_keyframes.get(image.index, image.T_world_cam))
                   for image in images)
    return RunFolder(folder, cameras, images, keyframes, saved.observations,
                     read_ply(folder / 'map.ply'), saved.metric is not None,
                     len(_frames(folder / 'frames.txt')), saved.views)


def _in_unit(keyframe: Keyframe, T_world_cam: NDArray[np.float64], unit: float) -> Keyframe:
    """Return a keyframe with its pose and depths in the unit of the results."""
    return replace(keyframe, T_map_cam=T_world_cam, landmarks=keyframe.landmarks / unit,
                   inverse_depth=keyframe.inverse_depth / np.float32(unit))


def _posed(camera: SourceCamera, listed: dict[int, tuple[int, str]],
           by_stamp: dict[int, NDArray[np.float64]]) -> list[PosedImage]:
    found = []
    for index in camera.images:
        stamp_ns, file_name = listed.get(index, (-1, ''))
        if stamp_ns in by_stamp:
            found.append(PosedImage(Path(file_name).stem, file_name, stamp_ns, index, camera.name,
                                    by_stamp[stamp_ns]))
    return found


def _frames(path: Path) -> dict[int, tuple[int, str]]:
    """Read stamp (ns) and file name of each image, by its index."""
    frames = {}
    try:
        for line in path.read_text(encoding='utf-8').splitlines():
            if line and not line.startswith('#'):
                stamp, rest = line.split(' ', 1)
                file_name, index = rest.rsplit(' ', 1)
                frames[int(index)] = parse_seconds(stamp), file_name
    except (OSError, ValueError) as error:
        raise InputError(f'{path}: cannot be read ({error}); {_RUN}') from None
    return frames


def _keyframe_poses(path: Path) -> dict[int, NDArray[np.float64]]:
    """Read the poses (4, 4) of the keyframes, by their index in the input."""
    try:
        return {int(own['index']): np.array(own['T_world_cam'], np.float64).reshape(4, 4)
                for own in json.loads(path.read_text(encoding='utf-8'))}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f'{path}: cannot be read ({error}); {_RUN}') from None


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise InputError(f'{path}: cannot be read ({error}); {_RUN}') from None
    return content if isinstance(content, dict) else {}
