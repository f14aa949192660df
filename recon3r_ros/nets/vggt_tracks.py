# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
VGGT's track head: points of one view found in all views of a window.

'VGGT: Visual Geometry Grounded Transformer' (Wang et al., CVPR 2025, section 3.3): features of
each view, and a tracker of the family of CoTracker (Karaev et al., ECCV 2024, section 3) as VGGSfM
(Wang et al., CVPR 2024, section 3.1) changed it. Positions and features of the tracks are refined
iteratively: from correlations with the feature maps, by attention along each track and, through
virtual tracks, among tracks.

Names of modules are those of the published checkpoint. Written from the papers and from the names
and shapes of the checkpoint's tensors. All is computed in the data type of the parameters: flows
are embedded with frequencies of up to 968 radians a pixel, for which less than float32 is too
little.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from recon3r_ros.errors import InputError
from recon3r_ros.nets import vggt
from recon3r_ros.nets.checkpoints import Built, depth_of, Format
from recon3r_ros.nets.layers.attention import Mlp, MLP_RATIO
from recon3r_ros.nets.vggt import Fusion, Maps, PATCH, resized, Steps, Vggt, VggtConfig
import torch
from torch import nn, Tensor
from torch.nn.functional import avg_pool2d, gelu, scaled_dot_product_attention

_EPS = 1e-5
#: Image pixels a cell of the feature maps, along either side
STRIDE = 2
_ITERATIONS = 4
#: Flows are divided by this, whatever the image's size (the training images' width, pixels)
_FLOW_SCALE = 518
#: Range of the frequencies of the embedded flow, and base of those of the positions
_FLOW_SPAN, _POSITION_BASE = 1000.0, 10000.0
#: Values of the maps that are gathered at once, to bound memory
_BLOCK = 1 << 25


@dataclass(frozen=True)
class TrackConfig:
    """
    Sizes of a track head.

    :param features: channels of the feature maps
    :param hidden: channels of the update transformer
    :param depth: its blocks of each kind
    :param virtual: virtual tracks, through which tracks attend to each other
    :param levels: of the pyramid of feature maps; each has half as many cells along a side as
        the one before
    :param radius: of the window that is correlated, in cells of each level
    """

    features: int = 128
    hidden: int = 384
    depth: int = 6
    heads: int = 8
    virtual: int = 64
    levels: int = 7
    radius: int = 4

    @property
    def token(self) -> int:
        """Channels of a token: embedded flow, the flow twice, correlation, and features."""
        return 3 * self.features + 4

    @property
    def least_side(self) -> int:
        """Least side of an image, pixels: the coarsest level must not vanish."""
        return int(STRIDE * 2 ** (self.levels - 1))


@dataclass(frozen=True, eq=False)
class Tracked:
    """
    Points of the first view in all views of a window.

    :param iterations: (4, S, N, 2) pixels after each iteration, not clamped to the image
    :param visibility: (S, N) probability that the point is seen
    :param confidence: (S, N) probability that the track is right
    """

    iterations: Tensor
    visibility: Tensor
    confidence: Tensor

    @property
    def positions(self) -> Tensor:
        """(S, N, 2) pixels; in the first view exactly the queries."""
        return self.iterations[-1]


class FeatureExtractor(Maps):
    """Tokens of four blocks to a feature map of half the image's size, each view by itself."""

    def __init__(self, config: VggtConfig, features: int) -> None:
        super().__init__(config, placed=False)
        self.scratch = Fusion(features, features)

    def forward(self, steps: Steps) -> Tensor:
        """Transform tokens to (S, C, H / 2, W / 2)."""
        return resized(self.scratch(self.maps(steps)),
                       [side * PATCH // STRIDE for side in (steps.rows, steps.columns)])


class Attention(nn.Module):
    """Multi-head attention; queries, keys and values have one stacked projection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Attend from tokens (B, N, D) to others (B, M, D)."""
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        # (B, N, D) -> (B, heads, N, D / heads)
        q, k, v = (nn.functional.linear(tokens, weight, bias).unflatten(
            -1, (self.heads, -1)).transpose(1, 2)
            for tokens, weight, bias in zip((x, context, context), weights, biases))
        out = scaled_dot_product_attention(q, k, v)
        # (B, heads, N, D / heads) -> (B, N, D)
        projected: Tensor = self.out_proj(out.transpose(1, 2).flatten(2))
        return projected


class SelfBlock(nn.Module):
    """Self-attention and MLP; the shortcut starts from the normalised tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, _EPS)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, _EPS)
        self.mlp = Mlp(width, MLP_RATIO * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Transform tokens (B, N, D)."""
        y = self.norm1(x)
        y = y + self.attn(y, y)
        out: Tensor = y + self.mlp(self.norm2(y))
        return out


class CrossBlock(nn.Module):
    """Cross-attention and MLP; the shortcut starts from the normalised tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, _EPS)
        self.norm_context = nn.LayerNorm(width, _EPS)
        self.cross_attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, _EPS)
        self.mlp = Mlp(width, MLP_RATIO * width, width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Transform tokens (B, N, D), which attend to others (B, M, D)."""
        y = self.norm1(x)
        y = y + self.cross_attn(y, self.norm_context(context))
        out: Tensor = y + self.mlp(self.norm2(y))
        return out


class UpdateTransformer(nn.Module):
    """Tokens of all tracks in all views to changes of their positions and features."""

    def __init__(self, config: TrackConfig) -> None:
        super().__init__()
        width, heads = config.hidden, config.heads
        self.input_norm = nn.LayerNorm(config.token, _EPS)
        self.input_transform = nn.Linear(config.token, width)
        self.output_norm = nn.LayerNorm(width, _EPS)
        self.flow_head = nn.Linear(width, config.features + 2)
        # So spelled in the checkpoint
        self.virual_tracks = nn.Parameter(torch.randn(1, config.virtual, 1, width))
        self.time_blocks, self.space_virtual_blocks = (
            nn.ModuleList(SelfBlock(width, heads) for _ in range(config.depth)) for _ in range(2))
        self.space_point2virtual_blocks, self.space_virtual2point_blocks = (
            nn.ModuleList(CrossBlock(width, heads) for _ in range(config.depth))
            for _ in range(2))

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform tokens (S, N, 3 C + 4) to changes (S, N, 2 + C)."""
        views, points = tokens.shape[:2]
        first = self.input_transform(self.input_norm(tokens))
        # (1, V, 1, D) -> (S, V, D): the same in every view
        virtual = self.virual_tracks[:, :, 0].expand(views, -1, -1)
        x = torch.cat([first, virtual], 1)  # (S, N + V, D)
        for along, among, to_points, to_virtual in zip(
                self.time_blocks, self.space_virtual_blocks, self.space_virtual2point_blocks,
                self.space_point2virtual_blocks):
            # (S, N + V, D) -> (N + V, S, D) and back
            x = along(x.transpose(0, 1)).transpose(0, 1)
            p, v = x[:, :points], x[:, points:]
            v = among(to_points(v, p))
            x = torch.cat([to_virtual(p, v), v], 1)
        changes: Tensor = self.flow_head(self.output_norm(x[:, :points] + first))
        return changes


class Tracker(nn.Module):
    """Refines tracks iteratively; coordinates inside are in cells of the feature maps."""

    def __init__(self, config: TrackConfig) -> None:
        super().__init__()
        self._levels, self._radius = config.levels, config.radius
        features = config.features
        self.corr_mlp = Mlp(config.levels * (2 * config.radius + 1) ** 2, config.hidden, features)
        self.fmap_norm = nn.LayerNorm(features, _EPS)
        # Of one group: the same as a LayerNorm over the channels
        self.ffeat_norm = nn.GroupNorm(1, features, _EPS)
        # Index 1 of each is an activation
        self.ffeat_updater = nn.Sequential(nn.Linear(features, features))
        self.vis_predictor = nn.Sequential(nn.Linear(features, 1))
        self.conf_predictor = nn.Sequential(nn.Linear(features, 1))
        # Index 0 for the queries' view, index 1 for all others
        self.query_ref_token = nn.Parameter(torch.zeros(1, 2, config.token))
        self.updateformer = UpdateTransformer(config)

    def forward(self, features: Tensor, queries: Tensor) -> Tracked:
        """
        Track points of the first view.

        :param features: (S, C, h, w)
        :param queries: (N, 2) pixels (x, y) of the first view
        """
        maps = self.fmap_norm(features.permute(0, 2, 3, 1))  # (S, h, w, C)
        pyramid = self._pyramid(maps)
        views, points = len(maps), len(queries)
        q = queries.to(maps.dtype) / STRIDE
        which = (torch.arange(views, device=maps.device) > 0).long()
        # (S, N, 3 C + 4)
        constant = (positions_at(q, maps.shape[1], maps.shape[2], self.query_ref_token.shape[-1])
                    + self.query_ref_token[0, which][:, None])
        c = q.expand(views, -1, -1)
        t = sampled(maps[0], q).expand(views, -1, -1)
        found = []
        for _ in range(_ITERATIONS):
            flow = c - q
            scaled = flow / _FLOW_SCALE
            tokens = torch.cat([
                flow_embedding(flow, t.shape[-1]), scaled, scaled,
                self.corr_mlp(self._correlation(pyramid, t, c)), t], -1) + constant
            changes = self.updateformer(tokens)
            normalised = self.ffeat_norm(changes[..., 2:].flatten(0, 1))
            t = t + gelu(self.ffeat_updater(normalised)).unflatten(0, (views, points))
            c = torch.cat([q[None], c[1:] + changes[1:, :, :2]])
            found.append(STRIDE * c)
        return Tracked(torch.stack(found), self.vis_predictor(t)[..., 0].sigmoid(),
                       self.conf_predictor(t)[..., 0].sigmoid())

    def _pyramid(self, maps: Tensor) -> list[Tensor]:
        """Return the maps (S, h, w, C) and coarser ones, each of half the size."""
        pyramid = [maps]
        for _ in range(self._levels - 1):
            # (S, h, w, C) -> (S, C, h, w) and back
            coarser = avg_pool2d(pyramid[-1].permute(0, 3, 1, 2), 2)
            pyramid.append(coarser.permute(0, 2, 3, 1).contiguous())
        return pyramid

    def _correlation(self, pyramid: list[Tensor], t: Tensor, c: Tensor) -> Tensor:
        """
        Correlate tracks with the maps around their positions, tracks in blocks.

        :param t: (S, N, C) features of the tracks
        :param c: (S, N, 2)
        :return: (S, N, levels * (2 r + 1) ** 2), by level, then dx, then dy
        """
        window = (2 * self._radius + 2) ** 2
        step = max(_BLOCK // (len(t) * t.shape[-1] * window), 1)
        return torch.cat([
            torch.cat([correlation(maps, t[:, n:n + step], c[:, n:n + step] / 2 ** level,
                                   self._radius) for level, maps in enumerate(pyramid)], -1)
            for n in range(0, t.shape[1], step)], 1)


def correlation(maps: Tensor, t: Tensor, c: Tensor, radius: int) -> Tensor:
    """
    Inner products of tracks' features with a window of the map around each position.

    All positions of a window have one fractional part: products at whole cells are blended.

    :param maps: (S, h, w, C)
    :param t: (S, N, C)
    :param c: (S, N, 2) in cells of the map
    :return: (S, N, (2 r + 1) ** 2), divided by the root of C; dy changes fastest
    """
    height, width, channels = maps.shape[1:]
    offsets = torch.arange(-radius, radius + 2, device=maps.device)
    x, inside_x, share_x = _whole(c[..., 0], offsets, width)  # (S, N, 2 r + 2), (S, N)
    y, inside_y, share_y = _whole(c[..., 1], offsets, height)
    view = torch.arange(len(maps), device=maps.device)[:, None, None, None]
    # By x, then y: (S, N, 2 r + 2, 2 r + 2, C)
    around = maps[view, y[:, :, None, :], x[:, :, :, None]]
    products = (around @ t[:, :, None, :, None])[..., 0] / channels ** 0.5
    products = products * (inside_x[:, :, :, None] & inside_y[:, :, None, :])
    share_x, share_y = share_x[..., None, None], share_y[..., None, None]
    by_x = products[:, :, :-1] * (1 - share_x) + products[:, :, 1:] * share_x
    return (by_x[..., :-1] * (1 - share_y) + by_x[..., 1:] * share_y).flatten(2)


def _whole(position: Tensor, offsets: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """
    Whole cells around positions on one axis.

    :param position: (S, N)
    :param size: of the axis; where it is 1, the one cell is everywhere
    :return: indices (S, N, n) within the map, whether these cells are in it, and the share (S, N)
        of the following cell
    """
    if size == 1:
        nowhere = torch.zeros_like(position)
        index = nowhere.long()[..., None].expand(*position.shape, len(offsets))
        return index, index == 0, nowhere
    # Farther away all cells are outside: whole numbers stay within their range
    far = len(offsets)
    position = position.clamp(-far, size - 1 + far)
    floor = position.floor()
    index = floor.long()[..., None] + offsets
    return index.clamp(0, size - 1), (index >= 0) & (index < size), position - floor


def sampled(values: Tensor, q: Tensor) -> Tensor:
    """
    Interpolate a map bilinearly; positions outside are moved to its border.

    :param values: (h, w, C)
    :param q: (N, 2) in cells
    :return: (N, C)
    """
    x0, x1, share_x = _between(q[:, 0], values.shape[1])
    y0, y1, share_y = _between(q[:, 1], values.shape[0])
    above, below = (values[y, x0] * (1 - share_x) + values[y, x1] * share_x for y in (y0, y1))
    return above * (1 - share_y) + below * share_y


def _between(position: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the cells (N,) on both sides of positions (N,), and the share (N, 1) of the later."""
    position = position.clamp(0, size - 1)
    floor = position.floor()
    first = floor.long()
    return first, (first + 1).clamp(max=size - 1), (position - floor)[:, None]


def positions_at(q: Tensor, height: int, width: int, channels: int) -> Tensor:
    """
    Embedding of positions (Vaswani et al., 2017, section 3.5), linear between cells.

    :param q: (N, 2) in cells; positions outside are moved to the border
    :param channels: a multiple of 4; the first half encodes the column, the second the row
    :return: (N, channels)
    """
    quarter = channels // 4
    frequencies = _POSITION_BASE ** (
        -torch.arange(quarter, dtype=q.dtype, device=q.device) / quarter)
    halves = []
    for position, size in ((q[:, 0], width), (q[:, 1], height)):
        first, second, share = _between(position, size)
        before, after = (_waves(cell.to(q.dtype)[:, None] * frequencies)
                         for cell in (first, second))
        halves.append(before * (1 - share) + after * share)
    return torch.cat(halves, -1)


def _waves(angles: Tensor) -> Tensor:
    """Sines, then cosines (…, 2 n) of angles (…, n)."""
    return torch.cat([angles.sin(), angles.cos()], -1)


def flow_embedding(flow: Tensor, channels: int) -> Tensor:
    """
    Embedding of flows; the frequencies are multiples of the second one, the first is 0.

    :param flow: (…, 2) in cells
    :param channels: a multiple of 4; the first half encodes x, the second y, sine and cosine of
        each frequency in turn
    :return: (…, channels)
    """
    half = channels // 2
    frequencies = torch.arange(0, half, 2, dtype=flow.dtype, device=flow.device) * (
        _FLOW_SPAN / half)
    angles = flow[..., None] * frequencies  # (…, 2, C / 4)
    # (…, 2, C / 4, 2) -> (…, C)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(-3)


class TrackHead(nn.Module):
    """Features of the views, and a tracker on them; several sets of queries share the features."""

    def __init__(self, config: VggtConfig, track: TrackConfig = TrackConfig()) -> None:
        super().__init__()
        self.config = track
        self.feature_extractor = FeatureExtractor(config, track.features)
        self.tracker = Tracker(track)


class VggtWithTracks(Vggt):
    """VGGT with its track head."""

    def __init__(self, config: VggtConfig, track: TrackConfig = TrackConfig()) -> None:
        super().__init__(config)
        self.track_head = TrackHead(config, track)

    def features(self, steps: Steps) -> Tensor:
        """Compute the features (S, C, H / 2, W / 2) of the views, each by itself."""
        features: Tensor = self.track_head.feature_extractor(steps)
        return features

    def track(self, features: Tensor, queries: Tensor) -> Tracked:
        """
        Track points of the first view; they see each other: another set gives other tracks.

        :param features: (S, C, H / 2, W / 2)
        :param queries: (N, 2) pixels (x, y) of the first view, centres at whole numbers
        """
        tracked: Tracked = self.track_head.tracker(features, queries)
        return tracked


# File format

def _build(path: Path, state: dict[str, Tensor], description: str) -> Built:
    own = {k: v for k, v in state.items() if k.startswith(vggt.LEFT_OUT)}
    if not own:
        raise InputError(f'{path}: has no track head; give a file that has {vggt.LEFT_OUT}* '
                         'tensors, or leave tracks off')
    base = vggt.FORMAT.build(path, state, description)
    network = VggtWithTracks(cast(Vggt, base.network).config, _config(path, own))
    return Built(network, state, base.models, base.image_size)


FORMAT = Format(vggt.FORMAT.recognises, _build)


def _config(path: Path, state: Mapping[str, Tensor]) -> TrackConfig:
    """Return the sizes of a track head; heads and radius, which no tensor determines, as known."""
    known = TrackConfig()
    former = 'track_head.tracker.updateformer'

    def size(name: str, axis: int) -> int:
        tensor = state.get(name)
        if tensor is None or tensor.ndim <= axis:
            raise InputError(f'{path}: has no {name} of a track head; it is damaged, or another '
                             'network')
        return tensor.shape[axis]
    cells = (2 * known.radius + 1) ** 2
    correlations = size('track_head.tracker.corr_mlp.fc1.weight', 1)
    hidden = size(f'{former}.input_transform.weight', 0)
    if correlations % cells or hidden % known.heads:
        raise InputError(f'{path}: a track head of {correlations} correlations and {hidden} '
                         f'channels, expected multiples of {cells} and {known.heads}: it is '
                         'another network')
    return TrackConfig(size('track_head.tracker.fmap_norm.weight', 0), hidden,
                       depth_of(state, f'{former}.time_blocks'), known.heads,
                       size(f'{former}.virual_tracks', 1), correlations // cells, known.radius)
