# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Images with pasted objects, and masks of static worlds."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from recon3r_ros.bench import static_worlds
from recon3r_ros.bench.composites import (
    at_rest,
    drift,
    Mover,
    paste,
    there_and_back,
    with_mover,
    write_images,
    zoom_placement,
    zoomed,
)
from recon3r_ros.bench.simulated import simulated_pack
from recon3r_ros.bench.static_worlds import cases, KINDS, measure, score
from recon3r_ros.errors import InputError
from recon3r_ros.io.image_folder import open_image_folder
from recon3r_ros.sim import SceneConfig

FRAMES = 4


@pytest.fixture
def mover(tmp_path: Path) -> Path:
    """Pack of a bright square of 16 pixels that moves by 3 before a dark background, 64x48."""
    frames = []
    for n in range(FRAMES):
        mask = np.zeros((48, 64), bool)
        mask[20:36, 10 + 3 * n:26 + 3 * n] = True
        frames.append((np.where(mask[..., None], (250, 200, 150), 5).astype(np.uint8), mask))
    write_images(tmp_path / 'mover', frames)
    return tmp_path / 'mover'


def worlds(count: int, shape: tuple[int, ...] = (60, 200)) -> list[np.ndarray]:
    """Images of grey levels between those of the mover and its background."""
    return [np.random.default_rng(n).integers(50, 100, shape, np.uint8) for n in range(count)]


def scene(**settings: int) -> SceneConfig:
    """Return a small scene of a few frames."""
    return SceneConfig(seed=1, frames=5, width=160, height=120, **settings)


@pytest.mark.parametrize('shape', [(60, 200), (60, 200, 3), (200, 60)])
def test_pasted_pixels_are_those_of_the_mask(mover: Path, shape: tuple[int, ...]) -> None:
    images = worlds(9, shape)
    made = list(with_mover(images, Mover.of_pack(mover)))
    assert len(made) == len(images)
    for image, (composite, truth) in zip(images, made):
        assert composite.shape == image.shape and truth.shape == image.shape[:2]
        assert np.array_equal(composite[~truth], image[~truth])
        assert (composite[truth] > 140).all(), 'nothing of its own background'
        # A third of the images' height, which is 0.8 of the world's, less half a pixel of theirs
        # at either side
        scale = 0.8 * shape[0] / 48
        assert truth.any(axis=1).sum() == pytest.approx(15.5 * scale, abs=0.5 * scale + 1)


def test_an_object_is_copied_exactly_and_cut_off_at_the_border() -> None:
    image, source = worlds(2, (40, 50))
    mask = np.zeros(source.shape, bool)
    mask[5:15, 30:45] = True
    composite, truth = paste(image, source, mask, (1.0, 1.0), (10.0, -8.0))
    assert truth.sum() == 7 * 10, 'three of ten rows and five of fifteen columns are outside'
    assert np.array_equal(composite[:7, 40:], source[8:15, 30:40])
    assert np.array_equal(composite[~truth], image[~truth])


def test_the_object_drifts_and_turns_around(mover: Path) -> None:
    made = list(with_mover(worlds(200), Mover.of_pack(mover)))
    centres = np.array([np.nonzero(truth)[1].mean() + 0.5 for _, truth in made]) / 200
    assert centres[0] == pytest.approx(0.3, abs=0.005)
    assert centres == pytest.approx([drift(n) for n in range(200)], abs=0.005)
    places = np.array([drift(n) for n in range(1000)])
    assert places.min() == pytest.approx(0.2) and places.max() == pytest.approx(0.8)
    steps = np.abs(np.diff(places))
    assert steps.max() == pytest.approx(0.004) and np.median(steps) == pytest.approx(0.004)


def test_the_video_goes_back_without_a_jump() -> None:
    assert [there_and_back(n, 4) for n in range(10)] == [0, 1, 2, 3, 2, 1, 0, 1, 2, 3]
    assert [there_and_back(n, 2) for n in range(4)] == [0, 1, 0, 1]
    assert [there_and_back(n, 1) for n in range(3)] == [0, 0, 0]


def test_a_camera_at_rest_has_noise_around_the_object(mover: Path) -> None:
    image = worlds(1, (96, 256, 3))[0]
    made = list(at_rest(image, 6, Mover.of_pack(mover), 'case'))
    for n, (composite, truth) in enumerate(made):
        left = 10 + 3 * there_and_back(n, FRAMES)
        rows, columns = np.nonzero(truth)
        # Four times as wide, twice as high, less half a pixel of the source at either side
        assert (columns.min(), columns.max() + 1) == (4 * left + 2, 4 * left + 62)
        assert (rows.min(), rows.max() + 1) == (41, 71)
        noise = composite[~truth].astype(float) - image[~truth]
        assert noise.std() == pytest.approx(2, rel=0.1) and abs(noise.mean()) < 0.1
    again = [composite for composite, _ in at_rest(image, 6, Mover.of_pack(mover), 'case')]
    other = next(at_rest(image, 6, Mover.of_pack(mover), 'other case'))[0]
    assert np.array_equal(made[5][0], again[5]), 'the same noise in every run'
    assert not np.array_equal(made[0][0], made[1][0]) and not np.array_equal(made[0][0], other)


@pytest.mark.parametrize('size', [(160, 90), (61, 200)])
def test_a_zoom_shows_no_border(size: tuple[int, int]) -> None:
    width, height = size
    for n in range(60):
        view = zoom_placement(width, height, n)
        inside = cv2.warpAffine(np.ones((height, width), np.float32), view, size, borderValue=0)
        assert inside.min() == 1
    columns = np.tile(np.arange(width, dtype=np.uint8), (height, 1))
    first, *_, last = zoomed(columns, 60)
    assert first.shape == columns.shape
    assert np.ptp(first) == pytest.approx(width / 1.2, abs=2)
    assert np.ptp(last) == pytest.approx(width / 1.436, abs=2)
    shift = zoom_placement(width, height, 59) @ ((width - 1) / 2, (height - 1) / 2, 1)
    assert shift - ((width - 1) / 2, (height - 1) / 2) == pytest.approx(
        (-0.118 * width, -0.059 * height))


def test_written_images_have_their_stamps(tmp_path: Path) -> None:
    images = worlds(2, (8, 12, 3))
    write_images(tmp_path / 'p', [(image, None) for image in images], [1_000_000_007, 2 * 10**9])
    frames = list(open_image_folder(tmp_path / 'p'))
    assert [frame.stamp_ns for frame in frames] == [1_000_000_007, 2 * 10**9]
    assert all(np.array_equal(f.image, image) for f, image in zip(frames, images))
    assert not list((tmp_path / 'p' / 'masks').iterdir()), 'no object, no truth'


def test_scores_by_hand(tmp_path: Path) -> None:
    def part(columns: int) -> np.ndarray:
        return np.tile(np.arange(8) < columns, (4, 1))

    write_images(tmp_path / 'pack', [(worlds(1, (4, 8))[0], part(4))] * 4)
    (tmp_path / 'own').mkdir()
    for n, mask in enumerate([255 * part(2), 255 * part(8), np.full((4, 8), 127)]):
        cv2.imwrite(str(tmp_path / 'own' / f'{n:06}.png'), mask.astype(np.uint8))
    found = score(tmp_path / 'own', tmp_path / 'pack')
    assert found.mean == pytest.approx((0.25 + 1) / 4) and found.most == 1
    assert found.outside == pytest.approx(0.5 / 4)
    assert found.jaccard == pytest.approx((0.5 + 0.5) / 4)
    assert found.unknown == 2, 'unknown throughout, and missing'


def test_wrong_focal_lengths_need_a_true_one(tmp_path: Path) -> None:
    assert [(c.kind, c.focal) for c in cases(tmp_path, KINDS)] == [
        ('static', None), ('mover', None), ('rest', None), ('zoom', None)]
    assert cases(tmp_path, KINDS)[0].camera is None
    simulated_pack(scene(moving_objects=0), tmp_path / 'p')
    found = cases(tmp_path / 'p', KINDS)
    assert [(c.kind, c.focal) for c in found] == [
        ('static', 1), ('focal', 0.6), ('focal', 1.6), ('mover', 1), ('mover', 0.6),
        ('mover', 1.6), ('rest', None), ('zoom', None)]
    true, wrong = found[0].camera, found[1].camera
    assert true is not None and wrong is not None
    assert (wrong.fx, wrong.fy, wrong.cx) == (0.6 * true.fx, 0.6 * true.fy, true.cx)


def test_what_cannot_be_used_is_named(tmp_path: Path, mover: Path) -> None:
    page = tmp_path / 'page.md'
    with pytest.raises(InputError, match='nowhere.*expected a folder of images'):
        measure([tmp_path / 'nowhere'], None, page)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(InputError, match='empty.*no images'):
        measure([tmp_path / 'empty'], None, page)
    with pytest.raises(InputError, match='empty: holds no masks.*give a pack of DAVIS'):
        measure([mover], tmp_path / 'empty', page)
    with pytest.raises(InputError, match="'cars'.*expected one of static, focal"):
        measure([mover], None, page, ['cars'])
    with pytest.raises(InputError, match="'rest' needs an object.*--mover"):
        measure([mover], None, page, ['rest'])
    cv2.imwrite(str(mover / 'masks' / '000001.png'), np.zeros((2, 2), np.uint8))
    with pytest.raises(InputError, match='000001.png.*expected'):
        Mover.of_pack(mover).frame(1)
    (mover / 'images' / '000002.png').unlink()
    with pytest.raises(InputError, match='masks/000002.png has no image'):
        measure([mover], mover, page)


@pytest.mark.large
def test_all_cases_of_a_small_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mover: Path,
                                    recon3r) -> None:
    monkeypatch.setattr(static_worlds, '_AT_REST', 5)
    monkeypatch.setattr(static_worlds, '_ZOOMED', 5)
    monkeypatch.setattr(static_worlds, '_FACTORS', (1.6,))
    world = tmp_path / 'world'
    simulated_pack(scene(moving_objects=0), world)
    page = tmp_path / 'docs' / 'page.md'
    outcome = recon3r('bench', '--static', world, '--mover', mover, '--output', page)
    assert outcome.status == 0
    text = page.read_text()
    rows = [line.split('|')[1:-1] for line in text.splitlines() if line.startswith('| world')]
    assert [row[1].strip() for row in rows[:4]] == ['1', '1.6'] * 2
    assert [len(row) for row in rows] == [8] * 4 + [7] * 2, 'at rest and zoom have no focal length'
    assert all(0 <= float(cell) <= 100 for row in rows for cell in row[1:])
    assert '![masks](page.png)' in text and page.with_suffix('.png').is_file()
    outcome = recon3r('bench', '--static', world, '--only', 'zoom', '--output', page)
    text = page.read_text()
    assert text.count('\n## ') == 1 and '## One image' in text and 'masks](' not in text
