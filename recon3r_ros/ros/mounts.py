# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Poses of the cameras on their rig: all from one source, the first that has those of two cameras.

`<camera>.T_rig_cam`, calibration files, `<camera>.extrinsics`, static transforms on TF. A camera
whose pose relative to the others changes, on a pan-tilt head say, is not on the rig.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.io.calibrations.extrinsics import common_extrinsics
from recon3r_ros.ros.parameters import CameraConfig

Array = NDArray[np.float64]


class Mounts:
    """
    Poses T_rig_cam of the cameras of a rig.

    :param cameras: what the parameters say of them, the first one first
    :param fixed_root: where static transforms to a frame begin, and its pose there; see `TfTree`
    :raises InputError: for a calibration file that cannot be used
    """

    def __init__(self, cameras: Sequence[CameraConfig],
                 fixed_root: Callable[[str], tuple[str, Array]]) -> None:
        self._names = [c.name for c in cameras]
        self._fixed_root = fixed_root
        self._source, self._given = _of_parameters(cameras)
        self._of_tf = False

    @property
    def source_name(self) -> str:
        """Where they are from; '' before they are known."""
        return self._source.format('<camera>') or ('TF' if self._of_tf else '')

    def known(self, frame_ids: Mapping[str, str]) -> dict[str, Array]:
        """
        Return the poses (4, 4) in a common frame, metres, of two cameras or more; else none.

        :param frame_ids: optical frames of the cameras that have sent images, by name
        """
        if self._given:
            return dict(self._given)
        uses = Counter(frame_ids.values())
        placed = {name: self._fixed_root(frame_ids[name]) for name in self._names
                  if name in frame_ids and uses[frame_ids[name]] == 1}
        sizes = Counter(root for root, _ in placed.values())
        # Of the first camera where several are as large
        largest = max(sizes, key=lambda root: sizes[root], default='')
        self._of_tf = sizes[largest] > 1
        return {name: T for name, (root, T) in placed.items()
                if root == largest and sizes[root] > 1}

    def remedy(self, camera: str) -> str:
        """Say what to do for a camera that has no pose."""
        problem = f'the pose of {camera} on the rig is unknown'
        if self._given:
            return f'{problem}: {self._source.format(camera)} is missing'
        return (f'{problem}: set T_rig_cam of all cameras, or publish fixed transforms between '
                'their optical frames on /tf_static; or set rig: false')


def _of_parameters(cameras: Sequence[CameraConfig]) -> tuple[str, dict[str, Array]]:
    """Return name and poses of the source among the parameters; none where they have none."""
    on_rig = {c.name: c.T_rig_cam for c in cameras if c.T_rig_cam is not None}
    if on_rig:
        on_rig.setdefault(cameras[0].name, np.eye(4))
    files = common_extrinsics([None if c.calibration in ('', 'none') else c.calibration
                               for c in cameras], [c.number for c in cameras])
    sources = {
        '{}.T_rig_cam': on_rig,
        '{}.calibration': {cameras[i].name: T for i, T in files.items()},
        '{}.extrinsics': {c.name: c.T_base_cam for c in cameras if c.T_base_cam is not None}}
    for source, found in sources.items():
        if len(found) > 1:
            return source, found
    return '', {}
