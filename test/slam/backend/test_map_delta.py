# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One map becomes another through what has changed, sent from process to process."""

from __future__ import annotations

from dataclasses import fields, replace
import pickle

from keyframes_by_hand import at_x, CAMERA, keyframe
import numpy as np
import pytest
from recon3r_ros.models.types import ViewLabels
from recon3r_ros.slam.archive import ArchivedView
from recon3r_ros.slam.backend.map_delta import MapDelta, MappedViews
from recon3r_ros.slam.types import Keyframe, Map, MapEdge, MetricScale, Retired, RigMount


def view(i: int) -> ArchivedView:
    """Make the image of a keyframe."""
    return ArchivedView(np.full(100, i, np.uint8), CAMERA, True, 1.0 + i)


def mapped(keyframes: dict[int, Keyframe]) -> MappedViews:
    """Give each keyframe a view."""
    return MappedViews(Map(keyframes), {i: view(i) for i in keyframes})


BEFORE = mapped({i: replace(keyframe(i, at_x(0.1 * i)), attention=np.zeros((6, 8), bool),
                            mount=RigMount(np.eye(4), 7), labels=ViewLabels(
                                np.zeros((6, 8), np.uint8), np.zeros((6, 8), np.float32),
                                np.zeros((6, 8), np.uint16)))
                 for i in (2, 3, 5)})


def with_keyframes(old: MappedViews, **changed: Keyframe) -> MappedViews:
    """Replace keyframes, whose ids come as k2, k3 and so on."""
    new = {int(k[1:]): v for k, v in changed.items()}
    return MappedViews(replace(old.map, keyframes={**old.map.keyframes, **new}), old.views)


def travelled(delta: MapDelta) -> MapDelta:
    """Send it to another process."""
    return pickle.loads(pickle.dumps(delta))


def same(a: Keyframe, b: Keyframe) -> bool:
    """Tell whether two keyframes are equal in all fields."""
    mounts = [None if k.mount is None else (k.mount.T_rig_cam.tolist(), k.mount.instant_ns)
              for k in (a, b)]
    labels = [None if k.labels is None else [x.tolist() for x in (
        k.labels.classes, k.labels.confidence, k.labels.instances)] for k in (a, b)]
    return mounts[0] == mounts[1] and labels[0] == labels[1] and all(
        np.array_equal(getattr(a, f.name), getattr(b, f.name))
        for f in fields(Keyframe) if f.name not in ('mount', 'labels'))


def test_where_nothing_changed_nothing_travels() -> None:
    delta = MapDelta.between(BEFORE, MappedViews(replace(BEFORE.map), dict(BEFORE.views)))
    assert delta.changed == {} and delta.views == {} and delta.map.keyframes == {}
    assert len(pickle.dumps(delta)) < 1000
    after = travelled(delta).apply(BEFORE)
    assert list(after.map.keyframes) == [2, 3, 5]
    assert all(after.map.keyframes[i] is k for i, k in BEFORE.map.keyframes.items())
    assert all(after.views[i] is v for i, v in BEFORE.views.items())


def test_a_pose_travels_without_images() -> None:
    moved = replace(BEFORE.map.keyframes[3], T_map_cam=at_x(7.0))
    delta = MapDelta.between(BEFORE, with_keyframes(BEFORE, k3=moved))
    assert {i: list(c) for i, c in delta.changed.items()} == {3: ['T_map_cam']}
    assert len(pickle.dumps(delta)) < 2000
    after = travelled(delta).apply(BEFORE).map.keyframes
    assert same(after[3], moved)
    for f in fields(Keyframe):
        kept = getattr(after[3], f.name) is getattr(BEFORE.map.keyframes[3], f.name)
        assert kept == (f.name != 'T_map_cam'), f.name
    assert after[2] is BEFORE.map.keyframes[2] and after[5] is BEFORE.map.keyframes[5]


@pytest.mark.parametrize('name', [f.name for f in fields(Keyframe) if f.name != 'id'])
def test_every_field_can_change(name: str) -> None:
    """To something else of its type, or to nothing."""
    old = BEFORE.map.keyframes[2]
    value = getattr(old, name)
    other = {str: 'other', int: 10 ** 15, type(CAMERA): replace(CAMERA, fx=99.0)}.get(
        type(value), np.zeros_like(value[:1]) if isinstance(value, np.ndarray) else None)
    new = replace(old, **{name: other})
    delta = MapDelta.between(BEFORE, with_keyframes(BEFORE, k2=new))
    assert list(delta.changed[2]) == [name]
    assert same(travelled(delta).apply(BEFORE).map.keyframes[2], new)


def test_a_new_keyframe_travels_with_all_it_is_made_of() -> None:
    new = keyframe(8, at_x(1.0), textured=True)
    after = MappedViews(Map({**BEFORE.map.keyframes, 8: new}), {**BEFORE.views, 8: view(8)})
    delta = travelled(MapDelta.between(BEFORE, after))
    assert list(delta.changed) == [8] == list(delta.views)
    assert set(delta.changed[8]) == {f.name for f in fields(Keyframe)}
    result = delta.apply(BEFORE)
    assert list(result.map.keyframes) == [2, 3, 5, 8] == list(result.views)
    assert same(result.map.keyframes[8], new)
    assert np.array_equal(result.views[8].jpeg, view(8).jpeg)
    assert result.views[8].focal_factor == 9.0
    assert result.map.keyframes[3] is BEFORE.map.keyframes[3]


def test_a_culled_keyframe_goes_with_its_image() -> None:
    rest = {i: k for i, k in BEFORE.map.keyframes.items() if i != 3}
    delta = MapDelta.between(BEFORE, MappedViews(
        Map(rest), {i: v for i, v in BEFORE.views.items() if i != 3}))
    assert delta.changed == {} and delta.views == {} and delta.ids == (2, 5)
    result = travelled(delta).apply(BEFORE)
    assert list(result.map.keyframes) == [2, 5] == list(result.views)
    assert list(BEFORE.map.keyframes) == [2, 3, 5] == list(BEFORE.views), 'the old one stays'


def test_what_else_the_map_says_travels() -> None:
    known = replace(
        BEFORE.map, scales={3: 1.5}, edges=(MapEdge(2, 3), MapEdge(2, 5, loop=True)),
        focal_factor=1.2, retired={4: Retired(5, at_x(0.3), 1.0, 2.0)},
        metric=MetricScale(2.5, 0.1, 'model'))
    delta = MapDelta.between(BEFORE, MappedViews(known, BEFORE.views))
    result = travelled(delta).apply(BEFORE).map
    assert (result.scales, result.edges, result.focal_factor, result.metric) == (
        known.scales, known.edges, known.focal_factor, known.metric)
    retired = result.retired[4]
    assert (retired.keyframe, retired.keyframe_scale, retired.scale) == (5, 1.0, 2.0)
    assert np.array_equal(retired.T_keyframe_retired, at_x(0.3))


def test_keyframes_stay_in_order() -> None:
    """Oldest first, whatever the order of their changes."""
    keyframes = {2: BEFORE.map.keyframes[2], 4: keyframe(4),
                 5: replace(BEFORE.map.keyframes[5], T_map_cam=at_x(3.0)), 9: keyframe(9)}
    result = travelled(MapDelta.between(BEFORE, mapped(keyframes))).apply(BEFORE)
    assert list(result.map.keyframes) == [2, 4, 5, 9]


def test_another_image_of_a_keyframe_takes_the_place_of_the_first() -> None:
    new = MappedViews(BEFORE.map, {**BEFORE.views, 3: view(77)})
    delta = MapDelta.between(BEFORE, new)
    assert list(delta.views) == [3] and delta.changed == {}
    result = travelled(delta).apply(BEFORE)
    assert result.views[3].jpeg[0] == 77 and result.views[2] is BEFORE.views[2]


def test_an_id_may_be_another_keyframe_in_another_map() -> None:
    """The map was cleared and begun again between two answers."""
    new = mapped({2: keyframe(2, at_x(-1.0), textured=True, camera_name='other')})
    result = travelled(MapDelta.between(BEFORE, new)).apply(BEFORE)
    assert list(result.map.keyframes) == [2] and same(
        result.map.keyframes[2], new.map.keyframes[2])


def test_from_nothing_to_a_map_and_back() -> None:
    nothing = MappedViews.empty()
    assert not nothing.map.keyframes and not nothing.views
    result = travelled(MapDelta.between(nothing, BEFORE)).apply(nothing)
    assert list(result.map.keyframes) == [2, 3, 5] == list(result.views)
    assert all(same(result.map.keyframes[i], k) for i, k in BEFORE.map.keyframes.items())
    back = travelled(MapDelta.between(BEFORE, nothing)).apply(result)
    assert not back.map.keyframes and not back.views


def test_two_processes_stay_alike_for_many_changes() -> None:
    """Each compares with its own copies; what does not change is sent once."""
    here, there = MappedViews.empty(), MappedViews.empty()
    for n in range(12):
        keyframes = dict(here.map.keyframes)
        keyframes[n] = keyframe(n, at_x(0.1 * n))
        for i in (n - 1, n - 3):
            if i in keyframes:
                keyframes[i] = replace(keyframes[i], T_map_cam=at_x(0.1 * i, 0.01 * n))
        keyframes.pop(n - 6, None)
        views = {i: here.views.get(i, view(i)) for i in keyframes}
        now = MappedViews(Map(keyframes, {n: 1.0 + n}), views)
        delta = travelled(MapDelta.between(here, now))
        assert sum('gray' in c for c in delta.changed.values()) == 1 == len(delta.views)
        here, there = now, delta.apply(there)
        assert list(there.map.keyframes) == list(keyframes) == list(there.views)
        assert all(same(there.map.keyframes[i], k) for i, k in keyframes.items())
        assert there.map.scales == {n: 1.0 + n}
