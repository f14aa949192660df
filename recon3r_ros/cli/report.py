# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Content of report.json, and memory of a process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from recon3r_ros.cli.intervals import Interval


@dataclass(frozen=True)
class Timings:
    """
    Run times; images are read ahead in a thread, so `read_s` is time spent waiting.

    CPU time does not depend on the load of the machine. That of a frame is the tracking thread's,
    without OpenCV's own threads.

    :param total_s: seconds in total, from opening the output to the last file
    :param read_s: seconds spent waiting for images
    :param track_median_ms: milliseconds for tracking a frame; None if none was tracked
    :param motion_median_ms: milliseconds for the dynamic mask; None likewise
    :param frame_median_ms: milliseconds in total for a tracked frame that became no keyframe, with
        its masks at full size; None likewise
    :param keyframe_median_ms: milliseconds of local mapping for a keyframe; None if none
    :param complete_s: seconds for posing images that had no pose, at the end
    :param finish_s: seconds for the refinement at the end
    :param smooth_s: seconds for detecting dynamic objects again, offline
    :param write_s: seconds for fusing the map and writing the results at the end
    :param track_cpu_median_ms: CPU time for tracking a frame; None if none was tracked
    :param motion_cpu_median_ms: CPU time for the dynamic mask; None likewise
    :param frame_cpu_median_ms: CPU time for a tracked frame that became no keyframe, with its
        mask; None likewise
    :param keyframe_cpu_median_ms: CPU time of local mapping for a keyframe; None if none
    """

    total_s: float
    read_s: float
    track_median_ms: float | None
    motion_median_ms: float | None
    frame_median_ms: float | None
    keyframe_median_ms: float | None
    complete_s: float
    finish_s: float
    smooth_s: float
    write_s: float
    track_cpu_median_ms: float | None
    motion_cpu_median_ms: float | None
    frame_cpu_median_ms: float | None
    keyframe_cpu_median_ms: float | None


@dataclass(frozen=True)
class MapReport:
    """
    One of several maps that are not connected.

    :param number: N of its folder map_N
    :param frames: images with a pose in it
    :param keyframes: number of keyframes
    :param points: number of points
    :param scale: its unit; 'unknown' for a monocular map
    :param first: name of its first image
    :param last: of its last one
    """

    number: int
    frames: int
    keyframes: int
    points: int
    scale: str
    first: str
    last: str


@dataclass(frozen=True)
class RunReport:
    """
    The content of report.json.

    :param version: of this package
    :param model: name of the predictor
    :param input: source of the images
    :param frames_read: images that could be decoded and were processed
    :param frames_tracked: of these, those with a pose
    :param frames_skipped: unusable images
    :param landmarks_median: landmarks that agree with a frame's pose; None if none was tracked
    :param keyframes: number of keyframes with a pose
    :param points: number of points in the map
    :param maps: all maps, where there are several; keyframes, points and scale are the largest's
    :param unposed: images in a row without a pose, and why
    :param fixed_percent: of the image that is fixed to the camera or lies over it, as a time
        stamp does, and is left out; the most of several cameras
    :param state: of the tracker at the end: initialising, tracking or lost
    :param scale: the map's unit; 'unknown' for a monocular map
    :param gravity: what an IMU says of the vertical; '' without one
    :param focal_pixels: focal length fx of the source images, of the first of several cameras;
        None where unknown
    :param focal_estimated: whether it was estimated from the images
    :param sequence_s: seconds between the first and the last stamp
    :param timings: run times
    :param peak_memory_mb: largest resident set of the process so far, megabytes of 10^6 bytes
    :param masks_alone: whether neither map nor poses were asked for
    :param interrupted: whether the run was stopped by Ctrl-C
    :param reordered: whether the images had no order and were processed in another one
    :param skipped: one line for each cause of unusable images, with the names of the first
    :param warnings: one line each
    :param frames_stereo: images that had a partner, of a stereo rig's second camera
    """

    version: str
    model: str
    input: str
    frames_read: int
    frames_tracked: int
    frames_skipped: int
    landmarks_median: float | None
    keyframes: int
    points: int
    maps: tuple[MapReport, ...]
    unposed: tuple[Interval, ...]
    fixed_percent: float
    state: str
    scale: str
    focal_pixels: float | None
    focal_estimated: bool
    sequence_s: float
    timings: Timings
    peak_memory_mb: float
    masks_alone: bool
    interrupted: bool
    reordered: bool
    skipped: tuple[str, ...]
    warnings: tuple[str, ...]
    gravity: str = ''
    frames_stereo: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether there is no map, and no pose or mask but that of a single image."""
        some = self.masks_alone or self.frames_tracked > 0
        return self.points == 0 and not (some and self.frames_read > 1)

    def summary(self, output: Path) -> str:
        """
        Summarise in a few lines.

        :param output: folder of the results
        """
        times = self.timings
        speed = '' if times.frame_median_ms is None else (
            f', {times.frame_median_ms:.1f} ms a tracked frame')
        return '\n'.join((
            f'frames     {self.frames_tracked} of {self.frames_read} tracked'
            + (f', {self.frames_skipped} skipped' if self.frames_skipped else ''),
            *((f'stereo     {self.frames_stereo} of {self.frames_read} images had a partner',)
              if self.frames_stereo else ()),
            *(('order      none: images were processed by their similarity',)
              if self.reordered else ()),
            f'keyframes  {self.keyframes}',
            f'map        {self.points} points, scale {self.scale}',
            *((f'gravity    {self.gravity}',) if self.gravity else ()),
            *((f'left out   {self.fixed_percent:.1f} % of the image: fixed to the camera',)
              if self.fixed_percent else ()),
            *(f'map {part.number:<7}{part.frames} images ({part.first} to {part.last}), '
              f'{part.points} points' for part in self.maps),
            f'time       {times.total_s:.1f} s{speed}',
            f'results    {output}',
        ))
