# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What published networks need; importing this module imports neither torch nor NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: Keyframes of a window that are counted with
WINDOW = 8


@dataclass(frozen=True)
class Needs:
    """
    What a network needs for a keyframe, with three partners, trunk in bfloat16.

    :param parameters: millions
    :param gigabytes: memory of weights and of all tensors that are alive at the same time,
        without that of libraries
    :param teraflop: 2 operations per multiply-add
    """

    parameters: float
    gigabytes: float
    teraflop: float


#: By network; as counted by bench/needs.py, for images of 512x384 or 224x224 pixels, of 518x392
#: for DUNE-MASt3R, of 256x256 for SIU3R, and with windows of eight keyframes for VGGT, and of
#: 640x480 for XFeat
COUNTED: Mapping[str, Needs] = {
    'dpt 512': Needs(571.2, 3.36, 5.31),
    'linear 512': Needs(532.3, 1.32, 3.16),
    'linear 224': Needs(532.3, 1.13, 0.697),
    'catmlp+dpt 512': Needs(688.6, 3.94, 6.39),
    'dune-mast3r base': Needs(433.7, 3.52, 7.68),
    'dune-mast3r small': Needs(345.4, 3.29, 7.23),
    'must3r 512': Needs(423.4, 1.01, 1.82),
    'must3r 224': Needs(423.4, 0.891, 0.355),
    'vggt': Needs(1191, 4.27, 19.3),
    'vggt with tracks': Needs(1257, 4.42, 20.9),
    'mapanything': Needs(1228, 4.2, 14),
    'mapanything v1': Needs(563.3, 2.76, 7.51),
    'siu3r': Needs(655.5, 2.24, 1.77),
    'xfeat': Needs(0.6593, 0.0135, 0.00262),
}
