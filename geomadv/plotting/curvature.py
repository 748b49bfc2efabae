"""Figures of the principal curvatures: profile, directions, sharedness, scale sweep, density."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from geomadv.errors import InputError
from geomadv.experiments.principal.doubt import cancellation, class_doubt
from geomadv.labels import percent
from geomadv.linalg.doubt import NO_EIGENVECTOR, is_no_eigenvector
from geomadv.plotting.figure import (
    Given,
    figure,
    heading,
    legend,
    lines,
    new_figure,
    note,
    panel,
    panels,
    whole,
)
from geomadv.plotting.parts import (
    band,
    caption,
    class_ticks,
    cross_out,
    question,
    share_ticks,
    show_direction,
    spread,
    title,
    twofold,
)
from geomadv.plotting.style import COLUMN, GREY, HOLLOW, PAGE

_GRID_CLASSES = 10
_ENDS = ("positive", "negative")

# More classes than colours: the second round of lines is dashed, the third dotted.
_COLORS, _LINES = 7, ("-", (0, (4, 1.5)), (0, (1, 1)))

# Decades of the logarithmic part of an axis, below the largest magnitude.
_DECADES = 3

_NEEDS = ("class", "kind", "hvp_step", "points_used", "hessian_value", "hessian_residual")


@figure("curvature", *_NEEDS, "shape_value")
def curvature_profile(ds: xr.Dataset, *, ax: Given = None) -> Figure:
    """Eigenvalues of the mean Hessian and of the mean shape operator in order, a line per class.

    ds: result of the experiment `curvature`; ax: two axes to draw into. The axes are logarithmic on
    either side of zero and linear around it. Where only the ends of the spectrum are known, they
    stand side by side. Hollow circles are values along directions that are no eigenvectors
    (residual above 1). Values that finite differences measure need not fall along the solver's
    order.

    Raises:
        InputError: no class has curvatures.
    """
    names = {"hessian": "mean Hessian", "shape": "mean shape operator"}
    both = panels(ax, PAGE, 2.9, 1, 2)
    for axes, (name, what) in zip(both, names.items(), strict=True):
        for one, look in _classes(ds):
            _profile_line(axes, one, name, look)
        _symlog(axes, ds[f"{name}_value"].to_numpy())
        axes.axhline(0, color=GREY, linewidth=0.5, zorder=0)
        axes.set_xlabel("index of the eigenvalue, share of all")
        axes.set_ylabel(f"eigenvalue ({_units(ds[f'{name}_value'])})")
        axes.set_title(what)
    none = [is_no_eigenvector(ds[f"{name}_residual"].to_numpy()).any() for name in names]
    _class_legend(both[0], ds, hollow=any(none))
    hollow = f"{NO_EIGENVECTOR}: residual above 1" if any(none) else ""
    axis = "axes linear around zero, logarithmic beyond"
    return note(heading(both[0], f"{title(ds)}: {_how(ds)}"), _points(ds), axis, hollow)


@figure("curvature", *_NEEDS, "hessian_direction")
def curvature_directions(ds: xr.Dataset, count: int = 3) -> Figure:
    """The most positive and most negative directions of the mean Hessian, a page of images.

    ds: result of the experiment `curvature`; count: directions at each end. A row for each class,
    at most ten. Grey is zero; each image is scaled by its largest magnitude. Directions that are no
    eigenvectors (residual above 1) say so and are crossed out; a dashed frame alone marks those
    that did not converge.

    Raises:
        InputError: no class has curvatures.
    """
    chosen = [one for one, _ in _classes(ds)][:_GRID_CLASSES]
    count = min(count, ds.sizes["pair"] // 2)
    drawing = new_figure(COLUMN, 0.45 + 0.6 * len(chosen))
    # An empty column between the two ends.
    widths = [1.0] * count + [0.25] + [1.0] * count
    grid = drawing.add_gridspec(len(chosen), 2 * count + 1, width_ratios=widths)
    columns = [*range(count), *range(count + 1, 2 * count + 1)]
    pairs = [*range(count), *range(-1, -count - 1, -1)]
    for row, one in enumerate(chosen):
        for column, pair in zip(columns, pairs, strict=True):
            axes = drawing.add_subplot(grid[row, column])
            _direction(axes, one.isel(pair=pair))
            if column == 0:
                name = str(one["class"].item())
                axes.set_ylabel(name, rotation=0, ha="right", va="center", labelpad=4)
            if row == 0 and column in (count // 2, count + 1 + count // 2):
                end = "positive" if column < count else "negative"
                axes.set_title(f"most {end}")
    drawing.suptitle(lines("principal curvature directions", title(ds), class_doubt(ds).of_step))
    return note(
        drawing,
        _points(ds),
        f"below: eigenvalue of the mean Hessian ({_units(ds['hessian_value'])})",
        "grey: zero; scaled by the largest magnitude",
        f"crossed out: {NO_EIGENVECTOR} (residual above 1), dashed frame alone: not converged",
    )


@figure("curvature", *_NEEDS, "half_angle", "half_dimension", "random_angle")
def sharedness(ds: xr.Dataset, d: int | None = None, *, ax: Given = None) -> Figure:
    """How far boundary points agree: leading directions of two halves, and signs of single points.

    ds: result of the experiment `curvature`; d: how many leading directions span each subspace, one
    of the stored numbers; default the largest. Small angles: both halves find the same directions.
    The band is the range of uniform random subspaces of the same dimension. On the right, where the
    result holds it, the share of points that curve as their mean does along its extreme direction;
    hollow where that is no eigenvector. ax: three axes to draw into, or two without signs.

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
    all_panels = panels(ax, PAGE, 2.9, 1, 3 if signs else 2)
    if ax is None:
        all_panels[1].sharey(all_panels[0])
    for axes, end in zip(all_panels, _ENDS, strict=False):
        band(axes, index, *spread(random, "random"), color=GREY, alpha=0.35, linewidth=0.8)
        for one, look in _classes(ds):
            angles = one["half_angle"].sel(end=end, half_dimension=d).isel(angle=slice(d))
            axes.plot(index, np.degrees(angles), marker="o", markersize=2, **look)
        axes.set_xlabel("index of the principal angle")
        axes.set_title(f"{d} most {end} directions")
        axes.set_xticks(index if d <= 12 else np.arange(0, d + 1, 5)[1:])
        axes.set(ylim=(0, 93), yticks=range(0, 91, 15))
    if signs:
        _sign_panel(all_panels[2], ds)
    all_panels[0].set_ylabel("angle between halves of the points (°)")
    _class_legend(all_panels[0], ds, band="random subspaces")
    return note(
        heading(all_panels[0], f"{title(ds)}: {_how(ds)}"),
        f"{_points(ds)}, halved once",
        f"band: range over {ds.sizes['random']} draws of two random subspaces, grey line: mean",
        "right: hollow where the direction is no eigenvector, dotted: chance" if signs else "",
    )


@figure("curvature", *_NEEDS, "sweep", "sweep_random", "step", "median_distance")
def scale_sweep(ds: xr.Dataset, *, ax: Given = None) -> Figure:
    """Curvature along the most positive and most negative direction against the step h.

    ds: result of the experiment `curvature`; ax: two axes to draw into. A smooth network's
    curvature levels off towards small h; a piecewise-linear one has no curvature but that of a
    scale. The band is the range over uniform random directions and all classes; a dotted line marks
    the step of the eigenvalues, if they come from a finite difference, and a dashed one the median
    boundary distance (bands where the classes have their own). Beyond it, steps are coarser than
    the boundary's distance. Faint lines are directions that are no eigenvectors.

    Raises:
        InputError: no class has curvatures.
    """
    shown = list(_classes(ds))
    step, random = ds["step"].to_numpy(), ds["sweep_random"]
    low, high = random.min(["class", "draw"]), random.max(["class", "draw"])
    far = float(np.nanmedian(ds["median_distance"]))
    both = panels(ax, PAGE, 2.9, 1, 2, sharey=True)
    for axes, end in zip(both, _ENDS, strict=True):
        axes.fill_between(step, low, high, color=GREY, alpha=0.35, linewidth=0)
        for one, look in shown:
            residual = one["hessian_residual"].isel(pair=0 if end == "positive" else -1)
            look |= {"alpha": 0.35 if is_no_eigenvector(float(residual)) else 1.0}
            axes.plot(step, one["sweep"].sel(end=end).isel(extreme=0), **look)
        axes.set_xscale("log")
        _mark(axes, ds["hvp_step"].to_numpy(), ":")
        _mark(axes, ds["median_distance"].to_numpy(), "--")
        axes.axhline(0, color=GREY, linewidth=0.5, zorder=0)
        axes.set_xlabel("step h (image units; median distances)")
        twofold(axes, lambda h: f"{h / far:.2g}")
        axes.set_title(f"most {end} direction")
    both[0].set_ylabel(f"curvature at scale h\n({_units(ds['sweep'])})")
    marks = {"median boundary distance": "--"}
    if np.isfinite(ds["hvp_step"]).any():
        marks["step of the eigenvalues"] = ":"
    _class_legend(both[0], ds, band="random directions", marks=marks)
    draws = f"{ds.sizes['draw']} uniform random directions a class"
    return note(
        heading(both[0], title(ds), f"directions from the {_how(ds)}"),
        _points(ds),
        f"dark band: range over {draws}; light bands: range of the marks over classes",
        f"faint lines: {NO_EIGENVECTOR}",
    )


@figure("curvature", *_NEEDS)
def spectral_density(ds: xr.Dataset, *, ax: Axes | None = None) -> Figure:
    """Density of all D eigenvalues of the mean Hessian, a line per class.

    ds: result of the experiment `curvature` where only the ends of the spectrum were computed; ax:
    axes to draw into. The density comes from stochastic Lanczos quadrature; bands reach one
    standard deviation over probes up; ticks on top the eigenvalues that were computed.

    Raises:
        InputError: no class has curvatures, or no density was made: the full spectrum is known, or
            the products are far from symmetric.
    """
    _refuse_without_density(ds)
    axes = panel(ax, COLUMN, 2.8)
    for one, look in _classes(ds):
        grid, density, deviation = (
            one[name].to_numpy() for name in ("density_value", "density", "density_spread")
        )
        band(axes, grid, density, density, density + deviation, **look)
        values = one["hessian_value"].to_numpy()
        top = np.full(len(values), 0.985)
        axes.plot(values, top, "|", color=look["color"], transform=axes.get_xaxis_transform())
    peak = float(ds["density"].max())
    axes.set(yscale="log", ylim=(1e-5 * peak, 5 * peak))
    axes.set_xlabel(f"eigenvalue ({_units(ds['hessian_value'])})")
    axes.set_ylabel(f"density ({_units(ds['density'])})")
    axes.set_title(lines(title(ds), class_doubt(ds).of_step, cancellation(ds)))
    _class_legend(axes, ds)
    return note(
        whole(axes),
        _product(ds),
        "bands: one standard deviation over probes up; ticks on top: eigenvalues computed",
    )


def _refuse_without_density(ds: xr.Dataset) -> None:
    if "density" not in ds:
        raise InputError(
            "spectral_density needs the variable density: the result has no spectral density, "
            "since the full spectrum is known. Draw curvature_profile instead."
        )
    if ds["density"].notnull().any():
        return
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


def _classes(ds: xr.Dataset) -> Iterator[tuple[xr.Dataset, dict[str, Any]]]:
    """The classes that have curvatures, each with the look of its line."""
    solved = [i for i in range(ds.sizes["class"]) if np.isfinite(ds["hessian_value"][i]).any()]
    if not solved:
        raise InputError(
            "no class of the result has curvatures: too few boundary points survived. Run "
            "curvature with more images."
        )
    for i in solved[: _COLORS * len(_LINES)]:
        dashes = _LINES[i // _COLORS % len(_LINES)]
        yield ds.isel({"class": i}), {"color": f"C{i % _COLORS}", "linestyle": dashes}


def _class_legend(
    axes: Axes,
    ds: xr.Dataset,
    band: str | None = None,
    marks: Mapping[str, Any] = MappingProxyType({}),
    hollow: bool = False,
) -> None:
    """One legend for all panels, below them; axes: the first."""
    handles: list[Artist] = [
        axes.plot([], [], label=str(one["class"].item()), **look)[0] for one, look in _classes(ds)
    ]
    if band is not None:
        handles.append(axes.fill_between([], [], color=GREY, alpha=0.35, label=band))
    for label, line in marks.items():
        handles += axes.plot([], [], color=GREY, linestyle=line, linewidth=1, label=label)
    if hollow:
        handles += axes.plot([], [], **HOLLOW, color=GREY, label=NO_EIGENVECTOR)
    # Long names need more than one row: an entry is a line, gaps and some 0.06 inches a letter.
    width = sum(0.55 + 0.06 * len(str(handle.get_label())) for handle in handles)
    rows = int(np.ceil(width / whole(axes).get_figwidth()))
    legend(axes, -(-len(handles) // rows), handles, columnspacing=1.2)


def _units(variable: xr.DataArray) -> str:
    """Units of a variable, as figures write them."""
    return str(variable.attrs["units"]).replace("^2", "²")


def _how(ds: xr.Dataset) -> str:
    """Which product the eigenvalues come from, from how many points, and what is to be doubted."""
    return lines(_product(ds), class_doubt(ds).of_step, cancellation(ds))


def _product(ds: xr.Dataset) -> str:
    solved = ds.isel({"class": np.flatnonzero(ds["kind"].to_numpy() >= 0)})
    meanings = str(ds["kind"].attrs["flag_meanings"]).split()
    kind = meanings[1 + int(solved["kind"][0])].replace("-", " ")
    steps = sorted({f"{h:.2g}" for h in solved["hvp_step"].to_numpy() if np.isfinite(h)}, key=float)
    if steps:
        kind += f", h = {' to '.join(dict.fromkeys([steps[0], steps[-1]]))}"
    if np.isfinite(solved["beta"][0]):
        kind += f", β = {float(solved['beta'][0]):g}"
    return f"Hessian ({kind}) over {_points(solved)}"


def _points(ds: xr.Dataset) -> str:
    """How many points each class that has curvatures rests on."""
    used = ds["points_used"].to_numpy()[ds["kind"].to_numpy() >= 0]
    points = f"{used.min()}" if used.min() == used.max() else f"{used.min()} to {used.max()}"
    return f"{points} boundary points a class"


def _direction(axes: Axes, one: xr.Dataset) -> None:
    """The image of one eigenpair with its value."""
    show_direction(axes, one["hessian_direction"].to_numpy())
    text = f"{float(one['hessian_value']):#.3g}".replace("-", "\N{MINUS SIGN}")
    none = is_no_eigenvector(float(one["hessian_residual"]))
    if not bool(one["hessian_converged"]):
        question(axes)
    if none:
        cross_out(axes)
        text += "\n" + NO_EIGENVECTOR.replace(" ", "\n")
    caption(axes, text, 5 if none else 6)


def _sign_panel(axes: Axes, ds: xr.Dataset) -> None:
    """Shares of points with the sign of the mean along the extreme directions, class by class."""
    shown = [(str(one["class"].item()), one) for one, _ in _classes(ds)]
    for i, (_, one) in enumerate(shown):
        for end, pair, color, shift in (("positive", 0, "C0", -0.12), ("negative", -1, "C1", 0.12)):
            share = 100 * float(one["hessian_sign_share"].sel(end=end).isel(extreme=0))
            none = is_no_eigenvector(float(one["hessian_residual"].isel(pair=pair)))
            face = "white" if none else color
            label = f"most {end} direction" if i == 0 else None
            axes.plot(i + shift, share, "o", ms=3, color=color, markerfacecolor=face, label=label)
    class_ticks(axes, [name for name, _ in shown])
    axes.axhline(50, color=GREY, linestyle=":", linewidth=0.8, zorder=0)
    axes.set(xlim=(-0.7, len(shown) - 0.3), ylim=(0, 103), xlabel="class")
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
        index = (1, half, dimension - half + 1, dimension)
        axes.set_xticks(ticks, [f"{i}\n{percent(i / dimension)} %" for i in index])
    else:
        share_ticks(axes, dimension)
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
    if largest > 0:
        axes.set_ylim(
            margin * min(0, float(np.nanmin(values))), margin * max(0, float(np.nanmax(values)))
        )
