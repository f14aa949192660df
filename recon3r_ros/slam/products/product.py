# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is made of a map: clouds, grids, meshes. One protocol for all."""

from __future__ import annotations

from typing import Protocol, TypeVar

from recon3r_ros.slam.types import Map

V = TypeVar('V', covariant=True)


class Product(Protocol[V]):
    """
    Follows a map; what it was made of before may be kept for the next update.

    A product belongs to one map and one unit of length: a reset, or another scale, begins another.
    """

    def update(self, known: Map) -> V:
        """Return the product of the map as it is known now."""
        ...
