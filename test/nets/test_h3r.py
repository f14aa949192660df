# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The network of H3R's kind: its geometry, what must change nothing, and its files."""

from __future__ import annotations

from dataclasses import replace
import math
from pathlib import Path

import numpy as np
import pytest
from recon3r_ros.bench.simulated import one_thread
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import se3
from recon3r_ros.nets import checkpoints
from recon3r_ros.nets.gaussian_raster import GaussianTensors, render
from recon3r_ros.nets.h3r import FORMAT, H3r, H3rConfig, H3rOutput, Views
from recon3r_ros.nets.layers.pixel_gaussians import CHANNELS, pixel_gaussians, quaternion_wxyz
from recon3r_ros.nets.layers.plane_sweep import of_cells, plucker, rays, sweep
from recon3r_ros.nets.vae_encoder import VaeConfig
from recon3r_ros.sim import SceneConfig, SimulatedSequence
from safetensors.torch import save_file
import torch
from torch.nn.functional import normalize, unfold

TINY = H3rConfig(VaeConfig((32, 32, 32), 1), 32, 4, 4, 4, 24, 64, 1, 16)
ROWS, COLUMNS = 24, 40


def network(seed: int = 0) -> H3r:
    """Make an untrained network whose every part has an effect."""
    torch.manual_seed(seed)
    made = H3r(TINY).eval()
    with torch.no_grad():  # these two start at nothing
        made.depth.weight.normal_(std=0.2)
        made.decoder.out.weight.normal_(std=0.1)
    return made


def views(count: int = 3, seed: int = 0) -> Views:
    """Make smooth random images of cameras that look the same way."""
    random = torch.Generator().manual_seed(seed)
    images = torch.nn.functional.interpolate(
        torch.rand(count, 3, 6, 10, generator=random) * 2 - 1, (ROWS, COLUMNS), mode='bilinear')
    rng = np.random.default_rng(seed)
    poses = np.stack([se3.exp(np.concatenate([rng.normal(size=3) * 0.2,
                                              rng.normal(size=3) * 0.05])) for _ in range(count)])
    K = torch.tensor([[30.0, 0, 19.5], [0, 31, 11.5], [0, 0, 1]]).repeat(count, 1, 1)
    return Views(images, K, torch.tensor(poses, dtype=torch.float32), torch.full((count,), 1.0),
                 torch.full((count,), 6.0), torch.ones(count, ROWS, COLUMNS, dtype=torch.bool))


def largest(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def same(found: H3rOutput, expected: H3rOutput) -> bool:
    """Whether depth and Gaussians agree but for rounding."""
    own, other = found.gaussians, expected.gaussians
    return max(largest(found.depth, expected.depth), largest(own.means, other.means),
               largest(own.scales, other.scales), largest(own.opacities, other.opacities),
               largest(own.harmonics, other.harmonics)) < 1e-4


def covariances(made: GaussianTensors) -> np.ndarray:
    """Return covariances (N, 3, 3)."""
    axes = se3.matrix_from_quat_xyzw(made.quaternions_wxyz.double().numpy()[:, [1, 2, 3, 0]])
    axes = axes * made.scales.double().numpy()[:, None]
    return axes @ axes.transpose(0, 2, 1)


def test_sweep_of_a_rendered_room_matches_at_the_true_depth() -> None:
    with one_thread():
        room_is_matched()


def room_is_matched() -> None:
    """Match patches of a rendered room."""
    sequence = SimulatedSequence(SceneConfig(
        seed=0, frames=60, fps=15, width=160, height=120, trajectory='orbit', moving_objects=0,
        noise=0))
    frames = [sequence.render(i) for i in (16, 24, 32)]
    near, far = (float(q * np.quantile([f.depth for f in frames], p))
                 for q, p in ((0.8, 0.02), (1.2, 0.98)))
    inverse = torch.linspace(1 / far, 1 / near, 32)
    K = torch.tensor(sequence.camera.K, dtype=torch.float32)
    # Patches of the image are the features: nothing is learned
    colors = torch.tensor(np.stack([f.image for f in frames]) / np.float32(255))
    images = colors.permute(0, 3, 1, 2)
    patches = unfold(images, 5, padding=2).unflatten(2, (120, 160))
    features = normalize(patches - patches.mean(1, keepdim=True), dim=1)
    static, score = torch.ones(120, 160), torch.zeros(32, 120, 160)
    own_rays = rays(K[None], 120, 160)[0]
    counted = torch.zeros_like(score)
    for j in (1, 2):  # both on one side: an offset would not cancel
        T = torch.tensor(se3.inverse(frames[j].T_world_cam) @ frames[0].T_world_cam,
                         dtype=torch.float32)
        warped, seen = sweep(features[j], static, K, T, own_rays, 1 / inverse)
        score += (warped * features[0][:, None]).sum(0) * seen
        counted += seen
    best = inverse[(score / counted.clamp(min=1)).argmax(0)].numpy()
    true = 1 / frames[0].depth
    contrast = (patches[0] - patches[0].mean(0)).std(0).numpy()
    clear = (contrast > np.quantile(contrast, 0.5)) & (counted.amin(0) > 0).numpy()
    assert clear.mean() > 0.2
    steps = (best - true)[clear] / float(inverse[1] - inverse[0])
    assert np.median(np.abs(steps)) < 0.6 and np.mean(np.abs(steps) < 2) > 0.8
    assert abs(np.median(steps)) < 0.1
    assert torch.allclose(of_cells(K[None], 8)[0, :2, 2], (K[:2, 2] + 0.5) / 8 - 0.5)


def test_what_a_source_does_not_see_is_marked() -> None:
    K = torch.tensor([[20.0, 0, 9.5], [0, 20, 5.5], [0, 0, 1]])
    features, static = torch.ones(2, 12, 20), torch.ones(12, 20)
    static[:, :5] = 0
    behind, beside = torch.eye(4), torch.eye(4)
    behind[2, 3], beside[0, 3] = -3, -0.5
    own_rays, depths = rays(K[None], 12, 20)[0], torch.tensor([1.0, 2.0])
    assert not sweep(features, static, K, behind, own_rays, depths)[1].any()
    seen = sweep(features, static, K, beside, own_rays, depths)[1]
    # Ten columns to the left at depth 1, five at depth 2; and five of a dynamic object
    for d, shift in enumerate((10, 5)):
        assert not seen[d, :, :shift + 5].any() and seen[d, :, shift + 5:].all()


def test_gaussians_of_a_plane_render_back_to_its_image() -> None:
    view = views(1)
    # A ramp of colour, which no blur changes, but any shift does: by 0.02 a pixel
    ramp = torch.linspace(-1, 1, COLUMNS) * 0.8 + torch.linspace(-0.2, 0.2, ROWS)[:, None]
    view = replace(view, images=ramp.expand(1, 3, ROWS, COLUMNS))
    channels = torch.zeros(1, CHANNELS, ROWS, COLUMNS)
    channels[:, 2], channels[:, 3:6], channels[:, 6] = -3, -1.9, 1
    made = pixel_gaussians(channels, torch.full((1, ROWS, COLUMNS), 2.0), view.images, view.K,
                           view.T_world_cam)
    out = render(made, torch.linalg.inv(view.T_world_cam[0]), view.K[0], ROWS, COLUMNS)
    inner = slice(2, -2)
    image = (out.image / out.alpha[..., None])[inner, inner]
    error = image - ((view.images[0] + 1) / 2).permute(1, 2, 0)[inner, inner]
    assert float(error.abs().max()) < 2e-3
    assert torch.allclose((out.depth / out.alpha)[inner, inner], torch.tensor(2.0), atol=1e-3)


def test_quaternions_are_those_of_the_rotations() -> None:
    rng = np.random.default_rng(0)
    for angle in (0.0, 0.4, math.pi):
        axis = rng.normal(size=3)
        R = se3.so3_exp(angle * axis / np.linalg.norm(axis))
        w, *xyz = quaternion_wxyz(torch.tensor(R)[None])[0].tolist()
        np.testing.assert_allclose(se3.matrix_from_quat_xyzw([*xyz, w]), R, atol=1e-7)


def test_rays_meet_the_camera_centres() -> None:
    view = views()
    d, m = plucker(view.T_world_cam, view.K, ROWS, COLUMNS).split(3, dim=-1)
    T = torch.linalg.inv(view.T_world_cam[0]) @ view.T_world_cam
    unit = T[1:, :3, 3].norm(dim=1).mean()
    for i in range(3):
        o = (T[i, :3, 3] / unit).expand_as(d[i])
        assert torch.allclose(torch.linalg.cross(o, d[i]), m[i], atol=1e-5)
    assert torch.allclose((d * m).sum(-1), torch.zeros(()), atol=1e-6)


@torch.inference_mode()
def test_what_changes_nothing() -> None:
    """The order of the other views; the unit; where the world's frame lies."""
    net, given = network(), views()
    expected = net(given)
    assert expected.valid.any() and float(expected.depth.std()) > 0.05

    swapped = [0, 2, 1]
    found = net(Views(*(getattr(given, name)[swapped] for name in (
        'images', 'K', 'T_world_cam', 'near', 'far', 'static'))))
    assert largest(found.depth[swapped], expected.depth) < 1e-4

    longer = given.T_world_cam.clone()
    longer[:, :3, 3] *= 7
    found = net(replace(given, T_world_cam=longer, near=7 * given.near, far=7 * given.far))
    own = found.gaussians
    found = replace(found, depth=found.depth / 7,
                    gaussians=replace(own, means=own.means / 7, scales=own.scales / 7))
    assert same(found, expected)

    T = torch.tensor(se3.exp([3.0, -2.0, 5.0, 0.5, -1.0, 2.0]), dtype=torch.float32)
    found = net(replace(given, T_world_cam=T @ given.T_world_cam))
    own = found.gaussians
    back = (own.means - T[:3, 3]) @ T[:3, :3]
    assert same(replace(found, gaussians=replace(own, means=back)), expected)
    R = T[:3, :3].double().numpy()
    np.testing.assert_allclose(
        covariances(own), R @ covariances(expected.gaussians) @ R.T, atol=1e-5)


@torch.inference_mode()
def test_each_view_and_camera_matters() -> None:
    net, given = network(), views()
    expected = net(given)
    for i in (1, 2):
        images, poses = given.images.clone(), given.T_world_cam.clone()
        images[i] = -images[i]
        poses[i, 0, 3] += 0.1
        for other in (replace(given, images=images), replace(given, T_world_cam=poses)):
            assert largest(net(other).depth[0], expected.depth[0]) > 1e-4


@torch.inference_mode()
def test_dynamic_objects_have_no_influence_and_no_gaussians() -> None:
    net, given = network(), views()
    static = given.static.clone()
    static[1, 5:15, 10:20] = False
    images = given.images.clone()
    images[1, :, 5:15, 10:20] = 0.7
    found = [net(replace(given, static=static, images=i)) for i in (given.images, images)]
    assert torch.equal(found[0].depth, found[1].depth)
    assert not (found[0].valid & ~static).any()
    assert len(found[0].kept().means) == int(found[0].valid.sum())


@torch.inference_mode()
def test_views_that_share_nothing_make_no_gaussians() -> None:
    given = views(2)
    away = given.T_world_cam.clone()
    away[1] = away[1] @ torch.tensor(np.diag([-1.0, 1, -1, 1]), dtype=torch.float32)
    assert not network()(replace(given, T_world_cam=away)).valid.any()
    same_place = replace(given, T_world_cam=given.T_world_cam[[0, 0]])
    assert torch.isfinite(network()(same_place).depth).all()
    with pytest.raises(ValueError, match='1 views'):
        network()(Views(*(getattr(given, name)[:1] for name in (
            'images', 'K', 'T_world_cam', 'near', 'far', 'static'))))


def test_the_network_follows_from_its_tensors(tmp_path: Path) -> None:
    made = network()
    path = tmp_path / 'trained.safetensors'
    save_file(made.state_dict(), path)
    read = checkpoints.read(path, (FORMAT,)).network
    assert read.config == TINY
    with torch.inference_mode():
        assert torch.equal(read(views()).depth, made(views()).depth)


def test_files_are_loaded_strictly(tmp_path: Path) -> None:
    state = network().state_dict()

    def refusal(state: dict[str, torch.Tensor]) -> str:
        path = tmp_path / 'w.safetensors'
        save_file(state, path)
        with pytest.raises(InputError) as caught:
            checkpoints.read(path, (FORMAT,))
        assert str(path) in str(caught.value) and '\n' not in str(caught.value)
        return str(caught.value)

    for missing in ('volume.weigh.weight', 'vae.quant_conv.weight', 'depth.weight', 'sharpness',
                    'blocks.1.ray.bias', 'decoder.levels.1.0.weight'):
        assert f'has no {missing}' in refusal({k: v for k, v in state.items() if k != missing})
    assert 'multiple of 64' in refusal(state | {'depth.weight': torch.zeros(24, 65)})
    assert 'unexpected extra' in refusal(state | {'extra': torch.zeros(1)})
    assert 'not finite' in refusal(state | {'depth.bias': torch.full((24,), torch.nan)})


def test_the_usual_size() -> None:
    with torch.device('meta'):
        full = H3r()
    assert full.blocks[0].heads == 6 and full.config.vae.stride == 8
    assert sum(p.numel() for p in full.vae.parameters()) == 34_163_664
