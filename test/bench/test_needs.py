# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What `recon3r weights` says of networks is what they need: counted again."""

from __future__ import annotations

import pytest
from recon3r_ros.bench import needs
from recon3r_ros.models import registry
from recon3r_ros.models.needs import COUNTED

#: The others take seconds each
FAST = ('xfeat', 'linear 224', 'must3r 512')


@pytest.mark.parametrize('name', [
    name if name in FAST else pytest.param(name, marks=pytest.mark.large)
    for name in needs.KEYFRAMES])
def test_needs_are_those_counted(name: str) -> None:
    counted = needs.counted(name)
    for field in ('parameters', 'gigabytes', 'teraflop'):
        assert getattr(COUNTED[name], field) == pytest.approx(getattr(counted, field), rel=0.01)


def test_every_network_that_is_named_is_counted() -> None:
    assert COUNTED.keys() == needs.KEYFRAMES.keys()
    named = {p.network for spec in registry.SPECS for p in spec.published} - {''}
    assert named | {'vggt with tracks'} == COUNTED.keys()
