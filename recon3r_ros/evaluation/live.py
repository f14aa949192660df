# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Measures of a live run, in which what comes late or never counts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from recon3r_ros.evaluation.image_errors import jaccard
from recon3r_ros.io.decode import decode_image
from recon3r_ros.io.masks import UNKNOWN
from recon3r_ros.io.stamps import NS_PER_S

#: A pose is in time within these seconds from its image's stamp
IN_TIME_S = 0.5
#: Masks of the images in the first seconds are not compared: initialisation has none
INITIALISATION_S = 1.0


@dataclass(frozen=True)
class LiveMasks:
    """
    Published dynamic masks against the true ones.

    :param images: number of images compared
    :param missing: of these, images without a mask
    :param jaccard: intersection over union, mean over all images; 0 for a missing mask
    """

    images: int
    missing: int
    jaccard: float


def posed_in_time(stamps_ns: Collection[int], arrivals_ns: Mapping[int, int]) -> float:
    """
    Share of the images whose pose arrived in time.

    :param stamps_ns: of all published images, the time of their publication, nanoseconds
    :param arrivals_ns: of the poses, by the stamps of their images, nanoseconds
    :returns: 0 without any image
    """
    limit = round(IN_TIME_S * NS_PER_S)
    posed = sum(stamp in arrivals_ns and arrivals_ns[stamp] - stamp <= limit
                for stamp in stamps_ns)
    return posed / max(len(stamps_ns), 1)


def tracking_95_ms(arrivals_ns: Mapping[int, int]) -> float:
    """
    Percentile 95 of the latencies of images that came when there was a map.

    :param arrivals_ns: of the poses, by the stamps of their images, nanoseconds; not empty
    :returns: milliseconds; NaN where there is no such image
    """
    first = min(arrivals_ns.values())
    delays = [came - stamp for stamp, came in arrivals_ns.items() if stamp > first]
    return float(np.quantile(delays, 0.95)) * 1e3 / NS_PER_S if delays else float('nan')


def compare_live_masks(masks: Path, truth: Path) -> LiveMasks | None:
    """
    Compare masks after the initialisation.

    :param masks: folder of the published masks, STAMP.png with the stamp in nanoseconds
    :param truth: folder of the true masks of all images, named alike
    :returns: None where there is no image
    """
    stamps_ns = sorted(int(path.stem) for path in truth.glob('*.png'))
    if not stamps_ns:
        return None
    begin_ns = stamps_ns[0] + round(INITIALISATION_S * NS_PER_S)
    scores, missing = [], 0
    for stamp_ns in stamps_ns:
        if stamp_ns < begin_ns:
            continue
        published = masks / f'{stamp_ns}.png'
        if not published.is_file():
            scores.append(0.0)
            missing += 1
            continue
        scores.append(jaccard(*(np.asarray(decode_image(path.read_bytes())) > UNKNOWN
                                for path in (published, truth / published.name))))
    return LiveMasks(len(scores), missing, float(np.mean(scores))) if scores else None
