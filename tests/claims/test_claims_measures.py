"""What claims measure, in closed form: means without the missing, levels that are reached."""

import math

import numpy as np
import pytest

from geomadv.claims import NotMeasured
from geomadv.claims.measures import above_zero, at, averaged, marginal, mean, reached

NAN = math.nan


def test_means_leave_out_what_is_missing():
    weights = np.array([[1.0, 1, 1], [0, 2, 1]])
    values = np.array([[1.0, NAN], [4, 5], [NAN, NAN]])
    np.testing.assert_array_equal(mean(weights, values), [[2.5, 5], [4, 5]])
    np.testing.assert_array_equal(mean(weights, values[:, 1] * NAN), [NAN, NAN])
    rows = np.array([[1.0, NAN, 7], [NAN, 2, NAN]])
    np.testing.assert_array_equal(averaged(rows, np.array([[1.0, 1, 2]])), [5, 2])


def test_two_marginals_vary_both():
    table = np.array([[1.0, 2, 4], [0, 3, 5]])  # images, draws: a sum of both but for one cell
    weights, draws = np.array([[1.0, 1], [2, 0]]), np.array([[1.0, 1, 1], [0, 0, 3]])
    found = marginal(weights, draws, table.mean(1), table.mean(0))
    np.testing.assert_allclose(found, [2.5, 7 / 3 + 4.5 - 2.5])


@pytest.mark.parametrize(
    ("curve", "level", "wanted"),
    [
        ([0, 0.5, 0.5], 0.5, 1.0),
        ([0.5, 0.4, 0.2], 0.5, 0.0),
        ([0, 0.25, 0.75], 0.5, 2.0),
        ([0, 1, 0], 0.25, 0.25),
        ([0, 0.1, 0.4], 0.5, NAN),
    ],
    ids=["touched", "at-once", "between", "first-of-two", "never"],
)
def test_a_level_is_reached_where_the_straight_lines_meet_it(curve, level, wanted):
    (found,) = reached(np.array([0.0, 1, 3]), np.array([curve], float), level)
    np.testing.assert_equal(found, wanted)


def test_each_row_has_a_place_of_its_own():
    curves = np.array([[0.0, 1], [4, 0]])
    np.testing.assert_allclose(at(np.array([0.0, 2]), curves, np.array([0.5, 1])), [0.25, 2])
    np.testing.assert_allclose(at(np.array([0.0, 2]), curves, 1.0), [0.5, 2])


def test_an_excess_is_certain_if_nearly_all_resamples_have_it():
    """Of 1000, the 25th smallest decides; the estimate itself is no resample."""
    excess = np.ones(1001)
    excess[0] = -1
    excess[1:25] = -1
    above_zero(excess, "chance")
    for doubtful in (0.0, -1.0, NAN):
        excess[1:26] = doubtful
        with pytest.raises(NotMeasured, match="chance"):
            above_zero(excess, "chance")
