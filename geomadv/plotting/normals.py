"""Figures of the normals: spectrum, leading directions, random-subspace fooling."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from geomadv.errors import InputError
from geomadv.plotting.figure import Given, figure, heading, legend, new_figure, panel, panels, whole
from geomadv.plotting.parts import band, relative_norm, show_direction, spread, title
from geomadv.plotting.style import COLUMN, GREY, PAGE, scaled


@figure("normal_svd", "singular_value", "baseline", "rows", "normal_effective_rank")
def normal_spectrum(ds: xr.Dataset, *, ax: Axes | None = None) -> Figure:
    """Singular values of the normal matrix beside the random baseline's mean and range.

    ds: result of `experiments.normal_spectrum` with a full spectrum. ax: axes to draw into.

    Raises:
        InputError: the spectrum was not computed in full (randomised SVD).
    """
    if "spectrum" not in ds:
        raise InputError(
            "the result has no full spectrum (randomised SVD): run normal_svd with more memory."
        )
    axes = panel(ax, COLUMN, 2.4)
    index = np.arange(1, ds.sizes["component"] + 1)
    ends = spread(ds["baseline"], "draw")
    band(axes, index, *ends, color=GREY, alpha=0.35, label="uniform random directions")
    axes.plot(index, ds["spectrum"], color="C0", label="boundary normals")
    top = float(max(ds["spectrum"].max(), ds["baseline"].max()))
    axes.set(
        xscale="log",
        yscale="log",
        ylim=(max(float(ds["spectrum"].min()), 1e-3 * top) / 1.5, 1.5 * top),
        xlabel="index of the singular value",
        ylabel="singular value of the normal matrix",
        title=f"{title(ds)}\n{int(ds['rows'])} normals, effective rank "
        f"{float(ds['normal_effective_rank']):.0f} "
        f"(random: {float(ds['baseline_effective_rank'].mean()):.0f})",
    )
    axes.legend(loc="lower left")
    return whole(axes)


@figure("normal_svd", "singular_value", "direction", "rank")
def leading_directions(ds: xr.Dataset, count: int = 10) -> Figure:
    """The leading right singular vectors of the normal matrix as images, a page of its own.

    ds: result of `experiments.normal_spectrum`. Grey is zero; each image is scaled by its largest
    magnitude.
    """
    count = min(count, ds.sizes["rank"])
    columns = min(5, count)
    rows = -(-count // columns)
    drawing = new_figure(COLUMN, 0.3 + 0.82 * rows)
    for i in range(count):
        axes = drawing.add_subplot(rows, columns, i + 1)
        show_direction(axes, ds["direction"][i].to_numpy())
        value = f"σ = {float(ds['singular_value'][i]):.2f}"
        axes.set_title(value, fontsize=scaled(6), pad=2)
    drawing.suptitle(f"leading normal directions, {title(ds)}")
    return drawing


@figure(
    "random_subspace_fooling",
    "fooling_rate",
    "uniform_fooling_rate",
    "mean_image_norm",
    "m",
    "norm",
)
def random_subspace_fooling(ds: xr.Dataset, *, ax: Given = None) -> Figure:
    """Fooling rate against norm and against the subspace dimension, with the range over draws.

    ds: result of `experiments.random_subspace_fooling`; ax: two axes to draw into. Lines are means
    over draws, bands run from the 10th to the 90th percentile. The title gives the rates at the
    norm at which uniform directions fool about as many images as published for CaffeNet, 10 %
    (Moosavi-Dezfooli et al., CVPR 2017, §4).
    """
    left, right = panels(ax, PAGE, 2.9, 1, 2)
    _against_norm(left, ds)
    _against_dimension(right, ds)
    for axes in (left, right):
        axes.set_ylabel("fooling rate (%)")
        axes.set_ylim(bottom=0)
        legend(axes, 2, drop=0.22)
    images = f"{title(ds)} ({ds.sizes['sample']} held-out images)"
    return heading(left, images, _beside_published(ds))


def _beside_published(ds: xr.Dataset) -> str:
    """The measured rates in the subspace and uniform in a sentence with the published ones."""
    uniform = 100 * ds["uniform_fooling_rate"].mean("draw").to_numpy()
    at = int(np.abs(uniform - 10).argmin())
    inside = 100 * ds["fooling_rate"].isel(norm=at).mean("draw").to_numpy()
    best = int(inside.argmax())
    norm = float(relative_norm(ds)[at])
    return (
        f"m = {int(ds['m'][best])} at {norm:.0f} % norm: {inside[best]:.0f} % against "
        f"{uniform[at]:.0f} % uniform (published, CaffeNet, m = 100: 38 % against 10 %)"
    )


def _rates(axes: Axes, x: xr.DataArray, rates: xr.DataArray, color: str, label: str) -> None:
    look: Any = {"color": color, "label": label, "marker": "o", "markersize": 2.5}
    band(axes, x, *spread(100 * rates, "draw", 0.1, 0.9), **look)


def _some(ds: xr.Dataset, dim: str) -> list[int]:
    """Up to four positions along a dimension, spread over it."""
    return sorted({int(i) for i in np.linspace(0, ds.sizes[dim] - 1, 4)})


def _against_norm(axes: Axes, ds: xr.Dataset) -> None:
    relative = relative_norm(ds)
    for i, color in zip(_some(ds, "m"), ("C0", "C1", "C2", "C4"), strict=False):
        label = f"subspace, m = {int(ds['m'][i])}"
        _rates(axes, relative, ds["fooling_rate"].isel(m=i), color, label)
    _rates(axes, relative, ds["uniform_fooling_rate"], GREY, "uniform in image space")
    axes.set_xscale("log")
    axes.set_xticks(relative.to_numpy(), [f"{value:g}" for value in relative.round(1).to_numpy()])
    axes.minorticks_off()
    axes.set_xlabel("norm of the perturbation (% of mean image norm)")


def _against_dimension(axes: Axes, ds: xr.Dataset) -> None:
    for i, color in zip(_some(ds, "norm")[1:], ("C5", "C3", "C0"), strict=False):
        label = f"norm {float(relative_norm(ds)[i]):.0f} % of mean image"
        _rates(axes, ds["m"], ds["fooling_rate"].isel(norm=i), color, label)
        uniform = 100 * float(ds["uniform_fooling_rate"].isel(norm=i).mean())
        axes.axhline(uniform, color=color, linestyle=":", linewidth=1)
    axes.plot([], [], color=GREY, linestyle=":", label="uniform, same norm")
    axes.set_xscale("log")
    axes.set_xlabel("dimension m of the normal subspace")
