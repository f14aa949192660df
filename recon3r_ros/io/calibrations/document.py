# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The text of a calibration file, and what it holds as JSON, YAML or XML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import json
import math
from pathlib import Path
import re
from typing import Any
from xml.etree import ElementTree

from recon3r_ros.errors import InputError, one_line
import yaml


@dataclass(frozen=True, eq=False)
class Document:
    """
    A calibration file.

    :param lines: of its text, without comments that begin with # and empty lines
    :param data: of JSON, YAML or XML: a mapping or a list; None where it is neither
    :param number: which camera is wanted, from 0, of a file that has several
    """

    lines: tuple[str, ...]
    data: Mapping[str, Any] | list[Any] | None
    number: int = 0

    @property
    def mapping(self) -> Mapping[str, Any]:
        """Keys and values; none where the data is no mapping."""
        return self.data if isinstance(self.data, Mapping) else {}


class _Loader(yaml.SafeLoader):
    """Reads what has an unknown tag, such as !!opencv-matrix, as the plain value it is."""


def _plain(loader: Any, node: Any) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node)


_Loader.add_constructor(None, _plain)


def parse(path: Path) -> Document:
    """
    Read a file of text.

    :raises InputError: where it cannot be read, or is neither text, JSON, YAML nor XML
    """
    try:
        text = path.read_text(encoding='utf-8-sig')
    except OSError as error:
        raise InputError(f'{path}: cannot be read: {error.strerror}') from error
    except UnicodeDecodeError as error:
        raise InputError(f'{path}: is no text: expected a calibration file') from error
    lines = [line.strip() for line in text.splitlines()]
    kept = tuple(line for line in lines if line and not line.startswith('#'))
    kind, read = _syntax(kept)
    try:
        data = read(text)
    except (ValueError, RecursionError, yaml.YAMLError, ElementTree.ParseError) as error:
        raise InputError(f'{path}: cannot be read as {kind}: {one_line(error)}') from error
    return Document(kept, data if isinstance(data, (dict, list)) else None)


def _syntax(lines: tuple[str, ...]) -> tuple[str, Any]:
    """Return the name of the text's syntax, and what reads it."""
    first = lines[0] if lines else ''
    if first.startswith(('{', '[')):
        return 'JSON', json.loads
    if first.startswith('<'):
        return 'XML', _xml
    if re.match(r'%YAML|---|[-\w."\']+\s*:', first):
        return 'YAML', _yaml
    return 'text', lambda text: None


def _yaml(text: str) -> Any:
    """Read the first mapping; OpenCV writes a first line that is no YAML: %YAML:1.0."""
    documents = yaml.load_all(re.sub(r'(?m)^%YAML.*$', '', text), Loader=_Loader)
    return next((found for found in documents if isinstance(found, dict)), None)


def _xml(text: str) -> Any:
    return _element(ElementTree.fromstring(text))


def _element(element: ElementTree.Element) -> Any:
    return {child.tag: _element(child) for child in element} if len(element) else (
        element.text or '')


def number(values: Mapping[str, Any], key: str) -> float:
    """
    Return a finite number, which may be written as text.

    :raises InputError: where it is missing or none
    """
    if key not in values:
        raise InputError(f'{key}: missing')
    return _number(values[key], key)


def numbers(value: Any, key: str) -> list[float]:
    """
    Return the finite numbers of a list, of rows, of text, or of a matrix with `data`.

    :param value: of the key; None for no numbers
    :raises InputError: where one is no number
    """
    if isinstance(value, Mapping) and 'data' in value:
        value = value['data']
    if value is None:
        return []
    if isinstance(value, str):
        value = value.replace(',', ' ').split()
    if not isinstance(value, list):
        raise InputError(f'{key}: got {value!r}, expected a list')
    return [n for item in value for n in (
        numbers(item, key) if isinstance(item, list) else [_number(item, key)])]


def integer(values: Mapping[str, Any], key: str) -> int:
    """
    Return a positive whole number, which may be written as text or with a decimal point.

    :raises InputError: where it is missing or none
    """
    found = number(values, key)
    if found != int(found) or found <= 0:
        raise InputError(f'{key}: got {values[key]!r}, expected a positive whole number')
    return int(found)


def size_of(values: Mapping[str, Any], width: str, height: str) -> tuple[int, int] | None:
    """
    Return (width, height) of the images under these keys; None where both are missing.

    :raises InputError: where one is missing or no positive whole number
    """
    if width not in values and height not in values:
        return None
    return integer(values, width), integer(values, height)


def _number(value: Any, key: str) -> float:
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise InputError(f'{key}: got {value!r}, expected a finite number')
    return found
