# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The network that a page of run times is about: its weights, its heading, its times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from recon3r_ros.bench import device_clock
from recon3r_ros.bench.device_memory import peak_mb
from recon3r_ros.models import weights
from recon3r_ros.models.registry import Model
import torch
from torch import nn

Network = TypeVar('Network', bound=nn.Module)
#: How a network runs, by device
MODES = {'cuda': ('eager', 'graphs'), 'cpu': ('eager',)}


def network_of(model: Model, device: torch.device, build: Callable[[], Network]) -> Network:
    """
    Load the weights of a model, or make random ones, the same ones each time.

    :param build: makes a network of published size
    :raises Recon3rError: where the weights cannot be loaded
    """
    torch.manual_seed(0)
    if model.weights:
        network: Network = weights.load(model.weights, model.name).network
        return network
    with device:  # which makes random numbers faster than a CPU
        return build().requires_grad_(False).eval()


def heading(topic: str, model: Model, device: torch.device, images: str, network: str,
            machine: str) -> str:
    """
    Return the beginning of a page.

    :param topic: of its title
    :param images: size of the images, with a comma before it; '' where sections state it
    :param network: its size, and what computes in which precision
    :param machine: line about the machine
    """
    return (f'# {topic}: {model.name} on {device_clock.device_name(device)}\n\n'
            f'Written by `recon3r bench --model {model.name}`; torch {torch.__version__}{images}, '
            f'{"given" if model.weights else "random"} weights, {network}.\n\n{machine}.\n\n')


def millions(network: nn.Module) -> str:
    """Count the parameters of a network."""
    return f'{sum(p.numel() for p in network.parameters()) / 1e6:.0f} million parameters'


def timed(works: Sequence[Callable[[], Any]], device: torch.device, mode: str
          ) -> tuple[list[str], str]:
    """
    Measure what is to be done once for each column of a table.

    :return: seconds of each, and a GPU's peak memory in one run of them, MB; '' on a CPU
    """
    for work in works if device.type == 'cuda' else ():
        work()  # records, selects kernels
    peak = peak_mb(device, mode)
    return ([f'{device_clock.seconds(work, device):.3g}' for work in works],
            '' if peak is None else f'{peak:.0f}')
