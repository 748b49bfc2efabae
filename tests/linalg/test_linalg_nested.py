"""Nested subspaces: sizes, order and dependence, against subspaces built one by one."""

import numpy as np
import pytest
import torch

from geomadv.errors import InputError
from geomadv.linalg import NestedSubspaces, Subspace


def gaussian(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_every_step_spans_its_columns():
    columns = gaussian(12, 8)
    nested = NestedSubspaces(columns, 2)
    assert nested.steps == 4
    assert nested.ambient_dimension == 12
    np.testing.assert_array_equal(nested.sizes, [0, 2, 4, 6, 8])
    for d in range(1, 5):
        own = Subspace(columns[:, : 2 * d])
        # Both bases are orthonormal to rounding; angles are as exact as the bases.
        assert nested.subspace(d).principal_angles(own).max() < 1e-12


def test_dependent_and_zero_columns_are_counted_at_their_step():
    a = gaussian(6, 3)
    zero = torch.zeros(6, 1, dtype=torch.float64)
    columns = torch.cat(
        [a[:, :1], 2 * a[:, :1], a[:, 1:2], zero, a[:, 2:], a[:, :1] + a[:, 1:2]], 1
    )
    nested = NestedSubspaces(columns, 2)
    np.testing.assert_array_equal(nested.sizes, [0, 1, 2, 3])
    assert nested.subspace(2).principal_angles(Subspace(a[:, :2])).max() < 1e-12


def test_a_full_basis_ends_the_growth():
    nested = NestedSubspaces(gaussian(5, 12), 3)
    np.testing.assert_array_equal(nested.sizes, [0, 3, 5, 5, 5])
    torch.testing.assert_close(
        nested.basis.T @ nested.basis, torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-14
    )


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="width: expected a divisor of the 4 directions, found 3"):
        NestedSubspaces(gaussian(5, 4), 3)
    nested = NestedSubspaces(gaussian(5, 4), 2)
    for d in (0, 3):
        with pytest.raises(InputError, match=f"d: expected 1 to 2, found {d}"):
            nested.subspace(d)


def test_views_remember_which_directions_they_come_from():
    columns = gaussian(6, 3)[:, [0, 0, 1, 2]]
    whole = Subspace(columns)
    assert whole.origin.tolist() == [0, 2, 3]
    assert whole.leading(2).origin.tolist() == [0, 2]
    assert whole.to(dtype=torch.float32).origin.tolist() == [0, 2, 3]
