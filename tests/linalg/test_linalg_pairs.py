"""Values and residuals that are measured with the directions themselves, in closed form."""

import math

import numpy as np
import pytest
import torch

from geomadv.errors import UnconvergedWarning
from geomadv.linalg import EigenPairs
from geomadv.linalg.pairs import measured_pairs

# e_0 is an eigenvector, (e_1 + e_2) / sqrt(2) is none: v'Hv = -1.5, ||Hv - v v'Hv|| = 2.5.
H = np.diag([3.0, -4, 1])
DIRECTIONS = np.array([[1.0, 0, 0], [0, math.sqrt(0.5), math.sqrt(0.5)]]).T


def solved() -> EigenPairs:
    """What a solver might have said, all of it wrong but the directions and the products."""
    wrong = torch.full((2,), 9.0, dtype=torch.float64)
    return EigenPairs(wrong, torch.from_numpy(DIRECTIONS), wrong, wrong > 0, 5, 0.25)


@pytest.mark.parametrize(("tolerance", "converged"), [(0.01, [True, False]), (0.84, [True] * 2)])
@pytest.mark.filterwarnings("ignore::geomadv.errors.UnconvergedWarning")
def test_a_direction_is_measured_by_its_own_product(tolerance, converged):
    found = measured_pairs(H, solved(), tolerance)
    np.testing.assert_allclose(found.values, [3, -1.5], atol=1e-15)
    np.testing.assert_allclose(found.residuals, [0, 2.5 / 3], atol=1e-15)
    np.testing.assert_array_equal(found.directions, DIRECTIONS)
    assert found.converged.tolist() == converged
    assert (found.products, found.asymmetry) == (7, 0.25)


def test_what_is_no_eigenvector_is_warned_of():
    with pytest.warns(
        UnconvergedWarning, match=r"1 of 2 eigenpairs .*0\.01, up to 0\.83, measured"
    ):
        measured_pairs(H, solved(), 0.01)
