# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Images of static worlds with an object of another video pasted into them, and of no world."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
import zlib

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.io.decode import decode_image
from recon3r_ros.io.packs import write_png

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

#: Height of the mover's images over that of the images it is pasted into
_HEIGHT = 0.8
#: The object's horizontal centre in the first image, its advance by image, and where it turns
#: around, in shares of the width
_START, _ADVANCE, _TURNS = 0.3, 0.004, (0.2, 0.8)
#: Standard deviation of the noise of a camera at rest, grey levels
_NOISE = 2.0
#: Magnification of the first image, and its increase by image
_ZOOM, _ZOOM_ADVANCE = 1.2, 0.004
#: Movement of the content by image, in shares of width and height
_SHIFT = (-0.002, -0.001)


@dataclass(frozen=True)
class Mover:
    """
    A video of an object with its masks.

    :param files: of each frame the image and the mask
    """

    files: tuple[tuple[Path, Path], ...]

    @classmethod
    def of_pack(cls, pack: Path) -> Mover:
        """
        Find the files of a pack.

        :param pack: folder with images/ and masks/NAME.png, dynamic where not 0
        :raises InputError: where there are no masks, or one without an image
        """
        masks = sorted((pack / 'masks').glob('*.png'))
        if not masks:
            raise InputError(f'{pack}: holds no masks/NAME.png; give a pack of DAVIS as the mover')
        images = {path.stem: path for path in sorted((pack / 'images').glob('*.*'))}
        for mask in masks:
            if mask.stem not in images:
                raise InputError(f'{pack}: masks/{mask.name} has no image of this name in images/;'
                                 ' give a complete pack of DAVIS as the mover')
        return cls(tuple((images[mask.stem], mask) for mask in masks))

    def frame(self, n: int) -> tuple[Image, Mask]:
        """
        Read a frame; after the last they go backwards, then forwards again.

        :param n: number of the frame, at least 0
        :returns: image (H, W) or (H, W, 3), and mask (H, W) of the object
        :raises InputError: where the mask has another size than the image
        """
        image_path, mask_path = self.files[there_and_back(n, len(self.files))]
        image = decode_image(image_path.read_bytes()).astype(np.uint8)
        mask = np.asarray(decode_image(mask_path.read_bytes()) != 0)
        if mask.shape != image.shape[:2]:
            raise InputError(f'{mask_path}: has shape {mask.shape}, expected {image.shape[:2]} as '
                             f'{image_path.name}')
        return image, mask


def there_and_back(n: int, count: int) -> int:
    """Return the n-th number of 0, 1, ..., count - 1, count - 2, ..., 0, 1, ... ."""
    period = max(2 * (count - 1), 1)
    return min(n % period, -n % period)


def drift(n: int) -> float:
    """Return the place of the pasted object's centre in image n, as a share of the width."""
    low, high = _TURNS
    way = (_START - low + _ADVANCE * n) % (2 * (high - low))
    return low + min(way, 2 * (high - low) - way)


def with_mover(images: Iterable[Image], mover: Mover) -> Iterator[tuple[Image, Mask]]:
    """
    Paste an object that drifts across the images.

    :param images: (H, W) or (H, W, 3) each
    :yields: the image with the object, and the object's mask (H, W)
    """
    for n, image in enumerate(images):
        source, mask = mover.frame(n)
        height, width = image.shape[:2]
        scale = _HEIGHT * height / mask.shape[0]
        columns = np.nonzero(mask)[1]
        centre = columns.mean() if len(columns) else (mask.shape[1] - 1) / 2
        corner = (drift(n) * width - scale * (centre + 0.5), (1 - _HEIGHT) / 2 * height)
        yield paste(image, source, mask, (scale, scale), corner)


def at_rest(image: Image, count: int, mover: Mover, name: str) -> Iterator[tuple[Image, Mask]]:
    """
    Repeat an image with noise, and paste an object where it is in the mover's own images.

    :param image: (H, W) or (H, W, 3)
    :param count: number of images
    :param name: of the case; determines the noise, which the pasted pixels do not get
    :yields: the image with the object, and the object's mask (H, W)
    """
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    for n in range(count):
        noise = generator.normal(0, _NOISE, image.shape)
        noisy = np.rint(image + noise).clip(0, 255).astype(np.uint8)
        source, mask = mover.frame(n)
        scale = (image.shape[1] / mask.shape[1], image.shape[0] / mask.shape[0])
        yield paste(noisy, source, mask, scale, (0.0, 0.0))


def paste(image: Image, source: Image, mask: Mask, scale: tuple[float, float],
          corner: tuple[float, float]) -> tuple[Image, Mask]:
    """
    Copy the pixels of an object into an image; what lies outside of it is cut off.

    A pixel interpolated between the object and its own background is not copied.

    :param image: (H, W) or (H, W, 3)
    :param source: image of the object (h, w) or (h, w, 3)
    :param mask: the object in it (h, w)
    :param scale: size of a pixel of the source, horizontally and vertically, pixels
    :param corner: place of the source's upper left corner, column and row, pixels
    :returns: image with the object, and the object's mask (H, W)
    """
    if source.ndim != image.ndim:
        code = cv2.COLOR_RGB2GRAY if image.ndim == 2 else cv2.COLOR_GRAY2RGB
        source = cv2.cvtColor(source, code)
    size = image.shape[1::-1]
    # Pixel centres are at whole numbers, corners half a pixel before them
    centre = np.array(corner) + 0.5 * np.array(scale) - 0.5
    placement = np.array([[scale[0], 0, centre[0]], [0, scale[1], centre[1]]])
    placed = cv2.warpAffine(source, placement, size, borderMode=cv2.BORDER_REPLICATE)
    truth = np.asarray(cv2.warpAffine(mask.astype(np.uint8) * 255, placement, size) == 255)
    out = image.copy()
    out[truth] = placed[truth]
    return out, truth


def zoomed(image: Image, count: int) -> Iterator[Image]:
    """
    Shift and magnify an image more and more, from within its borders.

    :param image: (H, W) or (H, W, 3)
    :param count: number of images
    :yields: images of the same shape
    """
    height, width = image.shape[:2]
    for n in range(count):
        view = zoom_placement(width, height, n)
        corners = (np.array([(0, 0), (width - 1, height - 1)]) - view[:, 2]) / view[0, 0]
        assert (corners >= 0).all() and (corners <= (width - 1, height - 1)).all(), 'a border'
        yield cv2.warpAffine(image, view, (width, height), flags=cv2.INTER_CUBIC,
                             borderMode=cv2.BORDER_REPLICATE).astype(np.uint8)


def zoom_placement(width: int, height: int, n: int) -> NDArray[np.float64]:
    """Return the map (2, 3) from pixels of an image to those of its n-th magnification."""
    zoom = _ZOOM + _ZOOM_ADVANCE * n
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    shift = n * np.array(_SHIFT) * (width, height)
    return np.column_stack([zoom * np.eye(2), middle - zoom * middle + shift])


def write_images(folder: Path, images: Iterable[tuple[Image, Mask | None]],
                 stamps_ns: list[int] | None = None) -> None:
    """
    Write images as a pack.

    :param folder: for images/, with truth masks/, and with stamps frames.txt
    :param images: (H, W) or (H, W, 3) each, with the mask (H, W) of the pasted object, if any
    :param stamps_ns: of the images, nanoseconds; None leaves them to a rate
    """
    for name in ('images', 'masks'):
        (folder / name).mkdir(parents=True)
    names = []
    for n, (image, truth) in enumerate(images):
        names.append(f'{n:06}.png')
        write_png(folder / 'images' / names[-1], image)
        if truth is not None:
            write_png(folder / 'masks' / names[-1], truth.astype(np.uint8) * 255)
    if stamps_ns is not None:
        lines = [f'{t // 10**9}.{t % 10**9:09d} {name}\n' for t, name in zip(stamps_ns, names)]
        (folder / 'frames.txt').write_text(''.join(lines), encoding='utf-8')
