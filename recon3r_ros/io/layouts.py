# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Arrangements of images, stamps and calibration in folders: packs, and well-known data sets.

A layout is a function that yields the image sets it finds in a folder, the preferred one first.
To add one, add it to `DATA_SETS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
import logging
from pathlib import Path

from recon3r_ros.errors import InputError
from recon3r_ros.io.calibrations import read_calibration
from recon3r_ros.io.data_set_cameras import (
    CameraOfSize,
    kitti_camera,
    kitti_raw_camera,
    kitti_rectified_camera,
    scannet_camera,
)
from recon3r_ros.io.listing import (
    at_rate,
    Entry,
    has_images,
    images_of,
    is_empty,
    is_picture,
    listed,
    no_images,
    numbered,
    parse_date,
    parse_nanoseconds,
    read_lines,
    report_left_out,
)
from recon3r_ros.io.rigs import euroc_partner, kitti_partner, pack_camera, pack_partner, Partner
from recon3r_ros.io.stamps import parse_seconds

logger = logging.getLogger(__name__)

# Folders below the one given that are searched for images
_DEPTH = 2
_PARENTS = 3
_NAMED = 5


@dataclass(frozen=True)
class ImageSet:
    """
    The images of one camera, not read yet.

    :param folder: holds all of the images; base of relative names in messages
    :param images: folder of the images
    :param entries: lists the images in the order of their stamps, at least one
    :param stamps: file of the stamps; None where there is none
    :param calibration: file of the intrinsics; None where there is none
    :param camera: reads it
    :param depths: lists depth images in the order of their stamps; None where there are none
    :param partner: second camera of a stereo rig; None where there is none
    """

    folder: Path
    images: Path
    entries: Callable[[], list[Entry]]
    stamps: Path | None = None
    calibration: Path | None = None
    camera: CameraOfSize | None = None
    depths: Callable[[], list[Entry]] | None = None
    partner: Partner | None = None


Layout = Callable[[Path, float], Iterator[ImageSet]]


def find_images(folder: Path, fps: float) -> ImageSet:
    """
    Return the images of a folder, of its only subfolder that has some, or of a data set.

    Where the folder is a part of a data set, stamps and intrinsics beside it are used.

    :param folder: an existing folder
    :param fps: images a second, where they have no stamps
    :raises InputError: where there are no images, or several folders of images to choose from
    """
    known = next(_rig_pack(folder, fps), None) or next(_pack(folder, fps), None)
    if known is not None:
        return known
    data_set = next(_of_data_set(folder, fps), None)
    if data_set is not None:
        name, found = data_set
        logger.info('%s: %s, taking the images of %s%s', folder, name, found.images,
                    '' if found.stamps is None else f' with the stamps of {found.stamps.name}')
        return found
    if has_images(folder):
        return ImageSet(folder, folder, partial(_plain, folder, fps))
    inner = _below(folder, fps, _DEPTH)
    if not inner:
        raise no_images(folder)
    if len(inner) > 1:
        names = ', '.join(str(path) for path in inner[:_NAMED])
        more = ', ...' if len(inner) > _NAMED else ''
        raise InputError(f'{folder}: {len(inner)} of its folders have images; give one of '
                         f'{names}{more}')
    logger.info('%s: taking the images of %s', folder, inner[0])
    return find_images(inner[0], fps)


def _below(folder: Path, fps: float, depth: int) -> list[Path]:
    """Return the folders below one that have images of their own, in their order."""
    try:
        inside = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith('.'))
    except OSError:
        return []
    found: list[Path] = []
    for path in inside:
        if has_images(path) or _is_known(path, fps):
            found.append(path)
        elif depth > 1:
            found += _below(path, fps, depth - 1)
    return [path for path in found if is_picture(path.name)] or found


def _is_known(folder: Path, fps: float) -> bool:
    """Whether a folder is a pack or of a data set; False for one that cannot be read."""
    try:
        return any(True for layout in (_rig_pack, _pack, *DATA_SETS.values())
                   for _ in layout(folder, fps))
    except OSError:
        return False


def _of_data_set(folder: Path, fps: float) -> Iterator[tuple[str, ImageSet]]:
    """Yield the images of data sets of which this is the folder, or a part of it."""
    for name, layout in DATA_SETS.items():
        for found in layout(folder, fps):
            yield name, found
    for parent in list(folder.absolute().parents)[:_PARENTS]:
        for name, layout in DATA_SETS.items():
            for found in layout(parent, fps):
                if found.images.is_relative_to(folder.absolute()):
                    alone = found.partner is not None and not (
                        found.partner.images.is_relative_to(folder.absolute()))
                    yield name, replace(found, partner=None) if alone else found


def _plain(folder: Path, fps: float) -> list[Entry]:
    """List the images of a folder, without more."""
    images = images_of(folder)
    if not images:
        raise no_images(folder)
    report_left_out(folder, images)
    return at_rate(images, fps)


def _pack(folder: Path, fps: float) -> Iterator[ImageSet]:
    """Find images/, frames.txt and camera.json; images may also lie beside these files."""
    images = folder / 'images' if (folder / 'images').is_dir() else folder
    listing, calibration = folder / 'frames.txt', folder / 'camera.json'
    if images == folder and not (listing.is_file() or calibration.is_file()):
        return
    stamps = listing if listing.is_file() else None
    entries = partial(_plain, images, fps) if stamps is None else partial(listed, stamps, images)
    yield ImageSet(folder, images, entries, stamps,
                   *_optional(calibration, _of_any_size(calibration)))


def _rig_pack(folder: Path, fps: float) -> Iterator[ImageSet]:
    """Find left/, right/ and rig.json; frames.txt has the stamps of both."""
    images, others, rig = folder / 'left', folder / 'right', folder / 'rig.json'
    if not (rig.is_file() and has_images(images)):
        return
    listing = folder / 'frames.txt'
    stamps = listing if listing.is_file() else None
    entries = partial(_plain, images, fps) if stamps is None else partial(listed, stamps, images)
    yield ImageSet(folder, images, entries, stamps, rig, pack_camera(rig, 'left'),
                   partner=pack_partner(rig, others) if has_images(others) else None)


def _optional(calibration: Path, camera: CameraOfSize
              ) -> tuple[Path | None, CameraOfSize | None]:
    """Return a calibration, and None twice where the file is missing."""
    return (calibration, camera) if calibration.is_file() else (None, None)


def _of_any_size(path: Path) -> CameraOfSize:
    """Return the reader of a calibration that is known by its content."""
    return lambda width, height: read_calibration(path)


def tum_rgbd(folder: Path, fps: float) -> Iterator[ImageSet]:
    """Find rgb/ and rgb.txt, which has a stamp in seconds and a path a line; so has depth.txt."""
    depth, depths = folder / 'depth', folder / 'depth.txt'
    measured = (partial(listed, depths, depth) if depths.is_file() and depth.is_dir() else None)
    for name in ('rgb', 'color'):
        images, listing = folder / name, folder / f'{name}.txt'
        if listing.is_file() and images.is_dir():
            yield ImageSet(folder, images, partial(listed, listing, images), listing,
                           depths=measured)


def euroc(folder: Path, fps: float) -> Iterator[ImageSet]:
    """Find mav0/cam0/ or cam0/ with data/, data.csv (nanoseconds, name) and sensor.yaml."""
    outer = folder / 'mav0' if (folder / 'mav0').is_dir() else folder
    found = [image_set for camera in (*sorted(outer.glob('cam[0-9]')), folder)
             for image_set in _euroc_camera(camera, fps)]
    for number, image_set in enumerate(found):
        first = image_set.calibration
        # Of the first camera alone: whoever gives the folder of another one wants that one
        others = [o for o in found[1:] if number == 0 and o.calibration is not None]
        if first is None or not others or others[0].calibration is None:
            yield image_set
        else:
            yield replace(image_set, partner=euroc_partner(
                first, others[0].calibration, others[0].entries))


def _euroc_camera(camera: Path, fps: float) -> Iterator[ImageSet]:
    """Find data/, data.csv and sensor.yaml of a camera."""
    images, listing = camera / 'data', camera / 'data.csv'
    calibration = camera / 'sensor.yaml'
    stamps = listing if _has_stamps(listing) else None
    if has_images(images) and (stamps is not None or calibration.is_file()):
        entries = (partial(_named_by_stamps, images, fps) if stamps is None or is_empty(stamps)
                   else partial(listed, stamps, images, parse_nanoseconds, ','))
        yield ImageSet(camera, images, entries, stamps,
                       *_optional(calibration, _of_any_size(calibration)))


def _has_stamps(listing: Path) -> bool:
    """Whether a data.csv is EuRoC's, and not any table."""
    if not listing.is_file():
        return False
    first = next(iter(read_lines(listing)), '').split(',')[0]
    return first.strip().isdecimal() or 'timestamp' in first


def _named_by_stamps(images: Path, fps: float) -> list[Entry]:
    """List images whose names are their stamps in nanoseconds, if they all are."""
    paths = images_of(images)
    try:
        return [Entry(path, parse_nanoseconds(path.stem), i) for i, path in enumerate(paths)]
    except ValueError:
        return _plain(images, fps)


def kitti_odometry(folder: Path, fps: float) -> Iterator[ImageSet]:
    """Find image_2/ to image_1/, times.txt (seconds) and calib.txt (P0 to P3)."""
    times, calibration = folder / 'times.txt', folder / 'calib.txt'
    for number in (2, 0, 3, 1):
        images = folder / f'image_{number}'
        if not has_images(images):
            continue
        intrinsics = _optional(calibration, kitti_camera(calibration, number))
        if times.is_file():
            yield ImageSet(folder, images, partial(numbered, images, times, parse_seconds), times,
                           *intrinsics, partner=_right_of(folder, calibration, number))
        elif calibration.is_file():
            yield ImageSet(folder, images, partial(_plain, images, fps), None, *intrinsics,
                           partner=_right_of(folder, calibration, number))


def _right_of(folder: Path, calibration: Path, number: int) -> Partner | None:
    """Return the right camera of a left one of KITTI odometry, 0 or 2."""
    images = folder / f'image_{number + 1}'
    if number not in (0, 2) or not calibration.is_file() or not has_images(images):
        return None
    return kitti_partner(calibration, 'P{}', number, number + 1, images,
                         kitti_camera(calibration, number + 1))


def kitti_raw(folder: Path, fps: float) -> Iterator[ImageSet]:
    """Find image_02/ to image_01/ with data/ and timestamps.txt; the calibration is outside."""
    calibration = folder.absolute().parent / 'calib_cam_to_cam.txt'
    for number in (2, 0, 3, 1):
        images = folder / f'image_{number:02d}' / 'data'
        stamps = images.parent / 'timestamps.txt'
        if stamps.is_file() and has_images(images):
            yield ImageSet(folder, images, partial(numbered, images, stamps, parse_date), stamps,
                           *_optional(calibration, kitti_raw_camera(calibration, number)),
                           partner=_right_of_raw(folder, calibration, number))


def _right_of_raw(folder: Path, calibration: Path, number: int) -> Partner | None:
    """Return the right camera of a left one of KITTI raw, 0 or 2; images that are rectified."""
    images = folder / f'image_{number + 1:02d}' / 'data'
    if number not in (0, 2) or not calibration.is_file() or not has_images(images):
        return None
    return kitti_partner(calibration, 'P_rect_{:02d}', number, number + 1, images,
                         kitti_rectified_camera(calibration, number + 1))


def scannet(folder: Path, fps: float) -> Iterator[ImageSet]:
    """Find color/ and intrinsic/intrinsic_color.txt."""
    images, calibration = folder / 'color', folder / 'intrinsic' / 'intrinsic_color.txt'
    if calibration.is_file() and has_images(images):
        yield ImageSet(folder, images, partial(_plain, images, fps), None, calibration,
                       scannet_camera(calibration))


#: Name -> layout. The images of 7-Scenes are those of a folder, without depth and poses beside.
DATA_SETS: dict[str, Layout] = {
    'TUM RGB-D': tum_rgbd,
    'EuRoC': euroc,
    'KITTI odometry': kitti_odometry,
    'KITTI raw': kitti_raw,
    'ScanNet': scannet,
}
