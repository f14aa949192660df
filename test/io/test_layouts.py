# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Folders as data sets arrange them."""

import logging
import shutil

from calibration_files import euroc_sensor
import numpy as np
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.image_folder import open_image_folder
from recon3r_ros.io.layouts import DATA_SETS

pytestmark = pytest.mark.usefixtures('no_new_threads')


@pytest.fixture
def pictures(save, block_image):
    """Return a function that writes images of 64x48 with these names into a folder."""
    def write(folder, *names):
        folder.mkdir(parents=True, exist_ok=True)
        data = save(block_image(), 'PNG')
        for name in names:
            (folder / name).write_bytes(data)
        return folder
    return write


@pytest.fixture
def tum(tmp_path, pictures):
    """Write a sequence of TUM RGB-D, with depth."""
    folder = tmp_path / 'rgbd_dataset'
    pictures(folder / 'rgb', '1.5.png', '1.6.png')
    pictures(folder / 'depth', '1.51.png', '1.61.png')
    (folder / 'rgb.txt').write_text(
        '# color images\n# timestamp filename\n1.500000 rgb/1.5.png\n1.600000 rgb/1.6.png\n')
    return folder


SENSOR = euroc_sensor((64, 48), (50.5, 51.5, 30.5, 23.5), (-0.28, 0.07, 0.0002, 1.7e-05))


@pytest.fixture
def euroc(tmp_path, pictures):
    """Write a sequence of EuRoC, with two cameras."""
    folder = tmp_path / 'V1_01_easy'
    for name, first, x in (('cam0', 50.5, '0.0'), ('cam1', 60.5, '0.11')):
        camera = folder / 'mav0' / name
        pictures(camera / 'data', '1403715273262142976.png', '1403715273312143104.png')
        (camera / 'data.csv').write_text(
            '#timestamp [ns],filename\r\n'
            '1403715273262142976,1403715273262142976.png\r\n'
            '1403715273312143104,1403715273312143104.png\r\n')
        (camera / 'sensor.yaml').write_text(SENSOR.replace('50.5', str(first)).replace(
            '[1.0, 0.0, 0.0, 0.0,', f'[1.0, 0.0, 0.0, {x},'))
    return folder


@pytest.fixture
def kitti(tmp_path, pictures):
    """Write images 0, 1 and 3 of a sequence of KITTI odometry, grey and in colour."""
    folder = tmp_path / 'sequences' / '00'
    for name in ('image_0', 'image_1', 'image_2', 'image_3'):
        pictures(folder / name, '000000.png', '000001.png', '000003.png')
    (folder / 'times.txt').write_text(
        ''.join(f'{t:e}\n' for t in (0.0, 0.1036, 0.2072, 0.3108)))
    (folder / 'calib.txt').write_text(''.join(
        f'P{i}: 5{i} 0 31 {-i} 0 5{i} 23 0 0 0 1 0\n' for i in range(4)))
    return folder


def test_tum(tum, caplog):
    with caplog.at_level(logging.INFO):
        frames = list(open_image_folder(tum))
    assert [(f.name, f.stamp_ns) for f in frames] == [
        ('1.5', 1500000000), ('1.6', 1600000000)]
    assert frames[0].camera is None
    line, = caplog.records
    assert 'TUM RGB-D' in line.getMessage() and 'rgb.txt' in line.getMessage()


@pytest.mark.parametrize('part', ['.', 'mav0', 'mav0/cam0', 'mav0/cam0/data'])
def test_euroc(euroc, part):
    frames = list(open_image_folder(euroc / part))
    assert [f.stamp_ns for f in frames] == [1403715273262142976, 1403715273312143104]
    assert frames[0].camera == Camera(64, 48, 50.5, 51.5, 30.5, 23.5,
                                      (-0.28, 0.07, 0.0002, 1.7e-05, 0.0))
    assert next(iter(open_image_folder(euroc / part, calibrated=False))).camera is None


def test_calibration_with_the_first_line_of_opencv(euroc):
    (euroc / 'mav0' / 'cam0' / 'sensor.yaml').write_text('%YAML:1.0\n' + SENSOR)
    assert next(iter(open_image_folder(euroc))).camera.fx == 50.5


def test_right_camera_of_euroc(euroc):
    assert next(iter(open_image_folder(euroc / 'mav0' / 'cam1'))).camera.fx == 60.5


@pytest.mark.parametrize('listing', [None, '#timestamp [ns],filename\n'])
def test_euroc_without_list_has_stamps_in_names(euroc, listing):
    path = euroc / 'mav0' / 'cam0' / 'data.csv'
    if listing is None:
        path.unlink()
    else:
        path.write_text(listing)
    assert [f.stamp_ns for f in open_image_folder(euroc)] == [
        1403715273262142976, 1403715273312143104]


@pytest.mark.parametrize('old, new, reason', [
    ('pinhole', 'omni', 'omni'),
    ('radial-tangential', 'fov', 'fov'),
    ('50.5,', 'f,', 'intrinsics'),
    ('rate_hz: 20', 'rate_hz: [', 'YAML'),
    (SENSOR, '- 3', 'no known format'),
    ('[64, 48]', '[752, 480]', 'is for images of 752x480'),
])
def test_calibration_of_euroc_that_cannot_be_used(euroc, old, new, reason):
    path = euroc / 'mav0' / 'cam0' / 'sensor.yaml'
    path.write_text(SENSOR.replace(old, new))
    with pytest.raises(InputError, match=reason) as caught:
        open_image_folder(euroc)
    assert str(path) in str(caught.value)
    assert len(open_image_folder(euroc, calibrated=False)) == 2


@pytest.mark.parametrize('part, focal', [
    ('.', 52), ('image_0', 50), ('image_1', 51), ('image_2', 52), ('image_3', 53)])
def test_kitti_odometry(kitti, part, focal):
    frames = list(open_image_folder(kitti / part))
    assert [f.stamp_ns for f in frames] == [0, 103600000, 310800000]
    assert frames[0].camera == Camera(64, 48, focal, focal, 31, 23)


@pytest.mark.parametrize('part, focal', [('.', 50), ('image_0', 50)])
def test_kitti_calibration_without_times(kitti, part, focal):
    """The grey images and their calibration, as some copy them."""
    (kitti / 'times.txt').unlink()
    for number in (1, 2, 3):
        shutil.rmtree(kitti / f'image_{number}')
    frames = list(open_image_folder(kitti / part, fps=10.0))
    assert [f.stamp_ns for f in frames] == [0, 100000000, 200000000]
    assert frames[0].camera == Camera(64, 48, focal, focal, 31, 23)
    assert next(iter(open_image_folder(kitti / part, calibrated=False))).camera is None


def test_kitti_odometry_grey_alone(kitti):
    for number in (2, 3):
        (kitti / f'image_{number}').rename(kitti / f'other_{number}')
    assert next(iter(open_image_folder(kitti))).camera.fx == 50


def test_calibration_for_another_size(kitti):
    (kitti / 'calib.txt').write_text('P2: 700 0 600 0 0 700 180 0 0 0 1 0\n')
    with pytest.raises(InputError, match=r'calib.txt: principal point 600.0, 180.0 .* 64x48'):
        open_image_folder(kitti)


@pytest.mark.parametrize('text, reason', [
    ('0.0\n0.1\n', r'times.txt: has 2 lines for the 3 images'),
    ('0.0\nx\n0.2\n0.3\n', "times.txt line 2: 'x' is not a stamp"),
    ('0.0\n0.1\n0.2\n0.1\n', 'times.txt line 4: stamp 0.1 is not after'),
])
def test_times_that_cannot_be_used(kitti, text, reason):
    (kitti / 'times.txt').write_text(text)
    with pytest.raises(InputError, match=reason):
        open_image_folder(kitti)


def test_images_that_are_not_numbered_get_a_line_each(kitti):
    (kitti / 'times.txt').write_text('0.0\n0.5\n0.75\n')
    (kitti / 'image_2' / '000003.png').rename(kitti / 'image_2' / 'last.png')
    assert [f.stamp_ns for f in open_image_folder(kitti)] == [0, 500000000, 750000000]


def test_kitti_raw(tmp_path, pictures):
    drive = tmp_path / '2011_09_26' / '2011_09_26_drive_0001_sync'
    pictures(drive / 'image_02' / 'data', '0000000000.png', '0000000001.png')
    (drive / 'image_02' / 'timestamps.txt').write_text(
        '2011-09-26 13:02:25.951199337\n2011-09-26 13:02:26.054000000\n')
    (drive.parent / 'calib_cam_to_cam.txt').write_text(
        'calib_time: 09-Jan-2012 13:57:47\nS_02: 128 96\nK_02: 90 0 64 0 91 48 0 0 1\n'
        'D_02: -0.3 0.2 0 0 -0.1\nS_rect_02: 64 48\n'
        'P_rect_02: 55 0 31 0 0 55 23 0 0 0 1 0\n')
    for given in (drive.parent, drive, drive / 'image_02', drive / 'image_02' / 'data'):
        frames = list(open_image_folder(given))
        assert [f.stamp_ns for f in frames] == [1317042145951199337, 1317042146054000000]
        assert frames[0].camera == Camera(64, 48, 55, 55, 31, 23)
    text = (drive.parent / 'calib_cam_to_cam.txt').read_text()
    (drive.parent / 'calib_cam_to_cam.txt').write_text(
        text.replace('S_rect_02: 64 48', 'S_rect_02: 60 40').replace('S_02: 128 96', 'S_02: 64 48')
        .replace('90 0 64 0 91 48', '90 0 32 0 91 24'))
    assert next(iter(open_image_folder(drive))).camera == Camera(
        64, 48, 90, 91, 32, 24, (-0.3, 0.2, 0, 0, -0.1))
    (drive.parent / 'calib_cam_to_cam.txt').write_text(text.replace('64 48', '60 40'))
    with pytest.raises(InputError, match='is for images of 128x96 pixels, not of 64x48'):
        open_image_folder(drive)


def test_seven_scenes(tmp_path, pictures, caplog):
    folder = pictures(tmp_path / 'seq-01', *(
        f'frame-{i:06d}.{kind}.png' for i in range(3) for kind in ('color', 'depth')))
    for i in range(3):
        (folder / f'frame-{i:06d}.pose.txt').write_text('1')
    with caplog.at_level(logging.INFO):
        frames = list(open_image_folder(folder))
    assert [f.name for f in frames] == [f'frame-{i:06d}.color' for i in range(3)]
    line, = caplog.records
    assert '6 files (frame-000000.depth.png, frame-000000.pose.txt, frame-000001.depth.png, ...)' \
        in line.getMessage()


def test_only_depth_images_are_images(tmp_path, pictures):
    folder = pictures(tmp_path / 'd', 'depth0.png', 'depth1.png')
    assert len(open_image_folder(folder)) == 2


def test_scannet(tmp_path, pictures):
    pictures(tmp_path / 'color', '0.png', '1.png', '10.png', '2.png')
    pictures(tmp_path / 'depth', '0.png', '1.png', '10.png', '2.png')
    (tmp_path / 'intrinsic').mkdir()
    (tmp_path / 'intrinsic' / 'intrinsic_color.txt').write_text(
        '60.5 0 32.5 0\n0 61.5 24.5 0\n0 0 1 0\n0 0 0 1\n')
    frames = list(open_image_folder(tmp_path))
    assert [f.name for f in frames] == ['0', '1', '2', '10']
    assert frames[0].camera == Camera(64, 48, 60.5, 61.5, 32.5, 24.5)
    (tmp_path / 'intrinsic' / 'intrinsic_color.txt').write_text('60.5 0\n0 61.5\n')
    with pytest.raises(InputError, match='intrinsic_color.txt: principal point 0.0, 61.5'):
        open_image_folder(tmp_path)


def test_only_folder_of_images_is_taken(tmp_path, pictures, caplog):
    folder = pictures(tmp_path / 'recording' / 'left', 'a.png', 'b.png')
    pictures(tmp_path / 'recording' / 'depth', 'a.png')
    (tmp_path / 'recording' / 'logs').mkdir()
    with caplog.at_level(logging.INFO):
        assert len(open_image_folder(tmp_path)) == 2
    assert str(folder) in caplog.records[0].getMessage()


def test_several_folders_of_images_are_named(tmp_path, pictures):
    for name in ('left', 'right'):
        pictures(tmp_path / name, 'a.png')
    with pytest.raises(InputError, match=r'2 of its folders have images; give one of .*left, .*'
                       'right'):
        open_image_folder(tmp_path)


def test_table_beside_images_is_no_list_of_stamps(tmp_path, pictures):
    pictures(tmp_path / 'data', 'a.png', 'b.png')
    (tmp_path / 'data.csv').write_text('image,label\na.png,cat\n')
    assert len(open_image_folder(tmp_path)) == 2


def test_wrapped_data_set_is_found(euroc):
    assert next(iter(open_image_folder(euroc.parent))).camera.fx == 50.5


def test_what_cannot_be_read_is_named_with_the_remedy(tmp_path, pictures, caplog):
    folder = tmp_path / 'phone'
    folder.mkdir()
    for i in range(5):
        (folder / f'IMG_{i}.DNG').write_text('x')
    with pytest.raises(InputError, match='its 5 images end in .dng, .* convert them to JPEG'):
        open_image_folder(folder)
    pictures(folder, 'a.png')
    assert len(open_image_folder(folder)) == 1
    assert '5 files (IMG_0.DNG, IMG_1.DNG, IMG_2.DNG, ...) cannot be read: convert them to ' \
        'JPEG' in caplog.text


@pytest.mark.parametrize('kind, suffix', [
    ('WEBP', 'webp'), ('JPEG2000', 'jp2'), ('PPM', 'pgm'), ('PPM', 'pnm'), ('TIFF', 'tif')])
def test_suffixes(tmp_path, save, block_image, kind, suffix):
    options = {'lossless': True} if kind == 'WEBP' else {}
    image = block_image(channels=1 if suffix == 'pgm' else 3)
    for i in range(2):
        (tmp_path / f'{i}.{suffix}').write_bytes(save(image, kind, **options))
    frames = list(open_image_folder(tmp_path))
    assert len(frames) == 2
    np.testing.assert_array_equal(frames[0].image, image)


def test_every_layout_ignores_other_folders(tmp_path, pictures):
    pictures(tmp_path, 'a.png')
    pictures(tmp_path / 'data', 'a.png')
    for layout in DATA_SETS.values():
        assert list(layout(tmp_path, 30.0)) == []


@pytest.mark.parametrize('name, count, first_ns', [
    ('tum_rgbd', 40, 1305031910765238000), ('euroc', 3, 1403715273262142976)])
def test_field(shared_data, name, count, first_ns):
    sequence = open_image_folder(shared_data.field('folders_of_data_sets') / name)
    frames = list(sequence)
    assert (len(sequence), len(frames), frames[0].stamp_ns) == (count, 3, first_ns)
