# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Runs HAMSt3R as other pair networks, and keeps what it finds of people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from recon3r_ros.models.engine import Engine, Pair
from recon3r_ros.models.registry import EngineConfig
from recon3r_ros.nets.dust3r import ViewOutput
from recon3r_ros.nets.hamst3r import Hamst3r, HumanOutput, InstanceOutput
from torch import Tensor

#: Tensors of a view's people
_OF_PEOPLE = 4


class HumanEngine(Engine):
    """
    HAMSt3R on a device.

    :param network: moved there; owned by the engine
    :raises Recon3rError: where the configuration cannot be used
    """

    def __init__(self, network: Hamst3r, config: EngineConfig = EngineConfig()) -> None:
        super().__init__(network, config, attention=True)

    def decode_people(self, pairs: Sequence[Pair]) -> list[tuple[HumanOutput, HumanOutput]]:
        """Decode directed pairs; see `decode`."""
        return cast('list[tuple[HumanOutput, HumanOutput]]', self.decode(pairs))

    def _tensors(self, output: ViewOutput) -> tuple[Tensor | None, ...]:
        assert isinstance(output, HumanOutput)
        return (*super()._tensors(output), output.surface, output.surface_logits,
                output.instances.classes, output.instances.masks)

    def _view(self, n: int, outputs: list[Tensor | None]) -> HumanOutput:
        view = super()._view(n, outputs[:-_OF_PEOPLE])
        people = [x[n] for x in outputs[-_OF_PEOPLE:] if x is not None]
        surface, logits, classes, masks = people
        return HumanOutput(
            view.points, view.confidence, view.descriptors, view.descriptor_confidence,
            view.attention, surface=surface, surface_logits=logits,
            instances=InstanceOutput(classes, masks))
