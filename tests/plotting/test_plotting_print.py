"""What an editor asks of every figure: n, bands, baselines, sizes, colours, ranges."""

import re
from functools import cache

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from results_for_tests import result
from test_plotting import OWN, draw, texts

from geomadv import plotting
from geomadv.labels import percent
from geomadv.plotting.figure import new_figure, note
from geomadv.plotting.parts import share_ticks
from geomadv.plotting.style import GREY, current_look

PAGES = [name for name in OWN if name != "tilting_slider"]


@cache
def drawn(name):
    return draw(name)


# Colours

# Deuteranopia in linear sRGB: Machado, Oliveira and Fernandes, "A physiologically-based model for
# simulation of color vision deficiency" (2009), severity 1.
DEUTERANOPIA = np.array(
    [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ]
)
# Linear sRGB to CIE XYZ, and the white point D65 (IEC 61966-2-1).
XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)


def seen(color, simulation=DEUTERANOPIA):
    """CIE L*a*b* of a colour as an eye with this deficiency sees it."""
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x, y, z = XYZ @ (simulation @ linear).clip(0, 1) / (XYZ @ np.ones(3))
    fx, fy, fz = (np.cbrt(t) if t > (6 / 29) ** 3 else t / (3 * (6 / 29) ** 2) + 4 / 29
                  for t in (x, y, z))  # fmt: skip
    return np.array([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])


def apart(one, two, simulation=DEUTERANOPIA):
    """Their distance, CIE76 Delta E."""
    return float(np.linalg.norm(seen(one, simulation) - seen(two, simulation)))


def test_the_distance_of_colours_is_that_of_the_literature():
    """White is L* = 100, sRGB's red 53.24, 80.09, 67.20; greys look alike to every eye."""
    np.testing.assert_allclose(seen("white"), [100, 0, 0], atol=1e-3)
    np.testing.assert_allclose(seen("red", np.eye(3)), [53.24, 80.09, 67.20], atol=0.02)
    assert apart("#808080", "#808080") == 0
    assert apart("#777777", "#888888") == pytest.approx(apart("#777777", "#888888", np.eye(3)))
    # Okabe and Ito's orange and vermilion, side by side: too near.
    assert apart("#E69F00", "#D55E00") < 20 < apart("#E69F00", "#D55E00", np.eye(3))


def test_all_colours_of_the_cycle_and_the_grey_of_baselines_are_told_apart():
    """Not only neighbours: a figure may use any two."""
    colors = [*current_look()["axes.prop_cycle"].by_key()["color"], GREY]
    pairs = [(a, b) for i, a in enumerate(colors) for b in colors[:i]]
    assert min(apart(a, b) for a, b in pairs) >= 20
    assert min(apart(a, b, np.eye(3)) for a, b in pairs) >= 20


@pytest.mark.parametrize("name", PAGES)
def test_baselines_are_grey(name):
    handles = [h for axes in drawn(name).axes for h in axes.get_legend_handles_labels()[0]]
    for one in [*drawn(name).legends, *(a.get_legend() for a in drawn(name).axes)]:
        handles += [] if one is None else one.legend_handles
    with mpl.rc_context(dict(current_look())):
        for handle in handles:
            label = str(handle.get_label())
            if re.search(r"random|uniform|noise|centroid|unprojected|frequent", label):
                get = handle.get_color if hasattr(handle, "get_color") else handle.get_facecolor
                color = np.ravel(to_rgb(np.squeeze(get()) if not isinstance(get(), str) else get()))
                assert np.ptp(color) == 0, label


# Words and sizes


@pytest.mark.parametrize("name", PAGES)
def test_a_figure_says_what_n_is_and_what_bands_mean(name):
    for own in OWN[name]:
        figure = drawn(name) if own == OWN[name][0] else draw(name, result(own))
        words = r"\d[\w ]* (images?|points?|draws|normals|perturbations|pairs)\b"
        assert re.search(words, figure.note), figure.note
        assert " ".join(figure.note.split()) in " ".join(texts(figure).split())
        # Ranges of draws and classes, intervals: not the surfaces of a space or outlines.
        areas = [c for axes in figure.axes for c in axes.collections if axes.name != "3d"]
        if any(isinstance(c, PolyCollection | LineCollection) and len(c.get_paths())
               and not c.get_label().startswith("random") for c in areas):  # fmt: skip
            assert re.search("band|bars|dark", figure.note), figure.note


@pytest.mark.parametrize("name", PAGES)
def test_titles_have_one_size(name):
    figure = drawn(name)
    titles = [figure._suptitle, *(axes.title for axes in figure.axes)]
    sizes = {title.get_fontsize() for title in titles if title is not None and title.get_text()}
    assert sizes == {8.0}


def test_the_note_stays_out_of_figures_of_the_callers():
    page = Figure()
    before = page.get_figheight()
    assert note(page, "9 images") is page
    assert (page.get_figheight(), page.texts) == (before, [])


@pytest.mark.parametrize("name", ["universal", "softmax_null_space", "score_curves"])
def test_the_note_lies_below_everything_else(name):
    """Legends below the figure, legends below axes, and parts of figures."""
    figure = draw(name)
    figure.draw_without_rendering()
    top = figure.texts[-1].get_window_extent().y1
    words = [axes.xaxis.label for axes in figure.axes]
    words += [t for one in figure.findobj(Legend) for t in one.get_texts()]
    assert len(words) > len(figure.axes)
    assert min(one.get_window_extent().y0 for one in words if one.get_text()) > top


def test_a_note_in_many_words_gets_lines_and_room():
    short, long = new_figure(3.3, 2), new_figure(3.3, 2)
    note(short, "9 images")
    note(long, *["n = 9"] * 40)
    assert 2 < short.get_figheight() < long.get_figheight()
    assert long.texts[0].get_text().count("\n") >= 3


def test_what_there_is_not_to_say_leaves_no_mark_in_a_note():
    for parts in (("", "n = 9", "", "bands: 95 %"), ("n = 9", "bands: 95 %", "")):
        figure = note(new_figure(3.3, 2), *parts)
        assert figure.texts[0].get_text() == "n = 9; bands: 95 %"


# Axes


@pytest.mark.parametrize("name", PAGES)
def test_logarithmic_axes_show_their_data(name):
    """What is drawn fills half of the decades or more."""
    figure = drawn(name)
    data = plotting.figure_data(figure)
    data = data[~data["kind"].isin(["cell", "span"])]
    for number, axes in enumerate(figure.axes):
        for side in "xy":
            together = getattr(axes, f"get_shared_{side}_axes")().get_siblings(axes)
            rows = data[data["panel"].isin([figure.axes.index(one) for one in together])]
            if getattr(axes, f"get_{side}scale")() != "log" or rows.empty:
                continue
            low, high = getattr(axes, f"get_{side}lim")()
            values = rows[side][rows[side] > 0].clip(low, high)
            filled = np.log(values.max() / values.min()) / np.log(high / low)
            assert filled > 0.5, (number, side)


def test_a_dimension_stands_with_its_share():
    axes = Figure().subplots()
    axes.set(xscale="log", xlim=(1, 64))
    share_ticks(axes, 64)
    shown = axes.xaxis.get_major_formatter()
    assert [shown(d) for d in (1, 10, 64)] == ["1\n1.6 %", "10\n16 %", "64\n100 %"]
    shares = 0, 0.00012, 0.0996, 0.099, 0.31, 1
    assert [percent(share) for share in shares] == ["0", "0.012", "10", "9.9", "31", "100"]


@pytest.mark.parametrize("name", ["subspace_accuracy", "first_order_twin", "norm_fractions"])
def test_the_share_at_a_d_is_that_of_the_subspace(name):
    ds = result(name)
    axes = drawn(name).axes[0]
    shown = axes.xaxis.get_major_formatter()
    steps = ds["directions_per_step"]
    usual = ds["subspace_dimension"].where(steps == steps.min()).max("family").fillna(0)
    for i, d in enumerate(ds["d"].to_numpy()):
        share = 100 * float(usual[i]) / 16
        index, percents = shown(d).split("\n")
        assert index == f"{d}"
        assert float(percents.removesuffix(" %")) == pytest.approx(share, abs=0.51)


def test_a_family_that_ends_early_leaves_the_share_to_the_others():
    ds = result("subspace_accuracy").copy(deep=True)
    whole = draw("subspace_accuracy", ds).axes[0].xaxis.get_major_formatter()
    expected = [whole(d) for d in ds["d"].to_numpy()]
    ds["subspace_dimension"][0, 1:] = np.nan
    shown = draw("subspace_accuracy", ds).axes[0].xaxis.get_major_formatter()
    assert [shown(d) for d in ds["d"].to_numpy()] == expected


# What single figures say


def test_the_share_that_enters_a_class_stands_at_either_sign():
    ds = result("direction_sweep")
    figure = drawn("direction_sweep_classes")
    ends = 100 * ds["transition"].isel(direction=0, scale=[0, -1]).to_numpy()
    expected = [f"{share:.0f}" for one in np.swapaxes(ends, 0, 1) for two in one for share in two]
    numbers = [t.get_text() for axes in figure.axes for t in axes.texts]
    assert numbers == expected


def test_what_is_not_settled_has_a_dashed_frame():
    ds = result("curvature").copy(deep=True)
    ds["hessian_residual"][:] = 0.0
    for settled in (True, False):
        ds["hessian_converged"][:] = settled
        axes = draw("curvature_directions", ds).axes
        assert {a.spines["left"].get_linestyle() == "solid" for a in axes} == {settled}
        assert not any(a.get_lines() for a in axes)
    svd = result("normal_svd").copy(deep=True)
    svd["error_bound"] = svd["error_bound"] * 0 + 1e3
    frames = [a.spines["left"].get_linestyle() for a in draw("leading_directions", svd).axes]
    assert "solid" not in frames


def test_the_best_values_of_C_are_within_one_standard_error():
    ds = result("tilting_plane").copy(deep=True)
    n = ds.sizes["test"]
    # Of 4 errors of 60 one standard error is sqrt(60 p (1 - p)) = 2.03 with p = 4.5 / 61.
    shaded = (
        ((12, 6.1, 4), [1, 100]),
        ((12, 6, 4), [1e-2, 1, 1, 100]),
        ((0.7, 0.6, 0), [1e-2, 1, 1, 100]),
    )
    for errors, ends in shaded:
        ds["test_error"][:] = np.array(errors) / n
        data = plotting.figure_data(draw("tilting_sweep", ds))
        spans = data[(data["kind"] == "span") & (data["panel"] == 0)]["x"]
        np.testing.assert_allclose(spans, ends)


def test_the_band_of_adversarial_norms_is_that_of_the_mean():
    """The mean that the experiment stored is over the images that the band is over."""
    ds = result("tilting_plane")
    second = (ds["test_label"] == int(ds.attrs["pair"][1])).to_numpy()
    correct = (ds["test_distance"].to_numpy() > 0) == second
    sizes = np.where(correct, np.abs(ds["test_distance"].to_numpy()), np.nan)
    np.testing.assert_allclose(np.nanmean(sizes, 1), ds["mean_adversarial_norm"])
    data = plotting.figure_data(drawn("tilting_sweep"))
    lower = data[(data["panel"] == 3) & (data["kind"] == "band, lower edge")]["y"]
    np.testing.assert_allclose(lower, np.nanquantile(sizes, 0.1, axis=1))


def test_seen_edge_on_boundaries_have_their_true_angle_and_distances():
    ds = result("tilting_plane")
    axes = drawn("tilting_space").axes[1]
    points = np.concatenate([c.get_offsets() for c in axes.collections])
    drawn_lines = [np.array(line.get_data()).T for line in axes.get_lines()]
    for part, ends in enumerate(drawn_lines):
        along = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
        distance = np.abs((points - ends[0]) @ [-along[1], along[0]])
        true = np.abs(ds["space_train"] @ ds["space_normal"][part] + ds["space_distance"][part])
        np.testing.assert_allclose(np.sort(distance), np.sort(true), atol=1e-9)
