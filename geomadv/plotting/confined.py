"""Figures of DeepFool confined to subspaces: norms against the dimension, and examples."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from geomadv.errors import InputError
from geomadv.experiments.principal.doubt import families_doubt, family_doubt
from geomadv.plotting.figure import Given, figure, heading, legend, lines, new_figure, note, panels
from geomadv.plotting.parts import (
    band,
    caption,
    question,
    share_ticks,
    show_direction,
    show_image,
    spread,
    title,
    write,
)
from geomadv.plotting.style import GREY, PAGE

# The paper's names of the subspaces, for a panel each.
_NAMES = {
    "hi": r"$S_\mathrm{hi}$, leading perturbations",
    "lo": r"$S_\mathrm{lo}$, trailing perturbations",
    "positive": r"$S_\mathrm{pos}$, positive curvature",
    "negative": r"$S_\mathrm{neg}$, negative curvature",
    "both": r"$S_\mathrm{neg\cup pos}$, both ends",
    "flat": r"$S_\mathrm{flat}$, least curvature",
    "random": "random subspaces",
}

# Panels of families side by side.
_COLUMNS = 4

# Below this share of images with a changed label a mean norm is marked as one of the others only.
_ALL = 0.99

_CONFINED = ("subspace_dimension", "norm", "converged", "projected_norm", "family", "d")


@figure(
    "confined_deepfool", *_CONFINED, "plain_converged", "flat_law", "converged_share", "mean_image"
)
def confined_deepfool(ds: xr.Dataset, *, ax: Given = None) -> Figure:
    """Norms of confined perturbations and of projected images against the dimension, by family.

    Figure 5 of "With Friends Like These" (Jetley, Lord and Torr, 2018). Lines are means, bands run
    from the 10th to the 90th percentile of images; grey are random subspaces. Perturbations
    count where the label changed; hollow markers where it did not for more than 1 % of the images.
    A family without a subspace at any of the d has no panel.

    ds: result of `experiments.confined_deepfool`; ax: axes to draw into, one for each such family.
    """
    there = (ds["subspace_dimension"] > 0).any("d").to_numpy()
    families = ds["family"].to_numpy()[there].tolist()
    grid, columns = _family_panels(ax, len(families))
    for axes, family in zip(grid, families, strict=False):
        _family(axes, ds.sel(family=family), ds)
        doubt = family_doubt(ds, family).of_directions
        axes.set_title(lines(_NAMES.get(family, family), doubt))
    for axes in grid[max(0, len(families) - columns) : len(families)]:
        # Also where the row below is not full, and no panel there carries the axis.
        axes.xaxis.set_tick_params(labelbottom=True)
        axes.set_xlabel("dimension d, share of all")
    for axes in grid[::columns]:
        axes.set_ylabel("norm (image units)")
    handles = grid[0].get_legend_handles_labels()[0]
    label = "label kept by some images"
    look: Any = {"linestyle": "", "marker": "o", "markerfacecolor": "white", "markersize": 2.5}
    handles.append(Line2D([], [], label=label, color="C0", **look))
    spare = grid[len(families) :]
    for axes in spare:
        axes.set_axis_off()
    if spare:
        spare[0].legend(handles=handles, loc="center")
    else:
        legend(grid[0], 4, handles)
    return note(
        heading(grid[0], f"{title(ds)}: DeepFool confined", families_doubt(ds).of_step),
        f"{ds.sizes['sample']} images; lines: means, bands: 10th to 90th percentile over images",
        "flat law: the unconfined norm of a linear boundary, confined to a random subspace",
    )


@figure("confined_deepfool", *_CONFINED, "example_image", "example_perturbation")
def confined_examples(
    ds: xr.Dataset, families: Sequence[str] = ("hi", "lo", "random"), example: int = 0
) -> Figure:
    """One image's confined perturbations and projections at some d, two rows a family.

    A page of the images of figure 5 of "With Friends Like These". Perturbations and projections
    have frames in the colours of their curves in `confined_deepfool`. Perturbations are scaled by
    their largest magnitude, grey is zero; projections, with the mean image added back, are clipped
    to the range of the image. A dashed frame marks a perturbation that does not change the label.

    ds: result of `experiments.confined_deepfool`. families: those to show, where they are there.

    Raises:
        InputError: none of the families is there, or no such example.
    """
    shown = [family for family in families if family in ds["family"].to_numpy()]
    if not shown or not 0 <= example < ds.sizes["example"]:
        raise InputError(
            f"families={list(families)}, example={example}: the result has families "
            f"{ds['family'].to_numpy().tolist()} and {ds.sizes['example']} examples."
        )
    picked = np.unique(np.linspace(0, ds.sizes["d"] - 1, 6).round().astype(int))
    drawing = new_figure(PAGE, 0.4 + 2.12 * len(shown))
    grid = drawing.subplots(2 * len(shown), len(picked) + 1, squeeze=False)
    image = ds["example_image"].isel(example=example).to_numpy()
    for k, family in enumerate(shown):
        above, below = grid[2 * k], grid[2 * k + 1]
        one = ds.sel(family=family).isel(example=example, sample=example)
        name = _NAMES.get(family, family).replace(", ", "\n")
        write(above[0], 0.5, 0.5, name, transform=above[0].transAxes, wrap=True)
        above[0].set_axis_off()
        _clipped(below[0], image, image, GREY)
        caption(below[0], "image")
        for j, d in enumerate(picked, start=1):
            _pair(above[j], below[j], one.isel(d=d), image)
    drawing.suptitle(f"confined perturbations and projected images, {title(ds)}")
    return note(
        drawing,
        f"1 of {ds.sizes['example']} stored example images, of {ds.sizes['sample']}",
        "upper rows: perturbations, grey is zero, scaled by the largest magnitude (dashed frame: "
        "label kept); lower rows: projections, clipped to the image's range",
    )


def _family_panels(ax: Given, count: int) -> tuple[list[Axes], int]:
    """Panels for so many families and how many stand side by side; in a new figure some spare."""
    if ax is not None:
        return panels(ax, 0, 0, 1, count), count
    columns = min(_COLUMNS, count)
    rows = -(-count // columns)
    shared: Any = {"sharex": True, "sharey": True}
    return panels(None, PAGE, 0.75 + 1.6 * rows, rows, columns, **shared), columns


def _family(axes: Axes, one: xr.Dataset, ds: xr.Dataset) -> None:
    law = ds["flat_law"].where(ds["plain_converged"]).mean("sample")
    axes.plot(ds["d"], law, color=GREY, linestyle="--", label=r"flat law $\sqrt{D/d}\,\|r\|$")
    if "random" in ds["family"].to_numpy():
        # Means over images of unequal number would not compare: only where nearly all are fooled.
        random = ds.sel(family="random")
        norm = random["norm"].where(random["converged"]).mean("sample")
        look: Any = {"color": GREY, "linestyle": ":", "label": "confined to random subspaces"}
        axes.plot(random["subspace_dimension"], norm.where(_most(random)), **look)
    one = one.isel(d=(one["subspace_dimension"] > 0).to_numpy())
    size = one["subspace_dimension"]
    found = one["norm"].where(one["converged"])
    for norms, color, label in (
        (found, "C0", "confined perturbation"),
        (one["projected_norm"], "C3", "projected image"),
    ):
        band(axes, size, *spread(norms, "sample", 0.1, 0.9), color, label=label)
    most, mean = _most(one).to_numpy(), found.mean("sample")
    for chosen, face in ((most, "C0"), (~most, "white")):
        axes.plot(size[chosen], mean[chosen], "o", color="C0", markerfacecolor=face, markersize=2.5)
    axes.set(xscale="log", yscale="log")
    share_ticks(axes, int(np.prod(ds["mean_image"].shape)))


def _most(one: xr.Dataset) -> xr.DataArray:
    """Where all but a few images were fooled."""
    return one["converged_share"] >= _ALL


def _pair(above: Axes, below: Axes, one: xr.Dataset, image: NDArray[Any]) -> None:
    if int(one["subspace_dimension"]) == 0:
        above.set_axis_off()
        below.set_axis_off()
        return
    show_direction(above, one["example_perturbation"].to_numpy(), "C0", 1.0)
    kept = "" if one["converged"] else "\nlabel kept"
    caption(above, f"d = {int(one['subspace_dimension'])}, ‖r‖ = {float(one['norm']):.3g}{kept}")
    if kept:
        question(above)
    _clipped(below, one["example_projection"].to_numpy(), image, "C3")


def _clipped(axes: Axes, shown: NDArray[Any], like: NDArray[Any], frame: str) -> None:
    """An image, clipped to the range of another one."""
    show_image(axes, shown, float(like.min()), float(like.max()), frame, 1.0)
