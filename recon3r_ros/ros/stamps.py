# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Plausibility of the stamps of a camera's images."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

NS_PER_S = 1_000_000_000
#: A stamp that advances by this much more or less than the wall clock has jumped
JUMP_NS = 1 * NS_PER_S
#: Images that follow each other within this time confirm a jump
CONFIRMATION_NS = 1 * NS_PER_S


class Verdict(Enum):
    """What to do with an image."""

    ACCEPT = 'accept'
    REJECT = 'reject'
    RESET = 'reset'


@dataclass(frozen=True)
class Judgement:
    """
    What to do with an image, and why not to take it.

    :param stamp_ns: that it is processed with
    :param reason: empty where it is accepted
    """

    verdict: Verdict
    stamp_ns: int
    reason: str = ''


class StampGuard:
    """
    Judges the stamps of one camera.

    A single wrong stamp loses one image. Time that has gone back and stays there, as in a bag that
    is played again, requests a reset; time that has gone forward is accepted.
    """

    def __init__(self) -> None:
        self._last: tuple[int, int] | None = None
        self._suspect: int | None = None

    def judge(self, stamp_ns: int, arrival_ns: int) -> Judgement:
        """
        Judge an image.

        :param stamp_ns: of its header; 0 where the driver does not stamp
        :param arrival_ns: when it came, by a clock that never jumps
        """
        if stamp_ns < 0:
            return Judgement(Verdict.REJECT, stamp_ns, f'stamp {stamp_ns} ns is negative')
        if self._last is None:
            return self._accept(stamp_ns, arrival_ns)
        before, arrived = self._last
        step = stamp_ns - before
        if step == 0:
            return Judgement(Verdict.REJECT, stamp_ns, f'stamp {stamp_ns} ns is repeated')
        # Played fast or slowly, images still come one after the other
        waited = arrival_ns - arrived
        if -JUMP_NS < step < 0:
            return Judgement(Verdict.REJECT, stamp_ns,
                             f'stamp is {-step / 1e9:.3f} s older than the one before')
        if 0 < step < waited + JUMP_NS:
            return self._accept(stamp_ns, arrival_ns)
        suspect, self._suspect = self._suspect, stamp_ns
        if suspect is None or not 0 < stamp_ns - suspect < CONFIRMATION_NS:
            return Judgement(Verdict.REJECT, stamp_ns,
                             f'stamp jumps by {step / 1e9:.3f} s; waiting for another like it')
        self._accept(stamp_ns, arrival_ns)
        if step < 0:
            return Judgement(Verdict.RESET, stamp_ns,
                             f'time went back by {-step / 1e9:.3f} s')
        return Judgement(Verdict.ACCEPT, stamp_ns)

    def _accept(self, stamp_ns: int, arrival_ns: int) -> Judgement:
        self._last = (stamp_ns, arrival_ns)
        self._suspect = None
        return Judgement(Verdict.ACCEPT, stamp_ns)
