# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Networks on a GPU, in float32, against their authors' outputs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import parity
import pytest
import torch

if TYPE_CHECKING:
    from conftest import SharedData  # several folders have a conftest: not to be imported by name

pytestmark = [pytest.mark.gpu,
              pytest.mark.skipif(not torch.cuda.is_available(), reason='there is no CUDA device')]
CUDA = torch.device('cuda')
GOLDEN = Path(__file__).parent / 'golden'


@pytest.mark.parametrize('path', sorted(
    path for path in GOLDEN.glob('*.npz') if path.stem != 'siu3r_post'), ids=lambda p: p.stem)
def test_parity(path: Path) -> None:
    assert max(parity.errors(path, CUDA).values()) <= parity.TOLERANCE


@pytest.mark.parametrize('name', [
    'dust3r_small_dpt_landscape', 'dust3r_small_dpt_odd_rows', 'mast3r_small_landscape',
    'easi3r_small', 'easi3r_small_window', 'vggt_small_single_view', 'sd_vae_encoder_small',
    pytest.param('dust3r_large_dpt_512x384', marks=pytest.mark.slow),
    pytest.param('vggt_large', marks=pytest.mark.slow),
    pytest.param('must3r_large', marks=pytest.mark.slow)])
def test_parity_with_all_files(shared_data: SharedData, name: str) -> None:
    errors = parity.errors(shared_data.golden(f'{name}.npz'), CUDA)
    assert max(errors.values()) <= parity.TOLERANCE
