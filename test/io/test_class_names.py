# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Names of classes, among the results and beside label images."""

from __future__ import annotations

from pathlib import Path

from recon3r_ros.io.labels import NAMES, read_class_names, write_class_names
from recon3r_ros.models.registry import spec


def test_names_are_read_as_they_are_written(tmp_path: Path) -> None:
    names = spec('siu3r').classes
    write_class_names(tmp_path, names)
    assert read_class_names(tmp_path / NAMES) == names


def test_names_of_earlier_results_do_not_stay(tmp_path: Path) -> None:
    write_class_names(tmp_path, ('wall',))
    for _ in range(2):
        write_class_names(tmp_path, ())
        assert not (tmp_path / NAMES).exists()
