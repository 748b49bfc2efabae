"""Figures of universal perturbations: rates, norms, transfer, the label graph, categories."""

import itertools
from typing import Any

import networkx as nx
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter
from numpy.typing import NDArray

from geomadv.plotting.figure import (
    Given,
    figure,
    heading,
    legend,
    new_figure,
    note,
    panel,
    panels,
    whole,
)
from geomadv.plotting.parts import (
    band,
    class_ticks,
    heat_table,
    log_edges,
    relative_norm,
    show_direction,
    spread,
    title,
    two_lines,
    write,
)
from geomadv.plotting.style import COLUMN, GREY, PAGE, scaled

_NORM = "norm of the perturbation (% of mean image norm)"

# A label graph of more classes leaves out those without an edge, its counts of more their names.
_ALL_NODES, _ALL_TICKS = 40, 20

_CURVES = (
    ("adversarial_share", "C0", "A: its own perturbation"),
    ("universal_share", "C4", "U: one perturbation for all"),
    ("random_share", GREY, "R: a random direction"),
)
_CATEGORIES = ("C2", "C5", "C1", "C3")


@figure(
    "universal",
    "history",
    "held_out_history",
    "fooling_rate",
    "perturbation",
    "size",
    "pass",
    "held_out_sample",
)
def universal(ds: xr.Dataset, *, ax: Given = None) -> Figure:
    """A universal perturbation, and fooling rates against passes and sample size.

    ds: result of `experiments.universal`; ax: three axes to draw into. Lines are means over
    repeats, bands their range; the history is that of the largest sample set.
    """
    image, middle, right = panels(ax, PAGE, 2.3, 1, 3, width_ratios=[0.8, 1, 1.2])
    show_direction(image, ds["perturbation"][0].to_numpy())
    p = "∞" if ds.attrs["p"] == "inf" else ds.attrs["p"]
    share = f"\n({float(relative_norm(ds)[-1, 0]):.1f} % of images')" if p == "2" else ""
    image.set_title(f"{p}-norm {float(ds['norm'][-1, 0]):.3g} image units{share}")
    largest = ds.isel(size=-1)
    passes = np.arange(1, ds.sizes["pass"] + 1)
    for name, history, label, color in (
        ("fooling_rate", "history", "sample set", "C0"),
        ("held_out_fooling_rate", "held_out_history", "held-out images", "C1"),
    ):
        _range(middle, passes, largest[history], "repeat", color, label)
        _range(right, ds["size"], ds[name], "repeat", color, label)
    low, random, high = (float(x) for x in spread(100 * ds["random_fooling_rate"], "draw"))
    for axes in (middle, right):
        axes.axhspan(low, high, color=GREY, alpha=0.2, linewidth=0)
        axes.axhline(random, color=GREY, linestyle=":", label="random, same norm")
        axes.set(ylim=(0, 103), ylabel="fooling rate (%)")
    middle.set_xticks(passes)
    middle.set_xlabel(f"pass over {int(ds['size'][-1])} images")
    right.set_xscale("log")
    right.set_xticks(ds["size"].to_numpy(), [f"{n}" for n in ds["size"].to_numpy()])
    right.minorticks_off()
    right.set_xlabel("images in the sample set")
    legend(right, 3)
    return note(
        heading(image, f"universal perturbation, {title(ds)}"),
        f"{ds.sizes['held_out_sample']} held-out images",
        f"lines: means over {ds.sizes['repeat']} repeats, bands: their range; grey: "
        f"{ds.sizes['draw']} random draws and their range",
    )


def _range(axes: Axes, x: Any, rates: xr.DataArray, dim: str, color: str, label: str) -> None:
    look: Any = {"color": color, "label": label, "marker": "o", "markersize": 2.5}
    band(axes, x, *spread(100 * rates, dim), **look)


@figure("norm_comparison", "fooling_rate", "mean_image_norm", "kind", "norm", "draw", "draws")
def norm_comparison(ds: xr.Dataset, *, ax: Axes | None = None) -> Figure:
    """Fooling rate against norm for every kind of vector.

    ds: result of `experiments.norm_comparison`; ax: axes to draw into. Lines are means over draws,
    bands run from their 10th to their 90th percentile. Grey are random directions.
    """
    axes = panel(ax, PAGE, 2.8)
    looks = [(f"C{c}", marker) for marker in ("o", "s", "^") for c in range(7)]
    kinds = [str(kind) for kind in ds["kind"].to_numpy()]
    for kind, (color, marker) in zip(kinds, looks, strict=False):
        rates = spread(100 * ds["fooling_rate"].sel(kind=kind), "draw", 0.1, 0.9)
        if kind == "random":
            color, marker = GREY, "x"
        # Subspaces come last, after the random directions.
        drawn = kinds.index(kind) > kinds.index("random")
        dashes = (0, (1, 1)) if drawn else (0, (4, 2)) if kind.endswith("one image") else "-"
        look: Any = {"color": color, "marker": marker, "markersize": 3, "linestyle": dashes}
        band(axes, relative_norm(ds), *rates, alpha=0.13, label=kind, **look)
    axes.set(xlabel=_NORM, ylabel="held-out fooling rate (%)", ylim=(0, 103))
    axes.set_xlim(left=0)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    axes.set_title(f"vectors of the same norm, {title(ds)}")
    draws = ds["draws"].to_numpy()
    return note(
        whole(axes),
        f"{ds.sizes['held_out_sample']} held-out images",
        f"lines: means over up to {draws.max()} draws, bands: 10th to 90th percentile",
        "no band: one vector" if (draws == 1).any() else "",
    )


@figure("transfer", "fooling_rate", "random_fooling_rate", "made_for", "network", "sample")
def transfer(ds: xr.Dataset, *, ax: Axes | None = None) -> Figure:
    """Matrix of fooling rates: rows are perturbations, columns networks.

    ds: result of `experiments.transfer`; ax: axes to draw into. The last row holds random
    perturbations (mean).
    """
    names = [str(name) for name in ds["network"].to_numpy()]
    names = [name if len(name) <= 16 else two_lines(name) for name in names]
    random = ds["random_fooling_rate"].mean("draw").to_numpy()
    side = 0.55 * len(names)
    axes = panel(ax, min(PAGE, 2.2 + 1.1 * side), 1.6 + 0.75 * side)
    shown = heat_table(axes, 100 * np.vstack([ds["fooling_rate"].to_numpy(), random]), "{:.0f}")
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names) + 1), [*names, "random"])
    axes.axhline(len(names) - 0.5, color="white", linewidth=2)
    axes.set(xlabel="network to be fooled", ylabel="perturbation made for")
    axes.figure.colorbar(shown, ax=axes, label="fooling rate (%)", shrink=0.8)
    axes.set_title(f"transfer on {ds.attrs.get('dataset', 'held-out images')}")
    drawn = f"random: mean over {ds.sizes['draw']} draws of the norm"
    return note(whole(axes), f"{ds.sizes['sample']} held-out images a cell", drawn)


@figure("label_graph", "count", "edge", "edge_share", "from_class", "received_share", "share")
def label_graph(ds: xr.Dataset, *, ax: Given = None) -> Figure:
    """Which label turns into which: the graph of the most frequent changes, and the counts.

    ds: result of `experiments.label_graph`; ax: two axes to draw into. A node's size is the share
    of all fooled images that get its label, an arrow's width the share of its class' images.
    """
    left, right = panels(ax, PAGE, 3.0, 1, 2, width_ratios=[1.2, 1])
    names = [str(name) for name in ds["from_class"].to_numpy()]
    _draw_graph(left, ds, names)
    _draw_counts(right, ds, names)
    return note(
        heading(left, f"labels under the universal perturbation, {title(ds)}"),
        f"{int(ds['count'].sum())} images, held out",
        "arrow: the label that most of a class' fooled images get, its width their share",
        _effective_words(ds),
    )


def _effective_words(ds: xr.Dataset) -> str:
    """How many labels the fooled images spread over; "" where fewer than two are fooled."""
    if (
        "uniform_effective_labels" not in ds
        or not np.isfinite(ds["uniform_effective_labels"]).any()
    ):
        return ""
    received, drawn = ds["effective_labels"], ds["uniform_effective_labels"].mean()
    return (
        f"effective number of labels received {float(received):.1f}, of labels drawn uniformly "
        f"{float(drawn):.1f}"
    )


def _draw_graph(axes: Axes, ds: xr.Dataset, names: list[str]) -> None:
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(names)))
    edges = zip(ds["edge"].to_numpy(), ds["edge_share"].to_numpy(), strict=True)
    for i, (j, share) in enumerate(edges):
        if j >= 0:
            graph.add_edge(i, int(j), share=float(share))
    if len(names) > _ALL_NODES:
        graph.remove_nodes_from(list(nx.isolates(graph)))
    place = {0: (0, 0)}
    if len(graph) > 1:
        place = nx.kamada_kawai_layout(graph.to_undirected(), weight=None)
    received = ds["received_share"].to_numpy()
    sizes = [180 + 1400 * float(received[node]) for node in graph]
    widths = [0.4 + 2.5 * data["share"] for *_, data in graph.edges(data=True)]
    drawn: Any = {"ax": axes, "node_size": sizes}
    nx.draw_networkx_nodes(graph, place, node_color="C5", alpha=0.9, **drawn)
    nx.draw_networkx_edges(graph, place, width=widths, edge_color=GREY, arrowsize=8, **drawn)
    labels = {node: names[node] for node in graph}
    nx.draw_networkx_labels(graph, place, labels, ax=axes, font_size=scaled(6))
    axes.margins(0.12)
    axes.set_axis_off()
    components = int(ds["components_with_edges"])
    few = int(ds["dominant_labels"].sel(share=0.8))
    axes.set_title(
        f"{components} component{'s' if components != 1 else ''}; {few} label"
        f"{'s' if few != 1 else ''} receive{'s' if few == 1 else ''} 80 % of fooled images"
    )


def _draw_counts(axes: Axes, ds: xr.Dataset, names: list[str]) -> None:
    counts = ds["count"].to_numpy()
    share = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    shown = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    axes.figure.colorbar(shown, ax=axes, label="share of the class' images (%)", shrink=0.8)
    if len(share) <= _ALL_TICKS:
        class_ticks(axes, names)
        axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="label under the perturbation", ylabel="label of the clean image")


@figure("finetuning", "fooling_rate", "first_fooling_rate", "accuracy", "round", "member")
def finetuning(ds: xr.Dataset, *, ax: Axes | None = None) -> Figure:
    """Fooling rates and clean accuracy over rounds of fine-tuning.

    ds: result of `experiments.finetuning`; ax: axes to draw into. Lines are means over the pool,
    bands its range.
    """
    axes = panel(ax, COLUMN, 2.6)
    rounds, accuracy = ds["round"], 100 * ds["accuracy"]
    _range(axes, rounds, ds["fooling_rate"], "member", "C3", "fooled by new perturbations")
    _range(axes, rounds, ds["first_fooling_rate"], "member", "C1", "fooled by those of round 0")
    axes.plot(rounds, accuracy, color="C0", marker="s", markersize=2.5, label="clean accuracy")
    axes.set(ylim=(0, 103), xticks=rounds.to_numpy(), title=title(ds))
    axes.set(xlabel="rounds of fine-tuning", ylabel="held-out images (%)")
    legend(axes)
    pool = f"lines: means over {ds.sizes['member']} perturbations a round, bands: their range"
    return note(whole(axes), pool)


@figure(
    "categories",
    *("category", "radius", "level", "mean_image_norm", "random_fooling_rate", "sample"),
    *(name for name, *_ in _CURVES),
)
def categories(ds: xr.Dataset) -> Figure:
    """The curves A, U and R of each network, and its category at every norm, one strip each.

    A page of its own: ds is the result of `experiments.categories`, or several of them concatenated
    along `network` with the same norms. The strips are those of the first level.
    """
    if "network" not in ds.dims:
        ds = ds.expand_dims(network=[ds.attrs.get("network", "network")])
    names = [str(name) for name in ds["network"].to_numpy()]
    at_level = ds.isel(level=0)
    level = 100 * float(at_level["level"])
    relative = relative_norm(ds.isel(network=0), "radius").to_numpy()
    drawing = new_figure(PAGE, 2.5 + 0.2 * len(names))
    # Heights in inches: curves, and a strip of 0.2 for each network.
    grid = drawing.add_gridspec(2, len(names), height_ratios=[1.35, 0.15 + 0.2 * len(names)])
    curves: list[Axes] = []
    for i, name in enumerate(names):
        axes = drawing.add_subplot(grid[0, i], sharey=curves[0] if curves else None)
        _draw_curves(axes, at_level.isel(network=i), relative, level)
        heading_of = name if len(names) < 4 else two_lines(name, 1 / 3)
        axes.set_title(heading_of)
        axes.tick_params(labelleft=i == 0)
        curves.append(axes)
    curves[0].set_ylabel("images fooled (%)")
    _draw_strips(drawing.add_subplot(grid[1, :]), at_level["category"], names, relative)
    handles = curves[0].get_legend_handles_labels()[0]
    for k, color in enumerate(_CATEGORIES, 1):
        handles.append(Patch(color=color, label=f"{k}: {ds['category'].attrs[f'category_{k}']}"))
    legend(curves[0], 3, handles, fontsize=scaled(6.5))
    images = f"the images of {ds.attrs.get('dataset', 'a data set')}"
    return note(
        heading(curves[0], f"what fools {level:.0f} % of {images}, against the norm allowed"),
        f"{ds.sizes['sample']} images",
        f"R: mean over {ds.sizes['draw']} draws, band: their range",
        f"dotted: {level:.0f} %",
    )


def _norm_axis(axes: Axes, edges: NDArray[np.floating]) -> None:
    axes.set_xscale("log")
    axes.set_xlim(edges[0], edges[-1])
    powers = 10.0 ** np.arange(-3, 4)
    axes.xaxis.set_major_locator(FixedLocator(powers.tolist()))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(FixedLocator([]))


def _draw_curves(axes: Axes, ds: xr.Dataset, relative: NDArray[np.floating], level: float) -> None:
    for name, color, label in _CURVES:
        axes.plot(relative, 100 * ds[name], color=color, label=label, marker="o", markersize=2)
    low, _, high = spread(100 * ds["random_fooling_rate"], "draw")
    axes.fill_between(relative, low, high, color=GREY, alpha=0.2, linewidth=0)
    axes.axhline(level, color="black", linestyle=":", linewidth=0.8)
    axes.set_ylim(-3, 103)
    _norm_axis(axes, log_edges(relative))


def _draw_strips(
    axes: Axes, category: xr.DataArray, names: list[str], relative: NDArray[np.floating]
) -> None:
    values = category.transpose("network", "radius").to_numpy()
    cells, colors = log_edges(relative), ListedColormap(_CATEGORIES)
    norm = BoundaryNorm([0.5, 1.5, 2.5, 3.5, 4.5], 4)
    axes.pcolormesh(cells, np.arange(len(names) + 1), values, cmap=colors, norm=norm)
    for i, row in enumerate(values):
        edges = [0, *(np.flatnonzero(np.diff(row)) + 1).tolist(), len(row)]
        for start, stop in itertools.pairwise(edges):
            middle = float(np.sqrt(cells[start] * cells[stop]))
            write(axes, middle, i + 0.5, f"{row[start]}", fontsize=scaled(7))
    for i in range(1, len(names)):
        axes.axhline(i, color="white", linewidth=2)
    axes.set_yticks(np.arange(len(names)) + 0.5, names)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    _norm_axis(axes, cells)
    axes.set_xlabel(_NORM)
