# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""People whom any detector found, beside a sequence's images."""

from __future__ import annotations

from pathlib import Path

from recon3r_ros.io.id_images import IdImages
from recon3r_ros.slam.semantics import People
from recon3r_ros.slam.types import Frame


class PeopleFolder:
    """
    A source of people: masks NAME.png of the images NAME, 0 nobody, other values a person each.

    :param folder: of masks of 8 or 16 bits; an image without one was not searched
    :raises InputError: where there is no such folder, or no mask in it
    """

    def __init__(self, folder: str | Path) -> None:
        self._masks = IdImages(folder, 'masks of people')

    def people(self, frame: Frame) -> People | None:
        """
        Find the people in a frame; None where it was not searched.

        :raises InputError: for a mask that does not fit its image
        """
        instances = self._masks.of(frame)
        return None if instances is None else People(instances)

    def warn_if_unused(self, images: str) -> None:
        """Warn where no mask has the name of an image."""
        self._masks.warn_if_unused(images)
