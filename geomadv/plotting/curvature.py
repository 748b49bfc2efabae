"""Figures of the principal curvatures: profile, directions, sharedness, scale sweep."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from geomadv.errors import InputError
from geomadv.experiments.principal.doubt import cancellation, class_doubt
from geomadv.linalg.doubt import NO_EIGENVECTOR, is_no_eigenvector
from geomadv.plotting.curvature_parts import (
    any_none,
    class_legend,
    classes,
    how,
    units,
)
from geomadv.plotting.style import (
    BLUE,
    COLUMN,
    GREY,
    HOLLOW,
    ORANGE,
    PAGE,
    cross_out,
    new_figure,
    show_direction,
    style,
    title,
)

_GRID_CLASSES = 10
_ENDS = ("positive", "negative")

# Decades of the logarithmic part of an axis, below the largest magnitude.
_DECADES = 3


def curvature_profile(ds: xr.Dataset) -> Figure:
    """Eigenvalues of the mean Hessian and of the mean shape operator in order, a line per class.

    ds: the result of analysis/curvature.py. The axes are logarithmic on either side of zero and
    linear around it. Where only the ends of the spectrum are known, they stand side by side. Hollow
    circles are values along directions that are no eigenvectors (residual above 1). Values that
    finite differences measure need not fall along the solver's order.

    Raises:
        InputError: no class has curvatures.
    """
    with style():
        figure = new_figure(PAGE, 2.9)
        panels = figure.subplots(1, 2)
        names = {"hessian": "mean Hessian", "shape": "mean shape operator"}
        for axes, (name, what) in zip(panels, names.items(), strict=True):
            for one, look in classes(ds):
                _profile_line(axes, one, name, look)
            _symlog(axes, ds[f"{name}_value"].to_numpy())
            axes.axhline(0, color=GREY, linewidth=0.5, zorder=0)
            axes.set_xlabel("index of the eigenvalue")
            axes.set_ylabel(f"eigenvalue ({units(ds[f'{name}_value'])})")
            axes.set_title(what)
        class_legend(figure, ds, hollow=any_none(ds, "hessian") or any_none(ds, "shape"))
        figure.suptitle(f"{title(ds)}: {how(ds)}", fontsize=8)
        return figure


def curvature_directions(ds: xr.Dataset, count: int = 3) -> Figure:
    """The most positive and most negative directions of the mean Hessian as images, per class.

    ds: the result of analysis/curvature.py; count: directions at each end. At most ten classes are
    drawn. Grey is zero; each image is scaled by its largest magnitude. Directions that are no
    eigenvectors (residual above 1) say so and are crossed out.

    Raises:
        InputError: no class has curvatures.
    """
    chosen = [one for one, _ in classes(ds)][:_GRID_CLASSES]
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
                text = f"{value:#.3g}".replace("-", "\N{MINUS SIGN}")
                if is_no_eigenvector(float(one["hessian_residual"].isel(pair=pair))):
                    cross_out(axes)
                    text += "\n" + NO_EIGENVECTOR.replace(" ", "\n")
                axes.set_xlabel(text, fontsize=6 if "\n" not in text else 5, labelpad=1.5)
            name = str(one["class"].item())
            row[0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=4)
        grid[0, count // 2].set_title("most positive", fontsize=7)
        grid[0, count + 1 + count // 2].set_title("most negative", fontsize=7)
        heading = ["principal curvature directions", title(ds), class_doubt(ds).of_step]
        figure.suptitle("\n".join(filter(None, heading)), fontsize=8)
        return figure


def sharedness(ds: xr.Dataset, d: int | None = None) -> Figure:
    """How far boundary points agree: leading directions of two halves, and signs of single points.

    ds: the result of analysis/curvature.py; d: how many leading directions span each subspace, one
    of the stored numbers; default the largest. Small angles: both halves find the same directions.
    The band is the range of uniform random subspaces of the same dimension. On the right, where the
    result holds it, the share of points that curve as their mean does along its extreme direction;
    hollow where that is no eigenvector.

    Raises:
        InputError: no class has curvatures, or another d.
    """
    stored = ds["half_dimension"].to_numpy().tolist()
    d = stored[-1] if d is None else d
    if d not in stored:
        raise InputError(f"d={d}: the result holds {', '.join(map(str, stored))}.")
    index = np.arange(1, d + 1)
    random = np.rad2deg(1) * ds["random_angle"].sel(half_dimension=d).isel(angle=slice(d))
    signs = "hessian_sign_share" in ds
    with style():
        figure = new_figure(PAGE, 2.9)
        panels = figure.subplots(1, 3 if signs else 2).tolist()
        panels[1].sharey(panels[0])
        if signs:
            _sign_panel(panels[2], ds)
        for axes, end in zip(panels, _ENDS, strict=False):
            low, high = random.min("random"), random.max("random")
            axes.fill_between(index, low, high, color=GREY, alpha=0.35, linewidth=0)
            axes.plot(index, random.mean("random"), color=GREY, linewidth=0.8)
            for one, look in classes(ds):
                angles = one["half_angle"].sel(end=end, half_dimension=d).isel(angle=slice(d))
                axes.plot(index, np.degrees(angles), marker="o", markersize=2, **look)
            axes.set_xlabel("index of the principal angle")
            axes.set_title(f"{d} most {end} directions")
            axes.set_xticks(index if d <= 12 else np.arange(0, d + 1, 5)[1:])
            axes.set_ylim(0, 93)
            axes.set_yticks(range(0, 91, 15))
        figure.axes[0].set_ylabel("angle between halves of the points (°)")
        class_legend(figure, ds, band="random subspaces")
        figure.suptitle(f"{title(ds)}: {how(ds)}", fontsize=8)
        return figure


def scale_sweep(ds: xr.Dataset) -> Figure:
    """Curvature along the most positive and most negative direction against the step h.

    ds: the result of analysis/curvature.py. A smooth network's curvature levels off towards small
    h; a piecewise-linear one has no curvature but that of a scale. The band is the range over
    uniform random directions and all classes; a dotted line marks the step of the eigenvalues, if
    they come from a finite difference, and a dashed one the median boundary distance (bands where
    the classes have their own). Beyond it, steps are coarser than the boundary's distance. Faint
    lines are directions that are no eigenvectors.

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
            for one, look in classes(ds):
                residual = one["hessian_residual"].isel(pair=0 if end == "positive" else -1)
                look |= {"alpha": 0.35 if is_no_eigenvector(float(residual)) else 1.0}
                axes.plot(step, one["sweep"].sel(end=end).isel(extreme=0), **look)
            axes.set_xscale("log")
            _mark(axes, ds["hvp_step"].to_numpy(), ":")
            _mark(axes, ds["median_distance"].to_numpy(), "--")
            axes.axhline(0, color=GREY, linewidth=0.5, zorder=0)
            axes.set_xlabel("step h (image units)")
            axes.set_title(f"most {end} direction")
        figure.axes[0].set_ylabel(f"curvature at scale h\n({units(ds['sweep'])})")
        lines = {"median boundary distance": "--"}
        if np.isfinite(ds["hvp_step"]).any():
            lines["step of the eigenvalues"] = ":"
        class_legend(figure, ds, band="random directions", lines=lines)
        figure.suptitle(f"{title(ds)}\ndirections from the {how(ds)}", fontsize=8)
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
        told = cancellation(ds)
        if told:
            raise InputError(
                f"no spectral density: {told}, as those of opposite or mixed pairs of classes do, "
                "and what is left of them is not symmetric. Take points towards one class."
            )
        raise InputError(
            "no spectral density: the curvature products are not those of one symmetric matrix "
            f"(asymmetry up to {float(ds['hessian_asymmetry'].max()):.2g}), as of finite "
            "differences on piecewise-linear networks. Exact products of a smooth network have one."
        )
    with style():
        figure = new_figure(COLUMN, 2.8)
        axes = figure.add_subplot()
        for one, look in classes(ds):
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
        axes.set_xlabel(f"eigenvalue ({units(ds['hessian_value'])})")
        axes.set_ylabel(f"density ({units(ds['density'])})")
        axes.set_title(f"{title(ds)}\n{how(ds)}", fontsize=7)
        class_legend(figure, ds)
        return figure


def _sign_panel(axes: Axes, ds: xr.Dataset) -> None:
    """Shares of points with the sign of the mean along the extreme directions, class by class."""
    shown = [(str(one["class"].item()), one) for one, _ in classes(ds)]
    for i, (_, one) in enumerate(shown):
        for end, pair, color, shift in (
            ("positive", 0, BLUE, -0.12),
            ("negative", -1, ORANGE, 0.12),
        ):
            share = 100 * float(one["hessian_sign_share"].sel(end=end).isel(extreme=0))
            none = is_no_eigenvector(float(one["hessian_residual"].isel(pair=pair)))
            face = "white" if none else color
            label = f"most {end} direction" if i == 0 else None
            axes.plot(i + shift, share, "o", ms=3, color=color, markerfacecolor=face, label=label)
    names = [name for name, _ in shown]
    axes.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 2 else 0)
    axes.set_xlim(-0.7, len(names) - 0.3)
    axes.set_ylim(0, 103)
    axes.set_xlabel("class")
    axes.set_ylabel("share of the points (%)")
    axes.set_title("points with the sign of the mean")
    axes.legend(loc="lower center")


def _mark(axes: Axes, lengths: NDArray[np.floating], linestyle: str) -> None:
    """A vertical line at the median of lengths, and a band where they differ by class."""
    known = lengths[np.isfinite(lengths)]
    if len(known) == 0:
        return
    axes.axvline(float(np.median(known)), color=GREY, linestyle=linestyle, linewidth=1)
    if known.max() > known.min():
        axes.axvspan(known.min(), known.max(), color=GREY, alpha=0.1, linewidth=0, zorder=0)


def _profile_line(axes: Axes, one: xr.Dataset, name: str, look: dict[str, Any]) -> None:
    values = one[f"{name}_value"].to_numpy()
    none = is_no_eigenvector(one[f"{name}_residual"].to_numpy())
    dimension = int(np.prod([one.sizes[side] for side in ("channel", "row", "column")]))
    pairs = len(values)
    half, gap = pairs // 2, 0
    place = np.arange(1, pairs + 1)
    parts = [slice(None)]
    if pairs < dimension:
        # Only the ends are known: they are drawn side by side with a gap for the unknown middle.
        gap = max(2, half // 5)
        place[half:] += gap - 1
        parts = [slice(half), slice(half, None)]
        ticks = [1, half, half + gap, 2 * half + gap - 1]
        axes.set_xticks(ticks, [str(i) for i in (1, half, dimension - half + 1, dimension)])
    for part in parts:
        axes.plot(place[part], values[part], **look)
    # In a full spectrum circles would cover each other: some 40 of them are enough.
    shown = np.flatnonzero(none)[:: max(1, none.sum() // 40)]
    axes.plot(place[shown], values[shown], **HOLLOW, color=look["color"])


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
