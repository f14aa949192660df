# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Local features between distant views: matches that fit a relative pose, and the true one.

    python -m recon3r_ros.bench.features PACK [PACK ...]

prints a table for packs with true poses, whose images are stills with wide steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
import sys
from time import perf_counter

import cv2
import numpy as np
from recon3r_ros.bench.yardstick import machine
from recon3r_ros.cli.console import output as console
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import se3, two_view
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.compiled_two_view import epipolar_distances
from recon3r_ros.io.ground_truth import read_truth
from recon3r_ros.io.image_folder import open_image_folder
from recon3r_ros.io.markdown import table
from recon3r_ros.models.local_features import Features, LocalFeatures, make_features
from recon3r_ros.models.registry import EngineConfig

NAMES = ('sift', 'xfeat')
#: Longer side of the images, and epipolar distance of an inlier, pixels
SIDE, INLIER_PIXELS = 1024, 1.0
#: Images from one of a pair to the other
STEPS = (1, 2, 3)


@dataclass(frozen=True)
class PairCount:
    """
    Matches of a pair.

    :param matches: all
    :param inliers: those that fit the relative pose which is estimated from them
    :param true: those that fit the true relative pose
    :param error: angle between estimated and true rotation, degrees; infinite without an estimate
    """

    matches: int
    inliers: int
    true: int
    error: float


def measure(packs: list[Path]) -> str:
    """
    Compare the features on packs.

    :raises Recon3rError: where a pack cannot be read, or features are not installed
    """
    features = {name: make_features(name, EngineConfig()) for name in NAMES}
    rows = [row for pack in packs for row in _rows(pack, features)]
    return table(('pack', 'features', 'images apart', 'matches', 'inliers', 'of the true pose',
                  'rotation error, degrees', 'ms an image'), rows)


def count_pair(camera: Camera, features: LocalFeatures, a: Features, b: Features,
               T_b_a: np.ndarray) -> PairCount:
    """
    Match the features of two views.

    :param camera: of both
    :param T_b_a: (4, 4) true relative pose
    """
    index_a, index_b = features.match(a[1], b[1])
    rays_a, rays_b = camera.unproject(a[0][index_a]), camera.unproject(b[0][index_b])
    threshold = INLIER_PIXELS / camera.fx
    unit = se3.from_rt(T_b_a[:3, :3], T_b_a[:3, 3] / np.linalg.norm(T_b_a[:3, 3]))
    true = epipolar_distances(np.ascontiguousarray(rays_a), np.ascontiguousarray(rays_b), unit,
                              threshold) < threshold
    pose = two_view.estimate_relative_pose(rays_a, rays_b, threshold, exact=False)
    if pose is None:
        return PairCount(len(index_a), 0, int(true.sum()), np.inf)
    turn = pose.T_b_a[:3, :3].T @ T_b_a[:3, :3]
    error = np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)))
    return PairCount(len(index_a), int(pose.inliers.sum()), int(true.sum()), float(error))


def _rows(pack: Path, features: dict[str, LocalFeatures]) -> Iterator[tuple[str, ...]]:
    """Yield the rows of a pack: medians over its pairs."""
    frames = list(open_image_folder(pack))
    poses = read_truth(pack / 'groundtruth.txt').T_world_cam
    if len(poses) != len(frames) or len(frames) <= max(STEPS):
        raise InputError(f'{pack}: {len(poses)} poses of {len(frames)} images; expected a pose of '
                         f'each, and more than {max(STEPS)}')
    known = frames[0].camera
    if known is None:
        raise InputError(f'{pack}: has no camera.json')
    factor = SIDE / max(known.width, known.height)
    camera = known.resized(round(known.width * factor), round(known.height * factor))
    grays = [cv2.resize(cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY),
                        (camera.width, camera.height), interpolation=cv2.INTER_AREA)
             for frame in frames]
    for name, kind in features.items():
        kind.detect(grays[0])  # kernels are chosen, caches are filled
        found, times = [], []
        for gray in grays:
            begin = perf_counter()
            found.append(kind.detect(gray))
            times.append(perf_counter() - begin)
        for step in STEPS:
            counts = [count_pair(camera, kind, found[i], found[i + step],
                                 se3.inverse(poses[i + step]) @ poses[i])
                      for i in range(len(found) - step)]
            matches, inliers, true = (np.median([getattr(c, what) for c in counts])
                                      for what in ('matches', 'inliers', 'true'))
            error = np.median([c.error for c in counts])
            yield (pack.name, name, str(step), f'{matches:.0f}', f'{inliers:.0f}', f'{true:.0f}',
                   f'{error:.2f}', f'{1000 * np.median(times):.0f}')


if __name__ == '__main__':
    _line = machine()
    console().print(f'{measure([Path(pack) for pack in sys.argv[1:]])}\n{_line}', soft_wrap=True)
