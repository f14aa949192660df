# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
`recon3r bench --model must3r`: run time of a network with a memory on this machine.

A new keyframe with its partner, rendered against memories of all sizes, and joined to them. Speed
does not depend on the weights: without a file, they are random.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.bench import device_clock, memory_growth
from recon3r_ros.bench.device_memory import release
from recon3r_ros.bench.measured_network import heading, millions, MODES, network_of, timed
from recon3r_ros.bench.page import write_page
from recon3r_ros.bench.yardstick import machine
from recon3r_ros.io.markdown import table
from recon3r_ros.models.memory_engine import MemoryEngine
from recon3r_ros.models.registry import EngineConfig, Model
from recon3r_ros.models.runtime import resolve
from recon3r_ros.nets.must3r import Must3r, Must3rConfig

#: Rows and columns of the images: as published, and small ones for a CPU
SHAPES = {'cuda': (384, 512), 'cpu': (160, 224)}
#: Remembered views
SIZES: dict[str, tuple[int, ...]] = {'cuda': (1, 2, 4, 7, 15, 31), 'cpu': (1, 2, 4, 7)}
#: Views that are rendered for a new keyframe: itself and its partner
RENDERED = 2


def measure(model: Model, output: Path) -> int:
    """
    Measure and write a page.

    :param model: must3r
    :param output: file of the page
    :returns: the exit status
    :raises Recon3rError: where the model or the device cannot be used
    """
    line = machine()
    device, precision = resolve(model.engine)
    network = network_of(model, device, lambda: Must3r(Must3rConfig()))
    size = millions(network)
    rows, columns = SHAPES[device.type]
    image = np.random.default_rng(0).integers(0, 256, (rows, columns, 3), np.uint8)
    measured = [row for mode in MODES[device.type]
                for row in _rows(network, replace(model.engine, mode=mode), image)]
    page = (heading('Memories of views', model, device, f', images of {columns}x{rows}',
                    f'full-size network with {size}, trunk in '
                    f'{device_clock.precision_name(precision)}, head in float32', line)
            + 'Rendered: a new keyframe and its partner. Joined: the keyframe, with its memory.'
            '\n\n'
            + table(('mode', 'remembered views', 'encode a view, s', f'render {RENDERED} views, s',
                     'join a view, s', 'their memory, MB', 'peak memory, MB'), measured)
            + '\n' + _growth())
    write_page(output, page)
    return 0


def _growth() -> str:
    """Return the page's section on many keyframes."""
    rows = [(str(added), str(kept), f'{tokens:.3f}', f'{resident:.0f}')
            for added, kept, tokens, resident in memory_growth.measure()]
    return (f'## Memory over {memory_growth.KEYFRAMES} keyframes\n\n'
            'Tokens of a small random network, with points of a simulated room, so that every '
            f'image becomes a keyframe; the map keeps {memory_growth.MOST}.\n\n'
            + table(('keyframes added', 'in the map', 'tokens of the memory, MB',
                     'resident memory, MB'), rows))


def _rows(network: Must3r, config: EngineConfig, image: NDArray[np.uint8]
          ) -> list[tuple[str, ...]]:
    """Measure a network in one mode, with memories of all sizes."""
    device, _ = resolve(config)
    release(device)
    # Takes the network over, in its precision
    engine, rows = MemoryEngine(network, config), []
    view = engine.encode(image)
    (_, remembered), = engine.join([view], ())
    held = remembered.numel() * remembered.element_size()
    for count in SIZES[device.type]:
        memory = [remembered] * count
        works = (partial(engine.encode, image), partial(engine.render, [view] * RENDERED, memory),
                 partial(engine.join, [view], memory))
        seconds, peak = timed(works, device, config.mode)
        rows.append((config.mode, f'{count}', *seconds, f'{count * held / 1e6:.1f}', peak))
    return rows
