# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Command `recon3r weights`: lists published weights, verifies a file."""

from __future__ import annotations

import argparse
from pathlib import Path

from recon3r_ros.cli.console import output as console
from recon3r_ros.models import registry
from recon3r_ros.models.needs import COUNTED, Needs

_DESCRIPTION = """\
List the weights that the networks' authors publish, and what they need, or verify a file.

Nothing is downloaded: the licences of the weights differ from this software's, and accepting them
is up to you. FILE is checked tensor by tensor, and against its SHA-256 where that is known: from
the list, or from FILE.sha256 beside it, as written by sha256sum. Memory and operations are
those of a keyframe with three partners, counted, the network's trunk in bfloat16.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command, and its help."""
    parser.description = _DESCRIPTION
    parser.add_argument('--for', dest='purpose', choices=('commercial', 'research'),
                        default='research', help='list only weights whose licence allows this '
                        'use (default: research, which all allow)')
    parser.add_argument('file', metavar='FILE', nargs='?', help='.pth or .safetensors to verify')


def execute(arguments: argparse.Namespace) -> int:
    """
    Run the command.

    :param arguments: as parsed
    :returns: the exit status
    """
    if arguments.file is None:
        _list(arguments.purpose == 'commercial')
    else:
        _verify(Path(arguments.file))
    return 0


def _list(commercial: bool) -> None:
    """List weights; with `commercial` only those whose licence allows that."""
    screen = console()
    for model in registry.SPECS:
        if model.net and not model.published:
            screen.print(f'--model {model.name}: nobody has published weights', soft_wrap=True,
                         highlight=False)
        for published in model.published:
            if commercial and not published.commercial:
                continue
            allowed = 'allowed' if published.commercial else 'not allowed'
            lines = {
                'for': f'--model {model.name} {published.options}'.rstrip(),
                'from': published.url,
                'licence': f'{published.licence}; commercial use: {allowed}',
                **_needed(published)}
            screen.print('\n    '.join([published.file, *(
                f'{name:10} {text}' for name, text in lines.items())]), soft_wrap=True,
                highlight=False)
    screen.print('--model geometric with SIFT needs no weights, and no network.', soft_wrap=True,
                 highlight=False)


def _needed(published: registry.Published) -> dict[str, str]:
    """Say how large a file is, and what its network needs, where that was counted."""
    known = COUNTED.get(published.network)
    if known is None:
        return {}
    # Its file has the track head, too, where the network has one
    tracks = COUNTED.get(f'{published.network} with tracks')
    size = 4 * (tracks or known).parameters / 1e3
    lines = {'size': f'{size:.2g} GB in float32', 'keyframe': _one(known)}
    return lines if tracks is None else lines | {
        'tracks': f'--tracks keypoints: {_one(tracks)} for a keyframe'}


def _one(needs: Needs) -> str:
    return f'{needs.teraflop:.2g} TFLOP, {needs.gigabytes:.2g} GB of memory'


def _verify(path: Path) -> None:
    from recon3r_ros.models import weights
    from recon3r_ros.nets import checkpoints
    checkpoint = weights.read(path)
    parameters = sum(p.numel() for p in checkpoint.network.parameters())
    head = getattr(checkpoint.network.config, 'head', '')
    head = f', head {head}' if head else ''
    part = f', its {checkpoint.part} alone' if checkpoint.part else ''
    origin = checkpoints.check_sha256(path, weights.known_sha256(path))
    hashed = checkpoints.sha256(path)
    lines = {
        'file': f'{path}: all tensors are present, of the expected shape, and finite',
        'fits': ', '.join(f'--model {model}' for model in checkpoint.models) + part,
        'network': f'{parameters / 1e6:.0f} million parameters{head}, images of '
                   f'{checkpoint.image_size} pixels',
        'SHA-256': f'{hashed}, ' + (f'{origin}' if origin else 'no known hash to compare: keep '
                                    f'it in {path.name}.sha256'),
    }
    for name, text in lines.items():
        console().print(f'{name:10} {text}', soft_wrap=True, highlight=False)
