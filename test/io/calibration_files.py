# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Calibration files that several tests write."""

from __future__ import annotations

from collections.abc import Sequence


def euroc_sensor(resolution: Sequence[int], intrinsics: Sequence[float],
                 distortion: Sequence[float]) -> str:
    """
    Return a sensor.yaml of EuRoC.

    :param resolution: width and height
    :param intrinsics: fu, fv, cu and cv
    :param distortion: k1, k2, p1 and p2
    """
    return f"""\
#General sensor definitions.
sensor_type: camera
comment: VI-Sensor cam0
T_BS:
  cols: 4
  rows: 4
  data: [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0]
rate_hz: 20
resolution: {list(resolution)}
camera_model: pinhole
intrinsics: {list(intrinsics)} #fu, fv, cu, cv
distortion_model: radial-tangential
distortion_coefficients: {list(distortion)}
"""
