# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A page of measurements."""

from __future__ import annotations

from pathlib import Path

from recon3r_ros.cli.console import output as console
from recon3r_ros.io.atomic import write_bytes


def write_page(output: Path, page: str) -> None:
    """
    Write a page, and print it.

    :raises OutputError: where it cannot be written
    """
    write_bytes(output, page.encode())
    console().print(page, soft_wrap=True)
