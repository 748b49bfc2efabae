"""Sweeps of every class along its own curved and flat directions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, cast

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from geomadv.classifier import Classifier
from geomadv.curvature import PrincipalCurvatures
from geomadv.curvature.principal import Family, chosen_pairs, class_directions
from geomadv.doors import Numbers
from geomadv.errors import InputError
from geomadv.experiments.lines import direction_sweep as sweep
from geomadv.experiments.lines import score_curves as curves
from geomadv.experiments.principal.doubt import step_distances
from geomadv.experiments.principal.layout import ENDS, HESSIAN_UNITS
from geomadv.experiments.subspaces.families import random_flat, stored_curvatures
from geomadv.keep import Keep, keep_nothing
from geomadv.labels import IMAGE, Schema, described
from geomadv.linalg import uniform_directions
from geomadv.progress import tqdm

_NAMES = {"positive": "most positive curvature", "negative": "most negative curvature"}
_SMALLEST, _DRAWN = "smallest curvature", "random, outside the curved"

# The range of a sweep is looked for on so many images, from one boundary distance on by doubling.
_PILOT, _DOUBLINGS, _BEYOND = 100, 10, 1.5

_DIRECTION = ("class", "family", "direction")

# What is known of the directions themselves.
_TOLD: Schema = {
    "class": (("class",), "class", "1"),
    "family": (("family",), "family of directions", "1"),
    "curvature": (_DIRECTION, "curvature of the mean Hessian along the direction", HESSIAN_UNITS),
    "residual": (_DIRECTION, "||H d - value d|| / max |value|; above 1 d is no eigenvector", "1"),
    "step_distances": (("class",), "finite-difference step over the median distance", "1"),
    "family_name": (("family",), "which directions the family holds", "1"),
}

DIRECTIONS_SCHEMA: Schema = {
    **_TOLD,
    "direction_image": ((*_DIRECTION, *IMAGE), "unit direction", "1"),
    "target": (("class",), "target class", "1"),
    "median_distance": (("class",), "median distance of the boundary points", "image units"),
}


def of_classes(schema: Schema) -> Schema:
    """Class and family come before the dimensions of all that is not the same for all classes."""
    same = {"source", "class_name", "example_scale"}
    found: dict[str, tuple[tuple[str, ...], str, str]] = {}
    for name, (dims, long_name, units) in schema.items():
        if dims != (name,) and name not in same:
            dims = ("class", *(("family",) if "direction" in dims else ()), *dims)
        found[name] = (dims, long_name, units)
    return {**found, **_TOLD}


SWEEP_SCHEMA = of_classes(sweep.SCHEMA)
CURVES_SCHEMA = of_classes(curves.SCHEMA)


def curved_directions(curvature: xr.Dataset, count: int = 2, seed: int = 0) -> xr.Dataset:
    """The leading directions of most positive, most negative and flattest curvature of each class.

    Beside them stand as many uniformly random ones: what these do, too, is not due to curvature.
    Where the full spectrum is not known, flat directions are drawn at random from the complement
    of all computed directions of all classes; they are left out where it has no room.

    Args:
        curvature: loaded `curvature.h5`, or the result of `class_curvature`.
        count: directions per class and family.
        seed: of the draws.

    Returns:
        Dataset over class (those that had boundary points), family ("positive", "negative",
        "flat", "random"), direction and image: `direction_image`, unit norm; `curvature` of the
        mean Hessian along them and its relative `residual`, NaN for drawn ones; `family_name`,
        which says how flat ones were found; `target`, the class numbers; `median_distance` of the
        boundary points behind them and `step_distances`, the finite-difference step over it
        (class).

    Raises:
        InputError: count < 1 or beyond the stored pairs, or no class had boundary points.
    """
    curvatures = stored_curvatures(curvature)
    known = curvature["hessian_value"].notnull().all("pair").to_numpy()
    complete = all(c.complete for c in curvatures)
    room = len(curvatures[0].values) // (1 if complete else 2)
    if not 1 <= count <= room:
        raise InputError(
            f"count={count}: expected 1 to {room} directions per class and family, as many as the "
            "curvature result holds. Ask for fewer, or compute more pairs."
        )
    columns: dict[str, Tensor] = {end: class_directions(curvatures, count, end) for end in ENDS}
    if complete:
        columns["flat"] = class_directions(curvatures, count, "flat")
    else:
        drawn = random_flat(curvatures, count, seed)
        if drawn is not None:
            columns["flat"] = drawn.basis
    dimension, drawn_columns = columns["positive"].shape
    columns["random"] = uniform_directions(drawn_columns, dimension, seed).T
    shape = curvature["hessian_direction"].shape[2:]
    names = _NAMES | {"flat": _SMALLEST if complete else _DRAWN, "random": "random"}
    values = {
        "direction_image": np.stack(
            [_images(c, len(curvatures), shape) for c in columns.values()], axis=1
        ),
        "curvature": np.stack([_along(curvatures, count, f, "values") for f in columns], axis=1),
        "residual": np.stack([_along(curvatures, count, f, "residuals") for f in columns], axis=1),
        "family_name": [names[family] for family in columns],
        "step_distances": step_distances(curvature)[known],
        "family": list(columns),
    }
    same = ("class", "target", "median_distance")
    return described(DIRECTIONS_SCHEMA, values | {name: curvature[name][known] for name in same})


def sweep_reach(
    net: Classifier, images: Any, curved: xr.Dataset, *, batch_size: int | None = None
) -> float:
    """How far to go along directions so that they lead into their classes, image units.

    The median boundary distance is doubled until, in at least half of the classes, the most
    positively curved direction takes at least half of 100 images of other classes into the class,
    with either sign. It goes half as far again, so that this does not lie on the edge, and at most
    to the mean norm of the images.

    Raises:
        InputError: as `direction_sweep`.
    """
    x = net.check_images(images)
    limit = float(x.flatten(1).norm(dim=1).mean())
    reach = min(float(curved["median_distance"].median()), limit)
    leading = curved.sel(family=["positive"]).isel(direction=[0])
    # From all over the images, which may lie class by class.
    pilot = x[np.linspace(0, len(x) - 1, min(_PILOT, len(x))).round().astype(int)]
    for _ in range(_DOUBLINGS):
        scales = [-reach, 0.0, reach]
        ds = class_direction_sweep(net, pilot, leading, scales, batch_size=batch_size)
        taken = ds["transition"].max("scale").squeeze(("family", "direction"), drop=True)
        if reach >= limit or float((taken >= 0.5).mean()) >= 0.5:
            break
        reach = min(2 * reach, limit)
    return min(_BEYOND * reach, limit)


def class_direction_sweep(
    net: Classifier,
    images: Any,
    curved: xr.Dataset,
    scales: Numbers,
    *,
    keep: Keep = keep_nothing,
    batch_size: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """`direction_sweep` of every class along its own directions of every family.

    Args:
        net: the network.
        images: clean images (N, C, H, W) in the bounds, or an ImageSet.
        curved: directions per class and family, as `curved_directions` gives them.
        scales: (s,) as for `direction_sweep`, image units.
        keep: what keeps finished classes; default nothing. See `Keep`.
        batch_size: images per pass; default from memory.
        progress: show a progress bar, in classes.

    Returns:
        The variables of `direction_sweep`, with class and family before their other dimensions,
        the `curvature` and `residual` (class, family, direction) of each direction, the
        `family_name` and `step_distances` (class). `source` and `class_name` are the same for all
        classes, `population_size` is (class, population).

    Raises:
        InputError: as `direction_sweep`.
    """

    def run(directions: NDArray[np.floating], target: int) -> xr.Dataset:
        return sweep.direction_sweep(net, images, directions, scales, target, batch_size=batch_size)

    return each_class(run, SWEEP_SCHEMA, curved, "direction sweep", keep, progress)


def class_score_curves(
    net: Classifier,
    images: Any,
    curved: xr.Dataset,
    scales: Numbers,
    *,
    draws: int = 1000,
    seed: int = 0,
    keep: Keep = keep_nothing,
    batch_size: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """`score_curves` of every class along its own directions of every family.

    Args:
        net: the network.
        images: clean images (N, C, H, W) in the bounds, or an ImageSet.
        curved: directions per class and family, as `curved_directions` gives them.
        scales: (s,) as for `score_curves`, image units.
        draws: bootstrap resamplings of the images behind each interval.
        seed: of the resamplings.
        keep: what keeps finished classes; default nothing. See `Keep`.
        batch_size: images per pass; default from memory.
        progress: show a progress bar, in classes.

    Returns:
        The variables of `score_curves` with class and family before their other dimensions, and
        the `curvature` and `residual` (class, family, direction) of each direction, `family_name`,
        `step_distances` (class). `source`, `class_name` and `example_scale` are the same for all
        classes.

    Raises:
        InputError: as `score_curves`.
    """

    def run(directions: NDArray[np.floating], target: int) -> xr.Dataset:
        return curves.score_curves(
            net, images, directions, scales, target, draws=draws, seed=seed, batch_size=batch_size
        )

    return each_class(run, CURVES_SCHEMA, curved, "score curves", keep, progress)


def each_class(
    run: Callable[[NDArray[np.floating], int], xr.Dataset],
    schema: Schema,
    curved: xr.Dataset,
    label: str,
    keep: Keep,
    progress: bool,
) -> xr.Dataset:
    """Runs class by class and joins."""

    def of_class(i: int) -> xr.Dataset:
        images = curved["direction_image"].isel({"class": i}).to_numpy()
        rows = images.reshape(-1, int(np.prod(images.shape[2:])))
        return run(rows.T, int(curved["target"][i]))

    targets = curved["target"].to_numpy().tolist()
    with tqdm(total=len(targets), desc=label, unit="class", disable=not progress) as bar:
        computed = {f"class-{target}": partial(of_class, i) for i, target in enumerate(targets)}
        parts = keep.each(computed, bar.update)
    families = curved.sizes["family"]
    values: dict[str, Any] = {name: curved[name] for name in _TOLD if name in curved}
    for name, first in parts[0].variables.items():
        by_class = [_by_family(part[name], families) for part in parts]
        values[str(name)] = (
            by_class[0] if schema[str(name)][0] == first.dims else np.stack(by_class)
        )
    return described(schema, values)


def _by_family(variable: xr.DataArray, families: int) -> NDArray[Any]:
    """Splits the dimension direction into (family, direction) and puts family first."""
    values = variable.to_numpy()
    if "direction" not in variable.dims:
        return values
    at = variable.dims.index("direction")
    split = values.reshape(*values.shape[:at], families, -1, *values.shape[at + 1 :])
    return np.moveaxis(split, at, 0)


def _images(columns: Tensor, classes: int, shape: Sequence[int]) -> NDArray[np.floating]:
    """Columns (D, directions x classes), classes in turns -> (classes, directions, C, H, W)."""
    by_class = columns.T.reshape(-1, classes, *shape).transpose(0, 1)
    return by_class.contiguous().numpy()


def _along(
    curvatures: Sequence[PrincipalCurvatures],
    count: int,
    family: str,
    what: Literal["values", "residuals"],
) -> NDArray[np.float64]:
    """(classes, count) curvatures along the chosen directions or their residuals; NaN if drawn."""
    if family == "random" or (family == "flat" and not curvatures[0].complete):
        return np.full((len(curvatures), count), np.nan)
    pairs = [chosen_pairs(c, count, cast(Family, family)) for c in curvatures]
    rows = [getattr(c, what)[chosen] for c, chosen in zip(curvatures, pairs, strict=True)]
    return torch.stack(rows).double().numpy()
