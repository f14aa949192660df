# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Calibrations as tools write them."""

from __future__ import annotations

import json
import math
import re

from calibration_files import euroc_sensor
import cv2
import numpy as np
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.calibrations import FORMATS, read_calibration
from recon3r_ros.io.calibrations.extrinsics import pair_extrinsics
from recon3r_ros.io.image_folder import open_image_folder
from recon3r_ros.io.lenses import lens

PINHOLE = Camera(640, 480, 500.0, 510.0, 319.5, 239.5)
BENT = Camera(640, 480, 500.0, 510.0, 319.5, 239.5, (-0.3, 0.1, 1e-3, -2e-3, 0.0))
BENT_5 = Camera(640, 480, 500.0, 510.0, 319.5, 239.5, (-0.3, 0.1, 1e-3, -2e-3, 0.05))
RATIONAL = Camera(640, 480, 500.0, 510.0, 319.5, 239.5,
                  (0.3, 0.1, 1e-3, -2e-3, 0.05, 0.6, 0.2, 0.01), 'rational_polynomial')
FISHEYE = Camera(640, 480, 500.0, 510.0, 319.5, 239.5, (-0.03, 0.01, -2e-3, 3e-4), 'equidistant')
K = [[500.0, 0.0, 319.5], [0.0, 510.0, 239.5], [0.0, 0.0, 1.0]]

ROS_YAML = """\
image_width: 640
image_height: 480
camera_name: narrow_stereo
camera_matrix:
  rows: 3
  cols: 3
  data: [500.0, 0., 319.5, 0, 510, 239.5, 0, 0, 1]
distortion_model: MODEL
distortion_coefficients:
  rows: 1
  cols: COUNT
  data: DATA
rectification_matrix: {rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}
projection_matrix: {rows: 3, cols: 4, data: [450, 0, 310, 0, 0, 460, 230, 0, 0, 0, 1, 0]}
"""


def ros_yaml(model, values):
    return ROS_YAML.replace('MODEL', model).replace('COUNT', str(len(values))).replace(
        'DATA', repr(list(values)))


CAMERA_INFO = """\
header:
  stamp:
    sec: 12
    nanosec: 5
  frame_id: camera
height: 480
width: 640
distortion_model: plumb_bob
d:
- -0.3
- 0.1
- 0.001
- -0.002
- 0.05
k: [500.0, 0.0, 319.5, 0.0, 510.0, 239.5, 0.0, 0.0, 1.0]
r: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
p: [450.0, 0.0, 310.0, 0.0, 0.0, 460.0, 230.0, 0.0, 0.0, 0.0, 1.0, 0.0]
binning_x: 0
---
"""
KALIBR = """\
cam0:
  cam_overlaps: [1]
  camera_model: pinhole
  distortion_coeffs: [-0.3, 0.1, 0.001, -0.002]
  distortion_model: radtan
  intrinsics: [500.0, 510.0, 319.5, 239.5]
  resolution: [640, 480]
  rostopic: /cam0/image_raw
"""
KALIBR_FISHEYE = KALIBR.replace('radtan', 'equi').replace(
    '[-0.3, 0.1, 0.001, -0.002]', '[-0.03, 0.01, -0.002, 0.0003]')
EUROC = euroc_sensor((640, 480), (500, 510, 319.5, 239.5), (-0.3, 0.1, 0.001, -0.002))
KITTI = ''.join(
    f'P{i}: 5.00e+02 0 3.195e+02 {-90 * i} 0 510 239.5 0 0 0 1 {i}\n' for i in range(4))
ORB_SLAM2 = """\
%YAML:1.0

# Camera calibration and distortion parameters (OpenCV)
Camera.fx: 500.0
Camera.fy: 510.0
Camera.cx: 319.5
Camera.cy: 239.5

Camera.k1: -0.3
Camera.k2: 0.1
Camera.p1: 1e-3
Camera.p2: -0.002
Camera.k3: 0.05
Camera.width: 640
Camera.height: 480
Camera.fps: 30.0
ORBextractor.nFeatures: 1000
"""
ORB_SLAM3 = """\
%YAML:1.0
---
File.version: "1.0"
Camera.type: "KannalaBrandt8"
Camera1.fx: 500.0
Camera1.fy: 510.0
Camera1.cx: 319.5
Camera1.cy: 239.5
Camera1.k1: -0.03
Camera1.k2: 0.01
Camera1.k3: -0.002
Camera1.k4: 0.0003
Camera2.fx: 400.0
Stereo.T_c1_c2: !!opencv-matrix
  rows: 4
  cols: 4
  dt: f
  data: [1, 0, 0, .1, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
Camera.width: 640
Camera.height: 480
"""
VINS = """\
%YAML:1.0
---
model_type: PINHOLE
camera_name: camera
image_width: 640
image_height: 480
distortion_parameters:
   k1: -0.3
   k2: 0.1
   p1: 1.0e-03
   p2: -2.0e-03
projection_parameters:
   fx: 500.0
   fy: 510.0
   cx: 319.5
   cy: 239.5
"""
VINS_FISHEYE = """\
%YAML:1.0
---
model_type: KANNALA_BRANDT
image_width: 640
image_height: 480
projection_parameters:
   k2: -0.03
   k3: 0.01
   k4: -0.002
   k5: 0.0003
   mu: 500.0
   mv: 510.0
   u0: 319.5
   v0: 239.5
"""
TRANSFORMS = {'camera_model': 'OPENCV', 'fl_x': 500, 'fl_y': 510, 'cx': 320, 'cy': 240, 'w': 640.0,
              'h': 480, 'k1': -0.3, 'k2': 0.1, 'p1': 1e-3, 'p2': -2e-3,
              'frames': [{'file_path': 'images/1.png'}]}
OPEN3D = {'width': 640, 'height': 480,
          'intrinsic_matrix': [500.0, 0, 0, 0, 510.0, 0, 319.5, 239.5, 1]}
OURS = {'width': 640, 'height': 480, 'fx': 500, 'fy': 510, 'cx': 319.5, 'cy': 239.5}


def colmap(model, *values):
    return ('# Camera list with one line of data per camera:\n'
            '#   CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]\n'
            f'1 {model} 640 480 {" ".join(map(str, values))}\n')


def shared_focal(*distortion, model='plumb_bob'):
    return Camera(640, 480, 500.0, 500.0, 319.5, 239.5, distortion, model)


CASES = {
    'ours': (json.dumps(OURS), PINHOLE),
    'ours, no distortion': (json.dumps({**OURS, 'distortion': []}), PINHOLE),
    'ours, null': (json.dumps({**OURS, 'distortion': None}), PINHOLE),
    'ours, zeros of any model': (
        json.dumps({**OURS, 'distortion': [0, 0], 'model': 'inverse_brown_conrady'}), PINHOLE),
    'ours, strings': (json.dumps({**OURS, 'width': '640', 'fx': '500.0'}), PINHOLE),
    'ours, 4': (json.dumps({**OURS, 'distortion': BENT.distortion[:4]}), BENT),
    'ours, 8': (json.dumps({**OURS, 'distortion': RATIONAL.distortion}), RATIONAL),
    'ours, 14 of which the last are zero': (
        json.dumps({**OURS, 'distortion': [*RATIONAL.distortion, *[0] * 6]}), RATIONAL),
    'ours, fisheye': (
        json.dumps({**OURS, 'distortion': FISHEYE.distortion, 'model': 'fisheye'}), FISHEYE),
    'ours, byte order mark': ('\ufeff' + json.dumps(OURS), PINHOLE),
    'ROS': (ros_yaml('plumb_bob', BENT_5.distortion), BENT_5),
    'ROS, rational': (ros_yaml('rational_polynomial', RATIONAL.distortion), RATIONAL),
    'ROS, equidistant': (ros_yaml('equidistant', FISHEYE.distortion), FISHEYE),
    'ROS, message': (CAMERA_INFO, BENT_5),
    'Kalibr': (KALIBR, BENT),
    'Kalibr, equi': (KALIBR_FISHEYE, FISHEYE),
    'EuRoC': (EUROC, BENT),
    'ORB-SLAM2': (ORB_SLAM2, BENT_5),
    'ORB-SLAM3, fisheye': (ORB_SLAM3, FISHEYE),
    'VINS': (VINS, BENT),
    'VINS, fisheye': (VINS_FISHEYE, FISHEYE),
    'Nerfstudio': (json.dumps(TRANSFORMS), BENT),
    'Nerfstudio, fisheye': (json.dumps(
        {**TRANSFORMS, 'camera_model': 'OPENCV_FISHEYE', 'k1': -0.03, 'k2': 0.01, 'k3': -2e-3,
         'k4': 3e-4, 'p1': 0, 'p2': 0}), FISHEYE),
    'Nerfstudio, in the frames': (json.dumps(
        {'frames': [{**TRANSFORMS, 'file_path': str(i)} for i in range(2)]}), BENT),
    'instant-ngp, by the angle': (json.dumps(
        {'camera_angle_x': 2 * math.atan(0.64), 'w': 640, 'h': 480, 'frames': []}),
        shared_focal()),
    'Open3D': (json.dumps(OPEN3D), PINHOLE),
    'Open3D, parameters': (json.dumps({'extrinsic': [1.0] * 16, 'intrinsic': OPEN3D}), PINHOLE),
    'matrix with size': (json.dumps({'K': K, 'D': [0] * 5, 'resolution': [640, 480]}), PINHOLE),
    'matrix of a script': (json.dumps(
        {'mtx': K, 'dist': [BENT.distortion], 'image_size': [640, 480]}), BENT),
    'matrix row by row': (json.dumps(
        {'camera_matrix': sum(K, []), 'width': 640, 'height': 480}), PINHOLE),
    'COLMAP, SIMPLE_PINHOLE': (colmap('SIMPLE_PINHOLE', 500, 320, 240), shared_focal()),
    'COLMAP, PINHOLE': (colmap('PINHOLE', 500, 510, 320, 240), PINHOLE),
    'COLMAP, SIMPLE_RADIAL': (colmap('SIMPLE_RADIAL', 500, 320, 240, -0.3),
                              shared_focal(-0.3, 0, 0, 0, 0)),
    'COLMAP, RADIAL': (colmap('RADIAL', 500, 320, 240, -0.3, 0.1),
                       shared_focal(-0.3, 0.1, 0, 0, 0)),
    'COLMAP, OPENCV': (colmap('OPENCV', 500, 510, 320, 240, *BENT.distortion[:4]), BENT),
    'COLMAP, FULL_OPENCV': (colmap('FULL_OPENCV', 500, 510, 320, 240, *RATIONAL.distortion),
                            RATIONAL),
    'COLMAP, OPENCV_FISHEYE': (colmap('OPENCV_FISHEYE', 500, 510, 320, 240, *FISHEYE.distortion),
                               FISHEYE),
    'COLMAP, SIMPLE_RADIAL_FISHEYE': (
        colmap('SIMPLE_RADIAL_FISHEYE', 500, 320, 240, -0.03),
        shared_focal(-0.03, 0, 0, 0, model='equidistant')),
    'COLMAP, RADIAL_FISHEYE': (
        colmap('RADIAL_FISHEYE', 500, 320, 240, -0.03, 0.01),
        shared_focal(-0.03, 0.01, 0, 0, model='equidistant')),
    'COLMAP, cameras that agree': (
        colmap('PINHOLE', 500, 510, 320, 240) + '2 PINHOLE 640 480 500.0 510 320 240\n', PINHOLE),
}


@pytest.fixture
def read(tmp_path):
    """Return a function that reads a text, from a file whose name says nothing."""
    def of(text):
        (tmp_path / 'file').write_text(text, encoding='utf-8')
        return read_calibration(tmp_path / 'file')
    return of


@pytest.mark.parametrize('name', CASES)
def test_formats(read, name):
    text, expected = CASES[name]
    camera = read(text).camera()
    assert (camera.model, camera.distortion) == (expected.model, expected.distortion)
    assert (camera.width, camera.height) == (640, 480)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == pytest.approx(
        (expected.fx, expected.fy, expected.cx, expected.cy))


@pytest.mark.parametrize('suffix', ['.yml', '.xml', '.json'])
def test_file_storage_of_opencv(tmp_path, suffix):
    path = str(tmp_path / f'calibration{suffix}')
    storage = cv2.FileStorage(path, cv2.FILE_STORAGE_WRITE)
    storage.write('calibration_time', 'today: all day')
    storage.write('image_width', 640)
    storage.write('image_height', 480)
    storage.write('camera_matrix', np.array(K))
    storage.write('distortion_coefficients', np.array([BENT_5.distortion]).T)
    storage.release()
    assert read_calibration(path).camera() == BENT_5


@pytest.mark.parametrize('text, expected', [
    (json.dumps(K), PINHOLE),
    (json.dumps({'K': K, 'D': BENT.distortion}), BENT),
    ('500 0 319.5\n0 510 239.5\n0 0 1\n', PINHOLE),
    ('500,0,319.5\n0,510,239.5\n0,0,1\n', PINHOLE),
    ('500 0 319.5 0\n0 510 239.5 0\n0 0 1 0\n0 0 0 1\n', PINHOLE),
    ('# fx fy cx cy\n500 510 319.5 239.5\n', PINHOLE),
    ('500 510 319.5 239.5 -0.3 0.1 0.001 -0.002 0.05', BENT_5),
    (ORB_SLAM2.replace('Camera.width: 640\nCamera.height: 480\n', ''), BENT_5),
    (json.dumps({key: OURS[key] for key in ('fx', 'fy', 'cx', 'cy')}), PINHOLE),
    (KITTI + 'Tr: 1 0 0 0 0 1 0 0 0 0 1 0\n', PINHOLE),
])
def test_without_a_size_it_is_that_of_the_images(read, text, expected):
    calibration = read(text)
    assert calibration.size is None
    assert calibration.camera((640, 480)) == expected
    with pytest.raises(InputError, match='file: states no image size'):
        calibration.camera()


@pytest.mark.parametrize('text, words', [
    ('', 'no known format of a calibration: expected COLMAP .* Nerfstudio .* camera.json'),
    ('Dear diary', 'no known format'),
    ('{"version": 3}', 'no known format'),
    ('name: robot\n', 'no known format'),
    ('{', 'cannot be read as JSON'), ('a: [1', 'cannot be read as YAML'),
    ('<a>', 'cannot be read as XML'),
    ('{"width": 64}', r'height: missing \(read as camera.json'),
    (json.dumps({**OURS, 'fx': 'a'}), "fx: got 'a', expected a finite number"),
    (json.dumps({**OURS, 'fx': float('nan')}), 'fx: got nan'),
    (json.dumps({**OURS, 'fx': 0}), 'fx: got 0'),
    (json.dumps({**OURS, 'width': 0}), 'width: got 0'),
    (json.dumps({**OURS, 'width': 640.5}), 'width: got 640.5'),
    (json.dumps({**OURS, 'width': True}), 'width: got True'),
    (json.dumps({**OURS, 'distortion': 0.1}), 'distortion: got 0.1, expected a list'),
    (json.dumps({**OURS, 'distortion': [0.1]}), 'distortion with 1 coefficients, expected 0, 4'),
    (json.dumps({**OURS, 'distortion': [0.1] * 15}), 'distortion with 15 coefficients'),
    (json.dumps({**OURS, 'distortion': [0.1] * 5, 'model': 'fisheye'}), 'efficients, expected 4'),
    (json.dumps({**OURS, 'distortion': [0.1] * 4, 'model': 'ds'}), "distortion model 'ds'"),
    (json.dumps({**OURS, 'model': 5}), 'model: got 5'),
    (json.dumps({**OURS, 'fx': 0.78, 'fy': 1.06, 'cx': 0.5, 'cy': 0.5}),
     '0.78 and 1.06 pixels make an image of 640x480 pixels 821 focal lengths wide'),
    (json.dumps({**OURS, 'fx': 2000}), '2000 and 510 pixels differ by a factor of 3.9'),
    (json.dumps({**OPEN3D, 'intrinsic_matrix': [1, 2]}), 'got 2 numbers, expected a matrix'),
    (json.dumps({**OPEN3D, 'intrinsic_matrix': [[500, 9, 320], [0, 500, 240], [0, 0, 1]]}),
     r'\[500.0, 9.0, 320.0\]'),
    (KALIBR.replace('pinhole', 'omni'), "cam0: camera_model 'omni' cannot be used, only pinhole"),
    (KALIBR.replace('pinhole', 'eucm'), "'eucm'"), (KALIBR.replace('pinhole', 'ds'), "'ds'"),
    (KALIBR.replace('radtan', 'fov'), "distortion model 'fov'"),
    (KALIBR.replace(', 319.5', ''), 'cam0: intrinsics: got 3 numbers'),
    (KALIBR.replace('[640, 480]', '[640]'), 'cam0: resolution'),
    ('%YAML:1.0\nCamera.type: "PinHole"\nCamera.fx: 262.5\n',
     r'Camera.fy: missing \(read as ORB-SLAM'),
    (ORB_SLAM3.replace('KannalaBrandt8', 'Spherical'), "Camera.type: got 'Spherical'"),
    (VINS.replace('PINHOLE', 'MEI'), 'model_type: got MEI'),
    (json.dumps({**TRANSFORMS, 'camera_model': 'EQUIRECTANGULAR'}), 'EQUIRECTANGULAR'),
    (json.dumps({**TRANSFORMS, 'k4': 0.1}), 'k4: got 0.1'),
    (json.dumps({'camera_angle_x': 0.7, 'frames': []}), 'w: missing'),
    (json.dumps({'camera_angle_x': 0, 'w': 640, 'h': 480}), 'camera_angle_x: got 0'),
    (json.dumps({**TRANSFORMS, 'frames': [{'fl_x': 500}, {'fl_x': 700}]}), '500 and 700'),
    (colmap('FOV', 500, 510, 320, 240, 0.9), 'camera model FOV cannot be used, only SIMPLE_PIN'),
    (colmap('PINHOLE', 500, 320, 240), 'camera 1: got 3 parameters, PINHOLE has 4: fx, fy, cx'),
    (colmap('PINHOLE', 500, 510, 320, 'x'), "camera 1: cy: got 'x'"),
    (colmap('PINHOLE', 500, 510, 320, 240) + '2 PINHOLE 640 480 300 510 320 240\n',
     'cameras 1 and 2 differ .focal lengths 500 and 300.*keep the line'),
    (KITTI.replace('P2: 5.00', 'P2: 7.00'),
     'the cameras P0, P1, P2, P3 differ: .* leave --camera out'),
    (KITTI.replace(' 510', ''), 'P0: got 11 numbers, expected a matrix'),
])
def test_what_cannot_be_used(read, text, words):
    with pytest.raises(InputError, match=words) as error:
        read(text)
    assert 'file: ' in str(error.value) and '\n' not in str(error.value)


def test_files_that_are_no_text(tmp_path):
    with pytest.raises(InputError, match='absent.yaml: cannot be read: No such file'):
        read_calibration(tmp_path / 'absent.yaml')
    (tmp_path / 'cameras.bin').write_bytes(b'\x01\x00\xff\xfe\x80' * 20)
    with pytest.raises(InputError, match='cameras.bin: is no text'):
        read_calibration(tmp_path / 'cameras.bin')


def test_several_cameras_of_kalibr(read):
    second = KALIBR.replace('cam0', 'cam1').replace('500.0', '900.0')
    calibration = read(second + KALIBR)
    assert calibration.camera() == BENT
    assert calibration.note.startswith('takes cam0 of cam1, cam0: for another camera')
    assert read(second).camera().fx == 900.0


def test_yaml_constructs_no_objects(read):
    with pytest.raises(InputError):
        read('fx: !!python/object/apply:os.system ["exit 1"]\n')


@pytest.mark.parametrize('name, coefficients, expected', [
    ('', (), ('plumb_bob', ())),
    ('whatever', (0, 0, 0), ('plumb_bob', ())),
    ('RadTan', (.1, .2, 0, 0), ('plumb_bob', (.1, .2, 0, 0, 0))),
    ('plumb_bob', range(1, 9), ('rational_polynomial', tuple(range(1, 9)))),
    ('', (.1, 0, 0, 0, 0, 0, 0, 0), ('plumb_bob', (.1, 0, 0, 0, 0))),
    ('', range(1, 13), ('rational_polynomial', tuple(range(1, 13)))),
    ('thin_prism', range(1, 15), ('rational_polynomial', tuple(range(1, 15)))),
    ('equi', (), ('equidistant', (0, 0, 0, 0))),
    ('Kannala-Brandt 4', (1, 2, 3, 4, 0), ('equidistant', (1, 2, 3, 4))),
])
def test_lenses(name, coefficients, expected):
    assert lens(name, coefficients) == expected


@pytest.fixture
def folder(tmp_path, save, block_image):
    """Write two images of 64x48."""
    (tmp_path / 'images').mkdir()
    for i in range(2):
        (tmp_path / 'images' / f'{i}.png').write_bytes(save(block_image(), 'PNG'))
    return tmp_path / 'images'


def test_another_resolution_is_scaled(read, folder, caplog):
    sequence = open_image_folder(folder, read(json.dumps(OURS)))
    assert next(iter(sequence)).camera == PINHOLE.resized(64, 48)
    note, = sequence.notes
    assert note.endswith('file is for images of 640x480 pixels and is scaled to 64x48')
    assert [record.getMessage() for record in caplog.records] == [note]
    with pytest.raises(InputError, match='file is for images of 640x400 .* 0.png has 64x48'):
        open_image_folder(folder, read(json.dumps({**OURS, 'height': 400})))


def test_unusual_intrinsics_are_noted(read, folder):
    sequence = open_image_folder(folder, read('50 50 15.5 11.5'))
    note, = sequence.notes
    assert '(15.5, 11.5) is far from the middle of 64x48' in note
    with pytest.raises(InputError, match='file: .* 0.5 and 0.5 pixels .* 64x48 pixels 128 focal'):
        open_image_folder(folder, read('0.5 0.5 0.5 0.5'))
    assert open_image_folder(folder, read('50 50 31.5 23.5')).notes == []


def test_calibrations_from_the_field(shared_data):
    folder = shared_data.field('calibrations')
    centred = Camera(320, 240, 262.5, 262.5, 159.75, 119.75)
    for name, centre in {
            'camchain.yaml': 159.75, 'ros.yaml': 159.75, 'd4.json': 159.75, 'pinhole.json': 159.75,
            'no_distortion.json': 159.75, 'strings.json': 159.75, 'K.json': 160.0,
            'o3d.json': 160.0, 'cameras.txt': 159.5, 'transforms.json': 159.5}.items():
        camera = read_calibration(folder / name).camera((320, 240))
        assert camera == Camera(320, 240, 262.5, 262.5, centre, centre - 40), name
    full = read_calibration(folder / 'full640.json').camera().scaled_to(320, 240)
    assert full == centred
    with pytest.raises(InputError, match='2.625 and 2.625 pixels .* 320x240 .* 122 '):
        read_calibration(folder / 'bad_focal.json')
    with pytest.raises(InputError, match='Camera.fy: missing'):
        read_calibration(folder / 'orbslam.yaml')


def test_names_of_formats_differ():
    assert len({known.name for known in FORMATS}) == len(FORMATS)


def test_extrinsics_of_a_pair(tmp_path):
    """Kalibr's chain maps the first camera's points to the second; EuRoC has poses in the body."""
    T_first_second = se3.exp([0.01, -0.02, 0.3, 0.1, 0.02, -0.03])
    rows = '\n'.join(f'  - {row}' for row in se3.inverse(T_first_second).tolist())
    second = KALIBR.replace('cam0', 'cam1').replace('500.0', '900.0')
    chain = tmp_path / 'camchain.yaml'
    chain.write_text(f'{KALIBR}{second}  T_cn_cnm1:\n{rows}\n')
    assert np.allclose(pair_extrinsics(chain, chain), T_first_second)
    assert read_calibration(chain).camera().fx == 500.0
    assert read_calibration(chain, number=1).camera().fx == 900.0

    T_body_first = se3.exp([0.4, 0.1, -0.2, 1.0, 2.0, 3.0])
    euroc = [tmp_path / 'first.yaml', tmp_path / 'second.yaml']
    for path, T in zip(euroc, (T_body_first, T_body_first @ T_first_second)):
        text = euroc_sensor((640, 480), (500, 500, 320, 240), (0, 0, 0, 0))
        path.write_text(re.sub(r'data: .*', f'data: {T.ravel().tolist()}', text, count=1))
    assert np.allclose(pair_extrinsics(*euroc), T_first_second)
    assert pair_extrinsics(None, euroc[1]) is None and pair_extrinsics(None, None) is None
    euroc[1].write_text(euroc[1].read_text().replace('data: [', 'data: [7, ', 1))
    with pytest.raises(InputError, match='second.yaml: T_BS.*16 numbers'):
        pair_extrinsics(*euroc)
