# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Figures of a demo, from the files of the run and its input pack."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
import json
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from recon3r_ros.evaluation.trajectory_errors import aligning_similarity
from recon3r_ros.geometry import sim3
from recon3r_ros.io.clouds import read_ply
from recon3r_ros.io.decode import decode_image
from recon3r_ros.io.trajectory import read_tum

Array = NDArray[np.float64]

#: Colour of dynamic objects
MOVING = np.array([255, 59, 48])
_DPI = 120
_PALETTE = 256
_ROWS = 3
_INK_AREA = 1.6e5  # of all points of a view, typographic points squared
_INK, _UNKNOWN = '#20262c', '#c9ced3'
_OUTLINE = '#ffe14d'
_ESTIMATE, _TRUTH = '#e6007e', '#101418'
_STYLE: Any = {
    'font.size': 10, 'text.color': _INK, 'axes.labelcolor': _INK, 'axes.edgecolor': _INK,
    'xtick.color': _INK, 'ytick.color': _INK, 'axes.titlesize': 12,
}


@dataclass(frozen=True, eq=False)
class _Aligned:
    """
    Estimated and true positions at matched stamps.

    :param S_world_map: (4, 4) similarity from the map to the world frame
    :param estimate: positions (N, 3), metres in the world frame
    :param truth: positions (N, 3), metres
    """

    S_world_map: Array
    estimate: Array
    truth: Array


def draw_frames(output: Path, pack: Path, path: Path) -> None:
    """
    Draw three keyframes, a row each: image, depth, confidence, dynamic mask.

    :param output: folder of the results
    :param pack: the input pack, with ground truth
    :param path: PNG file to write
    """
    keyframes = json.loads((output / 'keyframes.json').read_text(encoding='utf-8'))
    count = min(_ROWS, len(keyframes))
    if not count:
        return
    chosen = ((np.arange(count) + 0.5) * len(keyframes) / count).astype(int)
    metres = float(sim3.decompose(_align(output, pack).S_world_map)[0])
    names = [keyframes[i]['name'] for i in chosen]
    depths, confidences = zip(*(_depth(output / 'depth' / f'{n}.npz', metres) for n in names))
    with new_figure(path, (14.0, 2.72 * count + 0.95)) as figure:
        axes = figure.subplots(count + 1, 4, squeeze=False, height_ratios=[1.0] * count + [0.05])
        norms = _norms(depths, confidences)
        for row, i, depth, confidence in zip(axes, chosen, depths, confidences):
            name = keyframes[i]['name']
            image = _image(pack / 'images' / f'{name}.png')
            row[0].imshow(image)
            shown = row[1].imshow(depth, cmap=with_unknown('turbo_r'), norm=norms[0])
            certain = row[2].imshow(confidence, cmap=with_unknown('viridis'), norm=norms[1])
            draw_mask(row[3], image, _mask(output / 'masks' / f'{name}.png'),
                      _mask(pack / 'masks' / f'{name}.png'))
            seconds = keyframes[i]['stamp'] - keyframes[0]['stamp']
            row[0].set_ylabel(f'keyframe {i}, {seconds:.2f} s')
            for axis in row:
                axis.set_xticks([])
                axis.set_yticks([])
        for axis, title in zip(axes[0], ('input image', 'depth', 'confidence', 'dynamic mask')):
            axis.set_title(title, weight='bold')
        for axis in (axes[-1, 0], axes[-1, 3]):
            axis.set_axis_off()
        figure.colorbar(shown, cax=axes[-1, 1], orientation='horizontal',
                        label='metres, grey: unknown')
        bar = figure.colorbar(certain, cax=axes[-1, 2], orientation='horizontal',
                              label='1 / variance of the relative depth')
        bar.ax.xaxis.set_minor_formatter(NullFormatter())
        handles: Any = [Patch(color=tuple(MOVING / 255), label='dynamic mask'),
                        Line2D([], [], color=_OUTLINE, lw=2.5, label='outline of the truth')]
        axes[-1, 3].legend(handles=handles, loc='upper center', ncols=2, facecolor='#8a9299',
                           labelcolor='white', borderaxespad=0.0)


def _norms(depths: tuple[Array, ...], confidences: tuple[Array, ...]) -> tuple[Normalize, LogNorm]:
    """Return the colour scales of depths (metres) and confidences."""
    known = np.concatenate([d[np.isfinite(d)] for d in depths])
    sure = np.concatenate([c[np.isfinite(c)] for c in confidences])
    if not len(known):
        return Normalize(0.0, 1.0), LogNorm(1.0, 10.0)
    low, high = np.percentile(sure, [2.0, 99.0])
    return Normalize(0.0, float(np.percentile(known, 99.0))), LogNorm(low, max(high, 10.0 * low))


def draw_map(output: Path, pack: Path, path: Path) -> None:
    """
    Draw the map and the trajectory from above and from the side.

    The ceiling is hidden from above, and the nearer half of the room from the side.

    :param output: folder of the results
    :param pack: the input pack, with ground truth
    :param path: PNG file to write
    """
    aligned = _align(output, pack)
    cloud = read_ply(output / 'map.ply')
    points = sim3.transform(aligned.S_world_map, cloud.points)
    box = _box(points, np.concatenate([aligned.truth, aligned.estimate]))
    eye = aligned.truth.mean(axis=0)
    # in the viewing direction of the cameras, with most of the map visible
    ahead = np.median(points[:, :2] - eye[:2], axis=0) if len(points) else np.ones(2)
    side = int(np.argmax(np.abs(ahead)))
    along, towards = 1 - side, float(np.sign(ahead[side]))
    depth = points[:, side] - eye[side]
    spans = box[1] - box[0]
    height = 15.0 * max(spans[1], spans[2]) / (spans[0] + spans[along]) + 1.3
    with new_figure(path, (15.0, height)) as figure:
        left, right = figure.subplots(1, 2, width_ratios=[spans[0], spans[along]])
        ceiling = eye[2] + 0.45
        below = points[:, 2] < ceiling
        _draw_view(left, points[below], cloud.colors[below], aligned, (0, 1), points[below, 2])
        left.set_title(f'from above, up to {ceiling:.1f} m', weight='bold')
        beyond = towards * depth > -0.25
        _draw_view(right, points[beyond], cloud.colors[beyond], aligned, (along, 2),
                   -towards * depth[beyond])
        right.set_title('from the side', weight='bold')
        for axis, (a, b) in ((left, (0, 1)), (right, (along, 2))):
            axis.set_xlim(box[0, a], box[1, a])
            axis.set_ylim(box[0, b], box[1, b])
            axis.set_xlabel(f'{"xyz"[a]} (metres)')
            axis.set_ylabel(f'{"xyz"[b]} (metres)')
        if (towards > 0) == (side == 0):
            right.invert_xaxis()  # keep left and right of the view
        error = float(np.sqrt(((aligned.estimate - aligned.truth) ** 2).sum(axis=1).mean()))
        handles: Any = [Line2D([], [], color=_ESTIMATE, lw=2.6, label='estimated trajectory'),
                        Line2D([], [], color=_TRUTH, lw=1.4, ls=(0, (3, 2)), label='truth')]
        figure.legend(handles=handles, loc='outside lower center', ncols=2, frameon=False)
        figure.suptitle(f'{len(cloud):,} points; trajectory within {1e3 * error:.1f} mm of the '
                        'truth (root mean square, after Sim3 alignment)')


def _draw_view(axis: Axes, points: Array, colors: NDArray[np.uint8], aligned: _Aligned,
               plane: tuple[int, int], nearness: Array) -> None:
    """Draw points from far to near, then the trajectories, on two axes of the world frame."""
    order = np.argsort(nearness)
    u, v = plane
    size = float(np.clip(_INK_AREA / max(len(points), 1), 1.5, 8.0))
    axis.scatter(points[order, u], points[order, v], c=colors[order] / 255.0, s=size, lw=0)
    for positions, style in ((aligned.estimate, {'color': _ESTIMATE, 'lw': 2.6}),
                             (aligned.truth, {'color': _TRUTH, 'lw': 1.4, 'ls': (0, (3, 2))})):
        axis.plot(positions[:, u], positions[:, v], **style)  # type: ignore[arg-type]
    start = float(aligned.estimate[0, u]), float(aligned.estimate[0, v])
    axis.plot(*start, 'o', ms=7, mfc='white', mec=_ESTIMATE, mew=2)
    axis.annotate('start', start, (7, 7), textcoords='offset points', weight='bold',
                  bbox={'fc': 'white', 'ec': 'none', 'alpha': 0.7, 'pad': 1})
    axis.set_aspect('equal')
    axis.grid(alpha=0.25)
    axis.set_axisbelow(True)


def draw_mask(axis: Axes, image: NDArray[Any], mask: NDArray[np.bool_],
              truth: NDArray[np.bool_]) -> None:
    """Draw the image in grey, the dynamic mask in red, and the outline of the true one."""
    gray = image.mean(axis=2) if image.ndim == 3 else image.astype(np.float64)
    shown = np.repeat((60 + 0.7 * gray)[..., None], 3, axis=2)
    shown[mask] = 0.45 * shown[mask] + 0.55 * MOVING
    axis.imshow(shown.clip(0, 255).astype(np.uint8))
    if truth.any() and not truth.all():
        axis.contour(truth.astype(float), [0.5], colors=[_OUTLINE], linewidths=1.6)


@contextmanager
def new_figure(path: Path, size: tuple[float, float]) -> Iterator[Figure]:
    """Yield an empty figure, without a window, and save it at the end."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))
        yield figure
        drawn = BytesIO()
        figure.savefig(drawn, dpi=_DPI, facecolor='white')
        # A quarter of the size, without a visible difference
        picture = Image.open(drawn).convert('RGB').quantize(_PALETTE, dither=Image.Dither.NONE)
        picture.save(path, format='PNG', optimize=True)


def _align(output: Path, pack: Path) -> _Aligned:
    stamps, estimate = read_tum(output / 'trajectory.txt')
    true_stamps, truth = read_tum(pack / 'groundtruth.txt')
    _, i, j = np.intersect1d(stamps, true_stamps, return_indices=True)
    S = aligning_similarity(estimate[i], truth[j])
    return _Aligned(S, sim3.transform(S, estimate[i, :3, 3]), truth[j, :3, 3])


def _depth(path: Path, metres: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return depth in metres and confidence (H, W), NaN where unknown."""
    with np.load(path) as content:
        depth = content['depth'].astype(np.float64) * metres
        confidence = np.where(np.isfinite(depth), content['confidence'], np.nan)
    return depth, confidence


def _box(points: Array, positions: Array) -> Array:
    """Return the bounding box (2, 3) of the positions and of all but the outermost points."""
    corners = np.percentile(points, [0.5, 99.5], axis=0) if len(points) else positions
    corners = np.concatenate([corners, positions])
    return np.array([corners.min(axis=0) - 0.15, corners.max(axis=0) + 0.15])


def with_unknown(name: str) -> Colormap:
    """Return a colour map in which unknown values are grey."""
    return matplotlib.colormaps[name].with_extremes(bad=_UNKNOWN)


def _image(path: Path) -> NDArray[Any]:
    return decode_image(path.read_bytes())


def _mask(path: Path) -> NDArray[np.bool_]:
    return np.asarray(_image(path) > 0)
