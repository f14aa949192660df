# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Each event is logged once."""

from keyframes_by_hand import keyframe
import numpy as np
from recon3r_ros.ros.event_log import EventLog
from recon3r_ros.slam.types import Map, MapEdge


def known(count: int, *edges: MapEdge) -> Map:
    keyframes = {i: keyframe(i, np.eye(4)) for i in range(count)}
    return Map(keyframes, edges=edges)


def test_loops_are_logged_once():
    lines: list[str] = []
    log = EventLog(lines.append)
    log.mapped(known(4, MapEdge(0, 1), MapEdge(0, 3, True)))
    log.mapped(known(4, MapEdge(0, 1), MapEdge(0, 3, True)))
    assert lines == ['loop closed between keyframes 0 and 3']
    log.mapped(known(6, MapEdge(0, 3, True), MapEdge(1, 5, True)))
    assert lines[1:] == ['loop closed between keyframes 1 and 5']
    log.mapped(known(7, MapEdge(2, 3, True), MapEdge(1, 5, True)))
    assert len(lines) == 2, 'keyframe 2 has replaced keyframe 0, which was culled'


def test_loops_of_a_saved_map_are_not_logged():
    lines: list[str] = []
    log = EventLog(lines.append)
    log.restored(known(4, MapEdge(0, 3, True)))
    log.mapped(known(5, MapEdge(0, 3, True)))
    assert not lines
    log.forget()
    log.mapped(known(2, MapEdge(0, 1, True)))
    assert lines == ['loop closed between keyframes 0 and 1']
