# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Boxes of people in space, and their identities over time and cameras."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.sim import SceneConfig, SimulatedSequence
from recon3r_ros.slam.people_boxes import MIN_THICKNESS, person_boxes, PersonBox
from recon3r_ros.slam.people_tracks import OCCLUSION_S, PeopleTracks
from recon3r_ros.slam.semantics import People
from recon3r_ros.slam.visibility import CELL, Surface

CAMERA = Camera(160, 120, 130.0, 130.0, 79.5, 59.5)
#: A camera 1.5 m above the ground that looks along x
T_UP_CAM = se3.from_rt(np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], float), [0, 0, 1.5])


@lru_cache(maxsize=1)
def crossing() -> SimulatedSequence:
    """Three dynamic objects pass a camera that is moved by hand."""
    return SimulatedSequence(SceneConfig(
        seed=5, frames=60, fps=10.0, width=160, height=120, moving_objects=3, moving_size=0.05))


def people_of(frame) -> People:
    """Detect all objects that move, and number them anew in each image."""
    shown = np.unique(frame.object_index[frame.motion_mask])
    shown = np.random.default_rng(frame.index).permutation(shown)
    instances = np.zeros(frame.object_index.shape, np.uint16)
    for n, i in enumerate(shown.tolist()):
        instances[frame.object_index == i] = n + 1
    return People(instances)


def boxes_of(frame, T_up_cam=None) -> list[PersonBox]:
    return person_boxes(people_of(frame), frame.motion_mask, frame.depth, crossing().camera,
                        frame.T_world_cam if T_up_cam is None else T_up_cam)


def shown_by(frame, box: PersonBox) -> int:
    """Which of the scene's objects a box was made of."""
    return int(frame.object_index[people_of(frame).instances == box.instance][0])


def test_boxes_are_where_the_simulated_objects_are():
    sequence, errors = crossing(), []
    for index in range(0, 60, 6):
        frame = sequence.render(index)
        for box in boxes_of(frame):
            object_index = shown_by(frame, box)
            truth = sequence.scene.objects[object_index]
            place = truth.path.position(sequence.config.times[index:index + 1])[0]
            reach = float(np.linalg.norm(truth.solid.half_size))
            errors.append(np.linalg.norm(box.centre - place) / reach)
            assert (box.size > 0).all() and box.size.max() < 2.2 * reach
    assert len(errors) > 15
    # The centre of the side that is seen lies before the middle
    assert np.median(errors) < 0.6 and max(errors) < 1.1


def test_identities_last_while_a_detector_misses_every_third_image():
    sequence, tracks = crossing(), PeopleTracks()
    seen: dict[int, set[int]] = {}
    for index in range(60):
        if index % 3 == 1:
            continue
        frame = sequence.render(index)
        boxes = boxes_of(frame)
        for box, person in zip(boxes, tracks.update(boxes, frame.stamp_ns), strict=True):
            seen.setdefault(shown_by(frame, box), set()).add(person.id)
    assert len(seen) == 3
    assert all(len(ids) == 1 for ids in seen.values()), seen
    assert len(set.union(*seen.values())) == 3


def person(x: float, y: float, height: float = 1.7) -> PersonBox:
    """Make the box of somebody who stands at a place."""
    return PersonBox(1, 1.0, np.array([x, y, height / 2]), 0.0, np.array([0.3, 0.5, height]),
                     np.zeros((3, 3)))


@pytest.mark.parametrize('hidden_s, same', [(1.5, True), (OCCLUSION_S + 0.1, False)])
def test_a_person_is_recognised_after_a_short_occlusion(hidden_s, same):
    tracks = PeopleTracks()
    for n in range(10):
        (before,) = tracks.update([person(3.0, 0.12 * n)], n * 100_000_000)
    assert before.velocity[1] == pytest.approx(1.2, abs=0.25)
    (after,) = tracks.update([person(3.0, 1.08 + 0.6 * min(hidden_s, 1.5))],
                             round((0.9 + hidden_s) * 1e9))
    assert (after.id == before.id) == same


def test_people_who_cross_keep_their_identities():
    tracks, seen = PeopleTracks(), []
    for n in range(21):
        y = -1.0 + 0.1 * n
        # 0.6 m behind each other where they pass
        pair = tracks.update([person(3.0, y), person(3.6, -y)], n * 100_000_000)
        seen.append([p.id for p in pair])
    assert seen == [[1, 2]] * 21


def test_two_cameras_see_the_same_people():
    tracks, sequence = PeopleTracks(), crossing()
    frame = sequence.render(10)
    first = tracks.update(boxes_of(frame), frame.stamp_ns)
    # A second camera errs by some centimetres, and its images come a little before
    shifted = frame.T_world_cam.copy()
    shifted[:3, 3] += 0.03
    second = tracks.update(boxes_of(frame, shifted), frame.stamp_ns - 2_000_000)
    assert len(first) > 1 and [p.id for p in second] == [p.id for p in first]
    assert not any(p.velocity.any() for p in second)


def test_somebody_far_away_is_somebody_else_and_time_that_goes_back_forgets():
    tracks = PeopleTracks()
    assert tracks.update([person(3, 0)], 10_000_000_000)[0].id == 1
    assert tracks.update([person(3, 2)], 10_100_000_000)[0].id == 2
    assert tracks.update([person(3, 0)], 1_000_000_000)[0].id == 3


def image(depth: float, person_depth: float) -> tuple[People, np.ndarray]:
    """Draw a person of 40 by 80 pixels before a wall."""
    instances = np.zeros((120, 160), np.uint16)
    instances[20:100, 60:100] = 4
    return People(instances), np.where(instances > 0, person_depth, depth).astype(np.float32)


def test_a_box_of_measured_depth_leaves_out_the_wall_behind():
    people, depth = image(5.0, 2.0)
    people.instances[18:102, 58:102] = 4  # a mask that is too wide
    depth[30:40, 60:100] = np.nan
    (box,) = person_boxes(people, people.instances > 0, depth, CAMERA, T_UP_CAM)
    assert (box.instance, box.score) == (4, 1.0)
    assert box.size[1] == pytest.approx(40 / 130 * 2, rel=0.06)
    assert box.size[2] == pytest.approx(80 / 130 * 2, rel=0.06)
    assert box.size[0] == pytest.approx(MIN_THICKNESS * box.size[2], rel=1e-6)
    np.testing.assert_allclose(box.centre, [2 + box.size[0] / 2, 0, 1.5], atol=0.02)
    # Two percent of the distance, along the viewing ray
    assert np.sqrt(box.covariance[0, 0]) == pytest.approx(0.02 * box.centre[0])
    # 90 degrees to the left
    (turned,) = person_boxes(people, people.instances > 0, depth, CAMERA,
                             se3.from_rt(se3.so3_exp([0, 0, np.pi / 2]), np.zeros(3)) @ T_UP_CAM)
    assert turned.yaw == pytest.approx(box.yaw + np.pi / 2)
    np.testing.assert_allclose(turned.size, box.size, rtol=1e-6)


def test_without_depth_there_is_no_box():
    people, depth = image(5.0, np.nan)
    depth[20:30, 60:100] = 2.0  # an eighth of the person
    assert person_boxes(people, people.instances > 0, depth, CAMERA, T_UP_CAM) == []
    nowhere = Surface(np.full((120 // CELL, 160 // CELL), np.nan, np.float32))
    assert person_boxes(people, people.instances > 0, nowhere, CAMERA, T_UP_CAM) == []
    unsure = People(people.instances, {4: 0.3})
    assert person_boxes(unsure, people.instances > 0, image(5.0, 2.0)[1], CAMERA, T_UP_CAM) == []


def test_without_measured_depth_a_person_stands_on_what_is_right_below():
    people, _ = image(5.0, 2.0)
    floor = Surface(np.full((120 // CELL, 160 // CELL), 3.0, np.float32))
    (box,) = person_boxes(people, people.instances > 0, floor, CAMERA, T_UP_CAM, unit=2.0)
    assert box.size[2] == pytest.approx(0.96 * 79 / 130 * 6, rel=0.02)
    assert box.centre[0] - box.size[0] / 2 == pytest.approx(6)
    # Cut off by the image's border, nothing tells where the feet are
    people.instances[20:, 60:100] = 4
    assert person_boxes(people, people.instances > 0, floor, CAMERA, T_UP_CAM) == []
