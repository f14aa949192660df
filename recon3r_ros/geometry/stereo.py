# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Metric depth of a camera's view from the image that a rig's second camera takes at that instant.

Semi-global matching (Hirschmueller, PAMI 2008; OpenCV's) of rectified images in both directions;
what does not agree, is not unique or is a speckle stays unknown, which is what one camera alone
sees, too. Disparities are then refined by least squares, whose covariance tells where an image has
too little texture (Ackermann 1984; Szeliski 2022, section 12.1.2): those stay unknown as well.

Images of infrared rigs are matched alike. Both cameras see a projected pattern at one instant,
where it is texture; but it moves with the rig and must not be tracked over time. So the image of a
frame should be without it: the projector is off, or flashes for other images only.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.depth_noise import DepthNoise, MeasuredDepth
from recon3r_ros.geometry.stereo_rectification import StereoRectification

Floats = NDArray[np.float32]
Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

#: Side of the blocks that are matched, pixels
BLOCK = 3
#: Difference of the disparities of both directions, pixels
AGREEMENT = 1.0
#: Percent by which the best cost must be lower than the second best
UNIQUENESS = 10
#: Costs of a step of one disparity, and of a larger one, grey values
SMALL_STEP, LARGE_STEP = 4, 16
#: Smaller areas, pixels, whose disparities differ from those around are dropped
SPECKLE = 100
#: Disparities that are searched beyond the largest in images of half the size, pixels
REACH_MARGIN = 12
#: Half width, pixels, of the windows of least squares
REFINED = 3
#: Standard deviation of a disparity above which it is unknown, pixels
WORST_SIGMA = 1.0
#: Standard deviation that no texture makes smaller, pixels: calibration and interpolation
SIGMA_FLOOR = 0.1
#: Ratio of the contrasts of two exposures that is taken back at most
MOST_GAIN = 3.0
#: Standard deviation of a difference of two images, grey values, at least: quantisation
NOISE_FLOOR = 0.5
#: Variance of the slope that noise of unit variance has: of Scharr's weights
_SLOPE_OF_NOISE = 2 * (3 ** 2 + 10 ** 2 + 3 ** 2) / 32 ** 2


class StereoMatcher:
    """
    Matches the images of one rig.

    :param camera: the first one
    :param other: the second one
    :param T_cam_other: (4, 4) pose of the second in the first one's frame, metres
    :param nearest: depth, metres, to be measured; None: where views overlap well
    :param baseline_error: relative standard deviation of the baseline
    :raises InputError: where the rig cannot measure depth
    """

    def __init__(self, camera: Camera, other: Camera, T_cam_other: NDArray[np.float64],
                 nearest: float | None = None, baseline_error: float = 0.0) -> None:
        self.rig = StereoRectification.of(camera, other, T_cam_other, nearest)
        self._baseline_error = baseline_error
        self._blurs = [_blur(c, self.rig.first.fx) for c in (camera, other)]

    def depth(self, image: Image, other: Image) -> MeasuredDepth:
        """
        Measure the depth of the first camera's undistorted view.

        :param image: (H, W, 3) RGB or (H, W) grey of the first camera
        :param other: likewise, of the second
        """
        rig = self.rig
        left = _grey(image, rig.maps, self._blurs[0])
        right = _grey(other, rig.other_maps, self._blurs[1])
        disparity, sigma = self.disparity(left, right)
        known = np.isfinite(sigma)
        spread = float(np.sqrt(np.mean(sigma[known] ** 2))) if known.any() else WORST_SIGMA
        noise = DepthNoise.of_rig(
            spread, rig.first.fx, rig.baseline, rig.nearest, self._baseline_error)
        return MeasuredDepth(rig.depth_in_view(disparity), noise)

    def disparity(self, left: Floats, right: Floats) -> tuple[Floats, Floats]:
        """
        Match rectified images.

        :param left: (H, W) grey values of the first one
        :param right: likewise, of the second
        :return: (H, W) disparity u_first - u_second and its standard deviation, pixels; both NaN
            where unknown
        """
        right = _alike(left, right, self.rig)
        images = _bytes(left), _bytes(right)
        found = _consistent(*images, self._reach(*images))
        found[~self.rig.seen] = np.nan
        found = _without_speckles(found, SPECKLE)
        found[~_lands(found, self.rig.other_seen)] = np.nan
        refined, sigma = _refined(left, right, found)
        unknown = ~(sigma < WORST_SIGMA)
        refined[unknown] = sigma[unknown] = np.nan
        return refined, sigma

    def _reach(self, left: Image, right: Image) -> int:
        """
        Return the number of disparities to search, a multiple of 16.

        Images of half the size, of which all are searched, tell how near the scene is.
        """
        half = [cv2.pyrDown(image) for image in (left, right)]
        found = _without_speckles(
            _consistent(half[0], half[1], 16 * -(-self.rig.disparities // 32)), SPECKLE // 4)
        if not np.isfinite(found).any():
            return self.rig.disparities
        nearest = 2 * float(np.nanmax(found)) + REACH_MARGIN
        return min(16 * -(-int(nearest) // 16), self.rig.disparities)


def _consistent(left: Image, right: Image, disparities: int) -> Floats:
    """
    Match in both directions, (H, W) of the first image; NaN where these do not agree.

    :param disparities: how many are searched, a multiple of 16
    """
    search = cv2.StereoSGBM.create(
        minDisparity=-1, numDisparities=disparities, blockSize=BLOCK,
        P1=SMALL_STEP * BLOCK ** 2, P2=LARGE_STEP * BLOCK ** 2, disp12MaxDiff=-1,
        preFilterCap=31, uniquenessRatio=UNIQUENESS, speckleWindowSize=0,
        mode=cv2.STEREO_SGBM_MODE_SGBM)

    def matched(image: Image, other: Image) -> Floats:
        raw = search.compute(image, other)
        found = raw.astype(np.float32) / 16
        found[raw < -16] = np.nan
        return found

    found = matched(left, right)
    # Mirrored, what was on the right is on the left; the search leaves out the first columns
    mirrored = [cv2.copyMakeBorder(image[:, ::-1], 0, 0, disparities, 0, cv2.BORDER_REPLICATE)
                for image in (right, left)]
    back = matched(*mirrored)[:, disparities:][:, ::-1]
    found[~_agree(found, np.ascontiguousarray(back))] = np.nan
    return found


def _blur(camera: Camera, focal: float) -> float:
    """Return the blur, source pixels, with which an image can be sampled at another size."""
    factor = camera.fx / focal
    return 0.4 * factor if factor > 1.5 else 0.0


def _grey(image: Image, maps: tuple[Floats, Floats], blur: float) -> Floats:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    if blur:
        grey = cv2.GaussianBlur(grey, (0, 0), blur)
    return cv2.remap(grey.astype(np.float32), *maps, cv2.INTER_CUBIC,
                     borderMode=cv2.BORDER_REPLICATE)


def _alike(left: Floats, right: Floats, rig: StereoRectification) -> Floats:
    """Give the second image the brightness and contrast of the first: exposures may differ."""
    (mean, spread), (other_mean, other_spread) = (
        (float(grey[seen].mean()), float(grey[seen].std()))
        for grey, seen in ((left, rig.seen), (right, rig.other_seen)))
    gain = min(max(spread / max(other_spread, 1e-3), 1 / MOST_GAIN), MOST_GAIN)
    return (right - other_mean) * np.float32(gain) + np.float32(mean)


def _bytes(grey: Floats) -> Image:
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def _agree(found: Floats, back: Floats) -> Mask:
    """Whether the match in the other image has the same disparity, by its own search."""
    there = _at(back, found)
    with np.errstate(invalid='ignore'):
        return np.abs(found - there) <= AGREEMENT


def _lands(found: Floats, other_seen: Mask) -> Mask:
    """Whether the match lies where the second camera sees anything."""
    return _at(other_seen.astype(np.float32), found) > 0


def _at(field: Floats, disparity: Floats) -> Floats:
    """Sample a field (H, W) of the second image at the nearest pixels of disparities."""
    height, width = disparity.shape
    columns = np.arange(width, dtype=np.float32) - np.nan_to_num(disparity)
    rows = np.broadcast_to(np.arange(height, dtype=np.float32)[:, None], (height, width))
    found = cv2.remap(field, columns, np.ascontiguousarray(rows), cv2.INTER_NEAREST,
                      borderValue=float('nan'))
    found[np.isnan(disparity)] = np.nan
    return found


def _without_speckles(disparity: Floats, size: int) -> Floats:
    raw = np.rint(np.nan_to_num(disparity, nan=-2.0) * 16).astype(np.int16)
    cv2.filterSpeckles(raw, -32, size, 16)
    return np.where(raw == -32, np.float32(np.nan), disparity)


def _refined(left: Floats, right: Floats, disparity: Floats) -> tuple[Floats, Floats]:
    """
    Refine disparities by least squares in a window, each of its pixels with its own disparity.

    Minimises sum (I_left(u) - I_right(u - d))^2 over d, with means taken out.

    :return: (H, W) disparities and their standard deviations, pixels; NaN where unknown
    """
    known = np.isfinite(disparity)
    weight = known.astype(np.float32)
    count = np.maximum(_summed(weight), 1)
    out = np.where(known, disparity, np.float32(0))
    rows = np.ascontiguousarray(np.broadcast_to(
        np.arange(out.shape[0], dtype=np.float32)[:, None], out.shape))
    columns = np.arange(out.shape[1], dtype=np.float32)
    slope = cv2.Scharr(right, cv2.CV_32F, 1, 0, scale=1 / 32)
    sigma = np.full(out.shape, np.nan, np.float32)
    for _ in range(2):
        where = np.ascontiguousarray(columns - out)
        seen = cv2.remap(right, where, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        g = cv2.remap(slope, where, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        r = (seen - left) * weight
        g *= weight
        mean_r = _summed(r) / count
        curvature = _summed(g * g)
        # I_right(u - d - step) = seen - g step
        product = _summed(g * r) - mean_r * _summed(g)
        curvature = np.maximum(curvature - _summed(g) ** 2 / count, 1e-6)
        step = product / curvature
        residual = np.maximum(_summed(r * r) - count * mean_r ** 2 - product * step, 0)
        variance = np.maximum(residual / np.maximum(count - 2, 1), NOISE_FLOOR ** 2)
        # Noise has slopes, too, which constrain nothing
        texture = curvature - _SLOPE_OF_NOISE * variance / 2 * count
        sigma = np.sqrt(variance / np.maximum(texture, 1e-6) + SIGMA_FLOOR ** 2)
        # A match that is off by more is not the nearest minimum
        out += np.where(known & (np.abs(step) < 1) & (sigma < WORST_SIGMA), step, 0)
    return (np.where(known, out, np.nan).astype(np.float32),
            np.where(known, sigma, np.nan).astype(np.float32))


def _summed(field: Floats) -> Floats:
    side = 2 * REFINED + 1
    return cv2.boxFilter(field, cv2.CV_32F, (side, side), normalize=False,
                         borderType=cv2.BORDER_REPLICATE)
