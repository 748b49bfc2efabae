"""Figures of subspaces: accuracy, shares of norms, confined DeepFool, resampling."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from geomadv.errors import InputError
from geomadv.experiments.principal.doubt import families_doubt, family_doubt
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
    require,
    whole,
)
from geomadv.plotting.parts import (
    DARK,
    band,
    caption,
    heat_table,
    percent,
    question,
    share_ticks,
    show_direction,
    show_image,
    spread,
    title,
    twofold,
    write,
)
from geomadv.plotting.style import COLUMN, GREY, PAGE, scaled

# The paper's names of the subspaces, with one colour and line width each in all figures. The lines
# of perturbations and normals may coincide: thin ones lie on wide ones.
_LOOKS = {
    "positive": (r"$S_\mathrm{pos}$", "C0", 1.2),
    "negative": (r"$S_\mathrm{neg}$", "C3", 1.2),
    "both": (r"$S_{\mathrm{neg} \cup \mathrm{pos}}$", "C2", 1.2),
    "flat": (r"$S_\mathrm{flat}$", "C1", 1.2),
    "perturbation_hi": (r"$S_\mathrm{hi}$, DeepFool", "C5", 2.4),
    "perturbation_lo": (r"$S_\mathrm{lo}$, DeepFool", "C1", 2.4),
    "normal_hi": (r"$S_\mathrm{hi}$, normals", "C0", 0.9),
    "normal_lo": (r"$S_\mathrm{lo}$, normals", "C3", 0.9),
    "random": ("random subspaces", GREY, 1.2),
    "image PCA": ("image PCA", "C4", 1.2),
}

# The same where a family has a panel of its own.
_NAMES = {
    "hi": r"$S_\mathrm{hi}$, leading perturbations",
    "lo": r"$S_\mathrm{lo}$, trailing perturbations",
    "positive": r"$S_\mathrm{pos}$, positive curvature",
    "negative": r"$S_\mathrm{neg}$, negative curvature",
    "both": r"$S_\mathrm{neg\cup pos}$, both ends",
    "flat": r"$S_\mathrm{flat}$, least curvature",
    "random": "random subspaces",
}

_DASHES = (0, (3, 1.5))

# From this d on a linear axis would hide what happens at the first few.
_LINEAR = 100

# Fewer ticks than these have no room for every power of ten.
_POWERS = 5

# Panels of families side by side.
_COLUMNS = 4

# Of a column of text, in cells of the table.
_WIDTH = 1.55

# Below this share of images with a changed label a mean norm is marked as one of the others only.
_ALL = 0.99

_BANDS = "bands: two binomial standard errors"

_ACCURACY = (
    "accuracy",
    "standard_error",
    "plain_accuracy",
    "description",
    "split",
    "family",
    "d",
    "count",
    "draws",
    "directions_per_step",
    "subspace_dimension",
    "image_dimension",
)
_CONFINED = ("subspace_dimension", "norm", "converged", "projected_norm", "family", "d")


@figure("subspace_accuracy", *_ACCURACY)
def subspace_accuracy(ds: xr.Dataset, *, ax: Axes | None = None) -> Figure:
    """Accuracy of projected images against d, a line per family; train dashed, test solid.

    ds: result of `experiments.subspace_accuracy`; ax: axes to draw into. Bands around the test
    curves are two binomial standard errors. Baselines are grey: random subspaces, the images
    themselves, and the most frequent class.
    """
    axes = panel(ax, COLUMN, 2.9)
    told = families_doubt(ds).of_step.replace(", ", ",\n")
    axes.set_title(lines(title(ds), "images projected on $S_d$", told))
    return _one_accuracy(axes, ds, _is_long(ds), _along(ds))


@figure("first_order_twin", *_ACCURACY)
def first_order_twin(ds: xr.Dataset, *, ax: Axes | None = None) -> Figure:
    """The same for singular vectors, where d counts all directions and the axis is linear.

    Lines of the perturbations are wide, those of the normals, thin on top of them, dark.
    ds: result of the experiment `first_order_twin`; ax: axes to draw into.
    """
    axes = panel(ax, COLUMN, 2.9)
    axes.set_title(f"{title(ds)}\nimages projected on singular vectors")
    return _one_accuracy(axes, ds, False, "singular directions d, share of all")


@figure("norm_fractions", "mean_fraction", "fraction_quantile", "random_fraction", "kind", "count")
def norm_fractions(ds: xr.Dataset, accuracy: xr.Dataset | None = None) -> Figure:
    """Mean share of the norm inside S_d against d, a panel per kind of perturbation.

    A page of its own: ds is the result of `experiments.norm_fractions`; accuracy: result of
    `experiments.subspace_accuracy` of the same families, drawn above on the same axis. Bands run
    from the 10th to the 90th percentile over perturbations; dotted grey lines are uniform random
    directions, one for each course of dimensions that the families take.
    """
    if accuracy is not None:
        require(accuracy, "norm_fractions (accuracy)", "subspace_accuracy", *_ACCURACY)
    kinds = ds["kind"].to_numpy().tolist()
    columns = max(len(kinds), 2)
    scale = ds if accuracy is None else accuracy
    drawing = new_figure(PAGE, 2.3 if accuracy is None else 4.2)
    grid = drawing.add_gridspec(1 if accuracy is None else 2, columns)
    below: list[Axes] = []
    for i, kind in enumerate(kinds):
        axes = drawing.add_subplot(grid[-1, i], sharey=below[0] if below else None)
        _fractions(axes, ds.sel(kind=kind))
        _scale(axes, scale, _is_long(scale), ticks=4)
        axes.set(title=f"{kind} ({int(ds['count'][i])})", ylim=(0, 1.03))
        axes.set_xlabel("d, share of all")
        axes.tick_params(labelleft=i == 0)
        below.append(axes)
    below[0].set_ylabel("share of the norm in $S_d$")
    along = _along(ds).split(",")[0]
    named = [*_family_handles(scale), _line(":", "uniform random direction", GREY, linewidth=0.8)]
    if accuracy is None:
        legend(below[0], len(named), named)
    else:
        axes = drawing.add_subplot(grid[0, : columns // 2])
        _accuracy(axes, accuracy)
        _scale(axes, accuracy, _is_long(accuracy))
        axes.set_title("accuracy of projected images")
        side = drawing.add_subplot(grid[0, columns // 2 :])
        side.set_axis_off()
        side.legend(handles=[*named, *_split_handles(accuracy)], loc="center", ncols=2)
    return note(
        heading(below[0], title(ds), families_doubt(ds).of_step),
        f"in brackets: number of perturbations; d: {along.removesuffix(' d')}",
        "lines of shares: means, bands: 10th to 90th percentile",
        "" if accuracy is None else f"accuracy: {_counted(accuracy)}, {_BANDS}",
        _steps(ds),
    )


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
    handles.append(_line("", label, "C0", marker="o", markerfacecolor="white", markersize=2.5))
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


@figure("resampling", "fooling_rate", "d_low", "factor", "resampled_norm", "accuracy", "converged")
def resampling(ds: xr.Dataset, *, ax: Axes | None = None) -> Figure:
    """Table 1 of "With Friends Like These": fooling rates against d_low and f, in colours.

    Means over the images for which the attack in question changed the label. With a direct attack
    the table has its two norms as well.

    ds: result of `experiments.resampling`; ax: axes to draw into.
    """
    before, after = _norm_columns(ds)
    rates = 100 * ds["fooling_rate"].transpose("d_low", "factor").to_numpy()
    rows, columns = rates.shape
    axes = panel(ax, PAGE, 1.15 + 0.34 * rows)
    heat_table(axes, rates, "{:.1f}")
    if "noise_fooling_rate" in ds:
        noise = 100 * ds["noise_fooling_rate"].transpose("d_low", "factor").to_numpy()
        for (i, j), rate in np.ndenumerate(noise):
            look = {"fontsize": scaled(5.5), "color": "white" if rates[i, j] > DARK else GREY}
            write(axes, j, i + 0.33, f"noise {rate:.0f}", **look)
    _text_columns(axes, before, -_WIDTH * len(before) - 0.15)
    _text_columns(axes, after, columns + 0.35)
    axes.set_xlim(-_WIDTH * len(before) - 0.9, columns - 0.5 + _WIDTH * len(after))
    axes.set_xticks(range(columns), [f"f = {f:g}" for f in ds["factor"].to_numpy()])
    axes.xaxis.tick_top()
    axes.set_yticks(range(rows), [f"{d}" for d in ds["d_low"].to_numpy()])
    axes.set_ylabel(r"$d_\mathrm{low}$ (pixels)")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    write(axes, (columns - 1) / 2, -1.55, "fooling rate (%) at x + f r", va="bottom")
    if after:
        middle = columns + 0.35 + 1.5 * _WIDTH
        write(axes, middle, -1.55, "mean ‖r‖, direct attack", va="bottom")
    small = "small: at x + f u, u random of the norm of r" if "noise_fooling_rate" in ds else ""
    return note(
        heading(axes, f"resampled networks, {title(ds)}"),
        f"{ds.sizes['sample']} images; norms: means where the attack changed the label",
        small,
    )


def _one_accuracy(axes: Axes, ds: xr.Dataset, symlog: bool, along: str) -> Figure:
    _accuracy(axes, ds)
    _scale(axes, ds, symlog)
    axes.set_xlabel(along)
    legend(axes, 2, [*_family_handles(ds), *_split_handles(ds)])
    return note(whole(axes), _counted(ds), _BANDS, _draws(ds), _steps(ds))


def _look(ds: xr.Dataset, family: Any) -> dict[str, Any]:
    """Label, colour and width of a family; those of one's own are grey under their own name."""
    label, color, width = _LOOKS.get(str(family), (str(family), GREY, 1.2))
    told = str(ds["description"].sel(family=family).item())
    if told.startswith("random") and not label.startswith("random"):
        label += " (random)"
    # The step stands in the title, once for all families.
    told = family_doubt(ds, family).of_directions
    label += f" ({told})" if told else ""
    return {"label": label, "color": color, "linewidth": width}


def _accuracy(axes: Axes, ds: xr.Dataset) -> None:
    splits = ds["split"].to_numpy().tolist()
    shown = ds.sel(split=splits[-1])
    for family in ds["family"].to_numpy():
        look = _look(ds, family)
        for split in splits:
            line = 100 * ds["accuracy"].sel(split=split, family=family).dropna("d")
            dashes = "-" if split == splits[-1] else _DASHES
            axes.plot(line["d"], line, linestyle=dashes, **look)
        middle, error = (shown[name].sel(family=family) for name in ("accuracy", "standard_error"))
        low, high = 100 * (middle - 2 * error), 100 * (middle + 2 * error)
        axes.fill_between(ds["d"], low, high, color=look["color"], alpha=0.2, linewidth=0)
    for name, dashes in (("plain_accuracy", ":"), ("constant_accuracy", "-.")):
        level = 100 * float(shown[name])
        axes.axhline(level, color=GREY, linestyle=dashes, linewidth=0.8, zorder=0)
    axes.set(ylim=(0, 103), ylabel="accuracy (%)")


def _fractions(axes: Axes, ds: xr.Dataset) -> None:
    for family in ds["family"].to_numpy():
        one, color = ds.sel(family=family), _look(ds, family)["color"]
        low, high = one["fraction_quantile"].isel(quantile=0), one["fraction_quantile"][..., -1]
        band(axes, ds["d"], low, one["mean_fraction"], high, color, alpha=0.15)
    for level in np.unique(ds["random_fraction"].fillna(0).to_numpy(), axis=0):
        axes.plot(ds["d"], level, color=GREY, linestyle=":", linewidth=0.8)


def _is_long(ds: xr.Dataset) -> bool:
    return int(ds["d"][-1]) > _LINEAR


def _scale(axes: Axes, ds: xr.Dataset, symlog: bool, ticks: int = 8) -> None:
    """The axis of d; a logarithmic one has the same room for 0 to 1 as for 1 to 10."""
    last = int(ds["d"][-1])
    if symlog:
        axes.set_xscale("symlog", linthresh=1)
        powers = 10 ** np.arange(int(np.log10(last)) + 1)[:: 2 if ticks < _POWERS else 1]
        axes.set_xticks([0, *powers])
        axes.minorticks_off()
    else:
        axes.xaxis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 5, 10], integer=True))
    axes.set_xlim(0, last)
    twofold(axes, _shares(ds))


def _shares(ds: xr.Dataset) -> Callable[[float], str]:
    """The share of all dimensions that S_d of most families has, as a function of d."""
    usual = ds.isel(family=int(ds["directions_per_step"].argmin()))
    if "image_dimension" in ds:
        share = usual["subspace_dimension"] / ds["image_dimension"]
    else:
        share = usual["random_fraction"] ** 2
    share = share.fillna(0)
    return lambda d: f"{percent(float(np.interp(d, ds['d'], share)))} %"


def _along(ds: xr.Dataset) -> str:
    """What the axis of d counts."""
    per_class = bool((ds["directions_per_step"] > 1).any())
    return f"directions{' per class' if per_class else ''} d, share of all"


def _steps(ds: xr.Dataset) -> str:
    """Families whose dimension grows faster than the axis says."""
    steps = ds["directions_per_step"]
    faster = ds["family"].to_numpy()[(steps > steps.min()).to_numpy()]
    if len(faster) == 0:
        return ""
    names = ", ".join(_LOOKS.get(str(family), (str(family),))[0] for family in faster)
    return f"{names}: {int(steps.max() / steps.min())} times the share at a d"


def _counted(ds: xr.Dataset) -> str:
    """The images of each split."""
    pairs = zip(ds["count"].to_numpy(), ds["split"].to_numpy(), strict=True)
    return " and ".join(f"{int(count)} {split}" for count, split in pairs) + " images"


def _draws(ds: xr.Dataset) -> str:
    most = int(ds["draws"].max())
    return f"{most} draws of random subspaces" if most > 1 else ""


def _line(dashes: Any, label: str, color: str, **looks: Any) -> Line2D:
    return Line2D([], [], linestyle=dashes, label=label, color=color, **looks)


def _family_handles(ds: xr.Dataset) -> list[Line2D]:
    return [Line2D([], [], **_look(ds, family)) for family in ds["family"].to_numpy()]


def _split_handles(ds: xr.Dataset) -> list[Line2D]:
    *others, shown = ds["split"].to_numpy().tolist()
    handles = [_line("-", f"{shown} images", "black")]
    if others:
        handles.append(_line(_DASHES, f"{', '.join(others)} images", "black"))
    handles.append(_line(":", "unprojected images", GREY))
    return [*handles, _line("-.", "most frequent class", GREY)]


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


def _norm_columns(ds: xr.Dataset) -> tuple[list[Any], list[Any]]:
    """Columns of the table, (heading, values, format), on the left and on the right."""
    norm = ds["resampled_norm"].where(ds["converged"]).mean("sample")
    before = [
        ("mean ‖x‖\n(resampled)", ds["resampled_image_norm"].mean("sample"), "{:.3g}"),
        ("mean ‖r‖\n(resampled)", norm, "{:.3g}"),
        ("accuracy\n(%)", 100 * ds["accuracy"], "{:.1f}"),
    ]
    if "confined_norm" not in ds:
        return before, []
    after = [("dimension\nof the span", ds["span_dimension"], "{:.0f}")]
    for name, head in (("confined", "inside the\nspan"), ("direct", "in all\ndirections")):
        norms = ds[f"{name}_norm"].where(ds[f"{name}_converged"])
        after.append((head, norms.mean("sample"), "{:.3g}"))
    return before, after


def _text_columns(axes: Axes, columns: list[Any], start: float) -> None:
    for k, (head, values, pattern) in enumerate(columns):
        x = start + _WIDTH * k
        write(axes, x, -0.62, head, va="bottom", fontsize=scaled(7))
        for i, value in enumerate(values.to_numpy()):
            write(axes, x, i, pattern.format(value))
