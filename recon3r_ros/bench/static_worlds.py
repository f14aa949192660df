# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
`recon3r bench --static`: dynamic masks where the world is static.

Whatever is masked there is wrong. With an object of another video pasted into the same images,
which moves like nothing else in them, its own mask is the truth. Further cases are a camera that
does not move, and an image that is shifted and magnified as by a zoom lens. Where nothing is
known of a frame its mask is empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
import tempfile

import numpy as np
from recon3r_ros.bench.composites import (
    at_rest,
    Image,
    Mask,
    Mover,
    with_mover,
    write_images,
    zoomed,
)
from recon3r_ros.bench.pictures import draw_mask, new_figure
from recon3r_ros.cli.console import output as console
from recon3r_ros.cli.console import progress_bar
from recon3r_ros.cli.reconstruction import reconstruct, RunOptions
from recon3r_ros.errors import InputError
from recon3r_ros.evaluation.image_errors import jaccard
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.atomic import output_error, write_bytes
from recon3r_ros.io.calibrations import read_calibration
from recon3r_ros.io.decode import decode_image
from recon3r_ros.io.markdown import table
from recon3r_ros.io.masks import UNKNOWN
from recon3r_ros.io.sequences import open_sequence
from recon3r_ros.slam.dynamics.motion_config import MotionConfig
from recon3r_ros.slam.types import Frame

#: What is measured; `focal` is `static` with another focal length
KINDS = ('static', 'focal', 'mover', 'rest', 'zoom')
#: Kinds with a pasted object; and those made of one image, at a rate and without intrinsics
_WITH_MOVER, _AT_RATE = ('mover', 'rest'), ('rest', 'zoom')
#: Wrong focal lengths over the true one
_FACTORS = (0.6, 1.6)
#: Images of a pack that are used, at most
_IMAGES = 120
#: Numbers of images of a camera at rest and of a zoom, and their rate, Hz
_AT_REST, _ZOOMED, _RATE = 80, 60, 24.0
#: Frames of a case that are drawn, by their place in it, and their longer side, pixels
_DRAWN, _SIDE = (0.1, 0.37, 0.63, 0.9), 480
_INTRODUCTION = f"""\
# Dynamic masks of static worlds

Written by `recon3r bench --static PACK... --mover DAVIS_PACK`: the first {_IMAGES} images of each
pack, geometric model. *mean* and *most*: share of the pixels that are masked, over all frames and
in the worst one, where nothing moves. *J*: mean Jaccard index of the masks and the pasted object
over all frames; *outside*: share of the pixels that are masked and not of the object. *unknown*:
frames of which nothing is known, which count as empty. *focal length*: over the true one; no
number where the pack has no intrinsics.
"""
#: Kinds of cases of each table, its introduction, and its columns, online and offline
_TABLES = (
    (('static', 'focal'), '## A static world',
     ('mean, % (target <= 0.5, other focal length <= 1)', 'most, % (target <= 2)', 'unknown')),
    (('mover',), '## A static world with a pasted object',
     ('J (target >= 0.6)', 'outside, %', 'unknown')),
    (('rest',), '## A camera at rest with a pasted object\n\n'
     f'{_AT_REST} images at {_RATE:g} Hz, the first of the pack with noise; no intrinsics.',
     ('J (target >= 0.7)', 'outside, %', 'unknown')),
    (('zoom',), '## One image, shifted and magnified\n\n'
     f'{_ZOOMED} images at {_RATE:g} Hz, of the first of the pack; no intrinsics.',
     ('mean, % (target <= 1)', 'most, % (target <= 2)', 'unknown')))


@dataclass(frozen=True)
class Case:
    """
    A case of one pack.

    :param kind: one of KINDS
    :param pack: folder of a static world
    :param focal: focal length over that of the pack; None without intrinsics
    """

    kind: str
    pack: Path
    focal: float | None

    @property
    def images(self) -> str:
        """Name of the images, which cases with other focal lengths share."""
        return 'static' if self.kind == 'focal' else self.kind

    @property
    def camera(self) -> Camera | None:
        """Intrinsics with this case's focal length."""
        if self.focal is None:
            return None
        camera = read_calibration(self.pack / 'camera.json').camera()
        return replace(camera, fx=self.focal * camera.fx, fy=self.focal * camera.fy)


@dataclass(frozen=True)
class Score:
    """
    Masks of a case against the true ones.

    :param mean: share of the pixels that are masked, mean over the frames
    :param most: this share in the frame where it is largest
    :param outside: share of the pixels that are masked and not of an object, mean
    :param jaccard: mean of the Jaccard index over all frames; of use with an object only
    :param unknown: number of frames of which nothing is known
    """

    mean: float
    most: float
    outside: float
    jaccard: float
    unknown: int


@dataclass(frozen=True, eq=False)
class Outcome:
    """
    Scores of a case.

    :param online: masks as each image arrives
    :param offline: masks from earlier and later images
    :param pictures: some images (h, w) or (h, w, 3) of a case with an object, with their masks
        online and the true ones (h, w)
    """

    case: Case
    online: Score
    offline: Score
    pictures: tuple[tuple[Image, Mask, Mask], ...]


def measure(packs: Sequence[Path], mover: Path | None, output: Path,
            only: Sequence[str] | None = None) -> int:
    """
    Measure, and write a page and, with a mover, a sheet of pictures, again after each pack.

    :param packs: folders of static worlds: images/ and, usually, camera.json
    :param mover: pack with images/ and masks/ of an object to paste; None leaves those cases out
    :param output: file of the page; the sheet is written beside it
    :param only: kinds of cases, of KINDS; None for all
    :returns: the exit status
    :raises InputError: for a pack without images, a mover without masks, or an unknown kind
    :raises OutputError: where the page cannot be written
    """
    kinds = _chosen(only, mover is not None)
    video = None if mover is None else Mover.of_pack(mover)
    for pack in packs:
        open_sequence(pack)  # rather now than after hours, as what follows
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(output.parent, error) from error
    outcomes: list[Outcome] = []
    text = ''
    todo = [cases(pack, kinds) for pack in packs]
    with progress_bar() as bar:
        bar.stage('cases', sum(map(len, todo)))
        for of_pack in todo:
            with tempfile.TemporaryDirectory(prefix='recon3r-bench-') as folder:
                for case in of_pack:
                    outcomes.append(run(case, video, Path(folder)))
                    bar.advance()
            text = _publish(outcomes, output)
    console().print(text, soft_wrap=True)
    return 0


def _publish(outcomes: Sequence[Outcome], output: Path) -> str:
    """Write the page, which is returned, and the sheet of what has been measured until now."""
    sheet = output.with_suffix('.png')
    drawn = [outcome for outcome in outcomes if outcome.case.kind in _WITH_MOVER]
    if drawn:
        _draw(drawn, sheet)
    text = page(outcomes, sheet.name if drawn else None)
    write_bytes(output, text.encode())
    return text


def _chosen(only: Sequence[str] | None, mover: bool) -> tuple[str, ...]:
    """Return the kinds of cases to run."""
    for kind in only or ():
        if kind not in KINDS:
            raise InputError(f'case {kind!r}: expected one of {", ".join(KINDS)}')
        if kind in _WITH_MOVER and not mover:
            raise InputError(f'case {kind!r} needs an object: give a pack of DAVIS with --mover')
    return tuple(kind for kind in KINDS
                 if (only is None or kind in only) and (mover or kind not in _WITH_MOVER))


def cases(pack: Path, kinds: Sequence[str]) -> list[Case]:
    """
    Return the cases of a pack; without intrinsics there are no wrong focal lengths.

    :param pack: folder of a static world
    :param kinds: of KINDS
    """
    true: tuple[float | None, ...] = (None,)
    wrong: tuple[float, ...] = ()
    if (pack / 'camera.json').is_file():
        true, wrong = (1.0,), _FACTORS
    focals = {'static': true, 'focal': wrong, 'mover': true + wrong, 'rest': (None,),
              'zoom': (None,)}
    return [Case(kind, pack, focal) for kind in kinds for focal in focals[kind]]


def run(case: Case, mover: Mover | None, folder: Path) -> Outcome:
    """
    Run a case online and offline.

    :param mover: pasted, where the case has one
    :param folder: for the images, which other cases of the same pack may have written
    """
    pack = folder / case.images
    if not pack.is_dir():
        _write(case, mover, pack)
    scores: list[Score] = []
    pictures: list[tuple[Image, Mask, Mask]] = []
    for offline in (False, True):
        with tempfile.TemporaryDirectory(dir=folder) as results:
            reconstruct(open_sequence(pack, camera=case.camera, fps=_RATE), results,
                        RunOptions(motion=MotionConfig(offline=offline), progress=False))
            masks = Path(results) / 'masks'
            scores.append(score(masks, pack))
            if case.kind in _WITH_MOVER and not offline:
                pictures += _pictures(masks, pack)
    return Outcome(case, scores[0], scores[1], tuple(pictures))


def _write(case: Case, mover: Mover | None, folder: Path) -> None:
    """Write the images of a case, with the true masks of a pasted object."""
    stamps = None
    if case.kind not in _AT_RATE:
        stamps = [frame.stamp_ns for frame in _frames(case.pack)]
    write_images(folder, _images(case, mover), stamps)


def _images(case: Case, mover: Mover | None) -> Iterator[tuple[Image, Mask | None]]:
    """Make the images of a case, each with the mask of the pasted object, if there is one."""
    images = (frame.image for frame in _frames(case.pack))
    if case.kind in _WITH_MOVER:
        assert mover is not None
        if case.kind == 'mover':
            return with_mover(images, mover)
        return at_rest(next(images), _AT_REST, mover, case.pack.name)
    if case.kind == 'zoom':
        return ((image, None) for image in zoomed(next(images), _ZOOMED))
    return ((image, None) for image in images)


def _frames(pack: Path) -> Iterator[Frame]:
    """Decode the images of a pack that are used."""
    return islice(open_sequence(pack), _IMAGES)


def score(masks: Path, pack: Path) -> Score:
    """
    Compare masks with the true ones.

    :param masks: folder of NAME.png: dynamic above 127, unknown throughout at 127
    :param pack: folder with images/NAME.png, and masks/ of an object, if there is one
    """
    shares, outside, indices, unknown = [], [], [], 0
    for path in sorted((pack / 'images').glob('*.png')):
        own, known = _own(masks / path.name, path)
        true = _true(path, own.shape)
        unknown += not known
        shares.append(own.mean())
        outside.append((own & ~true).mean())
        indices.append(jaccard(own, true))
    return Score(float(np.mean(shares)), float(np.max(shares)), float(np.mean(outside)),
                 float(np.mean(indices)), unknown)


def _own(mask: Path, image: Path) -> tuple[Mask, bool]:
    """Read the mask (H, W) of an image, and whether anything is known."""
    pixels = _pixels(mask) if mask.is_file() else np.full(_pixels(image).shape[:2], UNKNOWN)
    return pixels > UNKNOWN, bool((pixels != UNKNOWN).any())


def _true(image: Path, shape: tuple[int, ...]) -> Mask:
    """Read the true mask (H, W) of an image; empty without an object."""
    path = image.parent.with_name('masks') / image.name
    return _pixels(path) > UNKNOWN if path.is_file() else np.zeros(shape, bool)


def _pixels(path: Path) -> Image:
    """Read an image (H, W) or (H, W, 3)."""
    return decode_image(path.read_bytes()).astype(np.uint8)


def page(outcomes: Sequence[Outcome], sheet: str | None) -> str:
    """
    Write the page of results; a table without a case is left out.

    :param outcomes: of the cases, those of a pack together
    :param sheet: name of the file with pictures; None without
    """
    parts = [_INTRODUCTION]
    for kinds, title, names in _TABLES:
        chosen = [outcome for outcome in outcomes if outcome.case.kind in kinds]
        if chosen:
            head = ['pack'] if kinds[0] in _AT_RATE else ['pack', 'focal length']
            head += [f'{mode}: {name}' for mode in ('online', 'offline') for name in names]
            parts.append(f'{title}\n\n' + table(head, map(_row, chosen)))
    if sheet is not None:
        parts.append(f'![masks]({sheet})\n\nMasks online, in red, the pasted object as an '
                     'outline; the worst case is first.\n')
    return '\n'.join(parts)


def _row(outcome: Outcome) -> list[str | None]:
    """Format a row."""
    case = outcome.case
    cells: list[str | None] = [case.pack.name]
    if case.kind not in _AT_RATE:
        cells.append(None if case.focal is None else f'{case.focal:g}')
    for s in (outcome.online, outcome.offline):
        if case.kind in _WITH_MOVER:
            cells += [f'{s.jaccard:.3f}', f'{100 * s.outside:.2f}', f'{s.unknown}']
        else:
            cells += [f'{100 * s.mean:.2f}', f'{100 * s.most:.2f}', f'{s.unknown}']
    return cells


def _pictures(masks: Path, pack: Path) -> Iterator[tuple[Image, Mask, Mask]]:
    """Read some images of a case, smaller, with their masks and the true ones."""
    paths = sorted((pack / 'images').glob('*.png'))
    for place in _DRAWN:
        path = paths[int(place * len(paths))]
        own, _ = _own(masks / path.name, path)
        step = max(1, max(own.shape) // _SIDE)
        yield (_pixels(path)[::step, ::step], own[::step, ::step],
               _true(path, own.shape)[::step, ::step])


def _draw(outcomes: Sequence[Outcome], path: Path) -> None:
    """Draw some frames of each case with their masks online, the worst first."""
    ordered = sorted(outcomes, key=lambda o: o.online.jaccard)
    with new_figure(path, (3.2 * len(_DRAWN), 2.4 * len(ordered))) as figure:
        grid = figure.add_gridspec(len(ordered), len(_DRAWN), wspace=0.02, hspace=0.12)
        for row, outcome in enumerate(ordered):
            for column, (image, own, true) in enumerate(outcome.pictures):
                axis = figure.add_subplot(grid[row, column])
                draw_mask(axis, image, own, true)
                axis.set_xticks([])
                axis.set_yticks([])
                if column == 0:
                    axis.set_title(_title(outcome), fontsize=8, loc='left', weight='bold')


def _title(outcome: Outcome) -> str:
    """Name a case and its Jaccard indices."""
    case = outcome.case
    what = 'at rest' if case.kind == 'rest' else (
        'no intrinsics' if case.focal is None else f'focal length x {case.focal:g}')
    return (f'{case.pack.name}, {what}: J {outcome.online.jaccard:.2f}, '
            f'offline {outcome.offline.jaccard:.2f}')
