"""Principal curvatures, and the subspaces that their directions span over all classes."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geomadv.curvature.operators import BoundaryOperator
from geomadv.errors import InputError, UnconvergedWarning
from geomadv.linalg import EigenPairs, Subspace, all_eigenpairs, extreme_eigenpairs, measured_pairs
from geomadv.linalg.doubt import CANCEL, cancels, coherence
from geomadv.linalg.eigen import DENSE_DIMENSION, End, Operator, check_full_spectrum

Which = Literal["both", "positive", "negative", "all"]
Family = Literal["positive", "negative", "both", "flat"]

# From this share of all pairs on a Krylov space needs nearly D products one after the other: the
# full spectrum takes D in blocks.
_DENSE_SHARE = 0.25
# Directions at each end along which the points' own curvatures are compared with their mean.
_PROBES = 2


@dataclass(frozen=True, repr=False)
class PrincipalCurvatures(EigenPairs):
    """Eigenpairs of a mean Hessian or shape operator on image space, most positive first.

    Positive: the boundary function F_target - F_source grows along the direction, both ways.

    Attributes:
        which: the ends that the pairs belong to; "both" also for the full spectrum.
        asymmetry: as of `EigenPairs`, but relative to the size of the points' own operators where
            `coherence` is known: what is left of points that cancel says nothing about symmetry.
        coherence: largest |mean v^T H_i v| over the largest mean |v^T H_i v|, over the points i and
            leading directions v: 1 if the points agree, 0 if they cancel; NaN if not known.
        step_distances: finite-difference step over the median distance of the points to their
            images; NaN if there is none. Above 1 it is coarser than the boundary's distance.
    """

    which: End = "both"
    coherence: float = math.nan
    step_distances: float = math.nan


def principal_curvatures(
    H: Operator,
    k: int = 20,
    which: Which = "both",
    tolerance: float = 1e-4,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    progress: bool = False,
    block: int = 1,
    max_products: int | None = None,
) -> PrincipalCurvatures:
    """Principal curvatures and their directions: k pairs per end, or all.

    Extreme pairs come from one Krylov space (`geomadv.linalg.extreme_eigenpairs`), the full
    spectrum from the dense matrix (`geomadv.linalg.all_eigenpairs`). Where the pairs are more than
    a quarter of D <= 4,096, the dense matrix is used for them too: `products` is then D, and
    `checkpoint`, `block` and `max_products` have no effect.

    Finite differences are not linear across kinks. The matrix of their products with the pixels'
    unit vectors is another than that of a Krylov space, so that they always take the latter, as the
    paper's solver does: the same leading directions for any k, up to all D from D products. Their
    pairs are then measured: each costs one more product, which gives its value v^T H(v) and its
    residual; they stay in the solver's order, in which values need not descend. On ReLU networks
    none converges. With steps below the boundary's distance the directions are curved by the amount
    stated without being exact eigenvectors: residuals are 0.05 to 0.35 on digits and MNIST, 0.4 to
    1.1 on a ResNet-20. With the paper's step, 6 to 7 distances there, they are 4 to 6; above 1 the
    direction is no eigenvector.

    Args:
        H: (D, D) symmetric operator, such as `mean_hessian` gives, or array.
        k: pairs per end, 1 to D at one end, 1 to D / 2 at both; without effect for "all".
        which: "positive" or "negative" end (algebraically), "both" (2k pairs) or "all" (D pairs).
        tolerance: of residuals ||H v - value v|| / max|value|. 1e-5 in the paper.
        seed: of the start vector.
        checkpoint: file for interrupted solves, see `extreme_eigenpairs`.
        progress: show a progress bar in Hessian-vector products.
        block: vectors per product.
        max_products: limit, see `extreme_eigenpairs`; not for "all".

    Returns:
        The pairs. For a mean over boundary points up to four further products compare the points'
        own curvatures with their mean. A warning tells why pairs have not converged: too few
        products, asymmetry, or points that cancel.

    Raises:
        InputError: bad k, which, tolerance or operator; D too large for "all".
    """
    if which not in get_args(Which):
        raise InputError(f"which: expected one of {get_args(Which)}, found {which!r}.")
    d = H.shape[0]
    largest = d // 2 if which == "both" else d
    if which != "all" and not 1 <= k <= largest:
        raise InputError(
            f"k: expected 1 to {largest} pairs per end for which={which!r} and D = {d}, found "
            f"{k}. which='all' gives the full spectrum."
        )

    def krylov(k: int, end: End, limit: int | None) -> PrincipalCurvatures:
        found = extreme_eigenpairs(H, k, end, tolerance, limit, block, seed, checkpoint, progress)
        return _principal(found, end)

    def solve() -> PrincipalCurvatures:
        if not getattr(H, "linear", True):
            return _nonlinear(H, k, which, tolerance, max_products, krylov)
        if which == "all":
            return _principal(all_eigenpairs(H, tolerance, progress), "both")
        pairs = 2 * k if which == "both" else k
        if pairs > _DENSE_SHARE * d and d <= DENSE_DIMENSION:
            return _ends(all_eigenpairs(H, tolerance, progress), k, which)
        return krylov(k, which, max_products)

    with warnings.catch_warnings(record=True) as caught:
        found = solve()
    if isinstance(H, BoundaryOperator):
        probes = extreme_columns(found.directions)
        quadratics = H.per_point_quadratic(probes).cpu().numpy()
        spent = found.products + probes.shape[1]
        found = replace(beside_points(found, quadratics, H.step_distances), products=spent)
    _warn_again(caught, found)
    return found


def class_subspace(
    curvatures_per_class: Sequence[PrincipalCurvatures], d: int, which: Family
) -> Subspace:
    """Span of d principal directions per class: S_pos, S_neg, S_neg∪pos or S_flat.

    The first direction of every class comes first, then the second ones: `leading` of a subspace of
    independent directions holds the subspaces of smaller d.

    Args:
        curvatures_per_class: one per class.
        d: directions per class; "both" takes d of either end, 2d together.
        which: "positive" (most positive curvatures), "negative" (most negative), "both", or "flat"
            (smallest magnitude; needs the full spectrum).

    Returns:
        Orthonormalised by QR; dependent directions are dropped.

    Raises:
        InputError: no classes, operators of different D, d out of range, ends that were not
            computed, or "flat" without the full spectrum.
    """
    return Subspace(class_directions(curvatures_per_class, d, which))


def class_directions(
    curvatures_per_class: Sequence[PrincipalCurvatures], d: int, which: Family
) -> Tensor:
    """(D, m) directions that span `class_subspace`, in its order; arguments and errors as there."""
    if which not in get_args(Family):
        raise InputError(f"which: expected one of {get_args(Family)}, found {which!r}.")
    if len(curvatures_per_class) == 0:
        raise InputError("curvatures_per_class: expected at least one class, found none.")
    dimensions = {c.directions.shape[0] for c in curvatures_per_class}
    if len(dimensions) > 1:
        raise InputError(
            f"curvatures_per_class: expected directions of one image size, found D in "
            f"{sorted(dimensions)}. Compare networks with the same input only."
        )
    chosen = [_chosen(c, d, which) for c in curvatures_per_class]
    return torch.stack(chosen, dim=2).flatten(1)


def extreme_columns(directions: Tensor) -> Tensor:
    """(D, m) -> the first and the last two columns; all where there are fewer."""
    if directions.shape[1] <= 2 * _PROBES:
        return directions
    return torch.cat([directions[:, :_PROBES], directions[:, -_PROBES:]], dim=1)


def beside_points(
    curvatures: PrincipalCurvatures, quadratics: NDArray[np.float64], step_distances: float
) -> PrincipalCurvatures:
    """The same pairs with what the points' own curvatures say about them.

    Args:
        curvatures: pairs of the mean over the points.
        quadratics: (points, directions) v^T H_i v along leading directions.
        step_distances: of the finite difference; NaN for exact products.
    """
    left = coherence(quadratics)
    return replace(
        curvatures,
        coherence=left,
        asymmetry=curvatures.asymmetry * left,
        step_distances=step_distances,
    )


def class_residuals(
    curvatures_per_class: Sequence[PrincipalCurvatures], d: int, which: Family
) -> Tensor:
    """(m,) residuals of `class_directions`, in its order; arguments and errors as there."""
    chosen = [c.residuals[chosen_pairs(c, d, which)] for c in curvatures_per_class]
    return torch.stack(chosen, dim=1).flatten()


def _chosen(curvatures: PrincipalCurvatures, d: int, which: Family) -> Tensor:
    """(D, d) directions of one class in order, for "both" (D, 2d) with the ends in turns."""
    return curvatures.directions[:, chosen_pairs(curvatures, d, which)]


def chosen_pairs(curvatures: PrincipalCurvatures, d: int, which: Family) -> Tensor:
    """(d,) numbers of the chosen pairs, (2d,) for "both"."""
    if which == "flat":
        _check_flat(curvatures, d)
        return curvatures.values.abs().argsort(stable=True)[:d]
    complete = curvatures.complete
    if not complete and which != curvatures.which and curvatures.which != "both":
        raise InputError(
            f"which: {which!r} needs the pairs of that end, found those of the "
            f"{curvatures.which} end only. Call principal_curvatures with which='both'."
        )
    shared = which == "both" or (curvatures.which == "both" and not complete)
    room = len(curvatures.values) // 2 if shared else len(curvatures.values)
    _check_room(d, room, which)
    numbers = torch.arange(len(curvatures.values))
    top, bottom = numbers[:d], numbers.flip(0)[:d]
    if which == "both":
        return torch.stack([top, bottom], dim=1).flatten()
    return top if which == "positive" else bottom


def _check_flat(curvatures: PrincipalCurvatures, d: int) -> None:
    if not curvatures.complete:
        raise InputError(
            f"which: 'flat' needs the full spectrum, found {len(curvatures.values)} of "
            f"{curvatures.directions.shape[0]} pairs. Call principal_curvatures with which='all', "
            "or draw from the complement of the curved directions: "
            "class_subspace(..., which='both').complement_sample(d)."
        )
    _check_room(d, len(curvatures.values), "flat")


def _check_room(d: int, room: int, which: Family) -> None:
    if not 1 <= d <= room:
        raise InputError(
            f"d: expected 1 to {room} directions per class for which={which!r}, found {d}. "
            "Compute more pairs, or ask for fewer directions."
        )


def _principal(pairs: EigenPairs, which: End) -> PrincipalCurvatures:
    return PrincipalCurvatures(**vars(pairs), which=which)


def _nonlinear(
    H: Operator,
    k: int,
    which: Which,
    tolerance: float,
    limit: int | None,
    krylov: Callable[[int, End, int | None], PrincipalCurvatures],
) -> PrincipalCurvatures:
    """Pairs of an operator that is not linear, each measured with a product of its own."""
    d = H.shape[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnconvergedWarning)
        if which == "all":
            check_full_spectrum(d)
            found = replace(krylov(d, "positive", d), which="both")
        else:
            found = krylov(k, which, limit)
    return _principal(measured_pairs(H, found, tolerance), found.which)


def _warn_again(caught: list[warnings.WarningMessage], found: PrincipalCurvatures) -> None:
    """The solver's warnings; the reason it gives is another where the points cancel."""
    for warning in caught:
        text = str(warning.message)
        if cancels(found.coherence) and issubclass(warning.category, UnconvergedWarning):
            failed = int((~found.converged).sum())
            text = (
                f"{failed} of {len(found.values)} eigenpairs have residuals above the tolerance, "
                f"up to {float(found.residuals.max()):.2g}: {CANCEL} (|mean v'H_i v| is "
                f"{found.coherence:.2g} of mean |v'H_i v|), as those of opposite or mixed pairs of "
                "classes do, or of a step across many kinks. Take points towards one class, or a "
                "step below the boundary's distance."
            )
        warnings.warn(text, warning.category, stacklevel=3)


def _ends(pairs: EigenPairs, k: int, which: End) -> PrincipalCurvatures:
    """The k pairs of either end of a full spectrum."""
    d = len(pairs.values)
    top, bottom = torch.arange(k), torch.arange(d - k, d)
    taken = {"positive": top, "negative": bottom, "both": torch.cat([top, bottom])}[which]
    return PrincipalCurvatures(
        values=pairs.values[taken],
        directions=pairs.directions[:, taken],
        residuals=pairs.residuals[taken],
        converged=pairs.converged[taken],
        products=pairs.products,
        asymmetry=pairs.asymmetry,
        which=which,
    )
