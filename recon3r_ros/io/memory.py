# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Resident memory of processes."""

from __future__ import annotations

from pathlib import Path
import resource
import sys


def peak_memory_mb(*others: int) -> float:
    """
    Return the peak resident set of this process and others, megabytes.

    :param others: their process ids; one that has ended, or is unknown here, counts nothing
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    own = peak / 1e6 if sys.platform == 'darwin' else peak * 1024 / 1e6
    return own + sum(_peak_mb(pid) for pid in others)


def _peak_mb(pid: int) -> float:
    try:
        status = Path(f'/proc/{pid}/status').read_text(encoding='ascii')
    except OSError:
        return 0.0
    peaks = [line.split()[1] for line in status.splitlines() if line.startswith('VmHWM:')]
    return int(peaks[0]) * 1024 / 1e6 if peaks else 0.0


def resident_memory_mb(pid: int | str = 'self') -> float | None:
    """Return the current resident set of a process, megabytes; None where unavailable."""
    try:
        pages = int(Path(f'/proc/{pid}/statm').read_text(encoding='ascii').split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * resource.getpagesize() / 1e6
