"""Curves of several networks' results in the same axes: what they are made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr


@dataclass(frozen=True)
class Curve:
    """A network's line: over x, with a band from low to high; null: what it is compared with."""

    x: Any
    y: Any
    low: Any = None
    high: Any = None
    null: bool = False


@dataclass(frozen=True)
class Panel:
    """Axes that curves of all networks share.

    Attributes:
        title, x, y: what the axes say.
        curves: of one network.
        log: the logarithmic axes, such as "xy".
        top: of the vertical axis, which then starts at 0.
        ticks: names of the places 0, 1, ... along x.
    """

    title: str
    x: str
    y: str
    curves: Sequence[Curve]
    log: str = ""
    top: float | None = None
    ticks: Sequence[str] = ()


def band(x: Any, values: xr.DataArray, dim: str, null: bool = False) -> Curve:
    """Mean and range over a dimension, in percent."""
    percent = 100 * values
    return Curve(x, percent.mean(dim), percent.min(dim), percent.max(dim), null)


def cumulative(values: Any, null: bool = False) -> Curve:
    """The share of the values below each of them, in percent."""
    known = np.sort(np.asarray(values, dtype=float).ravel())
    known = known[np.isfinite(known)]
    # Hundreds of steps show the line; more of them only make the file large.
    share = np.linspace(0, 1, min(len(known), 200)) if len(known) else np.zeros(0)
    points = np.quantile(known, share) if len(known) else share
    return Curve(points, 100 * share, null=null)


def both(title: str, y: str, size: Any, dimension: float, curves: Any, **looks: Any) -> list[Panel]:
    """The same curves against d and d/D."""
    return [
        Panel(title, "dimension d", y, curves(size), **looks),
        Panel(title, "d / D", y, curves(np.asarray(size) / dimension), **looks),
    ]
