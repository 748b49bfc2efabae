"""Principal curvatures, and the subspaces that their directions span over all classes."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from geomadv.errors import InputError
from geomadv.linalg import EigenPairs, Subspace, all_eigenpairs, extreme_eigenpairs, measured_pairs
from geomadv.linalg.eigen import DENSE_DIMENSION, End, Operator

Which = Literal["both", "positive", "negative", "all"]
Family = Literal["positive", "negative", "both", "flat"]

# From this share of all pairs on a Krylov space needs nearly D products one after the other: the
# full spectrum takes D in blocks.
_DENSE_SHARE = 0.25


@dataclass(frozen=True)
class PrincipalCurvatures(EigenPairs):
    """Eigenpairs of a mean Hessian or shape operator on image space, most positive first.

    Positive: the boundary function F_target - F_source grows along the direction, both ways.

    Attributes:
        which: the ends that the pairs belong to; "both" also for the full spectrum.
    """

    which: End = "both"


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

    Finite differences are not linear across kinks. Their pairs are therefore measured: each costs
    one more product, which gives its value v^T H(v) and its residual. On ReLU networks residuals
    of some tenths are usual and none converges: the directions are curved by the amount stated, but
    they are no exact eigenvectors.

    Args:
        H: (D, D) symmetric operator, such as `mean_hessian` gives, or array.
        k: pairs per end, 1 to D at one end, 1 to D / 2 at both; without effect for "all".
        which: "positive" or "negative" end (algebraically), "both" (2k pairs) or "all" (D pairs).
        tolerance: of residuals ||H v - value v|| / max|value|. 1e-5 in the paper.
        seed: of the start vector.
        checkpoint: file for interrupted solves, see `extreme_eigenpairs`.
        progress: show a progress bar in Hessian-vector products.
        block: vectors per product.
        max_products: limit, see `extreme_eigenpairs`.

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

    def solve() -> PrincipalCurvatures:
        if which == "all":
            return _principal(all_eigenpairs(H, tolerance, progress), "both")
        pairs = 2 * k if which == "both" else k
        if pairs > _DENSE_SHARE * d and d <= DENSE_DIMENSION:
            return _ends(all_eigenpairs(H, tolerance, progress), k, which)
        found = extreme_eigenpairs(
            H, k, which, tolerance, max_products, block, seed, checkpoint, progress
        )
        return _principal(found, which)

    if getattr(H, "linear", True):
        return solve()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* eigenpairs have residuals above")
        found = solve()
    return _principal(measured_pairs(H, found, tolerance), found.which)


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


def _chosen(curvatures: PrincipalCurvatures, d: int, which: Family) -> Tensor:
    """(D, d) directions of one class in order, for "both" (D, 2d) with the ends in turns."""
    directions = curvatures.directions
    if which == "flat":
        _check_flat(curvatures, d)
        return directions[:, curvatures.values.abs().argsort(stable=True)[:d]]
    complete = curvatures.complete
    if not complete and which != curvatures.which and curvatures.which != "both":
        raise InputError(
            f"which: {which!r} needs the pairs of that end, found those of the "
            f"{curvatures.which} end only. Call principal_curvatures with which='both'."
        )
    shared = which == "both" or (curvatures.which == "both" and not complete)
    room = len(curvatures.values) // 2 if shared else len(curvatures.values)
    _check_room(d, room, which)
    top, bottom = directions[:, :d], directions.flip(1)[:, :d]
    if which == "both":
        return torch.stack([top, bottom], dim=2).flatten(1)
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
