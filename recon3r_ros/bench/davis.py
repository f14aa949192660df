# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
`recon3r bench --davis`: dynamic masks of video against those of DAVIS-16.

Measures are those of Perazzi et al., 'A Benchmark Dataset and Evaluation Methodology for Video
Object Segmentation', CVPR 2016: the mean of the Jaccard index over all annotated frames, its
recall (share of frames above 0.5), and its decay (mean of the first quarter less that of the
last). All annotated frames count; where nothing is known of a frame its mask is empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
import tempfile

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.bench.page import write_page
from recon3r_ros.bench.pictures import draw_mask, new_figure
from recon3r_ros.cli.console import progress_bar
from recon3r_ros.cli.reconstruction import reconstruct, RunOptions
from recon3r_ros.errors import InputError
from recon3r_ros.evaluation.image_errors import jaccard
from recon3r_ros.io.decode import decode_image
from recon3r_ros.io.markdown import table
from recon3r_ros.io.masks import UNKNOWN
from recon3r_ros.io.sequences import open_sequence
from recon3r_ros.slam.dynamics.motion_config import MotionConfig

#: Share of frames with a Jaccard index above this is the recall
_RECALLED = 0.5
#: Frames of a sequence that are drawn, by their place in it
_DRAWN = (0.1, 0.37, 0.63, 0.9)
#: What is measured: with and without a map, online and offline
_MODES = (('online', False, False), ('offline', True, False), ('online, no map', False, True),
          ('offline, no map', True, True))
#: Published figures on the 20 sequences of DAVIS-16 val
_ANCHORS = (
    ('Papazoglou and Ferrari, ICCV 2013: classical, no geometry', 0.56),
    ('Easi3R on DUSt3R, with trained weights', 0.531),
    ('Easi3R on MonST3R, with trained weights', 0.577),
    ('Easi3R with SAM 2', 0.707))


@dataclass(frozen=True)
class Score:
    """
    Masks of a sequence against the true ones.

    :param mean: of the Jaccard index over all annotated frames
    :param recall: share of frames in which it is above 0.5
    :param decay: mean of the first quarter of the frames less that of the last
    :param unknown: number of frames of which nothing is known
    """

    mean: float
    recall: float
    decay: float
    unknown: int


def score(masks: Path, truth: Path) -> Score:
    """
    Compare masks with the annotations of a sequence.

    :param masks: folder of NAME.png: dynamic above 127, unknown throughout at 127
    :param truth: folder of the annotations, named alike: dynamic where not 0
    :raises InputError: where there is no annotation
    """
    values, unknown = [], 0
    for path in sorted(truth.glob('*.png')):
        true = _pixels(path) > 0
        own = masks / path.name
        pixels = _pixels(own) if own.is_file() else np.full(true.shape, UNKNOWN, np.uint8)
        unknown += bool((pixels == UNKNOWN).all())
        values.append(jaccard(pixels > UNKNOWN, true))
    if not values:
        raise InputError(f'{truth}: no annotation NAME.png; give packs with masks')
    quarters = np.array_split(np.array(values), 4)
    return Score(float(np.mean(values)), float(np.mean(np.array(values) > _RECALLED)),
                 float(quarters[0].mean() - quarters[3].mean()), unknown)


def measure(packs: Sequence[Path], output: Path) -> int:
    """
    Measure, and write a page and a sheet of pictures.

    :param packs: folders with images/ and masks/
    :param output: file of the page; the sheet is written beside it
    :returns: the exit status
    :raises InputError: for a folder without masks
    """
    for pack in packs:
        if not (pack / 'masks').is_dir():
            raise InputError(f'{pack}: holds no masks/; give packs of DAVIS')
    lines: list[tuple[str | None, ...]] = []
    times: list[tuple[str | None, ...]] = []
    scores: dict[Path, list[Score]] = {}
    with tempfile.TemporaryDirectory() as folder, progress_bar() as bar:
        bar.stage('sequences', len(packs) * len(_MODES))
        for pack in packs:
            scores[pack], reports = [], []
            for name, offline, no_map in _MODES:
                results = Path(folder) / name / pack.name
                report = reconstruct(open_sequence(pack), results, RunOptions(
                    motion=MotionConfig(offline=offline), no_map=no_map, progress=False))
                reports.append(report)
                scores[pack].append(score(results / 'masks', pack / 'masks'))
                bar.advance()
            online, offline_too = (reports[n].timings for n in (0, 1))
            times.append((pack.name, _ms(online.motion_cpu_median_ms),
                          _ms(online.track_cpu_median_ms),
                          _ms(1e3 * offline_too.smooth_s / max(reports[1].frames_read, 1))))
            lines.append((pack.name, *_cells(scores[pack])))
        _draw(packs, Path(folder), scores, output.with_suffix('.png'))
    mean = [_mean([s[n] for s in scores.values()]) for n in range(len(_MODES))]
    lines.append(('mean', *_cells(mean)))
    head = ('sequence', *(f'{name}: {what}' for name, _, _ in _MODES
                          for what in ('J mean', 'recall', 'decay', 'unknown')))
    page = ('# Dynamic masks of video\n\n'
            'Written by `recon3r bench --davis FOLDER...`: sequences of DAVIS-16 val, geometric '
            'model, no intrinsics, all annotated frames. J: Jaccard index; recall: share of the '
            'frames above 0.5; decay: J of the first quarter less that of the last; unknown: '
            'frames of which nothing is known, which count as empty.\n\n'
            + table(head, lines)
            + '\nTime of a frame of 854x480, milliseconds, medians over the frames with a pose; '
            'that of the pass offline is a mean over all frames, on all cores:\n\n'
            + table(('sequence', 'mask online, CPU', 'tracking, CPU', 'pass offline'), times)
            + '\nPublished, on all 20 sequences of DAVIS-16 val:\n\n'
            + table(('method', 'J mean'), [(name, f'{value:.3f}') for name, value in _ANCHORS])
            + f'\n![masks]({output.with_suffix(".png").name})\n\n'
            'Masks offline, with a map, in red, annotations as outlines; the worst sequence is '
            'first.\n')
    write_page(output, page)
    return 0


def _mean(scores: Sequence[Score]) -> Score:
    """Mean over sequences, and the sum of the unknown frames."""
    mean, recall, decay = np.mean([(s.mean, s.recall, s.decay) for s in scores], axis=0)
    return Score(float(mean), float(recall), float(decay), sum(s.unknown for s in scores))


def _cells(scores: Sequence[Score]) -> list[str]:
    return [cell for s in scores for cell in (
        f'{s.mean:.3f}', f'{s.recall:.2f}', f'{s.decay:.2f}', f'{s.unknown}')]


def _ms(milliseconds: float | None) -> str | None:
    return None if milliseconds is None else f'{milliseconds:.1f}'


def _draw(packs: Sequence[Path], folder: Path, scores: dict[Path, list[Score]], path: Path
          ) -> None:
    """Draw some frames of each sequence with their masks offline, the worst first."""
    ordered = sorted(packs, key=lambda p: scores[p][1].mean)
    with new_figure(path, (3.2 * len(_DRAWN), 1.95 * len(packs))) as figure:
        grid = figure.add_gridspec(len(packs), len(_DRAWN), wspace=0.02, hspace=0.12)
        for row, pack in enumerate(ordered):
            names = sorted(p.stem for p in (pack / 'masks').glob('*.png'))
            for column, place in enumerate(_DRAWN):
                name = names[min(int(place * len(names)), len(names) - 1)]
                axis = figure.add_subplot(grid[row, column])
                image = next((pack / 'images').glob(f'{name}.*'))
                own, true = (_pixels(masks / f'{name}.png') > UNKNOWN for masks in (
                    folder / _MODES[1][0] / pack.name / 'masks', pack / 'masks'))
                draw_mask(axis, _pixels(image), own, true)
                axis.set_xticks([])
                axis.set_yticks([])
                if column == 0:
                    axis.set_title(f'{pack.name}: J {scores[pack][1].mean:.2f}', fontsize=8,
                                   loc='left', weight='bold')


def _pixels(path: Path) -> NDArray[np.uint8]:
    """Read an image (H, W) or (H, W, 3)."""
    return decode_image(path.read_bytes()).astype(np.uint8)
