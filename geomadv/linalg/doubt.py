"""What speaks against taking directions for those of principal curvature, in one wording."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from geomadv.labels import percent
from geomadv.linalg.operators import Array

NO_EIGENVECTOR = "no eigenvector"
NO_CURVATURE = "no curvature, any direction would do"
COARSE = "coarser than the boundary's distance"
CANCEL = "the points' curvatures cancel in their mean"

# ||H v - value v|| / max|value| from which on v turns by more than any curvature found.
_LARGEST_RESIDUAL = 1.0
# Step of the finite difference over the median boundary distance: beyond, it looks past the images.
_LARGEST_STEP = 1.0
# |mean v^T H_i v| / mean |v^T H_i v| below which more cancels than is left.
_LEAST_COHERENCE = 0.5


@dataclass(frozen=True)
class Doubt:
    """How much some directions are to be doubted as directions of principal curvature.

    Attributes:
        no_eigenvector: share of them whose relative residual exceeds 1.
        step_distances: step of the finite difference over the median boundary distance, the
            largest of all classes; NaN where there is none, or where it is not known.
        uncurved: whether none of them has any curvature, though they are named for it.
    """

    no_eigenvector: float = 0.0
    step_distances: float = math.nan
    uncurved: bool = False

    @property
    def mostly_none(self) -> bool:
        """Whether most of them are no eigenvectors."""
        return self.no_eigenvector > 0.5

    @property
    def coarse(self) -> bool:
        """Whether the step exceeds the boundary's distance."""
        return bool(is_coarse(self.step_distances))

    @property
    def of_directions(self) -> str:
        """Which of the directions are no eigenvectors, in words; "" for none."""
        if self.uncurved:
            return NO_CURVATURE
        if self.no_eigenvector == 1:
            return NO_EIGENVECTOR
        share = f"{percent(self.no_eigenvector)} %"
        return f"{share} {NO_EIGENVECTOR}" if self.no_eigenvector > 0 else ""

    @property
    def of_step(self) -> str:
        """How coarse the step is, in words; "" where it is not."""
        return f"step of {self.step_distances:.2g} distances, {COARSE}" if self.coarse else ""

    @property
    def words(self) -> str:
        """Both; "" where nothing is to be said."""
        return "; ".join(filter(None, (self.of_directions, self.of_step)))


def doubt_of(residuals: Any, step_distances: Iterable[float] = ()) -> Doubt:
    """Doubt of directions with these relative residuals; NaN ones have none."""
    flat = np.asarray(residuals, dtype=np.float64).ravel()
    known = flat[np.isfinite(flat)]
    share = float(is_no_eigenvector(known).mean()) if len(known) else 0.0
    steps = [step for step in step_distances if math.isfinite(step)]
    return Doubt(share, max(steps, default=math.nan))


def is_no_eigenvector(residual: Any) -> Any:
    """Whether residuals ||H v - value v|| / max|value|, of any shape, exceed 1; NaN do not."""
    return residual > _LARGEST_RESIDUAL


def is_coarse(step_distances: Any) -> Any:
    """Whether steps in median boundary distances, of any shape, exceed 1; NaN do not."""
    return step_distances > _LARGEST_STEP


def coherence(quadratics: Array) -> float:
    """How much of the terms' size is left in their mean: 1 if they agree, 0 if they cancel.

    quadratics (terms, directions): v^T A_i v. The largest |mean over i| of the directions over the
    largest mean |.|; 1 where all are zero.
    """
    size = float(np.abs(quadratics).mean(axis=0).max())
    return float(np.abs(quadratics.mean(axis=0)).max()) / size if size > 0 else 1.0


def cancels(coherence: Any) -> Any:
    """Whether more of the terms' size cancels in the mean than is left, in any shape; not NaN."""
    return coherence < _LEAST_COHERENCE
