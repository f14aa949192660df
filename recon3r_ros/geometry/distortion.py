# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Lens distortion: camera-frame points to the distorted image plane, and back.

The models are those of ROS CameraInfo and OpenCV ("Camera Calibration and 3D Reconstruction" and
"Fisheye camera model" in its manual). "Image plane" means at z = 1, before focal length and
principal point.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_ITERATIONS = 25
_CONVERGED = 1e-10  # image plane units: well under 1e-6 px for any real focal length
_LARGEST_ANGLE = np.pi / 2 - 1e-3  # a ray with z = 1 cannot lie further off the axis


def polynomial_distort(xy: Array, coefficients: tuple[float, ...]) -> tuple[Array, Array]:
    """
    Radial, tangential, thin prism and tilt distortion (plumb_bob and rational_polynomial).

    :param xy: undistorted image plane (..., 2)
    :param coefficients: k1 k2 p1 p2 [k3 [k4 k5 k6 [s1 s2 s3 s4 [tau_x tau_y]]]]; empty for none
    :returns: distorted image plane (..., 2) and its Jacobian by xy (..., 2, 2)
    """
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4, tau_x, tau_y = (
        *coefficients, *(0.0,) * (14 - len(coefficients)))
    x, y = xy[..., 0], xy[..., 1]
    s = x * x + y * y
    numerator = 1 + s * (k1 + s * (k2 + s * k3))
    denominator = 1 + s * (k4 + s * (k5 + s * k6))
    radial = numerator / denominator
    # derivative of the radial factor by s = r^2
    slope = (k1 + s * (2 * k2 + s * 3 * k3)
             - radial * (k4 + s * (2 * k5 + s * 3 * k6))) / denominator
    out = np.stack([x * radial + 2 * p1 * x * y + p2 * (s + 2 * x * x),
                    y * radial + p1 * (s + 2 * y * y) + 2 * p2 * x * y], axis=-1)
    jacobian = np.empty((*s.shape, 2, 2))
    jacobian[..., 0, 0] = radial + 2 * x * x * slope + 2 * p1 * y + 6 * p2 * x
    jacobian[..., 1, 1] = radial + 2 * y * y * slope + 6 * p1 * y + 2 * p2 * x
    jacobian[..., 0, 1] = 2 * x * y * slope + 2 * p1 * x + 2 * p2 * y
    jacobian[..., 1, 0] = jacobian[..., 0, 1]
    for axis, (first, second) in enumerate(((s1, s2), (s3, s4))):
        if first or second:
            out[..., axis] += s * (first + s * second)
            jacobian[..., axis, :] += 2 * xy * (first + 2 * second * s)[..., None]
    if tau_x or tau_y:
        return _tilted(out, jacobian, tau_x, tau_y)
    return out, jacobian


def _tilted(xy: Array, jacobian: Array, tau_x: float, tau_y: float) -> tuple[Array, Array]:
    """
    Project from the image plane onto a sensor that is tilted, as of a Scheimpflug lens.

    :param xy: image plane (..., 2)
    :param jacobian: of xy (..., 2, 2)
    :param tau_x: angle about x, radians
    :param tau_y: angle about y, radians
    :returns: tilted image plane (..., 2), and its Jacobian (..., 2, 2)
    """
    cos_x, sin_x, cos_y, sin_y = np.cos(tau_x), np.sin(tau_x), np.cos(tau_y), np.sin(tau_y)
    R = (np.array([[cos_y, 0, -sin_y], [0, 1, 0], [sin_y, 0, cos_y]])
         @ np.array([[1, 0, 0], [0, cos_x, sin_x], [0, -sin_x, cos_x]]))
    H = np.array([[R[2, 2], 0, -R[0, 2]], [0, R[2, 2], -R[1, 2]], [0, 0, 1]]) @ R
    depth = xy @ H[2, :2] + H[2, 2]
    out = (xy @ H[:2, :2].T + H[:2, 2]) / depth[..., None]
    slope = (H[:2, :2] - out[..., :, None] * H[2, :2]) / depth[..., None, None]
    return out, slope @ jacobian


def polynomial_undistort(xy: Array, coefficients: tuple[float, ...]) -> Array:
    """
    Inverse of `polynomial_distort`, by Newton's method.

    :param xy: distorted image plane (..., 2)
    :param coefficients: as for `polynomial_distort`
    :returns: undistorted image plane (..., 2); NaN where the model has no inverse
    """
    out = xy.copy()
    with np.errstate(all='ignore'):
        for _ in range(_ITERATIONS):
            value, J = polynomial_distort(out, coefficients)
            error = xy - value
            det = J[..., 0, 0] * J[..., 1, 1] - J[..., 0, 1] * J[..., 1, 0]
            step = np.stack([J[..., 1, 1] * error[..., 0] - J[..., 0, 1] * error[..., 1],
                             J[..., 0, 0] * error[..., 1] - J[..., 1, 0] * error[..., 0]],
                            axis=-1) / det[..., None]
            if not np.any(np.abs(step) > _CONVERGED):
                out = out + step
                break
            out = out + step
        value, J = polynomial_distort(out, coefficients)
        det = J[..., 0, 0] * J[..., 1, 1] - J[..., 0, 1] * J[..., 1, 0]
        # a negative determinant or diagonal is the far side of the fold, not the wanted root
        good = (np.abs(xy - value).max(axis=-1, initial=0.0) < 1e3 * _CONVERGED) & (det > 0)
        good &= J[..., 0, 0] > 0
    out[~good] = np.nan
    return out


def _equidistant_angle(theta: Array, coefficients: tuple[float, ...]) -> tuple[Array, Array]:
    k1, k2, k3, k4 = coefficients
    s = theta * theta
    value = theta * (1 + s * (k1 + s * (k2 + s * (k3 + s * k4))))
    slope = 1 + s * (3 * k1 + s * (5 * k2 + s * (7 * k3 + s * 9 * k4)))
    return value, slope


def equidistant_distort(points: Array, coefficients: tuple[float, ...]) -> Array:
    """
    Kannala-Brandt projection (equidistant); also defined beside and behind the camera.

    Kannala and Brandt 2006, "A generic camera model", its radial part, normalised as in OpenCV.

    :param points: camera-frame points (..., 3)
    :param coefficients: k1 k2 k3 k4
    :returns: distorted image plane (..., 2)
    """
    rho = np.hypot(points[..., 0], points[..., 1])
    bent, _ = _equidistant_angle(np.arctan2(rho, points[..., 2]), coefficients)
    central = rho <= 1e-9 * np.abs(points[..., 2])
    scale = np.where(central, 1 / points[..., 2], bent / np.where(central, 1.0, rho))
    return np.asarray(points[..., :2] * scale[..., None])


def equidistant_undistort(xy: Array, coefficients: tuple[float, ...]) -> Array:
    """
    Inverse of `equidistant_distort` onto the plane z = 1, by Newton's method on the angle.

    :param xy: distorted image plane (..., 2)
    :param coefficients: k1 k2 k3 k4
    :returns: undistorted image plane (..., 2); NaN at or beyond 90 degrees off the axis, and where
        the model has no inverse
    """
    radius = np.hypot(xy[..., 0], xy[..., 1])
    with np.errstate(all='ignore'):
        theta = np.minimum(radius, _LARGEST_ANGLE)
        for _ in range(_ITERATIONS):
            value, slope = _equidistant_angle(theta, coefficients)
            step = (radius - value) / slope
            theta = theta + step
            if not np.any(np.abs(step) > _CONVERGED):
                break
        value, slope = _equidistant_angle(theta, coefficients)
        good = (np.abs(radius - value) < 1e3 * _CONVERGED) & (slope > 0)
        good &= (theta >= 0) & (theta < _LARGEST_ANGLE)
        safe = np.where(radius > 1e-9, radius, 1.0)
        scale = np.where(radius > 1e-9, np.tan(theta) / safe, 1.0)
    return np.asarray(np.where(good[..., None], scale[..., None] * xy, np.nan))
