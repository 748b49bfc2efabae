"""How far two results agree: identical, to rounding, different, and what is not compared."""

import math

import numpy as np
import pytest
import xarray as xr

from geomadv.results.agreement import BOUND, agreements, told

ONE = np.array([1.0, -2.0, np.nan, np.inf])
AGREE = {
    "equal": (ONE, ONE, "identical"),
    "below the bound": (ONE, ONE * (1 + 0.99 * BOUND), "to rounding"),
    "above the bound": (ONE, ONE * (1 + 1.01 * BOUND), "different"),
    "small beside the largest": (np.array([1.0, 0.0]), np.array([1.0, BOUND / 2]), "to rounding"),
    "another missing": (ONE, ONE[[2, 1, 0, 3]], "different"),
    "another infinite": (ONE, -ONE, "different"),
    "infinite for a number": (ONE, np.where(ONE == 1, np.inf, ONE), "different"),
    "no scale": (np.zeros(2), np.array([0.0, 1e-30]), "different"),
    "empty": (np.zeros(0), np.zeros(0), "identical"),
    "a whole number": (np.array([10**6]), np.array([10**6 + 1]), "different"),
    "a truth": (np.array([True]), np.array([False]), "different"),
    "texts": (np.array(["a"]), np.array(["b"]), "different"),
    "longer": (np.zeros(2), np.zeros(3), "different"),
    "other numbers": (np.zeros(2), np.zeros(2, int), "different"),
    "large": (np.arange(3e6), np.arange(3e6) + (np.arange(3e6) == 3e6 - 1), "to rounding"),
}


def found(one, other, units) -> str:
    first, second = (xr.Dataset({"v": ("x", values, {"units": units})}) for values in (one, other))
    (agreement,) = agreements(first, second)
    return agreement.verdict


@pytest.mark.parametrize(("one", "other", "verdict"), AGREE.values(), ids=AGREE)
def test_agreement(one, other, verdict):
    assert found(one, other, "image units") == verdict


def test_an_infinite_gap_is_called_so():
    ones = xr.Dataset({"v": ("x", [1.0, 2.0], {"units": "image units"})})
    (agreement,) = agreements(ones, ones.where(ones["v"] < 2, np.inf))
    assert "missing or infinite in one" in str(agreement)
    assert math.isinf(agreement.difference)


def test_pure_numbers_and_angles_are_parts_of_one():
    small = np.array([1e-7, 2e-8])
    for units in ("1", "radian"):
        assert found(small, -small, units) == "to rounding"
        assert found(small, small + 1.01 * BOUND, units) == "different"
    assert found(small, -small, "score units") == "different"


def test_agreement_of_what_only_one_has_and_of_durations():
    scalar = xr.Dataset({"a": ((), 1.0), "t": ((), 1.0, {"units": "s"}), "c": ("y", [1])})
    other = xr.Dataset({"b": ((), 1.0), "t": ((), 2.0, {"units": "s"}), "c": ("z", [1])})
    found = {a.name: a.verdict for a in agreements(scalar, other)}
    assert found == {"a": "different", "b": "different", "t": "a duration", "c": "different"}


def test_axes_in_another_order_are_another_result():
    ones = xr.Dataset({"v": (("x", "y"), np.eye(2))})
    found = [*agreements(ones, ones.transpose())]
    assert [(a.verdict, a.note) for a in found] == [("different", "('x', 'y') -> ('y', 'x')")]


def test_how_many_differ_and_by_how_much_is_said():
    first = xr.Dataset({"v": ("x", [4.0, 2.0, np.nan]), "n": ("x", [1, 2, 3])})
    second = xr.Dataset({"v": ("x", [4.0, 1.0, np.nan]), "n": ("x", [1, 3, 4])})
    numbers, whole = agreements(first, second)
    assert numbers.difference == 0.25
    assert "1 of 3 differ, by up to 1: relative 0.25" in numbers.note
    assert whole.note == "2 of 3 differ"
    assert told([numbers, whole]) == "2 different"
    assert not numbers.agrees
    assert next(agreements(first, second, bound=0.25)).agrees
