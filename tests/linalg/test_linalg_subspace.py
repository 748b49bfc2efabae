"""Subspaces: exact projections on coordinate frames, then properties, then SciPy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import subspace_angles

from geomadv.errors import InputError
from geomadv.linalg import Subspace, fix_sign, orthonormal, uniform_directions

EPS = torch.finfo(torch.float64).eps


def gaussian(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


# Closed forms


def test_coordinate_frame_projects_exactly():
    frame = torch.eye(12, dtype=torch.float64)[:, [3, 0, 7]]
    subspace = Subspace(5 * frame)
    assert (subspace.dimension, subspace.ambient_dimension) == (3, 12)
    assert torch.equal(subspace.basis, frame)
    images = gaussian(4, 3, 2, 2)
    expected = torch.zeros(4, 12, dtype=torch.float64)
    expected[:, [0, 3, 7]] = images.flatten(1)[:, [0, 3, 7]]
    assert torch.equal(subspace.project(images), expected.reshape(images.shape))
    assert torch.equal(subspace.coordinates(images), images.flatten(1)[:, [3, 0, 7]])
    vector = images[0].flatten()
    assert torch.equal(subspace.project(vector), expected[0])
    assert subspace.coordinates(vector).shape == (3,)
    assert subspace.norm_fraction(vector).shape == ()
    assert torch.equal(subspace.norm_fraction(frame.T), torch.ones(3, dtype=torch.float64))


def test_dependent_and_zero_columns_are_dropped_in_order():
    a, b, c = torch.eye(5, dtype=torch.float64)[:3]
    columns = torch.stack([0 * a, a, 2 * a, a + b, 3 * a - b, a + b + 1e-9 * c, c], dim=1)
    # 1e-9 is far above the tolerance 100 sqrt(7) eps = 6e-14 of float64: c enters with column 5.
    basis = Subspace(columns).basis
    torch.testing.assert_close(basis, torch.stack([a, b, c], dim=1), rtol=0, atol=1e-6)
    # In float32 the tolerance is 3e-5: column 5 is dependent and c comes from the last column.
    assert torch.equal(Subspace(columns.float()).basis, torch.stack([a, b, c], dim=1).float())


@pytest.mark.parametrize("angle", [1e-12, 1e-6, 0.3, np.pi / 4, 1.2, np.pi / 2 - 1e-12])
def test_principal_angles_keep_tiny_and_almost_right_angles(angle):
    e = torch.eye(6, dtype=torch.float64)
    first = Subspace(e[:, :2])
    turned = np.cos(angle) * e[:, 1] + np.sin(angle) * e[:, 2]
    second = Subspace(torch.stack([e[:, 0], turned], dim=1))
    angles = first.principal_angles(second)
    # The angle's rounding, eps, plus that of the entries; relative for tiny angles.
    torch.testing.assert_close(
        angles, torch.tensor([0.0, angle], dtype=torch.float64), rtol=1e-12, atol=4e-16
    )


def test_principal_angles_of_different_dimensions_are_ascending_and_symmetric():
    small, large = Subspace(gaussian(40, 3)), Subspace(gaussian(40, 9, seed=1))
    angles = small.principal_angles(large)
    assert angles.shape == (3,)
    assert torch.all(angles.diff() >= 0)
    torch.testing.assert_close(angles, large.principal_angles(small))
    expected = subspace_angles(small.basis.numpy(), large.basis.numpy())[::-1]
    np.testing.assert_allclose(angles.numpy(), expected, atol=1e-14)


def test_fix_sign_makes_the_largest_component_positive_first_of_ties():
    columns = np.array([[1.0, 2.0, 0.0], [-3.0, -2.0, 0.0], [2.0, 1.0, 0.0]])
    expected = np.array([[-1.0, 2.0, 0.0], [3.0, -2.0, 0.0], [-2.0, 1.0, 0.0]])
    np.testing.assert_array_equal(fix_sign(columns), expected)
    assert torch.equal(fix_sign(torch.from_numpy(columns)), torch.from_numpy(expected))
    assert columns[1, 0] == -3.0


# Properties


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 90), st.integers(1, 150), st.integers(0, 1000))
def test_basis_is_orthonormal_and_keeps_the_order_of_spans(d, m, seed):
    columns = gaussian(d, m, seed=seed)
    subspace = Subspace(columns)
    basis = subspace.basis
    identity = torch.eye(subspace.dimension, dtype=torch.float64)
    # Twice-orthogonalised: a modest multiple of eps.
    torch.testing.assert_close(basis.T @ basis, identity, rtol=0, atol=100 * EPS)
    assert subspace.dimension == min(d, m)
    for j in range(1, min(d, subspace.dimension) + 1, 7):
        part, leading = columns[:, :j], subspace.leading(j)
        # For Gaussian columns the first j are independent, so span j is span j; a projection's
        # rounding is eps times the norm, and random squares have condition numbers up to 1e3.
        torch.testing.assert_close(leading.project(part.T), part.T, rtol=0, atol=1e-9)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 4), st.integers(1, 80), st.integers(0, 1000))
def test_dependent_columns_between_independent_ones_leave_the_basis_unchanged(gap, r, seed):
    frame = torch.linalg.qr(gaussian(100, r, seed=seed))[0]
    # Every (gap + 1)-th column is new, the others are combinations of those before.
    mixing = gaussian(r, r * (gap + 1), seed=seed + 1)
    for j in range(mixing.shape[1]):
        known = j // (gap + 1)
        mixing[known + 1 :, j] = 0
        if j % (gap + 1) == 0:
            mixing[:, j] = 0
            mixing[known, j] = 1
    basis = Subspace(frame @ mixing).basis
    torch.testing.assert_close(basis, frame, rtol=0, atol=100 * EPS)


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 40), st.integers(0, 1000), st.booleans())
def test_projection_is_idempotent_and_splits_the_space(d, seed, single):
    dtype = torch.float32 if single else torch.float64
    atol = 100 * torch.finfo(dtype).eps
    subspace = Subspace(gaussian(d, 1 + seed % d, seed=seed, dtype=dtype))
    x = gaussian(5, d, seed=seed + 1, dtype=dtype)
    inside = subspace.project(x)
    torch.testing.assert_close(subspace.project(inside), inside, rtol=0, atol=atol)
    outside = x - inside
    assert subspace.coordinates(outside).abs().max() < atol
    share = subspace.norm_fraction(x)
    assert torch.all((share >= 0) & (share <= 1))
    pythagoras = inside.norm(dim=1) ** 2 + outside.norm(dim=1) ** 2
    torch.testing.assert_close(pythagoras, x.norm(dim=1) ** 2, rtol=atol, atol=0)
    if subspace.dimension < d:
        complement = subspace.complement_sample(d - subspace.dimension, seed)
        torch.testing.assert_close(complement.project(x), outside, rtol=0, atol=atol)


def test_arrays_give_arrays_with_the_same_numbers():
    subspace = Subspace(gaussian(12, 4).numpy())
    x = gaussian(3, 12)
    for method in (subspace.project, subspace.coordinates, subspace.norm_fraction):
        result = method(x.numpy())
        assert isinstance(result, np.ndarray)
        np.testing.assert_array_equal(result, method(x).numpy())
    assert subspace.project(x.float()).dtype == torch.float64
    assert subspace.to(dtype=torch.float32).project(x.float()).dtype == torch.float32


def test_blocks_agree_with_householder_qr():
    columns = gaussian(400, 300)
    q = torch.linalg.qr(columns)[0]
    q = q * torch.where((q * columns).sum(0) < 0, -1.0, 1.0)
    # Forward error of QR: eps times the condition number, about 15 here, and some sqrt(n).
    torch.testing.assert_close(Subspace(columns).basis, q, rtol=0, atol=1e-12)


@pytest.mark.parametrize("most", [1.0, 0.9, 0.999999])
def test_many_columns_have_the_basis_of_few_ones(monkeypatch, most):
    # Cosine of a pair of columns: 0.9 leaves the smallest eigenvalue of the products near the
    # limit, 0.999999 is far below it, at 1 a column is dropped.
    columns = gaussian(200, 40) * torch.logspace(-100, 100, 40, dtype=torch.float64)
    other = columns[:, 0] / columns[:, 0].norm()
    columns[:, 25] = most * other + (1 - most**2) ** 0.5 * gaussian(200, seed=1) / 200**0.5
    few = Subspace(columns)
    monkeypatch.setattr(orthonormal, "_MANY", 0)
    many = Subspace(columns)
    assert torch.equal(many.origin, few.origin)
    assert many.dimension == (39 if most == 1 else 40)
    # Rounding times the condition number of the pair, 1 / sin of its angle.
    error = 100 * EPS / max((1 - most**2) ** 0.5, 0.1)
    torch.testing.assert_close(many.basis, few.basis, rtol=0, atol=error)
    unit = torch.eye(many.dimension, dtype=torch.float64)
    torch.testing.assert_close(many.basis.T @ many.basis, unit, rtol=0, atol=100 * EPS)


def test_nearly_dependent_columns_stay_orthonormal():
    # A Hilbert matrix: numerical rank about 12, but each column's own remainder decays more slowly.
    i = torch.arange(60, dtype=torch.float64)
    basis = Subspace(1 / (i[:, None] + i[None, :] + 1)).basis
    assert 8 <= basis.shape[1] < 60
    gram = basis.T @ basis
    torch.testing.assert_close(gram, torch.eye(len(gram), dtype=gram.dtype), rtol=0, atol=100 * EPS)


# Random directions


def test_random_unit_is_uniform_in_the_subspace():
    subspace = Subspace(gaussian(50, 8))
    vectors = subspace.random_unit(4000, seed=3)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4000, dtype=torch.float64))
    coordinates = subspace.coordinates(vectors)
    # Uniform: covariance I / d; its entries have standard deviation < sqrt(2) / (d sqrt(n)).
    covariance = coordinates.T @ coordinates / 4000
    assert (covariance - torch.eye(8, dtype=torch.float64) / 8).abs().max() < 5 * 1.42 / (8 * 63)
    assert torch.equal(vectors, subspace.random_unit(4000, seed=3))
    assert not torch.equal(vectors, subspace.random_unit(4000, seed=4))


def test_complement_sample_is_orthogonal_and_uniform():
    subspace = Subspace(gaussian(30, 20, dtype=torch.float32))
    sample = subspace.complement_sample(10, seed=1)
    assert sample.basis.dtype == torch.float32
    # Rounding to float32 of unit vectors.
    assert (subspace.basis.T @ sample.basis).abs().max() < 1e-6
    first = torch.stack([subspace.complement_sample(2, seed=s).basis[:, 0] for s in range(300)])
    # Uniform: the mean vanishes with standard deviation 1 / sqrt(30 x 300) per component.
    assert first.mean(dim=0).abs().max() < 5 / (30 * 300) ** 0.5


def test_uniform_directions_are_unit_and_isotropic():
    vectors = uniform_directions(5000, 10, seed=1)
    assert vectors.dtype == torch.float32
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(5000))
    # Standard deviation of a component's mean: 1 / sqrt(10 x 5000).
    assert vectors.mean(dim=0).abs().max() < 5 / (10 * 5000) ** 0.5
    with pytest.raises(InputError, match="n: expected at least 1"):
        uniform_directions(0, 10)


# Bad input


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (torch.zeros(5, 0), r"found \(5, 0\)"),
        (torch.ones(5), "directions\\[:, None\\]"),
        (torch.zeros(5, 2), "all 2 columns are zero"),
        (torch.tensor([[1.0, float("nan")], [0.0, 1.0]]), "1 of 2 columns contain NaN"),
        (torch.ones(3, 2, dtype=torch.int64), "floating-point"),
    ],
)
def test_bad_directions_are_refused(columns, message):
    with pytest.raises(InputError, match=message):
        Subspace(columns)


def test_bad_arguments_are_refused_with_both_numbers():
    subspace = Subspace(gaussian(12, 4))
    with pytest.raises(InputError, match=r"12, found \(3, 11\)"):
        subspace.project(torch.ones(3, 11))
    with pytest.raises(InputError, match=r"found \(3, 3, 4\)"):
        subspace.coordinates(torch.ones(3, 3, 4))
    with pytest.raises(InputError, match=r"1 to 4.*found 5"):
        subspace.leading(5)
    with pytest.raises(InputError, match=r"1 to 4.*found 0"):
        subspace.leading(0)
    with pytest.raises(InputError, match=r"1 to 8.*found 9"):
        subspace.complement_sample(9)
    with pytest.raises(InputError, match="at least 1"):
        subspace.random_unit(0)
    with pytest.raises(InputError, match=r"R\^12, found one of R\^13"):
        subspace.principal_angles(Subspace(gaussian(13, 2)))
    with pytest.raises(InputError, match="one direction per column"):
        fix_sign(np.ones(3))
