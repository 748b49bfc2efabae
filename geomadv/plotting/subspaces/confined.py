"""Figures of confined DeepFool and of resampling."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from geomadv.errors import InputError
from geomadv.experiments.principal.doubt import families_doubt, family_doubt
from geomadv.plotting.style import (
    BLUE,
    GREY,
    PAGE,
    VERMILION,
    new_figure,
    show_direction,
    style,
    title,
)

_NAMES = {
    "hi": r"$S_\mathrm{hi}$, leading perturbations",
    "lo": r"$S_\mathrm{lo}$, trailing perturbations",
    "positive": r"$S_\mathrm{pos}$, positive curvature",
    "negative": r"$S_\mathrm{neg}$, negative curvature",
    "both": r"$S_\mathrm{neg\cup pos}$, both ends",
    "flat": r"$S_\mathrm{flat}$, least curvature",
    "random": "random subspaces",
}

# Panels side by side.
_COLUMNS = 4

# Of a column of text, in cells of the table.
_WIDTH = 1.55

# Below this share of images with a changed label a mean norm is marked as one of the others only.
_ALL = 0.99


def confined_deepfool(ds: xr.Dataset) -> Figure:
    """Norms of confined perturbations and of projected images against the dimension, by family.

    Figure 5 of "With Friends Like These" (Jetley, Lord and Torr, 2018). Lines are means, bands run
    from the 10th to the 90th percentile of images. Perturbations count where the label changed;
    hollow markers where it did not for more than 1 % of the images. A family without a subspace at
    any of the d has no panel.

    ds: result of `experiments.confined_deepfool`.
    """
    there = (ds["subspace_dimension"] > 0).any("d").to_numpy()
    families = ds["family"].to_numpy()[there].tolist()
    columns = min(_COLUMNS, len(families))
    rows = -(-len(families) // columns)
    with style():
        figure = new_figure(PAGE, 0.75 + 1.6 * rows)
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, family in zip(grid, families, strict=False):
            _family(axes, ds.sel(family=family), ds)
            heading = [_NAMES.get(family, family), family_doubt(ds, family).of_directions]
            axes.set_title("\n".join(filter(None, heading)))
        spare = grid[len(families) :]
        for axes in spare:
            axes.set_axis_off()
        for axes in grid[max(0, len(families) - columns) : len(families)]:
            # Also where the row below is not full, and no panel there carries the axis.
            axes.xaxis.set_tick_params(labelbottom=True)
            axes.set_xlabel("dimension d")
        for axes in grid[::columns]:
            axes.set_ylabel("norm (image units)")
        handles, labels = grid[0].get_legend_handles_labels()
        handles += grid[0].plot([], [], "o", color=BLUE, markerfacecolor="white", markersize=2.5)
        labels.append("label kept by some images")
        if len(spare) > 0:
            spare[0].legend(handles, labels, loc="center")
        else:
            figure.legend(handles, labels, loc="outside lower center", ncols=4)
        told = [f"{title(ds)} ({ds.sizes['sample']} images)", families_doubt(ds).of_step]
        figure.suptitle("\n".join(filter(None, told)), fontsize=8)
        return figure


def _family(axes: Axes, one: xr.Dataset, ds: xr.Dataset) -> None:
    one = one.isel(d=(one["subspace_dimension"] > 0).to_numpy())
    size = one["subspace_dimension"]
    found = one["norm"].where(one["converged"])
    law = ds["flat_law"].where(ds["plain_converged"]).mean("sample")
    axes.plot(ds["d"], law, color=GREY, linestyle="--", label=r"flat law $\sqrt{D/d}\,\|r\|$")
    for norms, color, label in (
        (found, BLUE, "confined perturbation"),
        (one["projected_norm"], VERMILION, "projected image"),
    ):
        axes.plot(size, norms.mean("sample"), color=color, label=label)
        low, high = (norms.quantile(q, "sample") for q in (0.1, 0.9))
        axes.fill_between(size, low, high, color=color, alpha=0.2, linewidth=0)
    most = (one["converged_share"] >= _ALL).to_numpy()
    mean = found.mean("sample")
    for chosen, face in ((most, BLUE), (~most, "white")):
        axes.plot(size[chosen], mean[chosen], "o", color=BLUE, markerfacecolor=face, markersize=2.5)
    axes.set_xscale("log")
    axes.set_yscale("log")


def confined_examples(
    ds: xr.Dataset, families: Sequence[str] = ("hi", "lo", "random"), example: int = 0
) -> Figure:
    """One image's confined perturbations and projections at some d, two rows a family.

    The images of figure 5 of "With Friends Like These". Perturbations (blue frames) are scaled by
    their largest magnitude, grey is zero; projections (red frames), with the mean image added
    back, are clipped to the range of the image.

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
    with style():
        figure = new_figure(PAGE, 0.4 + 2.12 * len(shown))
        grid = figure.subplots(2 * len(shown), len(picked) + 1, squeeze=False)
        image = ds["example_image"].isel(example=example).to_numpy()
        for axes in grid[:, 0]:
            axes.set_axis_off()
        for k, family in enumerate(shown):
            one = ds.sel(family=family).isel(example=example, sample=example)
            first = grid[2 * k + 1, 0]
            first.set_axis_on()
            _show_image(first, image, image, GREY)
            first.set_title("image", fontsize=6, pad=2)
            grid[2 * k, 0].text(
                0.5,
                0.5,
                _NAMES.get(family, family).replace(", ", "\n"),
                ha="center",
                va="center",
                transform=grid[2 * k, 0].transAxes,
                wrap=True,
            )
            for j, d in enumerate(picked, start=1):
                _pair(grid[2 * k, j], grid[2 * k + 1, j], one.isel(d=d), image)
        figure.suptitle(f"confined perturbations and projected images, {title(ds)}", fontsize=8)
        return figure


def _pair(above: Axes, below: Axes, one: xr.Dataset, image: NDArray[Any]) -> None:
    if int(one["subspace_dimension"]) == 0:
        above.set_axis_off()
        below.set_axis_off()
        return
    perturbation = one["example_perturbation"].to_numpy()
    show_direction(above, perturbation if np.abs(perturbation).max() > 0 else perturbation + 1)
    _frame(above, BLUE)
    kept = "" if one["converged"] else " (label kept)"
    above.set_title(
        f"d = {int(one['subspace_dimension'])}{kept}\n‖r‖ = {float(one['norm']):.3g}",
        fontsize=6,
        pad=2,
    )
    _show_image(below, one["example_projection"].to_numpy(), image, VERMILION)


def _show_image(axes: Axes, shown: NDArray[Any], like: NDArray[Any], color: str) -> None:
    """An image (C, H, W), clipped to the range of another one."""
    low, high = float(like.min()), float(like.max())
    scaled = ((shown - low) / max(high - low, 1e-12)).clip(0, 1)
    if len(scaled) == 3:
        axes.imshow(scaled.transpose(1, 2, 0))
    else:
        axes.imshow(scaled[0], cmap="gray", vmin=0, vmax=1)
    axes.set_xticks([])
    axes.set_yticks([])
    _frame(axes, color)


def _frame(axes: Axes, color: str) -> None:
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_linewidth(1.0)
        spine.set_color(color)


def resampling(ds: xr.Dataset) -> Figure:
    """Table 1 of "With Friends Like These": fooling rates against d_low and f, in colours.

    Means over the images for which the attack in question changed the label. With a direct attack
    the table has its two norms as well.

    ds: result of `experiments.resampling`.
    """
    found = ds["converged"]
    before = [
        ("mean ‖x‖\n(resampled)", ds["resampled_image_norm"].mean("sample"), "{:.3g}"),
        ("mean ‖r‖\n(resampled)", ds["resampled_norm"].where(found).mean("sample"), "{:.3g}"),
        ("accuracy\n(%)", 100 * ds["accuracy"], "{:.1f}"),
    ]
    after = []
    if "confined_norm" in ds:
        after.append(("dimension\nof the span", ds["span_dimension"], "{:.0f}"))
        for name, head in (("confined", "inside the\nspan"), ("direct", "in all\ndirections")):
            norms = ds[f"{name}_norm"].where(ds[f"{name}_converged"])
            after.append((head, norms.mean("sample"), "{:.3g}"))
    rates = 100 * ds["fooling_rate"].transpose("d_low", "factor").to_numpy()
    rows, columns = rates.shape
    with style():
        figure = new_figure(PAGE, 1.15 + 0.26 * rows)
        axes = figure.add_subplot()
        axes.imshow(rates, cmap="Blues", vmin=0, vmax=100, aspect="auto")
        for (i, j), rate in np.ndenumerate(rates):
            axes.text(
                j,
                i,
                f"{rate:.1f}",
                ha="center",
                va="center",
                color="white" if rate > 60 else "black",
            )
        _text_columns(axes, before, -_WIDTH * len(before) - 0.15, rows)
        _text_columns(axes, after, columns + 0.35, rows)
        axes.set_xlim(-_WIDTH * len(before) - 0.9, columns - 0.5 + _WIDTH * len(after))
        axes.set_xticks(range(columns), [f"f = {f:g}" for f in ds["factor"].to_numpy()])
        axes.xaxis.tick_top()
        axes.set_yticks(range(rows), [f"{d}" for d in ds["d_low"].to_numpy()])
        axes.set_ylabel(r"$d_\mathrm{low}$ (pixels)")
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.text((columns - 1) / 2, -1.55, "fooling rate (%) at x + f r", ha="center", va="bottom")
        if after:
            axes.text(
                columns + 0.35 + 1.5 * _WIDTH,
                -1.55,
                "mean ‖r‖, direct attack",
                ha="center",
                va="bottom",
            )
        figure.suptitle(f"{title(ds)} ({ds.sizes['sample']} images)", fontsize=8)
        return figure


def _text_columns(
    axes: Axes, columns: list[tuple[str, xr.DataArray, str]], start: float, rows: int
) -> None:
    for k, (head, values, pattern) in enumerate(columns):
        x = start + _WIDTH * k
        axes.text(x, -0.62, head, ha="center", va="bottom", fontsize=7)
        for i in range(rows):
            axes.text(x, i, pattern.format(float(values[i])), ha="center", va="center")
