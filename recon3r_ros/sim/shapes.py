# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Closed-form ray casting of solids: boxes, spheres, capsules and the room around them.

Every solid is centred on its own frame and has six faces, numbered 2 * axis + (1 on the positive
side). A face has coordinates (u, v) in metres from its centre, v along z on upright faces; a
sphere's six faces are those of a cube projected onto it; a capsule has its first face alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, NamedTuple, Protocol, Sequence

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.sim.rays import Rays, Window
import torch
from torch import Tensor

Array = NDArray[np.float64]

# outward, in the order of the faces
FACE_NORMALS: Array = np.asarray(np.kron(np.eye(3), [[-1.0], [1.0]]), dtype=np.float64)
_SLACK = 1e-5  # metres by which faces overlap, so that no ray slips between them


class Hit(NamedTuple):
    """
    Intersections of the rays of a window with one face, or a whole sphere.

    :param window: rows and columns of the rays
    :param hit: (h, w), bool; where it is False the rest is undefined
    :param nearness: 1 / depth (h, w), 1/metres
    :param face: number of the face, or (h, w)
    :param u: (h, w), face coordinate, metres
    :param v: (h, w), face coordinate, metres
    :param slant: (h, w), cosine between ray and surface normal, >= 0
    :param normal: three (h, w) in the solid's frame, or None where it is the face's
    """

    window: Window
    hit: Tensor
    nearness: Tensor
    face: int | Tensor
    u: Tensor
    v: Tensor
    slant: Tensor
    normal: tuple[Tensor, Tensor, Tensor] | None


class Solid(Protocol):
    """Interface of a solid; `half_size` (3,) bounds it, metres."""

    @property
    def half_size(self) -> Array:
        """Half the edges (3,) of the bounding box in the solid's frame, metres."""

    def intersect(self, rays: Rays, T_solid_cam: Array) -> Iterator[Hit]:
        """Cast pixel rays."""

    def occludes(self, origins: Tensor, directions: Tensor) -> Tensor:
        """Whether it intersects segments origin .. origin + direction, (..., 3) in its frame."""

    def distance(self, points: Array) -> Array:
        """Signed distance (...) of points (..., 3) in its frame, metres; negative inside."""


@dataclass(frozen=True, eq=False)
class Box:
    """
    A box.

    :param half_size: half its edges (3,), metres
    """

    half_size: Array

    def intersect(self, rays: Rays, T_solid_cam: Array) -> Iterator[Hit]:
        """
        Cast rays at the faces whose outer side faces the camera.

        :param rays: pixel rays
        :param T_solid_cam: camera pose in the box's frame (4, 4)
        :returns: hits of each face in view
        """
        return self._faces(rays, T_solid_cam, -1.0)

    def _faces(self, rays: Rays, T_solid_cam: Array, side: float) -> Iterator[Hit]:
        # side: 1 for a camera inside, -1 outside
        R, origin = T_solid_cam[:3, :3], T_solid_cam[:3, 3]
        for face, normal in enumerate(FACE_NORMALS):
            axis = face // 2
            height = float(self.half_size[axis] - normal @ origin)
            if height * side <= 0.0:
                continue
            # in a plane the inverse depth is linear in x and y
            row = normal @ R / height
            window = rays.window((self._outline(face) - origin) @ R)
            if window is None:
                continue
            part = rays.crop(window)
            nearness = part.component(row)
            depth = nearness.reciprocal()
            along_u, along_v = (1 if axis == 0 else 0), (1 if axis == 2 else 2)
            u = part.component(R[along_u]).mul_(depth).add_(float(origin[along_u]))
            v = part.component(R[along_v]).mul_(depth).add_(float(origin[along_v]))
            hit = (nearness > 0) & (u.abs() <= float(self.half_size[along_u]) + _SLACK) \
                & (v.abs() <= float(self.half_size[along_v]) + _SLACK)
            yield Hit(window, hit, nearness, face, u, v,
                      (nearness / part.length).mul_(abs(height)), None)

    def _outline(self, face: int) -> Array:
        others = [axis for axis in range(3) if axis != face // 2]
        corners = np.tile(FACE_NORMALS[face], (4, 1))
        corners[:, others] = [[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]
        return corners * self.half_size

    def occludes(self, origins: Tensor, directions: Tensor) -> Tensor:
        """
        Whether segments intersect the box.

        :param origins: (..., 3) in the box's frame, metres
        :param directions: (..., 3), to the segment's other end
        :returns: (...), bool
        """
        half = torch.as_tensor(self.half_size, dtype=origins.dtype, device=origins.device)
        inverse = 1.0 / (directions + 1e-12)
        middle, reach = -origins * inverse, half * inverse.abs()
        entry = (middle - reach).amax(-1)
        leave = (middle + reach).amin(-1)
        return (entry < leave) & (leave > 1e-3) & (entry < 1.0)

    def distance(self, points: Array) -> Array:
        """
        Signed distance.

        :param points: (..., 3) in the box's frame, metres
        :returns: (...), negative inside
        """
        beyond = np.abs(points) - self.half_size
        outside = np.linalg.norm(np.maximum(beyond, 0.0), axis=-1)
        return np.asarray(outside + np.minimum(beyond.max(axis=-1), 0.0))


class Room(Box):
    """A box seen from inside."""

    def intersect(self, rays: Rays, T_solid_cam: Array) -> Iterator[Hit]:
        """
        Cast rays from inside; every ray hits a face.

        :param rays: pixel rays
        :param T_solid_cam: camera pose in the room's frame (4, 4)
        :returns: hits of each face in view
        """
        return self._faces(rays, T_solid_cam, 1.0)


@dataclass(frozen=True, eq=False)
class Sphere:
    """
    A sphere.

    :param radius: metres
    """

    radius: float

    @property
    def half_size(self) -> Array:
        """Half the edges (3,) of the bounding box, metres."""
        return np.full(3, self.radius)

    def intersect(self, rays: Rays, T_solid_cam: Array) -> Iterator[Hit]:
        """
        Cast rays from outside, to the points where they enter.

        :param rays: pixel rays
        :param T_solid_cam: camera pose in the sphere's frame (4, 4)
        :returns: the hits, if there can be any
        """
        origin, R = T_solid_cam[:3, 3], T_solid_cam[:3, :3]
        corners = np.stack(np.meshgrid(*[[-self.radius, self.radius]] * 3), axis=-1)
        window = rays.window((corners.reshape(8, 3) - origin) @ R)
        if window is None:
            return
        part = rays.crop(window)
        # along a ray, the point nearest to the centre is at depth `middle`
        square = part.length * part.length
        middle = part.component(-origin @ R) / square
        directions = [part.component(R[axis]) for axis in range(3)]
        gap = torch.zeros_like(middle)
        for direction, start in zip(directions, origin):
            gap += (direction * middle).add_(float(start)).square_()
        chord = (self.radius**2 - gap).clamp_(min=0.0).div_(square).sqrt_()
        depth = middle - chord
        x, y, z = (d.mul_(depth).add_(float(o)) for d, o in zip(directions, origin))
        ax, ay, az = x.abs(), y.abs(), z.abs()
        on_x, on_y = ax >= torch.maximum(ay, az), ay >= az
        major = torch.where(on_x, x, torch.where(on_y, y, z))
        height = major.abs().clamp_(min=1e-6)
        u = self.radius * torch.atan(torch.where(on_x, y, x) / height)
        v = self.radius * torch.atan(torch.where(on_x | on_y, z, y) / height)
        axis = torch.where(on_x, 0, torch.where(on_y, 2, 4))
        slant = (chord * part.length / self.radius).clamp_(max=1.0)
        yield Hit(window, (gap < self.radius**2) & (depth > 0), depth.reciprocal(),
                  (axis + (major > 0)).to(torch.int32), u, v, slant,
                  (x / self.radius, y / self.radius, z / self.radius))

    def occludes(self, origins: Tensor, directions: Tensor) -> Tensor:
        """
        Whether segments intersect the sphere.

        :param origins: (..., 3) in the sphere's frame, metres
        :param directions: (..., 3), to the segment's other end
        :returns: (...), bool
        """
        square = (directions * directions).sum(-1)
        nearest = (-(origins * directions).sum(-1) / square).clamp(0.0, 1.0)
        gap = origins + nearest[..., None] * directions
        return ((gap * gap).sum(-1) < self.radius**2) & (nearest > 0)

    def distance(self, points: Array) -> Array:
        """
        Signed distance.

        :param points: (..., 3) in the sphere's frame, metres
        :returns: (...), negative inside
        """
        return np.asarray(np.linalg.norm(points, axis=-1) - self.radius)


@dataclass(frozen=True, eq=False)
class Capsule:
    """
    A cylinder with a half sphere at either end, along z of its frame: a limb.

    It has one face. Its coordinate u runs around the axis from x, v along the surface.

    :param radius: metres
    :param half_length: half the distance of the spheres' centres, metres
    """

    radius: float
    half_length: float

    @property
    def half_size(self) -> Array:
        """Half the edges (3,) of the bounding box, metres."""
        return np.array([self.radius, self.radius, self.half_length + self.radius])

    def intersect(self, rays: Rays, T_solid_cam: Array) -> Iterator[Hit]:
        """
        Cast rays from outside, to the points where they enter.

        :param rays: pixel rays
        :param T_solid_cam: camera pose in the capsule's frame (4, 4)
        :returns: the hits, if there can be any
        """
        origin, R = T_solid_cam[:3, 3], T_solid_cam[:3, :3]
        corners = np.stack(np.meshgrid(*[[-1.0, 1.0]] * 3), axis=-1).reshape(8, 3)
        window = rays.window((corners * self.half_size - origin) @ R)
        if window is None:
            return
        part = rays.crop(window)
        directions = [part.component(R[axis]) for axis in range(3)]
        entries, leaves = self._intervals([torch.tensor(float(o)) for o in origin], directions)
        entries = torch.where(entries < leaves, entries, torch.inf)
        depth = entries.amin(0)
        hit = (depth > 0) & torch.isfinite(depth)
        depth = torch.where(hit, depth, 1.0)
        x, y, z = (d.mul(depth).add_(float(o)) for d, o in zip(directions, origin))
        end = z.clamp(-self.half_length, self.half_length)
        normal = (x / self.radius, y / self.radius, (z - end) / self.radius)
        slant = -sum(n * d for n, d in zip(normal, directions)) / part.length
        v = end + self.radius * torch.asin(normal[2].clamp(-1.0, 1.0))
        yield Hit(window, hit, depth.reciprocal(), 0, self.radius * torch.atan2(y, x), v,
                  torch.as_tensor(slant).clamp(0.0, 1.0), normal)

    def _intervals(self, start: Sequence[Tensor], line: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """
        Where lines enter and leave the cylinder and the two spheres; empty where they miss.

        :param start: three (...)
        :param line: three (...), directions
        :returns: entries and leaves (3, ...), in lengths of the directions
        """
        (x, y, z), (dx, dy, dz) = start, line
        across, square = dx * dx + dy * dy, self.radius**2
        # Half the linear term, and the constant one, of the quadratic equations
        flat, gap = x * dx + y * dy, x * x + y * y - square
        inverse = 1.0 / (dz + 1e-12)
        middle, reach = -z * inverse, self.half_length * inverse.abs()
        first, last = _roots(across, flat, gap)
        entries, leaves = [torch.maximum(first, middle - reach)], [torch.minimum(last,
                                                                               middle + reach)]
        for height in (z - self.half_length, z + self.half_length):
            first, last = _roots(across + dz * dz, flat + height * dz, gap + height * height)
            entries.append(first)
            leaves.append(last)
        return torch.stack(entries), torch.stack(leaves)

    def occludes(self, origins: Tensor, directions: Tensor) -> Tensor:
        """
        Whether segments intersect the capsule.

        :param origins: (..., 3) in the capsule's frame, metres
        :param directions: (..., 3), to the segment's other end
        :returns: (...), bool
        """
        entry, leave = self._intervals(*(torch.broadcast_tensors(origins, directions)[n].unbind(-1)
                                         for n in range(2)))
        return ((entry < leave) & (leave > 1e-3) & (entry < 1.0)).any(0)

    def distance(self, points: Array) -> Array:
        """
        Signed distance.

        :param points: (..., 3) in the capsule's frame, metres
        :returns: (...), negative inside
        """
        along = np.clip(points[..., 2], -self.half_length, self.half_length)
        offset = points - along[..., None] * [0.0, 0.0, 1.0]
        return np.asarray(np.linalg.norm(offset, axis=-1) - self.radius)


def _roots(square: Tensor, half: Tensor, constant: Tensor) -> tuple[Tensor, Tensor]:
    """Return both roots of square t^2 + 2 half t + constant; the first above where none is."""
    square = square.clamp(min=1e-12)
    root = half * half - square * constant
    reach = root.clamp(min=0.0).sqrt_() / square
    first = torch.where(root > 0, -half / square - reach, torch.inf)
    return first, -half / square + reach


def face_half_sizes(solid: Solid) -> Array:
    """
    Half the extent of the six faces.

    :param solid: the solid
    :returns: (6, 2), along u and v, metres
    """
    if isinstance(solid, Capsule):
        return np.tile([np.pi * solid.radius, solid.half_length + np.pi / 2 * solid.radius],
                       (6, 1))
    x, y, z = solid.half_size * (np.pi / 4 if isinstance(solid, Sphere) else 1.0)
    return np.repeat([[y, z], [x, z], [x, y]], 2, axis=0)


def face_points(solid: Solid, face: int, u: Tensor, v: Tensor) -> Tensor:
    """
    Points of a flat face.

    :param solid: the solid
    :param face: its number
    :param u: (...), metres
    :param v: (...), metres
    :returns: (..., 3) in the solid's frame
    """
    axis, positive = divmod(face, 2)
    height = float(solid.half_size[axis]) * (1.0 if positive else -1.0)
    parts = [u, v]
    parts.insert(axis, torch.full_like(u, height))
    return torch.stack(parts, dim=-1)
