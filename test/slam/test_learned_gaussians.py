# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Gaussians of a finished map by a network: windows, frames, units, and what is left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from keyframes_by_hand import at_x, CAMERA, keyframe
import numpy as np
import pytest
from recon3r_ros.errors import InputError, Recon3rError
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import pixel_grid
from recon3r_ros.models.h3r import fitted, H3rEngine, PosedImage
from recon3r_ros.models.weights import read_gaussian_network
from recon3r_ros.nets.dust3r import Dust3r, Dust3rConfig
from recon3r_ros.nets.h3r import H3r, H3rConfig, H3rOutput, Views
from recon3r_ros.nets.layers.pixel_gaussians import CHANNELS, pixel_gaussians
from recon3r_ros.nets.vae_encoder import VaeConfig, VaeEncoder
from recon3r_ros.slam.learned_gaussians import learned_gaussians, WINDOW, windows_of
from recon3r_ros.slam.types import Keyframe
from safetensors.torch import save_file
import torch
from torch import nn

TINY = H3rConfig(VaeConfig((32, 32, 32), 1), 32, 4, 4, 4, 16, 64, 1, 16)


class Flat(nn.Module):
    """Says that all is at twice the least depth; counts its views."""

    config = TINY

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def forward(self, views: Views) -> H3rOutput:
        """Predict."""
        count, _, rows, columns = views.images.shape
        self.sizes.append(count)
        assert float(views.near.min()) == pytest.approx(1)
        depth = (2 * views.near)[:, None, None].expand(count, rows, columns)
        return H3rOutput(depth, depth, views.static, pixel_gaussians(
            torch.zeros(count, CHANNELS, rows, columns), depth, views.images, views.K,
            views.T_world_cam))


def keyframes(count: int, scale: float = 1.0) -> list[Keyframe]:
    """Make keyframes of a room, moved away from the origin of the map."""
    away = se3.exp([500 * scale, -200 * scale, 30, 0.4, -1.0, 0.3])
    made = [keyframe(i, at_x(0.1 * i), scale, textured=True) for i in range(count)]
    return [replace(k, T_map_cam=away @ k.T_map_cam) for k in made]


def test_windows_make_each_keyframe_once_and_are_full() -> None:
    assert windows_of(1) == windows_of(0) == []
    for count in range(2, 14):
        found = windows_of(count)
        assert [i for _, own in found for i in own] == list(range(count))
        for window, own in found:
            assert len(window) == min(WINDOW, count) and set(own) <= set(window)
            assert window.start >= 0 and window.stop <= count


@pytest.mark.parametrize('scale', [1.0, 40.0])
def test_gaussians_lie_where_the_network_sees_them(scale: float) -> None:
    network, made = Flat(), keyframes(6, scale)
    found = learned_gaussians(made, H3rEngine(network, 'cpu'))
    assert network.sizes == [4, 4] and found.left_out == 0
    pixels = CAMERA.width * CAMERA.height
    assert len(found.gaussians) == 6 * pixels
    rays = CAMERA.unproject(pixel_grid(CAMERA.height, CAMERA.width)).reshape(-1, 3)
    for n, own in enumerate(made):
        near = 0.5 * np.quantile(1 / own.inverse_depth, 0.02)
        part = slice(n * pixels, (n + 1) * pixels)
        np.testing.assert_allclose(
            found.gaussians.means[part], se3.transform(own.T_map_cam, 2 * near * rays),
            atol=2e-4 * scale)
        np.testing.assert_allclose(found.gaussians.colors[part] * 255,
                                   own.image.reshape(-1, 3), atol=0.01)
        width = found.gaussians.scales[part] / (2 * near / np.mean([CAMERA.fx, CAMERA.fy]))
        np.testing.assert_allclose(width, 0.1 + 2.9 / 2, rtol=1e-3)


def test_what_has_no_depth_or_is_dynamic_is_left_out() -> None:
    made = keyframes(5)
    made[2] = replace(made[2], inverse_depth=np.zeros_like(made[2].inverse_depth))
    made[1].mask[10:20, 10:20] = True
    network, steps = Flat(), []
    found = learned_gaussians(made, H3rEngine(network, 'cpu'), lambda: steps.append(1))
    assert found.left_out == 1 and network.sizes == [4] and len(steps) == 4
    assert len(found.gaussians) == 4 * CAMERA.width * CAMERA.height - 100
    for few in (made[:1], made[1:3], []):
        with pytest.raises(InputError, match='no two have known depth'):
            learned_gaussians(few, H3rEngine(Flat(), 'cpu'))


def test_cameras_of_a_rig_have_windows_of_their_own() -> None:
    names = ('left', 'right', 'left', 'right', 'left', 'back')
    made = [replace(k, camera_name=name) for k, name in zip(keyframes(6), names)]
    network = Flat()
    found = learned_gaussians(made, H3rEngine(network, 'cpu'))
    assert network.sizes == [3, 2] and found.left_out == 1


def test_an_untrained_network_makes_gaussians_of_what_is_seen_twice() -> None:
    torch.manual_seed(0)
    made = keyframes(3)
    found = learned_gaussians(made, H3rEngine(H3r(TINY), 'cpu')).gaussians
    assert 0.5 < len(found) / (3 * CAMERA.width * CAMERA.height) <= 1
    assert np.isfinite(found.means).all() and (found.scales > 0).all()
    # All within the bounds of depth of a keyframe
    depth = [se3.transform(se3.inverse(k.T_map_cam), found.means)[:, 2] for k in made]
    assert 0 < np.min(depth) and np.max(depth) < 2.1 * max(1 / k.inverse_depth.min() for k in made)


def test_images_are_resized_with_their_intrinsics() -> None:
    own = keyframes(1)[0]
    static = np.ones((48, 64), bool)
    static[0, 0] = False
    view = fitted(PosedImage(own.image, CAMERA, own.T_map_cam, 1, 2, static), 8, 40)
    assert view.image.shape == (32, 40, 3)  # 40x30, to multiples of 8
    assert view.camera == CAMERA.resized(40, 32)
    assert not view.static[0, 0] and view.static[2:, 2:].all()
    for images in ([view], [view, fitted(view, 8, 32)]):
        with pytest.raises(Recon3rError, match='at least 2 of the same'):
            H3rEngine(Flat(), 'cpu').gaussians(images)


def test_files_that_are_no_such_network_say_what_they_are(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / 'w.safetensors'
    save_file(H3r(TINY).state_dict(), path)
    assert read_gaussian_network(path).config == TINY
    tiny = Dust3r(Dust3rConfig(64, 1, 1, 64, 1, 1, 'linear'))
    for state, words in ((VaeEncoder(TINY.vae).state_dict(), 'holds sd-vae encoder; '),
                         (tiny.state_dict(), 'holds dust3r; '),
                         ({'mask2former.weight': torch.zeros(3)}, 'adapter and decoder alone'),
                         ({'weight': torch.zeros(3)}, 'has no volume.weigh.weight')):
        save_file(state, path)
        with pytest.raises(InputError, match=words) as caught:
            read_gaussian_network(path)
        assert str(path) in str(caught.value)
    with pytest.raises(InputError, match='none.pth: no such file; .* no trained weights'):
        read_gaussian_network(tmp_path / 'none.pth')
