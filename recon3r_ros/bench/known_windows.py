# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
`recon3r bench --model mapanything`: operations, run time and memory of windows of views.

Operations and memory are counted for images of the published size, on any machine; run times are
those of this one. Speed does not depend on the weights: without a file, they are random.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.bench import device_clock
from recon3r_ros.bench.device_memory import Alive, release
from recon3r_ros.bench.measured_network import heading, millions, MODES, network_of, timed
from recon3r_ros.bench.page import write_page
from recon3r_ros.bench.yardstick import machine
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.markdown import table
from recon3r_ros.models.known import rays_of
from recon3r_ros.models.known_engine import KnownEngine
from recon3r_ros.models.registry import EngineConfig, Model
from recon3r_ros.models.runtime import resolve
from recon3r_ros.models.window_engine import DENSE_VIEWS
from recon3r_ros.nets.mapanything import Given, MapAnything, MapAnythingConfig
from recon3r_ros.nets.vggt import PATCH
import torch
from torch.utils.flop_counter import FlopCounterMode

#: Rows and columns of the images for which operations and memory are counted
PUBLISHED = (392, 518)
#: The same of the images that are measured: as published, and small ones for a CPU
SHAPES = {'cuda': PUBLISHED, 'cpu': (168, 224)}
#: Views of windows
SIZES: dict[str, tuple[int, ...]] = {'cuda': (1, 2, 4, 8, 16), 'cpu': (1, 2, 4)}
COUNTED = (1, 2, 4, 8)


def measure(model: Model, output: Path) -> int:
    """
    Measure and write a page.

    :param model: mapanything
    :param output: file of the page
    :returns: the exit status
    :raises Recon3rError: where the model or the device cannot be used
    """
    line = machine()
    device, precision = resolve(model.engine)
    network = network_of(model, device, lambda: MapAnything(MapAnythingConfig()))
    config = network.config
    size = millions(network)
    rows, columns = SHAPES[device.type]
    measured = [row for mode in MODES[device.type]
                for row in _rows(network, replace(model.engine, mode=mode))]
    page = (heading('Windows of views', model, device, '', f'network {config.release} with {size}',
                    line)
            + f'## Counted, images of {PUBLISHED[1]}x{PUBLISHED[0]}, trunk in bfloat16\n\n'
            'Operations: 2 per multiply-add. Memory: weights and all tensors that are alive at '
            f'the same time, without that of libraries; depth of {DENSE_VIEWS["cuda"]} views at '
            'a time. A view and its rays and depth are encoded once.\n\n'
            + table(('views', 'encode a view, TFLOP', 'its rays and depth', 'share',
                     'all heads', 'all views anew', 'memory, MB'),
                    [counted(config, views) for views in COUNTED])
            + f'\n## Measured, images of {columns}x{rows}, trunk in '
            f'{device_clock.precision_name(precision)}, heads in float32\n\n'
            'A new view is encoded with its rays and depth, and looked at with the window.\n\n'
            + table(('mode', 'views', 'encode a view, s', 'look, depth of one, s',
                     'look, depth of all, s', 'peak memory, MB'), measured))
    write_page(output, page)
    return 0


def counted(config: MapAnythingConfig, views: int) -> tuple[str, ...]:
    """
    Count operations (TFLOP) and memory (MB) of a window, without computing it.

    :return: views, encoding of one, of its rays and depth, sharing, heads, all, memory
    """
    rows, columns = (side // PATCH for side in PUBLISHED)
    with torch.device('meta'), torch.inference_mode():
        network = MapAnything(config).lower_precision(torch.bfloat16)
        held = sum(p.numel() * p.element_size() for p in network.parameters())
        with FlopCounterMode(display=False) as encoding:
            patches, classes = network.encode(torch.empty(1, 3, *PUBLISHED))
        with FlopCounterMode(display=False) as known:
            network.encode_rays(torch.empty(1, *PUBLISHED, 3))
            network.encode_depth(torch.empty(1, *PUBLISHED), torch.empty(1))
        patches, classes = (x.expand(views, -1, -1) for x in (patches.float(), classes))
        with FlopCounterMode(display=False) as sharing, Alive() as shared_memory:
            fused = network.fuse(patches, Given.of(torch.empty(views, 9), torch.empty(1)))
            shared = network.share(fused, classes)
        kept = sum(t.numel() * t.element_size() for t in (fused, *shared.dense))
        with FlopCounterMode(display=False) as heads:
            network.poses(shared)
            network.scale(shared)
            network.dense(fused, shared.dense, rows, columns)
        some = slice(0, DENSE_VIEWS['cuda'])
        with Alive() as dense_memory:
            network.dense(fused[some], [t[some] for t in shared.dense], rows, columns)
    parts = [part.get_total_flops() / 1e12 for part in (encoding, known, sharing, heads)]
    whole = views * parts[0] + sum(parts[2:])
    peak = held + max(shared_memory.peak, kept + dense_memory.peak)
    return (f'{views}', *(f'{part:.2f}' for part in (*parts, whole)), f'{peak / 1e6:.0f}')


def _rows(network: MapAnything, config: EngineConfig) -> list[tuple[str, ...]]:
    """Measure a network in one mode, with windows of all sizes."""
    device, _ = resolve(config)
    release(device)
    # Takes the network over, in its precision
    engine, found = KnownEngine(network, config), []
    rows, columns = SHAPES[device.type]
    rng = np.random.default_rng(0)
    image: NDArray[np.uint8] = rng.integers(0, 256, (rows, columns, 3), np.uint8)
    rays = rays_of(Camera.guess(columns, rows))
    encode = partial(engine.encode, image, rays, np.ones((rows, columns), np.float32))
    view = encode()
    for count in SIZES[device.type]:
        works: list[Callable[[], Any]] = [encode, *(
            partial(engine.look, [view] * count, wanted) for wanted in (1, count))]
        seconds, peak = timed(works, device, config.mode)
        found.append((config.mode, f'{count}', *seconds, peak))
    return found
