# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The network that a page of run times is about."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

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
