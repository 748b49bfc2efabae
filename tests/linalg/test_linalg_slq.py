"""Spectral density: moments against dense matrices, known densities, degenerate operators."""

import numpy as np
import pytest
from scipy.integrate import trapezoid
from scipy.sparse.linalg import LinearOperator
from scipy.stats import norm

from geomadv.errors import InputError
from geomadv.linalg import spectral_density


def wigner(d: int, seed: int = 0) -> np.ndarray:
    """Symmetric Gaussian matrix whose spectrum fills the semicircle on [-2, 2]."""
    matrix = np.random.default_rng(seed).standard_normal((d, d))
    return (matrix + matrix.T) / np.sqrt(2 * d)


def test_moments_agree_with_traces():
    matrix = wigner(300) + 0.5 * np.eye(300)
    density = spectral_density(matrix, probes=20, steps=30, seed=2)
    assert density.products == 600
    np.testing.assert_allclose(density.weights.sum(axis=1), 1, rtol=1e-13)
    for power in range(5):
        exact = np.trace(np.linalg.matrix_power(matrix, power))
        estimate, error = density.moment(power)
        # Four standard errors of 20 probes; power 0 has no error but rounding.
        assert abs(estimate - exact) <= 4 * error + 1e-10
    # Var(s^T A s) = 2 (||A||_F^2 - sum a_ii^2) for random signs s (Hutchinson 1990); the standard
    # deviation of 20 probes scatters by 1/sqrt(38) = 16 %.
    expected = np.sqrt(2 * (np.sum(matrix**2) - np.sum(matrix.diagonal() ** 2)) / 20)
    np.testing.assert_allclose(density.moment(1)[1], expected, rtol=0.5)


def test_moments_of_a_diagonal_operator_are_exact():
    # Every probe of signs sees each diagonal entry with weight 1 / D.
    entries = np.random.default_rng(1).standard_normal(200)
    density = spectral_density(np.diag(entries), probes=3, steps=12)
    for power in range(8):
        estimate, error = density.moment(power)
        np.testing.assert_allclose(estimate, np.sum(entries**power), rtol=1e-10, atol=1e-10)
        assert error < 1e-9


def test_density_of_few_values_is_a_sum_of_gaussians():
    entries = np.repeat([3.0, 0.0, -1.0], [10, 80, 10])
    density = spectral_density(np.diag(entries), probes=2, steps=10, width=0.1)
    exact = sum(
        share * norm.pdf(density.grid, value, 0.1)
        for value, share in ((3, 0.1), (0, 0.8), (-1, 0.1))
    )
    np.testing.assert_allclose(density.density, exact, atol=1e-9)
    np.testing.assert_allclose(density.spread, 0, atol=1e-9)
    # Trapezoidal rule on Gaussians cut at 4 widths: 3e-5 of the outermost ones lies beyond.
    np.testing.assert_allclose(trapezoid(density.density, density.grid), 1, atol=1e-4)


def test_semicircle():
    density = spectral_density(wigner(1000), probes=10, steps=60, width=0.1)
    inside = np.abs(density.grid) < 1.7
    semicircle = np.sqrt(4 - density.grid[inside] ** 2) / (2 * np.pi)
    # Spread over 10 probes, and the curvature of the semicircle times width^2 / 2 = 0.005.
    error = 4 * density.spread[inside] / np.sqrt(10) + 0.01
    assert np.all(np.abs(density.density[inside] - semicircle) < error)
    assert density.spread[inside].max() < 0.1


@pytest.mark.parametrize(("value", "width"), [(0.0, 0.01), (-2.0, 0.02)])
def test_operators_with_one_value(value, width):
    density = spectral_density(value * np.eye(50), probes=3)
    np.testing.assert_allclose(density.width, width)
    np.testing.assert_allclose(density.moment(1), (50 * value, 0), atol=1e-12)
    np.testing.assert_allclose(density.grid[[0, -1]], value + width * np.array([-4, 4]))
    np.testing.assert_allclose(density.density.max(), norm.pdf(0, 0, width), rtol=1e-3)


def test_blocks_and_seeds():
    matrix = wigner(100)
    first = spectral_density(matrix, probes=5, steps=20)
    for block in (2, 5, 8):
        # The same probes; products of blocks differ by rounding.
        blocked = spectral_density(matrix, probes=5, steps=20, block=block)
        np.testing.assert_allclose(blocked.nodes, first.nodes, atol=1e-9)
    assert not np.allclose(spectral_density(matrix, 5, 20, seed=1).nodes, first.nodes)


def test_an_operator_of_large_dimension():
    d = 200_000
    entries = np.linspace(0, 1, d)
    operator = LinearOperator(
        (d, d), matvec=lambda v: entries * v.ravel(), matmat=lambda v: entries[:, None] * v
    )
    density = spectral_density(operator, probes=2, steps=15)
    # Moments of the uniform distribution on [0, 1].
    np.testing.assert_allclose(density.moment(1)[0], d / 2, rtol=1e-10)
    np.testing.assert_allclose(density.moment(2)[0], d / 3, rtol=1e-5)


def test_one_probe_has_no_spread():
    density = spectral_density(wigner(50), probes=1)
    assert density.nodes.shape == (1, 50)
    assert np.isnan(density.spread).all()
    assert np.isnan(density.moment(1)[1])


def test_bad_arguments_are_refused():
    matrix = np.eye(5)
    for name in ("probes", "steps", "block", "points"):
        with pytest.raises(InputError, match=f"{name}: expected at least"):
            spectral_density(matrix, **{name: 0})
    with pytest.raises(InputError, match="width: expected a positive number, found 0"):
        spectral_density(matrix, width=0.0)
    with pytest.raises(InputError, match="power: expected 0 to 9, found 10"):
        spectral_density(matrix).moment(10)
    with pytest.raises(InputError, match="NaN"):
        spectral_density(np.nan * matrix)
