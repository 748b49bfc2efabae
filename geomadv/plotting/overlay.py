"""Results of one experiment of several networks in the same axes: a colour for each network."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from geomadv.errors import InputError
from geomadv.plotting.figure import ShownFigure, legend, lines, new_figure
from geomadv.plotting.overlay_panels import OVERLAYS
from geomadv.plotting.page import Results, counted, wrapped
from geomadv.plotting.panels import Panel
from geomadv.plotting.style import COLUMN, PAGE, style


def overlaid(results: Results) -> Figure:
    """Several networks' results of one experiment in the same axes.

    Where input sizes differ, d/D stands beside d, and norms are shares of the images' or of plain
    perturbations' norms. Solid lines are the networks, dashed ones of the same colour what each is
    compared with, bands as the title says.

    Args:
        results: by network; None where there is none, which the title says.

    Raises:
        InputError: no result at all, results of several experiments, or of one that has no such
            figure.
    """
    there = {name: ds for name, ds in results.items() if ds is not None}
    experiments = {str(ds.attrs.get("experiment", "")) for ds in there.values()}
    if len(experiments) != 1 or not experiments <= {*OVERLAYS}:
        raise InputError(
            f"results of the experiments {', '.join(sorted(experiments)) or 'none'}: expected one "
            f"of {', '.join(OVERLAYS)}."
        )
    draw, words = OVERLAYS[experiments.pop()]
    drawn, absent = {}, {name: "" for name, ds in results.items() if ds is None}
    for name, ds in there.items():
        try:
            drawn[name] = draw(ds)
        except KeyError as error:  # a file of before the variable was there
            absent[name] = f" ({str(error.args[0]).split('.')[0]})"
    with style():
        colors = {name: f"C{i % 6}" for i, name in enumerate(results)}
        page = _drawn(drawn, colors)
        handles = [
            Line2D([], [], color=colors[name], label=counted(name, there[name])) for name in drawn
        ]
        legend(page.axes[0], 2 if page.get_figwidth() > COLUMN else 1, handles)
        without = ", ".join(f"{name}{why}" for name, why in absent.items())
        told = lines(words, f"no result: {without}" if without else "")
        page.suptitle(wrapped(told, int(page.get_figwidth() / 0.065)))
        return page


def _drawn(drawn: dict[str, list[Panel]], colors: dict[str, str]) -> ShownFigure:
    places = list(dict.fromkeys((p.title, p.x) for panels in drawn.values() for p in panels))
    places = places or [("", "")]
    across = min(4, len(places))
    rows = -(-len(places) // across)
    height = 0.7 + 0.1 * len(colors) + 1.75 * rows
    page = new_figure(min(PAGE, max(COLUMN, 0.6 + 2.2 * across)), height)
    grid = dict(zip(places, page.subplots(rows, across, squeeze=False).ravel(), strict=False))
    for name, panels in drawn.items():
        for panel in panels:
            _panel(grid[panel.title, panel.x], panel, colors[name])
    for axes in page.axes:
        axes.set_xlabel(wrapped(axes.get_xlabel(), int(page.get_figwidth() / across / 0.075)))
        for axis in (axes.xaxis, axes.yaxis):
            _few_powers(axis)
    for axes in page.axes[len(places) :]:
        axes.set_axis_off()
    return page


def _few_powers(axis: Axis) -> None:
    """Has a logarithmic axis with fewer than two powers of ten show numbers between them."""
    low, high = sorted(axis.get_view_interval())
    if axis.get_scale() != "log" or np.floor(np.log10(high)) > np.ceil(np.log10(low)):
        return
    inside = LogLocator(subs=(1.0, 2.0, 5.0)).tick_values(low, high)
    inside = [tick for tick in inside if low <= tick <= high]
    axis.set_major_locator(FixedLocator(inside) if len(inside) > 1 else MaxNLocator(4))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _panel(axes: Axes, panel: Panel, color: str) -> None:
    for curve in panel.curves:
        look: Any = {"linestyle": "--", "linewidth": 0.8} if curve.null else {}
        if np.size(curve.x) < 12 and not curve.null:
            look |= {"marker": "o", "markersize": 2.5}
        axes.plot(curve.x, curve.y, color=color, **look)
        if curve.low is not None:
            axes.fill_between(curve.x, curve.low, curve.high, color=color, alpha=0.15, linewidth=0)
    axes.set(title=panel.title, xlabel=panel.x, ylabel=panel.y)
    if panel.top is not None:
        axes.set_ylim(-0.02 * panel.top, 1.03 * panel.top)
    if panel.ticks:
        axes.set_xticks(range(len(panel.ticks)), panel.ticks, rotation=30, ha="right")
    if "x" in panel.log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    if "y" in panel.log:
        axes.set_yscale("log")
