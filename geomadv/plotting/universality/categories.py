"""The four categories of vulnerability, network beside network."""

import itertools

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter

from geomadv.plotting.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PAGE,
    PURPLE,
    SKY,
    VERMILION,
    new_figure,
    style,
)

Norms = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

_CURVES = (
    ("adversarial_share", BLUE, "A: its own perturbation"),
    ("universal_share", PURPLE, "U: one perturbation for all"),
    ("random_share", GREY, "R: a random direction"),
)
_CATEGORIES = (GREEN, SKY, ORANGE, VERMILION)


def categories(ds: xr.Dataset) -> Figure:
    """The curves A, U and R of each network, and its category at every norm, one strip each.

    ds: result of `experiments.categories`, or several of them concatenated along `network` with
    the same norms. The strips are those of the first level.
    """
    if "network" not in ds.dims:
        ds = ds.expand_dims(network=[ds.attrs.get("network", "network")])
    names = [str(name) for name in ds["network"].to_numpy()]
    at_level = ds.isel(level=0)
    level = float(at_level["level"])
    relative = 100 * (ds["radius"] / ds["mean_image_norm"].isel(network=0)).to_numpy()
    with style():
        figure = new_figure(PAGE, 2.5 + 0.2 * len(names))
        # Heights in inches: curves, and a strip of 0.2 for each network.
        grid = figure.add_gridspec(2, len(names), height_ratios=[1.35, 0.15 + 0.2 * len(names)])
        first = None
        for i, name in enumerate(names):
            axes = figure.add_subplot(grid[0, i], sharey=first)
            first = first or axes
            _draw_curves(axes, at_level.isel(network=i), relative, level)
            axes.set_title(name if len(names) < 4 else _two_lines(name), fontsize=7)
            axes.tick_params(labelleft=i == 0)
        if first is not None:
            first.set_ylabel("images fooled (%)")
        strips = figure.add_subplot(grid[1, :])
        _draw_strips(strips, at_level["category"], names, relative)
        handles, labels = first.get_legend_handles_labels() if first is not None else ([], [])
        meanings = ds["category"].attrs
        for k, color in enumerate(_CATEGORIES, 1):
            handles.append(Patch(color=color))
            labels.append(f"{k}: {meanings[f'category_{k}']}")
        figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=6.5)
        images = f"{ds.sizes['sample']} images of {ds.attrs.get('dataset', 'a data set')}"
        figure.suptitle(
            f"what fools {100 * level:.0f} % of {images}, against the norm allowed", fontsize=8
        )
        return figure


def _two_lines(name: str) -> str:
    cut = name.find("-", len(name) // 3)
    return name if cut < 0 else f"{name[:cut]}\n{name[cut + 1 :]}"


def _norm_axis(axes: Axes, edges: Norms) -> None:
    axes.set_xscale("log")
    axes.set_xlim(edges[0], edges[-1])
    powers = 10.0 ** np.arange(-3, 4)
    axes.xaxis.set_major_locator(FixedLocator(powers.tolist()))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(FixedLocator([]))


def _draw_curves(
    axes: Axes,
    ds: xr.Dataset,
    relative: Norms,
    level: float,
) -> None:
    for name, color, label in _CURVES:
        axes.plot(relative, 100 * ds[name], color=color, label=label, marker="o", markersize=2)
    axes.axhline(100 * level, color="black", linestyle=":", linewidth=0.8)
    axes.set_ylim(-3, 103)
    _norm_axis(axes, _edges(relative))


def _edges(relative: Norms) -> Norms:
    """Where each norm's cell ends on a logarithmic axis: half-way to its neighbours."""
    if len(relative) == 1:
        return np.array([0.5, 2.0]) * relative
    inner = np.sqrt(relative[:-1] * relative[1:])
    return np.array([relative[0] ** 2 / inner[0], *inner, relative[-1] ** 2 / inner[-1]])


def _draw_strips(
    axes: Axes,
    category: xr.DataArray,
    names: list[str],
    relative: Norms,
) -> None:
    values = category.transpose("network", "radius").to_numpy()
    cells = _edges(relative)
    axes.pcolormesh(
        cells,
        np.arange(len(names) + 1),
        values,
        cmap=ListedColormap(_CATEGORIES),
        norm=BoundaryNorm([0.5, 1.5, 2.5, 3.5, 4.5], 4),
    )
    for i, row in enumerate(values):
        edges = [0, *(np.flatnonzero(np.diff(row)) + 1).tolist(), len(row)]
        for start, stop in itertools.pairwise(edges):
            middle = float(np.sqrt(cells[start] * cells[stop]))
            axes.text(middle, i + 0.5, f"{row[start]}", ha="center", va="center", fontsize=7)
    for i in range(1, len(names)):
        axes.axhline(i, color="white", linewidth=2)
    axes.set_yticks(np.arange(len(names)) + 0.5, names)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    _norm_axis(axes, cells)
    axes.set_xlabel("norm of the perturbation (% of mean image norm)")
