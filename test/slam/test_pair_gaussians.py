# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Gaussians of a finished map by pairs: partners, frame, unit, and what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from keyframes_by_hand import at_x, CAMERA, keyframe, points_in_map, room_depth
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera, pixel_grid
from recon3r_ros.models.siu3r_engine import PixelGaussians, Siu3rEngine
from recon3r_ros.slam.pair_gaussians import NEIGHBOURS, pair_gaussians, partner_of
from recon3r_ros.slam.types import Keyframe

SIDE = 256
#: Of the network's Gaussians, of no particular length
QUAT_XYZW, SCALES = np.array([0.3, -0.6, 0.2, 0.9]) * 3, np.array([0.01, 0.02, 0.03])
AWAY = se3.exp([500, -200, 30, 0.4, -1.0, 0.3])


class Truth(Siu3rEngine):
    """
    Sees the room as it is, in a unit of its own for each pair.

    :param poses: of the views, in their order, metres
    :param units: of the pairs, metres
    """

    def __init__(self, poses: Sequence[NDArray[np.float64]], units: Sequence[float]) -> None:
        self.calls = list(zip(poses, units))

    def gaussians(self, images: Sequence[NDArray[np.uint8]],
                  intrinsics: Sequence[NDArray[np.float32]]) -> PixelGaussians:
        """Make them."""
        pose, unit = self.calls.pop(0)
        K = intrinsics[0] * SIDE
        rays = Camera(SIDE, SIDE, K[0, 0], K[1, 1], K[0, 2] - 0.5, K[1, 2] - 0.5).unproject(
            pixel_grid(SIDE, SIDE))
        points = rays * room_depth(pose, rays)[..., None] / unit

        def same(values: NDArray[np.float64]) -> NDArray[np.float32]:
            return np.broadcast_to(values, (SIDE, SIDE, len(values))).astype(np.float32)
        return PixelGaussians(points.astype(np.float32), same(np.array([0.7]))[..., 0],
                              same(SCALES), same(QUAT_XYZW), (images[0] / 255).astype(np.float32))


def poses(count: int) -> list[NDArray[np.float64]]:
    """Poses (4, 4) in the room, metres."""
    return [at_x(0.1 * i, yaw=0.05 * i) for i in range(count)]


def keyframes(count: int, scale: float = 1.0) -> list[Keyframe]:
    """Make keyframes of the room, moved away from the origin of the map."""
    made = [keyframe(i, pose, scale, textured=True) for i, pose in enumerate(poses(count))]
    return [replace(k, T_map_cam=AWAY @ k.T_map_cam) for k in made]


@pytest.mark.parametrize('scale', [1.0, 40.0])
def test_gaussians_have_the_frame_and_the_unit_of_the_map(scale: float) -> None:
    units = [0.2, 1.0, 30.0]
    made = keyframes(3, scale)
    found = pair_gaussians(made, Truth(poses(3), units))
    assert found.left_out == 0 and len(found.gaussians) == 3 * SIDE ** 2
    whole = CAMERA.resized(round(CAMERA.width * SIDE / CAMERA.height), SIDE)
    square = whole.cropped((whole.width - SIDE) // 2, 0, SIDE, SIDE)
    for n, (pose, unit) in enumerate(zip(poses(3), units)):
        part = slice(n * SIDE ** 2, (n + 1) * SIDE ** 2)
        points = points_in_map(pose, square, pixel_grid(SIDE, SIDE)).reshape(-1, 3)
        np.testing.assert_allclose(found.gaussians.means[part],
                                   se3.transform(AWAY, scale * points), atol=0.02 * scale)
        np.testing.assert_allclose(found.gaussians.scales[part][::999] / (scale * unit * SCALES),
                                   1, rtol=0.005)
        turned = se3.matrix_from_quat_xyzw(np.roll(
            found.gaussians.quaternions_wxyz[part][::999], -1, axis=1))
        np.testing.assert_allclose(turned, np.broadcast_to(
            made[n].T_map_cam[:3, :3] @ se3.matrix_from_quat_xyzw(QUAT_XYZW), turned.shape),
            atol=1e-5)


def test_what_is_dynamic_or_has_no_scale_is_left_out() -> None:
    made = keyframes(5)
    made[0].mask[10:20, 20:30] = True
    made[1] = replace(made[1], inverse_depth=np.zeros_like(made[1].inverse_depth))
    made[4] = replace(made[4], camera_name='other')  # without a partner
    # The network sees the third one's points behind its camera
    steps: list[int] = []
    found = pair_gaussians(made, Truth([poses(5)[n] for n in (0, 2, 3)], [1.0, -1.0, 1.0]),
                           lambda: steps.append(1))
    assert found.left_out == 3 and len(steps) == 5
    dynamic = 2 * SIDE ** 2 - len(found.gaussians)
    assert dynamic / SIDE ** 2 == pytest.approx(100 / CAMERA.height ** 2, rel=0.05)
    own = found.gaussians.means[:SIDE ** 2 - dynamic]
    u, v = np.rint(CAMERA.project(se3.transform(se3.inverse(made[0].T_map_cam), own))).T
    edge = 1e-3 + 0.5  # rounded as where they were made, but for float32
    assert not ((u > 20 - edge) & (u < 29 + edge) & (v > 10 - edge) & (v < 19 + edge)).any()


def test_bounds_of_depth_are_those_of_the_map() -> None:
    made = keyframes(2)
    engine = Truth(poses(2), [1.0, 1.0])
    near = engine.gaussians

    def with_sky(images: Sequence[NDArray[np.uint8]],
                 intrinsics: Sequence[NDArray[np.float32]]) -> PixelGaussians:
        found = near(images, intrinsics)
        found.points[:50] *= 100
        found.points[50:60] = np.nan
        return found
    engine.gaussians = with_sky  # type: ignore[method-assign]
    found = pair_gaussians(made, engine)
    assert len(found.gaussians) == 2 * (SIDE - 60) * SIDE


def test_keyframes_without_any_pair_are_named() -> None:
    made = keyframes(2)
    blind = [replace(k, inverse_depth=np.zeros_like(k.inverse_depth)) for k in made]
    for few in (made[:1], blind, []):
        with pytest.raises(InputError, match=f'{len(few)} keyframes, none with both'):
            pair_gaussians(few, Truth([], []))


def test_the_partner_is_the_neighbour_that_sees_most() -> None:
    made = [keyframe(i, at_x(x)) for i, x in enumerate([0.0, 0.9, 0.1, 0.5])]
    assert [partner_of(n, made).id for n in range(2)] == [2, 3]
    far = [made[0], *NEIGHBOURS * [keyframe(9, at_x(0, yaw=3.0))], made[2]]
    assert partner_of(0, far) is None
    assert partner_of(0, [*far[:-2], made[2]]) is made[2]
    assert partner_of(0, made[:1]) is None
