# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str | None], rows: Iterable[Sequence[str | None]]) -> str:
    """
    Write a table.

    :param head: names of the columns
    :param rows: cells of each row, as many as there are columns; see `row`
    """
    return ''.join(row(*cells) for cells in (head, ['---'] * len(head), *rows))


def row(*cells: str | None) -> str:
    """
    Write one line of a table.

    :param cells: their text; '' where a value is missing, None where none applies
    """
    texts = ('' if cell is None else f'{cell} '.replace('|', r'\|') for cell in cells)
    return f'| {"| ".join(texts)}|\n'
