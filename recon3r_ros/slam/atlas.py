# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The present map and earlier ones, each with the sources of its metric scale."""

from __future__ import annotations

from collections.abc import Iterable

from recon3r_ros.slam.scale import ScaleSources
from recon3r_ros.slam.types import Map, MetricScale


class Atlas:
    """
    Snapshots of all maps; the only owner of which one is the present one.

    :param scale: sources of the present map's scale
    """

    def __init__(self, scale: ScaleSources) -> None:
        self.map = Map()
        self.scale = scale
        self._earlier: dict[int, tuple[Map, ScaleSources]] = {}

    @property
    def maps(self) -> list[Map]:
        """All maps with depth, in the order of their beginning."""
        known = [*(known for known, _ in self._earlier.values()), self.map]
        return sorted((m for m in known if m.started), key=lambda m: m.number)

    def set_aside(self) -> None:
        """Keep the present map, if there is one, as an earlier one."""
        if self.map.started:
            self._earlier[self.map.number] = self.map, self.scale
        self.map, self.scale = Map(), self.scale.of_another()

    def take(self, known: Map) -> None:
        """
        Take over the present map as it is now.

        :param known: it may be an earlier map, which goes on, or contain earlier ones
        """
        for number, (earlier, scale) in list(self._earlier.items()):
            if all(i in known for i in earlier.keyframes):
                del self._earlier[number]
                if number == known.number:
                    self.scale = scale
                    self.scale.interrupt()
        self.map = known

    def refine(self, others: Iterable[Map]) -> None:
        """Take over earlier maps as they are now."""
        for known in others:
            if known.number in self._earlier:
                self._earlier[known.number] = known, self._earlier[known.number][1]

    def activate(self, number: int) -> None:
        """Make an earlier map the present one, as it was known last."""
        known, scale = self._earlier.pop(number)
        self.set_aside()
        self.map, self.scale = known, scale

    def forget_smallest(self, most: int) -> list[Map]:
        """
        Forget earlier maps, the smallest first and of equal ones the oldest, until few are left.

        :param most: keyframes that the rest has together, unless one map alone has more
        :return: those that are forgotten
        """
        sizes = {number: len(known.keyframes) for number, (known, _) in self._earlier.items()}
        forgotten = []
        for number in sorted(sizes, key=lambda n: (sizes[n], n))[:-1]:
            if sum(sizes.values()) <= most:
                break
            del sizes[number]
            forgotten.append(self._earlier.pop(number)[0])
        return forgotten

    def earlier_metrics(self, source: str) -> dict[int, MetricScale | None]:
        """Metres per unit of the earlier maps, where known, by number; see `System.metric`."""
        return {number: scale.metric(source, known.metric, known.rig_metric)
                for number, (known, scale) in self._earlier.items()}
