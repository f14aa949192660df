# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Figures beside the targets that they should reach, and their page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recon3r_ros.bench.page import write_page
from recon3r_ros.io.markdown import table


@dataclass(frozen=True)
class Measure:
    """
    A figure and its target.

    :param case: what was run
    :param name: of the measure
    :param value: what was measured; None where the case could not be run
    :param target: that it should reach: a maximum, or for `least` a minimum; None for none
    :param unit: of value and target
    :param least: whether more is better
    """

    case: str
    name: str
    value: float | None
    target: float | None
    unit: str = '%'
    least: bool = False

    def met(self) -> bool:
        """Whether the target is reached."""
        if self.value is None or self.target is None:
            return False
        return self.value >= self.target if self.least else self.value <= self.target

    def row(self) -> tuple[str, ...]:
        """Format the row of the table."""
        if self.value is None:
            return self.case, self.name, '', 'not present', '-'
        text = f'{self.value:.3g} {self.unit}'
        if self.target is None:
            return self.case, self.name, '', text, ''
        return (self.case, self.name, f'{">=" if self.least else "<="} {self.target:g} '
                f'{self.unit}', text, 'yes' if self.met() else '**no**')


def write(output: Path, introduction: str, measures: Sequence[Measure]) -> None:
    """Write a page, and print it."""
    page = introduction + table(
        ('case', 'measure', 'target', 'measured', 'met'), [m.row() for m in measures])
    write_page(output, page)
