# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Command `recon3r export`: results of a run for other tools."""

from __future__ import annotations

import argparse
from pathlib import Path

from recon3r_ros.cli.arguments import natural, positive
from recon3r_ros.cli.console import output as console
from recon3r_ros.cli.console import progress_bar
from recon3r_ros.errors import InputError

#: Formats, and whether they need the images
FORMATS = {'colmap': True, 'nerfstudio': True, 'gsplat': True, 'gaussians': False,
           'tum': False, 'kitti': False, 'euroc': False}

_DESCRIPTION = """\
Write the results of recon3r run for NeRF, Gaussian splatting and other tools.

formats, each in OUT/export/FORMAT (map_N in it for each map, where there are several):
  colmap      images/ undistorted, masks/NAME.EXT.png, sparse/0 with cameras.bin, images.bin and
              points3D.bin: PINHOLE cameras, and the landmarks of bundle adjustment with the images
              that observe them
  gsplat      the same; points3D.bin has also the points of the map, up to 200000, with the images
              that show them by their depth: a denser start for Gaussian splatting
  nerfstudio  images/, masks/NAME.png, transforms.json (camera axes x right, y up, z back) and
              sparse_pc.ply, the points of the map
  gaussians   gaussians.ply (layout of INRIA's viewer) and gaussians.splat, from the map alone;
              with --network from the keyframes' images, one for each pixel;
              with --refine fitted to the images of the keyframes, which the map holds
  tum         trajectory.txt of each image with a pose: stamp tx ty tz qx qy qz qw
  kitti       poses.txt, 12 numbers an image; times.txt, its seconds; images.txt, its name. Images
              without a pose have no line
  euroc       data.csv: stamp in nanoseconds, position, quaternion qw qx qy qz, of the camera

--network takes the published file of SIU3R (NeurIPS 2025), siu3r_epoch100.ckpt: it sees the centre
square of each keyframe together with its best-overlapping neighbour, and has the scale of the map.
Or a network after H3R (ICCV 2025) such as scripts/train_gaussians.py trains: of those no trained
weights are published, neither H3R's own, which would not fit, nor any of this package.

Images are the keyframes, which have been refined together with the map; with --every-image all
that have a pose. Masks are 0 on dynamic objects, else 255. The three formats with images have, for
keyframes, depth/NAME.png (16 bits, thousandths of the unit, 0 = unknown) and confidence/NAME.npz,
the inverse variance of the relative depth. Lengths are in metres where the scale is known.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command, and its help."""
    parser.description = _DESCRIPTION
    parser.add_argument('output', metavar='OUT', help='folder of the results of a run')
    parser.add_argument('--format', choices=list(FORMATS), required=True, help='what to write')
    source = parser.add_mutually_exclusive_group()
    source.add_argument('--images', metavar='DIR', help='the images of the run, as they were '
                        'given to it')
    source.add_argument('--video', metavar='FILE', help='the video of the run')
    source.add_argument('--bag', metavar='PATH', help='the recording of the run')
    parser.add_argument('--image-topic', metavar='T', action='append', default=[],
                        help='topic of the images in the bag, as it was given to the run')
    parser.add_argument('--every-image', action='store_true', help='write all images with a '
                        'pose, not the keyframes alone')
    parser.add_argument('--voxel', metavar='SIZE', type=positive, help='distance of the '
                        'Gaussians, in the unit of the results (default: as fine as the '
                        "pixels of the keyframes' images)")
    parser.add_argument('--network', metavar='FILE', help='trained network that makes the '
                        'Gaussians (default: none, the map makes them)')
    parser.add_argument('--refine', metavar='STEPS', type=natural, default=0, help='fit the '
                        'Gaussians to images: by gsplat on CUDA; without it by a slow rasteriser '
                        'on the CPU, for tiny scenes (default: 0, none; some hundred to thousands '
                        'are usual)')
    parser.add_argument('--to', metavar='DIR', help='folder to write to (default: '
                        'OUT/export/FORMAT)')


def execute(arguments: argparse.Namespace) -> int:
    """
    Run the command.

    :param arguments: as parsed
    :returns: the exit status
    """
    from recon3r_ros.cli.exporting import export, Request
    from recon3r_ros.io.rig_folder import is_rig_folder
    from recon3r_ros.io.sequences import open_sequence
    output, wanted = Path(arguments.output), arguments.format
    if arguments.refine and wanted != 'gaussians':
        raise InputError(f'--refine is of Gaussians: got --format {wanted}, give --format '
                         'gaussians')
    sequence = None
    if arguments.network is not None and wanted != 'gaussians':
        raise InputError(f'--network makes Gaussians, and format {wanted} has none: give --format '
                         'gaussians')
    if arguments.network is not None and arguments.voxel is not None:
        raise InputError('--voxel is the distance of Gaussians of the map; those of --network are '
                         'one for each pixel: give one of the two')
    if FORMATS[wanted]:
        if arguments.images is None and arguments.video is None and arguments.bag is None:
            raise InputError(f'format {wanted} needs the images of the run: give their folder '
                             'with --images, or --video or --bag')
        # Intrinsics come with the results; only those of a rig tell its cameras
        rig = arguments.images is not None and is_rig_folder(Path(arguments.images))
        sequence = open_sequence(
            arguments.images, arguments.video, arguments.bag, calibrated=rig,
            image_topics=tuple(arguments.image_topic), stereo=False)
    request = Request(wanted, arguments.every_image, arguments.voxel,
                      None if arguments.network is None else Path(arguments.network),
                      arguments.refine)
    target = Path(arguments.to) if arguments.to else output / 'export' / wanted
    with progress_bar() as bar:
        lines = export(output, target, request, sequence, bar)
    for line in lines:
        console().print(line, soft_wrap=True)
    return 0
