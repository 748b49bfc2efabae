"""Figures as tables of numbers: whatever axes hold, each point once."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from results_for_tests import result
from test_plotting import draw

from geomadv import plotting
from geomadv.plotting.parts import show_image
from geomadv.plotting.style import current_look

COLUMNS = ["panel", "title", "x_label", "y_label", "kind", "series", "color", "x", "y", "value"]
DRAWN = {
    "line": (lambda a: a.plot([1, 2], [3, 4], "r", label="s"), "line", [1, 2], [3, 4], []),
    "points": (lambda a: a.plot([1, 2], [3, 4], "o"), "points", [1, 2], [3, 4], []),
    "scatter": (lambda a: a.scatter([1, 2], [3, 4]), "points", [1, 2], [3, 4], []),
    "baseline": (lambda a: a.axhline(7), "line", [], [7], []),
    "mark": (lambda a: a.axvline(7), "line", [7], [], []),
    "span": (lambda a: a.axvspan(2, 3), "span", [2, 3], [], []),
    "level": (lambda a: a.axhspan(2, 3), "span", [], [2, 3], []),
    "intervals": (lambda a: a.vlines([1], [2], [3]), "segment", [1, 1], [2, 3], []),
    "bars": (lambda a: a.bar([1], [5], width=2), "bar", [0], [5], []),
    "stairs": (lambda a: a.stairs([5, 6], [0, 1, 2]), "bar", [0, 1], [5, 6], []),
    "table": (lambda a: a.imshow([[1, 2]]), "cell", [0, 1], [0, 0], [1, 2]),
    "mesh": (lambda a: a.pcolormesh([0, 1, 3], [0, 1], [[5, 6]]), "cell", [0, 1], [0, 0], [5, 6]),
}


@pytest.mark.parametrize("kind", DRAWN)
def test_what_is_drawn_is_in_the_table(kind):
    make, name, *columns = DRAWN[kind]
    figure = Figure()
    axes = figure.subplots()
    axes.set(title="a\nb", xlabel="x", ylabel="y")
    make(axes)
    data = plotting.figure_data(figure)
    assert list(data.columns) == COLUMNS
    assert set(data["kind"]) == {name}
    assert set(data["title"]) == {"a b"}
    for column, expected in zip(("x", "y", "value"), columns, strict=True):
        assert data[column].dropna().tolist() == expected


def test_a_band_has_two_edges_also_with_a_gap():
    figure = Figure()
    low, high = np.array([1.0, 2, np.nan, 4]), np.array([5.0, 6, 7, 8])
    figure.subplots().fill_between(range(4), low, high, color="#123456")
    data = plotting.figure_data(figure)
    for edge, values in (("lower", low), ("upper", high)):
        part = data[data["kind"] == f"band, {edge} edge"]
        assert part["x"].tolist() == [0, 1, 3]
        assert part["y"].tolist() == values[[0, 1, 3]].tolist()
    assert set(data["color"]) == {"#123456"}


def test_pictures_are_no_data():
    figure = Figure()
    show_image(figure.subplots(), np.zeros((1, 4, 4)))
    empty = plotting.figure_data(figure)
    assert len(empty) == 0
    assert list(empty.columns) == COLUMNS
    assert len(plotting.figure_data(Figure())) == 0


def test_a_saved_figure_stands_beside_its_numbers(tmp_path):
    ds = result("universal")
    figure = draw("universal", ds)
    path = plotting.save_figure(figure, tmp_path, "universal")
    data = pd.read_csv(path.with_suffix(".csv"))
    assert data["kind"].tolist() == plotting.figure_data(figure)["kind"].tolist()
    shown = data[(data["series"] == "held-out images") & (data["x_label"] != "")]
    rates = 100 * ds["held_out_fooling_rate"].mean("repeat")
    last = shown[shown["panel"] == shown["panel"].max()]
    np.testing.assert_allclose(last["y"], rates)
    np.testing.assert_allclose(last["x"], ds["size"])
    cycle = current_look()["axes.prop_cycle"].by_key()["color"]
    assert set(shown["color"]) == {to_hex(f"#{cycle[1].removeprefix('#')}")}
