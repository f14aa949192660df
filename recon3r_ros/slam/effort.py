# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How much work a front end does for an image, reduced in a stated order under load."""

from __future__ import annotations

from dataclasses import dataclass, replace

from recon3r_ros.slam.options import FrontendOptions


@dataclass(frozen=True)
class Effort:
    """
    Work for an image; all of it by default.

    Keyframes are not affected: a frame that becomes one gets its dynamic mask, and its depth.

    :param mask_period: dynamic objects are detected in each n-th frame, and propagated by optical
        flow in between
    :param landmarks: share of the landmarks that are tracked
    :param spacing: factor by which keyframes are further apart
    :param image_period: each n-th image is processed
    """

    mask_period: int = 1
    landmarks: float = 1.0
    spacing: float = 1.0
    image_period: int = 1

    def options(self, full: FrontendOptions) -> FrontendOptions:
        """Return a front end's options with this effort."""
        return replace(full.spaced(self.spacing),
                       tracked_landmarks=round(full.tracked_landmarks * self.landmarks))

    def __str__(self) -> str:
        reduced = []
        if self.mask_period > 1:
            reduced.append(f'dynamic objects detected in 1 of {self.mask_period} images')
        if self.landmarks < 1:
            reduced.append(f'{100 * self.landmarks:.0f} % of the landmarks tracked')
        if self.spacing > 1:
            reduced.append(f'keyframes {self.spacing:g} times as far apart')
        if self.image_period > 1:
            reduced.append(f'1 of {self.image_period} images processed')
        return ', '.join(reduced) or 'none'


#: From full effort to the least
EFFORTS = (
    Effort(), Effort(2), Effort(4), Effort(4, 0.5), Effort(4, 0.5, 1.5), Effort(4, 0.5, 1.5, 2),
    Effort(4, 0.5, 1.5, 3))
