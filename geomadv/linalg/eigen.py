"""Eigenpairs of symmetric operators: extreme ones from one Krylov space, or the full spectrum."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse.linalg import LinearOperator

from geomadv.errors import InputError
from geomadv.linalg.checkpoint import Checkpoint
from geomadv.linalg.lanczos import KrylovSpace, RitzPairs
from geomadv.linalg.operators import CountedOperator, check_at_least, eigh_driver
from geomadv.linalg.pairs import EigenPairs, eigenpairs, relative, warn_of_unconverged
from geomadv.progress import tqdm

End = Literal["both", "positive", "negative"]
Operator: TypeAlias = LinearOperator | NDArray[Any]

# Largest dense spectrum: four float64 matrices of this side take 0.5 GB.
DENSE_DIMENSION = 4096
# Identity columns multiplied together for the dense matrix.
_COLUMNS = 128
# Products of the search for a missed copy of a repeated eigenvalue. A copy outside the space shows
# when (its value / the largest other value outside)^depth exceeds sqrt(D), about.
_SEARCH_DEPTH = 5
# Products that are affordable for any number of pairs.
_AFFORDABLE = 500
# Of an operator that is not linear, the part of residuals outside the space comes down to this
# share of the part inside: where both are alike, a larger space still turns the directions. Small
# spaces are exhausted.
_NONLINEAR_SHARE = 0.1
# Ritz pairs of a space of this size or less are computed at every step, beyond at every per cent.
_CHECKS = 100


def extreme_eigenpairs(
    operator: Operator,
    k: int,
    which: End = "both",
    tolerance: float = 1e-4,
    max_products: int | None = None,
    block: int = 1,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    progress: bool = False,
) -> EigenPairs:
    """The k most positive and/or k most negative eigenpairs, both ends from one Krylov space.

    Block Lanczos with full reorthogonalisation in float64 (Golub and Van Loan, Matrix Computations,
    4th ed., section 10.3). Residuals come from the stored coefficients, at no extra product, and
    equal ||H v - value v|| to rounding. Where the space becomes invariant (low rank, repeated
    eigenvalues) it goes on with a random vector of the complement. After convergence one more such
    vector searches 5 products deep for a copy of a repeated eigenvalue that the space cannot
    contain; what it finds is converged too. A search that short can miss a copy that is hardly
    larger than the rest of the spectrum; with `block` b, multiplicities up to b need no search.

    The space depends on the seed and on `block` only, not on k; k decides how large it grows, up to
    k = D at one end, which takes all D products. For an operator that is not linear (its attribute
    `linear` is False), whose products with other vectors would not combine to these, it grows until
    the leading pairs hardly depend on that: up to D = 500 to all of R^D, so that they are the same
    for any k.

    Args:
        operator: (D, D) symmetric scipy LinearOperator or array; only its `matmat` is used.
        k: pairs per end; at most D at one end, D / 2 at both.
        which: "positive" (algebraically largest), "negative" (smallest) or "both" (2k pairs).
        tolerance: of residuals relative to max|value|.
        max_products: limit, at most D; default min(D, max(500, 25 pairs)). When it is reached,
            what there is comes back flagged, with a warning.
        block: vectors per product; more than 1 takes more products in fewer calls.
        seed: of the random vectors.
        checkpoint: file that keeps the state, written every half minute and on interruption, whole
            or not at all. A call with the same arguments goes on from it, after one product that
            makes sure that the operator is the same. Removed once all pairs have converged; with a
            larger `max_products` an unconverged solve goes on.
        progress: show a progress bar in products.

    Cost: products, plus 6 D j multiplications in step j. Memory: 8 D times the number of products
    (0.7 GB for 600 products at D = 150,528).

    Raises:
        InputError: bad operator, k, which, tolerance, block, max_products or seed; a product with
            NaN; a checkpoint of another solve.
    """
    counted = CountedOperator(operator)
    d = counted.dimension
    share = 1.0
    if not getattr(operator, "linear", True):
        share = _NONLINEAR_SHARE if d > _AFFORDABLE else 0.0
    wanted = _Wanted(k, which, tolerance, share)
    wanted.check(d)
    check_at_least(1, block=block)
    check_at_least(0, seed=seed)
    limit = _limit(max_products, wanted.count, d)
    # Each search leaves one more vector pending.
    space = KrylovSpace(counted, limit, 2 * block + limit // _SEARCH_DEPTH + 1, seed)
    settings = f"D={d} {counted.dtype} k={k} which={which} {tolerance=} {block=} {seed=}"
    file = None if checkpoint is None else Checkpoint(Path(checkpoint), settings)
    ritz = _Solve(space, wanted, min(block, d), file, progress).run()
    positions = wanted.positions(len(ritz.values))
    pairs = _selected(space, ritz, wanted)
    warn_of_unconverged(pairs, tolerance, relative(ritz.inside[positions].max(), ritz.scale))
    return pairs


def all_eigenpairs(
    operator: Operator, tolerance: float = 1e-4, progress: bool = False
) -> EigenPairs:
    """All D eigenpairs, from the dense matrix: D products in blocks of identity columns.

    The matrix is symmetrised and decomposed in float64 by divide and conquer. Residuals are those
    of the matrix before symmetrisation: they contain asymmetry and rounding.

    Args:
        operator: (D, D) symmetric scipy LinearOperator or array, D at most 4,096.
        tolerance: of residuals relative to max|value|.
        progress: show a progress bar in products.

    Raises:
        InputError: bad operator or tolerance, D too large, a product with NaN.
    """
    counted = CountedOperator(operator)
    d = counted.dimension
    _check_tolerance(tolerance)
    check_full_spectrum(d)
    matrix = np.empty((d, d))
    with tqdm(total=d, desc="full spectrum", unit="product", disable=not progress) as bar:
        for start, block in counted.identity_products(_COLUMNS):
            matrix[:, start : start + block.shape[1]] = block
            bar.update(block.shape[1])
    values, vectors = eigh(
        (matrix + matrix.T) / 2, driver=eigh_driver(len(matrix)), overwrite_a=True
    )
    values, vectors = values[::-1], vectors[:, ::-1]
    scale = float(np.abs(values).max())
    norms = np.empty(d)
    for start in range(0, d, _COLUMNS):
        part = slice(start, start + _COLUMNS)
        remainder = matrix @ vectors[:, part] - vectors[:, part] * values[part]
        norms[part] = np.linalg.norm(remainder, axis=0)
    total = float(np.linalg.norm(matrix))
    matrix -= matrix.T.copy()
    asymmetry = relative(float(np.linalg.norm(matrix)), 2 * total)
    pairs = eigenpairs(values, vectors, norms, scale, tolerance, d, asymmetry)
    warn_of_unconverged(pairs, tolerance, float(pairs.residuals.max()))
    return pairs


def check_full_spectrum(dimension: int) -> None:
    """Raises an `InputError` where D is too large for all D directions."""
    if dimension > DENSE_DIMENSION:
        raise InputError(
            f"operator: the full spectrum takes dense matrices, which are supported up to "
            f"D = {DENSE_DIMENSION}, found D = {dimension}. Ask for the extreme pairs "
            "(extreme_eigenpairs), or for the density of the spectrum (spectral_density)."
        )


@dataclass(frozen=True)
class _Wanted:
    """What was asked for, and down to which share of a residual's inside its outside matters."""

    k: int
    which: End
    tolerance: float
    share: float

    @property
    def count(self) -> int:
        return 2 * self.k if self.which == "both" else self.k

    def check(self, dimension: int) -> None:
        if self.which not in get_args(End):
            raise InputError(f"which: expected one of {get_args(End)}, found {self.which!r}.")
        largest = dimension // 2 if self.which == "both" else dimension
        if not 1 <= self.k <= largest:
            raise InputError(
                f"k: expected 1 to {largest} pairs per end for which={self.which!r} and "
                f"D = {dimension}, found {self.k}. Ask for fewer, or for the full spectrum."
            )
        _check_tolerance(self.tolerance)

    def positions(self, size: int) -> NDArray[np.int64]:
        """Where the wanted pairs stand among `size` ascending ones, most positive first."""
        top = np.arange(size - 1, size - 1 - self.k, -1)
        bottom = np.arange(self.k - 1, -1, -1)
        if self.which == "both":
            return np.concatenate([top, bottom])
        return top if self.which == "positive" else bottom


@dataclass(frozen=True)
class _Solve:
    """Grows a Krylov space until the wanted pairs have converged, then searches for missed ones."""

    space: KrylovSpace
    wanted: _Wanted
    block: int
    file: Checkpoint | None
    progress: bool

    def run(self) -> RitzPairs:
        if self.file is not None:
            self.file.load_into(self.space)
        start = self.space.operator.products
        with tqdm(
            initial=start, desc="eigenpairs", unit="product", disable=not self.progress
        ) as bar:
            while True:
                ritz = self._converge(bar)
                if self.space.full:
                    break
                ritz = self._search(bar)
                if self._settled(ritz):
                    break
        if self.file is not None and self._converged(ritz):
            self.file.remove()
        return ritz

    def _converge(self, bar: Any) -> RitzPairs:
        """Adds blocks until more products would not help; leaves a checkpoint of the last state."""
        space = self.space
        try:
            while True:
                step = max(self.block, space.size // _CHECKS)
                if space.full or (
                    space.size >= self.wanted.count and space.size % step < self.block
                ):
                    ritz = space.ritz()
                    self._show(bar, ritz)
                    if space.full or self._settled(ritz):
                        return ritz
                space.extend(self.block)
                self._show(bar)
                if self.file is not None:
                    self.file.save_if_due(space)
        finally:
            if self.file is not None:
                self.file.save(space)

    def _search(self, bar: Any) -> RitzPairs:
        """Ritz pairs after a few products with a random vector of the complement.

        The vectors that were pending before come last: by rounding, a missed copy may have begun to
        grow in them, and the random vector, orthogonal to them, does not see it.

        No checkpoint on the way: an interrupted search is repeated from its start.
        """
        space = self.space
        space.draw_first()
        for step in range(_SEARCH_DEPTH):
            if space.full:
                break
            last = step == _SEARCH_DEPTH - 1
            space.extend(max(1, space.vectors - space.size) if last else 1)
            space.put_newest_first()
            self._show(bar)
        return space.ritz()

    def _converged(self, ritz: RitzPairs) -> bool:
        positions = self.wanted.positions(len(ritz.values))
        return bool((ritz.residuals[positions] <= self.wanted.tolerance * ritz.scale).all())

    def _settled(self, ritz: RitzPairs) -> bool:
        """Whether what is left of the residuals is below the tolerance, or mostly asymmetry."""
        positions = self.wanted.positions(len(ritz.values))
        inside = self.wanted.share * ritz.inside[positions]
        target = np.maximum(self.wanted.tolerance * ritz.scale, inside)
        return bool((ritz.outside[positions] <= target).all())

    def _show(self, bar: Any, ritz: RitzPairs | None = None) -> None:
        bar.update(self.space.operator.products - bar.n)
        if ritz is not None:
            positions = self.wanted.positions(len(ritz.values))
            done = ritz.residuals[positions] <= self.wanted.tolerance * ritz.scale
            bar.set_postfix_str(f"{int(done.sum())} of {len(done)} converged", refresh=False)


def _selected(space: KrylovSpace, ritz: RitzPairs, wanted: _Wanted) -> EigenPairs:
    positions = wanted.positions(len(ritz.values))
    return eigenpairs(
        ritz.values[positions],
        space.directions(ritz.coefficients[:, positions]),
        ritz.residuals[positions],
        ritz.scale,
        wanted.tolerance,
        space.operator.products,
        ritz.asymmetry,
    )


def _limit(max_products: int | None, pairs: int, dimension: int) -> int:
    if max_products is None:
        return min(dimension, max(_AFFORDABLE, 25 * pairs))
    if max_products < pairs:
        raise InputError(
            f"max_products: expected at least {pairs}, one per pair, found {max_products}."
        )
    return min(max_products, dimension)


def _check_tolerance(tolerance: float) -> None:
    if not 0 < tolerance < 1:
        raise InputError(
            f"tolerance: expected a relative residual between 0 and 1, found {tolerance}."
        )
