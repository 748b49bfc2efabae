"""The families of subspaces that the experiments compare, from stored principal curvatures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr

from geomadv.curvature import PrincipalCurvatures
from geomadv.curvature.principal import Family, class_directions
from geomadv.errors import InputError
from geomadv.linalg import NestedSubspaces, Subspace

_LABELS: dict[Family, str] = {
    "positive": "most positive curvature",
    "negative": "most negative curvature",
    "both": "most positive and most negative curvature",
    "flat": "smallest curvature",
}
COMPLEMENT = "random directions outside the computed curved ones"


def curvature_families(
    curvatures: Sequence[PrincipalCurvatures], seed: int = 0
) -> dict[Family, NestedSubspaces]:
    """S_pos, S_neg, S_neg∪pos and S_flat as nested subspaces, d directions per class and end.

    "With Friends Like These" (Jetley, Lord and Torr, 2018), §3. Where the full spectrum is not
    known, S_flat is a random draw from the orthogonal complement of all computed directions; its
    description then is `COMPLEMENT`. It is left out where the complement has no room.

    Args:
        curvatures: one per class, all with the same number of pairs.
        seed: of the draw from the complement.

    Returns:
        Families by name; S_d of "both" takes d directions of either end of every class.

    Raises:
        InputError: no curvatures, or of different sizes.
    """
    if not curvatures:
        raise InputError("curvatures: expected those of at least one class, found none.")
    shapes = {tuple(c.directions.shape) for c in curvatures}
    if len(shapes) > 1:
        raise InputError(
            f"curvatures: expected directions of one shape, found {sorted(shapes)}. Run the "
            "curvature of all classes with the same settings."
        )
    width, (dimension, pairs) = len(curvatures), shapes.pop()
    complete = pairs == dimension
    families: dict[Family, NestedSubspaces] = {}
    for family, label in _LABELS.items():
        if family == "flat" and not complete:
            continue
        most = pairs if complete and family != "both" else pairs // 2
        if most == 0:
            continue
        directions = class_directions(curvatures, most, family)
        groups = 2 * width if family == "both" else width
        families[family] = NestedSubspaces(directions, groups, label)
    if not complete:
        curved = Subspace(families["both"].basis)
        room = (curved.ambient_dimension - curved.dimension) // width
        if room > 0:
            drawn = curved.complement_sample(room * width, seed)
            families["flat"] = NestedSubspaces(drawn.basis, width, COMPLEMENT)
    return families


def stored_curvatures(ds: xr.Dataset) -> list[PrincipalCurvatures]:
    """The eigenpairs of the mean Hessians in a result of the curvature experiment, class by class.

    Args:
        ds: loaded `curvature.h5`, or the result of `class_curvature`.

    Returns:
        One per class that had enough boundary points.

    Raises:
        InputError: no class had.
    """
    known = [i for i in range(ds.sizes["class"]) if ds["hessian_value"][i].notnull().all()]
    if not known:
        raise InputError(
            "curvature result: no class had two boundary points, expected at least one class. Run "
            "analysis/curvature.py with a larger --count."
        )
    return [_pairs(ds.isel({"class": i})) for i in known]


def _pairs(ds: xr.Dataset) -> PrincipalCurvatures:
    directions = ds["hessian_direction"].to_numpy()
    columns = np.ascontiguousarray(directions.reshape(len(directions), -1).T)
    return PrincipalCurvatures(
        values=torch.from_numpy(ds["hessian_value"].to_numpy().copy()),
        directions=torch.from_numpy(columns),
        residuals=torch.from_numpy(ds["hessian_residual"].to_numpy().copy()),
        converged=torch.from_numpy(ds["hessian_converged"].to_numpy().astype(bool)),
        products=int(ds["hessian_products"]),
        which="both",
        asymmetry=float(ds["hessian_asymmetry"]),
    )
