"""A growing sequence of subspaces in one basis, so that a sweep over d projects its data once."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geomadv.errors import InputError
from geomadv.linalg.doubt import Doubt, doubt_of
from geomadv.linalg.subspace import Subspace


class NestedSubspaces:
    """Subspaces S_0 = {0}, S_1, S_2, ... of which S_d is spanned by the first d groups of columns.

    Args:
        directions: (D, m) floating-point tensor or array, one direction per column, any norms, in
            groups of `width`. Dependent columns are dropped, as in `Subspace`.
        width: columns that each step adds, for example one per class; m is a multiple of it.
        description: what the directions are, for labels of results and figures.
        residuals: (m,) of directions that are to be eigenvectors, relative; None for others.
        step_distances: finite-difference step behind them over the median boundary distance.
        dtype: of the basis; default that of the directions.

    Raises:
        InputError: unusable directions (see `Subspace`), or a width that does not divide m.
    """

    def __init__(
        self,
        directions: Tensor | NDArray[np.floating],
        width: int = 1,
        description: str = "",
        residuals: Tensor | None = None,
        step_distances: float = math.nan,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._subspace = Subspace(directions, dtype)
        columns = directions.shape[1]
        if width < 1 or columns % width:
            raise InputError(
                f"width: expected a divisor of the {columns} directions, found {width}. Give the "
                "same number of directions for every class."
            )
        self.width, self.description = width, description
        self._residuals, self._step_distances = residuals, step_distances
        ends = width * torch.arange(columns // width + 1, device=self._subspace.origin.device)
        sizes = torch.searchsorted(self._subspace.origin, ends)
        self._sizes: NDArray[np.int64] = sizes.cpu().numpy()

    @property
    def steps(self) -> int:
        """Largest d."""
        return len(self._sizes) - 1

    @property
    def basis(self) -> Tensor:
        """(D, r) orthonormal columns; the first `sizes[d]` of them span S_d."""
        return self._subspace.basis

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(steps + 1,) dimensions of S_0, S_1, ..."""
        return self._sizes

    @property
    def ambient_dimension(self) -> int:
        """Number D of coordinates of the surrounding space."""
        return self._subspace.ambient_dimension

    def doubt(self, d: int) -> Doubt:
        """Whether the directions behind S_d are eigenvectors, and at which scale."""
        if self._residuals is None:
            return Doubt()
        return doubt_of(self._residuals[: d * self.width], [self._step_distances])

    def subspace(self, d: int) -> Subspace:
        """S_d as a view of the common basis.

        Raises:
            InputError: d is not between 1 and `steps`.
        """
        if not 1 <= d <= self.steps:
            raise InputError(
                f"d: expected 1 to {self.steps}, found {d}. Give more directions, or ask for "
                "fewer dimensions."
            )
        return self._subspace.leading(int(self._sizes[d]))
