# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The exceptions a caller may want to catch.

Everything this package raises on purpose derives from `Recon3rError`; its message is one line that
names the input and the remedy, fit to be shown to a user without a traceback.
"""


class Recon3rError(Exception):
    """Base of every error raised on purpose."""


class InputError(Recon3rError):
    """A file, folder, bag, video or message that is unusable; the message says which and why."""


class OutputError(Recon3rError):
    """A result that cannot be written."""


class GeometryError(Recon3rError):
    """Degenerate geometry: too few points, a singular configuration."""


def one_line(error: BaseException) -> str:
    """Return an exception's message in one line; its type where it has none."""
    return ' '.join(str(error).split()) or type(error).__name__
