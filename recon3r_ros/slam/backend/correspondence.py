# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Correspondences of two keyframes, from predicted pointmaps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.compiled import dense
from recon3r_ros.geometry import pinhole
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.models.types import MATCHED, SURE_TRACK, Tracks
from recon3r_ros.slam.backend.compiled_depth import projected
from recon3r_ros.slam.types import Correspondence

#: Fewer sure tracks do not tell what is visible: all of a pair may be wrong
MIN_TRACKS = 15


def correspond(seen: NDArray[np.float32], confidence: NDArray[np.float32], camera: Camera
               ) -> Correspondence:
    """
    Project an anchor's pointmap into the camera whose frame it is given in.

    :param seen: (H, W, 3) the anchor's pointmap in the observer's frame
    :param confidence: (H, W)
    :param camera: pinhole camera of the observer's grid
    """
    targets, sure = projected(
        dense(seen).reshape(-1, 3), dense(confidence).ravel(),
        pinhole.parameters(camera, np.float32), np.float32(camera.width),
        np.float32(camera.height), np.float32(MATCHED))
    return Correspondence(targets.reshape(*confidence.shape, 2), sure.reshape(confidence.shape))


def tracked(found: Correspondence, keypoints: NDArray[np.int32], tracks: Tracks, camera: Camera
            ) -> Correspondence:
    """
    Replace the correspondences of an anchor's keypoints with tracks: these need no depth.

    Keypoints whose track is not sure, or leaves the image, are not visible. With too few sure
    tracks nothing is replaced.

    :param keypoints: (K, 2) of the anchor's grid
    :param tracks: of these keypoints in the observer alone
    :param camera: pinhole camera of the observer's grid
    """
    positions, probability = tracks.positions[0], tracks.probability[0]
    with np.errstate(invalid='ignore'):  # NaN is not inside
        inside = ((positions >= 0) & (positions <= [camera.width - 1, camera.height - 1])).all(1)
    seen = inside & (probability >= SURE_TRACK)
    if int(seen.sum()) < MIN_TRACKS:
        return found
    targets, confidence = found.targets.copy(), found.confidence.copy()
    columns, rows = keypoints.T
    known = np.maximum(confidence[rows, columns], np.float32(MATCHED))
    confidence[rows, columns] = np.where(seen, known, 0)
    targets[rows[seen], columns[seen]] = positions[seen]
    return Correspondence(targets, confidence)
