# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What published networks need for a keyframe: `python -m recon3r_ros.bench.needs`.

Operations and memory are counted on tensors without content: no weights, no GPU. Prints the table
of `models/needs.py`, which test_needs.py compares.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from recon3r_ros.bench.device_memory import Alive
from recon3r_ros.bench.memories import RENDERED
from recon3r_ros.bench.network import NEW_PAIRS
from recon3r_ros.cli.console import output as console
from recon3r_ros.models.keypoints import MAX_KEYPOINTS
from recon3r_ros.models.needs import Needs, WINDOW
from recon3r_ros.nets.checkpoints import HEAD_SIZE
from recon3r_ros.nets.dune import Decoder, DuneConfig, DuneMast3r, DuneMast3rConfig, Encoder
from recon3r_ros.nets.dust3r import Dust3r, Dust3rConfig, HeadName, Tokens
from recon3r_ros.nets.layers.mask2former import PixelFeatures
from recon3r_ros.nets.mapanything import Given, MapAnything, MapAnythingConfig
from recon3r_ros.nets.must3r import Must3r, Must3rConfig
from recon3r_ros.nets.siu3r import IMAGE_SIZE, Siu3r, Siu3rConfig
from recon3r_ros.nets.vggt import PATCH, Vggt, VggtConfig
from recon3r_ros.nets.vggt_tracks import VggtWithTracks
from recon3r_ros.nets.xfeat import XFeat
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

#: Rows and columns of images of networks of 512 and 224 pixels, of VGGT and
#: DUNE-MASt3R, and of XFeat
LARGE, SMALL, WIDE, VGA = (384, 512), (224, 224), (392, 518), (480, 640)
#: Of SIU3R
SQUARE = (IMAGE_SIZE, IMAGE_SIZE)
#: Views that get depth for a keyframe: itself and its partners
DENSE = 1 + NEW_PAIRS // 2
_LOWER = torch.bfloat16


def _pairs(head: HeadName, shape: tuple[int, int]) -> tuple[nn.Module, Callable[[], object]]:
    return _in_pairs(Dust3r(Dust3rConfig(head=head)), shape)


def _dune(width: int) -> tuple[nn.Module, Callable[[], object]]:
    decoder = replace(DuneMast3rConfig().decoder, enc_embed_dim=width)
    return _in_pairs(DuneMast3r(
        Encoder(DuneConfig(embed_dim=width, heads=width // HEAD_SIZE)),
        Decoder(DuneMast3rConfig(decoder))), WIDE)


def _in_pairs(network: Dust3r | DuneMast3r, shape: tuple[int, int]
              ) -> tuple[nn.Module, Callable[[], object]]:
    network = network.lower_precision(_LOWER)

    def keyframe() -> object:
        tokens = network.encode(torch.empty(1, 3, *shape))
        batch = Tokens(tokens.values.expand(NEW_PAIRS, -1, -1), tokens.rows, tokens.columns)
        return network.decode(batch, batch, True)
    return network, keyframe


def _memory(shape: tuple[int, int]) -> tuple[nn.Module, Callable[[], object]]:
    network = Must3r(Must3rConfig()).lower_precision(_LOWER)
    view = network.encode(torch.empty(1, 3, *shape))
    _, (one,) = network.update([view])
    memory = [torch.empty_like(one) for _ in range(WINDOW - 1)]

    def keyframe() -> object:
        tokens = network.encode(torch.empty(1, 3, *shape))
        joined = network.update([tokens], memory)
        pair = Tokens(tokens.values.expand(RENDERED, -1, -1), tokens.rows, tokens.columns)
        return joined, network.render(pair, memory)
    return network, keyframe


def _window(tracks: bool) -> tuple[nn.Module, Callable[[], object]]:
    network = (VggtWithTracks if tracks else Vggt)(VggtConfig()).lower_precision(_LOWER)
    rows, columns = (side // PATCH for side in WIDE)
    patches = torch.empty(WINDOW - 1, rows * columns, network.config.embed_dim, dtype=_LOWER)

    def keyframe() -> object:
        steps = network.aggregate(torch.cat([network.encode(torch.empty(1, 3, *WIDE)), patches]),
                                  rows)
        out = [network.cameras(steps), *network.depth(steps.of(slice(0, DENSE)))]
        if isinstance(network, VggtWithTracks):
            features = network.features(steps.of(slice(0, DENSE)))
            out += [network.track(features, torch.empty(MAX_KEYPOINTS, 2)).positions
                    for _ in range(DENSE)]
        return out
    return network, keyframe


def _known(config: MapAnythingConfig = MapAnythingConfig()
           ) -> tuple[nn.Module, Callable[[], object]]:
    network = MapAnything(config).lower_precision(_LOWER)
    rows, columns = (side // PATCH for side in WIDE)

    def keyframe() -> object:
        patches, classes = network.encode(torch.empty(1, 3, *WIDE))
        patches = patches + network.encode_rays(torch.empty(1, *WIDE, 3)) + (
            network.encode_depth(torch.empty(1, *WIDE), torch.empty(1)))
        fused = network.fuse(patches.float().expand(WINDOW, -1, -1),
                             Given.of(torch.empty(WINDOW, 9), torch.empty(1)))
        shared = network.share(fused, classes.expand(WINDOW, -1, -1))
        return network.poses(shared), network.scale(shared), network.dense(
            fused[:DENSE], [t[:DENSE] for t in shared.dense], rows, columns)
    return network, keyframe


def _scenes() -> tuple[nn.Module, Callable[[], object]]:
    network = Siu3r(Siu3rConfig()).lower_precision(_LOWER)

    def keyframe() -> object:
        tokens, features = network.encode(torch.empty(1, 3, *SQUARE), torch.empty(1, 3, 3))
        batch = replace(tokens, values=tokens.values.expand(NEW_PAIRS, -1, -1))
        both = PixelFeatures(torch.cat([features.masks] * 2),
                             tuple(torch.cat([m, m]) for m in features.levels))
        points = network.points([batch, batch], network.decode([batch, batch]))
        return features, points, [network.queries(both) for _ in range(NEW_PAIRS)]
    return network, keyframe


def _features() -> tuple[nn.Module, Callable[[], object]]:
    network = XFeat()
    return network, lambda: network(torch.empty(1, 1, *VGA))


#: How to run each network of `models/needs.py`
KEYFRAMES: dict[str, Callable[[], tuple[nn.Module, Callable[[], object]]]] = {
    'dpt 512': lambda: _pairs('dpt', LARGE),
    'linear 512': lambda: _pairs('linear', LARGE),
    'linear 224': lambda: _pairs('linear', SMALL),
    'catmlp+dpt 512': lambda: _pairs('catmlp+dpt', LARGE),
    'dune-mast3r base': lambda: _dune(768),
    'dune-mast3r small': lambda: _dune(384),
    'must3r 512': lambda: _memory(LARGE),
    'must3r 224': lambda: _memory(SMALL),
    'vggt': lambda: _window(False),
    'vggt with tracks': lambda: _window(True),
    'mapanything': _known,
    'mapanything v1': lambda: _known(MapAnythingConfig(1024, 24, 768, 24, 'v1')),
    'siu3r': _scenes,
    'xfeat': _features,
}


def counted(name: str) -> Needs:
    """
    Count what a keyframe needs, trunk in bfloat16.

    :param name: of `KEYFRAMES`
    """
    with torch.device('meta'), torch.inference_mode():
        network, keyframe = KEYFRAMES[name]()
        network.requires_grad_(False)
        tensors = {id(t): t for t in (*network.parameters(), *network.buffers())}.values()
        held = sum(t.numel() * t.element_size() for t in tensors)
        with Alive() as alive:
            kept = keyframe()  # noqa: F841  as the engines hold it
        with FlopCounterMode(display=False) as flops:
            keyframe()
    return Needs(sum(t.numel() for t in tensors) / 1e6, (held + alive.peak) / 1e9,
                 flops.get_total_flops() / 1e12)


def main() -> None:
    """Print the table."""
    for name in KEYFRAMES:
        needs = counted(name)
        console().print(f"    '{name}': Needs({needs.parameters:.4g}, {needs.gigabytes:.3g}, "
                        f'{needs.teraflop:.3g}),', highlight=False, soft_wrap=True)


if __name__ == '__main__':
    main()
