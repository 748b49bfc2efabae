"""Figures of universal perturbations: rates, norms, transfer, the label graph, categories."""

import networkx as nx
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from geomadv.plotting.style import (
    BLUE,
    COLUMN,
    GREEN,
    GREY,
    ORANGE,
    PAGE,
    PURPLE,
    SKY,
    VERMILION,
    new_figure,
    show_direction,
    style,
    title,
)


def universal(ds: xr.Dataset) -> Figure:
    """A universal perturbation, and fooling rates against passes and sample size.

    ds: result of `experiments.universal`. Lines are means over repeats, bands their range; the
    history is that of the largest sample set.
    """
    with style():
        figure = new_figure(PAGE, 2.3)
        image, middle, right = figure.subplots(1, 3, width_ratios=[0.8, 1, 1.2])
        show_direction(image, ds["perturbation"][0].to_numpy())
        p = "∞" if ds.attrs["p"] == "inf" else ds.attrs["p"]
        relative = float(ds["norm"][-1, 0] / ds["mean_image_norm"])
        share = f"\n({100 * relative:.1f} % of images')" if p == "2" else ""
        image.set_title(f"{p}-norm {float(ds['norm'][-1, 0]):.3g} image units{share}")
        largest = ds.isel(size=-1)
        passes = np.arange(1, ds.sizes["pass"] + 1)
        for name, label, color in _SETS:
            history = "history" if name == "fooling_rate" else "held_out_history"
            _range(middle, passes, largest[history], color, label)
            _range(right, ds["size"], ds[name], color, label)
        for axes in (middle, right):
            axes.axhline(
                100 * float(ds["random_fooling_rate"].mean()),
                color=GREY,
                linestyle=":",
                label="random, same norm",
            )
            axes.set_ylim(0, 103)
            axes.set_ylabel("fooling rate (%)")
        middle.set_xticks(passes)
        middle.set_xlabel(f"pass over {int(ds['size'][-1])} images")
        right.set_xscale("log")
        right.set_xticks(ds["size"].to_numpy(), [f"{n}" for n in ds["size"].to_numpy()])
        right.minorticks_off()
        right.set_xlabel("images in the sample set")
        figure.legend(*right.get_legend_handles_labels(), loc="outside lower right", ncols=3)
        figure.suptitle(f"universal perturbation, {title(ds)}", fontsize=8)
        return figure


_SETS = (
    ("fooling_rate", "sample set", BLUE),
    ("held_out_fooling_rate", "held-out images", ORANGE),
)


def _range(
    axes: Axes,
    x: np.ndarray[tuple[int, ...], np.dtype[np.int64]] | xr.DataArray,
    rates: xr.DataArray,
    color: str,
    label: str,
) -> None:
    percent = 100 * rates
    axes.plot(x, percent.mean("repeat"), color=color, marker="o", markersize=2.5, label=label)
    low, high = percent.min("repeat"), percent.max("repeat")
    axes.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)


def norm_comparison(ds: xr.Dataset) -> Figure:
    """Fooling rate against norm for every kind of vector.

    ds: result of `experiments.norm_comparison`. Lines are means over draws.
    """
    with style():
        figure = new_figure(PAGE, 2.8)
        axes = figure.add_subplot()
        relative = 100 * ds["norm"] / ds["mean_image_norm"]
        looks = [(c, m) for m in ("o", "s", "^") for c in _COLORS]
        kinds = [str(kind) for kind in ds["kind"].to_numpy()]
        for kind, (color, marker) in zip(kinds, looks, strict=False):
            rate = 100 * ds["fooling_rate"].sel(kind=kind).mean("draw")
            if kind == "random":
                color, marker = GREY, "x"
            # Subspaces come last, after the random directions.
            drawn = kinds.index(kind) > kinds.index("random")
            dashed = (0, (1, 1)) if drawn else (0, (4, 2)) if kind.endswith("one image") else "-"
            axes.plot(
                relative,
                rate,
                color=color,
                marker=marker,
                markersize=3,
                linestyle=dashed,
                label=kind,
            )
        axes.set_xlabel("norm of the perturbation (% of mean image norm)")
        axes.set_ylabel("held-out fooling rate (%)")
        axes.set_ylim(0, 103)
        axes.set_xlim(left=0)
        for line in axes.lines:
            line.set_markersize(3)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
        axes.set_title(f"vectors of the same norm, {title(ds)}")
        return figure


_COLORS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY)


def transfer(ds: xr.Dataset) -> Figure:
    """Matrix of fooling rates: rows are perturbations, columns networks.

    ds: result of `experiments.transfer`. The last row holds random perturbations (mean).
    """
    names = [_short(str(name)) for name in ds["network"].to_numpy()]
    random = ds["random_fooling_rate"].mean("draw").to_numpy()
    rates = 100 * np.vstack([ds["fooling_rate"].to_numpy(), random])
    with style():
        side = 0.55 * len(names)
        figure = new_figure(min(PAGE, 2.2 + 1.1 * side), 1.6 + 0.75 * side)
        axes = figure.add_subplot()
        shown = axes.imshow(rates, cmap="Blues", vmin=0, vmax=100, aspect="auto")
        for (i, j), rate in np.ndenumerate(rates):
            color = "white" if rate > 55 else "black"
            axes.text(j, i, f"{rate:.0f}", ha="center", va="center", color=color)
        axes.set_xticks(range(len(names)), names, rotation=25, ha="right")
        axes.set_yticks(range(len(names) + 1), [*names, "random"])
        axes.axhline(len(names) - 0.5, color="white", linewidth=2)
        axes.set_xlabel("network to be fooled")
        axes.set_ylabel("perturbation made for")
        figure.colorbar(shown, label="fooling rate (%)", shrink=0.8)
        axes.set_title(f"transfer on {ds.attrs.get('dataset', 'held-out images')}")
        return figure


def _short(name: str) -> str:
    """A network's name on two lines if it is long."""
    if len(name) <= 16:
        return name
    cut = name.find("-", len(name) // 2)
    return name if cut < 0 else f"{name[:cut]}\n{name[cut:]}"


def label_graph(ds: xr.Dataset) -> Figure:
    """Which label turns into which: the graph of the most frequent changes, and the counts.

    ds: result of `experiments.label_graph`. A node's size is the share of all fooled images that
    get its label, an arrow's width the share of its class' images.
    """
    with style():
        figure = new_figure(PAGE, 3.0)
        left, right = figure.subplots(1, 2, width_ratios=[1.2, 1])
        _draw_graph(left, ds)
        _draw_counts(right, ds)
        figure.suptitle(f"labels under the universal perturbation, {title(ds)}", fontsize=8)
        return figure


def _draw_graph(axes: Axes, ds: xr.Dataset) -> None:
    names = [str(name) for name in ds["from_class"].to_numpy()]
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(names)))
    for i, (j, share) in enumerate(
        zip(ds["edge"].to_numpy(), ds["edge_share"].to_numpy(), strict=True)
    ):
        if j >= 0:
            graph.add_edge(i, int(j), share=float(share))
    # Classes beyond a few dozens: those without any edge would only hide the others.
    if len(names) > _ALL_NODES:
        graph.remove_nodes_from(list(nx.isolates(graph)))
    place = (
        nx.kamada_kawai_layout(graph.to_undirected(), weight=None)
        if len(graph) > 1
        else {0: (0, 0)}
    )
    received = ds["received_share"].to_numpy()
    sizes = [180 + 1400 * float(received[node]) for node in graph]
    nx.draw_networkx_nodes(graph, place, ax=axes, node_size=sizes, node_color=SKY, alpha=0.9)
    nx.draw_networkx_labels(graph, place, {n: names[n] for n in graph}, ax=axes, font_size=6)
    widths = [0.4 + 2.5 * data["share"] for *_, data in graph.edges(data=True)]
    nx.draw_networkx_edges(
        graph, place, ax=axes, node_size=sizes, width=widths, edge_color=GREY, arrowsize=8
    )
    axes.margins(0.12)
    axes.set_axis_off()
    components = int(ds["components_with_edges"])
    few = int(ds["dominant_labels"].sel(share=0.8))
    axes.set_title(
        f"{components} component{'s' if components != 1 else ''}; {few} label"
        f"{'s' if few != 1 else ''} receive{'s' if few == 1 else ''} 80 % of fooled images"
    )


_ALL_NODES, _ALL_TICKS = 40, 20


def _draw_counts(axes: Axes, ds: xr.Dataset) -> None:
    counts = ds["count"].to_numpy()
    share = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    shown = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    axes.figure.colorbar(shown, ax=axes, label="share of the class' images (%)", shrink=0.8)
    if len(share) <= _ALL_TICKS:
        names = [str(name) for name in ds["from_class"].to_numpy()]
        long = max(map(len, names)) > 2
        axes.set_xticks(range(len(names)), names, rotation=90 if long else 0)
        axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("label under the perturbation")
    axes.set_ylabel("label of the clean image")


def finetuning(ds: xr.Dataset) -> Figure:
    """Fooling rates and clean accuracy over rounds of fine-tuning.

    ds: result of `experiments.finetuning`. Lines are means over the pool, bands its range.
    """
    with style():
        figure = new_figure(COLUMN, 2.6)
        axes = figure.add_subplot()
        rounds = ds["round"]
        lines = (
            ("fooling_rate", VERMILION, "fooled by new perturbations"),
            ("first_fooling_rate", ORANGE, "fooled by those of round 0"),
        )
        for name, color, label in lines:
            _range(axes, rounds, ds[name].rename(member="repeat"), color, label)
        accuracy = 100 * ds["accuracy"]
        axes.plot(rounds, accuracy, color=BLUE, marker="s", markersize=2.5, label="clean accuracy")
        axes.set_ylim(0, 103)
        axes.set_xticks(rounds.to_numpy())
        axes.set_xlabel("rounds of fine-tuning")
        axes.set_ylabel("held-out images (%)")
        axes.set_title(title(ds))
        figure.legend(loc="outside lower center", ncols=1)
        return figure
