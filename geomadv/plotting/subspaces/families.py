"""Figures of nested subspaces: accuracy of projected images and shares of perturbations' norms."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from geomadv.experiments.principal.doubt import families_doubt, family_doubt
from geomadv.plotting.style import (
    BLUE,
    COLUMN,
    GREEN,
    GREY,
    ORANGE,
    PAGE,
    SKY,
    VERMILION,
    new_figure,
    style,
    title,
)

# The paper's names of the subspaces, with one colour and line width each in all figures. The lines
# of perturbations and normals may coincide: thin ones lie on wide ones.
_LOOKS = {
    "positive": (r"$S_\mathrm{pos}$", BLUE, 1.2),
    "negative": (r"$S_\mathrm{neg}$", VERMILION, 1.2),
    "both": (r"$S_{\mathrm{neg} \cup \mathrm{pos}}$", GREEN, 1.2),
    "flat": (r"$S_\mathrm{flat}$", ORANGE, 1.2),
    "perturbation_hi": (r"$S_\mathrm{hi}$, DeepFool", SKY, 2.4),
    "perturbation_lo": (r"$S_\mathrm{lo}$, DeepFool", ORANGE, 2.4),
    "normal_hi": (r"$S_\mathrm{hi}$, normals", BLUE, 0.9),
    "normal_lo": (r"$S_\mathrm{lo}$, normals", VERMILION, 0.9),
}

_DASHES = (0, (3, 1.5))

# From this d on a linear axis would hide what happens at the first few.
_LINEAR = 100


def subspace_accuracy(ds: xr.Dataset) -> Figure:
    """Accuracy of projected images against d, a line per family; train dashed, test solid.

    ds: result of `experiments.subspace_accuracy`. Bands around the test curves are two binomial
    standard errors.
    """
    with style():
        figure = new_figure(COLUMN, 2.9)
        axes = figure.add_subplot()
        _accuracy(axes, ds)
        _scale(axes, ds, symlog=_is_long(ds))
        axes.set_xlabel("directions per class d" if _per_class(ds) else "directions d")
        told = [line.replace(", ", ",\n") for line in _steps(ds)]
        axes.set_title("\n".join([title(ds), "images projected on $S_d$", *told]))
        figure.legend(
            handles=[*_family_handles(ds), *_split_handles(ds)], loc="outside lower center", ncols=2
        )
        return figure


def first_order_twin(ds: xr.Dataset) -> Figure:
    """The same for singular vectors, where d counts all directions and the axis is linear.

    ds: result of analysis/first_order_twin.py.
    """
    with style():
        figure = new_figure(COLUMN, 2.9)
        axes = figure.add_subplot()
        _accuracy(axes, ds)
        _scale(axes, ds, symlog=False)
        axes.set_xlabel("singular directions d")
        axes.set_title(f"{title(ds)}\nimages projected on singular vectors")
        figure.legend(
            handles=[*_family_handles(ds), *_split_handles(ds)], loc="outside lower center", ncols=2
        )
        return figure


def norm_fractions(ds: xr.Dataset, accuracy: xr.Dataset | None = None) -> Figure:
    """Mean share of the norm inside S_d against d, a panel per kind of perturbation.

    ds: result of `experiments.norm_fractions`; accuracy: result of `experiments.subspace_accuracy`
    of the same families, drawn above on the same axis. Bands run from the 10th to the 90th
    percentile over perturbations; dotted lines are random directions.
    """
    kinds = ds["kind"].to_numpy().tolist()
    columns = max(len(kinds), 2)
    symlog = _is_long(ds if accuracy is None else accuracy)
    with style():
        figure = new_figure(PAGE, 2.3 if accuracy is None else 4.2)
        grid = figure.add_gridspec(1 if accuracy is None else 2, columns)
        if accuracy is not None:
            axes = figure.add_subplot(grid[0, : columns // 2])
            _accuracy(axes, accuracy)
            _scale(axes, accuracy, symlog)
            axes.set_title("accuracy of projected images")
            legend = figure.add_subplot(grid[0, columns // 2 :])
            legend.set_axis_off()
            lines = [*_family_handles(accuracy), _random_handle(), *_split_handles(accuracy)]
            legend.legend(handles=lines, loc="center", ncols=2)
        first: Axes | None = None
        for i, kind in enumerate(kinds):
            axes = figure.add_subplot(grid[-1, i], sharey=first)
            _fractions(axes, ds.sel(kind=kind))
            _scale(axes, ds if accuracy is None else accuracy, symlog)
            axes.set_title(f"{kind} ({int(ds['count'][i])})")
            axes.set_xlabel("directions per class d" if _per_class(ds) else "directions d")
            axes.set_ylim(0, 1.03)
            if first is None:
                first = axes
                axes.set_ylabel("share of the norm in $S_d$")
            else:
                axes.tick_params(labelleft=False)
        if accuracy is None:
            lines = [*_family_handles(ds), _random_handle()]
            figure.legend(handles=lines, loc="outside lower center", ncols=len(lines))
        figure.suptitle("\n".join([title(ds), *_steps(ds)]), fontsize=8)
        return figure


def _look(ds: xr.Dataset, family: Any) -> dict[str, Any]:
    """Label, colour and width of a family; those of one's own are grey under their own name."""
    label, color, width = _LOOKS.get(str(family), (str(family), GREY, 1.2))
    if str(ds["description"].sel(family=family).item()).startswith("random"):
        label += " (random)"
    # The step stands in the title, once for all families.
    told = family_doubt(ds, family).of_directions
    label += f" ({told})" if told else ""
    return {"label": label, "color": color, "linewidth": width}


def _steps(ds: xr.Dataset) -> list[str]:
    """A line on the step behind the curved directions where it is coarse, else none."""
    return [words] if (words := families_doubt(ds).of_step) else []


def _accuracy(axes: Axes, ds: xr.Dataset) -> None:
    splits = ds["split"].to_numpy().tolist()
    shown = splits[-1]
    for family in ds["family"].to_numpy():
        look = _look(ds, family)
        for split in splits:
            line = 100 * ds["accuracy"].sel(split=split, family=family).dropna("d")
            dashes = "-" if split == shown else _DASHES
            axes.plot(line["d"], line, linestyle=dashes, **look)
        one = ds.sel(split=shown, family=family)
        low = 100 * (one["accuracy"] - 2 * one["standard_error"])
        high = 100 * (one["accuracy"] + 2 * one["standard_error"])
        axes.fill_between(ds["d"], low, high, color=look["color"], alpha=0.2, linewidth=0)
    plain, constant = ds["plain_accuracy"].sel(split=shown), ds["constant_accuracy"]
    axes.axhline(100 * float(plain), color=GREY, linestyle=":", linewidth=0.8, zorder=0)
    level = 100 * float(constant.sel(split=shown))
    axes.axhline(level, color=GREY, linestyle="-.", linewidth=0.8, zorder=0)
    axes.set_ylim(0, 103)
    axes.set_ylabel("accuracy (%)")


def _fractions(axes: Axes, ds: xr.Dataset) -> None:
    for family in ds["family"].to_numpy():
        one, color = ds.sel(family=family), _look(ds, family)["color"]
        axes.plot(ds["d"], one["mean_fraction"], color=color)
        low, high = one["fraction_quantile"].isel(quantile=0), one["fraction_quantile"][..., -1]
        axes.fill_between(ds["d"], low, high, color=color, alpha=0.15, linewidth=0)
        axes.plot(ds["d"], one["random_fraction"], color=color, linestyle=":", linewidth=0.8)


def _is_long(ds: xr.Dataset) -> bool:
    return int(ds["d"][-1]) > _LINEAR


def _scale(axes: Axes, ds: xr.Dataset, symlog: bool) -> None:
    """The axis of d; a logarithmic one has the same room for 0 to 1 as for 1 to 10."""
    last = int(ds["d"][-1])
    if symlog:
        axes.set_xscale("symlog", linthresh=1)
        powers = 10 ** np.arange(int(np.log10(last)) + 1)
        axes.set_xticks([0, *powers], ["0", *map(str, powers)])
        axes.minorticks_off()
    else:
        axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], integer=True))
    axes.set_xlim(0, last)


def _per_class(ds: xr.Dataset) -> bool:
    return bool((ds["directions_per_step"] > 1).any())


def _family_handles(ds: xr.Dataset) -> list[Line2D]:
    return [Line2D([], [], **_look(ds, family)) for family in ds["family"].to_numpy()]


def _split_handles(ds: xr.Dataset) -> list[Line2D]:
    splits = ds["split"].to_numpy().tolist()
    lines = [Line2D([], [], color="black", label=f"{splits[-1]} images")]
    if len(splits) > 1:
        names = ", ".join(splits[:-1])
        lines.append(Line2D([], [], color="black", linestyle=_DASHES, label=f"{names} images"))
    lines.append(Line2D([], [], color=GREY, linestyle=":", label="unprojected images"))
    lines.append(Line2D([], [], color=GREY, linestyle="-.", label="most frequent class"))
    return lines


def _random_handle() -> Line2D:
    return Line2D([], [], color="black", linestyle=":", linewidth=0.8, label="random direction")
