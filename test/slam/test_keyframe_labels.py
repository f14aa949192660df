# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Label images of a saved map, which come back with it."""

from __future__ import annotations

from dataclasses import replace

from keyframes_by_hand import keyframe
import numpy as np
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.models.types import ViewLabels
from recon3r_ros.slam.frontend.rectification import Rectifier
from recon3r_ros.slam.keyframe_labels import KeyframeLabels
from recon3r_ros.slam.saved_map import SavedLabels
from recon3r_ros.slam.semantics import Labels
from recon3r_ros.slam.types import Frame, Map
from simulated import as_frame, still_scene

MAP = Map({i: keyframe(i) for i in (0, 3)})
IMAGE = Labels(np.full((48, 64), 4, np.uint8), instances=np.ones((48, 64), np.uint16))
SAVED = SavedLabels({3: IMAGE}, ('wall', 'chair'), given=True)


def test_they_come_back_with_the_map_and_are_saved_again():
    store = KeyframeLabels()
    store.restore(SAVED)
    store.update([MAP])
    assert list(store.views(MAP)) == [3] and store.views(MAP)[3].labels is IMAGE
    again = store.saved(MAP)
    assert again is not None and (again.names, again.given) == (SAVED.names, True)
    assert dict(again.images) == SAVED.images
    store.restore(None)
    store.update([MAP])
    assert store.names == () and store.saved(MAP) is None


def test_a_network_adds_none_of_its_own_to_those_of_another_source():
    of_network = replace(MAP.keyframes[0], labels=ViewLabels(
        np.full((48, 64), 9, np.uint8), np.ones((48, 64), np.float32),
        np.zeros((48, 64), np.uint16)))
    known = replace(MAP, keyframes={**MAP.keyframes, 0: of_network})
    for given, expected in ((True, [3]), (False, [0, 3])):
        store = KeyframeLabels()
        store.restore(replace(SAVED, given=given))
        store.update([known])
        assert list(store.views(known)) == expected


def test_classes_of_other_names_are_not_mixed():
    store = KeyframeLabels(('floor', 'table'))
    with pytest.raises(InputError, match=r'2 classes \(wall, chair\).*\(floor, table\)'):
        store.restore(SAVED)
    store.update([MAP])
    assert not store.views(MAP) and store.names == ('floor', 'table')
    store = KeyframeLabels()
    store.restore(SAVED)
    store.name('camera', SAVED.names)
    with pytest.raises(InputError, match='are dropped'):
        store.name('camera', ('floor', 'table'))
    assert not store.views(MAP) and store.names == ('floor', 'table')
    for names in ((), SAVED.names):
        store = KeyframeLabels(names)
        store.restore(SAVED)
        assert store.names == SAVED.names


def labelled_frame(camera: str = 'camera', stamp_ns: int = 0) -> Frame:
    return replace(as_frame(still_scene(3, 40), 0), camera_name=camera, stamp_ns=stamp_ns,
                   labels=Labels(np.full((480, 640), 1, np.uint8)))


def test_a_camera_with_other_classes_is_left_out():
    store = KeyframeLabels()
    store.name('left', ('person', 'chair'))
    with pytest.raises(InputError, match='camera right are left out.*chair, person.*camera left'):
        store.name('right', ('chair', 'person'))
    known = Map({0: replace(keyframe(0), camera_name='right'), 1: replace(
        keyframe(1), camera_name='left', stamp_ns=keyframe(0).stamp_ns)})
    for name in ('left', 'right'):
        frame = labelled_frame(name, keyframe(0).stamp_ns)
        store.note(frame, Rectifier(frame.camera, True))
    store.update([known])
    assert list(store.views(known)) == [1] and store.names == ('person', 'chair')
    store.name('right', ('person', 'chair'))
    frame = labelled_frame('right', keyframe(0).stamp_ns)
    store.note(frame, Rectifier(frame.camera, True))
    store.update([known])
    assert list(store.views(known)) == [0, 1]


def test_a_detector_that_names_its_classes_anew_begins_anew():
    store = KeyframeLabels()
    store.name('camera', ('person', 'chair'))
    frame = labelled_frame(stamp_ns=keyframe(0).stamp_ns)
    store.note(frame, Rectifier(frame.camera, True))
    known = Map({0: replace(keyframe(0), camera_name='camera')})
    store.update([known])
    assert store.views(known)
    store.name('camera', ('person', 'chair'))
    assert store.views(known)
    with pytest.raises(InputError, match='person, chair.*background, person'):
        store.name('camera', ('background', 'person'))
    store.update([known])
    assert not store.views(known) and store.names == ('background', 'person')


def test_labels_without_names_in_a_loaded_map_are_warned_of(caplog):
    store = KeyframeLabels()
    store.restore(SAVED)
    for n in range(2):
        frame = labelled_frame(stamp_ns=n)
        store.note(frame, Rectifier(frame.camera, True))
    assert caplog.text.count('no names: they are taken for those of the loaded map (wall, chair)'
                             ) == 1
