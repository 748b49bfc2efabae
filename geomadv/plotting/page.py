"""A page of several networks: a column each, drawn by the figures of one network."""

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.ticker import MaxNLocator

from geomadv.errors import InputError
from geomadv.plotting.figure import LookedFigure, lay_out
from geomadv.plotting.parts import two_lines
from geomadv.plotting.style import COLUMN, GREY, PAGE, scaled, style

# Network -> its result; None where there is none.
Results = Mapping[str, xr.Dataset | None]

# Dimensions that count images, of which a result has one.
_IMAGES = ("held_out_sample", "sample", "test")

# Columns side by side; more networks stand below.
ACROSS = 4

# Inches of a letter in titles and labels of a column; letters between two numbers of a horizontal
# axis; numbers of a vertical one.
_LETTER, _TICK, _ROWS = 0.05, 8, 6
# Inches of a letter in the title of the page; numbers of an axis whose length follows another's.
_HEAD, _FEW = 0.075, 4


def columns(
    results: Results,
    experiment: str,
    draw: Callable[[xr.Dataset, list[Axes]], object],
    heights: Sequence[float],
    words: str = "",
    widest: int = ACROSS,
) -> Figure:
    """A column of panels for each network.

    What cannot be drawn leaves a panel that says why, and the command of a missing result.

    Args:
        results: by network.
        experiment: of the results.
        draw: (dataset, the column's axes from top to bottom) -> anything.
        heights: of the panels, in inches.
        words: title of the page.
        widest: networks side by side; more stand below.
    """
    with style():
        across = min(len(results), widest)
        width = PAGE if across > 1 or widest == 1 else COLUMN
        page, grid = _page(width, across, -(-len(results) // across), heights)
        for i, (name, ds) in enumerate(results.items()):
            block, column = divmod(i, across)
            rows = range(block * len(heights), (block + 1) * len(heights))
            axes = [page.add_subplot(grid[row, column]) for row in rows]
            _column(axes, name, ds, experiment, draw)
            _fit(axes, name, ds, page.get_figwidth() / across, first=column == 0)
        for bar in [a for a in page.axes if a.get_label() == "<colorbar>"][:-1]:
            bar.set_ylabel("")
        _gather_legends(page)
        page.suptitle(wrapped(words, int(width / _HEAD)))
        return lay_out(page)


def counted(name: str, ds: xr.Dataset | None) -> str:
    """A network's name with the number of images of its result."""
    if ds is None:
        return name
    if "split" in ds.dims:
        return f"{name} (n = {int(ds['count'][-1])})"
    count = next((ds.sizes[dim] for dim in _IMAGES if dim in ds.sizes), None)
    return name if count is None else f"{name} (n = {count})"


def missing(axes: Sequence[Axes], name: str, experiment: str, why: str = "") -> None:
    """Empties panels, the first of which says why, or which command makes the result."""
    told = why or f"no {experiment}.h5:\ngeomadv run {experiment}\n--network {name}"
    for one in axes:
        one.clear()
        one.set(xticks=[], yticks=[])
        one.spines[:].set(visible=True, color=GREY, linestyle=":")
    look: Any = {"ha": "center", "va": "center", "fontsize": scaled(5), "color": GREY}
    text = wrapped(told, 36)
    axes[0].text(0.5, 0.5, text, transform=axes[0].transAxes, **look)


def _page(
    width: float, across: int, blocks: int, heights: Sequence[float]
) -> tuple[Figure, GridSpec]:
    height = 0.7 + blocks * (sum(heights) + 0.35 * len(heights))
    page = LookedFigure(figsize=(width, height), layout="constrained")
    grid = page.add_gridspec(blocks * len(heights), across, height_ratios=[*heights] * blocks)
    return page, grid


def _column(
    axes: list[Axes],
    name: str,
    ds: xr.Dataset | None,
    experiment: str,
    draw: Callable[[xr.Dataset, list[Axes]], object],
) -> None:
    if ds is None:
        missing(axes, name, experiment)
        return
    try:
        draw(ds, axes)
    except InputError as error:
        missing(axes, name, experiment, str(error))


def _fit(axes: Sequence[Axes], name: str, ds: xr.Dataset | None, width: float, first: bool) -> None:
    """Breaks titles and labels into lines of the column's width; the network's name is on top.

    Panels do not name it again, and the vertical axis is named in the first column alone.
    """
    letters = int(0.8 * width / _LETTER)
    for one in axes:
        own = re.sub(rf"(?<![\w-]){re.escape(name)} on ", "on ", one.get_title())
        one.set_title(wrapped(own, letters), fontsize=scaled(6))
        label = wrapped(one.get_xlabel(), int(letters * 6 / 7))
        one.xaxis.label.set(text=label, fontsize=scaled(7))
        one.set_ylabel(wrapped(one.get_ylabel(), 28) if first else "", fontsize=scaled(7))
        _thin(one.xaxis, _FEW if one.get_aspect() != "auto" else min(9, letters // _TICK))
        _thin(one.yaxis, _ROWS)
    head = counted(name, ds)
    head = head if len(head) <= letters else two_lines(head)
    axes[0].set_title(f"{head}\n{axes[0].get_title()}".strip(), fontsize=scaled(6))


def _thin(axis: Axis, most: int) -> None:
    """Has an axis that chooses its numbers show so many at most."""
    if not isinstance(locator := axis.get_major_locator(), MaxNLocator):
        return
    low, high = sorted(axis.get_view_interval())
    if sum(low <= tick <= high for tick in locator()) > most:
        locator.set_params(nbins=most - 1)


def wrapped(text: str, letters: int) -> str:
    """Text in lines of so many letters; longer words stay whole."""
    return "\n".join(
        line
        for part in text.split("\n")
        for line in textwrap.wrap(part, letters, break_on_hyphens=False, break_long_words=False)
        or [""]
    ).strip("\n")


def _gather_legends(page: Figure) -> None:
    """One legend below for what has one look in all panels; others stay in their panels."""
    handles: dict[str, dict[str, Any]] = {}
    for axes in page.axes:
        if (legend := axes.get_legend()) is None:
            continue
        for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
            handles.setdefault(text.get_text(), {}).setdefault(_look(handle), handle)
    shared = {
        label: next(iter(looks.values())) for label, looks in handles.items() if len(looks) == 1
    }
    for axes in page.axes:
        if (legend := axes.get_legend()) is None:
            continue
        named = zip(legend.legend_handles, legend.get_texts(), strict=True)
        rest = [(handle, t.get_text()) for handle, t in named if t.get_text() not in shared]
        legend.remove()
        if rest:
            axes.legend(*zip(*rest, strict=True), fontsize=scaled(5))
    if shared:
        longest = max(map(len, shared))
        count = max(1, int(page.get_figwidth() / (0.4 + 0.06 * longest)))
        look: Any = {"loc": "outside lower center", "ncols": count, "fontsize": scaled(6.5)}
        page.legend([*shared.values()], [*shared], **look)


def _look(handle: Any) -> str:
    """What a legend's entry looks like, for comparison."""
    for name in ("get_color", "get_facecolor"):
        if hasattr(handle, name):
            color = getattr(handle, name)()
            break
    try:
        hexed = to_hex(color)
    except (ValueError, TypeError):
        hexed = str(color)
    dashes = handle.get_linestyle() if hasattr(handle, "get_linestyle") else ""
    return f"{hexed} {dashes}"
