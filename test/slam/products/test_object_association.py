# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Objects of the map, from instances whose numbers are shuffled in every image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from keyframes_by_hand import at_x, keyframe, points_in_map
import numpy as np
import pytest
from recon3r_ros.geometry.camera import pixel_grid
from recon3r_ros.slam.products.cloud import fuse, LiveCloud
from recon3r_ros.slam.products.labels import labelled, LabelledCloud, LabelledView, Objects, voted
from recon3r_ros.slam.products.object_association import MERGING_VIEWS, ObjectAssociation
from recon3r_ros.slam.semantics import Labels
from recon3r_ros.slam.types import Map
from scipy.optimize import linear_sum_assignment
from test_labels import BLOCK, objects_in_room, truth_of, WRONG

#: Class of the objects made by hand
KIND = 7
#: Their borders along x in the room of keyframes_by_hand, metres
LEFT, MIDDLE, RIGHT = -1.2, 0.0, 1.2

Painter = Callable[[np.ndarray], np.ndarray]


def view(i: int, paint: Painter, kind: int = KIND) -> LabelledView:
    """
    See the room 5 cm further right than from the view before.

    :param paint: from x (H, W) of the pixels' points to instances
    """
    own = keyframe(i, at_x(0.05 * i))
    x = points_in_map(own.T_map_cam, own.camera, pixel_grid(
        own.camera.height, own.camera.width))[..., 0]
    instances = paint(x).astype(np.uint16)
    classes = np.where((x > LEFT) & (x < RIGHT), kind, 1).astype(np.uint8)
    return LabelledView(own, Labels(classes, instances=instances))


def two(left: int, right: int) -> Painter:
    """Paint two objects that touch each other with these numbers; equal ones make them one."""
    return lambda x: np.where((x > LEFT) & (x < MIDDLE), left,
                              np.where((x >= MIDDLE) & (x < RIGHT), right, 0))


def objects_of(*views: LabelledView) -> Objects:
    """Associate views one by one."""
    association = ObjectAssociation()
    for n in range(len(views)):
        objects = association.update({v.keyframe.id: v for v in views[:n + 1]})
    return objects


def halves(views: list[LabelledView], objects: Objects) -> tuple[set[int], set[int]]:
    """Vote on points of the left and of the right object, away from their borders."""
    own = views[0].keyframe
    points = points_in_map(own.T_map_cam, own.camera, pixel_grid(
        own.camera.height, own.camera.width)).reshape(-1, 3).astype(np.float32)
    _, numbers = voted(points, views, objects)

    def between(low: float, high: float) -> set[int]:
        return set(numbers[(points[:, 0] > low + 0.2) & (points[:, 0] < high - 0.2)].tolist())
    return between(LEFT, MIDDLE), between(MIDDLE, RIGHT)


def test_two_objects_of_one_class_keep_their_numbers():
    views = [view(0, two(5, 9)), view(1, two(9, 5)), view(2, two(300, 2))]
    (left,), (right,) = halves(views, objects_of(*views))
    assert {left, right} == {1, 2}
    further = [*views, view(3, two(1, 4))]
    assert halves(further, objects_of(*further)) == ({left}, {right})


def test_an_object_needs_two_views():
    views = [view(0, two(5, 9)), view(1, two(9, 0))]
    (left,), (right,) = halves(views, objects_of(*views))
    assert (left, right) == (1, 0)
    assert halves(views[:1], objects_of(views[0])) == ({0}, {0})


@pytest.mark.parametrize('count', [MERGING_VIEWS - 1, MERGING_VIEWS])
def test_an_object_seen_in_two_halves_is_one_when_enough_views_show_it_whole(count):
    parts = [view(0, two(3, 0)), view(1, two(8, 0)), view(2, two(0, 5)), view(3, two(0, 1))]
    apart = halves(parts, objects_of(*parts))
    assert apart == ({1}, {2})
    views = [*parts, *(view(4 + n, two(6 + n, 6 + n)) for n in range(count))]
    left, right = halves(views, objects_of(*views))
    assert (left == right == {1}) == (count == MERGING_VIEWS)


def test_one_image_that_joins_two_objects_is_outvoted():
    views = [view(0, two(4, 4)), *(view(n, two(n, 9 - n)) for n in range(1, 4))]
    (left,), (right,) = halves(views, objects_of(*views))
    assert left != right and min(left, right) > 0


def test_views_that_join_what_others_tell_apart_do_not_merge_it():
    views = [view(n, two(n + 1, 9 - n)) for n in range(3)]
    views += [view(n, two(2, 2)) for n in range(3, 3 + MERGING_VIEWS)]
    (left,), (right,) = halves(views, objects_of(*views))
    assert left != right


def test_what_fits_two_objects_alike_begins_none_and_has_none():
    views = [view(0, two(5, 9)), view(1, two(9, 5)), view(2, two(7, 7))]
    objects = objects_of(*views)
    assert not objects.numbers[2].any()
    assert len(objects.classes) == 3


def test_another_class_is_another_object():
    views = [view(0, two(5, 9)), view(1, two(9, 5)), view(2, two(1, 2), KIND + 1)]
    objects = objects_of(*views)
    assert not objects.numbers[2].any()
    assert objects.classes.tolist() == [0, KIND, KIND]


def test_an_instance_without_a_class_of_most_of_its_pixels_is_unknown():
    views = [view(n, two(5, 9)) for n in range(3)]
    mixed = np.indices(views[0].labels.classes.shape).sum(axis=0) % 3
    views[2] = replace(views[2], labels=replace(
        views[2].labels, classes=(KIND + mixed).astype(np.uint8)))
    objects = objects_of(*views)
    assert objects.numbers[1].any() and not objects.numbers[2].any()
    few = objects_of(views[2], replace(views[2], keyframe=replace(views[2].keyframe, id=3)))
    assert not few.numbers[3].any(), 'it begins none'


def test_scattered_and_tiny_instances_are_no_objects():
    rng = np.random.default_rng(1)

    def scattered(x: np.ndarray) -> np.ndarray:
        return np.where(rng.random(x.shape) < 0.08, 1, 0) + np.where((x > 0) & (x < 0.03), 2, 0)
    objects = objects_of(*(view(n, scattered) for n in range(6)))
    assert not any(numbers.any() for numbers in objects.numbers.values())


def test_what_is_dynamic_has_no_object():
    views = [view(n, two(1, 2)) for n in range(3)]
    masked = [replace(v, keyframe=replace(v.keyframe, mask=v.labels.instances == 1))
              for v in views]
    objects = objects_of(*masked)
    assert all(numbers[1] == 0 and numbers[2] == 1 for numbers in objects.numbers.values())
    cloud = labelled(fuse([v.keyframe for v in masked], 0.05), masked, objects)
    assert set(cloud.instances[cloud.points[:, 0] < MIDDLE - 0.1].tolist()) <= {0}


def test_instances_without_classes_are_objects_as_well():
    views = [view(n, two(1 + n, 7 - n), kind=0) for n in range(3)]
    views = [replace(v, labels=replace(v.labels, classes=np.zeros_like(v.labels.classes)))
             for v in views]
    assert halves(views, objects_of(*views)) == ({1}, {2})


def test_numbers_outlast_culled_keyframes_and_memory_does_not_grow():
    association = ObjectAssociation()
    views = {n: view(n, two(1 + n, 20 - n)) for n in range(8)}
    for n in range(8):
        window = {i: views[i] for i in range(max(0, n - 3), n + 1)}
        objects = association.update(window)
        assert set(objects.numbers) == set(window)
    (left,), (right,) = halves(list(window.values()), objects)
    assert {left, right} == {1, 2}
    assert association.update(window) is objects
    assert not association.update({}).numbers
    again = association.update({i: views[i] for i in (0, 1)})
    assert {int(n) for n in again.numbers[0]} == {0, 3, 4}, 'numbers are not given again'


def erring_views() -> tuple[list[LabelledView], list[np.ndarray]]:
    """
    Label and instance images of a room with independent errors of blocks, and the true objects.

    Numbers of instances are another permutation in each image; a wrong block shows any object.
    """
    views = []
    keyframes, truths = objects_in_room()
    count = int(max(truth.max() for truth in truths))
    for n, (own, truth) in enumerate(zip(keyframes, truths)):
        rng = np.random.default_rng(100 + n)
        names = np.concatenate([[0], 1 + rng.permutation(500)[:count]])
        blocks = tuple(-(-size // BLOCK) for size in truth.shape)
        ones, crop = np.ones((BLOCK, BLOCK), int), np.s_[:truth.shape[0], :truth.shape[1]]
        wrong = np.kron(rng.random(blocks) < WRONG, ones)[crop] > 0
        seen = np.where(wrong, np.kron(rng.integers(0, count + 1, blocks), ones)[crop], truth)
        classes = np.where(seen == 0, 1, 2 + seen % 2).astype(np.uint8)
        views.append(LabelledView(own, Labels(classes, instances=names[seen].astype(np.uint16))))
    return views, truths


def correct_share(instances: np.ndarray, truth: np.ndarray) -> float:
    """
    Share of points that have their object's number.

    An object's number is the one that fits best, of which no two have the same; 0 is the room's.
    """
    table = np.zeros((truth.max() + 1, int(instances.max()) + 1))
    np.add.at(table, (truth, instances), 1)
    number = np.full(len(table), -1)
    rows, columns = linear_sum_assignment(table[1:, 1:], maximize=True)
    number[0], number[rows + 1] = 0, columns + 1
    return float((instances == number[truth]).mean())


def test_most_points_of_an_erring_room_have_their_object(record_property):
    views, truths = erring_views()
    association = ObjectAssociation()
    known = {v.keyframe.id: v for v in views}
    product = LabelledCloud(LiveCloud(0.04), lambda known_map: {
        i: known[i] for i in known_map.keyframes}, association.update)
    for count in (5, 10, len(views)):
        grown = product.update(Map({i: known[i].keyframe for i in range(count)}))
    fused = labelled(fuse([v.keyframe for v in views], 0.04), views,
                     ObjectAssociation().update(known))
    for name, cloud in (('live', grown), ('fused', fused)):
        truth = truth_of(cloud.points, truths)
        use = cloud.labels > 0
        things = use & (truth > 0)
        everywhere = correct_share(cloud.instances[use], truth[use])
        of_objects = correct_share(cloud.instances[things], truth[things])
        record_property(name, f'{everywhere:.3f} of labelled points, {of_objects:.3f} of objects')
        assert everywhere >= 0.9
        assert of_objects >= 0.85
