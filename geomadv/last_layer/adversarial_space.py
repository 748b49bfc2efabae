"""Directions in which a softmax layer sees nothing: the null space of its centred weights."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomadv.errors import InputError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class AdversarialSpace:
    """The features' space split by a softmax layer with scores W h + b, W of shape (m, l).

    A direction d is adversarial (Zou et al., definition 1) if moving any distance along it leaves
    the softmax unchanged: W d is proportional to (1, ..., 1), so that (w_j - mean w) d = 0 for all
    classes j. The directions are the null space of the centred weights, of dimension l - rank, at
    least l - m + 1: one more than theorem 1 of the paper promises.

    Attributes:
        singular_values: (min(m, l),) of the centred weights, descending; at least one is zero to
            rounding if m <= l.
        rank: of the centred weights, at most m - 1.
        tolerance: singular values up to it count as zero: max(m, l) eps times the largest, with
            the eps of float64. Weights that depend on each other to float32 rounding only are
            independent here, as moving along their differences far enough does change the softmax.
        visible: (l, rank) orthonormal columns, the row space of the centred weights.
        adversarial: (l, l - rank) orthonormal columns, the adversarial directions.
    """

    singular_values: Array
    rank: int
    tolerance: float
    visible: Array
    adversarial: Array


def adversarial_space(weight: Any) -> AdversarialSpace:
    """Adversarial directions of a softmax layer, from the SVD of its centred weights.

    Args:
        weight: (m, l) array, one row per class (the paper's W transposed); computed in float64.

    Raises:
        InputError: not (m >= 2, l >= 1), non-finite, or the same weights for all classes.
    """
    w = check_weight(weight)
    centred = w - w.mean(axis=0)
    _, values, rows = np.linalg.svd(centred, full_matrices=True)
    # Of equal rows the centred ones are rounding of the mean, not zero.
    floor = np.finfo(np.float64).eps * float(np.linalg.norm(w))
    tolerance = max(max(w.shape) * np.finfo(np.float64).eps * float(values[0]), floor)
    rank = int((values > tolerance).sum())
    if rank == 0:
        raise InputError(
            f"weight: all {len(w)} classes have the same weights, so there are no boundaries. "
            "Train the network, or load its weights."
        )
    return AdversarialSpace(
        singular_values=values,
        rank=rank,
        tolerance=tolerance,
        visible=np.ascontiguousarray(rows[:rank].T),
        adversarial=np.ascontiguousarray(rows[rank:].T),
    )


def check_weight(weight: Any) -> Array:
    """The weights of a softmax layer as a float64 array (m, l).

    Raises:
        InputError: not (m >= 2, l >= 1), or non-finite.
    """
    w = np.asarray(weight, dtype=np.float64)
    if w.ndim != 2 or w.shape[0] < 2 or w.shape[1] < 1:
        raise InputError(
            f"weight has shape {w.shape}; expected (classes, features), one row for each of at "
            "least two classes."
        )
    if not np.isfinite(w).all():
        raise InputError(
            f"weight: {int((~np.isfinite(w)).sum())} of {w.size} entries are NaN or infinite. "
            "Check the network's weights."
        )
    return w
