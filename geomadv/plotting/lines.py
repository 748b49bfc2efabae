"""Figures of movements along directions: score curves and direction sweeps."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from geomadv.errors import InputError
from geomadv.experiments.principal.doubt import line_doubt
from geomadv.linalg.doubt import is_no_eigenvector
from geomadv.plotting.style import (
    BLUE,
    COLUMN,
    GREEN,
    GREY,
    HOLLOW,
    ORANGE,
    PAGE,
    VERMILION,
    cross_out,
    new_figure,
    show_direction,
    style,
    title,
)

_CLASSES = 10
_CURVES = 100
_NAME, _STRIP_NAME = 10, 7
_SCALE = "scale s (image units)"
# Populations of the results, and the colours of their examples.
_OTHER, _OWN = "other classes", "target class"
_EXAMPLES = {_OTHER: BLUE, _OWN: VERMILION}


def score_curves(ds: xr.Dataset, target: str | None = None) -> Figure:
    """Score curves of single images along two directions, with perturbed images and their labels.

    ds: result of `experiments.score_curves`, of which the first two directions are drawn, or of
    `experiments.class_score_curves`: then the leading positive and negative direction of one class.
    target: name of that class; default the middle one. At most 100 curves are drawn. Two stand out,
    one of either population, and below are their images at the marked scales with the predicted
    labels; beside them the direction as an image.

    Raises:
        InputError: the result has no such class.
    """
    with style():
        panels = list(_directions(ds, target))[:2]
        figure = new_figure(PAGE if len(panels) == 2 else COLUMN, 3.7)
        name = _class_name(panels[0][1], int(panels[0][1]["target"]))
        heading = f"{title(ds)}: score of class {name} along directions"
        figure.suptitle(_titled(heading, panels[0][1]), fontsize=8)
        parts = figure.subfigures(1, len(panels), squeeze=False)[0]
        for part, (label, one) in zip(parts, panels, strict=True):
            upper, lower = part.subfigures(2, 1, height_ratios=[2.45, 1.1])
            _curve_panel(upper.add_subplot(), one, label)
            _strips(lower, one)
        return figure


def score_curve_measures(ds: xr.Dataset) -> Figure:
    """Symmetry, monotonicity and separability of the leading directions of every class.

    ds: result of `experiments.class_score_curves`. Medians over images, for separability and shape
    share values of all images together, with bootstrap intervals.
    """
    panels = {
        "symmetry_median": "symmetry",
        "monotonicity_median": "monotonicity",
        "separability": "separability",
        "shape_share": "shape share",
    }
    with style():
        figure = new_figure(PAGE, 2.5)
        names = [_short(str(name)) for name in ds["class"].to_numpy()]
        place = np.arange(len(names))
        for axes, (name, label) in zip(
            figure.subplots(1, 4, sharey=True), panels.items(), strict=True
        ):
            for i, (family, color) in enumerate(_family_colors(ds)):
                one = ds.sel(family=family).isel(direction=0)
                interval = one[f"{name.removesuffix('_median')}_interval"]
                shift = 0.25 * (i - 1)
                axes.vlines(place + shift, *interval.transpose("bound", ...), color=color)
                axes.plot(place + shift, one[name], "o", color=color, ms=2.5, label=family)
                none = _none(one)
                axes.plot((place + shift)[none], one[name][none], **HOLLOW, color=color)
            axes.set_xticks(place, names, rotation=90 if max(map(len, names)) > 2 else 0)
            axes.set_xlabel("class")
            axes.set_title(label)
            axes.set_xlim(-0.7, len(names) - 0.3)
            axes.set_ylim(min(0, axes.get_ylim()[0]), 1.03)
        figure.axes[0].set_ylabel("share")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        heading = (
            f"{title(ds)}: curves of {ds.sizes['sample']} images along the leading directions, "
            "95 % intervals"
        )
        figure.suptitle(_titled(heading, ds), fontsize=8)
        return figure


def direction_sweep(ds: xr.Dataset, target: str | None = None) -> Figure:
    """Scores, transition into the class, its softmax and retention along directions.

    ds: result of `experiments.direction_sweep`, of which the first three directions are drawn, or
    of `experiments.class_direction_sweep`: then the leading directions of one class, a row for each
    family, with the direction images. target: name of that class; default the middle one. Lines of
    scores are medians, bands run from the 30th to the 70th percentile; along the direction of most
    negative curvature they show the images of the class itself, which it leads away.

    Raises:
        InputError: the result has no such class.
    """
    with style():
        rows = list(_directions(ds, target))[:3]
        grids = [_direction_images(ds, target, label) for label, _ in rows]
        figure = new_figure(PAGE, 0.75 + 1.55 * len(rows))
        name = _class_name(rows[0][1], int(rows[0][1]["target"]))
        heading = (
            f"{title(ds)}: movement of {ds.sizes['sample']} images along directions of class {name}"
        )
        figure.suptitle(_titled(heading, rows[0][1]), fontsize=8)
        grid = figure.add_gridspec(2 * len(rows), 3, width_ratios=[1, 1, 0.3])
        for i, ((label, one), images) in enumerate(zip(rows, grids, strict=True)):
            scores = figure.add_subplot(grid[2 * i : 2 * i + 2, 0])
            shares = figure.add_subplot(grid[2 * i : 2 * i + 2, 1])
            _score_panel(scores, one, label, name)
            _share_panel(shares, one)
            shares.set_ylabel("%")
            for j in range(2):
                axes = figure.add_subplot(grid[2 * i + j, 2])
                if j < len(images):
                    show_direction(axes, images[j])
                    if j == 0 and line_doubt(one).no_eigenvector:
                        cross_out(axes)
                else:
                    axes.set_axis_off()
            for panel in (scores, shares):
                panel.set_xlabel(_SCALE if i == len(rows) - 1 else "")
        handles = [h for axes in figure.axes[:2] for h in axes.get_legend_handles_labels()[0]]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
        return figure


def direction_sweep_classes(ds: xr.Dataset) -> Figure:
    """Transition, softmax and retention along the leading directions of all classes, with images.

    ds: result of `experiments.class_direction_sweep`. At most ten classes are drawn. Directions
    that are no eigenvectors (residual above 1) are crossed out.
    """
    with style():
        shown = ds.isel({"class": slice(_CLASSES), "direction": 0})
        families, classes = shown["family"].to_numpy(), shown["class"].to_numpy()
        figure = new_figure(PAGE, 0.8 + 1.45 * len(families))
        ratios = [1.0, 1.3] * len(families)
        grid = figure.add_gridspec(2 * len(families), len(classes), height_ratios=ratios)
        handles: list[Any] = []
        reach = float(ds["scale"].max())
        power = 10 ** np.floor(np.log10(reach))
        tick = power * np.floor(reach / power)
        for i, family in enumerate(families):
            for j, name in enumerate(classes):
                one = shown.sel({"family": family, "class": name})
                image = figure.add_subplot(grid[2 * i, j])
                show_direction(image, one["direction_image"].to_numpy())
                if line_doubt(one).no_eigenvector:
                    cross_out(image)
                if i == 0:
                    image.set_title(_short(str(name)), fontsize=7, pad=3)
                axes = figure.add_subplot(grid[2 * i + 1, j])
                _share_panel(axes, one)
                handles = handles or axes.get_legend_handles_labels()[0]
                axes.set_xticks([-tick, 0, tick])
                axes.tick_params(labelsize=6, labelleft=j == 0, labelbottom=i == len(families) - 1)
                if j == 0:
                    axes.set_ylabel(f"{_broken(_heading(one, str(family)))}\n(%)")
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
        heading = f"{title(ds)}: leading directions of all classes, against the {_SCALE}"
        figure.suptitle(_titled(heading, shown), fontsize=8)
        return figure


def _directions(ds: xr.Dataset, target: str | None) -> Iterator[tuple[str, xr.Dataset]]:
    """The single directions of a figure with their names: families, or as they come."""
    if "family" not in ds.dims:
        for i in range(ds.sizes["direction"]):
            yield f"direction {i + 1}", ds.isel(direction=i)
        return
    one = _of_class(ds, target)
    for family in ds["family"].to_numpy():
        yield str(family), one.sel(family=family).isel(direction=0)


def _of_class(ds: xr.Dataset, target: str | None) -> xr.Dataset:
    names = [str(name) for name in ds["class"].to_numpy()]
    chosen = names[len(names) // 2] if target is None else target
    if chosen not in names:
        raise InputError(f"target={target!r}: the result holds the classes {', '.join(names)}.")
    return ds.isel({"class": names.index(chosen)})


def _direction_images(ds: xr.Dataset, target: str | None, label: str) -> list[Any]:
    """The first two directions of the same family, or the direction itself."""
    if "family" in ds.dims:
        return list(_of_class(ds, target)["direction_image"].sel(family=label).to_numpy()[:2])
    return [ds["direction_image"][int(label.split()[-1]) - 1].to_numpy()]


def _family_colors(ds: xr.Dataset) -> list[tuple[str, str]]:
    return list(zip(ds["family"].to_numpy(), (BLUE, VERMILION, GREEN), strict=False))


def _class_name(ds: xr.Dataset, number: int, letters: int = _NAME) -> str:
    return _short(str(ds["class_name"].to_numpy()[number]), letters)


def _short(name: str, letters: int = _NAME) -> str:
    return name if len(name) <= letters else f"{name[: letters - 1]}…"


def _heading(one: xr.Dataset, label: str) -> str:
    """What the directions of a family are, or the name as it is."""
    return str(one["family_name"].item()) if "family_name" in one else label


def _doubted(one: xr.Dataset, label: str) -> str:
    """The heading, and in a line below it whether the direction is no eigenvector."""
    return "\n".join(filter(None, [_heading(one, label), line_doubt(one).of_directions]))


def _titled(heading: str, ds: xr.Dataset) -> str:
    """A figure's title, and in a line below it how coarse the step behind the directions is."""
    return "\n".join(filter(None, [heading, line_doubt(ds).of_step]))


def _none(one: xr.Dataset) -> NDArray[np.bool_]:
    """(class,) whether the direction is no eigenvector."""
    if "residual" not in one:
        return np.zeros(one.sizes["class"], dtype=bool)
    return np.asarray(is_no_eigenvector(one["residual"].to_numpy()))


def _broken(words: str) -> str:
    """In two lines, for a short axis."""
    first, _, last = words.rpartition(" ")
    return f"{first}\n{last}"


def _curve_panel(axes: Axes, one: xr.Dataset, label: str) -> None:
    scale = one["scale"].to_numpy()
    axes.plot(scale, one["score"][:_CURVES].to_numpy().T, color=GREY, alpha=0.25, linewidth=0.4)
    for population, color in _EXAMPLES.items():
        n = int(one["example_sample"].sel(example=population))
        if n >= 0:
            marked = np.isin(scale, one["example_scale"]).nonzero()[0].tolist()
            source = _class_name(one, int(one["source"][n]))
            axes.plot(
                scale,
                one["score"][n],
                color=color,
                marker="o",
                markersize=3,
                markevery=marked,
                label=f"an image of class {source}",
            )
    axes.set_xlabel(_SCALE)
    axes.set_ylabel("class score")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2)
    axes.set_title(
        f"{_doubted(one, label)}\nsymmetry {float(one['symmetry_median']):.2f}, "
        f"monotonicity {float(one['monotonicity_median']):.2f}, "
        f"separability {float(one['separability']):.2f}",
        fontsize=7,
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
            _show_image(axes, example["example_image"][step].to_numpy())
            label = _class_name(one, int(example["example_prediction"][step]), _STRIP_NAME)
            axes.set_xlabel(label, fontsize=5.5, labelpad=1.5)
            for spine in axes.spines.values():
                spine.set_edgecolor(color)
    axes = part.add_subplot(grid[:, -1])
    show_direction(axes, one["direction_image"].to_numpy())
    axes.set_xlabel("direction", fontsize=6, labelpad=1.5)


def _show_image(axes: Axes, image: Any) -> None:
    """An image (C, H, W), clipped to [0, 1] for display."""
    shown = np.clip(image, 0, 1)
    if len(shown) == 3:
        axes.imshow(shown.transpose(1, 2, 0))
    else:
        axes.imshow(shown[0], cmap="gray", vmin=0, vmax=1)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(True)


def _score_panel(axes: Axes, one: xr.Dataset, label: str, name: str) -> None:
    own = label == "negative" and int(one["population_size"].sel(population=_OWN)) > 0
    shown = one.sel(population=_OWN if own else _OTHER)
    for variable, color, text in (
        ("target_score", BLUE, "score of the class"),
        ("other_score", VERMILION, "largest other score"),
    ):
        low, middle, high = shown[variable].transpose("quantile", ...)
        axes.fill_between(one["scale"], low, high, color=color, alpha=0.2, linewidth=0)
        axes.plot(one["scale"], middle, color=color, label=text)
    axes.set_ylabel("score")
    axes.set_title(
        f"{_doubted(one, label)}\nimages of {f'class {name}' if own else 'other classes'}"
    )


def _share_panel(axes: Axes, one: xr.Dataset) -> None:
    scale = one["scale"]
    softmax = one["target_softmax"].sel(population=_OTHER, quantile=0.5)
    axes.plot(scale, 100 * one["transition"], color=GREEN, label="transition into the class")
    axes.plot(scale, 100 * softmax, color=ORANGE, label="median softmax")
    axes.plot(scale, 100 * one["retention"], color="black", ls="--", lw=0.9, label="retention")
    axes.set_ylim(-4, 104)
