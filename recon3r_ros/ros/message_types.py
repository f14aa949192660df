# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Definitions of messages by their Python classes, for those that rosbags does not know."""

from __future__ import annotations

from importlib import import_module
import re
from typing import Any

from rosbags.typesys import get_types_from_msg
from rosbags.typesys.store import Typestore

#: Names of basic types in classes, where definitions have others
_BASIC = {'boolean': 'bool', 'octet': 'byte', 'float': 'float32', 'double': 'float64'}
_SEQUENCE = re.compile(r'sequence<([^,]+)(?:, (\d+))?>')
_ARRAY = re.compile(r'(.+?)(\[\d+\])')
_BOUNDED = re.compile(r'(w?string)<(\d+)>')


def message_class(type_name: str) -> Any:
    """
    Import the class of a message type, 'package/msg/Name'.

    :raises ImportError: where the package is not installed
    :raises AttributeError: where it has no such message
    """
    package, _, name = type_name.split('/')
    return getattr(import_module(f'{package}.msg'), name)


def register(types: Typestore, type_name: str) -> None:
    """
    Add a message type, and those it consists of, to a type store that may not know them.

    :param type_name: 'package/msg/Name'
    :raises ImportError: where a package is not installed
    :raises AttributeError: where it has no such message
    """
    if type_name in types.fielddefs:
        return
    lines = []
    for name, kind in message_class(type_name).get_fields_and_field_types().items():
        element, suffix = _split(kind)
        if '/' in element:
            package, inner = element.split('/')
            register(types, f'{package}/msg/{inner}')
        lines.append(f'{element}{suffix} {name}')
    types.register(get_types_from_msg('\n'.join(lines), type_name))


def _split(kind: str) -> tuple[str, str]:
    """Split a field's type into that of its elements and its multiplicity, as definitions do."""
    suffix = ''
    if found := _SEQUENCE.fullmatch(kind):
        kind, suffix = found[1], f'[<={found[2]}]' if found[2] else '[]'
    elif found := _ARRAY.fullmatch(kind):
        kind, suffix = found[1], found[2]
    if found := _BOUNDED.fullmatch(kind):
        kind = f'{found[1]}<={found[2]}'
    return _BASIC.get(kind, kind), suffix
