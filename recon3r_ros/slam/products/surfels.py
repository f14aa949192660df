# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Gaussians of the pixels of keyframes: each is the patch of surface that its pixel shows.

A surface is taken from the view that sees it in the smallest patches, among those where it stands
against free-space violations (see `cloud`). Its colour is the mean over the views that see it,
which are weighted by the inverse of the patch's area: one view's error of registration and of
sampling is not drawn, and coarse views do not blur. Before, images are sharpened by what blending
disks from front to back takes from them (`blending.sharpened`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.concurrency import side_by_side
from recon3r_ros.geometry import pinhole, se3
from recon3r_ros.slam.products.blending import sharpened
from recon3r_ros.slam.products.cloud import (
    CLEARLY,
    MIN_CONFIDENCE,
    MIN_GAP,
    reliable_pixels,
    stands,
    witnesses_of,
)
from recon3r_ros.slam.types import Gaussians, Keyframe

Array = NDArray[np.float64]
Map = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Standard deviation of a patch over the distance of pixels: wider ones blur, narrower ones leave
#: gaps
WIDTH = 0.45
#: Thickness of a patch over its shorter axis
THICKNESS = 0.1
#: Opacity of certain patches, at most
OPAQUE = 0.99
#: Pixels to each side that a plane is fitted to
_REACH = 2
#: Cosine between viewing ray and normal below which a plane is taken to face the camera: at
#: steeper surfaces a pixel's patch is longer than the plane is known
_STEEPEST = 0.15
#: Share of a finer pixel that must be known to be interpolated
_SHARE = 0.45
#: Views that a surface is compared with, at most: the nearest with a similar viewing direction
_PARTNERS = 16
_ROW = 1024  # cv2.remap takes no longer side than 32767


def in_pixels_of(keyframe: Keyframe, image: NDArray[np.uint8]) -> Keyframe:
    """
    Return a keyframe on the finer grid of an image of it, with the reliable depths only.

    :param image: (H, W, 3) RGB or (H, W), the keyframe's view in any size
    """
    size = image.shape[1], image.shape[0]
    camera = keyframe.camera.resized(*size)
    known = reliable_pixels(keyframe)
    weight = cv2.resize(known.astype(np.float32), size)
    there = weight > _SHARE

    def finer(values: Map) -> Map:
        sums = cv2.resize(np.where(known, values, 0).astype(np.float32), size)
        return np.where(there, sums / np.maximum(weight, _SHARE), 0).astype(np.float32)

    colors = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    mask = cv2.resize(keyframe.mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    return replace(keyframe, camera=camera, image=colors, mask=mask,
                   inverse_depth=finer(keyframe.inverse_depth),
                   confidence=finer(keyframe.confidence))


def surfels_of(keyframes: Sequence[Keyframe]) -> Gaussians:
    """
    Make Gaussians from the pixels of keyframes.

    :returns: in the frame of the keyframes' poses; none where no depth is reliable
    """
    views = side_by_side(lambda i: _view(keyframes[i]), range(len(keyframes)))

    def standing(i: int) -> _View:
        near = [(views[j].keyframe, views[j].known) for j in witnesses_of(i, keyframes)]
        return views[i].only(stands(views[i].world, views[i].confidences, near))

    views = side_by_side(standing, range(len(keyframes)))
    parts = [part for part in side_by_side(
        lambda i: _patches(i, views), range(len(keyframes))) if len(part)]
    if not parts:
        return Gaussians(*(np.zeros((0, *shape), np.float32) for shape in (
            (3,), (4,), (3,), (), (3,))))
    return Gaussians(*(np.concatenate([getattr(p, name) for p in parts]) for name in (
        'means', 'quaternions_wxyz', 'scales', 'opacities', 'colors')))


@dataclass(frozen=True, eq=False)
class _View:
    """
    A keyframe, and its n reliable pixels, by row and column.

    :param known: (H, W) which these are
    :param world: (n, 3) their points, in the map
    :param confidences: (n,)
    :param normals: (H, W, 3) in the camera's frame, away from it
    :param areas: (H, W) of the patches, unit of the map squared; infinite where unknown
    :param colors: (H, W, 3) float32, 0 to 255, sharpened
    """

    keyframe: Keyframe
    known: Mask
    world: Map
    confidences: Map
    normals: Map
    areas: Map
    colors: Map

    def only(self, keep: Mask) -> _View:
        """Return the view with some of its pixels (n,)."""
        known = np.zeros_like(self.known)
        known[self.known] = keep
        return replace(self, known=known, world=self.world[keep],
                       confidences=self.confidences[keep])


def _view(keyframe: Keyframe) -> _View:
    known, rays = reliable_pixels(keyframe), keyframe.rays()
    depth = np.where(known, keyframe.depth(), 0).astype(np.float32)
    normals, cosines = _normals(keyframe, known, rays)
    camera = keyframe.camera
    opacities = np.where(known, _opacities(keyframe.confidence), 0).astype(np.float32)
    with np.errstate(divide='ignore'):
        areas = depth ** 2 / (camera.fx * camera.fy * cosines)
    world = se3.transform(keyframe.T_map_cam, (rays * depth[..., None])[known].astype(np.float64))
    return _View(keyframe, known, world.astype(np.float32), keyframe.confidence[known], normals,
                 np.where(known, areas, np.inf).astype(np.float32),
                 sharpened(keyframe.image, depth, opacities, WIDTH))


def _opacities(confidences: Map) -> Map:
    """Return the opacities of patches of these confidences."""
    return np.minimum(confidences / (confidences + MIN_CONFIDENCE), OPAQUE).astype(np.float32)


def _normals(keyframe: Keyframe, known: Mask, rays: Map) -> tuple[Map, Map]:
    """
    Return normals (H, W, 3) away from the camera, and their cosines (H, W) with the rays.

    The inverse depth of a plane is linear in the pixel: n . X = 1 and X = ray / inverse depth.
    """
    along, down = _slopes(np.where(known, keyframe.inverse_depth, 0).astype(np.float32), known)
    camera = keyframe.camera
    x, y = camera.fx * along, camera.fy * down
    z = keyframe.inverse_depth - x * rays[..., 0] - y * rays[..., 1]
    normals = _unit(np.stack([x, y, z], axis=-1))
    towards = _unit(rays)
    cosines = (normals * towards).sum(-1)  # above 0: n . ray is the inverse depth
    steep = ~(cosines > _STEEPEST)
    normals[steep] = towards[steep]
    return normals, np.where(steep, np.float32(1), cosines)


def _slopes(values: Map, known: Mask) -> tuple[Map, Map]:
    """Return the slopes (H, W) along rows and columns of planes fitted around each pixel."""
    side = 2 * _REACH + 1
    x = np.tile(np.arange(-_REACH, _REACH + 1, dtype=np.float32), (side, 1))
    y, one, weight = x.T.copy(), np.ones_like(x), known.astype(np.float32)

    def total(of: Map, kernel: Map) -> Map:
        return np.asarray(cv2.filter2D(of, cv2.CV_32F, kernel, borderType=cv2.BORDER_CONSTANT))

    count = np.maximum(total(weight, one), 1)
    sx, sy, sv = total(weight, x), total(weight, y), total(values, one)
    xx = total(weight, x * x) - sx * sx / count
    yy = total(weight, y * y) - sy * sy / count
    xy = total(weight, x * y) - sx * sy / count
    xv, yv = total(values, x) - sx * sv / count, total(values, y) - sy * sv / count
    determinant = xx * yy - xy * xy
    enough = determinant > 1
    divisor = np.where(enough, determinant, 1)
    return (np.where(enough, (yy * xv - xy * yv) / divisor, 0),
            np.where(enough, (xx * yv - xy * xv) / divisor, 0))


def _patches(i: int, views: Sequence[_View]) -> Gaussians:
    """Return the Gaussians of the pixels of view i that no other view shows finer."""
    view = views[i]
    areas, colors = view.areas[view.known], view.colors[view.known]
    weights, finest = np.ones(len(areas), np.float32), np.ones(len(areas), bool)
    for j in witnesses_of(i, [v.keyframe for v in views], _PARTNERS):
        at, pixels = _shown(view, views[j])
        columns, rows = np.rint(pixels).astype(np.int64).T
        others = views[j].areas[rows, columns]
        finest[at[(others < areas[at]) | ((others == areas[at]) & (j < i))]] = False
        weight = np.minimum(areas[at] / others, 1)
        colors[at] += weight[:, None] * _sampled(views[j].colors, pixels)
        weights[at] += weight
    colors = np.clip(colors / weights[:, None] / 255, 0, 1)
    axes, scales = _axes(view)
    return Gaussians(
        view.world[finest],
        se3.quat_xyzw_from_matrix(axes[finest])[:, [3, 0, 1, 2]].astype(np.float32),
        scales[finest].astype(np.float32), _opacities(view.confidences[finest]),
        colors[finest].astype(np.float32))


def _shown(view: _View, other: _View) -> tuple[NDArray[np.int64], Map]:
    """Return which (m,) of a view's pixels another one shows, and its pixels (m, 2)."""
    T = se3.inverse(other.keyframe.T_map_cam).astype(np.float32)
    points, camera = view.world @ T[:3, :3].T + T[:3, 3], other.keyframe.camera
    before = np.flatnonzero(points[:, 2] > 1e-6)
    pixels = pinhole.project(points[before], camera)
    inside = ((pixels > -0.5) & (pixels < (camera.width - 0.5, camera.height - 0.5))).all(1)
    at, pixels = before[inside], pixels[inside].astype(np.float32)
    columns, rows = np.rint(pixels).astype(np.int64).T
    ratio = points[at, 2] * other.keyframe.inverse_depth[rows, columns]
    confidences = np.maximum(other.keyframe.confidence[rows, columns], 1e-6)
    gap = np.maximum(MIN_GAP, CLEARLY * np.sqrt(1 / confidences + 1 / view.confidences[at]))
    same = other.known[rows, columns] & (np.abs(ratio - 1) < gap)
    return at[same], pixels[same]


def _sampled(image: Map, pixels: Map) -> Map:
    """Return an image (H, W, 3) at pixels (m, 2)."""
    padded = np.zeros((-(-len(pixels) // _ROW) * _ROW, 2), np.float32)
    if len(padded) == 0:
        return np.zeros((0, 3), np.float32)
    padded[:len(pixels)] = pixels
    x, y = padded.reshape(-1, _ROW, 2).transpose(2, 0, 1)
    found = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found.reshape(-1, 3)[:len(pixels)])


def _axes(view: _View) -> tuple[Array, Array]:
    """
    Return the axes (n, 3, 3) of the patches, in columns, in the map, and deviations (n, 3).

    A pixel's patch is the ellipse on the plane that is projected to a circle.
    """
    keyframe, known = view.keyframe, view.known
    rays = keyframe.rays()[known].astype(np.float64)
    normals = view.normals[known].astype(np.float64)
    depth = 1 / keyframe.inverse_depth[known].astype(np.float64)
    nearer = depth / (normals * rays).sum(1)
    sides = []  # steps on the plane to the next pixel of the row, and of the column
    for axis, focal in ((0, keyframe.camera.fx), (1, keyframe.camera.fy)):
        step = -rays * (nearer * normals[:, axis] / focal)[:, None]
        step[:, axis] += depth / focal
        sides.append(step)
    first = _unit(sides[0])
    second = np.cross(normals, first)
    within = np.stack([np.stack([(s * e).sum(1) for s in sides], axis=1)
                       for e in (first, second)], axis=1)  # (n, 2, 2)
    turns, lengths, _ = np.linalg.svd(within)
    long, short = (first * turns[:, :1, k] + second * turns[:, 1:, k] for k in range(2))
    axes = np.stack([long, short, np.cross(long, short)], axis=-1)
    scales = WIDTH * lengths[:, [0, 1, 1]] * (1, 1, THICKNESS)
    return keyframe.T_map_cam[:3, :3] @ axes, np.maximum(scales, 1e-9)


def _unit(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return vectors of length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
