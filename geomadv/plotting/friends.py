"""The figures of "With Friends Like These" (Jetley, Lord and Torr, 2018), networks side by side.

Each takes {network: result, or None where there is none}.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from geomadv.errors import InputError
from geomadv.experiments.principal.doubt import family_doubt, line_doubt
from geomadv.plotting.figure import lines
from geomadv.plotting.lines import direction_sweep
from geomadv.plotting.page import Results, columns
from geomadv.plotting.parts import (
    band,
    image_side,
    short,
    show_direction,
    show_image,
    spread,
    title,
    write,
)
from geomadv.plotting.style import GREY, scaled
from geomadv.plotting.subspaces import first_order_twin, resampling, subspace_accuracy

_FAMILIES = {"hi": ("C0", r"$S_\mathrm{hi}$"), "lo": ("C3", r"$S_\mathrm{lo}$")}
# As in the panels of accuracies above; what has none is grey.
_COLORS = {"positive": "C0", "negative": "C3", "both": "C2", "flat": "C1", "image PCA": "C4"}
_NUMBERED = 3
_PRINCIPAL = ("positive", "negative")


def score_curves(results: Results) -> Figure:
    """Figure 1: scores of one class along its two leading directions, images and their labels.

    results: of `score_curves`, one class each, the middle one. Curves are single images, at most
    60; a coloured one of another class, whose images at the marked scales stand below.
    """

    def draw(ds: xr.Dataset, axes: list[Axes]) -> None:
        one = _middle_class(ds)
        for k, family in enumerate(_PRINCIPAL):
            part = one.sel(family=family).isel(direction=0)
            _curves(axes[2 * k], part, family)
            _strip(axes[2 * k + 1], part)
        axes[0].set_title(f"{title(ds)}\n{axes[0].get_title()}")

    words = "Fig. 1: class score along the directions of most positive and most negative curvature"
    return columns(results, "score_curves", draw, [1.3, 0.75] * 2, words)


def sweeps(results: Results, family: str = "positive") -> Figure:
    """Figure 2, and the supplement's: scores and shares along directions, the leading two below.

    results: of `direction_sweep`, one class each, the middle one; family: of the directions.
    Bands run from the 30th to the 70th percentile of images.
    """

    def draw(ds: xr.Dataset, axes: list[Axes]) -> None:
        one = _middle_class(ds)
        if family not in ds["family"].to_numpy():
            raise InputError(
                f"the result has no {family} directions: draw a figure of those that it has"
            )
        direction_sweep(ds.sel(family=[family]), ax=axes[:2])
        axes[1].set_title("entering, by sign")  # between the numbers of a narrow panel
        _pair(axes[2], one.sel(family=family))

    where = "Fig. 2" if family == "positive" else "supplement"
    words = f"{where}: images moved along directions of the family {family}; bands: 30 to 70 %"
    return columns(results, "direction_sweep", draw, [1.2, 1.2, 0.75], words)


def subspaces(results: Results, norms: Results) -> Figure:
    """Figure 3: accuracy of projected images, and the share of DeepFool's norm in the subspaces.

    results: of `subspace_accuracy`; norms: of `norm_fractions`.
    """

    def draw(ds: xr.Dataset, axes: list[Axes]) -> None:
        subspace_accuracy(ds, ax=axes[0])
        _norm_share(axes[1], norms.get(_name_of(results, ds)))
        axes[1].set(xlim=axes[0].get_xlim(), xscale=axes[0].get_xscale())

    words = "Fig. 3: images (above) and perturbations (below) projected on subspaces"
    return columns(results, "subspace_accuracy", draw, [1.6, 1.4], words)


def singular_subspaces(results: Results, resampled: Results) -> Figure:
    """Figure 4: accuracy on subspaces of singular vectors, beside that of the resampled network.

    results: of `first_order_twin`; resampled: of `resampling`, whose network sees images of
    d_low pixels on the shorter side.
    """

    def draw(ds: xr.Dataset, axes: list[Axes]) -> None:
        first_order_twin(ds, ax=axes[0])
        look: Any
        low = resampled.get(_name_of(results, ds))
        size = None if low is None else _low_dimension(low, int(ds["image_dimension"]))
        if low is None or size is None:
            why = "no resampling.h5" if low is None else "resampling.h5 lacks low_dimension"
            look = {"transform": axes[0].transAxes, "fontsize": scaled(5)}
            write(axes[0], 0.6, 0.3, f"{why}:\nno resampled network", **look)
            return
        look = {"color": "black", "marker": "s", "markersize": 2.5, "linestyle": "-."}
        axes[0].plot(
            size, 100 * low["accuracy"], label="resampled network, $d_\\mathrm{low}$", **look
        )
        axes[0].set_title(lines(axes[0].get_title(), f"resampled: n = {low.sizes['sample']}"))
        named = axes[0].get_legend()
        axes[0].legend(handles=[*(named.legend_handles if named else []), axes[0].lines[-1]])

    words = "Fig. 4: images projected on leading and trailing singular vectors"
    return columns(results, "first_order_twin", draw, [1.9], words)


def _low_dimension(low: xr.Dataset, dimension: int) -> Any:
    """Dimensions of the small images; None where an older file does not tell them.

    It does where images are square, grey or in three colours.
    """
    if "low_dimension" in low:
        return low["low_dimension"]
    try:
        channels = dimension / image_side(low) ** 2
    except KeyError:
        return None
    return channels * low["d_low"] ** 2 if channels in (1, 3) else None


def confined(results: Results) -> Figure:
    """Figure 5: norms of confined perturbations, with numbered marks that link to images.

    results: of `confined_deepfool`. Lines are means over images whose label changed, bands run
    from the 10th to the 90th percentile. The images below are one image's perturbations at the
    marks (above) and its projections (below), in the colours of the families.
    """

    def draw(ds: xr.Dataset, axes: list[Axes]) -> None:
        numbers = _marked_sizes(ds)
        for k, (family, (color, label)) in enumerate(_FAMILIES.items()):
            one = ds.sel(family=family)
            known = (one["subspace_dimension"] > 0).to_numpy()
            norm = one["norm"].where(one["converged"]).isel(d=known)
            size = one["subspace_dimension"][known]
            none = "" if norm.notnull().any() else ": no label changed"
            band(
                axes[0],
                size,
                *spread(norm, "sample", 0.1, 0.9),
                color,
                label=f"confined to {label}{none}",
            )
            projected = one["projected_norm"].isel(d=known).mean("sample")
            axes[0].plot(size, projected, color=color, linestyle=":", label=f"projected on {label}")
            for number, at in enumerate(numbers, 1):
                point = (
                    float(one["subspace_dimension"][at]),
                    float(one["norm"].where(one["converged"])[at].mean()),
                )
                _numbered(axes[0], point, number, color)
            _images(axes[1 + k], one.isel(example=0), numbers, color)
        plain = ds["plain_norm"].where(ds["plain_converged"]).mean("sample")
        axes[0].axhline(float(plain), color=GREY, linestyle="--", label="unconfined")
        axes[0].set(xscale="log", yscale="log", xlabel="dimension d", ylabel="norm (image units)")
        doubt = lines(*{family_doubt(ds, family).of_directions for family in _FAMILIES})
        axes[0].set_title(lines(title(ds), doubt))
        axes[0].xaxis.set_minor_formatter(NullFormatter())
        axes[0].legend()

    words = (
        "Fig. 5: perturbations confined to subspaces of singular vectors, and images at the marks"
    )
    return columns(results, "confined_deepfool", draw, [1.8, 0.95, 0.95], words)


def rescaling(results: Results) -> Figure:
    """Table 1: fooling rates of f r on resampled images, a table for each network.

    results: of `resampling`.
    """

    def draw(ds: xr.Dataset, axes: list[Axes]) -> None:
        resampling(ds, ax=axes[0])

    rows = max((ds.sizes["d_low"] for ds in results.values() if ds is not None), default=3)
    words = "Table 1: perturbations scaled by f, on resampled images"
    return columns(results, "resampling", draw, [0.6 + 0.22 * rows], words, widest=1)


def _name_of(results: Results, ds: xr.Dataset) -> str:
    return next(name for name, one in results.items() if one is ds)


def _middle_class(ds: xr.Dataset) -> xr.Dataset:
    if "class" not in ds.dims:
        raise InputError("the result has no classes: draw one of `geomadv run`, which has")
    return ds.isel({"class": ds.sizes["class"] // 2})


def _label(one: xr.Dataset, number: int) -> str:
    return short(str(one["class_name"].to_numpy()[number]), 7)


def _curves(axes: Axes, one: xr.Dataset, family: str) -> None:
    scale = one["scale"].to_numpy()
    axes.plot(scale, one["score"][:60].to_numpy().T, color=GREY, alpha=0.25, linewidth=0.4)
    n = int(one["example_sample"][0])
    if n >= 0:
        marked = np.isin(scale, one["example_scale"]).nonzero()[0].tolist()
        look: Any = {"marker": "o", "markersize": 2.5, "markevery": marked}
        axes.plot(scale, one["score"][n], color="C0", label="the image below", **look)
        axes.legend()
    doubt = line_doubt(one).of_directions
    axes.set_title(
        lines(f"class {_label(one, int(one['target']))}: most {family} curvature", doubt)
    )
    axes.set(xlabel="scale s (image units)", ylabel="class score")


def _strip(axes: Axes, one: xr.Dataset) -> None:
    """One image at the marked scales with its predicted labels, and the direction."""
    axes.set_axis_off()
    pictures: list[tuple[Any, str]] = []
    if int(one["example_sample"][0]) >= 0:
        for step in np.linspace(0, one.sizes["step"] - 1, 3).round().astype(int):
            image = one["example_image"][0, step].to_numpy()
            pictures.append((image, _label(one, int(one["example_prediction"][0, step]))))
    for k, (image, label) in enumerate(pictures):
        inset = axes.inset_axes((0.25 * k, 0, 0.23, 1))
        show_image(inset, image, frame="C0", width=0.6)
        inset.set_title(label, fontsize=scaled(5), pad=1)
    inset = axes.inset_axes((0.77, 0, 0.23, 1))
    show_direction(inset, one["direction_image"].to_numpy())
    inset.set_title("direction", fontsize=scaled(5), pad=1)


def _pair(axes: Axes, one: xr.Dataset) -> None:
    """The two leading directions of a family."""
    axes.set_axis_off()
    for k in range(min(2, one.sizes["direction"])):
        part = one.isel(direction=k)
        inset = axes.inset_axes((0.02 + 0.5 * k, 0, 0.46, 1))
        show_direction(inset, part["direction_image"].to_numpy())
        curvature = float(part["curvature"])
        words = f"{k + 1}" + (f": κ = {curvature:.2g}" if np.isfinite(curvature) else "")
        inset.set_title(words, fontsize=scaled(5), pad=1)


def _norm_share(axes: Axes, norms: xr.Dataset | None) -> None:
    axes.set(ylim=(0, 1.03), xlabel="directions per class d", ylabel="share of the norm in $S_d$")
    if norms is None or "DeepFool" not in norms["kind"].to_numpy():
        write(axes, 0.5, 0.5, "no norm_fractions.h5\nof DeepFool", transform=axes.transAxes)
        return
    one = norms.sel(kind="DeepFool")
    for family in one["family"].to_numpy():
        color = _COLORS.get(str(family), GREY)
        part = one.sel(family=family)
        low, high = part["fraction_quantile"][..., 0], part["fraction_quantile"][..., -1]
        band(axes, one["d"], low, part["mean_fraction"], high, color, alpha=0.15)
    axes.set_title(f"{int(one['count'])} perturbations of DeepFool, bands: 10th to 90th percentile")


def _marked_sizes(ds: xr.Dataset) -> list[int]:
    """Positions along d of the numbered marks, spread over those that both families have."""
    both = (ds["subspace_dimension"].sel(family=[*_FAMILIES]) > 0).all("family").to_numpy()
    there = np.flatnonzero(both)
    if len(there) == 0:
        raise InputError(
            "no d at which both families have a subspace: run subspace_accuracy at more dimensions"
        )
    return sorted(
        {int(there[i]) for i in np.linspace(0, len(there) - 1, _NUMBERED).round().astype(int)}
    )


def _numbered(axes: Axes, point: tuple[float, float], number: int, color: str) -> None:
    axes.plot(*point, "o", color=color, markersize=7, markerfacecolor="white")
    write(axes, *point, f"{number}", fontsize=scaled(5), color=color)


def _images(axes: Axes, one: xr.Dataset, numbers: Sequence[int], color: str) -> None:
    """Perturbations of one image at the numbered d, its projections below."""
    axes.set_axis_off()
    image = one["example_image"].to_numpy()
    width = 0.98 / len(numbers)
    for k, at in enumerate(numbers):
        part = one.isel(d=at)
        above = axes.inset_axes((width * k, 0.48, width, 0.44))
        show_direction(above, part["example_perturbation"].to_numpy(), color, 0.8)
        above.set_title(
            f"{k + 1}: d = {int(part['subspace_dimension'])}", fontsize=scaled(5), pad=1
        )
        below = axes.inset_axes((width * k, 0, width, 0.44))
        shown = part["example_projection"].to_numpy()
        show_image(below, shown, float(image.min()), float(image.max()), color, 0.8)
