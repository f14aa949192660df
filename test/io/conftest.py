# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the io tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import io
import resource
import threading

import numpy as np
from numpy.typing import NDArray
from PIL import Image
import pytest


def encoded(image: NDArray[np.generic], kind: str, orientation: int = 1, **options: int) -> bytes:
    """Return a file written by Pillow, an encoder independent of the one under test."""
    exif = Image.Exif()
    if orientation != 1:
        exif[0x0112] = orientation
    content = io.BytesIO()
    Image.fromarray(image).save(content, kind, exif=exif, **options)
    return content.getvalue()


def blocks(height: int = 48, width: int = 64, channels: int = 3) -> NDArray[np.uint8]:
    """Return an image of 16x16 blocks, which survives JPEG almost unchanged."""
    shape = (height // 16, width // 16, channels)
    values = np.random.default_rng(7).integers(30, 220, shape, dtype=np.uint8)
    image = values.repeat(16, axis=0).repeat(16, axis=1)
    return image if channels == 3 else image[:, :, 0]


@pytest.fixture
def save() -> Callable[..., bytes]:
    """Return the independent encoder."""
    return encoded


@pytest.fixture
def block_image() -> Callable[..., NDArray[np.uint8]]:
    """Return a function that makes block images."""
    return blocks


@pytest.fixture
def no_new_threads() -> Iterator[None]:
    """Fail where a test leaves a thread of the package running."""
    yield
    left = [t.name for t in threading.enumerate() if t.name.startswith('recon3r-')]
    assert left == []


@pytest.fixture
def full_disk() -> Callable[[int], object]:
    """Return a context manager in which no file grows beyond a size, so that writes fail."""

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited
