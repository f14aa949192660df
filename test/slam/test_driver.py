# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What a driver lets through to its system, and what it tells its sink, in which order.

A system that is scripted stands in for the real one where order and failures matter; the real one
says whether cameras are really changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from keyframes_by_hand import at_x, keyframe, TRACKING, tracking_image
import numpy as np
import pytest
from recon3r_ros.errors import InputError, Recon3rError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.models.geometric import GeometricPredictor
from recon3r_ros.slam.driver import CHANGED_AFTER, Driver
from recon3r_ros.slam.frontend.rectification import GUESSED_FOCAL, Rectifier
from recon3r_ros.slam.saved_map import SavedMap
from recon3r_ros.slam.system import System
from recon3r_ros.slam.types import Frame, Map, MetricScale, TrackedFrame, TrackingState, Update

CAMERA = Camera(64, 48, 56.0, 57.0, 31.0, 24.0)
OTHER = replace(CAMERA, fx=60.0)
LARGE = CAMERA.resized(128, 96)


def frame(n: int = 0, camera: Camera | None = CAMERA, size: tuple[int, int] = (64, 48),
          name: str = 'camera') -> Frame:
    """Take frame n, of a width and height."""
    return Frame(np.full(size[::-1], n % 256, np.uint8), n * 10 ** 8, f'{n:06}', n, camera, name)


def large(n: int = 0, name: str = 'camera') -> Frame:
    """Take a frame of another camera."""
    return frame(n, LARGE, (128, 96), name)


@dataclass
class Log:
    """A sink, and what else was done, in order."""

    events: list[tuple[Any, ...]] = field(default_factory=list)

    def update(self, update: Update, frame: Frame | None) -> None:
        """Take note of a change."""
        self.events.append(('told', update, None if frame is None else frame.index))

    def reset(self) -> None:
        """Take note of another map."""
        self.events.append(('sink reset',))

    def take(self) -> list[tuple[Any, ...]]:
        """Return what happened since it was asked last."""
        out, self.events = self.events, []
        return out


NOTHING = Update(TrackingState.INITIALISING, (), None)
METRIC = MetricScale(2.0, 0.1, 'depth')


class Scripted:
    """
    A system that takes note of what it is told, and says what it is told to say.

    :param log: where it takes note
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._lenses: dict[str, Rectifier] = {}
        self.map = Map()
        #: What `poll` returns next, or raises
        self.polled: Update | Exception = NOTHING
        #: What `add` raises
        self.failure: Exception | None = None

    def lens(self, camera_name: str) -> Rectifier | None:
        """Return a camera's lens."""
        return self._lenses.get(camera_name)

    def add_instant(self, frames: Sequence[Frame]) -> list[Update]:
        """Take the frames of an instant."""
        return [self._add(frame) for frame in frames]

    def _add(self, frame: Frame) -> Update:
        if self.failure is not None:
            raise self.failure
        self._lenses.setdefault(frame.camera_name, Rectifier.of(frame))
        self._log.events.append(('added', frame.camera_name, frame.index))
        return replace(NOTHING, frames=(TrackedFrame(frame.name, frame.stamp_ns, frame.index),))

    def poll(self) -> Update:
        """Say what became of a keyframe, once."""
        polled, self.polled = self.polled, NOTHING
        if isinstance(polled, Exception):
            raise polled
        return polled

    def finish(self) -> Update:
        """Refine."""
        self._log.events.append(('finished',))
        return replace(NOTHING, state=TrackingState.TRACKING)

    def forget(self, camera_name: str) -> None:
        """Forget a camera."""
        self._log.events.append(('forgot', camera_name))
        self._lenses.pop(camera_name, None)

    def reset(self) -> None:
        """Forget all."""
        self._log.events.append(('reset',))

    def forget_earlier(self, most: int) -> list[Map]:
        """Forget map 3."""
        self._log.events.append(('forgot maps above', most))
        return [Map({i: keyframe(i) for i in range(4)}, number=3)]

    def restore(self, saved: SavedMap) -> None:
        """Go on in a map."""
        self._log.events.append(('restored', saved))

    def saved(self, metric: MetricScale | None) -> SavedMap:
        """Return the map."""
        return SavedMap(self.map, {}, (), True, metric)

    def metric(self, source: str) -> MetricScale | None:
        """Say it for one source."""
        return METRIC if source == 'depth' else None


@dataclass
class Driven:
    """
    A driver with all that belongs to it.

    :param warnings: what the user was told
    """

    driver: Driver
    system: Scripted
    log: Log
    warnings: list[str]


@pytest.fixture
def driven() -> Driven:
    """Return a driver of a scripted system."""
    log, warnings = Log(), []  # type: Log, list[str]
    system = Scripted(log)
    driver = Driver(cast(System, system), log, 'depth', warnings.append)
    return Driven(driver, system, log, warnings)


def added(log: Log) -> list[tuple[str, int]]:
    """Return camera and number of the frames that the system was given since it was asked last."""
    return [e[1:] for e in log.take() if e[0] == 'added']


def test_a_frame_goes_to_the_system_and_what_it_changed_to_the_sink(driven: Driven) -> None:
    driven.driver.add(frame(5))
    (_, name, n), (told, update, source) = driven.log.take()
    assert (name, n, told, source) == ('camera', 5, 'told', 5)
    assert [f.index for f in update.frames] == [5] and not driven.warnings


@pytest.mark.parametrize('strange, words', [
    (large(1), 'is 128x96, those before it are 64x48'),
    (frame(1, None, (48, 64)), 'is 48x64, those before it are 64x48'),
    (frame(1, OTHER), 'comes with other intrinsics'),
    (frame(1, replace(CAMERA, distortion=(0.1, 0, 0, 0, 0))), 'comes with other intrinsics')])
def test_an_image_unlike_those_before_is_refused(
        driven: Driven, strange: Frame, words: str) -> None:
    driven.driver.add(frame(0))
    driven.log.take()
    with pytest.raises(InputError, match=f'image 000001 {words}'):
        driven.driver.add(strange)
    assert driven.log.take() == [], 'neither system nor sink see it'
    driven.driver.add(frame(2))
    assert added(driven.log) == [('camera', 2)]


def test_an_image_without_intrinsics_is_like_those_with(driven: Driven) -> None:
    """They came with the first one, and hold."""
    driven.driver.add(frame(0))
    driven.driver.add(frame(1, None))
    assert [n for _, n in added(driven.log)] == [0, 1]


def refused(driver: Driver, frames: list[Frame]) -> list[int]:
    """Add frames, and return the numbers of those that were refused."""
    out = []
    for f in frames:
        try:
            driver.add(f)
        except InputError:
            out.append(f.index)
    return out


@pytest.mark.parametrize('other', [large, lambda n: frame(n, OTHER)], ids=['size', 'intrinsics'])
def test_images_that_go_on_being_unlike_are_those_of_another_camera(
        driven: Driven, other: Callable[[int], Frame]) -> None:
    driven.driver.add(frame(0))
    last = CHANGED_AFTER
    assert refused(driven.driver, [other(n) for n in range(1, last)]) == list(range(1, last))
    driven.log.take()
    assert not driven.warnings
    driven.driver.add(other(last))
    assert [e[:1] for e in driven.log.take()] == [('forgot',), ('added',), ('told',)]
    warning, = driven.warnings
    assert f'camera: {CHANGED_AFTER} images in a row' in warning
    assert 'taken for a new camera' in warning
    # Now the first kind is the strange one, and counting has begun anew
    assert refused(driven.driver, [frame(20 + n) for n in range(last - 1)]) == list(
        range(20, 19 + last))
    assert refused(driven.driver, [other(50), other(51)]) == []


def test_one_image_like_those_before_and_counting_begins_anew(driven: Driven) -> None:
    driven.driver.add(frame(0))
    for _ in range(3):
        strange = [large(n) for n in range(1, CHANGED_AFTER)]
        assert len(refused(driven.driver, strange)) == CHANGED_AFTER - 1
        driven.driver.add(frame(50))
    assert not driven.warnings


def test_each_camera_is_counted_for_itself(driven: Driven) -> None:
    """One changes; another, of another size from the beginning, goes on after a few faults."""
    driven.driver.add(frame(0, name='left'))
    driven.driver.add(large(0, 'right'))
    mixed = [f for n in range(1, CHANGED_AFTER + 1) for f in (
        large(n, 'left'), frame(100 + n, name='right') if n < 5 else large(100 + n, 'right'))]
    assert sorted(refused(driven.driver, mixed)) == [*range(1, CHANGED_AFTER), *range(101, 105)]
    assert ('forgot', 'left') in driven.log.events
    assert ('forgot', 'right') not in driven.log.events


KEYFRAME = keyframe(3)
FINISHED = replace(NOTHING, keyframe=KEYFRAME)
FOUND = replace(NOTHING, frames=(TrackedFrame('x', 0, 0),))


@pytest.mark.parametrize('polled', [FINISHED, FOUND])
def test_a_keyframe_that_was_finished_is_told_before_the_next_frame(
        driven: Driven, polled: Update) -> None:
    driven.system.polled = polled
    driven.driver.add(frame(1))
    first, second, third = driven.log.take()
    assert first == ('told', polled, None)
    assert second[0] == 'added' and third[0] == 'told' and third[2] == 1


def test_between_frames_only_news_are_told(driven: Driven) -> None:
    driven.driver.poll()
    assert driven.log.take() == []
    driven.system.polled = FINISHED
    driven.driver.poll()
    assert driven.log.take() == [('told', FINISHED, None)]


@pytest.mark.parametrize('failure', [Recon3rError('out of memory'), ValueError('a fault')])
def test_an_image_is_used_although_a_keyframe_failed(driven: Driven, failure: Exception) -> None:
    """And then the failure is raised, once."""
    driven.system.polled = failure
    with pytest.raises(type(failure), match=str(failure)):
        driven.driver.add(frame(1))
    assert [e[0] for e in driven.log.take()] == ['added', 'told']
    driven.driver.add(frame(2))
    assert added(driven.log) == [('camera', 2)]


def test_a_failed_keyframe_is_told_of_although_the_image_is_refused(driven: Driven) -> None:
    driven.system.polled, driven.system.failure = Recon3rError('mapping'), InputError('image')
    with pytest.raises(InputError, match='image'):
        driven.driver.add(frame(1))
    assert driven.warnings == ['mapping']


def test_a_keyframe_that_failed_is_raised_between_frames(driven: Driven) -> None:
    driven.system.polled = Recon3rError('out of memory')
    with pytest.raises(Recon3rError, match='out of memory'):
        driven.driver.poll()
    driven.driver.poll()
    assert driven.log.take() == []


def test_an_image_that_the_system_refuses_is_told_nobody(driven: Driven) -> None:
    driven.system.failure = InputError('calibrated for another size')
    with pytest.raises(InputError, match='another size'):
        driven.driver.add(frame(1))
    assert driven.log.take() == []


def test_the_end_is_told(driven: Driven) -> None:
    driven.driver.finish()
    done, (told, update, source) = driven.log.take()
    assert done == ('finished',) and told == 'told' and source is None
    assert update.state is TrackingState.TRACKING


def test_reset_takes_the_map_back_everywhere(driven: Driven) -> None:
    driven.driver.reset()
    assert driven.log.take() == [('reset',), ('sink reset',)]


def test_a_saved_map_comes_in_place_of_the_present_one(driven: Driven) -> None:
    saved = SavedMap(Map(), {}, (), True, None)
    driven.driver.restore(saved)
    assert driven.log.take() == [('reset',), ('sink reset',), ('restored', saved)]


def test_a_map_is_saved_with_the_scale_that_is_published(driven: Driven) -> None:
    driven.system.map = Map({0: keyframe(0), 1: keyframe(1)})
    saved = driven.driver.saved()
    assert saved.map is driven.system.map and saved.metric is METRIC is driven.driver.metric
    other = Driver(cast(System, driven.system), driven.log)
    assert other.metric is None is other.saved().metric


@pytest.mark.parametrize('known', [Map(), Map({0: replace(
    keyframe(0), information=np.zeros(len(keyframe(0).keypoints)))})])
def test_there_is_nothing_to_save_before_there_is_depth(driven: Driven, known: Map) -> None:
    driven.system.map = known
    with pytest.raises(Recon3rError, match='no map yet'):
        driven.driver.saved()


def test_intrinsics_that_come_late_are_used_where_there_is_no_map_yet(driven: Driven) -> None:
    driven.driver.add(frame(0, None))
    driven.driver.add(frame(1, None))
    driven.log.take()
    driven.driver.add(frame(2))
    assert [e[:1] for e in driven.log.take()] == [('forgot',), ('added',), ('told',)]
    lens = driven.system.lens('camera')
    assert lens is not None and lens.calibrated and lens.source == CAMERA and not driven.warnings


def test_intrinsics_that_come_after_the_map_was_started_are_not(driven: Driven) -> None:
    """The user is told how to use them; the image is used as those before."""
    driven.driver.add(frame(0, None))
    driven.system.map = Map({0: keyframe(0)})
    driven.driver.add(frame(1))
    assert added(driven.log) == [('camera', 0), ('camera', 1)]
    warning, = driven.warnings
    assert f'{64 * GUESSED_FOCAL:.1f} pixels' in warning and '56.0: reset the map' in warning


# With the real system

def seen(n: int, camera: Camera = TRACKING, known: bool = True, name: str = 'camera') -> Frame:
    """Take frame n of a room."""
    image = tracking_image(at_x(0.01 * n), camera)
    return Frame(image, n * 10 ** 8, f'{n:06}', n, camera if known else None, name)


def test_another_camera_begins_a_new_map() -> None:
    """There was no depth yet, so that nothing is lost."""
    half = TRACKING.resized(128, 96)
    log, warnings = Log(), []  # type: Log, list[str]
    driver = Driver(System(GeometricPredictor()), log, warn=warnings.append)
    driver.add(seen(0))
    assert refused(driver, [seen(n, half) for n in range(1, CHANGED_AFTER)]) == list(
        range(1, CHANGED_AFTER))
    lens = driver.system.lens('camera')
    assert lens is not None and lens.source == TRACKING
    assert driver.system.map.newest.index == 0
    driver.add(seen(CHANGED_AFTER, half))
    lens = driver.system.lens('camera')
    assert lens is not None and lens.source == half and len(warnings) == 1
    assert [k.index for k in driver.system.map.keyframes.values()] == [CHANGED_AFTER]
    assert [e[2] for e in log.take()] == [0, CHANGED_AFTER]


def test_late_intrinsics_begin_a_new_map() -> None:
    driver = Driver(System(GeometricPredictor()), Log())
    driver.add(seen(0, known=False))
    lens = driver.system.lens('camera')
    assert lens is not None and not lens.calibrated
    driver.add(seen(1))
    lens = driver.system.lens('camera')
    assert lens is not None and lens.calibrated and lens.camera == TRACKING
    assert [k.index for k in driver.system.map.keyframes.values()] == [1]


def test_a_system_that_was_reset_takes_any_camera() -> None:
    driver = Driver(System(GeometricPredictor()), Log())
    driver.add(seen(0))
    driver.reset()
    assert driver.system.map.keyframes == {} and driver.system.lens('camera') is None
    driver.add(seen(1, TRACKING.resized(128, 96)))
    assert driver.system.map.newest.index == 1


@pytest.mark.parametrize('most', [None, 7])
def test_when_another_map_has_begun_earlier_ones_are_bounded(most: int | None) -> None:
    """Where that is asked for; the user is told which was forgotten."""
    log, warnings = Log(), []  # type: Log, list[str]
    system = Scripted(log)
    driver = Driver(cast(System, system), log, warn=warnings.append, most_earlier=most)
    system.map = Map({i: keyframe(i) for i in range(2)}, number=0)
    driver.add(frame(0))
    assert [e[0] for e in log.take()] == ['added', 'told']
    system.map = Map(number=1)  # no depth yet
    driver.add(frame(1))
    assert [e[0] for e in log.take()] == ['added', 'told']
    system.map = Map({i: keyframe(i) for i in (4, 5)}, number=1)
    for n, expected in ((2, ['added', 'sink reset', 'forgot maps above', 'told']),
                        (3, ['added', 'told'])):
        driver.add(frame(n))
        assert [e[0] for e in log.take()] == [
            e for e in expected if most is not None or e != 'forgot maps above']
    if most is None:
        assert warnings == []
    else:
        warning, = warnings
        assert warning.startswith('map 3 with 4 keyframes is forgotten: earlier maps have more '
                                  'than 7 together')
        assert '~/save_map' in warning
