# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""People whom a network finds, as a source of people."""

from __future__ import annotations

from recon3r_ros.models.types import PeopleFinder
from recon3r_ros.slam.semantics import People
from recon3r_ros.slam.types import Frame


class NetworkPeople:
    """
    A source of people: a network that sees every frame.

    :param finder: the network
    """

    def __init__(self, finder: PeopleFinder) -> None:
        self._finder = finder

    def people(self, frame: Frame) -> People:
        """
        Find the people in a frame.

        :raises Recon3rError: where the network's device runs out of memory
        """
        return People(*self._finder.find(frame.image))
