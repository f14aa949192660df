# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A model that knows the people of images: the geometric one, with a file of the truth."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
import os
from pathlib import Path

import numpy as np
import recon3r_ros

#: In a module of its own; it notes each time that it is made
_MODEL = """
from hashlib import sha256
import os
import numpy as np
from recon3r_ros.models.geometric import GeometricPredictor


class Finding(GeometricPredictor):
    def __init__(self, people):
        super().__init__()
        self._people = people

    def find(self, image):
        return self._people[sha256(image.tobytes()).hexdigest()], {1: 0.9}


def make(model):
    with open(model.weights + '.made', 'a') as file:
        print(os.getpid(), file=file)
    return Finding(dict(np.load(model.weights)))
"""
#: Makes every Python that starts know it
_REGISTERED = """
from recon3r_ros.models import registry
registry.SPECS += (registry.ModelSpec('finding', 'finding', 'finding', people=True),)
"""


class FindingModel:
    """
    The model `finding` for processes that are started with a PYTHONPATH.

    :param folder: for its files
    :param people: images, and their people (H, W)
    """

    def __init__(self, folder: Path, people: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
        (folder / 'finding.py').write_text(_MODEL)
        (folder / 'sitecustomize.py').write_text(_REGISTERED)
        self.weights = folder / 'people.npz'
        np.savez(self.weights, **{sha256(image.tobytes()).hexdigest(): own.astype(np.uint16)
                                  for image, own in people})
        self.python_path = os.pathsep.join(
            (str(folder), str(Path(recon3r_ros.__file__).parents[1])))

    @property
    def made(self) -> int:
        """How often it has been made, by all processes."""
        return len(Path(f'{self.weights}.made').read_text().splitlines())
