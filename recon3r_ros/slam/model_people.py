# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
People that networks find: a `PeopleSource`.

A person starts with certainty and goes on with less, near the last place: with one threshold
statues, chairs and dogs are people, or real ones blink. In a video, certainty has to last for
three images, as in Deep SORT (Wojke et al., ICIP 2017): an animal may look like a person in one.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.models.pose_decoding import Detection
from recon3r_ros.models.pose_networks import Body, PoseNetworks
from recon3r_ros.slam.semantics import People
from recon3r_ros.slam.types import Frame

#: Score of the detector and probability of a body with which a person starts
START_SCORE, START_PRESENCE = 0.8, 0.97
#: And goes on
SCORE, PRESENCE = 0.5, 0.5
#: In so many images of a video, one after the other; a single image is believed
PROBATION = 3
#: A person who was not found for longer has to start again, seconds
MEMORY_S = 0.5
#: Bodies that are looked at in an image, at most
MAX_BODIES = 6
#: Probability of a pixel of a person
PIXEL = 0.5
#: Pixels of a person, and radius of the circle about one, at least
MIN_PIXELS, MIN_RADIUS = 64, 4.0
#: Share of a body's pixels that belong to one found before: it is the same
MAX_SHARED = 0.5


@dataclass(frozen=True, eq=False)
class _Known:
    """
    A person found before.

    :param hip: (2,) between the hips, pixels
    :param length: of the body, pixels
    :param stamp_ns: when
    :param certain: images with certainty in a row, until it is a person
    :param person: whether it is one
    """

    hip: NDArray[np.float64]
    length: float
    stamp_ns: int
    certain: int
    person: bool


class ModelPeople:
    """
    Finds people with MediaPipe's networks. One thread calls it.

    :param networks: of detection and landmarks
    """

    def __init__(self, networks: PoseNetworks) -> None:
        self._networks = networks
        self._known: dict[str, list[_Known]] = {}
        self._last_ns: dict[str, int] = {}

    def people(self, frame: Frame) -> People:
        """Find the people in a frame, given those in its camera's frames shortly before."""
        image = frame.image if frame.image.ndim == 3 else cv2.cvtColor(
            frame.image, cv2.COLOR_GRAY2RGB)
        last_ns = self._last_ns.get(frame.camera_name)
        self._last_ns[frame.camera_name] = frame.stamp_ns
        # Of single images, nothing is known but the present one
        single = last_ns is None or not _recent(last_ns, frame.stamp_ns)
        known = [k for k in self._known.get(frame.camera_name, ())
                 if _recent(k.stamp_ns, frame.stamp_ns)]
        bodies: list[Body] = []
        found: list[_Known] = []
        for detection in self._networks.detections(image, SCORE)[:MAX_BODIES]:
            near = [k for k in known if np.linalg.norm(detection.hip - k.hip) <= k.length]
            person = any(k.person for k in near)
            if (not person and detection.score < START_SCORE) or detection.radius < MIN_RADIUS:
                continue
            body = self._networks.body(image, detection)
            if body.presence < (PRESENCE if person else START_PRESENCE):
                continue
            certain = 1 + max((k.certain for k in near if k.stamp_ns == last_ns), default=0)
            person = person or single or certain >= PROBATION
            found.append(_Known(
                detection.hip, _length(detection), frame.stamp_ns, certain, person))
            if person:
                bodies.append(body)
        shown, kept = _instances(bodies, image.shape[:2])
        # Of people who were missed, until they are forgotten
        missed = [k for k in known if k.person and not any(
            np.linalg.norm(k.hip - f.hip) <= f.length for f in found)]
        self._known[frame.camera_name] = found + missed
        return People(shown, {n + 1: b.presence for n, b in enumerate(kept)},
                      {n + 1: b.landmarks for n, b in enumerate(kept)})


def _recent(before_ns: int, now_ns: int) -> bool:
    """Whether something before counts now."""
    return 0 <= (now_ns - before_ns) * 1e-9 <= MEMORY_S


def _length(detection: Detection) -> float:
    """Length of a body: the circle about it has this diameter."""
    return 2 * detection.radius


def _instances(bodies: list[Body], shape: tuple[int, int]
               ) -> tuple[NDArray[np.uint16], list[Body]]:
    """Draw the pixels of bodies, from 1 on; return the bodies that have some."""
    out, kept = np.zeros(shape, np.uint16), []
    best = np.full(shape, PIXEL, np.float32)
    for body in bodies:
        own = body.mask > PIXEL
        count = np.count_nonzero(own)
        if count < MIN_PIXELS or np.count_nonzero(out[own]) > MAX_SHARED * count:
            continue
        kept.append(body)
        better = body.mask > best
        out[better], best[better] = len(kept), body.mask[better]
    return out, kept
