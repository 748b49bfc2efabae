"""Figures along lines: score curves and direction sweeps."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from geomadv.errors import InputError
from geomadv.experiments.principal.doubt import line_doubt
from geomadv.linalg.doubt import NO_EIGENVECTOR, is_no_eigenvector
from geomadv.plotting.figure import Given, figure, heading, legend, lines, new_figure, note, panels
from geomadv.plotting.parts import (
    band,
    caption,
    class_ticks,
    cross_out,
    short,
    show_direction,
    show_image,
    title,
    write,
)
from geomadv.plotting.style import COLUMN, GREY, HOLLOW, PAGE, scaled

_CLASSES = 10
_CURVES = 100
_STRIP_NAME = 7
_SCALE = "scale s (image units)"
# Populations of the results, and the colours of their examples.
_OTHER, _OWN = "other classes", "target class"
_RANDOM = "random"
_EXAMPLES = {_OTHER: "C0", _OWN: "C3"}
FAMILY_COLORS = ("C0", "C3", "C2", GREY)
_MARKERS = ("o", "s", "^", "x")
_CROSSED = f"crossed out: {NO_EIGENVECTOR} (residual above 1)"

# Measure -> its panel's title; the first is drawn under its own name, the interval beside it.
_MEASURES = {
    "symmetry_median": "symmetry",
    "monotonicity_median": "monotonicity",
    "separability": "separability",
    "shape_share": "shape share",
}

_NEEDS = ("class_name", "target", "direction_image", "scale", "direction")
_SWEEP = (*_NEEDS, "target_softmax", "transition", "retention", "population", "quantile")


@figure("score_curves", *_NEEDS, "score", "example_sample", "example_scale", "symmetry_median")
def score_curves(ds: xr.Dataset, target: str | None = None) -> Figure:
    """Score curves of single images along two directions, with perturbed images and their labels.

    A page of its own: ds is the result of `experiments.score_curves`, of which the first two
    directions are drawn, or of `experiments.class_score_curves`: then the leading positive and
    negative direction of one class. target: name of that class; default the middle one. At most 100
    curves are drawn. Two stand out, one of either population, and below are their images at the
    marked scales with the predicted labels; beside them the direction as an image.

    Raises:
        InputError: the result has no such class.
    """
    shown = list(_directions(ds, target))[:2]
    drawing = new_figure(PAGE if len(shown) == 2 else COLUMN, 3.85)
    first = shown[0][1]
    name = _class_name(first, int(first["target"]))
    words = f"{title(ds)}: score of class {name} along directions"
    drawing.suptitle(lines(words, line_doubt(first).of_step))
    note(
        drawing,
        f"thin lines: {min(_CURVES, ds.sizes['sample'])} of {ds.sizes['sample']} images",
        "symmetry and monotonicity: medians over all of them",
        _CROSSED,
    )
    parts = drawing.subfigures(1, len(shown), squeeze=False)[0]
    for part, (label, one) in zip(parts, shown, strict=True):
        upper, lower = part.subfigures(2, 1, height_ratios=[2.45, 1.1])
        _curve_panel(upper.add_subplot(), one, label)
        _strips(lower, one)
    return drawing


@figure("score_curves", "class", "family", "direction", *_MEASURES, "shape_share_interval")
def score_curve_measures(ds: xr.Dataset, *, ax: Given = None) -> Figure:
    """Symmetry, monotonicity and separability of the leading directions of every class.

    Beside those of curved directions stand flat ones and, in grey, random ones. ds: result of
    `experiments.class_score_curves`; ax: four axes to draw into. Medians over images, for
    separability and shape share values of all images together, with bootstrap intervals.
    """
    four = panels(ax, PAGE, 4.0, 2, 2)
    names = [short(str(name)) for name in ds["class"].to_numpy()]
    for axes, (name, label) in zip(four, _MEASURES.items(), strict=True):
        for i, family in enumerate(ds["family"].to_numpy()[: len(FAMILY_COLORS)]):
            one = ds.sel(family=family).isel(direction=0)
            place, color = np.arange(len(names)) + 0.18 * (i - 1.5), FAMILY_COLORS[i]
            interval = one[f"{name.removesuffix('_median')}_interval"]
            axes.vlines(place, *interval.transpose("bound", ...), color=color, linewidth=0.8)
            look: Any = {"linestyle": "", "marker": _MARKERS[i], "color": color, "ms": 3}
            axes.plot(place, one[name], label=family, **look)
            none = _none(one)
            axes.plot(place[none], one[name][none], **HOLLOW, color=color)
        class_ticks(axes, names)
        axes.set(xlabel="class", title=label, xlim=(-0.7, len(names) - 0.3))
        # Each measure on the part of its axis that it uses.
        axes.margins(y=0.08)
    for axes in four[::2]:
        axes.set_ylabel("share")
    legend(four[0], len(FAMILY_COLORS))
    return note(
        heading(
            four[0], f"{title(ds)}: curves along the leading directions", line_doubt(ds).of_step
        ),
        f"{ds.sizes['sample']} images; bars: 95 % intervals over images",
        f"vertical axes differ; hollow circles: {NO_EIGENVECTOR}",
    )


@figure("direction_sweep", *_SWEEP, "target_score", "other_score", "population_size")
def direction_sweep(ds: xr.Dataset, target: str | None = None, *, ax: Given = None) -> Figure:
    """Scores, transition into the class, its softmax and retention along directions.

    ds: result of `experiments.direction_sweep`, of which the first three directions are drawn, or
    of `experiments.class_direction_sweep`: then the leading directions of one class, a row for each
    family, with the direction images. target: name of that class; default the middle one. Lines of
    scores are medians, bands run from the 30th to the 70th percentile; along the direction of most
    negative curvature they show the images of the class itself, which it leads away. Numbers in
    the corners are the shares of images that enter the class at either end; grey is the same along
    a random direction, where the result has one. ax: two axes a direction, for its scores and its
    shares; the images are then left out.

    Raises:
        InputError: the result has no such class.
    """
    shown = list(_directions(ds, target))[:3]
    first = shown[0][1]
    name = _class_name(first, int(first["target"]))
    pairs = _sweep_page(ds, target, shown) if ax is None else panels(ax, 0, 0, len(shown), 2)
    for i, (label, one) in enumerate(shown):
        scores, shares = pairs[2 * i : 2 * i + 2]
        _score_panel(scores, one, label, name)
        _share_panel(shares, one, _random(ds, target))
        shares.set_ylabel("images (%)")
        shares.set_title("entering the class, by sign")
        if i == len(shown) - 1:
            scores.set_xlabel(_SCALE)
            shares.set_xlabel(_SCALE)
    handles = [h for axes in pairs[:2] for h in axes.get_legend_handles_labels()[0]]
    legend(pairs[0], 3, handles)
    words = f"{title(ds)}: movement of images along directions of class {name}"
    return note(
        heading(pairs[0], words, line_doubt(first).of_step),
        f"{_population(first)}; numbers: % of the others that enter at either end",
        f"lines of scores: medians, bands: {_quantiles(ds)} percentile over images",
        _CROSSED if ax is None else "",
    )


@figure("direction_sweep", "class", "family", *_SWEEP)
def direction_sweep_classes(ds: xr.Dataset) -> Figure:
    """Transition, softmax and retention along the leading directions of all classes, with images.

    A page of its own: ds is the result of `experiments.class_direction_sweep`. At most ten classes
    are drawn. Directions that are no eigenvectors (residual above 1) are crossed out.
    """
    shown = ds.isel({"class": slice(_CLASSES), "direction": 0})
    families, classes = shown["family"].to_numpy(), shown["class"].to_numpy()
    drawing = new_figure(PAGE, 0.8 + 1.45 * len(families))
    ratios = [1.0, 1.3] * len(families)
    grid = drawing.add_gridspec(2 * len(families), len(classes), height_ratios=ratios)
    reach = float(ds["scale"].max())
    power = 10 ** np.floor(np.log10(reach))
    tick = power * np.floor(reach / power)
    for i, family in enumerate(families):
        for j, name in enumerate(classes):
            one = shown.sel({"family": family, "class": name})
            image = drawing.add_subplot(grid[2 * i, j])
            _direction(image, one)
            if i == 0:
                image.set_title(short(str(name)), pad=3)
            axes = drawing.add_subplot(grid[2 * i + 1, j])
            _share_panel(axes, one)
            axes.set_xticks([-tick, 0, tick])
            last = i == len(families) - 1
            axes.tick_params(labelsize=scaled(6), labelleft=j == 0, labelbottom=last)
            if j == 0:
                first, _, word = _heading(one, str(family)).rpartition(" ")
                axes.set_ylabel(f"{first}\n{word}\n(%)")
    legend(axes, 3)
    words = f"{title(ds)}: leading directions of all classes, against the {_SCALE}"
    return note(
        heading(axes, words, line_doubt(shown).of_step),
        f"{ds.sizes['sample']} images; numbers: % of the others that enter at either end",
        _CROSSED,
    )


def _population(one: xr.Dataset) -> str:
    """How many images lie in the class and how many do not."""
    own = int(one["population_size"].sel(population=_OWN))
    return f"{one.sizes['sample']} images, {own} of them of the class"


def _quantiles(ds: xr.Dataset) -> str:
    low, *_, high = (round(100 * q) for q in ds["quantile"].to_numpy())
    return f"{low}th to {high}th"


def _random(ds: xr.Dataset, target: str | None) -> xr.Dataset | None:
    """The random direction of a class, if the result holds one."""
    if "family" not in ds.dims or _RANDOM not in ds["family"].to_numpy():
        return None
    return of_class(ds, target).sel(family=_RANDOM).isel(direction=0)


def _directions(ds: xr.Dataset, target: str | None) -> Iterator[tuple[str, xr.Dataset]]:
    """The single directions of a figure with their names: families, or as they come."""
    if "family" not in ds.dims:
        for i in range(ds.sizes["direction"]):
            yield f"direction {i + 1}", ds.isel(direction=i)
        return
    one = of_class(ds, target)
    for family in ds["family"].to_numpy():
        yield str(family), one.sel(family=family).isel(direction=0)


def of_class(ds: xr.Dataset, target: str | None) -> xr.Dataset:
    """The part of a result over classes that belongs to one, by name; default the middle one.

    Raises:
        InputError: the result has no such class.
    """
    names = [str(name) for name in ds["class"].to_numpy()]
    chosen = names[len(names) // 2] if target is None else target
    if chosen not in names:
        raise InputError(f"target={target!r}: the result holds the classes {', '.join(names)}.")
    return ds.isel({"class": names.index(chosen)})


def _sweep_page(
    ds: xr.Dataset, target: str | None, shown: list[tuple[str, xr.Dataset]]
) -> list[Axes]:
    """The panels of scores and shares, row by row, in a new figure with direction images."""
    drawing = new_figure(PAGE, 0.75 + 1.55 * len(shown))
    grid = drawing.add_gridspec(2 * len(shown), 3, width_ratios=[1, 1, 0.3])
    pairs = []
    for i, (label, one) in enumerate(shown):
        rows = slice(2 * i, 2 * i + 2)
        pairs += [drawing.add_subplot(grid[rows, column]) for column in range(2)]
        # The first two directions of the same family, or the direction itself.
        leading = [one]
        if "family" in ds.dims:
            family = of_class(ds, target).sel(family=label)
            leading = [family.isel(direction=k) for k in range(min(2, ds.sizes["direction"]))]
        for j in range(2):
            axes = drawing.add_subplot(grid[2 * i + j, 2])
            if j < len(leading):
                _direction(axes, leading[j])
            else:
                axes.set_axis_off()
    return pairs


def _direction(axes: Axes, one: xr.Dataset) -> None:
    show_direction(axes, one["direction_image"].to_numpy())
    if line_doubt(one).no_eigenvector:
        cross_out(axes)


def _class_name(ds: xr.Dataset, number: int, letters: int = 10) -> str:
    return short(str(ds["class_name"].to_numpy()[number]), letters)


def _heading(one: xr.Dataset, label: str) -> str:
    """What the directions of a family are, or the name as it is."""
    return str(one["family_name"].item()) if "family_name" in one else label


def _doubted(one: xr.Dataset, label: str) -> str:
    """The heading, and in a line below it whether the direction is no eigenvector."""
    return lines(_heading(one, label), line_doubt(one).of_directions)


def _none(one: xr.Dataset) -> NDArray[np.bool_]:
    """(class,) whether the direction is no eigenvector."""
    if "residual" not in one:
        return np.zeros(one.sizes["class"], dtype=bool)
    return np.asarray(is_no_eigenvector(one["residual"].to_numpy()))


def _curve_panel(axes: Axes, one: xr.Dataset, label: str) -> None:
    scale = one["scale"].to_numpy()
    axes.plot(scale, one["score"][:_CURVES].to_numpy().T, color=GREY, alpha=0.25, linewidth=0.4)
    marked = np.isin(scale, one["example_scale"]).nonzero()[0].tolist()
    for population, color in _EXAMPLES.items():
        n = int(one["example_sample"].sel(example=population))
        if n >= 0:
            look: Any = {"color": color, "marker": "o", "markersize": 3, "markevery": marked}
            source = _class_name(one, int(one["source"][n]))
            axes.plot(scale, one["score"][n], label=f"an image of class {source}", **look)
    axes.set_xlabel(_SCALE)
    axes.set_ylabel("class score")
    legend(axes, 2, drop=0.22)
    axes.set_title(
        f"{_doubted(one, label)}\nsymmetry {float(one['symmetry_median']):.2f}, "
        f"monotonicity {float(one['monotonicity_median']):.2f}\n"
        f"separability {float(one['separability']):.2f}"
    )


def _strips(part: SubFigure, one: xr.Dataset) -> None:
    """The examples' perturbed images, a row for each, and the direction beside them."""
    steps = one.sizes["step"]
    grid = part.add_gridspec(2, steps + 2, width_ratios=[*[1.0] * steps, 0.1, 1.6])
    for row, (population, color) in enumerate(_EXAMPLES.items()):
        example = one.sel(example=population)
        if int(example["example_sample"]) < 0:
            continue
        for step in range(steps):
            axes = part.add_subplot(grid[row, step])
            image = example["example_image"][step].to_numpy()
            show_image(axes, image, frame=color, width=0.6)
            label = _class_name(one, int(example["example_prediction"][step]), _STRIP_NAME)
            caption(axes, label, 5.5)
    axes = part.add_subplot(grid[:, -1])
    _direction(axes, one)
    caption(axes, "direction")


def _score_panel(axes: Axes, one: xr.Dataset, label: str, name: str) -> None:
    own = label == "negative" and int(one["population_size"].sel(population=_OWN)) > 0
    shown = one.sel(population=_OWN if own else _OTHER)
    for variable, color, text in (
        ("target_score", "C0", "score of the class"),
        ("other_score", "C3", "largest other score"),
    ):
        low, middle, high = shown[variable].transpose("quantile", ...)
        band(axes, one["scale"], low, middle, high, color, label=text)
    axes.set_ylabel("score")
    of = f"class {name}" if own else "other classes"
    axes.set_title(f"{_doubted(one, label)}\nimages of {of}")


def _share_panel(axes: Axes, one: xr.Dataset, random: xr.Dataset | None = None) -> None:
    scale, entering = one["scale"].to_numpy(), 100 * one["transition"].to_numpy()
    softmax = one["target_softmax"].sel(population=_OTHER, quantile=0.5)
    if random is not None:
        look: Any = {"color": GREY, "linestyle": ":", "label": "the same, random direction"}
        axes.plot(scale, 100 * random["transition"], **look)
    axes.plot(scale, 100 * softmax, color="C1", label="median softmax")
    axes.plot(scale, 100 * one["retention"], color="black", ls="--", lw=0.9, label="retention")
    axes.plot(scale, entering, color="C2", label="transition into the class")
    ends: Any = {"color": "C2", "transform": axes.transAxes, "va": "bottom"}
    write(axes, 0.02, 1.0, f"{entering[0]:.0f}", ha="left", **ends)
    write(axes, 0.98, 1.0, f"{entering[-1]:.0f}", ha="right", **ends)
    axes.set_ylim(-4, 104)
