"""Figures in planes: normal sections of the boundary, and decision regions around images."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from geomadv.experiments.principal.doubt import line_doubt
from geomadv.linalg.doubt import NO_EIGENVECTOR, is_no_eigenvector
from geomadv.plotting.figure import figure, heading, legend, lines, new_figure, note
from geomadv.plotting.lines import FAMILY_COLORS, of_class
from geomadv.plotting.parts import band, short, show_image, title, write
from geomadv.plotting.style import GREY, PAGE, scaled

_DASHED: Any = (0, (3, 1.2))
_MODELS: dict[str, Any] = {"shape": "-", "hessian": _DASHED}
# Height of the panels of sections, over their width; s and t have the same scale.
_FLATNESS = 0.6

_SECONDS = {
    "runner-up": "second-nearest class",
    "positive": "most positive curvature",
    "negative": "most negative curvature",
    "random": "random direction",
    "image": "another image",
}
_IMAGES = 4
# Colours of classes: those of the style but black, in two tints; any further class is grey.
_TINTS, _CYCLE = (0.6, 0.25), 6
# A region is named where a circle of this share of the panel's side fits into it.
_ROOM = 0.035


@figure("normal_section", "offset", "offset_quantile", "radius", "normal_curvature", "class")
def normal_section(ds: xr.Dataset, target: str | None = None) -> Figure:
    """The boundary in normal sections along leading directions, beside its quadratic model.

    A page of its own: ds is the result of `experiments.class_normal_section`. Above, for one class
    (target: its name; default the middle one), a column for each family of directions: the point of
    median curvature with parabola and osculating circle, then all points with median and quartiles.
    Below: at which share of the points the model is within 20 % of the boundary up to |s|, in this
    class and in all; where the curves end, it holds beyond the last s.

    Raises:
        InputError: the result has no such class.
    """
    one = of_class(ds, target).isel(direction=0)
    families = one["family"].to_numpy()
    drawing = new_figure(PAGE, 5.2)
    grid = drawing.add_gridspec(3, 2 * len(families), height_ratios=[1, 1, 1.25])
    for i, family in enumerate(families):
        at, color = slice(2 * i, 2 * i + 2), FAMILY_COLORS[i % len(FAMILY_COLORS)]
        pair = [drawing.add_subplot(grid[row, at]) for row in range(2)]
        _single_section(pair[0], one.sel(family=family), color)
        _all_sections(pair[1], one.sel(family=family), color)
        words = lines(str(one["family_name"][i].item()), line_doubt(_leading(ds, i)).of_directions)
        pair[0].set_title(lines(words, pair[0].get_title()))
        pair[1].set_xlabel("s (image units)")
        if i == 0:
            for axes in pair:
                axes.set_ylabel("t (image units)")
    name = str(one["class"].item())
    half = len(families)
    both = drawing.add_subplot(grid[2, :half]), drawing.add_subplot(grid[2, half:])
    counts = [
        _radii(axes, part, words)
        for axes, part, words in (
            (both[0], one, f"class {short(name)}"),
            (both[1], ds.isel(direction=0), "all classes"),
        )
    ]
    both[0].set_ylabel("share of points (%)")
    legend(both[0], 4, _section_legend(families))
    words = f"{title(ds)}: normal sections of the boundary of class {short(name)}, which is above"
    return note(
        heading(both[0], words, line_doubt(one).of_step),
        f"{counts[0]} points of the class, {counts[1]} of all classes",
        "above: the point of median curvature; then all points, line: median, band: quartiles",
        "grey: |s| up to which the model is within 20 % at that point",
    )


@figure("decision_plane", "prediction", "margin", "coordinate", "mark", "class_name")
def decision_plane(ds: xr.Dataset) -> Figure:
    """Decision regions in planes through images, their boundary points and second directions.

    A page of its own: ds is the result of `experiments.decision_plane`, of which the first four
    images are drawn, a column each, and a row for each second direction. Regions bear the names of
    their classes; thin lines are contours of the margin, best minus second-best score.
    """
    ds = ds.isel(sample=slice(_IMAGES))
    rows, columns = ds.sizes["second"], ds.sizes["sample"]
    drawing = new_figure(0.5 + (PAGE - 0.5) * columns / _IMAGES, 1.5 + 1.62 * rows)
    grid = drawing.add_gridspec(rows + 1, columns, height_ratios=[0.45] + [1.0] * rows)
    tints = _tints(ds["prediction"].to_numpy())
    spacing = _spacing(ds["margin"].to_numpy())
    for j in range(columns):
        one = ds.isel(sample=j)
        _clean_image(drawing.add_subplot(grid[0, j]), one)
        for i in range(rows):
            axes = drawing.add_subplot(grid[i + 1, j])
            _regions(axes, one.isel(second=i), tints, spacing)
            axes.tick_params(labelsize=scaled(6))
            if j == 0:
                axes.set_ylabel(_SECONDS.get(str(ds["second"][i].item()), ""))
            if i == rows - 1:
                axes.set_xlabel("to the boundary point")
    legend(axes, 4 if columns > 2 else 1, _plane_legend(ds))
    return note(
        heading(axes, f"{title(ds)}: decision regions"),
        f"{columns} images, axes in image units",
        f"thin lines: margin, best minus second-best score, every {spacing:g} score units",
    )


def _leading(ds: xr.Dataset, family: int) -> xr.Dataset:
    return ds.isel(family=[family], direction=[0])


def _single_section(axes: Axes, one: xr.Dataset, color: str) -> None:
    """The point of median curvature: true curve, parabola, osculating circle."""
    kappas = one["normal_curvature"].sel(model="shape").to_numpy()
    known = np.argsort(kappas)[: np.isfinite(kappas).sum()]
    reach = _square(axes, one)
    if len(known) == 0:
        write(axes, 0, 0, "no point")
        return
    n = int(known[(len(known) - 1) // 2])
    kappa, radius = kappas[n], float(one["radius"].sel(model="shape")[n])
    s = np.linspace(-reach, reach, 201)
    within = min(radius, reach)
    axes.axvspan(-within, within, color=GREY, alpha=0.12, linewidth=0)
    if kappa != 0:
        angle = np.linspace(-np.pi, np.pi, 2001)
        axes.plot(np.sin(angle) / kappa, (np.cos(angle) - 1) / kappa, color=GREY, linewidth=0.6)
    axes.plot(s, -kappa * s**2 / 2, color="black", linestyle=_DASHED, linewidth=0.9)
    axes.plot(one["scale"], one["offset"][n], color=color, marker="o", markersize=1.8)
    axes.set_title(f"κ = {_number(kappa)}")


def _all_sections(axes: Axes, one: xr.Dataset, color: str) -> None:
    """All points, their median and quartiles, and the parabola of their median curvature."""
    reach = _square(axes, one)
    kappas = one["normal_curvature"].sel(model="shape").to_numpy()
    curves = one["offset"].to_numpy()[np.isfinite(kappas)]
    if len(curves) == 0:
        return
    axes.plot(one["scale"], curves.T, color=GREY, alpha=0.3, linewidth=0.4)
    low, middle, high = one["offset_quantile"].transpose("quantile", ...)
    band(axes, one["scale"], low, middle, high, color, alpha=0.3)
    s = np.linspace(-reach, reach, 201)
    kappa = float(np.nanmedian(kappas))
    axes.plot(s, -kappa * s**2 / 2, color="black", linestyle=_DASHED, linewidth=0.9)
    axes.set_title(f"median κ = {_number(kappa)}")


def _square(axes: Axes, one: xr.Dataset) -> float:
    """Limits with s and t on the same scale; returns the largest s."""
    reach = float(one["scale"].max())
    axes.set(xlim=(-reach, reach), ylim=(-_FLATNESS * reach, _FLATNESS * reach))
    axes.set_aspect("equal")
    axes.axhline(0, color=GREY, linewidth=0.4, zorder=0)
    return reach


def _radii(axes: Axes, ds: xr.Dataset, name: str) -> int:
    """Share of the points at which the model holds up to |s|; returns how many points there are."""
    reach = float(ds["scale"].max())
    count = 0
    for i, family in enumerate(ds["family"].to_numpy()):
        for model, dashes in _MODELS.items():
            values = ds["radius"].sel(family=family, model=model).to_numpy().ravel()
            known = np.sort(values[~np.isnan(values)])
            count = max(count, len(known))
            inside = known[known < reach]
            steps = np.concatenate([[0], inside, [reach]])
            share = 100 * (1 - np.arange(len(inside) + 1) / max(len(known), 1))
            color = FAMILY_COLORS[i % len(FAMILY_COLORS)]
            axes.stairs(share, steps, baseline=None, color=color, linestyle=dashes, linewidth=1.0)
    axes.set(xlim=(0, reach), ylim=(0, 103), xlabel="|s| (image units)")
    axes.set_title(f"model within 20 % up to |s|: {name}")
    return count


def _section_legend(families: NDArray[Any]) -> list[Any]:
    named = [
        Line2D([], [], color=FAMILY_COLORS[i % len(FAMILY_COLORS)], label=str(family))
        for i, family in enumerate(families)
    ]
    thin: Any = {"color": "black", "linewidth": 0.9}
    return [
        *named,
        Line2D([], [], linestyle=_DASHED, label="above: model −κs²/2, κ from S", **thin),
        Line2D([], [], color=GREY, linewidth=0.6, label="osculating circle; single points"),
        Patch(color=GREY, alpha=0.25, linewidth=0, label="model within 20 %"),
        Line2D([], [], linestyle=_DASHED, color=GREY, label="below: κ from H, not S"),
    ]


def _tints(labels: NDArray[Any]) -> dict[int, Any]:
    """Colours of the classes that occur, the larger ones first."""
    classes, counts = np.unique(labels[labels >= 0], return_counts=True)
    ordered = classes[np.argsort(-counts, kind="stable")].tolist()
    found = {}
    for i, label in enumerate(ordered):
        tint, k = divmod(i, _CYCLE)
        share = _TINTS[tint] if tint < len(_TINTS) else 0.6
        base = colors.to_rgb(f"C{k}") if tint < len(_TINTS) else colors.to_rgb(GREY)
        found[int(label)] = tuple(share + (1 - share) * c for c in base)
    return found


def _spacing(margins: NDArray[Any]) -> float:
    """A round distance between contours, about five of them up to most margins."""
    known = margins[np.isfinite(margins)]
    if len(known) == 0:
        return 1.0
    ticks = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(0, max(np.quantile(known, 0.95), 1e-9))
    return float(ticks[1] - ticks[0])


def _clean_image(axes: Axes, one: xr.Dataset) -> None:
    show_image(axes, one["image"].to_numpy())
    names = [_name(one, int(one[role])) for role in ("source", "target")]
    at, distance = " → ".join(names), float(one["distance"])
    words = f"{at}\nat {distance:.2g}" if np.isfinite(distance) else f"{names[0]}\nno boundary"
    axes.set_title(words)


def _number(value: float) -> str:
    return f"{value:.2g}".replace("-", "−")


def _name(ds: xr.Dataset, label: int) -> str:
    return short(str(ds["class_name"].to_numpy()[label]), 12) if label >= 0 else "none"


def _regions(axes: Axes, one: xr.Dataset, tints: dict[int, Any], spacing: float) -> None:
    """One plane: regions, their borders and names, contours of the margin, marked points."""
    labels, margin = one["prediction"].to_numpy(), one["margin"].to_numpy()
    if not np.isfinite(margin).any():
        axes.set_axis_off()
        write(axes, 0.5, 0.5, "no such plane", transform=axes.transAxes, fontsize=scaled(7))
        return
    place = one["coordinate"].to_numpy()
    half = float(place[-1])
    picture = np.ones((*labels.shape, 3))
    for label, tint in tints.items():
        picture[labels == label] = tint
    axes.imshow(picture, extent=(-half, half, -half, half), origin="lower")
    for label in np.unique(labels[labels >= 0]).tolist():
        inside = np.where(labels == label, margin, -margin)
        axes.contourf(place, place, inside, levels=[0, np.inf], colors=[tints[label]])
        if len(np.unique(labels)) > 1:
            axes.contour(place, place, inside, levels=[0], colors="black", linewidths=0.7)
    levels = np.arange(spacing, np.nanmax(margin), spacing)
    if len(levels):
        axes.contour(place, place, margin, levels=levels, colors="black", linewidths=0.3, alpha=0.6)
    points = [(0.0, 0.0), (float(one["distance"]), 0.0), tuple(one["mark"].to_numpy().tolist())]
    for (x, y), look in zip(points, _MARKS, strict=True):
        axes.plot(x, y, linestyle="", **look)
    _name_regions(axes, one, points)
    axes.set(xlim=(-half, half), ylim=(-half, half), aspect="equal")
    _curvature(axes, one)


_MARKS: tuple[dict[str, Any], ...] = (
    {"marker": "o", "markersize": 3.5, "color": "black"},
    {"marker": "D", "markersize": 3.2, "color": "black", "markerfacecolor": "white"},
    {"marker": "^", "markersize": 3.8, "color": "black", "markerfacecolor": "white"},
)


def _name_regions(axes: Axes, one: xr.Dataset, points: list[Any]) -> None:
    """Each class's name where its region is widest, off the marked points."""
    labels, place = one["prediction"].to_numpy(), one["coordinate"].to_numpy()
    step = place[1] - place[0]
    for label in np.unique(labels[labels >= 0]).tolist():
        free = np.pad(labels == label, 1)
        for x, y in points:
            if np.isfinite(x + y):
                column, row = (round((c - place[0]) / step) + 1 for c in (x, y))
                if 0 <= row < len(free) and 0 <= column < len(free):
                    free[row, column] = False
        room = np.asarray(distance_transform_edt(free))
        row, column = np.unravel_index(room.argmax(), room.shape)
        if room[row, column] >= _ROOM * len(place):
            at, look = (place[column - 1], place[row - 1]), {"fontsize": scaled(6.5)}
            halo = withStroke(linewidth=1.5, foreground=colors.to_rgb("white"))
            write(axes, *at, _name(one, label), path_effects=[halo], **look)


def _curvature(axes: Axes, one: xr.Dataset) -> None:
    kappa = float(one["second_curvature"])
    if np.isfinite(kappa):
        none = bool(is_no_eigenvector(np.array([float(one["second_residual"])])).any())
        words = f"κ = {_number(kappa)}" + (f", {NO_EIGENVECTOR}" if none else "")
        axes.set_title(words, pad=2)


def _plane_legend(ds: xr.Dataset) -> list[Any]:
    words = ["image", "boundary point", "what the second axis leads to"]
    shown = len(words) if bool(ds["mark"].notnull().any()) else 2
    return [
        Line2D([], [], linestyle="", label=word, **look)
        for word, look in zip(words[:shown], _MARKS[:shown], strict=True)
    ]
