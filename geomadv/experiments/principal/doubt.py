"""How far results are to be doubted that stand on directions of principal curvature.

Every result with such directions stores the numbers; those of earlier versions may lack them, and
are then not doubted more than what they hold allows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from geomadv.experiments.principal.layout import ENDS
from geomadv.labels import Schema
from geomadv.linalg import NestedSubspaces
from geomadv.linalg.doubt import CANCEL, Doubt, cancels, doubt_of

_SHARE, _STEP = "no_eigenvector_share", "step_distances"
_COARSE = "step of the finite difference over the median boundary distance; NaN if none"

# What results over families of subspaces hold.
FAMILIES: Schema = {
    _SHARE: (("family", "d"), "share of the directions behind S_d whose residual exceeds 1", "1"),
    _STEP: (("family",), _COARSE, "1"),
}


def step_distances(ds: xr.Dataset) -> xr.DataArray:
    """(class,) step of the finite difference over the median boundary distance; NaN if none.

    ds: a result of the curvature experiment, of any version.
    """
    if _STEP in ds:
        return ds[_STEP]
    return ds.get("hvp_step", np.nan) / ds["median_distance"]


def class_doubt(ds: xr.Dataset) -> Doubt:
    """Doubt of all directions of the mean Hessians in a result of the curvature experiment."""
    return doubt_of(ds["hessian_residual"].to_numpy(), np.ravel(step_distances(ds)).tolist())


def cancellation(ds: xr.Dataset) -> str:
    """In words where the points' curvatures cancel in the mean of a class, else ""."""
    if "hessian_coherence" not in ds:
        return ""
    left = np.ravel(ds["hessian_coherence"])
    return f"{CANCEL} (down to {left[cancels(left)].min():.2g})" if cancels(left).any() else ""


def family_variables(
    families: Mapping[Any, NestedSubspaces], steps: Mapping[Any, Sequence[int]]
) -> dict[str, Any]:
    """The values of `FAMILIES`.

    steps: for every d of the result the step that a family takes there.
    """
    share = [
        [nested.doubt(min(step, nested.steps)).no_eigenvector for step in steps[name]]
        for name, nested in families.items()
    ]
    lengths = [nested.doubt(nested.steps).step_distances for nested in families.values()]
    return {_SHARE: share, _STEP: lengths}


def family_doubt(ds: xr.Dataset, family: str, d: int = -1) -> Doubt:
    """Doubt of a family at position d of a result over families of subspaces; default the last."""
    if _SHARE not in ds or family not in ds["family"].to_numpy().tolist():
        return Doubt()
    one = ds[[_SHARE, _STEP]].sel(family=family).isel(d=d)
    return Doubt(float(one[_SHARE]), float(one[_STEP]))


def families_doubt(ds: xr.Dataset) -> Doubt:
    """Doubt of the family with most of it, in a result over families of subspaces."""
    if _SHARE not in ds:
        return Doubt()
    steps = ds[_STEP].to_numpy().tolist()
    return Doubt(float(ds[_SHARE].max()), doubt_of((), steps).step_distances)


def line_doubt(ds: xr.Dataset) -> Doubt:
    """Doubt of all directions in (part of) a result of `class_direction_sweep` or its likes."""
    if "residual" not in ds:
        return Doubt()
    doubt = doubt_of(ds["residual"].to_numpy(), np.ravel(ds[_STEP]).tolist())
    if "curvature" not in ds:
        return doubt
    ends = ds["family"].isin(ENDS)
    return replace(doubt, uncurved=bool(ends.any() and not (ends & (ds["curvature"] != 0)).any()))


def bracketed(doubt: Doubt) -> str:
    """Its words to stand behind a name, or nothing."""
    return f" ({doubt.words})" if doubt.words else ""
