# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How the cameras of a recording are mounted on their rig: by a calibration, or by /tf_static."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.bag_storage import Reader
from recon3r_ros.io.bag_topics import camera_topic, COMPRESSED, IMAGE
from recon3r_ros.io.bag_transforms import fixed_root, frame_id, static_transforms, TF_STATIC
from recon3r_ros.io.rig_calibration import RigCamera
from recon3r_ros.io.rigs import check_pair
from recon3r_ros.slam.types import Frame, RigMount, StereoView

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class BagRig:
    """
    Cameras of a recording that are on one rig.

    :param T_rig_cam: (4, 4) poses on the rig, metres, by the cameras' numbers
    :param partners: from first to second cameras of stereo pairs
    """

    T_rig_cam: Mapping[int, Array]
    partners: Mapping[int, int]

    @classmethod
    def of(cls, cameras: Mapping[int, Camera], T_rig_cam: Mapping[int, Array]) -> BagRig | None:
        """
        Take the cameras that have intrinsics, and a pose on the rig.

        :return: None where they are fewer than two
        """
        known = {i: camera for i, camera in cameras.items() if i in T_rig_cam}
        if len(known) < 2:
            return None
        return cls({i: T_rig_cam[i] for i in known}, _stereo_partners(known, T_rig_cam))

    def assembled(self, instant: Mapping[int, Frame]) -> Iterator[Frame]:
        """
        Yield the frames of an instant with their mounts, those of a stereo pair as one.

        An image of a second camera alone is left out.

        :param instant: by the cameras' numbers
        """
        stamp_ns = min(frame.stamp_ns for frame in instant.values())
        seconds = set(self.partners.values())
        for number, frame in instant.items():
            if number in seconds:
                continue
            if number in self.T_rig_cam and len(self.T_rig_cam) - len(seconds) > 1:
                frame = replace(frame, mount=RigMount(self.T_rig_cam[number], stamp_ns))
            seen = instant.get(self.partners.get(number, -1))
            if seen is not None and seen.camera is not None:
                T = se3.inverse(self.T_rig_cam[number]) @ self.T_rig_cam[self.partners[number]]
                frame = replace(frame, stereo=StereoView(
                    seen.image, seen.camera, T, seen.camera_name))
            yield frame


def topics_of(path: Path, reader: Reader, cameras: Sequence[RigCamera],
              wanted: Sequence[str]) -> tuple[str, ...]:
    """
    Return an image topic for each camera of a rig.

    :param wanted: topics that the user has named, in the order of the cameras; else they are those
        that the calibration states, or those with the name of a camera in theirs
    :raises InputError: where a camera has none, or several
    """
    names = ', '.join(camera.name for camera in cameras)
    if wanted:
        if len(wanted) != len(cameras):
            raise InputError(f'{len(wanted)} image topics for the {len(cameras)} cameras of the '
                             f'rig, {names}: give one for each, in this order')
        return tuple(wanted)
    recorded = list(reader.topics(IMAGE, COMPRESSED))
    found = []
    for camera in cameras:
        own = [topic for topic in recorded if camera_topic(topic) == camera_topic(camera.topic)]
        own = own or [topic for topic in recorded
                      if camera.name in camera_topic(topic).split('/')]
        # A camera's images may have been recorded raw and compressed
        raw = [topic for topic in own if camera_topic(topic) == topic] or own
        if len(raw) != 1:
            raise InputError(f'{path}: {len(raw)} image topics of camera {camera.name}, expected '
                             f'one; name those of {names} with --image-topic, in this order; '
                             f'recorded: {", ".join(recorded)}')
        found += raw
    return tuple(found)


def recorded_mounts(reader: Reader, image_topics: Sequence[str],
                    note: Callable[[str], None]) -> dict[int, Array]:
    """
    Return the poses (4, 4) of cameras in a common frame, metres, by static transforms.

    :param note: takes a line where they are used
    :return: by position among the topics, of two or more; none where they are not recorded
    """
    fixed = static_transforms(reader)
    frames = [frame_id(reader, topic) for topic in image_topics]
    uses = Counter(frames)
    placed = {i: fixed_root(fixed, frame) for i, frame in enumerate(frames)
              if frame and uses[frame] == 1}
    sizes = Counter(root for root, _ in placed.values())
    largest = max(sizes, key=lambda root: sizes[root], default='')
    if sizes[largest] < 2:
        return {}
    found = {i: T for i, (root, T) in placed.items() if root == largest}
    note(f'cameras {", ".join(frames[i] for i in found)} are posed together, as {TF_STATIC} '
         'states; if it is not exact, give a calibration with --rig, or --rig none')
    return found


def _stereo_partners(cameras: Mapping[int, Camera], T_rig_cam: Mapping[int, Array]
                     ) -> dict[int, int]:
    """
    Find cameras that see the same as an earlier one, from beside it: its stereo partners.

    :param cameras: intrinsics, of those that have them
    :param T_rig_cam: (4, 4) poses on the rig, of all these
    :return: from first cameras to second ones; each is in one pair at most
    """
    partners: dict[int, int] = {}
    for i in cameras:
        for j in cameras:
            taken = {*partners, *partners.values()}
            if j <= i or i in taken or j in taken:
                continue
            try:
                check_pair(cameras[i], cameras[j], se3.inverse(T_rig_cam[i]) @ T_rig_cam[j])
            except InputError:
                continue
            partners[i] = j
    return partners
