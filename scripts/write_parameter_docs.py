#!/usr/bin/env python3
# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Write config/recon3r.yaml and docs/parameters.md from the table of parameters."""

from __future__ import annotations

from pathlib import Path
import textwrap

from recon3r_ros.io.markdown import row
from recon3r_ros.ros.parameter_table import CAMERA_PARAMETERS, Parameter, PARAMETERS

ROOT = Path(__file__).resolve().parents[1]
_COLUMNS = ('name', 'default', 'range', 'unit', 'at run time', 'meaning')
_LICENCE = '# Copyright 2026 The recon3r_ros authors\n# SPDX-License-Identifier: Apache-2.0\n'


def _value(parameter: Parameter) -> str:
    value = parameter.default
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"'{value}'"
    return str(value)


def _entry(parameter: Parameter, indent: str) -> list[str]:
    facts = [f'[{parameter.unit}]'] if parameter.unit else []
    facts += [f'({parameter.limits})'] if parameter.limits else []
    facts += [] if parameter.read_only else ['May be changed while the node runs.']
    comment = ' '.join([parameter.description, *facts])
    lines = textwrap.wrap(comment, 97 - len(indent), break_on_hyphens=False)
    value = _value(parameter)
    entry = f'{indent}{parameter.name}: {value}'
    if parameter.default == []:
        # The type of an empty list cannot be told
        entry = f'{indent}# {parameter.name}: [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]'
    return [*(f'{indent}# {line}' for line in lines), entry]


def yaml() -> str:
    """Return the content of config/recon3r.yaml."""
    lines = [_LICENCE + '# All parameters of the node with their defaults; written by '
             'scripts/write_parameter_docs.py.', '/**:', '  ros__parameters:']
    for parameter in PARAMETERS:
        lines += _entry(parameter, '    ')
    lines.append('    # Of each camera, under its name:')
    lines.append('    camera:')
    for parameter in CAMERA_PARAMETERS:
        lines += _entry(parameter, '      ')
    return '\n'.join(lines) + '\n'


def markdown() -> str:
    """Return the content of docs/parameters.md."""
    parts = ['# Parameters of the node `recon3r`\n',
             'Written by `scripts/write_parameter_docs.py` from the table in '
             '`recon3r_ros/ros/parameters.py`.\n']
    for title, prefix, parameters in (('Node', '', PARAMETERS),
                                      ('Each camera', '<camera>.', CAMERA_PARAMETERS)):
        rows = ''.join(row(f'`{prefix}{p.name}`', f'`{_value(p)}`', p.limits, p.unit,
                           'no' if p.read_only else 'yes', p.description) for p in parameters)
        parts.append(f'## {title}\n\n{row(*_COLUMNS)}{len(_COLUMNS) * "|---"}|\n{rows}')
    return '\n'.join(parts)


def main() -> None:
    """Write both."""
    (ROOT / 'config' / 'recon3r.yaml').write_text(yaml(), encoding='utf-8')
    (ROOT / 'docs' / 'parameters.md').write_text(markdown(), encoding='utf-8')


if __name__ == '__main__':
    main()
