"""How far a mean over boundary points can be trusted: halves, resampling, random subspaces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geomadv.experiments.principal.layout import CurvatureSettings
from geomadv.linalg import Subspace

Array = NDArray[np.float64]


def random_halves(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """The numbers 0 ... n - 1 split at random into two sorted index tensors, equal to within 1."""
    order = torch.from_numpy(np.random.default_rng(seed).permutation(n))
    return order[: n // 2].sort().values, order[n // 2 :].sort().values


def bootstrap_interval(values: Array, bounds: Array, settings: CurvatureSettings) -> Array:
    """Percentile intervals of column means under resampling of the rows (Efron, 1979).

    values (points, k) -> (k, len(bounds)); bounds are quantiles; `settings.draws` resamplings.
    """
    n = len(values)
    rng = np.random.default_rng(settings.seed)
    # How often each point is drawn: the same numbers for every column.
    counts = rng.multinomial(n, np.full(n, 1 / n), size=settings.draws)
    means = counts @ values / n
    interval: Array = np.quantile(means, bounds, axis=0).T
    return interval


def sign_shares(values: Array) -> Array:
    """Share of the rows that have the sign of their column's mean: (points, k) -> (k,).

    A zero has no sign; NaN where the mean is zero.
    """
    mean = values.mean(axis=0)
    shares: Array = np.where(mean == 0, np.nan, (np.sign(values) == np.sign(mean)).mean(axis=0))
    return shares


def random_subspace_angles(
    dimension: int, half_dimensions: Sequence[int], draws: int, seed: int
) -> Array:
    """Principal angles between pairs of uniform random d-dimensional subspaces of R^dimension.

    Returns (draws, len(half_dimensions), max(half_dimensions)), radians, NaN beyond each d.
    """
    most = max(half_dimensions)
    result = np.full((draws, len(half_dimensions), most), np.nan)
    rng = np.random.default_rng(seed)
    for draw in range(draws):
        one, two = (Subspace(rng.standard_normal((dimension, most))) for _ in range(2))
        for i, d in enumerate(half_dimensions):
            result[draw, i, :d] = one.leading(d).principal_angles(two.leading(d)).numpy()
    return result
