"""What the figures of principal curvatures have in common: classes, legend, and how they came."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from geomadv.errors import InputError
from geomadv.experiments.principal.doubt import cancellation, class_doubt
from geomadv.linalg.doubt import NO_EIGENVECTOR, is_no_eigenvector
from geomadv.plotting.style import BLUE, GREEN, GREY, HOLLOW, ORANGE, PURPLE, SKY, VERMILION

# More classes than colours: the second round of lines is dashed, the third dotted.
_COLORS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, "black")
_LINES = ("-", (0, (4, 1.5)), (0, (1, 1)))

_MOST_CLASSES = len(_COLORS) * len(_LINES)


def classes(ds: xr.Dataset) -> Iterator[tuple[xr.Dataset, dict[str, Any]]]:
    """The classes that have curvatures, each with the look of its line."""
    solved = [i for i in range(ds.sizes["class"]) if np.isfinite(ds["hessian_value"][i]).any()]
    if not solved:
        raise InputError(
            "no class of the result has curvatures: too few boundary points survived. Run "
            "curvature.py with more images."
        )
    for i in solved[:_MOST_CLASSES]:
        look = {
            "color": _COLORS[i % len(_COLORS)],
            "linestyle": _LINES[i // len(_COLORS) % len(_LINES)],
        }
        yield ds.isel({"class": i}), look


def any_none(ds: xr.Dataset, name: str) -> bool:
    """Whether any pair of an operator is no eigenpair."""
    return bool(is_no_eigenvector(ds[f"{name}_residual"].to_numpy()).any())


def class_legend(
    figure: Figure,
    ds: xr.Dataset,
    band: str | None = None,
    lines: Mapping[str, Any] = MappingProxyType({}),
    hollow: bool = False,
) -> None:
    """One legend for all panels, below them."""
    axes = figure.axes[0]
    handles: list[Artist] = [
        axes.plot([], [], label=str(one["class"].item()), **look)[0] for one, look in classes(ds)
    ]
    if band is not None:
        handles.append(axes.fill_between([], [], color=GREY, alpha=0.35, label=band))
    for label, line in lines.items():
        handles += axes.plot([], [], color=GREY, linestyle=line, linewidth=1, label=label)
    if hollow:
        handles += axes.plot([], [], **HOLLOW, color=GREY, label=NO_EIGENVECTOR)
    # Long names need more than one row: an entry is a line, gaps and some 0.06 inches a letter.
    width = sum(0.55 + 0.06 * len(str(handle.get_label())) for handle in handles)
    rows = int(np.ceil(width / figure.get_figwidth()))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=-(-len(handles) // rows),
        columnspacing=1.2,
    )


def units(variable: xr.DataArray) -> str:
    """Units of a variable, as figures write them."""
    return str(variable.attrs["units"]).replace("^2", "²")


def how(ds: xr.Dataset) -> str:
    """Which product the eigenvalues come from, from how many points, and what is to be doubted."""
    return "\n".join(filter(None, [_product(ds), class_doubt(ds).of_step, cancellation(ds)]))


def _product(ds: xr.Dataset) -> str:
    solved = ds.isel({"class": np.flatnonzero(ds["kind"].to_numpy() >= 0)})
    meanings = str(ds["kind"].attrs["flag_meanings"]).split()
    kind = meanings[1 + int(solved["kind"][0])].replace("-", " ")
    steps = sorted({f"{h:.2g}" for h in solved["hvp_step"].to_numpy() if np.isfinite(h)}, key=float)
    if steps:
        kind += f", h = {' to '.join(dict.fromkeys([steps[0], steps[-1]]))}"
    if np.isfinite(solved["beta"][0]):
        kind += f", β = {float(solved['beta'][0]):g}"
    used = solved["points_used"].to_numpy()
    points = f"{used.min()}" if used.min() == used.max() else f"{used.min()} to {used.max()}"
    return f"Hessian ({kind}) over {points} boundary points a class"
