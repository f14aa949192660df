# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the package's other modules log, in the node's log."""

from __future__ import annotations

from collections.abc import Callable
import logging

_PACKAGE = 'recon3r_ros'


class LibraryLog(logging.Handler):
    """
    Hands on warnings, and that loops are compiled, which delays a first start; until it is closed.

    :param info: called with a log line
    :param warn: called with a warning of one line
    """

    def __init__(self, info: Callable[[str], None], warn: Callable[[str], None]) -> None:
        super().__init__()
        self._info = info
        self._warn = warn
        logging.getLogger(f'{_PACKAGE}.compiled').setLevel(logging.INFO)
        logging.getLogger(_PACKAGE).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Hand on one record."""
        text = ' '.join(record.getMessage().split())
        (self._warn if record.levelno >= logging.WARNING else self._info)(text)

    def close(self) -> None:
        """Stop."""
        logging.getLogger(_PACKAGE).removeHandler(self)
        super().close()
