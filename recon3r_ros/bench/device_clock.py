# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Run times on a device, and the device's name."""

from __future__ import annotations

from collections.abc import Callable
import os
import platform
from time import perf_counter
from typing import Any

import numpy as np
import torch

#: Repetitions on a GPU; on a CPU one takes a minute
REPEAT = {'cuda': 10, 'cpu': 1}


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Measure the median duration."""
    times = []
    for _ in range(REPEAT[device.type]):
        synchronise(device)
        begin = perf_counter()
        work()
        synchronise(device)
        times.append(perf_counter() - begin)
    return float(np.median(times))


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def precision_name(precision: torch.dtype) -> str:
    """Return the name of a number format, as in --precision."""
    return str(precision).removeprefix('torch.')


def device_name(device: torch.device) -> str:
    """Return the name of a device."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    return f'{os.cpu_count()} CPU cores ({platform.machine()})'
