# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Arguments shared by several commands."""

from __future__ import annotations

import argparse
from dataclasses import Field
from typing import Any

from recon3r_ros.models import registry
from recon3r_ros.option import fields_of
from recon3r_ros.slam.options import OPTIONS


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --model, --weights and the options of all models."""
    parser.add_argument('--model', choices=registry.names(), default='geometric',
                        help='depth predictor; all but geometric need --weights (default: '
                        'geometric)')
    parser.add_argument('--weights', metavar='FILE', help='weights file of the model: .pth, .pt '
                        'or .safetensors; see recon3r weights')
    for own in registry.option_fields():
        _add_option(parser, own)


def add_slam_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what may be set of tracking, mapping and dynamic objects."""
    group = parser.add_argument_group('tracking, mapping and dynamic objects')
    for own in fields_of(*OPTIONS):
        _add_option(group, own)


def add_load_argument(parser: argparse.ArgumentParser) -> None:
    """Add --load."""
    parser.add_argument('--load', metavar='N', type=natural, default=0, help='run so many busy '
                        'processes beside it, as another load on the machine (default: 0)')


def _add_option(parser: argparse._ActionsContainer, own: Field[Any]) -> None:
    about = own.metadata
    flags = [f'--{own.name.replace("_", "-")}', *([about['flag']] if about['flag'] else [])]
    meaning = about['meaning'].rstrip('.').replace('%', '%%')
    unit = f' {about["unit"]}' if about['unit'] else ''
    if isinstance(own.default, bool):
        parser.add_argument(*flags, dest=own.name, action='store_true',
                            help=f'{meaning[0].lower()}{meaning[1:]}')
        return
    limits = '' if about['low'] is None else f'{about["low"]:g} to {about["high"]:g}{unit}, '
    parser.add_argument(
        *flags, dest=own.name, default=own.default, choices=about['choices'] or None,
        type=type(own.default),
        metavar=None if about['choices'] else own.name.rpartition('_')[2].upper(),
        help=f'{meaning[0].lower()}{meaning[1:]} ({limits}default: {own.default})')


def asked_model(arguments: argparse.Namespace) -> registry.Model:
    """Return the model given by --model, --weights and the options of the models."""
    return registry.Model.of(arguments.model, arguments.weights or '', vars(arguments))


def positive(text: str) -> float:
    """Read a positive, finite number."""
    value = float(text)
    if not 0.0 < value < float('inf'):
        raise argparse.ArgumentTypeError(f'got {text}, expected a positive number')
    return value


def finite(text: str) -> float:
    """Read a finite number."""
    value = float(text)
    if not abs(value) < float('inf'):
        raise argparse.ArgumentTypeError(f'got {text}, expected a finite number')
    return value


def natural(text: str) -> int:
    """Read an integer that is not negative."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f'got {text}, expected 0 or more')
    return value


def count(text: str) -> int:
    """Read a positive integer."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'got {text}, expected 1 or more')
    return value
