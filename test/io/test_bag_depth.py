# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Depth topics of a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import se3
from recon3r_ros.io.bag import open_bag
from recordings import image_message, info_message, stamps, STORE, TYPES, write_bag
from test_bag_rig import of_frame, transform

TOPIC = '/camera/depth/image_raw'


def make_bag(path: Path, depth_frame: str = 'camera', late_ns: int = 10_000_000,
             info: bool = True, encoding: str = '16UC1') -> Path:
    """Record four images, and depth of 1, 2, 3 and 4 m at all pixels, a little later."""
    depths = [np.full((48, 64), 1000 * (i + 1), np.uint16) for i in range(4)]
    depths[1][0, 0] = 0
    topics: dict[str, list[Any]] = {
        '/camera/rgb/image_raw': [image_message(s, np.full((48, 64), 9, np.uint8), 'mono8')
                                  for s in stamps(4)],
        '/camera/rgb/camera_info': [info_message(stamps(1)[0], d=(0, 0, 0, 0, 0))],
        TOPIC: [of_frame(image_message(s + late_ns, d, encoding), depth_frame)
                for s, d in zip(stamps(4), depths)]}
    if info:
        topics['/camera/depth/camera_info'] = [info_message(stamps(1)[0], d=(0, 0, 0, 0, 0))]
    if depth_frame == 'depth':
        T = se3.from_rt(np.eye(3), [0.0, 0.0, 0.5])  # in front of the camera
        message = TYPES['tf2_msgs/msg/TFMessage']([transform('camera', 'depth', T)])
        topics['/tf_static'] = ['tf2_msgs/msg/TFMessage', bytes(
            STORE.serialize_cdr(message, 'tf2_msgs/msg/TFMessage'))]
    return write_bag(path, topics)


def depths_of(path: Path) -> list[Any]:
    return [f.depth for f in open_bag(path, ('/camera/rgb/image_raw',), depth_topic=TOPIC)]


def test_depth_comes_with_the_image_nearest_in_time(tmp_path: Path) -> None:
    sequence = open_bag(make_bag(tmp_path / 'bag'), ('/camera/rgb/image_raw',), depth_topic=TOPIC)
    for _ in range(2):
        found = [f.depth for f in sequence]
        assert [float(np.nanmedian(d)) for d in found] == pytest.approx([1.0, 2.0, 3.0, 4.0])
        assert np.isnan(found[1][0, 0]) and found[1].dtype == np.float32
    assert depths_of(make_bag(tmp_path / 'late', late_ns=40_000_000)) == [None] * 4


def test_depth_of_another_camera_is_registered(tmp_path: Path) -> None:
    found = depths_of(make_bag(tmp_path / 'bag', 'depth'))
    assert float(np.nanmedian(found[0])) == pytest.approx(1.5, abs=0.01)


@pytest.mark.parametrize('made, topic, words', [
    ({}, '/nowhere', 'no depth images on /nowhere; recorded: .*/camera/depth/image_raw'),
    ({'depth_frame': 'elsewhere'}, TOPIC, "'elsewhere' in the camera 'camera' is not in"),
    ({'depth_frame': 'depth', 'info': False}, TOPIC, 'needs intrinsics of both')])
def test_what_is_missing_is_named(tmp_path: Path, made: dict[str, Any], topic: str, words: str
                                  ) -> None:
    with pytest.raises(InputError, match=words):
        open_bag(make_bag(tmp_path / 'bag', **made), ('/camera/rgb/image_raw',),
                 depth_topic=topic)


def test_messages_that_are_no_depth_do_not_lose_the_images(tmp_path: Path, caplog) -> None:
    assert depths_of(make_bag(tmp_path / 'bag', encoding='rgb16')) == [None] * 4
    assert len([r for r in caplog.records if 'without depth' in r.getMessage()]) == 1
