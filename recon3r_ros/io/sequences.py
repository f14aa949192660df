# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Open an image sequence."""

from __future__ import annotations

from pathlib import Path

from recon3r_ros.errors import InputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.bag import open_bag
from recon3r_ros.io.base import Sequence
from recon3r_ros.io.calibrations import Calibration
from recon3r_ros.io.depth_camera import DepthCamera
from recon3r_ros.io.image_folder import open_image_folder
from recon3r_ros.io.rig_folder import is_rig_folder, RigFolder
from recon3r_ros.io.video import open_video


def open_sequence(
    images: str | Path | None = None,
    video: str | Path | None = None,
    bag: str | Path | None = None,
    camera: Camera | Calibration | None = None,
    calibrated: bool = True,
    fps: float = 30.0,
    image_topics: tuple[str, ...] = (),
    camera_info_topics: tuple[str, ...] = (),
    depth: str | Path | None = None,
    stereo: bool = True,
    depth_camera: str | Path | None = None,
    rig: str | Path | None = None,
    depth_topic: str | None = None,
) -> Sequence:
    """
    Open exactly one of a folder of images, a video and a bag.

    :param images: folder of images or pack
    :param video: video file
    :param bag: recording of ROS, folder or file
    :param camera: intrinsics of the images, instead of those that come with them
    :param calibrated: False ignores intrinsics that come with the images
    :param fps: rate that gives stamps where the images have none
    :param image_topics: topics of the images in the bag, one for each camera; none where it holds
        one
    :param camera_info_topics: topics of their intrinsics in the bag, in the same order; none to
        take those that belong to the images
    :param depth: folder of depth images NAME.png, for a folder of images
    :param stereo: False uses the first camera of a rig in such a folder alone
    :param depth_camera: calibration of the camera that measured it, see `DepthCamera.read`; None
        where it is registered to the images
    :param rig: calibration of the cameras of a bag, or 'none', see `open_bag`
    :param depth_topic: of measured depth in a bag
    :raises InputError: where the input cannot be used
    """
    given = [source for source in (images, video, bag) if source is not None]
    if len(given) != 1:
        raise InputError(
            f'{len(given)} inputs given: expected exactly one of a folder of images, a video and '
            'a bag'
        )
    if rig is not None and bag is None:
        raise InputError(f'{rig}: the calibration of a rig needs a bag, and {given[0]} is none; a '
                         'folder of a rig has rig.json in it')
    if depth_topic is not None and bag is None:
        raise InputError(f'{depth_topic}: a topic with depth needs a bag, and {given[0]} is none')
    if images is not None and is_rig_folder(Path(images)) and calibrated and camera is None:
        return RigFolder(Path(images), fps)
    if images is not None:
        return open_image_folder(images, camera, calibrated, fps, depth, stereo, None
                                 if depth_camera is None else DepthCamera.read(depth_camera))
    if depth_camera is not None:
        raise InputError(f'{depth_camera}: depth needs a folder of images, and {given[0]} is none')
    if depth is not None:
        raise InputError(f'{depth}: depth images need a folder of images, and {given[0]} is none')
    if video is not None:
        return open_video(video, camera, fps)
    return open_bag(given[0], image_topics, camera_info_topics, camera, calibrated, rig,
                    depth_topic)
