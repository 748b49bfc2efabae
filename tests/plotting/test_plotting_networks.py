"""Figures of several networks: in the same axes, side by side, and as the papers have them."""

from itertools import combinations

import numpy as np
import pytest
import xarray as xr
from matplotlib.text import Text
from results_for_tests import result

from geomadv import InputError, plotting
from geomadv.plotting import beside, friends
from geomadv.plotting.beside import _FIGURES


def texts(figure):
    return " ".join(t.get_text() for t in figure.findobj(Text))


# Experiment -> a result of another input size or length, where one is made.
OTHERS = {"curvature": "curvature without a full spectrum"}


def pair(experiment, **more):
    """Results of two networks and of one that has none."""
    first = result(experiment).assign_attrs(network="first")
    second = result(OTHERS.get(experiment, experiment)).assign_attrs(network="second")
    if experiment == "tilting_plane":  # of other images: those of the same ones are one column
        second = second.assign(mean_distance=2 * second["mean_distance"])
    return {"first": first, "second": second, "third": None, **more}


@pytest.mark.parametrize("experiment", sorted(plotting.OVERLAYS))
def test_networks_lie_in_the_same_axes_in_a_colour_each(experiment):
    made = {"boundary": boundary, "confined_deepfool": confined, "random_subspace_fooling": fooling}
    figure = plotting.overlaid(made.get(experiment, lambda: pair(experiment))())
    words = texts(figure)
    assert "first" in words
    assert "second" in words
    assert "no result: third" in words
    drawn = {line.get_color() for axes in figure.axes for line in axes.get_lines()}
    assert {"C0", "C1"} <= drawn


def boundary():
    ds = xr.Dataset(
        {
            "distance": ("sample", np.arange(1.0, 5)),
            "converged": ("sample", [True, True, True, False]),
            "direction": (("sample", "pixel"), np.zeros((4, 16))),
        },
        attrs={"experiment": "boundary"},
    )
    return {"first": ds, "second": ds, "third": None}


def fooling():
    results = pair("random_subspace_fooling")
    energy = ("m", [0.2, 0.6, 1.0])
    return {
        name: None if ds is None else ds.assign(energy_share=energy) for name, ds in results.items()
    }


def test_the_share_of_points_at_which_the_model_holds_falls_from_all_to_those_beyond_the_reach():
    results = pair("normal_section")
    figure = plotting.overlaid(results)
    ds = results["first"].isel(direction=0).sel(family="positive", model="shape")
    radius = ds["radius"].to_numpy()
    for axes in figure.axes:
        curve = axes.get_lines()[0].get_ydata()
        assert curve[0] == 100
        assert (np.diff(curve) <= 0).all()
    beyond = 100 * np.mean(radius[~np.isnan(radius)] >= float(results["first"]["scale"].max()))
    assert figure.axes[0].get_lines()[0].get_ydata()[-1] == pytest.approx(beyond)


def test_a_result_that_lacks_a_variable_is_said():
    results = fooling() | {"third": result("random_subspace_fooling")}
    assert "no result: third (No variable named 'energy_share')" in " ".join(
        texts(plotting.overlaid(results)).split()
    )


def test_what_did_not_converge_is_left_out_and_dimensions_are_shares():
    figure = plotting.overlaid(boundary())
    whole, per_pixel = (axes.get_lines()[0].get_xdata() for axes in figure.axes)
    assert whole.tolist() == [1, 2, 3]
    np.testing.assert_allclose(per_pixel, whole / 4)


def test_sizes_of_small_images_are_shares_of_the_images_side():
    low = result("resampling")
    drawn = plotting.overlaid({"a": low}).axes[0].get_lines()[0].get_xdata()
    np.testing.assert_allclose(drawn, low["d_low"] / 4)
    older = {"a": low, "older": low.drop_vars("image_side")}
    assert "no result: older (No variable named 'image_side')" in texts(plotting.overlaid(older))


def test_each_family_stands_against_d_and_its_share():
    figure = plotting.overlaid(pair("first_order_twin"))
    by_title = {}
    for axes in figure.axes:
        if axes.get_title() == "normal hi":
            by_title[axes.get_xlabel()] = axes.get_lines()[0].get_xdata()
    np.testing.assert_allclose(by_title["d / D"], by_title["dimension d"] / 16)


@pytest.mark.filterwarnings("error")
def test_families_stand_at_their_own_sizes_in_the_same_axes():
    ds = confined()["first"].isel(d=[0, 1, 1])
    names = ["random" if name not in ("hi", "lo") else name for name in ds["family"].to_numpy()]
    first = [names.index(name) for name in ("hi", "lo", "random")]
    ds = ds.isel(family=first).assign_coords(family=["hi", "lo", "random"], d=[2, 5, 9])
    size = np.array([[2, 5, 0], [2, 0, 0], [2, 5, 9]])  # two end before random ones
    ds = ds.assign(subspace_dimension=(("family", "d"), size))
    ds["converged"][1] = False
    drawn = {
        (axes.get_title(), axes.get_xlabel()): [line.get_xdata() for line in axes.get_lines()]
        for axes in plotting.overlaid({"a": ds}).axes
    }
    own, random = drawn["hi", "dimension d"]
    np.testing.assert_array_equal(own, [2, 5, np.nan])
    np.testing.assert_array_equal(random, [2, 5, 9])
    np.testing.assert_allclose(drawn["lo", "d / D"][1], random / ds["mean_image"].size)
    twin = result("first_order_twin").assign_coords(family=["hi", "random"])
    ended = (twin["family"] == "random") | (twin["d"] < 5)
    twin = twin.assign(subspace_dimension=twin["subspace_dimension"].where(ended))
    own, random = (line.get_xdata() for line in plotting.overlaid({"a": twin}).axes[1].get_lines())
    np.testing.assert_allclose(own[:6], [*np.arange(5) / 16, np.nan])
    np.testing.assert_allclose(random, np.arange(17) / 16)


@pytest.mark.parametrize("ends", [(2.1, 2.9), (3, 8), (0.8, 9), (30, 400), (0.02, 30)])
def test_a_logarithmic_axis_has_two_numbers_or_more(ends):
    ds = boundary()["first"].assign(distance=("sample", np.linspace(*ends, 4)))
    ds["converged"][:] = True
    page = plotting.overlaid({"a": ds})
    page.draw_without_rendering()
    for axes in page.axes:
        low, high = axes.get_xlim()
        ticks = [t for t in axes.xaxis.get_major_ticks() if low <= t.get_loc() <= high]
        assert len([t for t in ticks if t.label1.get_text()]) >= 2


def test_a_family_without_converged_images_is_named():
    ds = confined()["first"].copy(deep=True)
    ds["converged"][ds["family"].to_numpy().tolist().index("lo")] = False
    words = texts(friends.confined({"a": ds}))
    assert words.count("no label changed") == 1


def test_results_of_two_experiments_are_refused():
    with pytest.raises(InputError, match="transfer, universal: expected one of"):
        plotting.overlaid({"a": result("universal"), "b": result("transfer")})
    with pytest.raises(InputError, match="none: expected one"):
        plotting.overlaid({"a": None})


@pytest.mark.parametrize("name", sorted(_FIGURES))
def test_a_column_for_each_network_and_the_command_of_a_missing_one(name):
    experiment, heights, *_ = _FIGURES[name]
    figure = beside.beside(pair(experiment), name)
    words = " ".join(texts(figure).split())
    assert f"no {experiment}.h5: geomadv run {experiment} --network third" in words
    panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    assert len(panels) == 3 * len(heights)
    assert not any(axes.get_legend() for axes in panels if axes in panels[-len(heights) :])


def test_more_networks_than_a_row_takes_stand_below():
    ds = result("finetuning")
    figure = beside.beside({f"net {i}": ds for i in range(5)}, "finetuning")
    rows = {axes.get_subplotspec().rowspan.start for axes in figure.axes}
    assert len(figure.axes) == 5
    assert rows == {0, 1}


def test_an_unknown_figure_is_refused():
    with pytest.raises(InputError, match="There are"):
        beside.beside({}, "transfers")


def test_a_result_without_the_figure_says_why_in_its_column():
    lacking = {"first": result("normal_svd").drop_vars("spectrum", errors="ignore")}
    assert "no full spectrum" in " ".join(texts(beside.beside(lacking, "normal_spectrum")).split())


PAGES = {
    "Fig. 1": lambda: friends.score_curves(pair("score_curves")),
    "Fig. 2": lambda: friends.sweeps(pair("direction_sweep")),
    "supplement": lambda: friends.sweeps(pair("direction_sweep"), "negative"),
    "Fig. 3": lambda: friends.subspaces(pair("subspace_accuracy"), pair("norm_fractions")),
    "Fig. 4": lambda: friends.singular_subspaces(pair("first_order_twin"), pair("resampling")),
    "Fig. 5": lambda: friends.confined(confined()),
    "Table 1": lambda: friends.rescaling(pair("resampling")),
    "tilting plane": lambda: beside.tilting_planes(pair("tilting_plane")),
    "fools so many": lambda: beside.categories(pair("categories")),
    "universal perturbation": lambda: beside.fooling_table(pair("universal")),
}


def confined():
    """Families of singular vectors in place of those of curvature."""
    results = pair("confined_deepfool")
    known = results["first"]["family"].to_numpy().tolist()
    renamed = {known[0]: "hi", known[1]: "lo"}
    names = [renamed.get(name, name) for name in known]
    return {n: None if ds is None else ds.assign_coords(family=names) for n, ds in results.items()}


@pytest.mark.parametrize("words", PAGES)
def test_the_papers_figures_have_a_column_a_network_and_say_what_is_missing(words):
    figure = PAGES[words]()
    figure.draw_without_rendering()
    told = " ".join(texts(figure).split())
    assert words in told
    assert "--network third" in told
    assert "first" in told
    assert "second" in told


def seen(axes):
    """Title, labels, words and the numbers of the ticks in view."""
    yield from (axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts)
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if low <= tick.get_loc() <= high:
                yield from (tick.label1, tick.label2)


def crossing(axes):
    """Pairs of texts that lie on each other, in a panel and its insets."""
    words = [t for one in (axes, *axes.child_axes) for t in seen(one)]
    # Boxes are as high as their font, with room above and below the letters.
    boxes = [
        (t.get_text(), t.get_window_extent().shrunk(0.98, 0.75))
        for t in words
        if t.get_text().strip() and t.get_visible()
    ]
    return [(a, b) for (a, one), (b, other) in combinations(boxes, 2) if one.overlaps(other)]


FOUR = ("lenet-mnist", "mnist-convsmall-robust-eps0.1", "nin-cifar10", "alexnet-cifar100")


def four(made):
    """The first result of a pair as that of four networks of names as long as the zoo's."""
    found = {name: made["first"].assign_attrs(network=name) for name in FOUR}
    if "mean_adversarial_norm" in made["first"]:  # of other images each, or they are one column
        name = "mean_adversarial_norm"
        return {n: ds.assign({name: k * ds[name]}) for k, (n, ds) in enumerate(found.items(), 1)}
    return found


def named(experiment):
    return four(pair(experiment))


NARROW = {
    "Fig. 1": lambda: friends.score_curves(named("score_curves")),
    "Fig. 2": lambda: friends.sweeps(named("direction_sweep")),
    "Fig. 3": lambda: friends.subspaces(named("subspace_accuracy"), named("norm_fractions")),
    "Fig. 4": lambda: friends.singular_subspaces(named("first_order_twin"), named("resampling")),
    "Fig. 5": lambda: friends.confined(four(confined())),
    "Table 1": lambda: friends.rescaling(named("resampling")),
    "tilting plane": lambda: beside.tilting_planes(named("tilting_plane")),
    "normal tilt": lambda: beside.normal_tilts(named("normal_tilt")),
    "toy problem": lambda: beside.tilting_toy(result("tilting_toy")),
    "categories": lambda: beside.categories(named("categories")),
    **{
        name: lambda name=name, experiment=experiment: beside.beside(named(experiment), name)
        for name, (experiment, *_) in _FIGURES.items()
    },
}


@pytest.mark.parametrize("page", NARROW)
def test_words_of_four_columns_do_not_lie_on_each_other(page):
    figure = NARROW[page]()
    figure.draw_without_rendering()
    assert {axes.get_title(): crossing(axes) for axes in figure.axes if crossing(axes)} == {}
    words = [t for axes in figure.axes for t in seen(axes) if t.get_text().strip()]
    ends = [t.get_window_extent() for t in words if t.get_visible()]
    assert min(end.x0 for end in ends) >= -1
    assert max(end.x1 for end in ends) <= figure.bbox.width + 1


def test_the_name_of_a_network_stands_once_above_its_column():
    words = texts(NARROW["Fig. 2"]()).replace("\n", "")
    assert [words.count(name) for name in FOUR] == [1, 1, 1, 1]


@pytest.mark.parametrize(("p", "told"), [("2", " % of the images'"), ("inf", "∞-norm ")])
def test_only_euclidean_norms_are_shares_of_the_images(p, told):
    words = texts(beside.fooling_table({"a": result("universal").assign_attrs(p=p)}))
    assert told in words
    assert ("% of the images" in words) == (p == "2")


def test_what_is_measured_of_the_same_images_is_one_column():
    one = result("tilting_plane")
    other = one.assign(angle=2 * one["angle"])
    shown = beside.alike({**dict.fromkeys(FOUR, one), "nin-cifar10": other, "none": None})
    assert {name: shown[name] is other for name in shown} == {
        "lenet-mnist and 2 more": False,
        "nin-cifar10": True,
        "none": False,
    }


def test_a_column_of_angles_is_of_its_own_network():
    both = xr.concat([result("normal_tilt")] * 2, "network_name")
    ds = both.assign_coords(network_name=["a", "b"]).assign_attrs(network="b")
    figure = beside.normal_tilts({"b": ds})
    assert "b: median" in texts(figure)
    assert "a: median" not in texts(figure)


def test_the_line_of_the_resampled_network_is_drawn_or_said_to_be_missing():
    drawn = friends.singular_subspaces(pair("first_order_twin"), pair("resampling", second=None))
    first, second = drawn.axes[:2]
    line = next(line for line in first.get_lines() if line.get_marker() == "s")
    low = result("resampling")
    # Images of one channel: d_low x d_low pixels.
    np.testing.assert_allclose(line.get_xdata(), low["d_low"].to_numpy() ** 2)
    assert f"resampled: n = {low.sizes['sample']}" in first.get_title()
    np.testing.assert_allclose(line.get_ydata(), 100 * low["accuracy"])
    assert not any(line.get_marker() == "s" for line in second.get_lines())
    assert "no resampled network" in texts(drawn)


def test_sizes_of_resampled_images_are_those_of_the_file_or_of_square_ones():
    low, twin = result("resampling"), result("first_order_twin")
    older = low.drop_vars(["low_dimension", "image_side"])
    whole = older.assign_coords(d_low=[4, 2])  # images of 4 x 4 pixels as they are
    whole["resampled_norm"][0] = whole["norm"]

    def sizes(low, dimension=16):
        page = friends.singular_subspaces({"a": twin.assign(image_dimension=dimension)}, {"a": low})
        drawn = [line for line in page.axes[0].get_lines() if line.get_marker() == "s"]
        assert drawn or "lacks low_dimension" in texts(page)
        return [x for line in drawn for x in line.get_xdata().tolist()]

    wide = low.assign(low_dimension=7 * low["d_low"])
    assert sizes(wide) == (7 * low["d_low"]).to_numpy().tolist()
    assert sizes(whole) == [16, 4]
    assert sizes(whole, 48) == [48, 12]
    assert sizes(whole, 20) == []
    assert sizes(older) == []


def test_numbers_on_the_curve_are_those_of_the_images():
    figure = friends.confined(confined())
    marks = [t.get_text() for t in figure.axes[0].texts]
    heads = [axes.get_title() for axes in figure.axes[1].child_axes if axes.get_title()]
    assert {head.split(":")[0] for head in heads} == {*marks}


def test_the_toy_problem_is_tilted_in_few_dimensions_and_upright_in_many():
    ds = result("tilting_toy")
    figure = beside.tilting_toy(ds)
    left, right = (axes.get_title() for axes in figure.axes[:2])
    assert left.startswith("2 dimensions, tilted")
    assert right.startswith("4 dimensions, not tilted")
    angles = np.degrees(ds["angle"])
    assert f"angle {float(angles.isel(dimension=0).max()):.0f}°" in left
    assert f"angle {float(angles.isel(dimension=-1).min()):.0f}°" in right
