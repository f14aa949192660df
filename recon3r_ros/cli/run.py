# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Command `recon3r run`."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from recon3r_ros.cli.arguments import (
    add_model_arguments,
    add_slam_arguments,
    asked_model,
    positive,
)
from recon3r_ros.cli.console import output as console
from recon3r_ros.cli.exit_status import EXPLANATION, INTERRUPTED, NOTHING_PRODUCED
from recon3r_ros.cli.interruption import Interruption
from recon3r_ros.errors import InputError
from recon3r_ros.option import chosen

if TYPE_CHECKING:
    from recon3r_ros.io.base import Sequence
    from recon3r_ros.slam.backend.mapping_process import MappingProcess

logger = logging.getLogger(__name__)

_DESCRIPTION = f"""\
Reconstruct a folder of images, a video or a recording.

DIR is one of
  - a folder of images, or one with a single such folder in it
  - a pack: a folder with images/ and optionally frames.txt (a stamp in seconds and an image per
    line) and camera.json, and imu.csv (stamp wx wy wz ax ay az: seconds, rad/s, m/s^2) with
    imu.json (T_cam_imu, a 4x4 matrix) where there is an IMU
  - a sequence of TUM RGB-D, EuRoC, KITTI (odometry or raw), 7-Scenes or ScanNet, as it is
    published, or its folder of images. Of several cameras the first is taken, of KITTI the left
    one in colour; give the folder of another. Stamps and intrinsics that come with it are used.
    The second camera of EuRoC and the right one of KITTI are used with it, as a stereo rig
  - a pack of a stereo rig: a folder with left/, right/, rig.json, and optionally frames.txt
Stereo gives metres, and starts the map at the first instant. Right images have the names of the
left ones, in EuRoC their stamps, within 5 ms; images without a partner are used alone. rig.json
holds left and right, each as camera.json, and T_left_right, 4x4 rows, the pose of the right camera
in the left one's frame, metres.
Images of another size than most are skipped. Images without order, up to 1000 photographs, are
processed by their similarity; results keep the order of the input.

A video must be progressive: deinterlace others first, with ffmpeg -vf bwdif.

--camera FILE is recognised by its content: camera.json, ROS camera_calibration or printed
CameraInfo, Kalibr camchain, EuRoC sensor.yaml, KITTI calib.txt, OpenCV FileStorage, ORB-SLAM or
VINS settings, COLMAP cameras.txt, Nerfstudio transforms.json, Open3D intrinsics, or a matrix K.
camera.json holds width, height, fx, fy, cx, cy (pixels), distortion, a list of OpenCV's
coefficients, and model. A calibration for another resolution is scaled. Without intrinsics the
focal length is estimated, from that in the EXIF data of photographs where there is one.

A bag is a recording of ROS 2 (folder, .mcap or .db3, also with .zstd behind, finished or cut off)
or ROS 1 (.bag). With several --image-topic, their images are merged by their stamps into one map,
and NAME begins with the camera, what tells its topic from the others: left of /left/image. Where
--rig or /tf_static state how the cameras are mounted, they are posed together, and those that see
the same are stereo pairs: NAME begins with the first camera.

files written to OUT (NAME is the image's name without its suffix):
  trajectory.txt   a line for each tracked image: stamp tx ty tz qx qy qz qw, in seconds and map
                   units, camera-to-world (TUM format). With several cameras, trajectory_CAMERA.txt
                   for each, and this one is that of the first
  keyframes.json   stamp, pose and pinhole camera of each keyframe
  cameras.json     the cameras of the images, with distortion, and which images are of each
  map.ply          the static map: coloured points with confidence, map units; with --labels also
                   label, and with instances instance, the object of the map; 0 where unknown.
                   With a model that recognises classes as well
  classes.txt      the names of the classes, where known: a line each, the first is class 1
  map.npz          the map for ~/load_map of the node, to continue mapping
  depth/NAME.npz   for each keyframe float32 `depth` along the optical axis, map units, NaN where
                   unknown, and `confidence`, the inverse variance of the relative depth
  masks/NAME.png   for each image 255 on dynamic objects, else 0; 127 throughout where nothing is
                   known yet; the image's size
  frames.txt       a line for each image: stamp, file name, index in the sequence
  report.json      counts, times (s, ms), focal length (pixels), scale, memory (MB), skipped
                   images, warnings
  map_N/           where images are of several places that are not connected, or tracking was lost
                   for long: trajectory, keyframes, depth and map of each; those above are the
                   largest map's
  colmap/          with --colmap: a COLMAP text model, cameras.txt images.txt points3D.txt

Ctrl-C stops reading and writes the results computed so far; a second one aborts.

{EXPLANATION}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command, and its help."""
    parser.description = _DESCRIPTION
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--images', metavar='DIR', help='folder of images, a pack, or a sequence '
                        'of a data set')
    source.add_argument('--video', metavar='FILE', help='video file')
    source.add_argument('--bag', metavar='PATH', help='recording, folder or file; needs no ROS')
    parser.add_argument('--image-topic', metavar='T', action='append', default=[],
                        help='topic of the images in the bag; required where it holds several; '
                        'again for each further camera')
    parser.add_argument('--camera-info-topic', metavar='T', action='append', default=[],
                        help='topic of their intrinsics, for each --image-topic in its order '
                        '(default: camera_info beside the images, else the one that fits)')
    parser.add_argument('--depth-topic', metavar='T', help='topic of measured depth in the bag '
                        '(16UC1 millimetres, 32FC1 metres or compressedDepth), of the first '
                        '--image-topic: registered to the images, or with camera_info beside it, '
                        'and its frame on /tf_static')
    parser.add_argument('--rig', metavar='FILE', help='calibration of several cameras of a bag, '
                        'which are posed together: rig.json, camchain of Kalibr, or a folder of '
                        'EuRoC, with intrinsics and poses on the rig; topics are those with the '
                        "cameras' names, or --image-topic for each, in its order; none: without "
                        '/tf_static of the bag, which is taken by default')
    lens = parser.add_mutually_exclusive_group()
    lens.add_argument('--camera', metavar='FILE', help='calibration, instead of the intrinsics '
                      'that come with the images')
    lens.add_argument('--uncalibrated', action='store_true', help='ignore intrinsics that come '
                      'with the images and estimate the focal length')
    parser.add_argument('--fps', type=positive, default=30.0, help='images a second, where they '
                        'have no stamps (default: 30)')
    add_model_arguments(parser)
    parser.add_argument('--motion', choices=['online', 'offline', 'off'], default='online',
                        help='detection of dynamic objects: online, frame by frame, as on a '
                        'robot; offline, again at the end, from earlier and later images; or '
                        'off (default: online)')
    parser.add_argument('--no-map', action='store_true', help='only dynamic masks, of all images: '
                        'no map and no poses')
    parser.add_argument('--masks', metavar='DIR', help='known dynamic masks NAME.png: dynamic '
                        'where not 0, of the size of the image NAME')
    people = parser.add_mutually_exclusive_group()
    people.add_argument('--people', metavar='DIR', help='people of any detector: masks NAME.png, '
                        '8 or 16 bits, 0 nobody, other values a person each, of the size of the '
                        'image NAME. They are kept out of the map, even where they stand still. '
                        'With --model hamst3r the network finds them, unless these are given')
    people.add_argument('--people-model', metavar='FILE', help="people that MediaPipe's networks "
                        'find, kept out likewise: pose_landmarker_full.task, or a folder with '
                        'pose_detection.tflite and pose_landmark_full.tflite, which nobody '
                        'downloads for you; needs the extra people')
    parser.add_argument('--labels', metavar='DIR', help='label images NAME.png: 8-bit classes of '
                        'the pixels of the image NAME, 0 where unknown; with them, where there '
                        'are such, confidence/NAME.png (255 is certain), instances/NAME.png, and '
                        'classes.txt with the names of the classes from 1 on. map.ply gets the '
                        'classes and objects of its points, by votes of the views that see them')
    parser.add_argument('--depth', metavar='DIR', help='measured depth NAME.png of the images '
                        'NAME, where there is one: 16-bit millimetres along the optical axis, '
                        '0 where unknown, registered to the image. It starts the map at once and '
                        'gives metres. That of TUM RGB-D is found by itself')
    parser.add_argument('--no-stereo', action='store_true', help='use the first camera of a '
                        'stereo rig alone')
    parser.add_argument('--depth-camera', metavar='FILE', help='calibration of the depth camera, '
                        'where its depth is not registered to the images: as for --camera, with '
                        'T_color_depth, its pose (4x4, metres) in the colour camera')
    parser.add_argument('--camera-height', metavar='METRES', type=positive, default=0.0,
                        help='height of the camera above the floor, where that is constant: it '
                        'gives metres, within some percent, where a floor is found')
    parser.add_argument('--mask', metavar='FILE', help='image that is not black where every image '
                        "shows the robot's own body, or anything else that is fixed to the "
                        'camera')
    parser.add_argument('--imu-topic', metavar='T', help='topic of an IMU in the bag: its '
                        'rotation keeps track through fast turns, and gravity makes z of the '
                        'results point up. That of EuRoC, and of a pack, imu.csv and imu.json, is '
                        'found by itself')
    parser.add_argument('--imu-extrinsics', metavar='FILE', help='imu.json with T_cam_imu, the '
                        'pose of the IMU in the optical frame of the camera (4x4), instead of '
                        '/tf_static in the bag')
    parser.add_argument('--no-imu', action='store_true', help='ignore an IMU beside the images')
    parser.add_argument('--output', metavar='OUT', required=True, help='folder for the results')
    parser.add_argument('--colmap', action='store_true', help='write a COLMAP model as well')
    parser.add_argument('--voxel', metavar='SIZE', type=positive, help='edge of the voxels, '
                        'which hold at most one point of the map, map units (default: chosen from '
                        'the depths)')
    add_slam_arguments(parser)


def execute(arguments: argparse.Namespace) -> int:
    """
    Run the command.

    :param arguments: as parsed
    :returns: the exit status
    """
    # Deferred, so that --help is fast; both processes import at the same time
    from recon3r_ros.slam.backend.mapping_process import MappingProcess
    with MappingProcess() as process:
        return _reconstruct(arguments, process)


def _reconstruct(arguments: argparse.Namespace, process: MappingProcess) -> int:
    from recon3r_ros.cli.people import PeopleSequence
    from recon3r_ros.cli.reconstruction import reconstruct, RunOptions
    from recon3r_ros.cli.stills import ordered
    from recon3r_ros.io.calibrations import read_calibration
    from recon3r_ros.io.image_folder import ImageFolder
    from recon3r_ros.io.labels import LabelSequence
    from recon3r_ros.io.masks import MaskedSequence, StaticMaskSequence
    from recon3r_ros.io.people import PeopleFolder
    from recon3r_ros.io.sequences import open_sequence
    from recon3r_ros.plugins import motion_config
    from recon3r_ros.slam.options import FrontendOptions, MappingOptions, MotionOptions
    camera = None if arguments.camera is None else read_calibration(arguments.camera)
    values = vars(arguments)
    options = RunOptions(
        asked_model(arguments), arguments.voxel, arguments.colmap,
        motion_config(chosen(MotionOptions, values), arguments.motion != 'off',
                      arguments.motion == 'offline'),
        chosen(FrontendOptions, values), chosen(MappingOptions, values),
        no_map=arguments.no_map, camera_height=arguments.camera_height,
        find_people=arguments.people is None and arguments.people_model is None)
    with Interruption() as interruption:
        sequence = open_sequence(
            arguments.images, arguments.video, arguments.bag, camera,
            not arguments.uncalibrated, arguments.fps, tuple(arguments.image_topic),
            tuple(arguments.camera_info_topic), arguments.depth, not arguments.no_stereo,
            arguments.depth_camera, arguments.rig, arguments.depth_topic)
        if isinstance(sequence, ImageFolder):
            sequence = ordered(sequence)
        sequence = _with_imu(sequence, arguments)
        if arguments.masks is not None:
            sequence = MaskedSequence(sequence, arguments.masks)
        if arguments.people is not None:
            sequence = PeopleSequence(sequence, PeopleFolder(arguments.people))
        elif arguments.people_model is not None:
            from recon3r_ros.models.pose_networks import PoseNetworks
            from recon3r_ros.slam.model_people import ModelPeople
            sequence = PeopleSequence(
                sequence, ModelPeople(PoseNetworks.open(arguments.people_model)))
        if arguments.mask is not None:
            sequence = StaticMaskSequence(sequence, arguments.mask)
        if arguments.labels is not None:
            sequence = LabelSequence(sequence, arguments.labels)
        report = reconstruct(sequence, arguments.output, options, interruption, process)
    for warning in report.warnings[len(sequence.notes):]:  # those have been logged already
        logger.warning('%s', warning)
    console().print(report.summary(Path(arguments.output)), soft_wrap=True)
    if report.interrupted:
        logger.warning('interrupted after %d frames; the results until then are in %s',
                       report.frames_read, arguments.output)
        return INTERRUPTED
    return NOTHING_PRODUCED if report.is_empty else 0


def _with_imu(sequence: Sequence, arguments: argparse.Namespace) -> Sequence:
    """Return a sequence with the samples of an IMU, where there is one."""
    from recon3r_ros.io.bag_imu import recorded_imu
    from recon3r_ros.io.image_folder import ImageFolder
    from recon3r_ros.io.imu import find_imu, ImuSequence
    if arguments.imu_extrinsics is not None and arguments.imu_topic is None:
        raise InputError(f'{arguments.imu_extrinsics}: the pose of an IMU is given without '
                         '--imu-topic; that of a pack is in its imu.json')
    if arguments.imu_topic is not None:
        if arguments.bag is None:
            raise InputError(f'--imu-topic {arguments.imu_topic} needs --bag')
        return ImuSequence(sequence, recorded_imu(
            arguments.bag, arguments.imu_topic, arguments.image_topic, arguments.imu_extrinsics))
    if arguments.no_imu or not isinstance(sequence, ImageFolder):
        return sequence
    samples = find_imu(sequence.folder)
    return sequence if samples is None else ImuSequence(sequence, {'camera': samples})
