# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Extrinsics of a stereo pair from the first source that has them.

`<camera>.T_rig_cam`, calibration files, `<camera>.extrinsics` of both cameras, R and P of
camera_info, TF. Parameters and files are what the user gave for this rig; camera_info belongs to
the images; TF often has nominal values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import se3
from recon3r_ros.io.calibrations.extrinsics import pair_extrinsics
from recon3r_ros.ros.extrinsics import Extrinsics
from recon3r_ros.ros.inputs import CameraInput
from recon3r_ros.ros.intrinsics import Rectification
from recon3r_ros.ros.parameters import CameraConfig

Array = NDArray[np.float64]

#: Cameras closer than this have no baseline, metres; rounding of a rotation
_LEAST_BASELINE, _ROUNDING = 1e-3, 1e-3


class PairExtrinsics:
    """
    Pose of the second camera of a stereo pair in the frame of the first.

    :param first: what the parameters say of the first camera
    :param second: and of the second
    :param frames: of the cameras on TF
    :raises InputError: for a calibration file that cannot be used, or cameras at one place
    """

    def __init__(self, first: CameraConfig, second: CameraConfig, frames: Extrinsics) -> None:
        self._first, self._second = first, second
        self._frames = frames
        self.source, self._given = _of_parameters(first, second)
        if self._given is not None and np.linalg.norm(self._given[:3, 3]) < _LEAST_BASELINE:
            raise InputError(f'{self.source}: puts {first.name} and {second.name} at one place: '
                             'give their distance in metres')

    @property
    def remedy(self) -> str:
        """What to do where no source has them."""
        return (f'the extrinsics of {self._second.name} are unknown: set '
                f'{self._second.name}.T_rig_cam, give a calibration file of both cameras, publish '
                f'camera_info with P, or publish the frames of both cameras on TF')

    def T_first_second(self, first: CameraInput, second: CameraInput, stamp_ns: int
                       ) -> Array | None:
        """Return the pose (4, 4) at a time, metres; None where no source has it."""
        if self._given is not None:
            return self._given
        sources = {
            'camera_info': lambda: of_camera_info(
                first.intrinsics.rectification, second.intrinsics.rectification,
                self._first.rectified, self._second.rectified),
            'TF': lambda: self._frames.T_a_b(first.frame_id, second.frame_id, stamp_ns)}
        for source, find in sources.items():
            T = find()
            if T is not None and np.linalg.norm(T[:3, 3]) >= _LEAST_BASELINE:
                self.source = source
                return T
        return None


def _of_parameters(first: CameraConfig, second: CameraConfig) -> tuple[str, Array | None]:
    """Return name and value of the source among parameters; None where they have none."""
    if second.T_rig_cam is not None or first.T_rig_cam is not None:
        T_rig_first, T_rig_second = (np.eye(4) if c.T_rig_cam is None else c.T_rig_cam
                                     for c in (first, second))
        return f'{second.name}.T_rig_cam', se3.inverse(T_rig_first) @ T_rig_second
    files = [None if c.calibration in ('', 'none') else c.calibration for c in (first, second)]
    found = pair_extrinsics(*files)
    if found is not None:
        return f'{second.name}.calibration', found
    if first.T_base_cam is not None and second.T_base_cam is not None:
        return f'{second.name}.extrinsics', se3.inverse(first.T_base_cam) @ second.T_base_cam
    return '', None


def of_camera_info(first: Rectification | None, second: Rectification | None,
                   first_rectified: bool, second_rectified: bool) -> Array | None:
    """
    Return the pose (4, 4) of a second camera by the convention of sensor_msgs/CameraInfo.

    P[0, 3] is -fx times the baseline, in the rectified frame, which has the axes of both images.

    :param first_rectified: whether the images are rectified, and not only to be
    :return: None where P has no baseline
    """
    if first is None or second is None:
        return None
    places = []
    for one in (first, second):
        focal = np.array([one.P[0, 0], one.P[1, 1]])
        if not (np.isfinite(one.P).all() and (focal > 0).all()):
            return None
        places.append(np.append(-one.P[:2, 3] / focal, 0.0))
    rotations = []
    for one, rectified in ((first, first_rectified), (second, second_rectified)):
        R = np.eye(3) if rectified else one.R
        if not (np.abs(R @ R.T - np.eye(3)).max() < _ROUNDING and np.linalg.det(R) > 0):
            return None
        rotations.append(R)
    if np.linalg.norm(places[1] - places[0]) < _LEAST_BASELINE:
        return None
    return se3.normalized(se3.from_rt(
        rotations[0].T @ rotations[1], rotations[0].T @ (places[1] - places[0])))
