# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""People whom the network finds are kept out of a keyframe, before its depths are used."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.models.people_mask import people_mask
from recon3r_ros.models.types import PeopleFinder, View


def without_people(view: View, finder: PeopleFinder) -> View:
    """
    Exclude the people in a view.

    :param view: of a frame that may become a keyframe
    :return: with the people in `moving` and `excluded`; as it was where they cannot be looked for
    """
    found = finder.find(view.image)
    if found is None:
        return view
    mask = people_mask(*found).mask
    if not mask.any():
        return replace(view, searched=True)
    return replace(view, searched=True, moving=_joined(view.moving, mask),
                   excluded=_joined(view.excluded, mask))


def _joined(known: NDArray[np.bool_] | None, people: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Join people (H, W) with a mask (h, w) that there may be; in its pixels."""
    if known is None:
        return people
    height, width = known.shape
    # A pixel that a person touches is the person's
    share = cv2.resize(people.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(known | (share > 0))
