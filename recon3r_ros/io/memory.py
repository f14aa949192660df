# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Resident memory of processes."""

from __future__ import annotations

from pathlib import Path
import resource
import sys


def peak_memory_mb() -> float:
    """Return the peak resident set of this process, megabytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == 'darwin' else peak * 1024 / 1e6


def resident_memory_mb(pid: int | str = 'self') -> float | None:
    """Return the current resident set of a process, megabytes; None where unavailable."""
    try:
        pages = int(Path(f'/proc/{pid}/statm').read_text(encoding='ascii').split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * resource.getpagesize() / 1e6
