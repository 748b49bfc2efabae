"""Figures of the normals: spectrum, leading directions, random-subspace fooling."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from geomadv.errors import InputError
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


def normal_spectrum(ds: xr.Dataset) -> Figure:
    """Singular values of the normal matrix beside the random baseline's mean and range.

    ds: result of `experiments.normal_spectrum` with a full spectrum.

    Raises:
        InputError: the spectrum was not computed in full (randomised SVD).
    """
    if "spectrum" not in ds:
        raise InputError(
            "the result has no full spectrum (randomised SVD): run normal_svd with more memory."
        )
    with style():
        figure = new_figure(COLUMN, 2.4)
        axes = figure.add_subplot()
        index = np.arange(1, ds.sizes["component"] + 1)
        baseline = ds["baseline"]
        axes.fill_between(
            index, baseline.min("draw"), baseline.max("draw"), color=GREY, alpha=0.35, linewidth=0
        )
        axes.plot(index, baseline.mean("draw"), color=GREY, label="uniform random directions")
        axes.plot(index, ds["spectrum"], color=BLUE, label="boundary normals")
        axes.set_xscale("log")
        axes.set_yscale("log")
        top = float(max(ds["spectrum"].max(), baseline.max()))
        axes.set_ylim(max(float(ds["spectrum"].min()), 1e-3 * top) / 1.5, 1.5 * top)
        axes.set_xlabel("index of the singular value")
        axes.set_ylabel("singular value of the normal matrix")
        axes.set_title(
            f"{title(ds)}\n{int(ds['rows'])} normals, effective rank "
            f"{float(ds['normal_effective_rank']):.0f} "
            f"(random: {float(ds['baseline_effective_rank'].mean()):.0f})"
        )
        axes.legend(loc="lower left")
        return figure


def leading_directions(ds: xr.Dataset, count: int = 10) -> Figure:
    """The leading right singular vectors of the normal matrix as images.

    ds: result of `experiments.normal_spectrum`. Grey is zero; each image is scaled by its largest
    magnitude.
    """
    count = min(count, ds.sizes["rank"])
    columns = min(5, count)
    rows = -(-count // columns)
    with style():
        figure = new_figure(COLUMN, 0.3 + 0.82 * rows)
        grid = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
        for i, axes in enumerate(grid):
            if i >= count:
                axes.set_axis_off()
                continue
            show_direction(axes, ds["direction"].isel(rank=i).to_numpy())
            axes.set_title(f"σ = {float(ds['singular_value'][i]):.2f}", fontsize=6, pad=2)
        figure.suptitle(f"leading normal directions, {title(ds)}", fontsize=8)
        return figure


def random_subspace_fooling(ds: xr.Dataset) -> Figure:
    """Fooling rate against norm and against the subspace dimension, with the range over draws.

    ds: result of `experiments.random_subspace_fooling`. Lines are means over draws, bands run from
    the 10th to the 90th percentile. The title gives the rates at the norm at which uniform
    directions fool about as many images as published for CaffeNet, 10 % (Moosavi-Dezfooli et al.,
    CVPR 2017, §4).
    """
    with style():
        figure = new_figure(PAGE, 2.9)
        left, right = figure.subplots(1, 2)
        _against_norm(left, ds)
        _against_dimension(right, ds)
        figure.suptitle(
            f"{title(ds)} ({ds.sizes['sample']} held-out images)\n{_beside_published(ds)}",
            fontsize=8,
        )
        return figure


def _beside_published(ds: xr.Dataset) -> str:
    """The measured rates in the subspace and uniform in a sentence with the published ones."""
    uniform = 100 * ds["uniform_fooling_rate"].mean("draw").to_numpy()
    at = int(np.abs(uniform - 10).argmin())
    inside = 100 * ds["fooling_rate"].isel(norm=at).mean("draw").to_numpy()
    best = int(inside.argmax())
    norm = 100 * float(ds["norm"][at] / ds["mean_image_norm"])
    return (
        f"m = {int(ds['m'][best])} at {norm:.0f} % norm: {inside[best]:.0f} % against "
        f"{uniform[at]:.0f} % uniform (published, CaffeNet, m = 100: 38 % against 10 %)"
    )


def _band(axes: Axes, x: xr.DataArray, rates: xr.DataArray, color: str, label: str) -> None:
    percent = 100 * rates
    axes.plot(x, percent.mean("draw"), color=color, label=label, marker="o", markersize=2.5)
    low, high = (percent.quantile(q, "draw") for q in (0.1, 0.9))
    axes.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)


def _against_norm(axes: Axes, ds: xr.Dataset) -> None:
    relative = 100 * ds["norm"] / ds["mean_image_norm"]
    chosen = np.unique(np.linspace(0, ds.sizes["m"] - 1, 4).astype(int))
    for i, color in zip(chosen, (BLUE, ORANGE, GREEN, PURPLE), strict=False):
        m = int(ds["m"][i])
        _band(axes, relative, ds["fooling_rate"].isel(m=i), color, f"subspace, m = {m}")
    _band(axes, relative, ds["uniform_fooling_rate"], GREY, "uniform in image space")
    axes.set_xscale("log")
    axes.set_xticks(relative.to_numpy(), [f"{value:g}" for value in relative.round(1).to_numpy()])
    axes.minorticks_off()
    axes.set_xlabel("norm of the perturbation (% of mean image norm)")
    axes.set_ylabel("fooling rate (%)")
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2)


def _against_dimension(axes: Axes, ds: xr.Dataset) -> None:
    chosen = np.unique(np.linspace(0, ds.sizes["norm"] - 1, 4).astype(int))[1:]
    for i, color in zip(chosen, (SKY, VERMILION, BLUE), strict=False):
        share = 100 * float(ds["norm"][i] / ds["mean_image_norm"])
        _band(
            axes,
            ds["m"],
            ds["fooling_rate"].isel(norm=i),
            color,
            f"norm {share:.0f} % of mean image",
        )
        uniform = 100 * float(ds["uniform_fooling_rate"].isel(norm=i).mean())
        axes.axhline(uniform, color=color, linestyle=":", linewidth=1)
    axes.plot([], [], color=GREY, linestyle=":", label="uniform, same norm")
    axes.set_xscale("log")
    axes.set_xlabel("dimension m of the normal subspace")
    axes.set_ylabel("fooling rate (%)")
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2)
