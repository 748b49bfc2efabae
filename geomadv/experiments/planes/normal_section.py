"""Normal sections: how the boundary really bends around its points, beside the quadratic model."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from geomadv.boundary import BoundaryPoints, boundary_points
from geomadv.classifier import Classifier
from geomadv.curvature import mean_hessian, mean_shape_operator
from geomadv.curvature.choice import Hvp
from geomadv.curvature.operators import median_distance, smoothness
from geomadv.doors import Numbers
from geomadv.errors import InputError
from geomadv.experiments.lines.class_sweeps import curved_directions, each_class, of_classes
from geomadv.experiments.lines.lines import check_scales, unit_directions
from geomadv.experiments.planes.offsets import Offsets, section_offsets
from geomadv.experiments.principal.layout import KINDS
from geomadv.keep import Keep, keep_nothing
from geomadv.labels import Schema, described

# The model is taken to hold while it is off the true offset by at most this share of it.
OFF = 0.2

MODELS = ("hessian", "shape")
_QUARTILES = (0.25, 0.5, 0.75)

_EACH = ("direction", "sample")
_ORDER = "over the points that have a section"

SCHEMA: Schema = {
    "scale": (("scale",), "distance s along the tangent direction u", "image units"),
    "model": (("model",), "what gives the curvature: v'Hv / ||grad f||, or u'Su", "1"),
    "quantile": (("quantile",), f"quantile {_ORDER}", "1"),
    "target": (("sample",), "class whose boundary it is", "1"),
    "source": (("sample",), "class predicted at the clean image", "1"),
    "near": (("sample",), "class that meets the target class at the boundary point", "1"),
    "converged": (("sample",), "there is a boundary point", "1"),
    "distance": (("sample",), "distance of the boundary point to its image", "image units"),
    "resolution": (("sample",), "what rounding of the scores makes of an offset", "image units"),
    "hvp_step": ((), "step of the finite difference; NaN if none", "image units"),
    "normal_share": (_EACH, "(v . n)^2, share of the direction along the normal", "1"),
    "normal_curvature": (
        ("model", *_EACH),
        "curvature of the section; positive bends from the target",
        "1 / image units",
    ),
    "offset": (
        (*_EACH, "scale"),
        "offset t(s) of the boundary along the normal; NaN for no root within the largest s",
        "image units",
    ),
    "third": ((*_EACH, "scale"), "a third class is on top at x + s u + t n", "1"),
    "missing": (_EACH, "scales without a root within the largest s", "1"),
    "radius": (
        ("model", *_EACH),
        f"|s| up to which -kappa s^2 / 2 is within {100 * OFF:.0f} % of t(s); inf: all of them",
        "image units",
    ),
    "offset_quantile": (
        ("direction", "quantile", "scale"),
        f"quantile of t(s) {_ORDER}; NaN beyond the largest s",
        "image units",
    ),
    "radius_quantile": (
        ("model", "direction", "quantile"),
        f"quantile of the radius {_ORDER}; inf beyond the largest s",
        "image units",
    ),
}

CLASS_SCHEMA = of_classes(SCHEMA)


def normal_section(
    net: Classifier,
    points: BoundaryPoints,
    directions: Numbers,
    scales: Numbers,
    *,
    boundary: Literal["pair", "region"] = "pair",
    hvp: Hvp = "auto",
    step: float | None = None,
    beta: float | None = None,
    batch_size: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """The boundary in the planes of its normals and of directions, beside its quadratic model.

    At a boundary point x with unit normal n, a direction v has the tangent direction
    u = (v - (v . n) n) / ||·||, which spans with n the same plane. There the boundary is the curve
    x + s u + t(s) n, found by root finding. To second order t = -kappa s^2 / 2, with the normal
    curvature kappa = u'Hu / ||grad f|| = u'Su (do Carmo, Differential Geometry of Curves and
    Surfaces, §3.2; S the shape operator of `mean_shape_operator`): kappa > 0 is f growing both ways
    along v and a boundary that bends away from the target, as for f = ||x||^2 - r^2, where kappa
    is 1 / r. Beside it stands v'Hv / ||grad f|| of the direction as it is, of which the mean
    Hessian is made; both are the same where v is tangent.

    Args:
        net: the network.
        points: boundary points of it. Those that have not converged are kept, without a section.
        directions: (D, k), one direction a column, of any norm; within half a degree of the normal
            a direction has no section.
        scales: (s,) increasing, both signs and 0, image units. Roots are looked for up to the same
            distance from the tangent plane.
        boundary: "pair": f = F_target - F_near of the classes that meet at the point, also where a
            third one is on top (`third`); "region": F_target minus the largest other score.
        hvp: Hessian product of the model, as of `mean_hessian`.
        step: likewise.
        beta: likewise.
        batch_size: points per pass; default from memory.
        progress: show a progress bar, in roots.

    Returns:
        Dataset over direction, sample, scale and model ("hessian", "shape"): the `offset` curves
        and how many scales are `missing` a root, `normal_curvature`, and the `radius` within which
        the model is within 20 % of the true offset, or within the rounding of scores
        (`resolution`), on both sides: inf where it is so up to the end of the scales, interpolated
        between two of them elsewhere. It ends where a root is missing. Quartiles are order
        statistics, in which a missing root counts as beyond.

    Raises:
        InputError: unusable directions, scales or boundary, and as `mean_hessian`.
    """
    if boundary not in ("pair", "region"):
        raise InputError(f"boundary={boundary!r}: expected 'pair' or 'region'.")
    rows, steps = unit_directions(net, directions), check_scales(scales)
    found = section_offsets(
        net,
        points,
        rows,
        steps,
        region=boundary == "region",
        batch_size=batch_size,
        progress=progress,
    )
    how: dict[str, Any] = {"hvp": hvp, "step": step, "beta": beta, "batch_size": batch_size}
    kappa, used_step = _curvatures(net, points, rows, found, how)
    model = -kappa[..., None] * steps**2 / 2
    radius = _radius(steps, found.offset, model, found.resolution)
    known = ~np.isnan(found.sine)
    beyond, lost = found.offset.copy(), np.isnan(found.offset)
    # Infinite, on the side that f tells; NaN where f does not.
    beyond[lost] = np.copysign(np.inf, found.side[lost]) + 0 * found.side[lost]
    middle = _quantiles(beyond.transpose(0, 2, 1))
    missing = np.where(known, lost.sum(axis=2), 0)
    values = {
        "target": points.target,
        "source": points.source,
        "near": points.near,
        "converged": points.converged,
        "distance": points.distance,
        "resolution": found.resolution,
        "hvp_step": used_step,
        "normal_share": 1 - found.sine**2,
        "normal_curvature": kappa,
        "offset": found.offset,
        "third": found.third,
        "missing": missing,
        "radius": np.where(known, radius, np.nan),
        "offset_quantile": np.where(np.isfinite(middle), middle, np.nan).swapaxes(1, 2),
        "radius_quantile": _quantiles(np.where(known, radius, np.nan)),
        "scale": steps,
        "model": list(MODELS),
        "quantile": list(_QUARTILES),
    }
    return described(SCHEMA, values)


def class_normal_section(
    net: Classifier,
    images: Any,
    curvature: xr.Dataset,
    scales: Numbers,
    *,
    count: int = 1,
    step_distances: float | None = None,
    boundary: Literal["pair", "region"] = "pair",
    seed: int = 0,
    keep: Keep = keep_nothing,
    batch_size: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """`normal_section` of every class along its curved, flat and random directions.

    The points are those of `boundary_points` into the class's region, from images of other classes.

    Args:
        net: the network.
        images: clean images (N, C, H, W) in the bounds, or an ImageSet.
        curvature: loaded `curvature.h5`. Its directions (`curved_directions`) are taken, and its
            Hessian products.
        scales: (s,) as for `normal_section`, image units.
        count: directions per class and family.
        step_distances: the step of a finite difference as a multiple of the median distance of the
            class's points, instead of the curvature's own.
        boundary: as for `normal_section`.
        seed: of the random directions.
        keep: what keeps finished classes; default nothing. See `Keep`.
        batch_size: points per pass; default from memory.
        progress: show a progress bar, in classes.

    Returns:
        The variables of `normal_section`, with class and family before their other dimensions, and
        those of the directions as in `class_direction_sweep`. Images that are predicted as a class
        have no section there (`converged`).

    Raises:
        InputError: as `normal_section` and `curved_directions`.
    """
    x = net.check_images(images)
    curved = curved_directions(curvature, count, seed)
    how = curvature[["target", "kind", "hvp_step", "beta"]].set_coords("target")

    def run(directions: NDArray[np.floating], target: int) -> xr.Dataset:
        points = boundary_points(net, x, target=target, batch_size=batch_size)
        product = _product(how.isel({"class": how["target"] == target}), points, step_distances)
        return normal_section(
            net, points, directions, scales, boundary=boundary, batch_size=batch_size, **product
        )

    return each_class(run, CLASS_SCHEMA, curved, "normal sections", keep, progress)


def _product(
    how: xr.Dataset, points: BoundaryPoints, step_distances: float | None
) -> dict[str, Any]:
    """The Hessian product of a class's curvature, with another step if one is given."""
    kind = KINDS[int(how["kind"].item())]
    step, beta = float(how["hvp_step"].item()), float(how["beta"].item())
    distance = median_distance(points[points.converged])
    if step_distances is not None and distance > 0:
        step = step_distances * distance
    return {
        "hvp": kind,
        "step": step if kind == "finite-difference" else None,
        "beta": beta if kind == "smoothed" else None,
    }


def _curvatures(
    net: Classifier,
    points: BoundaryPoints,
    rows: torch.Tensor,
    found: Offsets,
    how: dict[str, Any],
) -> tuple[NDArray[np.float64], float]:
    """(2, k, N) normal curvatures from v'Hv and from the shape operator, NaN without a section.

    The shape operator's quadratic form takes the projection of v as it is, shorter than 1.
    """
    kappa = np.full((2, *found.sine.shape), np.nan)
    at = points.converged.nonzero().squeeze(1)
    if len(at) == 0:
        return kappa, np.nan
    used = points[at]
    verdict = smoothness(net, used, how["hvp"], how["batch_size"])
    step = None
    for i, make in enumerate((mean_hessian, mean_shape_operator)):
        operator = make(net, used, verdict=verdict, **how)
        step = operator.step
        kappa[i][:, at.cpu().numpy()] = operator.per_point_quadratic(rows.T).cpu().numpy().T
    kappa[0] /= found.slope
    kappa[1] /= found.sine**2
    kappa[:, np.isnan(found.sine)] = np.nan
    return kappa, np.nan if step is None else step


def _radius(
    scales: NDArray[np.float64],
    offset: NDArray[np.float64],
    model: NDArray[np.float64],
    resolution: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(..., sample) |s| up to which the model holds on both sides; inf: up to the end of them."""
    excess = np.abs(model - offset) - OFF * np.abs(offset) - resolution[:, None]
    zero = int(np.flatnonzero(scales == 0)[0])
    sides = (excess[..., zero:], scales[zero:]), (excess[..., zero::-1], -scales[zero::-1])
    return np.minimum(*(_first_failure(e, s) for e, s in sides))


def _first_failure(excess: NDArray[np.float64], s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the excess (..., s) crosses zero first; the last s before a NaN; inf for nowhere."""
    fails = ~(excess <= 0)
    first = np.maximum(fails.argmax(axis=-1), 1)
    before, after = (
        np.take_along_axis(excess, i[..., None], -1)[..., 0] for i in (first - 1, first)
    )
    with np.errstate(all="ignore"):  # not used where nothing fails
        share = np.clip(np.nan_to_num(-before / (after - before)), 0, 1)
    return np.where(fails.any(axis=-1), s[first - 1] + share * (s[first] - s[first - 1]), np.inf)


def _quantiles(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., n) -> (..., 3) quartiles as order statistics, so that infinite values count as such.

    NaN is left out; of nothing else, NaN.
    """
    ordered = np.sort(values, axis=-1)  # NaN last
    count = (~np.isnan(ordered)).sum(axis=-1)
    chosen = [np.maximum(np.ceil(q * count).astype(int) - 1, 0) for q in _QUARTILES]
    return np.take_along_axis(ordered, np.stack(chosen, axis=-1), axis=-1)
