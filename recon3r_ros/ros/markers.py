# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Markers of the pair graph: frusta of keyframes, lines between those processed jointly."""

from __future__ import annotations

from geometry_msgs.msg import Point
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.ros import conversions
from recon3r_ros.slam.types import Keyframe, Map
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

Array = NDArray[np.float64]

#: Depth of a frustum, share of its keyframe's median depth, and metres at most
FRUSTUM, MAX_FRUSTUM = 0.06, 0.3
_KEYFRAME = ColorRGBA(r=0.2, g=0.6, b=1.0, a=0.9)
_NEWEST = ColorRGBA(r=1.0, g=0.8, b=0.1, a=1.0)
_EDGE = ColorRGBA(r=0.7, g=0.7, b=0.7, a=0.6)
_LOOP = ColorRGBA(r=1.0, g=0.2, b=0.2, a=1.0)
#: Corners of a frustum that are joined: apex to image, then around the image
_LINES = ((0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (2, 3), (3, 4), (4, 1))


def graph_markers(known: Map, T_rosmap_map: Array, metres: float, stamp_ns: int, frame_id: str
                  ) -> MarkerArray:
    """
    Draw a map's keyframes and edges.

    :param T_rosmap_map: (4, 4) pose of the core's map in `frame_id`
    :param metres: per map unit
    """
    poses = {i: _posed(k, T_rosmap_map, metres) for i, k in known.keyframes.items()}
    size = _size(known, metres)
    frusta = [_frustum(k, poses[i], size) for i, k in known.keyframes.items()]
    centres = {i: T[:3, 3] for i, T in poses.items()}
    edges = {loop: [np.stack([centres[e.i], centres[e.j]]) for e in known.edges
                    if e.loop == loop and e.i in centres and e.j in centres]
             for loop in (False, True)}
    width = max(0.05 * size, 1e-4)
    lists = (('keyframes', frusta[:-1], _KEYFRAME), ('newest', frusta[-1:], _NEWEST),
             ('edges', edges[False], _EDGE), ('loops', edges[True], _LOOP))
    return MarkerArray(markers=[
        _line_list(name, segments, color, width, stamp_ns, frame_id)
        for name, segments, color in lists])


def _posed(keyframe: Keyframe, T_rosmap_map: Array, metres: float) -> Array:
    T = keyframe.T_map_cam.copy()
    T[:3, 3] *= metres
    return T_rosmap_map @ T


def _size(known: Map, metres: float) -> float:
    """Depth of the frusta, metres."""
    depths = [1 / k.landmarks[k.landmarks > 0] for k in known.keyframes.values()]
    depths = [d for d in depths if len(d)]
    median = float(np.median(np.concatenate(depths))) if depths else 1.0
    return min(FRUSTUM * median * metres, MAX_FRUSTUM)


def _frustum(keyframe: Keyframe, T: Array, size: float) -> Array:
    """Line segments (2 L, 3) of a keyframe's outline."""
    camera = keyframe.camera
    corners = np.array([[0, 0], [camera.width - 1, 0], [camera.width - 1, camera.height - 1],
                        [0, camera.height - 1]], float)
    points = np.vstack([np.zeros(3), camera.unproject(corners) * size])
    return se3.transform(T, points)[np.array(_LINES).ravel()]


def _line_list(name: str, segments: list[Array], color: ColorRGBA, width: float, stamp_ns: int,
               frame_id: str) -> Marker:
    marker = Marker(header=conversions.header(stamp_ns, frame_id), ns=name, id=0,
                    type=Marker.LINE_LIST, action=Marker.ADD, color=color)
    marker.pose.orientation.w = 1.0
    marker.scale.x = width
    if not segments:
        marker.action = Marker.DELETE
        return marker
    marker.points = [Point(x=x, y=y, z=z) for x, y, z in np.concatenate(segments).tolist()]
    return marker
