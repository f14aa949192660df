# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
`recon3r bench --model vggt`: run time and memory of windows of views on this machine.

A window that slides by one view against one that is recomputed, windows of all sizes beside the
authors' times, and their memory. Speed does not depend on the weights: without a file, they are
random.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.bench import device_clock
from recon3r_ros.bench.device_memory import Alive, peak_mb, release
from recon3r_ros.bench.measured_network import heading, millions, MODES, network_of
from recon3r_ros.bench.page import write_page
from recon3r_ros.bench.yardstick import machine
from recon3r_ros.io.markdown import table
from recon3r_ros.io.memory import resident_memory_mb
from recon3r_ros.io.sequences import open_sequence
from recon3r_ros.io.stamps import NS_PER_S
from recon3r_ros.models.registry import EngineConfig, Model
from recon3r_ros.models.runtime import resolve
from recon3r_ros.models.types import Predictor
from recon3r_ros.models.vggt import VggtPredictor
from recon3r_ros.models.window_engine import DENSE_VIEWS, WindowEngine
from recon3r_ros.nets.vggt import PATCH, Vggt, VggtConfig
import torch

#: Rows and columns of the images: as published, and small ones for a CPU
SHAPES = {'cuda': (392, 518), 'cpu': (168, 224)}
#: Views of windows, and the authors' seconds for them on an H100 (VGGT, table 9), which are those
#: of the encoder and the attention among views, with FlashAttention 3
SIZES: dict[str, tuple[int, ...]] = {'cuda': (1, 2, 4, 8, 16, 20), 'cpu': (1, 2, 4, 8)}
AUTHORS = {1: 0.04, 2: 0.05, 4: 0.07, 8: 0.11, 20: 0.31}
#: Views, rows and columns for which memory is stated
MEMORY = (16, 392, 518)
#: Number of images for the measurement of memory growth
FRAMES, SMALL = 500, VggtConfig(64, 4, 1, 1, (0, 1, 2, 3), 4)
Images = list[NDArray[np.uint8]]


def measure(model: Model, pack: Path, output: Path) -> int:
    """
    Measure and write a page.

    :param model: vggt
    :param pack: images for the measurement of memory growth
    :param output: file of the page
    :returns: the exit status
    :raises Recon3rError: where the model or the device cannot be used
    """
    line = machine()
    device, precision = resolve(model.engine)
    network = network_of(model, device, lambda: Vggt(VggtConfig()))
    size = millions(network)
    rows, columns = SHAPES[device.type]
    rng = np.random.default_rng(0)
    images: Images = [rng.integers(0, 256, (rows, columns, 3), np.uint8)
                      for _ in range(max(*SIZES[device.type], model.options.size + 1))]
    sliding = _sliding(WindowEngine(network, EngineConfig(str(device), 'float32')), images,
                       model.options.size)
    windows = _windows(network, model.engine, images)
    page = (heading('Windows of views', model, device, f', images of {columns}x{rows}',
                    f'full-size network with {size}', line)
            + ('' if device.type == 'cuda' else
               'On a CPU; the same command measures a GPU where there is one.\n\n')
            + '\n'.join([sliding, windows, _memory(network.config), _growth(pack)]))
    write_page(output, page)
    return 0


def _sliding(engine: WindowEngine, images: Images, size: int) -> str:
    """Compare a window that slides by one view with the same window recomputed."""
    known = [engine.encode(image) for image in images[1:size]]
    engine.look(known[-1:], 1)  # selects kernels

    def anew() -> None:
        engine.look([engine.encode(image) for image in images[1:size + 1]], size)

    def slid() -> None:
        engine.look([engine.encode(images[size]), *known], 1)

    def all_dense() -> None:
        engine.look([engine.encode(images[size]), *known], size)

    seconds = [device_clock.seconds(work, engine.device) for work in (anew, all_dense, slid)]
    return (f'## A window of {size} slides by one view, float32\n\n'
            'The DINOv2 tokens of a view are cached; depth is computed for the new view.\n\n'
            + table((None, 'DINOv2 runs for', 'depth of', 'seconds', 'times as fast'), [
                ('recomputed', f'{size} views', f'{size} views', f'{seconds[0]:.3g}', None),
                ('views encoded once', '1 view', f'{size} views', f'{seconds[1]:.3g}',
                 f'{seconds[0] / seconds[1]:.2f}'),
                ('and depth only where needed (target >= 1.5)', '1 view', '1 view',
                 f'{seconds[2]:.3g}', f'{seconds[0] / seconds[2]:.2f}')]))


def _windows(network: Vggt, config: EngineConfig, images: Images) -> str:
    """Measure windows of all sizes, end to end and without the heads."""
    device, precision = resolve(config)
    rows = [_row(network, replace(config, mode=mode), images[:count])
            for mode in MODES[device.type] for count in SIZES[device.type]]
    return (f'## Whole windows, trunk in {device_clock.precision_name(precision)}, heads in '
            'float32\n\n'
            'The trunk encodes all views and runs the attention among them, and the camera head, '
            'which is small. With heads: all depths, too. The times of its authors are those of '
            'the trunk, for images of about 518x392, with FlashAttention 3 on an H100.\n\n'
            + table(('mode', 'views', 'trunk, s', 'authors, H100, s', 'with heads, s',
                     'peak memory, MB'), rows))


def _row(network: Vggt, config: EngineConfig, images: Images) -> tuple[str, ...]:
    """Measure a window; its engine, with what it has recorded, is released with the function."""
    device, _ = resolve(config)
    release(device)
    # Takes the network over, in its precision
    engine, count = WindowEngine(network, config), len(images)
    trunk, whole = (partial(_window, engine, images, heads) for heads in (False, True))
    if device.type == 'cuda':
        whole()  # records, selects kernels
    seconds = [device_clock.seconds(work, device) for work in (trunk, whole)]
    peak = peak_mb(device, config.mode)
    return (config.mode, f'{count}', f'{seconds[0]:.3g}',
            f'{AUTHORS[count]:.2f}' if count in AUTHORS else '', f'{seconds[1]:.3g}',
            '' if peak is None else f'{peak:.0f}')


def _window(engine: WindowEngine, images: Images, heads: bool) -> None:
    tokens = [engine.encode(image) for image in images]
    engine.look(tokens, len(images) if heads else 0)


def _growth(pack: Path) -> str:
    """Measure memory growth over many images with a small network."""
    head = f'## Memory over {FRAMES} images\n\n'
    if not pack.is_dir():
        return f'{head}{pack.name} is not available.\n'
    from recon3r_ros.slam.system import System  # compiles loops that nothing else here needs
    network = Vggt(SMALL).requires_grad_(False)
    predictor = VggtPredictor(WindowEngine(network, EngineConfig('cpu')), SMALL.image_size)
    reconstruction = System(cast(Predictor, predictor))
    frames = list(open_sequence(images=pack))
    memory = {}
    for index in range(FRAMES):
        frame = frames[index % len(frames)]
        reconstruction.add(replace(frame, index=index, name=f'{index}',
                                   stamp_ns=round(index * NS_PER_S / 30)))
        memory[index + 1] = resident_memory_mb() or 0.0
    reconstruction.finish()
    rows = [(f'{n}', f'{memory[n]:.0f}') for n in (50, 150, 250, FRAMES)]
    return (f'{head}The whole pipeline over {pack.name}, repeated, with a small untrained '
            'network: tracking is lost most of the time, and relocalisation runs.\n\n'
            + table(('images', 'resident memory, MB'), rows))


def _memory(config: VggtConfig) -> str:
    """Memory of a large window: live tensors, counted without computing them."""
    views, rows, columns = MEMORY
    lines = []
    with torch.device('meta'), torch.inference_mode():
        network = Vggt(config).lower_precision(torch.bfloat16)
        weights = sum(p.numel() * p.element_size() for p in network.parameters())
        # The views are encoded one by one
        patches = torch.empty(views, rows * columns // PATCH ** 2, config.embed_dim,
                              dtype=torch.bfloat16)
        with Alive() as look:
            steps = network.aggregate(patches, rows // PATCH)
            network.cameras(steps)
        kept = sum(t.numel() * t.element_size() for t in steps.dense)
        for name, count in DENSE_VIEWS.items():
            with Alive() as dense:
                network.depth(steps.of(slice(0, count)))
            peak = weights + max(look.peak, kept + dense.peak)
            lines.append((name, f'{count}', *(f'{size / 1e6:.0f}' for size in (
                weights, look.peak, kept, dense.peak, peak))))
    return (f'## Memory for {views} views of {columns}x{rows}, trunk in bfloat16\n\n'
            'Counted: all tensors that are alive at the same time, without the memory of '
            'libraries. MB.\n\n'
            + table(('on', 'views that get depth at a time', 'weights',
                     'attention among all views', 'kept for depth', 'depth', 'peak'), lines))
