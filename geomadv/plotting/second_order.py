"""Figures of the principal curvatures: profile, directions, sharedness, scale sweep."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

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

# More classes than colours: the second round of lines is dashed, the third dotted.
_COLORS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, "black")
_LINES = ("-", (0, (4, 1.5)), (0, (1, 1)))

_MOST_CLASSES = len(_COLORS) * len(_LINES)
_GRID_CLASSES = 10
_ENDS = ("positive", "negative")

# Decades of the logarithmic part of an axis, below the largest magnitude.
_DECADES = 3


def curvature_profile(ds: xr.Dataset) -> Figure:
    """Sorted eigenvalues of the mean Hessian and of the mean shape operator, a line per class.

    ds: the result of analysis/curvature.py. The axes are logarithmic on either side of zero and
    linear around it. Where only the ends of the spectrum are known, they stand side by side.

    Raises:
        InputError: no class has curvatures.
    """
    with style():
        figure = new_figure(PAGE, 2.9)
        panels = figure.subplots(1, 2)
        names = {"hessian": "mean Hessian", "shape": "mean shape operator"}
        for axes, (name, what) in zip(panels, names.items(), strict=True):
            for one, look in _classes(ds):
                values = one[f"{name}_value"]
                _profile_line(axes, values.to_numpy(), ds, look)
            _symlog(axes, ds[f"{name}_value"].to_numpy())
            axes.axhline(0, color=GREY, linewidth=0.5, zorder=0)
            axes.set_xlabel("index of the eigenvalue")
            axes.set_ylabel(f"eigenvalue ({_units(ds[f'{name}_value'])})")
            axes.set_title(what)
        _class_legend(figure, ds)
        figure.suptitle(f"{title(ds)}: {_how(ds)}", fontsize=8)
        return figure


def curvature_directions(ds: xr.Dataset, count: int = 3) -> Figure:
    """The most positive and most negative directions of the mean Hessian as images, per class.

    ds: the result of analysis/curvature.py; count: directions at each end. At most ten classes are
    drawn. Grey is zero; each image is scaled by its largest magnitude.

    Raises:
        InputError: no class has curvatures.
    """
    chosen = [one for one, _ in _classes(ds)][:_GRID_CLASSES]
    count = min(count, ds.sizes["pair"] // 2)
    with style():
        figure = new_figure(COLUMN, 0.45 + 0.6 * len(chosen))
        # An empty column between the two ends.
        widths = [1.0] * count + [0.25] + [1.0] * count
        grid = figure.subplots(
            len(chosen), 2 * count + 1, squeeze=False, gridspec_kw={"width_ratios": widths}
        )
        for row, one in zip(grid, chosen, strict=True):
            row[count].set_axis_off()
            pairs = [*range(count), *range(-1, -count - 1, -1)]
            for axes, pair in zip([*row[:count], *row[count + 1 :]], pairs, strict=True):
                show_direction(axes, one["hessian_direction"].isel(pair=pair).to_numpy())
                value = float(one["hessian_value"].isel(pair=pair))
                axes.set_xlabel(
                    f"{value:#.3g}".replace("-", "\N{MINUS SIGN}"), fontsize=6, labelpad=1.5
                )
            name = str(one["class"].item())
            row[0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=4)
        grid[0, count // 2].set_title("most positive", fontsize=7)
        grid[0, count + 1 + count // 2].set_title("most negative", fontsize=7)
        figure.suptitle(f"principal curvature directions\n{title(ds)}", fontsize=8)
        return figure


def sharedness(ds: xr.Dataset, d: int | None = None) -> Figure:
    """Principal angles between the leading directions of two halves of the boundary points.

    ds: the result of analysis/curvature.py; d: how many leading directions span each subspace, one
    of the stored numbers; default the largest. Small angles: both halves find the same directions.
    The band is the range of uniform random subspaces of the same dimension.

    Raises:
        InputError: no class has curvatures, or another d.
    """
    stored = ds["half_dimension"].to_numpy().tolist()
    d = stored[-1] if d is None else d
    if d not in stored:
        raise InputError(f"d={d}: the result holds {', '.join(map(str, stored))}.")
    index = np.arange(1, d + 1)
    random = np.rad2deg(1) * ds["random_angle"].sel(half_dimension=d).isel(angle=slice(d))
    with style():
        figure = new_figure(PAGE, 2.9)
        for axes, end in zip(figure.subplots(1, 2, sharey=True), _ENDS, strict=True):
            low, high = random.min("random"), random.max("random")
            axes.fill_between(index, low, high, color=GREY, alpha=0.35, linewidth=0)
            axes.plot(index, random.mean("random"), color=GREY, linewidth=0.8)
            for one, look in _classes(ds):
                angles = one["half_angle"].sel(end=end, half_dimension=d).isel(angle=slice(d))
                axes.plot(index, np.degrees(angles), marker="o", markersize=2, **look)
            axes.set_xlabel("index of the principal angle")
            axes.set_title(f"{d} most {end} directions")
            axes.set_xticks(index if d <= 12 else np.arange(0, d + 1, 5)[1:])
            axes.set_ylim(0, 93)
            axes.set_yticks(range(0, 91, 15))
        figure.axes[0].set_ylabel("angle between halves of the points (°)")
        _class_legend(figure, ds, band="random subspaces")
        figure.suptitle(f"{title(ds)}: {_how(ds)}", fontsize=8)
        return figure


def scale_sweep(ds: xr.Dataset) -> Figure:
    """Curvature along the most positive and most negative direction against the step h.

    ds: the result of analysis/curvature.py. A smooth network's curvature levels off towards small
    h; a piecewise-linear one has no curvature but that of a scale. The band is the range over
    uniform random directions and all classes; a dotted line marks the step of the eigenvalues, if
    they come from a finite difference.

    Raises:
        InputError: no class has curvatures.
    """
    with style():
        figure = new_figure(PAGE, 2.9)
        step = ds["step"].to_numpy()
        random = ds["sweep_random"]
        for axes, end in zip(figure.subplots(1, 2, sharey=True), _ENDS, strict=True):
            axes.fill_between(
                step,
                random.min(["class", "draw"]),
                random.max(["class", "draw"]),
                color=GREY,
                alpha=0.35,
                linewidth=0,
            )
            for one, look in _classes(ds):
                axes.plot(step, one["sweep"].sel(end=end).isel(extreme=0), **look)
            axes.set_xscale("log")
            if np.isfinite(ds["hvp_step"]).any():
                axes.axvline(float(ds["hvp_step"].max()), color=GREY, linestyle=":", linewidth=1)
            axes.axhline(0, color=GREY, linewidth=0.5, zorder=0)
            axes.set_xlabel("step h (image units)")
            axes.set_title(f"most {end} direction")
        figure.axes[0].set_ylabel(f"curvature at scale h\n({_units(ds['sweep'])})")
        _class_legend(figure, ds, band="random directions")
        figure.suptitle(f"{title(ds)}\ndirections from the {_how(ds)}", fontsize=8)
        return figure


def spectral_density(ds: xr.Dataset) -> Figure:
    """Density of all D eigenvalues of the mean Hessian, a line per class.

    ds: the result of analysis/curvature.py where only the ends of the spectrum were computed. The
    density comes from stochastic Lanczos quadrature; bands reach one standard deviation over probes
    up; ticks on top the eigenvalues that were computed.

    Raises:
        InputError: no class has curvatures, or no density was made: the full spectrum is known, or
            the products are far from symmetric.
    """
    if "density" not in ds:
        raise InputError(
            "the result has no spectral density, since the full spectrum is known: draw "
            "curvature_profile instead."
        )
    if not ds["density"].notnull().any():
        raise InputError(
            "no spectral density: the curvature products are not those of one symmetric matrix "
            f"(asymmetry up to {float(ds['hessian_asymmetry'].max()):.2g}), as of finite "
            "differences on piecewise-linear networks. Exact products of a smooth network have one."
        )
    with style():
        figure = new_figure(COLUMN, 2.8)
        axes = figure.add_subplot()
        for one, look in _classes(ds):
            grid, density, spread = (
                one[name].to_numpy() for name in ("density_value", "density", "density_spread")
            )
            axes.fill_between(
                grid, density, density + spread, color=look["color"], alpha=0.2, linewidth=0
            )
            axes.plot(grid, density, **look)
            values = one["hessian_value"].to_numpy()
            top = np.full(len(values), 0.985)
            axes.plot(values, top, "|", color=look["color"], transform=axes.get_xaxis_transform())
        peak = float(ds["density"].max())
        axes.set_yscale("log")
        axes.set_ylim(1e-5 * peak, 5 * peak)
        axes.set_xlabel(f"eigenvalue ({_units(ds['hessian_value'])})")
        axes.set_ylabel(f"density ({_units(ds['density'])})")
        axes.set_title(f"{title(ds)}\n{_how(ds)}", fontsize=7)
        _class_legend(figure, ds)
        return figure


def _classes(ds: xr.Dataset) -> Iterator[tuple[xr.Dataset, dict[str, Any]]]:
    """The classes that have curvatures, each with the look of its line."""
    solved = [i for i in range(ds.sizes["class"]) if np.isfinite(ds["hessian_value"][i]).any()]
    if not solved:
        raise InputError(
            "no class of the result has curvatures: too few boundary points survived. Run "
            "curvature.py with more images."
        )
    for i in solved[:_MOST_CLASSES]:
        look = {
            "color": _COLORS[i % len(_COLORS)],
            "linestyle": _LINES[i // len(_COLORS) % len(_LINES)],
        }
        yield ds.isel({"class": i}), look


def _profile_line(
    axes: Axes,
    values: NDArray[np.floating],
    ds: xr.Dataset,
    look: dict[str, Any],
) -> None:
    dimension = int(np.prod([ds.sizes[name] for name in ("channel", "row", "column")]))
    pairs = len(values)
    if pairs == dimension:
        axes.plot(np.arange(1, pairs + 1), values, **look)
        return
    # Only the ends are known: they are drawn side by side with a gap for the unknown middle.
    half = pairs // 2
    gap = max(2, half // 5)
    axes.plot(np.arange(1, half + 1), values[:half], **look)
    after = np.arange(half + gap, 2 * half + gap)
    axes.plot(after, values[-half:], **look)
    ticks = [1, half, half + gap, 2 * half + gap - 1]
    axes.set_xticks(ticks, [str(i) for i in (1, half, dimension - half + 1, dimension)])


def _symlog(axes: Axes, values: NDArray[np.floating]) -> None:
    """Logarithmic for some decades on either side of zero, linear in between."""
    largest = float(np.nanmax(np.abs(values)))
    top = int(np.ceil(np.log10(largest))) if largest > 0 else 0
    powers = 10.0 ** np.arange(top - _DECADES, top + 1)
    axes.set_yscale("symlog", linthresh=powers[0])
    axes.set_yticks([*-powers[::-1], 0, *powers])
    axes.minorticks_off()
    margin = 1.6
    axes.set_ylim(
        margin * min(0, float(np.nanmin(values))), margin * max(0, float(np.nanmax(values)))
    )


def _class_legend(figure: Figure, ds: xr.Dataset, band: str | None = None) -> None:
    """One legend for all panels, below them."""
    axes = figure.axes[0]
    handles: list[Artist] = [
        axes.plot([], [], label=str(one["class"].item()), **look)[0] for one, look in _classes(ds)
    ]
    if band is not None:
        handles.append(axes.fill_between([], [], color=GREY, alpha=0.35, label=band))
    # Long names need more than one row: an entry is a line, gaps and some 0.06 inches a letter.
    width = sum(0.55 + 0.06 * len(str(handle.get_label())) for handle in handles)
    rows = int(np.ceil(width / figure.get_figwidth()))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=-(-len(handles) // rows),
        columnspacing=1.2,
    )


def _units(variable: xr.DataArray) -> str:
    return str(variable.attrs["units"]).replace("^2", "²")


def _how(ds: xr.Dataset) -> str:
    """Which product the eigenvalues come from and from how many points."""
    solved = ds.isel({"class": np.flatnonzero(ds["kind"].to_numpy() >= 0)})
    meanings = str(ds["kind"].attrs["flag_meanings"]).split()
    kind = meanings[1 + int(solved["kind"][0])].replace("-", " ")
    if np.isfinite(solved["hvp_step"][0]):
        kind += f", h = {float(solved['hvp_step'][0]):.2g}"
    if np.isfinite(solved["beta"][0]):
        kind += f", β = {float(solved['beta'][0]):g}"
    used = solved["points_used"].to_numpy()
    points = f"{used.min()}" if used.min() == used.max() else f"{used.min()} to {used.max()}"
    return f"Hessian ({kind}) over {points} boundary points a class"
