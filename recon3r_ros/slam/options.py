# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""User options of each stage; constants that several stages share."""

from __future__ import annotations

from dataclasses import dataclass, replace

from recon3r_ros.option import option

#: Least information of a landmark for PnP: a relative depth error of 1 / sqrt(.)
TRACKED_INFORMATION = 10.0
#: Inlier share of a plausible pose: of frames by a first pair, and of re-estimated ones
PLAUSIBLE_SHARE = 0.7


@dataclass(frozen=True)
class FrontendOptions:
    """Tracking, and when a frame becomes a keyframe."""

    tracked_landmarks: int = option(
        240, 'Most landmarks of a keyframe that are tracked; more take longer and hardly '
        'improve poses.', 'landmarks', 60, 2000)
    keyframe_overlap: float = option(
        0.5, 'Share of the tracked landmarks of the last keyframe below which the next one is '
        'due.', '', 0.1, 0.95)
    keyframe_parallax: float = option(
        3.0, 'Median parallax to the last keyframe above which the next one is due.', 'deg',
        0.2, 45.0)
    keyframe_rotation: float = option(
        20.0, 'Rotation since the last keyframe above which the next one is due.', 'deg',
        1.0, 90.0)
    keyframe_sharpness: float = option(
        0.6, 'Sharpness relative to recent frames below which a frame is blurred, and '
        'becomes a keyframe only if tracking would be lost otherwise.', '', 0.0, 1.0)

    def spaced(self, factor: float) -> FrontendOptions:
        """Return these with keyframes further apart by a factor."""
        return self if factor == 1 else replace(
            self, keyframe_overlap=1 - min((1 - self.keyframe_overlap) * factor, 0.9),
            keyframe_parallax=self.keyframe_parallax * factor,
            keyframe_rotation=self.keyframe_rotation * factor)


@dataclass(frozen=True)
class MappingOptions:
    """Local mapping."""

    max_keyframes: int = option(
        500, 'Most keyframes of the map; the most redundant ones are culled. Each takes about '
        '1.5 MB. Earlier maps have as many together in the node, which forgets the smallest.',
        'keyframes', 20, 100000)
    min_agreement: float = option(
        0.5, 'Share of the observations of a new keyframe that must agree with the map; with '
        'fewer it is rejected.', '', 0.1, 0.95)


@dataclass(frozen=True)
class MotionOptions:
    """Dynamic objects."""

    mask_refiner: str = option(
        'grabcut', 'Refines masks to the edges of the image: grabcut, none, or your own '
        'module:function.')
    rest_delay: float = option(
        2.0, 'How long a dynamic object must stand still before it enters the map.', 's',
        0.0, 3600.0)


#: All of them, in the order of the documentation
OPTIONS = (FrontendOptions, MappingOptions, MotionOptions)
