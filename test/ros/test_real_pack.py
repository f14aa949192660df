# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A real sequence played to the node, as `recon3r bench --live` does, but with time to spare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from recon3r_ros.cli.live_demo import reconstruct_live
from recon3r_ros.evaluation.results import evaluate
from recon3r_ros.io.map_store import MAP_FILE, read_map
from recon3r_ros.slam.saved_map import SavedMap

if TYPE_CHECKING:
    from conftest import SharedData  # several folders have a conftest: not to be imported by name

#: Other tests run beside this one: slower than it was, a loaded machine can follow the camera
RATE = 0.7


@pytest.mark.slow
def test_handheld_camera(shared_data: SharedData, tmp_path: Path) -> None:
    pack = shared_data.pack('sevenscenes_redkitchen')
    report = reconstruct_live(pack, tmp_path, record=False, rate=RATE)
    assert report.published == 450
    assert report.poses >= 0.95 * report.published
    for folder in (tmp_path / 'published', tmp_path):  # as they came, and as they are saved
        result = evaluate(folder, tmp_path / 'truth').trajectory
        assert result is not None and result.sim3 is not None
        assert result.sim3.ate_rmse <= 0.06
    assert isinstance(read_map(tmp_path / MAP_FILE), SavedMap)
