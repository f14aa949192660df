# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Counting of memory."""

from __future__ import annotations

from recon3r_ros.bench.device_memory import Alive
import torch


def test_memory_is_that_of_live_tensors() -> None:
    with torch.device('meta'), Alive() as alive:
        first = torch.zeros(1000)
        del first
        second = torch.zeros(3000)
        view = second[:10]  # shares memory
        del second
        third = torch.zeros(2000)
        del view
        fourth = torch.zeros(100)
    assert alive.peak == 4 * (3000 + 2000)
    del third, fourth
