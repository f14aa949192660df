# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A node whose model recognises classes tells their names."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticStatus
import pytest
from recon3r_ros.models.registry import spec
from recon3r_ros.nets.layers.mask2former import MaskConfig
from recon3r_ros.nets.siu3r import Siu3r, Siu3rConfig
from recon3r_ros.ros import qos
from ros_helpers import Collector
from test_node import NODE
import torch

TINY = Siu3rConfig(64, 4, 1, 64, 4, 1, 4, 8, MaskConfig(64, 32, 2, 1, 32, 3, 64, 5, 20), 1)


@pytest.mark.slow
def test_names_of_classes_are_latched(ros_node, spawn, tmp_path):
    torch.save({name: torch.zeros(1).expand(value.shape)
                for name, value in Siu3r(TINY).state_dict().items()}, tmp_path / 'w.pth')
    child = spawn(*NODE, '-p', 'model:=siu3r', '-p', f'weights:={tmp_path / "w.pth"}')
    names = Collector(ros_node, DiagnosticStatus, '/recon3r/classes', qos.LATCHED)
    message, = names.wait(1, 60)
    assert [(v.key, v.value) for v in message.values] == [
        (str(n), name) for n, name in enumerate(spec('siu3r').classes, 1)]
    late = Collector(ros_node, DiagnosticStatus, '/recon3r/classes', qos.LATCHED)
    late.wait(1)
    assert child.stop() == 0
