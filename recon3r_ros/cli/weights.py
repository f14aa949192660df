# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Command `recon3r weights`: lists published weights, verifies a file."""

from __future__ import annotations

import argparse
from pathlib import Path

from recon3r_ros.cli.console import output as console
from recon3r_ros.models import registry

_DESCRIPTION = """\
List the weights that the networks' authors publish, or verify a weights file.

Nothing is downloaded: the licences of the weights differ from this software's, and accepting them
is up to you. FILE is checked tensor by tensor, and against its SHA-256 where that is known: from
the list, or from FILE.sha256 beside it, as written by sha256sum.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command, and its help."""
    parser.description = _DESCRIPTION
    parser.add_argument('file', metavar='FILE', nargs='?', help='.pth or .safetensors to verify')


def execute(arguments: argparse.Namespace) -> int:
    """
    Run the command.

    :param arguments: as parsed
    :returns: the exit status
    """
    if arguments.file is None:
        _list()
    else:
        _verify(Path(arguments.file))
    return 0


def _list() -> None:
    screen = console()
    for model in registry.SPECS:
        for published in model.published:
            screen.print(f'{published.file}\n'
                         f'    for        --model {model.name}\n'
                         f'    from       {published.url}\n'
                         f'    licence    {published.licence}', soft_wrap=True, highlight=False)


def _verify(path: Path) -> None:
    from recon3r_ros.models import weights
    from recon3r_ros.nets import checkpoints
    checkpoint = weights.read(path)
    parameters = sum(p.numel() for p in checkpoint.network.parameters())
    head = getattr(checkpoint.network.config, 'head', '')
    head = f', head {head}' if head else ''
    origin = checkpoints.check_sha256(path, weights.known_sha256(path))
    hashed = checkpoints.sha256(path)
    lines = {
        'file': f'{path}: all tensors are present, of the expected shape, and finite',
        'fits': ', '.join(f'--model {model}' for model in checkpoint.models),
        'network': f'{parameters / 1e6:.0f} million parameters{head}, images of '
                   f'{checkpoint.image_size} pixels',
        'SHA-256': f'{hashed}, ' + (f'{origin}' if origin else 'no known hash to compare: keep '
                                    f'it in {path.name}.sha256'),
    }
    for name, text in lines.items():
        console().print(f'{name:10} {text}', soft_wrap=True, highlight=False)
