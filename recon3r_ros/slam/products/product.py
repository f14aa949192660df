# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Products of a map: clouds, grids, meshes. One protocol for all."""

from __future__ import annotations

from typing import Protocol, TypeVar

from recon3r_ros.slam.types import Map

V = TypeVar('V', covariant=True)


class Product(Protocol[V]):
    """
    A product of a growing map; data of earlier updates may be kept.

    A product belongs to one map and one unit of length: a reset, or another scale, needs a new
    product.
    """

    def update(self, known: Map) -> V:
        """Return the product of the present map."""
        ...
