"""Small painters that figures of several subjects share: images, bands, numbers, names."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, NullFormatter
from numpy.typing import NDArray

from geomadv.labels import percent
from geomadv.plotting.data import PICTURE
from geomadv.plotting.style import scaled

# Percent from which on cells of a table are dark, and their numbers white.
DARK = 55

VERMILION = "#CB4E00"


def title(ds: xr.Dataset) -> str:
    """Network and data set of a result, as figures name them."""
    network, dataset = ds.attrs.get("network", ""), ds.attrs.get("dataset", "")
    return " on ".join(part for part in (network, dataset) if part)


def short(name: str, letters: int = 10) -> str:
    """A name cut to so many letters."""
    return name if len(name) <= letters else f"{name[: letters - 1]}…"


def two_lines(name: str, share: float = 0.5) -> str:
    """A network's name, broken at the first hyphen behind a share of its letters."""
    cut = name.find("-", int(share * len(name)))
    return name if cut < 0 else f"{name[:cut]}\n{name[cut:]}"


def show_image(
    axes: Axes,
    image: NDArray[Any],
    low: float = 0.0,
    high: float = 1.0,
    frame: str = "black",
    width: float = 0.4,
) -> None:
    """One image (C, H, W), grey or RGB, in a frame.

    low is black, high white, channel by channel; beyond, it saturates. width: of the frame, in
    points.
    """
    shown = ((image - low) / max(high - low, 1e-12)).clip(0, 1)
    picture = shown.transpose(1, 2, 0) if len(shown) == 3 else shown[0]
    axes.imshow(picture, cmap="gray", vmin=0, vmax=1, gid=PICTURE)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, linewidth=width, edgecolor=frame)


def show_direction(
    axes: Axes, direction: NDArray[Any], frame: str = "black", width: float = 0.4
) -> None:
    """One signed direction (C, H, W): zero is mid-grey, the largest magnitude black or white."""
    reach = float(np.abs(direction).max()) or 1.0
    show_image(axes, direction, -reach, reach, frame, width)


def question(axes: Axes) -> None:
    """A dashed frame around an image: not settled, such as an eigenpair that did not converge."""
    axes.spines[:].set(linestyle=(0, (2, 1)), edgecolor=VERMILION, linewidth=0.8)


def cross_out(axes: Axes) -> None:
    """A thin diagonal across the panel and a dashed frame: not what its place says."""
    axes.plot([0, 1], [0, 1], color=VERMILION, linewidth=0.6, transform=axes.transAxes)
    question(axes)


def caption(axes: Axes, text: str, points: float = 6.0, **looks: Any) -> None:
    """A few words below an image, in small print."""
    axes.set_xlabel(text, fontsize=scaled(points), labelpad=1.5, **looks)


def twofold(axes: Axes, second: Callable[[float], str]) -> None:
    """Writes below each number of the horizontal axis what else it is, such as a share."""
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}\n{second(x)}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def share_ticks(axes: Axes, dimension: int) -> None:
    """Writes below each number of dimensions its share of all of them."""
    twofold(axes, lambda d: f"{percent(d / dimension)} %")


def spread(
    values: xr.DataArray, dim: str, low: float = 0.0, high: float = 1.0
) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Low quantile, mean and high quantile along a dimension; default the whole range.

    NaN where all values are.
    """
    none = values.isnull().all(dim)
    lowest, highest = (values.where(~none, 0).quantile(q, dim).where(~none) for q in (low, high))
    return lowest, values.mean(dim), highest


def band(
    axes: Axes,
    x: Any,
    low: Any,
    middle: Any,
    high: Any,
    color: str,
    alpha: float = 0.2,
    **line: Any,
) -> None:
    """A line and a band around it."""
    axes.fill_between(x, low, high, color=color, alpha=alpha, linewidth=0)
    axes.plot(x, middle, color=color, **line)


def write(axes: Axes, x: float, y: float, text: str, **looks: Any) -> None:
    """Text in the middle of a point."""
    axes.text(x, y, text, **{"ha": "center", "va": "center"} | looks)


def heat_table(axes: Axes, percent: NDArray[Any], pattern: str) -> AxesImage:
    """Cells from white (0 %) to blue (100 %), each with its number."""
    for (i, j), value in np.ndenumerate(percent):
        write(axes, j, i, pattern.format(value), color="white" if value > DARK else "black")
    return axes.imshow(percent, cmap="Blues", vmin=0, vmax=100, aspect="auto")


def histogram(axes: Axes, values: NDArray[Any], edges: NDArray[Any], **looks: Any) -> None:
    """Shares of the finite values in bins, in percent of them."""
    known = values[np.isfinite(values)]
    weights = np.full(len(known), 100 / max(len(known), 1))
    axes.hist(known, edges.tolist(), weights=weights, **looks)


def class_ticks(axes: Axes, names: Sequence[str]) -> None:
    """Classes along the horizontal axis, upright where the names are long."""
    axes.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 2 else 0)


def relative_norm(ds: xr.Dataset, name: str = "norm") -> xr.DataArray:
    """Norms of perturbations in percent of the images' mean norm."""
    return 100 * ds[name] / ds["mean_image_norm"]


def log_edges(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Where the cell of each value ends on a logarithmic axis: half-way to its neighbours."""
    if len(values) == 1:
        return np.append(0.5 * values, 2.0 * values)
    inner = np.sqrt(values[:-1] * values[1:])
    return np.array([values[0] ** 2 / inner[0], *inner, values[-1] ** 2 / inner[-1]])


def image_side(ds: xr.Dataset) -> float:
    """Pixels on the shorter side of the images of a result of `resampling`.

    Files of before it was stored tell it where one d_low left all perturbations as they were.

    Raises:
        KeyError: such a file does not.
    """
    if "image_side" in ds:
        return float(ds["image_side"])
    one = ds.isel(d_low=int(ds["d_low"].to_numpy().argmax()))
    same = abs(one["resampled_norm"] - one["norm"]) <= 1e-5 * one["norm"]
    return float(one["d_low"] if bool(same.all()) else ds["image_side"])


def own_row(ds: xr.Dataset, dim: str = "network") -> xr.Dataset:
    """Of a result of several networks, along `dim`, the row of the one whose result it is."""
    if dim not in ds.dims:
        return ds
    names = [str(name) for name in ds[dim].to_numpy()]
    own = str(ds.attrs.get("network", ""))
    return ds.isel({dim: names.index(own) if own in names else 0})
