# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The label images of keyframes: of frames, by the network that predicted, or of a saved map."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
import logging

import cv2
from recon3r_ros.errors import InputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.slam.frontend.rectification import Rectifier
from recon3r_ros.slam.products.labels import LabelledView
from recon3r_ros.slam.saved_map import SavedLabels
from recon3r_ros.slam.semantics import Labels
from recon3r_ros.slam.types import Frame, Keyframe, Map

_log = logging.getLogger(__name__)
#: Frames whose label images wait at most until they become keyframes
WAITING = 150
#: Label images are kept at this share of the tracking image's size: that of a keyframe's grid
SHARE = 0.5


class KeyframeLabels:
    """
    Keeps the label images of frames that may become keyframes, and those of keyframes.

    A network's classes have other numbers: they count only as long as no frame has had labels.
    One thread calls all methods but `views`, which others may.

    All cameras' labels have the same classes: their votes meet in the map.

    :param names: of the classes that labels will have, from 1 on; empty where unknown
    """

    def __init__(self, names: tuple[str, ...] = ()) -> None:
        self._names = names
        #: Names that came with a camera's labels, and cameras whose names contradict the others'
        self._named: dict[str, tuple[str, ...]] = {}
        self._left_out: set[str] = set()
        self._warned = False
        #: Where those of a saved map are in use
        self._restored: SavedLabels | None = None
        self._waiting: OrderedDict[tuple[str, int], Labels] = OrderedDict()
        self._kept: dict[int, Labels] = {}
        #: Whether frames have had labels
        self.given = False

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes, from 1 on; empty where unknown."""
        restored = self._restored
        return restored.names if restored is not None and restored.names else self._names

    def note(self, frame: Frame, lens: Rectifier | None) -> None:
        """Keep the label image of a frame, where it has one and its camera is known."""
        if frame.labels is None or lens is None or frame.camera_name in self._left_out:
            return
        if self._restored is not None and self._restored.names and not self._names:
            self._warn_of_nameless(self._restored.names)
        if not self.given:
            self.given, self._kept, self._restored = True, {}, None
        size = _size(lens.tracking_camera)
        self._waiting[frame.camera_name, frame.stamp_ns] = frame.labels.mapped(
            lambda field: lens.field_from_source(field, size))
        while len(self._waiting) > WAITING:
            self._waiting.popitem(last=False)

    def update(self, maps: Iterable[Map]) -> None:
        """
        Take over the label images of frames that have become keyframes, or those of a network.

        :param maps: all that there are: those of other keyframes are dropped
        """
        kept = {}
        for known in maps:
            for i, keyframe in known.keyframes.items():
                waiting = self._waiting.get((keyframe.camera_name, keyframe.stamp_ns))
                if i in self._kept:
                    kept[i] = self._kept[i]
                elif waiting is not None:
                    kept[i] = _on_grid(waiting, keyframe)
                elif keyframe.labels is not None and not self.given:
                    own = keyframe.labels
                    kept[i] = Labels(own.classes, own.confidence, own.instances)
        self._kept = kept  # replaced, never changed: another thread may be reading it

    def saved(self, known: Map) -> SavedLabels | None:
        """Return the label images of a map, to be saved with it; None where there are none."""
        images = {i: self._kept[i] for i in known.keyframes if i in self._kept}
        return SavedLabels(images, self.names, self.given) if images else None

    def restore(self, saved: SavedLabels | None) -> None:
        """
        Take over the label images of a saved map, which has replaced the present one.

        :param saved: None forgets all
        :raises InputError: where its classes have other names than those to come: they are not
            taken over
        """
        self._waiting.clear()
        self._kept, self._restored, self.given = {}, None, False
        if saved is None:
            return
        self._check_names(saved)
        self._kept, self._restored, self.given = dict(saved.images), saved, saved.given

    def name(self, camera: str, names: tuple[str, ...]) -> None:
        """
        Name the classes of the labels that come from a camera from now on.

        :raises InputError: where another camera's labels have other names: those of this one are
            left out; where those before, or of the loaded map, have: they are dropped
        """
        others = {c: known for c, known in self._named.items() if c != camera}
        for other, known in others.items():
            if known != names:
                self._left_out.add(camera)
                raise InputError(
                    f'labels of camera {camera} are left out: their classes ({_listed(names)}) '
                    f'are not those of camera {other} ({_listed(known)}): use one list of '
                    'classes for all cameras')
        self._left_out.discard(camera)
        before, self._named[camera], self._names = self._named.get(camera), names, names
        if before is not None and before != names:
            self._waiting.clear()
            self._kept, self._restored = {}, None
            raise InputError(
                f'labels of camera {camera} until now are dropped: their classes were '
                f'{_listed(before)}, and are {_listed(names)} now')
        if self._restored is not None:
            restored = self._restored
            try:
                self._check_names(restored)
            except InputError:
                self._kept = {i: labels for i, labels in self._kept.items()
                              if labels is not restored.images.get(i)}
                self._restored = None
                raise

    def _warn_of_nameless(self, names: tuple[str, ...]) -> None:
        if not self._warned:
            self._warned = True
            _log.warning('classes of the label images have no names: they are taken for those of '
                         'the loaded map (%s); name them by class_names or label_info',
                         _listed(names))

    def _check_names(self, saved: SavedLabels) -> None:
        if saved.names and self._names and saved.names != self._names:
            raise InputError(
                f'labels of the loaded map are left out: their {len(saved.names)} classes '
                f'({_listed(saved.names)}) are not the {len(self._names)} of this node '
                f'({_listed(self._names)}): give the class_names and the model of that map')

    def views(self, known: Map) -> Mapping[int, LabelledView]:
        """Return the label images of a map's keyframes, by keyframe."""
        kept = self._kept
        return {i: LabelledView(keyframe, kept[i])
                for i, keyframe in known.keyframes.items() if i in kept}


def _listed(names: tuple[str, ...]) -> str:
    return ', '.join(names[:3]) + (', ...' if len(names) > 3 else '')


def _size(camera: Camera) -> tuple[int, int]:
    """Return rows and columns of a label image that waits."""
    return round(camera.height * SHARE), round(camera.width * SHARE)


def _on_grid(labels: Labels, keyframe: Keyframe) -> Labels:
    """Resize a label image of the rectified view to a keyframe's grid."""
    size = keyframe.camera.width, keyframe.camera.height
    return labels.mapped(lambda field: cv2.resize(
        field, size, interpolation=cv2.INTER_NEAREST_EXACT))
