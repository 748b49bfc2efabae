"""Figures of the last layer: its null space, the angles of its boundaries, feature collisions."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

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
    histogram,
    relative_norm,
    share_ticks,
    show_image,
    title,
)
from geomadv.plotting.style import COLUMN, GREY, PAGE

# Values below this have no place on a logarithmic axis: the smallest change that float64 shows.
_FLOOR = 1e-17


@figure("softmax_directions", "singular_value", "softmax_change", "hidden_share", "published_bound")
def softmax_null_space(ds: xr.Dataset, *, ax: Given = None) -> Figure:
    """Singular values of the centred weights, what moving along their null space does, its share.

    ds: result of `experiments.softmax_directions`; ax: three axes to draw into. Left: singular
    values over all directions of the feature space, the adversarial ones shaded. Middle: change of
    the softmax against the displacement, the largest of all images, with a band from their median.
    Right: share of the feature change in adversarial directions. What the adversarial directions
    are compared with is grey.
    """
    three = panels(ax, PAGE, 2.6, 1, 3)
    for axes, draw in zip(three, (_singular_values, _displacements, _hidden_shares), strict=True):
        draw(axes, ds)
        legend(axes, drop=0.36)
    hidden = ds["perturbation_converged"].to_numpy()
    drawing = note(
        heading(
            three[0],
            f"{title(ds)}: {int(ds['adversarial_dimension'])} of {ds.sizes['feature']} feature "
            f"directions are adversarial (published bound: {int(ds['published_bound'])})",
        ),
        f"{ds.sizes['sample']} images, {int(hidden.sum())} of them with a DeepFool perturbation",
        "lines in the middle: largest of all images, bands: from their median up",
    )
    return settle(drawing)


def _singular_values(axes: Axes, ds: xr.Dataset) -> None:
    width, rank = ds.sizes["feature"], int(ds["rank"])
    values = np.zeros(width)
    values[: ds.sizes["component"]] = ds["singular_value"][:width]
    index = np.arange(1, width + 1)
    axes.plot(index[:rank], values[:rank], "o", color="C0", markersize=2.5, label="visible")
    if rank < width:
        axes.axvspan(rank + 0.5, width * 1.05, color="C1", alpha=0.2, linewidth=0)
        hidden = slice(rank, None)
        axes.plot(index[hidden], values[hidden], "o", color="C1", ms=2.5, label="adversarial")
    axes.set_xscale("log")
    axes.set_xlim(0.9, width * 1.05)
    axes.set_ylim(bottom=-0.04 * values.max())
    share_ticks(axes, width)
    axes.set_xlabel("index, share of all features")
    axes.set_ylabel("singular value of centred W\n(score per feature unit)")


def _displacements(axes: Axes, ds: xr.Dataset) -> None:
    for name, color, line, label in (
        ("control_change", GREY, "-", "uniform direction"),
        ("rounding_bound", GREY, ":", "bound on rounding"),
        ("softmax_change", "C0", "-", "adversarial direction"),
    ):
        middle, largest = (
            np.maximum(ds[name].quantile(share, "sample"), _FLOOR) for share in (0.5, 1.0)
        )
        look: Any = {"linestyle": line, "label": label}
        band(axes, ds["displacement"], middle, largest, largest, color, **look)
    axes.set(xscale="log", yscale="log", xlabel="displacement (feature norms)")
    axes.set_ylabel("change of the softmax")


def _hidden_shares(axes: Axes, ds: xr.Dataset) -> None:
    for shares, color, label in (
        (ds["hidden_share"].where(ds["perturbation_converged"]), "C0", "DeepFool"),
        (
            ds["noise_hidden_share"].where(ds["perturbation_converged"]),
            GREY,
            "noise of the same norm",
        ),
    ):
        percent = 100 * shares.to_numpy()
        histogram(axes, percent, np.linspace(0, 100, 41), color=color, alpha=0.6, label=label)
    share = 100 * float(ds["adversarial_dimension"]) / ds.sizes["feature"]
    axes.axvline(share, color=GREY, linestyle=":", label="uniform feature change")
    axes.set(xlim=(0, 100), xlabel="hidden feature energy (%)", ylabel="images (%)")


@figure("softmax_directions", "angle_count", "angle_low", "angle_high", "parallel_cosine", "class")
def softmax_boundary_angles(ds: xr.Dataset, *, ax: Axes | None = None) -> Figure:
    """Histogram of the angles between all pairs of class boundaries, with the most parallel pair.

    ds: result of `experiments.softmax_directions`; ax: axes to draw into. Each kind of pair adds up
    to 100 %.
    """
    axes = panel(ax, COLUMN, 2.6)
    edges = np.append(ds["angle_low"], ds["angle_high"][-1])
    names = ("sharing a class", "of four classes")
    for relation, (name, color) in enumerate(zip(names, ("C1", "C0"), strict=True)):
        counts = ds["angle_count"][relation]
        total = int(counts.sum())
        if total == 0:
            continue
        look: Any = {"fill": True, "color": color, "alpha": 0.6}
        axes.stairs(100 * counts / total, edges, label=f"{name} ({total:,})", **look)
        smallest = np.degrees(np.arccos(float(ds["parallel_cosine"][relation])))
        if "random_parallel_cosine" in ds:
            cosines = ds["random_parallel_cosine"][:, relation]
            ends = np.degrees(np.arccos([float(cosines.max()), float(cosines.min())]))
            axes.axvspan(*ends.tolist(), color=GREY, alpha=0.25, linewidth=0, zorder=0)
        axes.axvline(smallest, color=color, linestyle="--", linewidth=1)
    axes.set(xlim=(0, 90), xticks=range(0, 91, 15))
    axes.set_xlabel("angle between two boundaries (degrees)")
    axes.set_ylabel("pairs of boundaries (% per bin)")
    kind = "all pairs" if bool(ds["angle_complete"]) else f"{int(ds['angle_pairs']):,} pairs"
    axes.set_title(title(ds))
    legend(axes, 2, drop=0.2)
    draws = ds.sizes.get("draw", 0)
    return note(
        whole(axes),
        f"{kind} of {ds.sizes['class']} classes; dashed: {_most_parallel(ds)}",
        f"grey bands: the same of {draws} draws of Gaussian weights, range" if draws else "",
    )


def _most_parallel(ds: xr.Dataset) -> str:
    relation = int(np.nanargmax(ds["parallel_cosine"]))
    names = [str(ds["class"][int(c)].item()) for c in ds["parallel_classes"][relation]]
    angle = np.degrees(np.arccos(float(ds["parallel_cosine"][relation])))
    if ds.sizes["class"] > 100 or max(map(len, names)) > 6:
        return f"most parallel, {angle:.1f}°"
    return f"most parallel, {names[0]}|{names[1]} and {names[2]}|{names[3]} at {angle:.1f}°"


@figure("softmax_directions", "collision", "epsilon", "pair_goal", "start_image", "mean_image_norm")
def feature_collisions(ds: xr.Dataset) -> Figure:
    """Share of pairs whose features collide against the radius, with images of some pairs.

    A page of its own: ds is the result of `experiments.softmax_directions`. Each row of images is a
    pair: the start, the best images within growing radii with the share of the feature distance
    that remains, the goal.
    """
    drawing = new_figure(PAGE, 3.1)
    left, right = np.asarray(drawing.subfigures(1, 2, width_ratios=(1, 1.25)))
    _success(left.subplots(), ds)
    _examples(right, ds)
    clipped = ", inside the pixel bounds" if bool(ds["collision_clipped"]) else ""
    drawing.suptitle(f"feature collisions, {title(ds)}")
    shown = f"{ds.sizes['example']} of them as images, below the share of the distance left"
    return settle(note(drawing, f"{ds.sizes['pair']} random pairs of images{clipped}; {shown}"))


def _success(axes: Axes, ds: xr.Dataset) -> None:
    radius = relative_norm(ds, "epsilon")
    goal_label = ds["prediction"].to_numpy()[ds["pair_goal"].to_numpy()]
    tolerance = 100 * float(ds["collision_tolerance"])
    dots: Any = {"marker": "o", "markersize": 2.5}
    for rate, label, look in (
        ((ds["collision_label"] == goal_label).mean("pair"), "predicted as the goal",
         dots | {"color": "C1"}),
        (ds["collision"].mean("pair"), f"and ≤ {tolerance:g} % of the feature distance left",
         dots | {"color": "C0"}),
        (ds["collision_residual"].median("pair"), "median feature distance left (%)",
         {"color": "C2", "linestyle": "--"}),
    ):  # fmt: skip
        axes.plot(radius, 100 * rate, label=label, **look)
    if "noise_collision" in ds:
        noise: Any = {"color": GREY, "marker": "x", "markersize": 3, "label": "noise collides"}
        axes.plot(radius, 100 * ds["noise_collision"].mean("pair"), **noise)
    norm = relative_norm(ds, "perturbation_norm").where(ds["perturbation_converged"]).median()
    axes.axvline(float(norm), color=GREY, linestyle=":", label="median DeepFool norm")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_ylim(-2, 102)
    axes.set_xlabel("radius ε (% of mean image norm)")
    axes.set_ylabel("share of pairs (%)")
    legend(axes, drop=0.2)


def _examples(part: SubFigure, ds: xr.Dataset) -> None:
    rows = ds.sizes["example"]
    if rows == 0:
        return
    # From the last radius at which nothing collides to the first at which no more will.
    rate = ds["collision"].mean("pair").to_numpy()
    first = max(int((rate == 0).sum()) - 1, 0)
    last = max(int(rate.argmax()), min(3, len(rate) - 1))
    chosen = np.unique(np.linspace(min(first, last - 3), last, 4).clip(0).astype(int))
    grid = part.subplots(rows, len(chosen) + 2, squeeze=False)
    shares = relative_norm(ds, "epsilon")
    heads = ["start x", *(f"ε = {float(shares[i]):.2g} %" for i in chosen), "goal x'"]
    for axes, head in zip(grid[0], heads, strict=True):
        axes.set_title(head, pad=3)
    for row in range(rows):
        show_image(grid[row, 0], ds["start_image"][row].to_numpy())
        show_image(grid[row, -1], ds["goal_image"][row].to_numpy())
        for axes, i in zip(grid[row, 1:-1], chosen, strict=True):
            show_image(axes, ds["collision_image"][i, row].to_numpy())
            color = "C0" if bool(ds["collision"][i, row]) else "black"
            left = f"{100 * float(ds['collision_residual'][i, row]):.0f} % left"
            caption(axes, left, color=color)
