"""Eigenpairs of a symmetric operator, each with its own doubt."""

import warnings
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from geomadv.errors import UnconvergedWarning
from geomadv.linalg.doubt import NO_EIGENVECTOR, is_no_eigenvector
from geomadv.linalg.operators import Array, CountedOperator
from geomadv.linalg.vectors import fix_sign

# Directions multiplied together.
_BLOCK = 128

Norm = TypeVar("Norm", float, Array)


@dataclass(frozen=True)
class EigenPairs:
    """Eigenpairs of a symmetric operator H on R^D, most positive first.

    Attributes:
        values: (m,) float64 eigenvalues, descending (see `measured_pairs` for an exception).
        directions: (D, m) float64 orthonormal columns, the largest component of each positive.
        residuals: (m,) float64 ||H v - value v|| / max|value|, with max|value| over the whole
            computed spectrum; zero for the zero operator. Above 1 the direction is no eigenvector.
        converged: (m,) bool, residual at most the tolerance.
        products: operator-vector products spent, all included.
        asymmetry: ||H - H^T|| / (2 ||H||) in the Frobenius norm, on the searched space. Pairs are
            those of the symmetric part (v^T H v does not see the rest), residuals those of H: an
            operator that is asymmetric by rounding of finite differences bounds them from below.
    """

    values: Tensor
    directions: Tensor
    residuals: Tensor
    converged: Tensor
    products: int
    asymmetry: float

    @property
    def complete(self) -> bool:
        """Whether these are all D eigenpairs."""
        return len(self.values) == self.directions.shape[0]

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({len(self.values)} of {len(self.directions)} pairs, values "
            f"{float(self.values.max()):.3g} to {float(self.values.min()):.3g}, "
            f"{int(self.converged.sum())} converged, median residual "
            f"{float(self.residuals.median()):.2g}, {self.products} products)"
        )


def eigenpairs(
    values: Array,
    directions: Array,
    norms: Array,
    scale: float,
    tolerance: float,
    products: int,
    asymmetry: float,
) -> EigenPairs:
    """Pairs from (m,) values, (D, m) directions and (m,) norms ||H v - value v||."""
    residuals = relative(norms, scale)
    return EigenPairs(
        values=torch.from_numpy(values.copy()),
        directions=torch.from_numpy(np.ascontiguousarray(fix_sign(directions))),
        residuals=torch.from_numpy(residuals),
        converged=torch.from_numpy(residuals <= tolerance),
        products=products,
        asymmetry=asymmetry,
    )


def measured_pairs(operator: LinearOperator, pairs: EigenPairs, tolerance: float) -> EigenPairs:
    """The same directions with values and residuals from one more product each.

    For an operator that is not linear, such as a finite difference across kinks: solvers combine
    products with other vectors, and what they find out in this way about a direction need not be
    what the product with the direction itself says.

    Returns:
        Values v^T H(v) with residuals ||H(v) - value v|| / max|value|, in the order of the solver:
        which directions lead then does not depend on how many were asked for. The values need not
        descend.
    """
    counted = CountedOperator(operator)
    directions = pairs.directions.numpy()
    image = np.concatenate(
        [
            counted(np.ascontiguousarray(directions[:, i : i + _BLOCK]))
            for i in range(0, directions.shape[1], _BLOCK)
        ],
        axis=1,
    )
    values = (directions * image).sum(axis=0)
    norms = np.linalg.norm(image - values * directions, axis=0)
    found = eigenpairs(
        values,
        directions,
        norms,
        float(np.abs(values).max()),
        tolerance,
        pairs.products + counted.products,
        pairs.asymmetry,
    )
    reason = (
        ", measured with the directions themselves: the operator is not linear, or asymmetric. "
        "More points, another finite-difference step or a smooth network help"
    )
    _warn(found, tolerance, reason)
    return found


def warn_of_unconverged(pairs: EigenPairs, tolerance: float, floor: float) -> None:
    """Says why pairs have not converged; `floor` is the largest residual due to asymmetry alone."""
    if floor > tolerance:
        reason = (
            f": the operator is asymmetric by {pairs.asymmetry:.2g} of its norm, so that residuals "
            f"stay near {floor:.2g}: values and directions are those of its symmetric part. A "
            "larger finite-difference step, float64 or an exact product makes it more symmetric"
        )
    else:
        reason = f": {pairs.products} products were not enough; raise max_products or the tolerance"
    _warn(pairs, tolerance, reason)


def _warn(pairs: EigenPairs, tolerance: float, reason: str) -> None:
    """Warns if pairs have not converged."""
    failed = int((~pairs.converged).sum())
    none = int(is_no_eigenvector(pairs.residuals).sum())
    above = f" ({none} above 1, which is {NO_EIGENVECTOR})" if none else ""
    if failed:
        warnings.warn(
            f"{failed} of {len(pairs.values)} eigenpairs have residuals above {tolerance:g}, up to "
            f"{float(pairs.residuals.max()):.2g}{above}{reason}.",
            UnconvergedWarning,
            stacklevel=4,
        )


def relative(norm: Norm, scale: float) -> Norm:
    """A norm as a share of `scale`; the zero operator has residuals of zero."""
    return norm / scale if scale > 0 else norm
