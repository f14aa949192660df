# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Names and stamps of the images in a folder: from the folder itself, or from a list beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
import logging
from pathlib import Path
import re

from recon3r_ros.errors import InputError
from recon3r_ros.io import heif
from recon3r_ros.io.stamps import NS_PER_S, parse_seconds, stamp_at_rate

logger = logging.getLogger(__name__)

SUFFIXES = ('.jpg', '.jpeg', '.png', '.tif', '.tiff', '.bmp', '.webp', '.pgm', '.ppm', '.pnm',
            '.jp2', *heif.SUFFIXES)
# Pictures that are not decoded
_FOREIGN_SUFFIXES = ('.avif', '.dng', '.cr2', '.cr3', '.nef', '.arw', '.gif')
# Words in the names of images that lie beside camera images and are none
_NO_PICTURE = re.compile(r'(?<![a-z])(depths?|disp|disparity|masks?)(?![a-z])', re.IGNORECASE)
_NAMED = 3


@dataclass(frozen=True)
class Entry:
    """
    One image of a sequence.

    :param path: its file
    :param stamp_ns: integer nanoseconds
    :param index: position in the sequence
    """

    path: Path
    stamp_ns: int
    index: int


def images_of(folder: Path) -> list[Path]:
    """
    Return the images of a folder in natural order: img2 before img10.

    Depth images and masks beside camera images, as in frame-000000.depth.png, are left out, and
    HEIC images that have been converted: beside another one of the same name.

    :param folder: an existing folder; an unreadable one raises InputError
    """
    images = [path for path in _files(folder) if path.suffix.lower() in SUFFIXES]
    converted = {path.stem for path in images if path.suffix.lower() not in heif.SUFFIXES}
    images = [path for path in images
              if path.suffix.lower() not in heif.SUFFIXES or path.stem not in converted]
    pictures = [path for path in images if is_picture(path.stem)]
    return sorted(pictures or images, key=lambda path: natural_key(path.name))


def has_images(folder: Path) -> bool:
    """Whether there is a folder with an image in it; False for one that cannot be read."""
    try:
        return folder.is_dir() and any(p.suffix.lower() in SUFFIXES for p in _files(folder))
    except InputError:
        return False


def is_picture(name: str) -> bool:
    """Whether a file or folder has camera images by its name, not depth or masks."""
    return _NO_PICTURE.search(name) is None


def report_left_out(folder: Path, taken: list[Path]) -> None:
    """
    Say in one line which files of a folder are not read.

    :param folder: the folder
    :param taken: its images that are read
    """
    used = set(taken)
    rest = sorted((path for path in _files(folder) if path not in used),
                  key=lambda path: natural_key(path.name))
    foreign = [path for path in rest if path.suffix.lower() in _FOREIGN_SUFFIXES]
    if foreign:
        logger.warning('%s: %s cannot be read: convert them to JPEG', folder, some_of(foreign))
    elif rest:
        logger.info('%s: %s left out', folder, some_of(rest))


def no_images(folder: Path) -> InputError:
    """Return the error of a folder without images."""
    files = list(_files(folder))
    for suffix in _FOREIGN_SUFFIXES:
        count = sum(path.suffix.lower() == suffix for path in files)
        if count:
            return InputError(f'{folder}: its {count} images end in {suffix}, which cannot be '
                              'read: convert them to JPEG')
    return InputError(f'{folder}: no images; expected files ending in {", ".join(SUFFIXES)}')


def some_of(paths: list[Path]) -> str:
    """Return how many files these are, and the names of the first."""
    names = ', '.join(path.name for path in paths[:_NAMED])
    more = ', ...' if len(paths) > _NAMED else ''
    return f'{len(paths)} file{"s" if len(paths) > 1 else ""} ({names}{more})'


def _files(folder: Path) -> Iterator[Path]:
    """Yield the visible files of a folder."""
    try:
        for path in folder.iterdir():
            if not path.name.startswith('.') and path.is_file():
                yield path
    except OSError as error:
        raise InputError(f'{folder}: {error.strerror}') from None


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Return a sort key that orders numbers in names by value; ties are broken by the name."""
    parts = re.split(r'([0-9]+)', name.casefold())
    # Every second part is one the pattern matched.
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def at_rate(paths: list[Path], fps: float) -> list[Entry]:
    """
    Return images without stamps, which get those of a constant rate.

    :param paths: images, at least one, in their order
    :param fps: images a second
    """
    return _entries(paths, [stamp_at_rate(i, fps) for i in range(len(paths))])


def numbered(images: Path, stamps: Path, parse: Callable[[str], int]) -> list[Entry]:
    """
    Return the images of a folder of which a file has one stamp a line.

    :param images: folder of images named by their numbers, which are 0 for the first line; with
        other names there must be as many as lines
    :param stamps: the file
    :param parse: returns nanoseconds of a line, or raises ValueError
    :raises InputError: naming the file and the line or image
    """
    paths, texts = images_of(images), read_lines(stamps)
    if all(path.stem.isdecimal() and int(path.stem) < len(texts) for path in paths):
        lines = [int(path.stem) for path in paths]
    elif len(paths) == len(texts):
        lines = list(range(len(texts)))
    else:
        raise InputError(f'{stamps}: has {len(texts)} lines for the {len(paths)} images of '
                         f'{images}, which are not numbered below that: expected a stamp for each')
    values: list[int] = []
    for line in lines:
        where = f'{stamps} line {line + 1}'
        values.append(_stamp(texts[line].strip(), parse, where))
        if len(values) > 1 and values[-1] <= values[-2]:
            raise InputError(f'{where}: stamp {texts[line].strip()} is not after the previous '
                             'image')
    return _entries(paths, values)


def listed(listing: Path, images: Path, parse: Callable[[str], int] = parse_seconds,
           separator: str | None = None) -> list[Entry]:
    """
    Return the images of a list: a line is a stamp and a file name.

    :param listing: the file; empty lines and those that start with # are ignored
    :param images: folder of the images, inside the list's; names may also be relative to the
        list's folder
    :param parse: returns nanoseconds of a stamp, or raises ValueError
    :param separator: of the fields; None for white space
    :returns: the images; none where none are listed
    :raises InputError: naming the list and the line
    """
    paths: list[Path] = []
    stamps: list[int] = []
    seen: dict[str, str] = {}
    for number, line in enumerate(read_lines(listing), start=1):
        fields = [field.strip() for field in line.split(separator)]
        if not any(fields) or fields[0].startswith('#'):
            continue
        where = f'{listing} line {number}'
        if len(fields) < 2:
            raise InputError(f'{where}: expected a stamp and an image name, got {line.strip()!r}')
        stamp_ns = _stamp(fields[0], parse, where)
        if stamps and stamp_ns <= stamps[-1]:
            raise InputError(f'{where}: stamp {fields[0]} is not after the previous image')
        path = images / fields[1]
        if not path.is_file() and ('/' in fields[1] or (listing.parent / fields[1]).is_file()):
            path = listing.parent / fields[1]
        if not path.is_relative_to(listing.parent):
            raise InputError(f'{where}: {fields[1]} lies outside of {listing.parent}')
        if path.stem in seen:
            raise InputError(
                f'{where}: {fields[1]} and {seen[path.stem]} would both be named {path.stem} in '
                'the results; rename one'
            )
        seen[path.stem] = fields[1]
        paths.append(path)
        stamps.append(stamp_ns)
    return _entries(paths, stamps)


def is_empty(listing: Path) -> bool:
    """Whether a list has no line but comments."""
    return all(not line.strip() or line.startswith('#') for line in read_lines(listing))


def _entries(paths: list[Path], stamps_ns: list[int]) -> list[Entry]:
    seen: dict[str, Path] = {}
    for path in paths:
        if path.stem in seen:
            raise InputError(
                f'{path.parent}: {seen[path.stem].name} and {path.name} would both be named '
                f'{path.stem} in the results; rename one'
            )
        seen[path.stem] = path
    return [Entry(path, stamp_ns, i)
            for i, (path, stamp_ns) in enumerate(zip(paths, stamps_ns, strict=True))]


def _stamp(text: str, parse: Callable[[str], int], where: str) -> int:
    """Return the integer nanoseconds of a stamp, which must not be negative."""
    try:
        stamp_ns = parse(text)
    except ValueError as error:
        raise InputError(f'{where}: {error}') from None
    if stamp_ns < 0:
        raise InputError(f'{where}: stamp {text} is negative')
    return stamp_ns


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file, without a byte order mark."""
    try:
        return path.read_text(encoding='utf-8-sig').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f'{path}: cannot be read: {error}') from None


def parse_nanoseconds(text: str) -> int:
    """Return integer nanoseconds, or raise ValueError."""
    if not re.fullmatch(r'\s*[0-9]+\s*', text) or int(text) >= 2**63:
        raise ValueError(f'{text!r} is not a stamp in nanoseconds')
    return int(text)


def parse_date(text: str) -> int:
    """
    Return integer nanoseconds since 1970 of a date such as 2011-09-26 13:02:25.951199337.

    :raises ValueError: where it is none
    """
    seconds, _, fraction = text.strip().partition('.')
    try:
        moment = datetime.strptime(seconds, '%Y-%m-%d %H:%M:%S').replace(tzinfo=timezone.utc)
    except ValueError:
        raise ValueError(f'{text.strip()!r} is no date such as 2011-09-26 13:02:25.951') from None
    return int(moment.timestamp()) * NS_PER_S + parse_seconds(f'0.{fraction or 0}')
