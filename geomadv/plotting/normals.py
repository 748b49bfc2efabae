"""Figures of the normals: spectrum, leading directions, random-subspace fooling."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from geomadv.errors import InputError
from geomadv.labels import percent
from geomadv.plotting.figure import (
    Given,
    figure,
    heading,
    legend,
    new_figure,
    note,
    panel,
    panels,
    settle,
    whole,
)
from geomadv.plotting.parts import (
    band,
    caption,
    question,
    relative_norm,
    share_ticks,
    show_direction,
    spread,
    title,
    twofold,
)
from geomadv.plotting.style import COLUMN, GREY, PAGE


@figure("normal_svd", "singular_value", "baseline", "rows", "normal_effective_rank", "direction")
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
        xlabel="index of the singular value, share of all",
        ylabel="singular value of the normals",
        title=f"{title(ds)}\n{int(ds['rows'])} normals, effective rank "
        f"{float(ds['normal_effective_rank']):.0f} "
        f"(random: {float(ds['baseline_effective_rank'].mean()):.0f})",
    )
    axes.legend(loc="lower left")
    share_ticks(axes, int(np.prod(ds["direction"].shape[1:])))
    draws = f"band: range over {ds.sizes['draw']} draws of as many uniform random unit vectors"
    return note(whole(axes), f"{int(ds['rows'])} boundary normals", f"{draws}, grey line: mean")


@figure("normal_svd", "singular_value", "direction", "rank", "rows", "error_bound")
def leading_directions(ds: xr.Dataset, count: int = 10) -> Figure:
    """The leading right singular vectors of the normal matrix as images, a page of its own.

    ds: result of `experiments.normal_spectrum`. Grey is zero; each image is scaled by its largest
    magnitude. A dashed frame marks a direction that the error bound does not tell from its
    neighbour's.
    """
    count = min(count, ds.sizes["rank"])
    columns = min(5, count)
    rows = -(-count // columns)
    drawing = new_figure(COLUMN, 0.45 + 0.82 * rows)
    bound = float(ds["error_bound"])
    gaps = -np.diff(ds["singular_value"].to_numpy(), append=-np.inf)
    unsettled = np.minimum(gaps, np.append(np.inf, gaps[:-1])) <= bound
    for i in range(count):
        axes = drawing.add_subplot(rows, columns, i + 1)
        show_direction(axes, ds["direction"][i].to_numpy())
        caption(axes, f"σ = {float(ds['singular_value'][i]):.2f}")
        if unsettled[i]:
            question(axes)
    drawing.suptitle(f"leading normal directions\n{title(ds)}")
    words = "grey: zero; scaled by the largest magnitude", f"σ: singular value ± {bound:.1g}"
    dashed = "dashed frame: no farther from a neighbour than that" if any(unsettled) else ""
    return note(drawing, f"{int(ds['rows'])} boundary normals", *words, dashed)


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
    over draws, bands run from the 10th to the 90th percentile; grey are vectors uniform in image
    space. On the right, curves and grey lines of one marker are of one norm.
    """
    left, right = panels(ax, PAGE, 2.9, 1, 2)
    _against_norm(left, ds)
    _against_dimension(right, ds)
    for axes in (left, right):
        axes.set_ylabel("fooling rate (%)")
        axes.set_ylim(bottom=0)
        legend(axes, 2, drop=0.3)
    drawing = note(
        heading(left, f"random vectors of the normal subspace, {title(ds)}"),
        f"{ds.sizes['sample']} held-out images",
        f"lines: means over {ds.sizes['draw']} draws of a vector, bands: 10th to 90th percentile",
    )
    return settle(drawing)


def _rates(axes: Axes, x: xr.DataArray, rates: xr.DataArray, color: str, **looks: Any) -> None:
    looks = {"marker": "o", "markersize": 2.5, **looks}
    band(axes, x, *spread(100 * rates, "draw", 0.1, 0.9), color, **looks)


def _some(ds: xr.Dataset, dim: str) -> list[int]:
    """Up to four positions along a dimension, spread over it."""
    return sorted({int(i) for i in np.linspace(0, ds.sizes[dim] - 1, 4)})


def _against_norm(axes: Axes, ds: xr.Dataset) -> None:
    relative = relative_norm(ds)
    for i, color in zip(_some(ds, "m"), ("C0", "C1", "C2", "C4"), strict=False):
        label = f"subspace, m = {int(ds['m'][i])}"
        _rates(axes, relative, ds["fooling_rate"].isel(m=i), color, label=label)
    _rates(axes, relative, ds["uniform_fooling_rate"], GREY, label="uniform in image space")
    axes.set_xscale("log")
    axes.set_xticks(relative.to_numpy(), [f"{value:g}" for value in relative.round(1).to_numpy()])
    axes.minorticks_off()
    axes.set_xlabel("norm of the perturbation (% of mean image norm)")


def _against_dimension(axes: Axes, ds: xr.Dataset) -> None:
    # Other colours than on the left, where they tell dimensions apart.
    looks = (("C5", "o"), ("C3", "s"), ("C0", "^"))
    for i, (color, marker) in zip(_some(ds, "norm")[1:], looks, strict=False):
        label = f"norm {float(relative_norm(ds)[i]):.0f} % of mean image"
        one = ds.isel(norm=i)
        _rates(axes, ds["m"], one["fooling_rate"], color, label=label, marker=marker)
        level = np.full(ds.sizes["m"], 100 * float(one["uniform_fooling_rate"].mean()))
        axes.plot(ds["m"], level, color=GREY, linestyle=":", marker=marker, markersize=2.5)
    axes.plot([], [], color=GREY, linestyle=":", label="uniform, same norm")
    axes.set_xscale("log")
    axes.set_xticks(ds["m"].to_numpy())
    axes.minorticks_off()
    words = "dimension m of the normal subspace"
    if "energy_share" in ds:
        energy = dict(zip(ds["m"].to_numpy(), ds["energy_share"].to_numpy(), strict=True))
        twofold(axes, lambda m: f"{percent(energy[round(m)])} %" if round(m) in energy else "")
        words = "dimension m, share of the normals' energy"
    axes.set_xlabel(words)
