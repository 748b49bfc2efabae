"""What several claims measure in the same way, on all resamples at once."""

from __future__ import annotations

import numpy as np
import xarray as xr

from geomadv.claims.claim import Array, NotMeasured
from geomadv.linalg.doubt import Doubt


def mean(weights: Array, values: Array) -> Array:
    """Weighted means (rows, ...) of values (count, ...), NaN left out; weights (rows, count)."""
    flat = values.reshape(len(values), -1).astype(np.float64)
    known = np.isfinite(flat)
    with np.errstate(invalid="ignore"):
        found = (weights @ np.where(known, flat, 0)) / (weights @ known)
    return np.asarray(found.reshape(len(weights), *values.shape[1:]))


def averaged(rows: Array, weights: Array) -> Array:
    """Means (rows,) of values (rows, count) that are resamples already, NaN left out."""
    known = np.isfinite(rows)
    with np.errstate(invalid="ignore"):
        return np.asarray((np.where(known, rows, 0) * weights).sum(1) / (known * weights).sum(1))


def marginal(weights: Array, draws: Array, by_image: Array, by_draw: Array) -> Array:
    """Rates (rows, ...) of images and draws, of which only the two marginal means are stored.

    by_image (images, ...) is the mean over draws, by_draw (draws, ...) that over images. Both vary
    independently; what is particular to pairs of them is within the variation of the draws.
    """
    both: Array = mean(weights, by_image) + mean(draws, by_draw) - by_draw.mean(0)
    return both


def reached(x: Array, curves: Array, level: Array | float) -> Array:
    """(rows,) the x at which curves (rows, k) first reach the level; NaN where they do not.

    Between the points of the grid the curves are straight.
    """
    levels = np.broadcast_to(level, len(curves))
    hit = curves >= levels[:, None]
    after = hit.argmax(1)
    before, row = np.maximum(after - 1, 0), np.arange(len(curves))
    low, high = curves[row, before], curves[row, after]
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.where(after > 0, (levels - low) / (high - low), 0.0)
    found = x[before] + part * (x[after] - x[before])
    return np.where(hit.any(1), found, np.nan)


def at(x: Array, curves: Array, where: float | Array) -> Array:
    """(rows,) values of curves (rows, k) at one place, or at one for each, within the grid."""
    places = np.broadcast_to(where, len(curves))
    return np.array([np.interp(p, x, curve) for p, curve in zip(places, curves, strict=True)])


def above_zero(excess: Array, what: str) -> None:
    """Raises `NotMeasured` where an excess over chance (rows,) is not certain."""
    if not np.quantile(np.nan_to_num(excess[1:], nan=-1.0), 0.025, method="lower") > 0:
        raise NotMeasured(what)


def need_families(ds: xr.Dataset, *families: str) -> None:
    """Raises `NotMeasured` where the result lacks one of them."""
    there = ds["family"].to_numpy().tolist()
    for family in families:
        if family not in there:
            raise NotMeasured(f"the result holds no family {family!r}")


def told(doubt: Doubt) -> str:
    """What is to be said of curved directions; a claim on mostly no eigenvectors is not answered.

    Raises:
        NotMeasured: most of the directions are no eigenvectors.
    """
    if doubt.mostly_none:
        raise NotMeasured(f"the directions are not those of the claim: {doubt.words}")
    return doubt.words


def joined(*notes: str) -> str:
    """Those that say something."""
    return "; ".join(note for note in notes if note)


def images_of(weights: Array) -> str:
    """How many images there are, in words."""
    return f"{weights.shape[1]} images"
