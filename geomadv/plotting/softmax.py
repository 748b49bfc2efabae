"""Figures of the last layer: its null space, the angles of its boundaries, feature collisions."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from geomadv.plotting.style import (
    BLUE,
    COLUMN,
    GREEN,
    GREY,
    ORANGE,
    PAGE,
    VERMILION,
    new_figure,
    style,
    title,
)

# Values below this have no place on a logarithmic axis: the smallest change that float64 shows.
_FLOOR = 1e-17


def softmax_null_space(ds: xr.Dataset) -> Figure:
    """Singular values of the centred weights, what moving along their null space does, its share.

    ds: result of `experiments.softmax_directions`. Left: singular values over all directions of
    the feature space, the adversarial ones shaded. Middle: largest change of the softmax over the
    images against the displacement. Right: share of the feature change in adversarial directions.
    """
    with style():
        figure = new_figure(PAGE, 2.5)
        left, middle, right = figure.subplots(1, 3)
        _singular_values(left, ds)
        _displacements(middle, ds)
        _hidden_shares(right, ds)
        figure.suptitle(
            f"{title(ds)}: {int(ds['adversarial_dimension'])} of {ds.sizes['feature']} feature "
            f"directions are adversarial (published bound: {int(ds['published_bound'])})",
            fontsize=8,
        )
        return figure


def _singular_values(axes: Axes, ds: xr.Dataset) -> None:
    width, rank = ds.sizes["feature"], int(ds["rank"])
    values = np.zeros(width)
    values[: ds.sizes["component"]] = ds["singular_value"][:width]
    index = np.arange(1, width + 1)
    axes.plot(index[:rank], values[:rank], "o", color=BLUE, markersize=2.5, label="visible")
    if rank < width:
        axes.axvspan(rank + 0.5, width * 1.05, color=ORANGE, alpha=0.2, linewidth=0)
        axes.plot(
            index[rank:], values[rank:], "o", color=ORANGE, markersize=2.5, label="adversarial"
        )
    axes.set_xscale("log")
    axes.set_xlim(0.9, width * 1.05)
    axes.set_ylim(bottom=-0.04 * values.max())
    axes.set_xlabel("index of the singular value")
    axes.set_ylabel("singular value of centred W\n(score per feature unit)")
    _below(axes)


def _displacements(axes: Axes, ds: xr.Dataset) -> None:
    lines = (
        ("control_change", VERMILION, "-", "uniform direction"),
        ("rounding_bound", GREY, ":", "bound on rounding"),
        ("softmax_change", BLUE, "-", "adversarial direction"),
    )
    for name, color, line, label in lines:
        largest = np.maximum(ds[name].max("sample"), _FLOOR)
        axes.plot(ds["displacement"], largest, color=color, linestyle=line, label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("displacement (feature norms)")
    axes.set_ylabel("largest change\nof the softmax")
    _below(axes)


def _hidden_shares(axes: Axes, ds: xr.Dataset) -> None:
    edges = np.linspace(0, 100, 41).tolist()
    drawn = (
        (ds["hidden_share"].where(ds["perturbation_converged"]), BLUE, "DeepFool"),
        (ds["noise_hidden_share"], VERMILION, "noise of the same norm"),
    )
    for shares, color, label in drawn:
        percent = 100 * shares.dropna("sample").to_numpy()
        weights = np.full(len(percent), 100 / max(len(percent), 1))
        axes.hist(percent, edges, weights=weights, color=color, alpha=0.6, label=label)
    share = 100 * float(ds["adversarial_dimension"]) / ds.sizes["feature"]
    axes.axvline(share, color=GREY, linestyle=":", label="uniform feature change")
    axes.set_xlim(0, 100)
    axes.set_xlabel("hidden feature energy (%)")
    axes.set_ylabel("images (%)")
    _below(axes)


def _below(axes: Axes) -> None:
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.3))


def softmax_boundary_angles(ds: xr.Dataset) -> Figure:
    """Histogram of the angles between all pairs of class boundaries, with the most parallel pair.

    ds: result of `experiments.softmax_directions`. Each kind of pair adds up to 100 %.
    """
    with style():
        figure = new_figure(COLUMN, 2.6)
        axes = figure.add_subplot()
        edges = np.append(ds["angle_low"], ds["angle_high"][-1])
        names = ("sharing a class", "of four classes")
        for relation, (name, color) in enumerate(zip(names, (ORANGE, BLUE), strict=True)):
            counts = ds["angle_count"][relation]
            total = int(counts.sum())
            if total == 0:
                continue
            axes.stairs(
                100 * counts / total,
                edges,
                fill=True,
                color=color,
                alpha=0.6,
                label=f"{name} ({total:,})",
            )
            smallest = np.degrees(np.arccos(float(ds["parallel_cosine"][relation])))
            axes.axvline(smallest, color=color, linestyle="--", linewidth=1)
        axes.set_xlim(0, 90)
        axes.set_xticks(range(0, 91, 15))
        axes.set_xlabel("angle between two boundaries (degrees)")
        axes.set_ylabel("pairs of boundaries (% per bin)")
        kind = "all pairs" if bool(ds["angle_complete"]) else f"{int(ds['angle_pairs']):,} pairs"
        axes.set_title(f"{title(ds)}\n{kind}; dashed: {_most_parallel(ds)}")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
        return figure


def _most_parallel(ds: xr.Dataset) -> str:
    relation = int(np.nanargmax(ds["parallel_cosine"]))
    names = [str(ds["class"][int(c)].item()) for c in ds["parallel_classes"][relation]]
    angle = np.degrees(np.arccos(float(ds["parallel_cosine"][relation])))
    if ds.sizes["class"] > 100 or max(map(len, names)) > 6:
        return f"most parallel, {angle:.1f}°"
    return f"most parallel, {names[0]}|{names[1]} and {names[2]}|{names[3]} at {angle:.1f}°"


def feature_collisions(ds: xr.Dataset) -> Figure:
    """Share of pairs whose features collide against the radius, with images of some pairs.

    ds: result of `experiments.softmax_directions`. Each row of images is a pair: the start, the
    best images within growing radii with the share of the feature distance that remains, the goal.
    """
    with style():
        figure = new_figure(PAGE, 3.0)
        panels = np.asarray(figure.subfigures(1, 2, width_ratios=(1, 1.25)))
        _success(panels[0].subplots(), ds)
        _examples(panels[1], ds)
        clipped = ", inside the pixel bounds" if bool(ds["collision_clipped"]) else ""
        figure.suptitle(f"{title(ds)} ({ds.sizes['pair']} random pairs{clipped})", fontsize=8)
        return figure


def _success(axes: Axes, ds: xr.Dataset) -> None:
    mean_norm = float(ds["mean_image_norm"])
    radius = 100 * ds["epsilon"] / mean_norm
    goal_label = ds["prediction"].to_numpy()[ds["pair_goal"].to_numpy()]
    reached = 100 * (ds["collision_label"] == goal_label).mean("pair")
    collided = 100 * ds["collision"].mean("pair")
    remaining = 100 * ds["collision_residual"].median("pair")
    axes.plot(
        radius, reached, color=ORANGE, marker="o", markersize=2.5, label="predicted as the goal"
    )
    tolerance = 100 * float(ds["collision_tolerance"])
    label = f"and ≤ {tolerance:g} % of the feature distance left"
    axes.plot(radius, collided, color=BLUE, marker="o", markersize=2.5, label=label)
    axes.plot(
        radius, remaining, color=GREEN, linestyle="--", label="median feature distance left (%)"
    )
    norm = ds["perturbation_norm"].where(ds["perturbation_converged"]).median()
    axes.axvline(
        100 * float(norm) / mean_norm, color=GREY, linestyle=":", label="median DeepFool norm"
    )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_ylim(-2, 102)
    axes.set_xlabel("radius ε (% of mean image norm)")
    axes.set_ylabel("share of pairs (%)")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2))


def _examples(figure: SubFigure, ds: xr.Dataset) -> None:
    rows = ds.sizes["example"]
    if rows == 0:
        return
    # From the last radius at which nothing collides to the first at which no more will.
    rate = ds["collision"].mean("pair").to_numpy()
    first = max(int((rate == 0).sum()) - 1, 0)
    last = max(int(rate.argmax()), min(3, len(rate) - 1))
    chosen = np.unique(np.linspace(min(first, last - 3), last, 4).clip(0).astype(int))
    grid = figure.subplots(rows, len(chosen) + 2, squeeze=False)
    shares = 100 * ds["epsilon"] / float(ds["mean_image_norm"])
    heads = ["start x", *(f"ε = {float(shares[i]):.2g} %" for i in chosen), "goal x'"]
    for axes, head in zip(grid[0], heads, strict=True):
        axes.set_title(head, fontsize=7, pad=3)
    for row in range(rows):
        _show(grid[row, 0], ds["start_image"][row].to_numpy())
        _show(grid[row, -1], ds["goal_image"][row].to_numpy())
        for axes, i in zip(grid[row, 1:-1], chosen, strict=True):
            _show(axes, ds["collision_image"][i, row].to_numpy())
            done = bool(ds["collision"][i, row])
            left = f"{100 * float(ds['collision_residual'][i, row]):.0f} % left"
            axes.set_xlabel(left, fontsize=6, labelpad=1, color=BLUE if done else "black")


def _show(axes: Axes, image: NDArray[np.floating]) -> None:
    """One image (C, H, W) with values in [0, 1]; beyond, it saturates."""
    if len(image) == 3:
        axes.imshow(image.transpose(1, 2, 0).clip(0, 1))
    else:
        axes.imshow(image[0], cmap="gray", vmin=0, vmax=1)
    axes.set_xticks([])
    axes.set_yticks([])
