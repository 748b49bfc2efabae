"""How all figures look: readable at column width, colour-blind-safe, black on white."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette, distinguishable with every common colour-vision deficiency.
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#666666",
)

# Widths of one and two columns of a conference paper, in inches.
COLUMN, PAGE = 3.3, 6.9

# What is not what it is called, such as a value along a direction that is no eigenvector.
HOLLOW: Any = {"linestyle": "", "marker": "o", "markersize": 3, "markerfacecolor": "white"}

_RC: Any = {
    "figure.dpi": 150,
    "savefig.dpi": 300,
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "image.interpolation": "nearest",
}


@contextmanager
def style() -> Iterator[None]:
    """The settings of all figures, for the time of the block: for drawing and for saving."""
    with plt.rc_context(_RC):
        yield


def title(ds: xr.Dataset) -> str:
    """Network and data set of a result, as figures name them."""
    network, dataset = ds.attrs.get("network", ""), ds.attrs.get("dataset", "")
    return " on ".join(part for part in (network, dataset) if part)


def show_direction(
    axes: Axes, direction: np.ndarray[tuple[int, ...], np.dtype[np.floating]]
) -> None:
    """One signed direction (C, H, W) as an image, grey or RGB channel by channel.

    Zero is mid-grey, the largest magnitude black or white.
    """
    image = 0.5 + 0.5 * direction / np.abs(direction).max()
    if len(image) == 3:
        axes.imshow(image.transpose(1, 2, 0))
    else:
        axes.imshow(image[0], cmap="gray", vmin=0, vmax=1)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_linewidth(0.4)


def cross_out(axes: Axes) -> None:
    """A thin diagonal across the panel and a dashed frame: not what its place says."""
    axes.plot([0, 1], [0, 1], color=VERMILION, linewidth=0.6, transform=axes.transAxes)
    for spine in axes.spines.values():
        spine.set_linestyle((0, (2, 1)))
        spine.set_edgecolor(VERMILION)
        spine.set_linewidth(0.8)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, independent of pyplot's list of open figures."""
    return Figure(figsize=(width, height), layout="constrained")
