# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Console output: log lines, progress bars, tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import logging
import sys
import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

_PACKAGE = 'recon3r_ros'
#: Seconds between two lines of progress without a terminal
LINE_PERIOD_S = 5.0


def output() -> Console:
    """Return the console of results, on the current standard output."""
    return Console(file=sys.stdout, highlight=False, markup=False)


class _LineHandler(logging.Handler):
    """
    Writes a line for each record, above a progress bar if there is one.

    :param console: on standard error
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Write `recon3r: warning: ...`; `recon3r: ...` for what is no problem."""
        text = ' '.join(record.getMessage().split())
        kind = f'{record.levelname.lower()}: ' if record.levelno >= logging.WARNING else ''
        try:
            self.console.print(f'recon3r: {kind}{text}', soft_wrap=True)
        except OSError:
            pass  # standard error is closed


def log_to_console() -> None:
    """
    Show this package's warnings, and when it compiles or chooses an input, on standard error.

    One line each; may be called again.
    """
    for name in ('compiled', 'io'):
        logging.getLogger(f'{_PACKAGE}.{name}').setLevel(logging.INFO)
    logger = logging.getLogger(_PACKAGE)
    for handler in [h for h in logger.handlers if isinstance(h, _LineHandler)]:
        logger.removeHandler(handler)
    logger.addHandler(_LineHandler(Console(stderr=True, highlight=False, markup=False)))


class ProgressBar:
    """
    One bar shared by several stages.

    :param progress: draws it; None draws nothing
    """

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._task = None if progress is None else progress.add_task('', total=None)

    def stage(self, description: str, total: int | None = None) -> None:
        """
        Begin a stage.

        :param description: of the stage
        :param total: number of steps, None where unknown
        """
        if self._progress is not None and self._task is not None:
            self._progress.reset(self._task, description=description, total=total)

    def advance(self) -> None:
        """Count one step."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task)

    def update(self, done: int, total: int) -> None:
        """
        Set the steps done.

        :param done: steps done
        :param total: number of steps
        """
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, total=total)


class _ProgressLines(ProgressBar):
    """
    Progress in lines, some seconds apart, for logs.

    :param console: for the lines
    """

    def __init__(self, console: Console) -> None:
        super().__init__(None)
        self._console = console
        self._description = ''
        self._done = 0
        self._total: int | None = None
        self._due = 0.0

    def stage(self, description: str, total: int | None = None) -> None:
        """Begin a stage; one without steps is a line of its own."""
        self._description, self._done, self._total = description, 0, total
        self._due = 0.0
        if total is None:
            self._console.print(f'recon3r: {description}', soft_wrap=True)

    def advance(self) -> None:
        """Count one step."""
        self.update(self._done + 1, self._total or 0)

    def update(self, done: int, total: int) -> None:
        """Set the steps done."""
        changed = done != self._done
        self._done, self._total = done, total or None
        if changed and (time.monotonic() >= self._due or done == total):
            self._due = time.monotonic() + LINE_PERIOD_S
            of = f' of {total}' if total else ''
            self._console.print(f'recon3r: {self._description}: {done}{of}', soft_wrap=True)


@contextmanager
def progress_bar(wanted: bool = True, lines: bool = False) -> Iterator[ProgressBar]:
    """
    Show a progress bar on standard error if that is a terminal.

    :param wanted: False never shows it
    :param lines: write lines of progress where it is not a terminal
    """
    handlers = [h for h in logging.getLogger(_PACKAGE).handlers if isinstance(h, _LineHandler)]
    console = handlers[0].console if handlers else Console(stderr=True)
    if not wanted or not console.is_terminal:
        yield _ProgressLines(console) if wanted and lines else ProgressBar(None)
        return
    columns = (SpinnerColumn(), TextColumn('{task.description}'), BarColumn(),
               MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield ProgressBar(progress)
