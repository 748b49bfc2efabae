"""Eigenpairs of a symmetric operator, each with its own doubt."""

import warnings
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from geomadv.linalg.operators import Array
from geomadv.linalg.sign import fix_sign

Norm = TypeVar("Norm", float, Array)


@dataclass(frozen=True)
class EigenPairs:
    """Eigenpairs of a symmetric operator H on R^D, most positive first.

    Attributes:
        values: (m,) float64 eigenvalues, descending.
        directions: (D, m) float64 orthonormal columns, the largest component of each positive.
        residuals: (m,) float64 ||H v - value v|| / max|value|, with max|value| over the whole
            computed spectrum; zero for the zero operator.
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


def warn_of_unconverged(pairs: EigenPairs, tolerance: float, floor: float) -> None:
    """Says why pairs have not converged; `floor` is the largest residual due to asymmetry alone."""
    failed = int((~pairs.converged).sum())
    if failed == 0:
        return
    if floor > tolerance:
        reason = (
            f"the operator is asymmetric by {pairs.asymmetry:.2g} of its norm, so that residuals "
            f"stay near {floor:.2g}: values and directions are those of its symmetric part. A "
            "larger finite-difference step, float64 or an exact product makes it more symmetric"
        )
    else:
        reason = f"{pairs.products} products were not enough; raise max_products or the tolerance"
    warnings.warn(
        f"{failed} of {len(pairs.values)} eigenpairs have residuals above {tolerance:g}, up to "
        f"{float(pairs.residuals.max()):.2g}: {reason}.",
        stacklevel=3,
    )


def relative(norm: Norm, scale: float) -> Norm:
    """A norm as a share of `scale`; the zero operator has residuals of zero."""
    return norm / scale if scale > 0 else norm
