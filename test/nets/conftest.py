# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Small networks whose weights follow from the parameters' names and shapes."""

from __future__ import annotations

import parity
import pytest
from recon3r_ros.nets.dust3r import Dust3r

#: The sizes of the small golden files
SMALL = {'enc_embed_dim': 192, 'enc_depth': 3, 'enc_num_heads': 3, 'dec_embed_dim': 128,
         'dec_depth': 12, 'dec_num_heads': 2}


@pytest.fixture(scope='session')
def small() -> Dust3r:
    """Return a small network with DPT heads."""
    meta, _ = parity.read(parity.Path(__file__).parent / 'golden'
                          / 'dust3r_small_dpt_portrait_mixed.npz')
    return parity.build(meta)
