"""Share of a perturbation's norm inside growing subspaces of curved or flat directions."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from geomadv.errors import InputError
from geomadv.experiments.principal import doubt
from geomadv.experiments.subspaces.sweep import (
    Families,
    check_families,
    draws_of,
    first_draws,
    subspace_sizes,
    sweep_dimensions,
)
from geomadv.labels import Schema, described
from geomadv.linalg import NestedSubspaces

_QUANTILES = (0.1, 0.5, 0.9)
_BLOCK = 1024

_KIND, _FAMILY, _AT = ("kind",), ("family",), ("family", "d")
_CURVE, _OVER = (*_KIND, *_AT), "quantiles of the share over the perturbations"

SCHEMA: Schema = {
    **doubt.FAMILIES,
    "kind": (_KIND, "kind of perturbation", "1"),
    "family": (_FAMILY, "family of nested subspaces", "1"),
    "d": (("d",), "number of steps d into the family", "1"),
    "quantile": (("quantile",), "quantile over the perturbations", "1"),
    "fraction": ((*_CURVE, "sample"), "share of the perturbation's norm inside S_d", "1"),
    "subspace_dimension": (_AT, "dimension of S_d", "1"),
    "random_fraction": (_AT, "root mean squared share of a uniformly random direction", "1"),
    "count": (_KIND, "perturbations that are not zero", "1"),
    "zero_count": (_KIND, "perturbations that are zero and left out", "1"),
    "unconverged_count": (_KIND, "perturbations that did not converge, left out", "1"),
    "description": (_FAMILY, "directions of the family", "1"),
    "directions_per_step": (_FAMILY, "directions that each step of d adds", "1"),
    "mean_fraction": (_CURVE, "mean share of the perturbations' norm inside S_d", "1"),
    "fraction_quantile": ((*_CURVE, "quantile"), _OVER, "1"),
}


def norm_fractions(
    perturbations: Mapping[str, Tensor | NDArray[np.floating]],
    families: Families,
    dimensions: Sequence[int] | None = None,
    unconverged: Mapping[str, int] | None = None,
) -> xr.Dataset:
    """||Q^T v|| / ||v|| of perturbations v for every S_d of every family.

    "With Friends Like These" (Jetley, Lord and Torr, 2018), §4.3, figure 3 (bottom). All d come
    from one product per family, by cumulative sums of squared coordinates. A uniformly random v
    has E ||Q^T v||^2 / ||v||^2 = dim S_d / D: its square root stands beside the measured ones.

    Args:
        perturbations: by kind; (N, C, H, W) or (N, D), or one of shape (C, H, W) or (D,). The
            kinds may have different N. Only directions count.
        families: nested subspaces of image space by name, or several draws of them: then
            perturbation i is taken with number i modulo the draws.
        dimensions: the d to visit; default as in `subspace_accuracy`.
        unconverged: by kind, how many the caller has left out since they did not converge; the
            result keeps the numbers.

    Returns:
        Dataset over kind, family, d, sample and quantile (float64): `fraction`
        (kind, family, d, sample), NaN beyond the N of a kind, where a family has no S_d and where
        the perturbation is zero; `mean_fraction` (kind, family, d) and `fraction_quantile`
        (kind, family, d, quantile) over the others; `count`, `zero_count` and
        `unconverged_count` (kind); `random_fraction` and `subspace_dimension` (family, d);
        `description` (family); `no_eigenvector_share` (family, d) and `step_distances` (family),
        the doubt of curved ones.

    Raises:
        InputError: no perturbations or none that is not zero, NaN or infinite ones, another image
            size, or d that no family has.
    """
    firsts = first_draws(families)
    dimension = next(iter(firsts.values())).ambient_dimension
    check_families(families, dimension)
    rows = {kind: _rows(kind, value, dimension) for kind, value in perturbations.items()}
    if not rows:
        raise InputError("perturbations: expected at least one kind, found none.")
    visited = sweep_dimensions(families, dimensions)
    sizes = subspace_sizes(families, visited)
    most = max(map(len, rows.values()))
    fraction = np.full((len(rows), len(families), len(visited), most), np.nan)
    for j, family in enumerate(families.values()):
        draws = draws_of(family)
        for draw, nested in enumerate(draws):
            basis = nested.basis.double()
            for i, vectors in enumerate(rows.values()):
                for own in torch.arange(len(vectors))[draw :: len(draws)].split(_BLOCK):
                    found = _fractions(vectors[own].to(basis.device), basis, sizes[j])
                    fraction[i, j][:, own.numpy()] = found.cpu().numpy()
    left_out = [(unconverged or {}).get(kind, 0) for kind in rows]
    return _dataset(rows, firsts, visited, sizes, fraction, left_out)


def _fractions(vectors: Tensor, basis: Tensor, sizes: NDArray[np.int64]) -> Tensor:
    """(dimensions, N) fractions, NaN for zero vectors and where the size is -1."""
    squares = (vectors @ basis).square().cumsum(1)
    held: Tensor = torch.nn.functional.pad(squares, (1, 0))[:, np.maximum(sizes, 0)].T
    # A float32 basis is orthonormal to 1e-7 only.
    shares: Tensor = (held.sqrt() / torch.linalg.vector_norm(vectors, dim=1)).clamp(max=1.0)
    shares[sizes < 0] = torch.nan
    return shares


def _rows(kind: str, value: Any, dimension: int) -> Tensor:
    """(N, D) float64, scaled to largest entries of 1: squares of tiny gradients do not vanish."""
    vectors = torch.as_tensor(value).detach().double()
    vectors = vectors.reshape(1, -1) if vectors.ndim in (1, 3) else vectors.flatten(1)
    if vectors.ndim != 2 or vectors.shape[1] != dimension:
        raise InputError(
            f"perturbations[{kind!r}]: expected shape (N, C, H, W) with C H W = {dimension}, the "
            f"dimension of the subspaces, found {tuple(value.shape)}."
        )
    if len(vectors) == 0 or not vectors.isfinite().all():
        raise InputError(
            f"perturbations[{kind!r}]: expected finite numbers and at least one perturbation, "
            "found NaN, infinite values or none. Leave out those that did not converge."
        )
    largest = vectors.abs().amax(1, keepdim=True)
    if not (largest > 0).any():
        raise InputError(
            f"perturbations[{kind!r}]: all are zero, and zero has no direction. Check the attack."
        )
    return vectors / largest.where(largest > 0, 1.0)


def _dataset(
    rows: Mapping[str, Tensor],
    families: Mapping[str, NestedSubspaces],
    visited: NDArray[np.int64],
    sizes: NDArray[np.int64],
    fraction: NDArray[np.float64],
    unconverged: Sequence[int],
) -> xr.Dataset:
    dimension = next(iter(families.values())).ambient_dimension
    dims = np.where(sizes < 0, np.nan, sizes)
    zeros = [int((vectors == 0).all(1).sum()) for vectors in rows.values()]
    samples = xr.DataArray(fraction, dims=(*_CURVE, "sample"))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN")
        quantiles = samples.quantile(_QUANTILES, "sample")
    values = {
        "fraction": fraction,
        "subspace_dimension": dims,
        "random_fraction": np.sqrt(dims / dimension),
        "count": [len(v) - z for v, z in zip(rows.values(), zeros, strict=True)],
        "zero_count": zeros,
        "unconverged_count": unconverged,
        "description": [n.description or name for name, n in families.items()],
        "directions_per_step": [n.width for n in families.values()],
        **doubt.family_variables(families, dict.fromkeys(families, visited.tolist())),
        "mean_fraction": samples.mean("sample"),
        "fraction_quantile": quantiles,
        "kind": list(rows),
        "family": list(families),
        "d": visited,
        "quantile": list(_QUANTILES),
    }
    return described(SCHEMA, values)
