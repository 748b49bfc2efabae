"""What the claims about movement along curved, flat and random directions measure."""

import numpy as np
import xarray as xr

from geomadv.claims.claim import Array, Measured, NotMeasured, Resamples
from geomadv.claims.measures import averaged, mean, need_families, told
from geomadv.experiments.principal.doubt import line_doubt


def symmetric(ds: xr.Dataset, resamples: Resamples) -> Measured:
    """Mean over classes and images of the share of the even part in a score curve's variance.

    Along each class's leading direction, about the curve's best centre. Null: the larger one of
    the same along flat and along random directions.
    """
    need_families(ds, "positive", "random")
    known = ds["symmetry"].sel(family="positive").isel(direction=0).notnull()
    ds, on = _entering(ds, known)
    weights = resamples.weights(ds.sizes["sample"])
    leading = ds.sel(family=["positive"]).isel(direction=[0])
    nulls = [ds.sel(family=[f]) for f in ("flat", "random") if f in ds["family"]]
    effect, *others = (_by_line(one["symmetry"], weights, resamples) for one in (leading, *nulls))
    return Measured(effect, np.max(others, axis=0), on, told(line_doubt(leading)))


def crossing(ds: xr.Dataset, resamples: Resamples, family: str) -> Measured:
    """Share of the images that change sides at the worse one of both ends, mean over classes.

    At either end of the scales: images of other classes that enter the class (positive
    directions), or its own that leave it (negative ones); leading direction of each class, and of
    the two ends the smaller share. Null: the same along random directions.
    """
    need_families(ds, family, "random")
    enters = family == "positive"
    ds, on = _entering(ds, (ds["source"] != ds["target"]) == enters)
    weights = resamples.weights(ds.sizes["sample"])
    leading = ds.sel(family=[family]).isel(direction=[0])
    effect, null = (
        _ends(one, weights, resamples, enters) for one in (leading, ds.sel(family=["random"]))
    )
    effect = resamples.paired(effect, null, ds.sizes["sample"])
    return Measured(effect, null, on, told(line_doubt(leading)))


def _entering(ds: xr.Dataset, used: xr.DataArray) -> tuple[xr.Dataset, str]:
    """The images that enter a mean for some class, and how many images and classes there are.

    used (sample, class): what is in the mean of each class.
    """
    images, classes = used.any("class").to_numpy(), int(used.any("sample").sum())
    on = f"{images.sum()} images, {classes} classes"
    return ds.isel(sample=np.flatnonzero(images)), on


def _ends(ds: xr.Dataset, weights: Array, resamples: Resamples, enters: bool) -> Array:
    """(rows,) the smaller one of the shares at both ends, mean over classes and directions."""
    target, source = ds["target"], ds["source"]
    ends = ds["prediction"].isel(scale=[0, -1])
    moved = (ends == target) if enters else (ends != target)
    return _by_line(moved.where((source != target) == enters), weights, resamples)


def inert(ds: xr.Dataset, resamples: Resamples) -> Measured:
    """Share of predictions that change along flat directions, over all classes and scales but 0.

    Null: the same along random directions. Not measured where flat directions are themselves
    random, drawn outside the curved ones.
    """
    need_families(ds, "flat", "random")
    if "random" in str(ds["family_name"].sel(family="flat").item()):
        raise NotMeasured("flat directions are random ones, since the spectrum is not known")
    moved = ds["prediction"].isel(scale=(ds["scale"] != 0).to_numpy()) != ds["source"]
    weights = resamples.weights(ds.sizes["sample"])
    effect, null = (
        _by_line(moved.sel(family=[f]).mean("scale"), weights, resamples)
        for f in ("flat", "random")
    )
    on = f"{ds.sizes['sample']} images, {ds.sizes['class']} classes"
    return Measured(effect, null, on, told(line_doubt(ds.sel(family=["flat"]))))


def _by_line(values: xr.DataArray, weights: Array, resamples: Resamples) -> Array:
    """(rows,) means over images, the smaller of the scales, means over classes and directions.

    values: of one family.
    """
    lines = values.stack(line=("class", "family", "direction")).transpose("sample", "line", ...)
    rows = mean(weights, lines.to_numpy())
    if rows.ndim == 3:
        rows = rows.min(2)
    # Random directions are a sample of many; the others are all that the classes have.
    drawn = str(values["family"].item()) == "random"
    count = rows.shape[1]
    found = averaged(rows, resamples.weights(count, 1) if drawn else np.ones((1, count)))
    return resamples.share(found, weights.shape[1])
