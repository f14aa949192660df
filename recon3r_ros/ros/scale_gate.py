# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The published metric scale, and whether outputs are held back.

Estimates of the scale improve with every metre of travel. Outputs that followed each of them would
be inconsistent, so that the published scale changes in steps, each with a revision.
"""

from __future__ import annotations

from dataclasses import replace
import math

from recon3r_ros.ros.parameters import Config
from recon3r_ros.slam.types import MetricScale

#: The published scale changes when the estimate differs by more than this share, and by more than
#: this part of its own uncertainty
STEP, SIGMAS = 0.02, 0.5


def held_back(config: Config) -> str:
    """Say why lengths are not published while the scale is unknown, and the remedy."""
    sources = ' or '.join(config.scale_sources)
    return 'scale: unknown; poses, TF and clouds are held back until it is known from ' + (
        sources or 'nothing: set odometry, use_depth of a camera or a model that predicts metres, '
        'and a scale_source that allows it')


class ScaleGate:
    """
    Owner of the published scale.

    :param demanded: whether consumers expect metres, so that outputs wait for the scale
    """

    def __init__(self, demanded: bool) -> None:
        self._demanded = demanded
        self._metric: MetricScale | None = None
        self._revision = 0

    def update(self, estimate: MetricScale | None) -> bool:
        """
        Take over an estimate.

        :param estimate: the newest one; None where the scale is unknown
        :return: whether the published scale has changed
        """
        before = self._metric
        if estimate is None:
            changed = before is not None
        else:
            changed = before is None or (
                abs(math.log(estimate.value / before.value)) > max(STEP, SIGMAS * estimate.sigma))
        if changed:
            self._metric = estimate
            self._revision += 1
        elif before is not None and estimate is not None:
            # The published value stays; its uncertainty improves
            difference = math.log(estimate.value / before.value)
            self._metric = replace(before, sigma=math.hypot(estimate.sigma, difference))
        return changed

    @property
    def metric(self) -> MetricScale | None:
        """The published scale; None where it is unknown."""
        return self._metric

    @property
    def metres(self) -> float:
        """Metres per map unit, as published; 1 where unknown."""
        return 1.0 if self._metric is None else self._metric.value

    @property
    def revision(self) -> int:
        """How often the published scale has changed."""
        return self._revision

    @property
    def closed(self) -> bool:
        """Whether outputs with lengths are held back."""
        return self._demanded and self._metric is None
