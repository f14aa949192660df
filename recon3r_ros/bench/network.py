# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
`recon3r bench --model`: run time and memory of a pair network on this machine.

A sliding window against a baseline that runs each pair separately, a new keyframe in every mode of
the device, and the share of the device's measured matrix speed. Speed does not depend on the
weights: without a file, they are random.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import copy
from dataclasses import dataclass, replace
from functools import partial
import logging
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.bench import device_clock
from recon3r_ros.bench.device_clock import device_name, precision_name
from recon3r_ros.bench.device_memory import Alive, peak_mb, release
from recon3r_ros.bench.page import write_page
from recon3r_ros.bench.yardstick import machine
from recon3r_ros.errors import Recon3rError
from recon3r_ros.io.markdown import table
from recon3r_ros.models import weights
from recon3r_ros.models.engine import Engine, Pair
from recon3r_ros.models.preprocess import to_tensor
from recon3r_ros.models.registry import EngineConfig, Model
from recon3r_ros.models.runtime import resolve
from recon3r_ros.nets.dust3r import Dust3r, Dust3rConfig, HEADS, ViewOutput
import torch
from torch.nn.attention import sdpa_kernel, SDPBackend
from torch.utils.flop_counter import FlopCounterMode

_log = logging.getLogger(__name__)
#: Images, rows and columns
SHAPE = (384, 512)
#: Keyframes of the window, and index offsets of the pairs
WINDOW, OFFSETS = 6, (1, 2)
#: Directed pairs of a new keyframe
NEW_PAIRS = 6
#: Size of the matrices whose product measures the device's speed
MATRIX = {'cuda': 8192, 'cpu': 2048}
#: Repetitions of decoding with and without statistics, alternating
_ATTENTION_REPEAT = {'cuda': 3, 'cpu': 4}
Images = list[NDArray[np.uint8]]


@dataclass(frozen=True)
class _Row:
    """A new keyframe in one mode: seconds, and the GPU's peak memory in MB."""

    name: str
    encode_s: float
    decode_s: float
    heads_s: float | None
    memory_mb: float | None


def measure(model: Model, output: Path) -> int:
    """
    Measure and write a page.

    :param model: a pair network
    :param output: file of the page
    :returns: the exit status
    :raises Recon3rError: where the model or the device cannot be used
    """
    device, precision = resolve(model.engine)
    network = _network(model)
    rng = np.random.default_rng(0)
    images: Images = [rng.integers(0, 256, (*SHAPE, 3), np.uint8) for _ in range(WINDOW)]
    text = [f'# Networks: {model.name} on {device_name(device)}\n\n'
            f'Written by `recon3r bench --model {model.name}`; torch {torch.__version__}, images '
            f'of {SHAPE[1]}x{SHAPE[0]}, {"given" if model.weights else "random"} weights, full-'
            f'size network with {sum(p.numel() for p in network.parameters()) / 1e6:.0f} million '
            'parameters.\n',
            f'{machine()}.\n']
    if device.type != 'cuda':
        text.append('On a CPU; the same command measures a GPU where there is one.\n')
    flops = _flops(network)
    window = _window(network, images, device)
    attention = _attention(network, images, device, precision)
    # The best of before and after: on a shared machine a single measurement is unreliable
    peak = _matrix_speed(device, precision)
    rows = _new_keyframe(network, images, model)
    peak = max(peak, _matrix_speed(device, precision))
    text.append(f'One view encoded: {flops[0] / 1e12:.2f} TFLOP, one directed pair decoded: '
                f'{flops[1] / 1e12:.2f} TFLOP (counted, 2 per multiply-add). Measured matrix '
                f'speed in {precision_name(precision)}: {peak / 1e12:.3g} TFLOP/s; convolutions '
                'may take fewer operations than are counted.\n')
    text += [window, _new_keyframe_table(rows, flops, peak, device, precision), attention]
    page = '\n'.join(text)
    write_page(output, page)
    return 0


def _network(model: Model) -> Dust3r:
    if model.name not in HEADS:
        raise Recon3rError(f'model {model.name!r} is none of {", ".join(HEADS)}: nothing to '
                           'measure here')
    if model.weights:
        network: Dust3r = weights.load(model.weights, model.name).network
        return network
    torch.manual_seed(0)
    return Dust3r(Dust3rConfig(head=HEADS[model.name][0])).requires_grad_(False).eval()


def _window(network: Dust3r, images: Images, device: torch.device) -> str:
    """Compare a window with its pairs run separately, both in float32."""
    pairs = [(i, j) for i in range(WINDOW) for j in range(WINDOW) if abs(i - j) in OFFSETS]
    plain_network = copy.deepcopy(network).to(device)
    engine = Engine(copy.deepcopy(network), EngineConfig(str(device), 'float32'))

    def plain() -> None:
        for i, j in pairs:
            first, second = (to_tensor([images[k]], device) for k in (i, j))
            for view in plain_network(first, second):
                view.points.cpu()

    def ours() -> None:
        tokens = [engine.encode(image) for image in images]
        engine.decode([(tokens[i], tokens[j]) for i, j in pairs])

    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
        plain_s = device_clock.seconds(plain, device)
    ours_s = device_clock.seconds(ours, device)
    return ('## A window of keyframes\n\n'
            f'{WINDOW} keyframes, {len(pairs)} directed pairs at offsets '
            f'{" and ".join(map(str, OFFSETS))}, float32, same weights and images. The baseline '
            'encodes and decodes each pair separately, with explicit softmax attention.\n\n'
            + table((None, 'seconds', 'pairs a second'), [
                ('baseline', f'{plain_s:.3g}', f'{len(pairs) / plain_s:.3g}'),
                ('views encoded once, pairs batched, fused attention', f'{ours_s:.3g}',
                 f'{len(pairs) / ours_s:.3g}'),
                ('ratio (target >= 2)', f'{plain_s / ours_s:.2f}', None)]))


def _attention(network: Dust3r, images: Images, device: torch.device, precision: torch.dtype
               ) -> str:
    """Compare decoding with attention statistics, without, and with full matrices."""
    engine = Engine(copy.deepcopy(network), EngineConfig(str(device), precision_name(precision)))
    with torch.inference_mode():
        first, second = (engine.network.encode(to_tensor([image], device)) for image in images[:2])

    def decode(statistics: bool) -> tuple[ViewOutput, ViewOutput]:
        with torch.inference_mode():
            return engine.network.decode(first, second, statistics)

    seconds: dict[str, float] = {}
    memory: dict[str, float] = {}
    for _ in range(_ATTENTION_REPEAT[device.type] + 1):  # the first time warms up
        for name, statistics in (('without', False), ('with statistics', True)):
            release(device)
            found = device_clock.seconds(partial(decode, statistics), device)
            seconds[name] = min(found, seconds.get(name, np.inf))
            memory[name] = peak_mb(device, 'eager') or np.nan
    config = network.config
    tokens = torch.rand(1, config.dec_num_heads, first.rows * first.columns,
                        config.dec_embed_dim // config.dec_num_heads, device=device
                        ).to(precision)
    # One for every step of both decoders
    whole = 2 * config.dec_depth * device_clock.seconds(
        lambda: (tokens @ tokens.transpose(-1, -2)).mean(-2), device)
    seconds['with statistics of full matrices'] = seconds['without'] + whole
    kept = sum(view.attention.numel() * 2 / 1e6 for view in decode(True)
               if view.attention is not None)
    base = seconds['without']
    rows = [(name, f'{1e3 * value:.4g}', f'{value / base - 1:+.1%}')
            for name, value in seconds.items()]
    if device.type == 'cuda':
        more = f'{memory["with statistics"] - memory["without"]:.1f} MB'
    else:
        more = f'{_more_memory(network):.1f} MB, counted'
    peak = f' More memory at peak: {more} (target < 10).'
    return (f'## Statistics of attention, one directed pair, {precision_name(precision)}\n\n'
            'Easi3R needs the mean of the cross-attention logits over the queries. The product '
            'with the mean query gives it without the full matrix.\n\n'
            + table(('decoding', 'ms', 'more (target <= 5 %)'), rows)
            + f'\nThe statistics of a pair take {kept:.2f} MB.{peak}\n')


def _more_memory(network: Dust3r) -> float:
    """Count the megabytes that statistics add to the peak of a decoding, trunk in bfloat16."""
    peaks = []
    with torch.device('meta'), torch.inference_mode():
        ghost = Dust3r(network.config).lower_precision(torch.bfloat16)
        tokens = ghost.encode(torch.empty(1, 3, *SHAPE))
        for statistics in (False, True):
            with Alive() as alive:
                ghost.decode(tokens, tokens, statistics)
            peaks.append(alive.peak)
    return (peaks[1] - peaks[0]) / 1e6


def _new_keyframe(network: Dust3r, images: Images, model: Model) -> dict[str, _Row | str]:
    """Measure one encoding and the pairs of a new keyframe in every mode, or return the error."""
    device, _ = resolve(model.engine)
    rows: dict[str, _Row | str] = {}
    for mode in ('eager', 'compile', 'graphs') if device.type == 'cuda' else ('eager',):
        config = replace(model.engine, mode=mode)
        release(device)
        try:
            row = _measured(Engine(copy.deepcopy(network), config), mode, images)
        except Exception as error:  # a mode may need a compiler that is not installed
            _log.warning('mode %s: %s', mode, error)
            rows[mode] = type(error).__name__
        else:
            _log.info('mode %s: %.1f ms', mode, 1e3 * (row.encode_s + row.decode_s))
            rows[mode] = row
    return rows


def _new_keyframe_table(rows: dict[str, _Row | str], flops: tuple[float, float], peak: float,
                        device: torch.device, precision: torch.dtype) -> str:
    total = flops[0] + NEW_PAIRS * flops[1]
    lines: list[tuple[str | None, ...]] = []
    for mode, row in rows.items():
        if isinstance(row, str):
            lines.append((mode, f'failed: {row}', *6 * (None,)))
            continue
        memory = '' if row.memory_mb is None else f'{row.memory_mb:.0f}'
        seconds = row.encode_s + row.decode_s
        heads = '' if row.heads_s is None else f'{1e3 * row.heads_s:.4g}'
        lines.append((mode, f'{1e3 * row.encode_s:.4g}', f'{1e3 * row.decode_s:.4g}', heads,
                      f'{1e3 * seconds:.4g}', f'{NEW_PAIRS / seconds:.3g}',
                      f'{total / seconds / peak:.0%}', memory))
    lines.append(('target, H200', None, None, None, '<= 25', None, None, '<= 6000'))
    return (f'## A new keyframe with {NEW_PAIRS} directed pairs, {precision_name(precision)}, '
            'heads in float32\n\n'
            + table(('mode', 'encode, ms', 'decode, ms', 'of that heads, ms', 'all, ms',
                     'pairs a second', 'of the matrix speed', 'peak memory, MB'), lines))


def _measured(engine: Engine, name: str, images: Images) -> _Row:
    device = engine.device
    tokens = [engine.encode(image) for image in images[:NEW_PAIRS // 2 + 1]]
    pairs: list[Pair] = []
    for partner in tokens[1:]:
        pairs += [(tokens[0], partner), (partner, tokens[0])]
    if device.type == 'cuda':
        engine.decode(pairs)  # compiles, records, selects kernels
    encode_s = device_clock.seconds(lambda: engine.encode(images[0]), device)
    heads_s = None
    if name == 'eager':
        with _clock(engine.network, device) as spent:
            decode_s = device_clock.seconds(lambda: engine.decode(pairs), device)
        heads_s = spent()
    if name != 'eager' or device.type == 'cuda':
        decode_s = device_clock.seconds(lambda: engine.decode(pairs), device)
    return _Row(name, encode_s, decode_s, heads_s, peak_mb(device, name))


@contextmanager
def _clock(network: Any, device: torch.device) -> Iterator[Callable[[], float]]:
    """Measure the run time of the heads; on a GPU this slows the rest down."""
    begins: list[float] = []
    spent: list[float] = []

    def before(*_: Any) -> None:
        device_clock.synchronise(device)
        begins.append(perf_counter())

    def after(*_: Any) -> None:
        device_clock.synchronise(device)
        spent.append(perf_counter() - begins[-1])

    hooks = [hook for head in (network.downstream_head1, network.downstream_head2)
             for hook in (head.register_forward_pre_hook(before),
                          head.register_forward_hook(after))]
    try:
        # Heads come in pairs; the median excludes the warm-up
        yield lambda: 2 * float(np.median(spent))
    finally:
        for hook in hooks:
            hook.remove()


def _flops(network: Dust3r) -> tuple[float, float]:
    """Count the operations of an encoding and of a decoded pair, without computing them."""
    ghost = Dust3r(network.config).to('meta')
    with torch.inference_mode(), FlopCounterMode(display=False) as encoding:
        tokens = ghost.encode(torch.empty(1, 3, *SHAPE, device='meta'))
    with torch.inference_mode(), FlopCounterMode(display=False) as decoding:
        ghost.decode(tokens, tokens)
    return float(encoding.get_total_flops()), float(decoding.get_total_flops())


def _matrix_speed(device: torch.device, precision: torch.dtype) -> float:
    """Measure operations a second in a product of large matrices."""
    size = MATRIX[device.type]
    a = torch.rand(size, size, device=device).to(precision)
    for _ in range(3):
        a @ a
    best = min(device_clock.seconds(lambda: a @ a, device) for _ in range(5))
    return 2.0 * size ** 3 / best
