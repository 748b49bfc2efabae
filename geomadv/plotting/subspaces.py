"""Figures of subspaces: accuracy, shares of norms, confined DeepFool, resampling."""

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from geomadv.experiments.principal.doubt import families_doubt, family_doubt
from geomadv.labels import percent
from geomadv.plotting.figure import (
    figure,
    heading,
    legend,
    lines,
    new_figure,
    note,
    panel,
    require,
    whole,
)
from geomadv.plotting.parts import (
    DARK,
    band,
    heat_table,
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

_DASHES = (0, (3, 1.5))

# From this d on a linear axis would hide what happens at the first few.
_LINEAR = 100

# Fewer ticks than these have no room for every power of ten.
_POWERS = 5

# Of a column of text, in cells of the table.
_WIDTH = 1.55

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
        f"{int(ds['count'].min())} or more perturbations a kind, in brackets",
        f"d: {along.removesuffix(' d')}",
        "lines of shares: means, bands: 10th to 90th percentile",
        "" if accuracy is None else f"accuracy: {_counted(accuracy)}, {_BANDS}",
        _steps(ds),
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
            look = {"fontsize": scaled(5.5), "color": "white" if rates[i, j] > DARK else "0.25"}
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
    # As the axis' label, so that titles stand above it.
    left, right = axes.get_xlim()
    middle = ((columns - 1) / 2 - left) / (right - left)
    axes.set_xlabel("fooling rate (%) at x + f r", x=middle)
    axes.xaxis.set_label_position("top")
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
    for _, level in _by_step(ds, ds["random_fraction"]):
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


def _by_step(ds: xr.Dataset, values: xr.DataArray) -> list[tuple[int, xr.DataArray]]:
    """Values over d for each number of directions a step adds, as far as any such family goes."""
    steps = ds["directions_per_step"]
    return [(s, values.where(steps == s).max("family")) for s in np.unique(steps).tolist()]


def _shares(ds: xr.Dataset) -> Callable[[float], str]:
    """The share of all dimensions that S_d of most families has, as a function of d."""
    if "image_dimension" in ds:
        share = ds["subspace_dimension"] / ds["image_dimension"]
    else:
        share = ds["random_fraction"] ** 2
    usual = _by_step(ds, share)[0][1].fillna(0)
    return lambda d: f"{percent(float(np.interp(d, ds['d'], usual)))} %"


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
