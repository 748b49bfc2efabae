"""Which dimensions a sweep over nested subspaces visits, and how large the subspaces are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from geomadv.classifier import Classifier
from geomadv.errors import InputError
from geomadv.linalg import NestedSubspaces

# Mappings are invariant in their keys: Any lets those with literal names pass. A family of several
# draws is a sequence of nested subspaces of equal sizes, image i taking number i mod their number.
Families = Mapping[Any, NestedSubspaces | Sequence[NestedSubspaces]]

# Up to this last d a sweep visits all, beyond it a grid of about so many.
_ALL, _GRID = 64, 48


def draws_of(family: NestedSubspaces | Sequence[NestedSubspaces]) -> Sequence[NestedSubspaces]:
    """The draws of a family, one for most of them."""
    return [family] if isinstance(family, NestedSubspaces) else family


def first_draws(families: Families) -> dict[str, NestedSubspaces]:
    """The first draw of each: all that tells names and sizes.

    Raises:
        InputError: there are no families, or no draws.
    """
    if not families or not all(map(draws_of, families.values())):
        raise InputError("families: expected at least one family of subspaces, found none.")
    return {str(name): draws_of(family)[0] for name, family in families.items()}


def check_families(families: Families, dimension: int) -> None:
    """Raises `InputError` without families, where one is of another image size, or draws differ."""
    for name, nested in first_draws(families).items():
        if nested.ambient_dimension != dimension:
            raise InputError(
                f"families[{name!r}]: expected subspaces of R^{dimension}, found subspaces of "
                f"R^{nested.ambient_dimension}. Take directions of the same image size."
            )
        if any(not np.array_equal(own.sizes, nested.sizes) for own in draws_of(families[name])):
            raise InputError(
                f"families[{name!r}]: expected draws of the same dimension at every d, found "
                "others. Draw as many independent directions for each."
            )


def check_mean(mean: Tensor, net: Classifier) -> Tensor:
    """The mean image (C, H, W), if it is one.

    Raises:
        InputError: another shape, or numbers that are not finite.
    """
    if mean.shape != net.input_shape or not mean.isfinite().all():
        raise InputError(
            f"mean has shape {tuple(mean.shape)}, expected {net.input_shape}: finite numbers, one "
            "per pixel of an image. Give the mean of the training images."
        )
    return mean


def sweep_dimensions(families: Families, dimensions: Sequence[int] | None) -> NDArray[np.int64]:
    """The d of a sweep, ascending: as given, else from 0 to where no family grows any more.

    The default visits every d where there are at most 65; beyond, a geometric grid from either end,
    because curved families change at small d and flat ones at large d.

    Raises:
        InputError: d below 0 or beyond the last step of all families, or no d.
    """
    firsts = first_draws(families).values()
    if dimensions is None:
        return np.array(default_dimensions([_end(n) for n in firsts]), dtype=np.int64)
    steps = max(nested.steps for nested in firsts)
    chosen = sorted(set(dimensions))
    if not chosen or chosen[0] < 0 or chosen[-1] > steps:
        raise InputError(
            f"dimensions={list(dimensions)}: expected numbers from 0 to {steps}, the last step of "
            "the families. Compute more directions, or ask for fewer dimensions."
        )
    return np.array(chosen, dtype=np.int64)


def default_dimensions(ends: Sequence[int]) -> list[int]:
    """The d that a sweep visits by itself, of families that grow up to these."""
    return sorted(_grid(max(ends)) | {*ends})


def subspace_sizes(families: Families, dimensions: NDArray[np.int64]) -> NDArray[np.int64]:
    """(families, dimensions) dimension of each S_d; -1 where the family has no S_d.

    A family whose last step is all of image space stays there.
    """
    sizes = np.full((len(families), len(dimensions)), -1, dtype=np.int64)
    for row, nested in zip(sizes, first_draws(families).values(), strict=True):
        known = dimensions <= nested.steps
        row[known] = nested.sizes[dimensions[known]]
        if nested.sizes[-1] == nested.ambient_dimension:
            row[~known] = nested.ambient_dimension
    return sizes


def _end(nested: NestedSubspaces) -> int:
    """The first d from which on the subspace stays the same."""
    return int(np.argmax(nested.sizes == nested.sizes[-1]))


def _grid(last: int) -> set[int]:
    if last <= _ALL:
        return set(range(last + 1))
    grown = np.unique(np.geomspace(1, last, _GRID // 2).round().astype(np.int64)).tolist()
    return {0, *grown, *(last - d for d in grown)}
