# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Changes from one map to the next, as sent between two processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from recon3r_ros.slam.archive import ArchivedView
from recon3r_ros.slam.types import Keyframe, Map


@dataclass(frozen=True, eq=False)
class MappedViews:
    """
    A map, and the images by which its keyframes are encoded again.

    :param map: the map
    :param views: by keyframe
    """

    map: Map
    views: Mapping[int, ArchivedView]

    @classmethod
    def empty(cls) -> MappedViews:
        """Return that of a map without keyframes."""
        return cls(Map(), {})


@dataclass(frozen=True, eq=False)
class MapDelta:
    """
    From one map to the next.

    :param map: the next one, without keyframes
    :param changed: fields of keyframes that are new or differ, by id, in order
    :param ids: all keyframes of the next one
    :param views: those that are new
    """

    map: Map
    changed: dict[int, dict[str, Any]]
    ids: tuple[int, ...]
    views: dict[int, ArchivedView]

    @classmethod
    def between(cls, old: MappedViews, new: MappedViews) -> MapDelta:
        """Compare two maps; a field that is the same object has not changed."""
        changed = {}
        for i, keyframe in new.map.keyframes.items():
            before = old.map.keyframes.get(i)
            if before is not keyframe:
                changed[i] = {
                    f.name: getattr(keyframe, f.name) for f in fields(Keyframe)
                    if before is None or getattr(keyframe, f.name) is not getattr(before, f.name)}
        views = {i: v for i, v in new.views.items() if old.views.get(i) is not v}
        return cls(replace(new.map, keyframes={}), changed, tuple(new.map.keyframes), views)

    def apply(self, old: MappedViews) -> MappedViews:
        """Return the next map."""
        keyframes = {}
        for i in self.ids:
            changes = self.changed.get(i)
            before = old.map.keyframes.get(i)
            if changes is None:
                keyframes[i] = old.map.keyframes[i]
            else:
                keyframes[i] = Keyframe(**changes) if before is None else replace(
                    before, **changes)
        known = {**old.views, **self.views}
        return MappedViews(replace(self.map, keyframes=keyframes),
                           {i: known[i] for i in self.ids if i in known})
