# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""SE(3) against its axioms and against scipy."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
import numpy as np
import pytest
from recon3r_ros.errors import GeometryError
from recon3r_ros.geometry import se3
from scipy.linalg import expm
from scipy.spatial.transform import Rotation

coordinate = st.floats(-5.0, 5.0)
tangent = arrays(np.float64, 6, elements=coordinate)
axis = arrays(np.float64, 3, elements=st.floats(-1.0, 1.0)).filter(
    lambda w: np.linalg.norm(w) > 0.1).map(lambda w: w / np.linalg.norm(w))
# angles crowd where the coefficients are singular and where the branches meet
angle = st.one_of(st.floats(0.0, np.pi), st.floats(0.0, 1e-6), st.floats(0.009, 0.011),
                  st.floats(1e-12, 1e-2).map(lambda d: np.pi - d))


def generator(xi: np.ndarray) -> np.ndarray:
    """Element of the Lie algebra, written out independently of the code under test."""
    wx, wy, wz, *v = xi
    return np.array([[0, -wz, wy, v[0]], [wz, 0, -wx, v[1]], [-wy, wx, 0, v[2]], [0, 0, 0, 0]])


@settings(deadline=None, max_examples=60)
@given(axis, angle, arrays(np.float64, 3, elements=coordinate))
def test_exp_is_the_matrix_exponential(axis, angle, v):
    xi = np.r_[axis * angle, v]
    np.testing.assert_allclose(se3.exp(xi), expm(generator(xi)), atol=1e-12)


@settings(deadline=None, max_examples=100)
@given(axis, angle, arrays(np.float64, 3, elements=coordinate))
def test_log_inverts_exp_up_to_pi(axis, angle, v):
    xi = np.r_[axis * angle, v]
    back = se3.log(se3.exp(xi))
    np.testing.assert_allclose(se3.exp(back), se3.exp(xi), atol=1e-12)
    if angle < np.pi - 1e-9:  # at pi the axis may as well point the other way
        np.testing.assert_allclose(back, xi, atol=1e-11)
    assert np.linalg.norm(se3.so3_log(se3.so3_exp(xi[:3]))) == pytest.approx(angle, abs=1e-13)


@pytest.mark.parametrize('axis', [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.6, 0, -0.8]])
def test_log_of_half_turn(axis):
    w = se3.so3_log(Rotation.from_rotvec(np.pi * np.array(axis)).as_matrix())
    np.testing.assert_allclose(np.abs(w), np.pi * np.abs(axis), atol=1e-12)


def test_tiny_rotations_are_not_lost():
    w = np.array([3e-11, -4e-11, 0.0])
    np.testing.assert_allclose(se3.so3_log(se3.so3_exp(w)), w, rtol=1e-12)
    assert se3.rotation_angle(se3.so3_exp(w)) == pytest.approx(5e-11, rel=1e-12)


@settings(deadline=None, max_examples=50)
@given(tangent, tangent, tangent)
def test_group_laws(a, b, c):
    A, B, C = se3.exp(a), se3.exp(b), se3.exp(c)
    np.testing.assert_allclose(A @ (B @ C), (A @ B) @ C, atol=1e-11)
    np.testing.assert_allclose(se3.inverse(A) @ A, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(se3.inverse(A @ B), se3.inverse(B) @ se3.inverse(A), atol=1e-11)
    np.testing.assert_allclose(se3.inverse(A), se3.exp(-a), atol=1e-11)


@settings(deadline=None, max_examples=50)
@given(axis, angle)
def test_quaternions_agree_with_scipy(axis, angle):
    R = Rotation.from_rotvec(axis * angle)
    quat_xyzw = se3.quat_xyzw_from_matrix(R.as_matrix())
    assert abs(quat_xyzw @ R.as_quat()) == pytest.approx(1.0, abs=1e-14)
    assert quat_xyzw[3] >= 0
    np.testing.assert_allclose(se3.matrix_from_quat_xyzw(-3 * quat_xyzw), R.as_matrix(),
                               atol=1e-13)


def test_transform_maps_b_to_a():
    T_a_b = se3.from_rt(Rotation.from_euler('z', 90, degrees=True).as_matrix(), [1, 2, 3])
    np.testing.assert_allclose(se3.transform(T_a_b, [[1.0, 0, 0], [0, 0, 1]]),
                               [[1, 3, 3], [1, 2, 4]], atol=1e-12)


def test_everything_works_on_leading_axes(rng):
    xi = rng.normal(size=(2, 3, 6))
    T, points = se3.exp(xi), rng.normal(size=(2, 3, 5, 3))
    np.testing.assert_allclose(se3.log(T), xi, atol=1e-12)
    for i in np.ndindex(2, 3):
        np.testing.assert_allclose(T[i], se3.exp(xi[i]), atol=1e-15)
        np.testing.assert_allclose(se3.inverse(T)[i], se3.inverse(T[i]), atol=1e-15)
        np.testing.assert_allclose(se3.transform(T, points)[i], se3.transform(T[i], points[i]))
        expected = Rotation.from_matrix(T[i][:3, :3]).magnitude()
        assert se3.rotation_angle(T[..., :3, :3])[i] == pytest.approx(expected)


@pytest.mark.parametrize('call', [
    lambda: se3.exp(np.zeros(7)), lambda: se3.log(np.eye(3)), lambda: se3.hat([1.0, 2.0]),
    lambda: se3.transform(np.eye(4), np.zeros(3)), lambda: se3.matrix_from_quat_xyzw([0.0] * 4),
    lambda: se3.matrix_from_quat_xyzw([np.nan, 0, 0, 1])])
def test_bad_arguments_are_quoted(call):
    with pytest.raises(GeometryError, match='got .*, expected'):
        call()


def test_normalized_stops_the_growth_of_rounding_errors() -> None:
    T = se3.exp(np.array([0.3, -0.2, 0.5, 1.0, 2.0, 3.0]))
    bent = T.copy()
    bent[:3, :3] += 1e-3 * np.arange(9).reshape(3, 3)
    mended = se3.normalized(bent)
    np.testing.assert_allclose(mended[:3, :3].T @ mended[:3, :3], np.eye(3), atol=1e-14)
    assert np.linalg.det(mended[:3, :3]) > 0
    np.testing.assert_allclose(mended[:3, :3], T[:3, :3], atol=1e-2)
    np.testing.assert_array_equal(mended[:3, 3], bent[:3, 3])
