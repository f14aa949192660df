# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Memory of computations: a GPU's, and counted on tensors without content."""

from __future__ import annotations

import gc
from typing import Any
import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode


def release(device: torch.device) -> None:
    """Free the memory of what is no longer used, and count the peak anew."""
    gc.collect()
    if device.type == 'cuda':
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_mb(device: torch.device, mode: str) -> float | None:
    """
    Return a GPU's peak memory since `release`, in MB; None on a CPU.

    :param mode: with CUDA graphs, memory that is set aside for their replay counts
    """
    if device.type != 'cuda':
        return None
    peak = (torch.cuda.max_memory_reserved if mode == 'graphs'
            else torch.cuda.max_memory_allocated)
    return peak(device) / 1e6


class Alive(TorchDispatchMode):
    """Adds up the memory of the tensors that operations make, during their lifetime."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._now = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation."""
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor.untyped_storage())
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._seen:
            return
        self._seen.add(key)
        size = storage.nbytes()
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self._now -= size
