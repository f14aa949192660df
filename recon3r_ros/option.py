# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Options as fields of dataclasses, from which command line, parameters and their docs follow."""

from __future__ import annotations

from dataclasses import Field, field, fields
from typing import Any, TypeVar

from recon3r_ros.errors import Recon3rError

T = TypeVar('T')


def option(default: Any, meaning: str, unit: str = '', low: float | None = None,
           high: float | None = None, choices: tuple[str, ...] = (), flag: str = '') -> Any:
    """
    Field of a dataclass that users may set.

    :param meaning: description for users, one sentence
    :param low: least value of a number
    :param high: greatest value of a number
    :param choices: allowed values of a text; empty where any is allowed
    :param flag: short name on the command line, beside --name-of-the-field
    """
    return field(default=default, metadata={
        'meaning': meaning, 'unit': unit, 'low': low, 'high': high, 'choices': choices,
        'flag': flag})


def fields_of(*kinds: Any) -> tuple[Field[Any], ...]:
    """Return the fields of dataclasses of options, each name once."""
    found: dict[str, Field[Any]] = {}
    for kind in kinds:
        for own in fields(kind):
            found.setdefault(own.name, own)
    return tuple(found.values())


def chosen(kind: type[T], values: dict[str, Any]) -> T:
    """
    Make a dataclass of options.

    :param values: by name of the field; of others, too
    :raises Recon3rError: where one is outside its range, or none of its choices
    """
    options = kind(**{own.name: values[own.name] for own in fields_of(kind)})
    check(options)
    return options


def check(options: Any) -> None:
    """
    Check options against their ranges and choices.

    :raises Recon3rError: for a value outside
    """
    for own in fields_of(options):
        about, value = own.metadata, getattr(options, own.name)
        if about['choices'] and value not in about['choices']:
            raise Recon3rError(
                f'{own.name} {value!r}: expected one of {", ".join(about["choices"])}')
        if about['low'] is not None and not about['low'] <= value <= about['high']:
            unit = f' {about["unit"]}' if about['unit'] else ''
            raise Recon3rError(f'{own.name} is {value:g}: expected '
                               f'{about["low"]:g} to {about["high"]:g}{unit}')
