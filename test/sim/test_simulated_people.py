# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Simulated people: their walk, their truth, and their place in the scene."""

from __future__ import annotations

from dataclasses import replace
import math

import numpy as np
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import pixel_grid
from recon3r_ros.sim import SceneConfig, SimulatedFrame, SimulatedSequence
from recon3r_ros.sim.body import LimbPath, LIMBS, Person, Posture, REST_HIGH, REST_LOW, REST_POSES
from recon3r_ros.sim.people_truth import people_truth, PeopleTruth

#: A walker in front, who stands behind
CONFIG = SceneConfig(seed=1, frames=60, width=160, height=120, moving_objects=0, people=2)
PARTS = {limb.part: n for n, limb in enumerate(LIMBS) if limb.part}


@pytest.fixture(scope='module')
def sequence() -> SimulatedSequence:
    return SimulatedSequence(CONFIG)


@pytest.fixture(scope='module')
def seen(sequence: SimulatedSequence) -> tuple[SimulatedFrame, PeopleTruth]:
    frame = sequence.render(10)
    return frame, people_truth(sequence, frame)


def people(sequence: SimulatedSequence) -> dict[int, Person]:
    return {o.path.person.number: o.path.person for o in sequence.scene.objects
            if isinstance(o.path, LimbPath)}


@pytest.mark.parametrize('rate', [1.5, 0.0])
def test_a_foot_is_on_the_floor_and_hardly_slides(rate: float) -> None:
    person = Person(1, 1.0, Posture(), np.zeros(2), 0.6, 0.3, rate)
    times = np.arange(200) / 100
    poses = person.limb_poses(times)
    soles, feet = [], []
    for side in ('left', 'right'):
        index = [limb.name for limb in LIMBS].index(f'{side} foot')
        limb, T = LIMBS[index], poses[:, index]
        lowest = T[:, 2, 3] - limb.radius - limb.length / 2 * np.abs(T[:, 2, 2])
        soles.append(lowest)
        feet.append(T[:, :2, 3])
    assert np.abs(np.minimum(*soles)).max() < 1e-9
    if not rate:
        return
    lower = np.argmin(soles, axis=0)
    speeds = np.linalg.norm(np.diff(feet, axis=1), axis=2)[lower[1:], np.arange(199)] * 100
    assert np.median(speeds) < 0.35 * 0.6 * rate
    # Both legs take their turns: 0.9 m/s is more than a step a second
    assert np.count_nonzero(np.diff(lower)) >= 2


def test_coordinates_of_a_part_lead_back_to_the_pixel(
        sequence: SimulatedSequence, seen: tuple[SimulatedFrame, PeopleTruth]) -> None:
    """The point of the capsule, by its pose, projects to where it was seen."""
    frame, truth = seen
    who = people(sequence)
    pixels = pixel_grid(*frame.depth.shape)
    checked = 0
    for number, person in who.items():
        poses = person.limb_poses(sequence.config.times[[frame.index]])[0]
        for part, index in PARTS.items():
            own = (truth.instances == number) & (truth.part == part)
            limb = LIMBS[index]
            angle, along = ((truth.uv[own] - [0.5, 0.5]) * [2 * math.pi, 2]).T
            along = along * (limb.length / 2 + limb.radius * math.pi / 2)
            end = np.clip(along, -limb.length / 2, limb.length / 2)
            tilt = (along - end) / limb.radius
            points = person.scale * np.stack([
                limb.radius * np.cos(tilt) * np.cos(angle),
                limb.radius * np.cos(tilt) * np.sin(angle),
                end + limb.radius * np.sin(tilt)], axis=-1)
            T_cam_limb = se3.inverse(frame.T_world_cam) @ poses[index]
            there = se3.transform(T_cam_limb, points)
            assert np.abs(sequence.camera.project(there) - pixels[own]).max(initial=0) < 0.2
            assert np.abs(there[:, 2] - frame.depth[own]).max(initial=0) < 5e-3
            # The template's point is that of the limb at rest
            rest = REST_LOW + truth.surface[own] * (REST_HIGH - REST_LOW)
            expected = se3.transform(REST_POSES[index], points / person.scale)
            assert np.abs(rest - expected).max(initial=0) < 5e-3
            checked += own.sum()
    assert checked > 1500 and {1, 2} <= set(np.unique(truth.instances))


def test_hair_belongs_to_a_person_but_not_to_the_body(
        seen: tuple[SimulatedFrame, PeopleTruth]) -> None:
    _, truth = seen
    hair = (truth.instances > 0) & (truth.part == 0)
    assert 20 < hair.sum() < 0.2 * (truth.instances > 0).sum()
    assert not truth.surface[hair].any() and not truth.instances[truth.part > 0].min() == 0


def test_left_and_right_are_the_bodys_own(seen: tuple[SimulatedFrame, PeopleTruth]) -> None:
    """Left limbs lie at large y of the template, the head high, feet low."""
    _, truth = seen
    names = {limb.part: limb.name for limb in LIMBS}
    for part in np.unique(truth.part[truth.part > 0]):
        x, y, z = truth.surface[truth.part == part].mean(0)
        if 'left' in names[part] or 'right' in names[part]:
            assert (y > 0.5) == ('left' in names[part])
        assert names[part] != 'head' or z > 0.8
        assert 'foot' not in names[part] or z < 0.1


def test_who_walks_is_dynamic_and_who_stands_is_not(
        sequence: SimulatedSequence, seen: tuple[SimulatedFrame, PeopleTruth]) -> None:
    frame, truth = seen
    assert np.array_equal(frame.motion_mask, truth.instances == 1)
    first, last = (people(sequence)[2].limb_poses(np.array([t])) for t in (0.0, 2.0))
    assert np.array_equal(first, last)
    still = SimulatedSequence(replace(CONFIG, departure=9.0)).render(10)
    assert not still.motion_mask.any()


@pytest.mark.parametrize('seed', range(3))
def test_people_are_seen_and_collide_with_nothing(seed: int) -> None:
    sequence = SimulatedSequence(replace(CONFIG, seed=seed, width=64, height=48, moving_objects=1))
    times = sequence.config.times
    who = people(sequence)
    eyes = np.array([sequence.render(i).T_world_cam[:3, 3] for i in range(0, 60, 10)])
    for person in who.values():
        bodies = person.limb_poses(times[::10])[..., :3, 3].reshape(6, -1, 3)
        assert np.linalg.norm(bodies - eyes[:, None], axis=2).min() > 0.5
        for item in sequence.scene.objects[1:]:
            if isinstance(item.path, LimbPath) and item.path.person is person:
                continue
            T = se3.inverse(item.path.poses(times[::10]))
            gaps = [item.solid.distance(se3.transform(T[n], bodies[n])).min() for n in range(6)]
            # A carpet lies under the feet
            assert min(gaps) > 0 or item.solid.half_size[2] < 0.01
    shown = [people_truth(sequence, sequence.render(i)).instances for i in range(0, 60, 10)]
    for number in who:
        assert np.mean([(s == number).mean() > 0.01 for s in shown]) >= 0.5


def test_a_crowd_does_not_fit() -> None:
    with pytest.raises(InputError, match='people: got 40, there is space for'):
        SimulatedSequence(replace(CONFIG, people=40))
