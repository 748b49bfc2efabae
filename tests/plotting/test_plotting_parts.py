"""Small painters of figures, in closed form."""

import math

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from geomadv.labels import percent
from geomadv.plotting.parts import (
    class_ticks,
    histogram,
    log_edges,
    own_row,
    relative_norm,
    short,
    show_direction,
    spread,
    two_lines,
)


@pytest.mark.parametrize(
    ("share", "wanted"),
    [
        (0, "0"),
        (0.0003, "0.03"),
        (0.0156, "1.6"),
        (0.0994, "9.9"),
        (0.0996, "10"),
        (0.996, "100"),
        (1, "100"),
    ],
)
def test_a_share_has_the_digits_that_tell_it_from_its_neighbours(share, wanted):
    assert percent(share) == wanted


def test_names_are_cut_and_broken():
    assert [short(name, 4) for name in ("cat", "bird", "horse")] == ["cat", "bird", "hor…"]
    assert two_lines("resnet-20-wide") == "resnet-20\n-wide"
    assert two_lines("resnet-20-wide", 0) == "resnet\n-20-wide"
    assert two_lines("plain") == "plain"


def test_cells_of_a_logarithmic_axis_end_half_way():
    np.testing.assert_allclose(log_edges(np.array([1.0, 4, 16])), [0.5, 2, 8, 32])
    np.testing.assert_allclose(log_edges(np.array([3.0])), [1.5, 6])


def test_a_band_is_missing_where_all_values_are():
    values = xr.DataArray([[1.0, 3, math.nan], [math.nan] * 3], dims=("d", "draw"))
    for found, wanted in zip(spread(values, "draw"), (1, 2, 3), strict=True):
        np.testing.assert_array_equal(found, [wanted, math.nan])
    low, _, high = spread(values[:1], "draw", 0.25, 0.75)
    assert (low.item(), high.item()) == (1.5, 2.5)


def test_the_row_of_the_own_network_is_taken():
    ds = xr.Dataset({"v": ("network", [1, 2, 3])}, {"network": ["a", "b", "c"]})
    assert own_row(ds.assign_attrs(network="b"))["v"] == 2
    assert own_row(ds.assign_attrs(network="z"))["v"] == 1
    single = xr.Dataset({"v": ((), 7)})
    assert own_row(single) is single


def test_bars_are_percent_of_the_finite_values():
    axes = Figure().subplots()
    histogram(axes, np.array([0.5, 1.5, 1.6, 1.7, math.nan, math.inf]), np.arange(3.0))
    assert [bar.get_height() for bar in axes.patches] == [25, 75]


def test_zero_of_a_direction_is_mid_grey_and_beyond_the_largest_is_nothing():
    axes = Figure().subplots()
    show_direction(axes, np.array([[[-2.0, 0, 1]]]))
    np.testing.assert_allclose(axes.images[0].get_array(), [[0, 0.5, 0.75]])


def test_long_class_names_stand_upright_and_norms_are_percent():
    axes = Figure().subplots()
    for names, rotation in ((["0", "10"], 0), (["cat", "x"], 90)):
        class_ticks(axes, names)
        assert {label.get_rotation() for label in axes.get_xticklabels()} == {rotation}
    ds = xr.Dataset({"norm": ("n", [1.0, 3]), "mean_image_norm": ((), 4.0)})
    assert relative_norm(ds).to_numpy().tolist() == [25, 75]


def test_no_direction_at_all_is_as_grey_as_zero():
    axes = Figure().subplots()
    show_direction(axes, np.zeros((1, 4, 4)))
    assert (axes.images[0].get_array() == 0.5).all()
