# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
People that networks find: their masks against annotations, and people where there are none.

python -m recon3r_ros.bench.people MODEL --people PACK... --nobody PACK...
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.bench.yardstick import machine
from recon3r_ros.cli.console import output as console
from recon3r_ros.errors import InputError
from recon3r_ros.evaluation.image_errors import jaccard
from recon3r_ros.io.decode import decode_image
from recon3r_ros.io.markdown import table
from recon3r_ros.io.sequences import open_sequence
from recon3r_ros.models.people_mask import MAX_SHARE
from recon3r_ros.models.pose_networks import PoseNetworks
from recon3r_ros.slam.model_people import ModelPeople

#: Images of a pack without people
PER = 300
#: Diameter of what is thinner than a body: an annotation may hold lines and boards; pixels of 480
#: lines
THIN = 7


def measure(model: Path, people: Sequence[Path], nobody: Sequence[Path]) -> str:
    """
    Measure on packs.

    :param model: files of the networks
    :param people: packs with masks/ of one person, in each image. Their annotations may hold
        what the person holds, too: `J of the body` is that in the images with a person against
        the largest part without thin ones, whose J with the annotation bounds that of any mask
        of the person
    :param nobody: packs without people
    :return: tables of Markdown
    :raises InputError: for a pack of people without masks
    """
    networks = PoseNetworks.open(model)
    shown = table(('pack', 'images', 'of the image, %', 'J mean', 'J above 0.5', 'found in',
                   'J of the body', 'body of the annotation', 'ms an image'),
                  [_with_person(networks, pack) for pack in people])
    counts = [_without(networks, pack) for pack in nobody]
    images, false = (sum(count[n] for count in counts) for n in (0, 1))
    rows = [(pack.name, str(n), str(wrong)) for pack, (n, wrong) in zip(nobody, counts)]
    rows.append(('all', str(images), str(false)))
    per = PER * false / images if images else float('nan')
    return (f'{shown}\n{table(("pack without people", "images", "with false people"), rows)}\n'
            f'False people in {PER} images: {per:.2f}\n')


def _with_person(networks: PoseNetworks, pack: Path) -> tuple[str, ...]:
    """Measure masks on one pack; return a row."""
    source, times, found = ModelPeople(networks), [], 0
    values, shares, bodies, bounds = [], [], [], []
    for frame in open_sequence(pack):
        path = pack / 'masks' / f'{frame.name}.png'
        if not path.is_file():
            raise InputError(f'{pack}: no mask of the image {frame.name}; give packs of DAVIS')
        begin = perf_counter()
        people = source.people(frame)
        times.append(1e3 * (perf_counter() - begin))
        true: NDArray[np.bool_] = np.asarray(decode_image(path.read_bytes())) > 0
        own: NDArray[np.bool_] = people.instances > 0
        body = _body(true)
        values.append(jaccard(own if own.mean() <= MAX_SHARE else np.zeros_like(own), true))
        shares.append(100 * true.mean())
        bounds.append(jaccard(body, true))
        if own.any():
            found += 1
            bodies.append(jaccard(own & (body | ~true), body))
    return (pack.name, str(len(values)), f'{np.mean(shares):.1f}', f'{np.mean(values):.3f}',
            f'{np.mean(np.array(values) > 0.5):.2f}', str(found),
            f'{np.mean(bodies):.3f}' if bodies else '', f'{np.mean(bounds):.3f}',
            f'{np.median(times):.0f}')


def _body(annotated: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest part (H, W) of an annotation, without what is thin."""
    size = max(3, round(THIN * annotated.shape[0] / 480))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    thick = cv2.morphologyEx(annotated.astype(np.uint8), cv2.MORPH_OPEN, kernel)
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(thick)
    if count < 2:
        return np.zeros_like(annotated)
    return np.asarray(labels == 1 + statistics[1:, cv2.CC_STAT_AREA].argmax())


def _without(networks: PoseNetworks, pack: Path) -> tuple[int, int]:
    """Count images of a pack, and those with people."""
    source = ModelPeople(networks)
    found = [bool(source.people(frame).instances.any()) for frame in open_sequence(pack)]
    return len(found), sum(found)


def main() -> None:
    """Measure, and print a page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('model', type=Path)
    parser.add_argument('--people', type=Path, nargs='*', default=[])
    parser.add_argument('--nobody', type=Path, nargs='*', default=[])
    given = parser.parse_args()
    line = machine()
    console().print(f'{measure(given.model, given.people, given.nobody)}\n{line}',
                    soft_wrap=True)


if __name__ == '__main__':
    main()
