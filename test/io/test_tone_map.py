# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Wide samples to 8 bits: what drifts stays in range, and nothing flickers."""

import numpy as np
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.io.tone_map import ToneMap

#: A scene of a thermal camera: 400 counts of contrast
SCENE = 29_500 + 200 * (1 + np.sin(np.arange(120)[:, None] / 9) * np.cos(np.arange(160) / 7))


def seen(shift=0.0, noise=0.0, seed=0, scene=SCENE):
    """Return an image of the scene with all values shifted."""
    rng = np.random.default_rng(seed)
    return np.round(scene + shift + rng.normal(0, noise, scene.shape)).astype(np.uint16)


def mapped(images, tone=None):
    """Return the images with 8 bits, as integers that may be subtracted."""
    tone = tone or ToneMap()
    return [tone(image).astype(int) for image in images]


def test_contrast_of_the_first_image():
    image, = mapped([seen()])
    low, high = np.percentile(image, (0.1, 99.9))
    assert 20 <= low <= 40 and 215 <= high <= 235


@pytest.mark.parametrize('drift', [0.7, -0.7, 1.5])
def test_drift_is_followed_steadily(drift):
    """Far beyond the first range; neighbours differ by about a grey level, noise aside."""
    images = mapped(seen(drift * n, 3.0, n) for n in range(300))
    for before, after in zip(images, images[1:]):
        assert abs(after - before).mean() < 3.5  # noise of 3 counts in both
        assert abs((after - before).mean()) < 1
    for image in images[::50]:
        low, high = np.percentile(image, (1, 99))
        assert low > 5 and high < 250 and high - low > 150
    assert np.corrcoef(images[0].reshape(-1), images[-1].reshape(-1))[0, 1] > 0.99


@pytest.mark.parametrize('step', [40, -40, 300, -2500])
def test_a_step_leaves_the_picture_as_it_was(step):
    """A correction of offsets behind a shutter, also while the camera moves and drifts."""
    still = mapped([seen(), seen(), seen(step), seen(step)])
    np.testing.assert_allclose(still[2], still[1], atol=1)
    moving = [np.roll(SCENE, 2 * n, 1) for n in range(30)]
    images = mapped(seen(0.5 * n + (step if n >= 20 else 0), 3.0, n, scene)
                    for n, scene in enumerate(moving))
    before = np.roll(images[19], 2, 1)
    assert abs((images[20] - before).mean()) < 1.5
    assert abs(images[20] - before).mean() < 4


def test_a_hot_pixel_and_a_hot_object_leave_the_rest_alone():
    tone = ToneMap()
    before, = mapped([seen()], tone)
    hot = seen()
    hot[50, 60] = 65_000
    after, = mapped([hot], tone)
    assert after[50, 60] == 255
    after[50, 60] = before[50, 60]
    np.testing.assert_allclose(after, before, atol=1)
    hot[40:80, 60:90] = 31_000
    images = mapped([hot] * 20, tone)
    for previous, image in zip([before, *images], images):
        rest = np.delete(image - previous, np.s_[40:80], 0)
        assert abs(rest).max() <= 2  # a level, and rounding


def test_another_scene_is_seen_at_once():
    images = mapped([seen(), seen(5000, scene=29_500 + (SCENE[::-1] - 29_500) * 2)])
    assert (images[1] == 255).mean() < 0.01 and (images[1] == 0).mean() < 0.01


def test_a_uniform_beginning_amplifies_nothing_and_is_got_over():
    assert np.ptp(mapped([np.array([[700, 701, 702]], np.uint16)])) <= 2
    shutter = seen(0, 1.0, 0, np.full_like(SCENE, 29_700))
    images = mapped([shutter, *[seen()] * 80])
    assert np.ptp(images[0]) < 12
    low, high = np.percentile(images[-1], (1, 99))
    assert 0 < low and high < 255


def test_the_same_images_give_the_same_again():
    images = [seen(3 * n, 3.0, n) for n in range(5)]
    for once, again in zip(mapped(images), mapped(images)):
        np.testing.assert_array_equal(once, again)


def test_sequence_that_is_iterated_again(tmp_path):
    from PIL import Image
    from recon3r_ros.io.sequences import open_sequence
    for n in range(6):
        Image.fromarray(seen(3 * n)).save(tmp_path / f'{n}.png')
    sequence = open_sequence(images=tmp_path)
    first = [frame.image for frame in sequence]
    np.testing.assert_array_equal(first, [frame.image for frame in sequence])
    assert len({image.tobytes() for image in first}) > 1


def test_order_of_values_over_the_full_range():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    image, = mapped([values])
    np.testing.assert_allclose(image.reshape(-1), np.arange(65536) / 257, atol=0.51)


def test_colours_share_one_range():
    red = np.dstack([seen(), seen(-150), seen(-150)])
    image, = mapped([red])
    difference = image[..., 0] - image[..., 1]
    assert difference.min() >= np.percentile(difference, 50) - 2


def test_8_bits_and_float_pictures():
    image = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
    assert ToneMap()(image) is image
    tone = ToneMap()
    np.testing.assert_array_equal(tone(image.astype(np.float32)), image)
    dark = np.full((6, 8), 0.9, np.float32)
    assert tone(dark).max() == 1  # of 255, as the image before it
    np.testing.assert_array_equal(ToneMap()(image / np.float32(255)), image)


@pytest.mark.parametrize('values', [(0.3, 8.0), (0.0, np.nan), (0.5, np.inf), (-3.0, 200.0),
                                    (0.0, 4000.0)])
def test_distances_are_no_picture(values):
    with pytest.raises(InputError, match='depth in metres'):
        ToneMap()(np.array([values], np.float32))


def test_other_samples():
    with pytest.raises(InputError, match='int32'):
        ToneMap()(np.zeros((2, 2), np.int32))
