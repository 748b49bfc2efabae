"""Eigensolvers: planted spectra, hard cases, ARPACK, honesty of the residuals, seeds."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator, eigsh

from geomadv.errors import InputError, UnconvergedWarning
from geomadv.linalg import EigenPairs, Subspace, all_eigenpairs, extreme_eigenpairs

EPS = np.finfo(np.float64).eps


def rotation(d: int, seed: int = 0) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]


def planted(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """A symmetric float64 matrix with the given eigenvalues."""
    q = rotation(len(values), seed)
    matrix = (q * values) @ q.T
    return (matrix + matrix.T) / 2


def like_a_mean_hessian(d: int = 784) -> np.ndarray:
    """Eigenvalues that fall fast from both ends and cluster at 0."""
    positive = 0.95 ** np.arange(d // 2)
    return np.concatenate([positive, -0.8 * 0.95 ** np.arange(d - d // 2)])


def antisymmetric(d: int, norm: float, seed: int = 1) -> np.ndarray:
    """Noise of the given Frobenius norm."""
    noise = np.random.default_rng(seed).standard_normal((d, d))
    noise -= noise.T
    return noise * norm / np.linalg.norm(noise)


def diagonal(entries: np.ndarray) -> LinearOperator:
    return LinearOperator(
        (len(entries), len(entries)),
        matvec=lambda v: entries * v.ravel(),
        matmat=lambda v: entries[:, None] * v,
        dtype=np.float64,
    )


def counting(matrix: np.ndarray) -> tuple[LinearOperator, list[int]]:
    """The matrix as an operator, and the widths of the blocks it was multiplied with."""
    widths: list[int] = []

    def matmat(v: np.ndarray) -> np.ndarray:
        widths.append(v.shape[1])
        return matrix @ v

    operator = LinearOperator(matrix.shape, matvec=matmat, matmat=matmat, dtype=matrix.dtype)
    return operator, widths


def expected(values: np.ndarray, k: int, which: str) -> np.ndarray:
    ordered = np.sort(values)[::-1]
    ends = {"positive": ordered[:k], "negative": ordered[-k:]}
    return ends.get(which, np.concatenate([ordered[:k], ordered[-k:]]))


def true_residuals(matrix: np.ndarray, pairs: EigenPairs) -> np.ndarray:
    v = pairs.directions.numpy()
    scale = np.abs(np.linalg.eigvalsh((matrix + matrix.T) / 2)).max()
    return np.linalg.norm(matrix @ v - v * pairs.values.numpy(), axis=0) / scale


def check(matrix: np.ndarray, pairs: EigenPairs, k: int, which: str, tolerance: float) -> None:
    """Values, order, orthonormality and sign; residuals are those of the dense matrix."""
    exact = np.linalg.eigvalsh(matrix)
    scale = np.abs(exact).max()
    # |Ritz value - eigenvalue| <= residual (Parlett, The Symmetric Eigenvalue Problem, 4.5.1).
    atol = (tolerance + 100 * EPS) * scale
    np.testing.assert_allclose(pairs.values.numpy(), expected(exact, k, which), rtol=0, atol=atol)
    assert torch.all(pairs.values.diff() <= 1e-14 * scale)
    v = pairs.directions.numpy()
    np.testing.assert_allclose(v.T @ v, np.eye(v.shape[1]), atol=1e-12)
    assert np.all(v[np.abs(v).argmax(axis=0), np.arange(v.shape[1])] > 0)
    assert pairs.converged.all()
    assert pairs.residuals.max() <= tolerance
    # The scale is the largest Ritz value: off by no more than the square of the residual.
    np.testing.assert_allclose(
        pairs.residuals, true_residuals(matrix, pairs), rtol=1e-3, atol=1e-13
    )


# Planted spectra

SPECTRA = {
    "indefinite": np.linspace(-2, 3, 60),
    "definite": np.geomspace(1e-3, 1e3, 60),
    "negative definite": -np.geomspace(1e-3, 1e3, 60),
    "rank 1": np.r_[2.5, np.zeros(59)],
    "rank 3": np.r_[2.5, -1, 0.5, np.zeros(57)],
    "identity": np.ones(60),
    "two values": np.r_[np.ones(25), -np.ones(35)],
    "repeated at both ends": np.r_[[5.0] * 3, [-4.0] * 3, np.linspace(-1, 1, 54)],
}


@pytest.mark.parametrize("block", [1, 3, 7])
@pytest.mark.parametrize("which", ["both", "positive", "negative"])
@pytest.mark.parametrize("name", SPECTRA)
def test_planted_spectra(name, which, block):
    matrix = planted(SPECTRA[name])
    pairs = extreme_eigenpairs(matrix, 4, which, tolerance=1e-8, block=block)
    check(matrix, pairs, 4, which, 1e-8)
    assert pairs.products <= 60
    assert pairs.asymmetry < 1e-14


@pytest.mark.parametrize("block", [1, 4])
def test_the_zero_operator(block):
    pairs = extreme_eigenpairs(np.zeros((30, 30)), 3, block=block)
    np.testing.assert_array_equal(pairs.values, np.zeros(6))
    np.testing.assert_array_equal(pairs.residuals, np.zeros(6))
    assert pairs.converged.all()
    np.testing.assert_allclose(pairs.directions.T @ pairs.directions, np.eye(6), atol=1e-14)


@settings(deadline=None, max_examples=40)
@given(
    d=st.integers(1, 30),
    seed=st.integers(0, 1000),
    block=st.integers(1, 40),
    which=st.sampled_from(["both", "positive", "negative"]),
    distinct=st.integers(1, 30),
    data=st.data(),
)
def test_any_spectrum_with_repeated_values(d, seed, block, which, distinct, data):
    if which == "both" and d < 2:
        which = "positive"
    k = data.draw(st.integers(1, d // 2 if which == "both" else d))
    generator = np.random.default_rng(seed)
    matrix = planted(generator.choice(generator.standard_normal(distinct), d), seed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pairs = extreme_eigenpairs(matrix, k, which, tolerance=1e-9, block=block, seed=seed)
    check(matrix, pairs, k, which, 1e-9)


def test_a_second_copy_of_a_value_is_searched_for():
    # One start vector contains one combination of the copies only: without the search the value
    # 1 would be returned once, with a small residual.
    values = np.r_[1.0, 1.0, 0.9, -1.0, -1.0, -1.0, np.linspace(-0.3, 0.3, 394)]
    matrix = planted(values)
    pairs = extreme_eigenpairs(matrix, 4)
    check(matrix, pairs, 4, "both", 1e-4)
    assert pairs.products < 150


@pytest.mark.parametrize("seed", range(5))
def test_a_copy_that_rounding_brings_late_is_not_missed(seed):
    # Copies of inner wanted values: when the first one has converged, the second may just be
    # growing in the vector that was to be multiplied next.
    values = like_a_mean_hessian()
    values[391] = values[10]
    pairs = extreme_eigenpairs(diagonal(values), 20, seed=seed)
    np.testing.assert_allclose(pairs.values, expected(values, 20, "both"), rtol=0, atol=1e-4)


# Cost


def test_twenty_pairs_at_both_ends_take_less_than_95_products():
    matrix = planted(like_a_mean_hessian())
    operator, widths = counting(matrix)
    pairs = extreme_eigenpairs(operator, 20)
    check(matrix, pairs, 20, "both", 1e-4)
    assert pairs.products == sum(widths) <= 95


def test_blocks_need_fewer_calls():
    operator, widths = counting(planted(like_a_mean_hessian()))
    pairs = extreme_eigenpairs(operator, 20, block=16)
    assert pairs.converged.all()
    assert pairs.products == sum(widths)
    assert len(widths) <= 20


def test_agrees_with_arpack():
    matrix = planted(like_a_mean_hessian(300))
    pairs = extreme_eigenpairs(matrix, 6, tolerance=1e-9)
    for which, found in (("LA", pairs.directions[:, :6]), ("SA", pairs.directions[:, 6:])):
        values, vectors = eigsh(matrix, 6, which=which, tol=1e-12)
        part = pairs.values[:6] if which == "LA" else pairs.values[6:]
        np.testing.assert_allclose(part, values[::-1], atol=1e-12)
        # Residual 1e-9 over the gap to the seventh value, 0.03.
        assert Subspace(found).principal_angles(Subspace(vectors)).max() < 1e-7


MEMORY_SCRIPT = """
import resource
import numpy as np
from scipy.sparse.linalg import LinearOperator
from geomadv.linalg import extreme_eigenpairs
d = 300_000
entries = np.zeros(d)
entries[[5, 70, 900, 3000]] = [4.0, 3.0, -2.0, -1.0]
operator = LinearOperator((d, d), matvec=None, matmat=lambda v: entries[:, None] * v, dtype=float)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
pairs = extreme_eigenpairs(operator, 2)
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
assert np.allclose(pairs.values, [4, 3, -1, -2], atol=1e-3), pairs.values
print(grown / (8 * d), pairs.products)
"""


def test_a_huge_operator_needs_memory_for_the_basis_only():
    output = subprocess.run(
        [sys.executable, "-c", MEMORY_SCRIPT],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    vectors, products = map(float, output.stdout.split())
    # The basis, three arrays of four directions (product, sign, copy), vectors in flight, and code
    # loaded on first use, some 20 MB: 8 vectors.
    assert vectors < products + 3 * 4 + 8 + 8


def test_single_precision_operators():
    matrix = planted(like_a_mean_hessian(200)).astype(np.float32)
    pairs = extreme_eigenpairs(matrix, 5)
    assert pairs.values.dtype == pairs.directions.dtype == torch.float64
    # float32 products: rounding eps sqrt(D), beside the tolerance.
    np.testing.assert_allclose(true_residuals(matrix, pairs), pairs.residuals, atol=2e-6)
    assert pairs.converged.all()


# Asymmetry: finite differences on networks with kinks


@pytest.mark.parametrize("share", [1e-3, 0.03, 0.3])
def test_asymmetric_operators_are_never_called_converged_wrongly(share):
    symmetric = planted(like_a_mean_hessian(400))
    norm = np.linalg.norm(symmetric)
    matrix = symmetric + antisymmetric(400, share * norm)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnconvergedWarning)
        pairs = extreme_eigenpairs(matrix, 10, tolerance=1e-4)
    true = true_residuals(matrix, pairs)
    # The scale is the largest Ritz value, whose error is second order in the residual.
    np.testing.assert_allclose(pairs.residuals, true, rtol=1e-2)
    assert torch.equal(pairs.converged, pairs.residuals <= 1e-4)
    # Values of the symmetric part, to the residual outside the space; it stops there.
    exact = expected(np.linalg.eigvalsh(symmetric), 10, "both")
    np.testing.assert_allclose(pairs.values, exact, atol=2 * true.max())
    assert pairs.products < 120
    assert 0 < pairs.asymmetry <= share


def test_the_reason_of_failure_is_said():
    symmetric = planted(like_a_mean_hessian(400))
    noise = antisymmetric(400, 0.1 * np.linalg.norm(symmetric))
    with pytest.warns(UnconvergedWarning, match="is asymmetric by") as caught:
        extreme_eigenpairs(symmetric + noise, 10)
    assert caught[0].filename == __file__
    with pytest.warns(UnconvergedWarning, match="asymmetric by 0.1 of its norm"):
        all_eigenpairs(symmetric + noise)
    with pytest.warns(UnconvergedWarning, match="25 products were not enough; raise max_products"):
        pairs = extreme_eigenpairs(symmetric, 10, max_products=25)
    assert pairs.products == 25
    assert not pairs.converged.all()
    np.testing.assert_allclose(pairs.residuals, true_residuals(symmetric, pairs), rtol=1e-2)


# Full spectrum


@pytest.mark.parametrize("name", SPECTRA)
def test_full_spectrum(name):
    matrix = planted(SPECTRA[name])
    operator, widths = counting(matrix)
    pairs = all_eigenpairs(operator)
    check(matrix, pairs, 60, "positive", 1e-12)
    assert pairs.products == sum(widths) == 60
    assert len(widths) == 1
    assert pairs.complete


def test_full_spectrum_of_zero_and_of_one_dimension():
    zero = all_eigenpairs(np.zeros((4, 4)))
    np.testing.assert_array_equal(zero.values, np.zeros(4))
    assert zero.converged.all()
    assert zero.asymmetry == 0
    np.testing.assert_allclose(all_eigenpairs(np.array([[-3.0]])).values, [-3])
    np.testing.assert_allclose(all_eigenpairs(np.array([[2, 1], [1, 2]])).values, [3, 1])


def test_full_spectrum_residuals_contain_the_asymmetry():
    symmetric = planted(like_a_mean_hessian(300))
    matrix = symmetric + antisymmetric(300, 0.05 * np.linalg.norm(symmetric))
    with pytest.warns(UnconvergedWarning, match="asymmetric by 0.05 of"):
        pairs = all_eigenpairs(matrix)
    np.testing.assert_allclose(pairs.values, np.linalg.eigvalsh(symmetric)[::-1], atol=1e-14)
    np.testing.assert_allclose(pairs.residuals, true_residuals(matrix, pairs), rtol=1e-10)
    assert not pairs.converged.any()


def test_the_matrix_is_not_changed():
    matrix = planted(SPECTRA["indefinite"])
    copy = matrix.copy()
    extreme_eigenpairs(matrix, 3)
    all_eigenpairs(matrix)
    np.testing.assert_array_equal(matrix, copy)


# Seeds


def same(first: EigenPairs, second: EigenPairs) -> bool:
    fields = ("values", "directions", "residuals", "converged")
    return all(torch.equal(getattr(first, f), getattr(second, f)) for f in fields)


def test_seeds():
    matrix = planted(like_a_mean_hessian(200))
    first, again, other = (extreme_eigenpairs(matrix, 5, seed=s) for s in (3, 3, 4))
    assert same(first, again)
    assert not same(first, other)
    # Another start vector: the same pairs to the tolerance.
    np.testing.assert_allclose(first.values, other.values, atol=1e-4)


# Bad input


def test_bad_arguments_are_refused():
    matrix = np.eye(10)
    for k, which, most in ((0, "both", 5), (6, "both", 5), (11, "positive", 10)):
        with pytest.raises(InputError, match=rf"k: expected 1 to {most} .*found {k}"):
            extreme_eigenpairs(matrix, k, which)
    with pytest.raises(InputError, match="which: expected one of"):
        extreme_eigenpairs(matrix, 2, "LM")
    for tolerance in (0, -1, np.nan, 1):
        with pytest.raises(InputError, match="tolerance"):
            extreme_eigenpairs(matrix, 2, tolerance=tolerance)
    with pytest.raises(InputError, match="block: expected at least 1"):
        extreme_eigenpairs(matrix, 2, block=0)
    with pytest.raises(InputError, match="seed: expected at least 0"):
        extreme_eigenpairs(matrix, 2, seed=-1)
    with pytest.raises(InputError, match="max_products: expected at least 4"):
        extreme_eigenpairs(matrix, 2, max_products=3)
    for bad in (np.ones((3, 4)), np.ones(3), np.ones((0, 0))):
        with pytest.raises(InputError, match="operator: expected a square"):
            extreme_eigenpairs(bad, 1)
    with pytest.raises(InputError, match=r"real symmetric operator, found complex128"):
        all_eigenpairs(1j * matrix)
    with pytest.raises(InputError, match=r"D = 4096, found D = 5000.*spectral_density"):
        all_eigenpairs(diagonal(np.ones(5000)))


def test_a_product_with_nan_is_named():
    matrix = np.eye(10)
    matrix[3, 3] = np.nan
    with pytest.raises(InputError, match="product number 1 contains NaN"):
        extreme_eigenpairs(matrix, 2)
    fourth = LinearOperator(
        (10, 10), matvec=None, matmat=lambda v: np.where(v[3] != 0, np.nan, v), dtype=float
    )
    with pytest.raises(InputError, match="product number 4 contains NaN"):
        all_eigenpairs(fourth)
