# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The pair graph as markers."""

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.ros import conversions, markers, transforms
from recon3r_ros.slam.types import Keyframe, Map, MapEdge
from visualization_msgs.msg import Marker, MarkerArray

STAMP_NS = 1_700_000_000_123_456_789
CAMERA = Camera(64, 32, 60.0, 62.0, 30.0, 16.0)
EDGES = (MapEdge(0, 1), MapEdge(1, 2), MapEdge(0, 2, loop=True))


def keyframe(i, T_map_cam, depth=2.0):
    """Make a keyframe whose landmarks are all equally far; None for none known."""
    inverse = np.full(5, 0.0 if depth is None else 1 / depth)
    grid = np.zeros((CAMERA.height, CAMERA.width), np.float32)
    return Keyframe(
        i, f'{i:04}', STAMP_NS + i, i, CAMERA, np.zeros((*grid.shape, 3), np.uint8),
        grid.astype(np.uint8), np.ones(1, np.float32), np.ones((5, 2), np.int32), T_map_cam,
        inverse, np.ones(5), grid, grid, grid.astype(bool))


def a_map(count, edges=EDGES, depth=2.0):
    poses = [se3.exp([0.1 * i, 0.2 * i, 0, i, 0, 0.5 * i]) for i in range(count)]
    return Map({i: keyframe(i, T, depth) for i, T in enumerate(poses)}, {}, tuple(edges))


def draw(known, T_rosmap_map=transforms.T_BODY_OPTICAL, metres=1.0):
    """Return the markers by namespace, as a subscriber gets them."""
    message = deserialize_message(serialize_message(markers.graph_markers(
        known, T_rosmap_map, metres, STAMP_NS, 'map')), MarkerArray)
    keys = [(m.ns, m.id) for m in message.markers]
    assert len(set(keys)) == len(keys)
    for marker in message.markers:
        assert marker.header.frame_id == 'map'
        assert conversions.stamp_to_ns(marker.header.stamp) == STAMP_NS
        # RViz refuses lists without a width or a unit quaternion, and lists of odd length
        assert marker.type == Marker.LINE_LIST and marker.scale.x > 0
        assert conversions.matrix_from_pose(marker.pose) == pytest.approx(np.eye(4))
        assert len(marker.points) % 2 == 0
        assert (marker.action == Marker.ADD) == bool(marker.points)
        assert np.isfinite(points(marker)).all()
    return {m.ns: m for m in message.markers}


def points(marker):
    return np.array([[p.x, p.y, p.z] for p in marker.points]).reshape(-1, 3)


def expected_pose(known, i, T_rosmap_map, metres):
    T = known.keyframes[i].T_map_cam.copy()
    T[:3, 3] *= metres
    return T_rosmap_map @ T


@pytest.mark.parametrize('count', [0, 1, 2, 3])
def test_the_same_markers_whatever_there_is(count):
    # with stable ids a marker that has nothing to show must be taken away
    known = a_map(count, [e for e in EDGES if e.j < count])
    found = draw(known)
    assert list(found) == ['keyframes', 'newest', 'edges', 'loops']
    assert [len(m.points) for m in found.values()] == [
        16 * max(count - 1, 0), 16 * min(count, 1), 2 * min(max(count - 1, 0), 2),
        2 * (count == 3)]


@pytest.mark.parametrize('metres', [1.0, 2.5])
@pytest.mark.parametrize('T_rosmap_map', [np.eye(4), se3.exp([0.3, -0.2, 1.0, 4, 5, 6])],
                         ids=['same', 'moved'])
def test_a_frustum_is_what_the_camera_sees(metres, T_rosmap_map):
    known = a_map(3)
    newest = points(draw(known, T_rosmap_map, metres)['newest'])
    T = expected_pose(known, 2, T_rosmap_map, metres)
    corners = np.unique(newest.round(9), axis=0)
    assert len(corners) == 5
    own = se3.transform(se3.inverse(T), corners)
    depths = own[:, 2]
    image = own[depths > 1e-6]
    assert len(image) == 4  # and the fifth is the camera's centre
    np.testing.assert_allclose(own[depths <= 1e-6], [[0, 0, 0]], atol=1e-6)
    assert np.ptp(depths[depths > 1e-6]) < 1e-6
    pixels = {tuple(p) for p in CAMERA.project(image).round(3).tolist()}
    assert pixels == {(0, 0), (63, 0), (0, 31), (63, 31)}


def test_the_lines_of_a_frustum():
    segments = points(draw(a_map(1, []))['newest']).reshape(-1, 2, 3)
    assert len({tuple(sorted(map(tuple, s.round(9).tolist()))) for s in segments}) == 8
    assert all(np.linalg.norm(a - b) > 0 for a, b in segments)


def frustum_depth(known, metres):
    newest = points(draw(known, metres=metres)['newest'])
    T = expected_pose(known, max(known.keyframes), transforms.T_BODY_OPTICAL, metres)
    return se3.transform(se3.inverse(T), newest)[:, 2].max()


def test_the_size_follows_what_is_seen_in_metres():
    assert frustum_depth(a_map(2, (), depth=2.0), 1.0) == pytest.approx(2 * markers.FRUSTUM)
    assert frustum_depth(a_map(2, (), depth=1.0), 1.0) == pytest.approx(markers.FRUSTUM)
    assert frustum_depth(a_map(2, (), depth=1.0), 3.0) == pytest.approx(3 * markers.FRUSTUM)
    # outdoors they would hide one another
    assert frustum_depth(a_map(2, (), depth=100.0), 1.0) == pytest.approx(markers.MAX_FRUSTUM)


def test_a_first_keyframe_without_depth_is_drawn():
    assert frustum_depth(a_map(1, (), depth=None), 1.0) > 0


@pytest.mark.parametrize('metres', [1.0, 2.5])
def test_edges_join_centres_and_loops_are_apart(metres):
    known = a_map(3)
    T = se3.exp([0.3, -0.2, 1.0, 4, 5, 6])
    found = draw(known, T, metres)
    centres = [expected_pose(known, i, T, metres)[:3, 3] for i in range(3)]
    np.testing.assert_allclose(points(found['edges']),
                               [centres[0], centres[1], centres[1], centres[2]], atol=1e-9)
    np.testing.assert_allclose(points(found['loops']), [centres[0], centres[2]], atol=1e-9)


def test_edges_of_retired_keyframes_are_left_out():
    found = draw(a_map(2, [MapEdge(0, 1), MapEdge(1, 7), MapEdge(7, 0, loop=True)]))
    assert len(found['edges'].points) == 2
    assert found['loops'].action == Marker.DELETE


def test_the_newest_stands_out_and_loops_are_red():
    found = draw(a_map(3))
    colours = {name: (m.color.r, m.color.g, m.color.b) for name, m in found.items()}
    assert len(set(colours.values())) == 4
    assert all(m.color.a > 0 for m in found.values())
    red, green, blue = colours['loops']
    assert red > 2 * max(green, blue)
    assert len(set(colours['edges'])) == 1  # grey


def test_the_map_is_left_alone():
    known = a_map(3)
    before = [k.T_map_cam.copy() for k in known.keyframes.values()]
    draw(known, metres=3.0)
    np.testing.assert_array_equal([k.T_map_cam for k in known.keyframes.values()], before)
