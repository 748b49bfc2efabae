"""Figures of one network drawn for several of them, a column each, and tables of all of them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from geomadv.errors import InputError, closest
from geomadv.plotting import curvature, linear, lines, normals, softmax, subspaces, universality
from geomadv.plotting.figure import new_figure
from geomadv.plotting.page import ACROSS, Results, columns
from geomadv.plotting.parts import heat_table, own_row, relative_norm, title, write
from geomadv.plotting.style import PAGE, scaled, style

_Draw = Callable[..., Any]

# Figure -> the experiment of its results, the heights of its panels in inches, the function, and
# the page's title with what bands are.
_FIGURES: dict[str, tuple[str, tuple[float, ...], _Draw, str]] = {
    "normal_spectrum": (
        "normal_svd",
        (1.7,),
        normals.normal_spectrum,
        "singular values of boundary normals; band: range of random draws",
    ),
    "random_subspace_fooling": (
        "random_subspace_fooling",
        (1.6, 1.6),
        normals.random_subspace_fooling,
        "random vectors in normal subspaces; bands: 10th to 90th percentile of draws",
    ),
    "curvature_profile": (
        "curvature",
        (1.6, 1.6),
        curvature.curvature_profile,
        "principal curvatures, a line for each class",
    ),
    "scale_sweep": (
        "curvature",
        (1.5, 1.5),
        curvature.scale_sweep,
        "curvature against the step, a line for each class; band: range of random directions",
    ),
    "score_curve_measures": (
        "score_curves",
        (1.1,) * 4,
        lines.score_curve_measures,
        "measures of score curves; bars: 95 % intervals",
    ),
    "subspace_accuracy": (
        "subspace_accuracy",
        (1.7,),
        subspaces.subspace_accuracy,
        "images projected on subspaces; bands: two standard errors",
    ),
    "universal": (
        "universal",
        (1.1, 1.4, 1.4),
        universality.universal,
        "universal perturbations; bands: range of repeats",
    ),
    "label_graph": (
        "label_graph",
        (1.6, 1.5),
        universality.label_graph,
        "labels under the universal perturbation",
    ),
    "norm_comparison": (
        "norm_comparison",
        (1.9,),
        universality.norm_comparison,
        "vectors of the same norm, means over draws",
    ),
    "transfer": (
        "transfer",
        (1.6,),
        universality.transfer,
        "universal perturbations on other networks: fooling rates in %",
    ),
    "finetuning": (
        "finetuning",
        (1.7,),
        universality.finetuning,
        "fine-tuning against universal perturbations; bands: range of the pool",
    ),
    "tilting_sweep": (
        "tilting_plane",
        (1.2,) * 4,
        linear.tilting_sweep,
        "tilt, error and adversarial norm against the regularisation",
    ),
    "softmax_null_space": (
        "softmax_directions",
        (1.4,) * 3,
        softmax.softmax_null_space,
        "the last layer: its singular values, displacements along its null space, hidden shares",
    ),
    "softmax_boundary_angles": (
        "softmax_directions",
        (1.7,),
        softmax.softmax_boundary_angles,
        "angles between class boundaries in the last layer",
    ),
}
# Figures of as many columns as networks, of which fewer stand side by side.
_WIDEST = {"transfer": 2}
_CURVES = {
    "adversarial_share": ("C0", "A: its own perturbation"),
    "universal_share": ("C4", "U: one perturbation for all"),
    "random_share": ("#666666", "R: a random direction"),
}
_CATEGORIES = ("C2", "C5", "C1", "C3")


def beside(results: Results, name: str) -> Figure:
    """The figure of this name for several networks, a column each.

    Args:
        results: by network; None where there is none: its column names the command.
        name: of a figure that takes `ax`.

    Raises:
        InputError: no such figure.
    """
    if name not in _FIGURES:
        raise InputError(
            f"{name!r}: no figure of a column.{closest(name, [*_FIGURES])} There are "
            f"{', '.join(_FIGURES)}."
        )
    experiment, heights, draw, words = _FIGURES[name]

    def drawn(ds: xr.Dataset, axes: list[Axes]) -> None:
        draw(ds, ax=axes[0] if len(axes) == 1 else axes)

    shown = alike(results) if experiment == "tilting_plane" else results
    return columns(shown, experiment, drawn, heights, words, _WIDEST.get(name, ACROSS))


def alike(results: Results) -> Results:
    """One column in place of those whose results have the same numbers.

    What is measured of the images alone is the same for all networks of the same images.
    """
    groups: list[tuple[xr.Dataset | None, list[str]]] = []
    for name, ds in results.items():
        same = (
            names for one, names in groups if ds is not None and one is not None and one.equals(ds)
        )
        if (names := next(same, None)) is None:
            groups.append((ds, [name]))
        else:
            names.append(name)
    others = (f" and {len(names) - 1} more" if len(names) > 1 else "" for _, names in groups)
    return {f"{names[0]}{more}": ds for (ds, names), more in zip(groups, others, strict=True)}


def normal_tilts(results: Results) -> Figure:
    """Angles of a network's own boundary normals to the centroid direction, a column each.

    results: of `normal_tilt`, of which the network's own row is drawn.
    """

    def draw(ds: xr.Dataset, axes: list[Axes]) -> None:
        linear.normal_tilt(own_row(ds, "network_name"), ax=axes[0])

    words = "angles of boundary normals to the centroid direction"
    return columns(results, "normal_tilt", draw, [1.8], words)


def tilting_planes(results: Results) -> Figure:
    """Boundary and images in the tilting plane, a column for each network's data.

    results: of `tilting_plane`, of which three boundaries from upright to most tilted are drawn,
    fewer where the sweep has no more.
    """

    def draw(ds: xr.Dataset, axes: list[Axes]) -> None:
        ends = np.linspace(0, np.nanmax(ds["angle"]), 3)
        chosen = dict.fromkeys(int(np.nanargmin(np.abs(ds["angle"] - end))) for end in ends)
        for one, at in zip(axes, chosen, strict=False):
            linear.tilting_plane(ds.isel(C=[at]), 1, ax=one)
        for one in axes[1 : len(chosen)]:  # as the first says whose data they are
            one.set_title("\n".join(one.get_title().split("\n")[-2:]))
        for one in axes[len(chosen) :]:
            one.set_axis_off()

    words = "images and boundary in the tilting plane, from strong to weak regularisation"
    return columns(alike(results), "tilting_plane", draw, [1.4] * 3, words)


def tilting_toy(ds: xr.Dataset) -> Figure:
    """The toy problem as Tanay and Griffin draw it: many dimensions are not what makes it weak.

    Left: in two dimensions, weakly regularised, the boundary tilts and images lie close to it.
    Right: in the most dimensions, strongly regularised, it does not, and they lie far from it.

    ds: result of `experiments.tilting_toy` over two dimensions or more.
    """
    low, high = ds.isel(dimension=[0]), ds.isel(dimension=[-1])
    ends = {
        "tilted": low.isel(C=[int(np.nanargmax(low["angle"]))]),
        "not tilted": high.isel(C=[int(np.nanargmin(high["angle"]))]),
    }

    def draw(one: xr.Dataset, axes: list[Axes]) -> None:
        linear.tilting_toy(one, ax=axes[0])
        norm = float(one["mean_adversarial_norm"].squeeze())
        told = axes[0].get_title().split("\n")[-2:]
        axes[0].set_ylabel("along n")
        axes[0].set_title("\n".join([*told, f"mean adversarial norm {norm:.2g}"]))

    named: Results = {
        f"{int(one['dimension'][0])} dimensions, {name}": one for name, one in ends.items()
    }
    return columns(named, "tilting_toy", draw, [1.9], "toy problem: tilt, not dimension, is weak")


def categories(results: Results) -> Figure:
    """What fools most images at each norm: the curves A, U and R, and the category below.

    results: of `categories`, of which the network's own row is drawn, at the first level.
    """

    def draw(ds: xr.Dataset, axes: list[Axes]) -> None:
        one = own_row(ds).isel(level=0)
        x, level = relative_norm(one, "radius").to_numpy(), 100 * float(one["level"])
        for name, (color, label) in _CURVES.items():
            look: Any = {"color": color, "label": label, "marker": "o", "markersize": 2}
            axes[0].plot(x, 100 * one[name], **look)
        axes[0].axhline(level, color="black", linestyle=":", linewidth=0.8)
        axes[0].set(ylim=(-3, 103), ylabel="images fooled (%)")
        axes[0].set_title(f"{title(ds)}, level {level:.0f} %")
        _strip(axes[1], one, x)
        for panel in axes:
            panel.set(xscale="log", xlim=(x[0], x[-1]))
        axes[0].legend()
        axes[1].legend()

    return columns(results, "categories", draw, [1.7, 0.3], "what fools so many images, by norm")


def fooling_table(results: Results) -> Figure:
    """Fooling rates of universal perturbations, a row for each network, with ranges of repeats.

    results: of `universal`; rates of the largest sample set.
    """
    heads = ("sample set", "held-out images", "random, same norm")
    rates, cells, names = [], [], []
    for name, ds in results.items():
        if ds is None:
            names.append(f"{name}\nno universal.h5: geomadv run universal --network {name}")
            rates.append([np.nan] * 3)
            cells.append(["–"] * 3)
            continue
        last = ds.isel(size=-1)
        three = [last["fooling_rate"], last["held_out_fooling_rate"], ds["random_fooling_rate"]]
        counts = f"n = {int(ds['size'][-1])} and {ds.sizes['held_out_sample']}"
        names.append(f"{name}\n{_size(ds)}, {counts}")
        rates.append([100 * float(rate.mean()) for rate in three])
        cells.append([f"{m:.1f}\n{_range(rate)}" for m, rate in zip(rates[-1], three, strict=True)])
    return _tabled(np.array(rates), cells, names, heads)


def _size(ds: xr.Dataset) -> str:
    """How large perturbations are; only Euclidean norms compare with those of the images."""
    if ds.attrs["p"] == "2":
        return f"norm {float(relative_norm(ds)[-1, 0]):.2g} % of the images'"
    p = "∞" if ds.attrs["p"] == "inf" else ds.attrs["p"]
    return f"{p}-norm {float(ds['norm'][-1, 0]):.3g} image units"


def _tabled(rates: Any, cells: list[list[str]], names: list[str], heads: Any) -> Figure:
    with style():
        page = new_figure(PAGE, 0.6 + 0.42 * len(names))
        axes = page.subplots()
        heat_table(axes, rates, "")
        for (i, j), value in np.ndenumerate(rates):
            color = "white" if value > 55 else "black"
            write(axes, j, i, cells[i][j], color=color, fontsize=scaled(7))
        axes.set_xticks(range(len(heads)), heads)
        axes.xaxis.tick_top()
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(length=0)
        page.suptitle("fooled by a universal perturbation, % (range of repeats or draws)")
        return page


def _range(rate: xr.DataArray) -> str:
    return f"[{100 * float(rate.min()):.1f}, {100 * float(rate.max()):.1f}]"


def _strip(axes: Axes, one: xr.Dataset, x: Any) -> None:
    """The category at each norm, as a coloured bar."""
    middle = np.sqrt(x[:-1] * x[1:])
    ends = np.concatenate([x[:1], middle, x[-1:]])
    for k, color in enumerate(_CATEGORIES, 1):
        label = f"{k}: {one['category'].attrs[f'category_{k}']}"
        for i in np.flatnonzero(one["category"].to_numpy() == k):
            axes.axvspan(ends[i], ends[i + 1], color=color, linewidth=0)
        axes.fill_between([], [], color=color, label=label)
    axes.set(yticks=[], xlabel="norm of the perturbation (% of mean image norm)")
