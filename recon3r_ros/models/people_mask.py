# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is kept out of an image because of the people that were found in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

#: Masks are widened by this share of the image's width
MARGIN = 0.01
#: People who cover more of an image are not believed, as nothing would be left to track
MAX_SHARE = 0.6
#: A person with a lower score is none
MIN_SCORE = 0.5


@dataclass(frozen=True, eq=False)
class PeopleMask:
    """
    The pixels of an image's people.

    :param mask: (H, W) with a margin; empty where they are not believed
    :param count: of people; 0 likewise
    :param share: of the image that they cover, without the margin, whether believed or not
    """

    mask: NDArray[np.bool_]
    count: int
    share: float

    @property
    def believed(self) -> bool:
        """Whether they leave enough of the image to track."""
        return self.share <= MAX_SHARE


def people_mask(instances: NDArray[np.uint16], scores: Mapping[int, float]) -> PeopleMask:
    """
    Mask the people that a finder found.

    :param instances: (H, W), 0 nobody, other values a person each
    :param scores: by those values, in [0, 1]; a person without one counts as sure
    """
    sure = [i for i in np.flatnonzero(np.bincount(instances.ravel())).tolist()
            if i > 0 and scores.get(i, 1.0) >= MIN_SCORE]
    mask = np.isin(instances, sure)
    share = float(mask.mean())
    if not sure or share > MAX_SHARE:
        return PeopleMask(np.zeros(mask.shape, bool), 0, share)
    reach = max(1, round(MARGIN * mask.shape[1]))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return PeopleMask(np.asarray(cv2.dilate(mask.astype(np.uint8), kernel) > 0), len(sure), share)
