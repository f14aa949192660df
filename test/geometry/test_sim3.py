# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Sim(3) against its axioms and against scipy."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
import numpy as np
import pytest
from recon3r_ros.errors import GeometryError
from recon3r_ros.geometry import se3, sim3
from scipy.linalg import expm
import similarities

vector = arrays(np.float64, 3, elements=st.floats(-3.0, 3.0))
axis = arrays(np.float64, 3, elements=st.floats(-1.0, 1.0)).filter(
    lambda w: np.linalg.norm(w) > 0.1).map(lambda w: w / np.linalg.norm(w))
angle = st.one_of(st.just(0.0), st.floats(0.0, np.pi), st.floats(0.0, 1e-6),
                  st.floats(1e-9, 1e-3).map(lambda d: np.pi - d))
log_scale = st.one_of(st.just(0.0), st.floats(-1e-6, 1e-6), st.floats(-2.0, 2.0),
                      st.floats(-8.0, 8.0))


def generator(xi: np.ndarray) -> np.ndarray:
    """Element of the Lie algebra, written out independently of the code under test."""
    (wx, wy, wz), v, s = xi[:3], xi[3:6], xi[6]
    return np.array([[s, -wz, wy, v[0]], [wz, s, -wx, v[1]], [-wy, wx, s, v[2]], [0, 0, 0, 0]])


@settings(deadline=None, max_examples=120)
@given(axis, angle, vector, log_scale)
def test_exp_is_the_matrix_exponential(axis, angle, v, log_scale):
    xi = np.r_[axis * angle, v, log_scale]
    S = expm(generator(xi))
    np.testing.assert_allclose(similarities.exp(xi), S, atol=1e-12 * max(1.0, np.abs(S).max()))


@settings(deadline=None, max_examples=120)
@given(axis, angle, vector, log_scale)
def test_log_inverts_exp_up_to_pi(axis, angle, v, log_scale):
    xi = np.r_[axis * angle, v, log_scale]
    np.testing.assert_allclose(similarities.log(similarities.exp(xi)), xi, atol=1e-10)


@settings(deadline=None, max_examples=50)
@given(vector, vector, vector, vector, log_scale, log_scale)
def test_group_laws(w1, v1, w2, v2, s1, s2):
    A, B = similarities.exp(np.r_[w1, v1, s1 / 2]), similarities.exp(np.r_[w2, v2, s2 / 2])
    points = np.stack([v1, v2, w1])
    size = max(1.0, np.abs(A).max()) * max(1.0, np.abs(B).max())
    np.testing.assert_allclose(sim3.transform(A @ B, points),
                               sim3.transform(A, sim3.transform(B, points)), atol=1e-12 * size)
    for identity in (sim3.inverse(A) @ A, A @ sim3.inverse(A)):
        np.testing.assert_allclose(identity, np.eye(4), atol=1e-10)
    np.testing.assert_allclose((A @ B) @ A, A @ (B @ A), rtol=1e-9, atol=1e-11 * size**2)


def test_rigid_case_is_se3(rng):
    xi = rng.normal(size=(4, 6))
    xi7 = np.concatenate([xi, np.zeros((4, 1))], axis=-1)
    np.testing.assert_allclose(similarities.exp(xi7), se3.exp(xi), atol=1e-14)
    np.testing.assert_allclose(similarities.log(se3.exp(xi)), xi7, atol=1e-13)


def test_parts_round_trip(rng):
    scale, t = np.exp(rng.normal(size=(2, 3))), rng.normal(size=(2, 3, 3))
    R = se3.so3_exp(rng.normal(size=(2, 3, 3)))
    S = sim3.compose(scale, R, t)
    for got, expected in zip(sim3.decompose(S), (scale, R, t)):
        np.testing.assert_allclose(got, expected, atol=1e-13)
    point = rng.normal(size=3)
    expected = scale[1, 2] * R[1, 2] @ point + t[1, 2]
    np.testing.assert_allclose(sim3.transform(S[1, 2], point[None])[0], expected)
    np.testing.assert_allclose(similarities.exp(similarities.log(S)), S, atol=1e-12)


@pytest.mark.filterwarnings('ignore:invalid value:RuntimeWarning')
@pytest.mark.parametrize('scale', [0.0, -1.0, np.nan, np.inf])
def test_bad_scale_is_quoted(scale):
    with pytest.raises(GeometryError, match='scale: got .*, expected > 0'):
        sim3.compose(scale, np.eye(3), np.zeros(3))
    with pytest.raises(GeometryError, match='expected > 0'):
        sim3.inverse(np.diag([scale, scale, scale, 1.0]))
