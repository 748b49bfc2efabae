"""Singular value decomposition of a matrix of normals that may be larger than the memory."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geomadv.errors import NO_BOUNDARY, InputError
from geomadv.linalg.blocks import Array, BlockReader
from geomadv.linalg.gram import (
    gram_matrix,
    leading_eigenpairs,
    orthonormalised,
    rayleigh_ritz,
)
from geomadv.linalg.randomized import krylov_basis
from geomadv.linalg.vectors import fix_sign
from geomadv.progress import tqdm

Method = Literal["auto", "exact", "covariance", "gram", "randomized"]

# Up to this many rows or columns LAPACK's SVD in float64 takes about a second.
_EXACT_SIDE = 512

# Vectors beyond the rank that take part in the Rayleigh-Ritz step.
_MORE_SHARE, _MORE = 1.25, 20


@dataclass(frozen=True)
class NormalSVD:
    """Leading singular values and right singular vectors of a matrix of normals (about the origin).

    `error_bound` bounds the absolute error of every entry of `singular_values`. For an orthonormal
    X with Ritz values Theta of G = A^T A (or A A^T), k eigenvalues of G lie within the norm of the
    residual R = G X - X Theta of the k Ritz values (Kahan 1967; Parlett, The Symmetric Eigenvalue
    Problem, theorem 11.5.1). R is computed from the rows themselves, not from the Gram matrix, so
    that its rounding is included, and |s^2 - t^2| <= r gives |s - t| <= min(r / s_k, sqrt(r)). To
    this the rounding of the last products is added, eps s_1 for eps of the rows' dtype. Method
    "exact" has LAPACK's backward error, eps s_1 sqrt(N D). Typically the true errors are smaller
    by orders of magnitude, because those of Ritz values are quadratic in R. For "randomized" the
    bound says that such singular values exist; only further Krylov steps could show that none
    larger was missed.
    """

    singular_values: Tensor
    """(k,) float64, descending."""
    directions: Tensor
    """(D, k) orthonormal columns in the dtype of the rows, largest component positive."""
    spectrum: Tensor | None
    """(min(N, D),) float64, descending; None for "randomized". Values below about sqrt(eps) s_1
    (eps of the rows' dtype) are rounding noise unless the method is "exact"."""
    energy: float
    """Sum of all squared singular values: the squared Frobenius norm of the rows."""
    error_bound: float
    """Bound on the absolute error of each of `singular_values`."""
    method: str
    """"exact", "covariance", "gram" or "randomized"."""
    rows: int
    """Rows decomposed."""
    skipped: int
    """Rows left out because they contain NaN."""

    def __repr__(self) -> str:
        s, dimension = self.singular_values, len(self.directions)
        return (
            f"NormalSVD(rank {len(s)} of {self.rows} rows in R^{dimension}, {self.skipped} skipped"
            f", singular values {float(s[0]):.3g} to {float(s[-1]):.3g} within "
            f"{self.error_bound:.1g}, {self.method})"
        )

    @property
    def effective_rank(self) -> float:
        """Exponential of the entropy of s^2 / sum s^2 (Roy and Vetterli, EUSIPCO 2007, with s^2).

        Raises:
            InputError: the full spectrum is not known.
        """
        share = self._full_spectrum("effective_rank") ** 2 / self.energy
        return float(torch.special.entr(share).sum().exp())

    @property
    def participation_ratio(self) -> float:
        """(sum s^2)^2 / sum s^4: the number of equal singular values with the same concentration.

        Raises:
            InputError: the full spectrum is not known.
        """
        return self.energy**2 / float((self._full_spectrum("participation_ratio") ** 4).sum())

    def energy_dimensions(self, shares: Sequence[float] = (0.5, 0.9, 0.99)) -> dict[float, int]:
        """For each share, the smallest number of directions that hold it of the energy.

        Raises:
            InputError: a share outside (0, 1], or one that the known singular values do not reach.
        """
        values = self.singular_values if self.spectrum is None else self.spectrum
        held = (values**2).cumsum(0) / self.energy
        # The sum of the spectrum and the energy differ by rounding; all directions hold all.
        if self.spectrum is not None:
            held = held / held[-1]
        found = {}
        for share in shares:
            if not 0 < share <= 1 or share > held[-1]:
                raise InputError(
                    f"shares: expected numbers in (0, {min(1.0, float(held[-1])):.4g}], the energy "
                    f"of the {len(values)} known singular values, found {share}. "
                    "Ask for a smaller share, or decompose with a larger rank."
                )
            found[share] = int((held < share).sum()) + 1
        return found

    def _full_spectrum(self, name: str) -> Tensor:
        if self.spectrum is None:
            raise InputError(
                f"{name}: needs all singular values, but method 'randomized' computes the leading "
                f"{len(self.singular_values)} only. Use another method, with a larger memory."
            )
        return self.spectrum


def normal_svd(
    rows: Tensor | NDArray[np.floating] | h5py.Dataset,
    rank: int = 100,
    method: Method = "auto",
    memory: int = 1 << 30,
    seed: int = 0,
    progress: bool = False,
    fewer: bool = False,
) -> NormalSVD:
    """Leading right singular vectors of unit normals; no mean is subtracted.

    The methods are "exact" (LAPACK on the whole matrix, float64), "covariance" (eigenvectors of the
    (D, D) matrix A^T A, from blocks of rows), "gram" (of the (N, N) matrix A A^T, from blocks of
    columns, in two passes over the file) and "randomized" (block Krylov, up to seven passes).
    "auto" takes "exact" where the shorter side is at most 512, else the smaller of the two Gram
    matrices, and "randomized" only where that does not fit the memory. The field `method` tells.

    Products of float32 rows are computed in float32 and summed in float64 every 8192 terms; the
    leading pairs are then improved by a Rayleigh-Ritz step on the rows themselves.

    Args:
        rows: (N, D) floating-point tensor, array or h5py.Dataset; a dataset is read in blocks.
            Rows that contain NaN (points without a normal) are skipped, counted and warned of.
        rank: number k of directions, at most min(N, D) without the skipped rows.
        method: see above.
        memory: bytes for working arrays, beside rows that are in memory already.
        seed: for "randomized".
        progress: show a progress bar.
        fewer: where the rank is larger than that, take as many directions as there are.

    Cost: N D min(N, D) multiplications for the Gram matrix (half of a plain product), about
    2/3 min(N, D)^3 for its spectrum, 4 N D k for the last pass.

    Raises:
        InputError: bad shape or dtype, rank < 1 or (unless `fewer`) too large, unknown method,
            infinite values, only NaN rows, method "exact" on a dataset that does not fit the
            memory.
    """
    if method not in get_args(Method):
        raise InputError(f"method: expected one of {get_args(Method)}, found {method!r}.")
    reader = BlockReader(rows, memory // 2)
    job = _Job(reader, rank, memory, seed, progress, fewer)
    job.known_rank()
    chosen = _choose(reader, memory) if method == "auto" else method
    if chosen == "exact":
        _check_exact(rows, reader, memory)
        result = job.exact()
    elif chosen == "covariance":
        result = job.covariance()
    elif chosen == "gram":
        result = job.gram()
    else:
        result = job.randomized()
    if result.skipped > 0:
        warnings.warn(
            f"normal_svd skipped {result.skipped} of {reader.shape[0]} rows that contain NaN "
            "(points without a normal).",
            stacklevel=2,
        )
    return result


def _check_rank(rank: int, reader: BlockReader) -> None:
    n, d = reader.count, reader.shape[1]
    if n == 0:
        raise InputError(
            f"rows: all {reader.shape[0]} rows contain NaN, expected at least one normal. "
            f"{NO_BOUNDARY}"
        )
    if not 1 <= rank <= min(n, d):
        raise InputError(
            f"rank: expected 1 to {min(n, d)}, the smaller of {n} rows without NaN and {d} "
            f"columns, found {rank}. Ask for a smaller rank or collect more normals."
        )


def _choose(reader: BlockReader, memory: int) -> Method:
    """The method for "auto"."""
    n, d = reader.shape
    if min(n, d) <= _EXACT_SIDE and 3 * 8 * n * d <= memory:
        return "exact"
    # The float64 total, one product in the rows' dtype, and LAPACK's copy without a row.
    side = min(n, d)
    if (16 + reader.dtype.itemsize) * side**2 > memory:
        return "randomized"
    return "covariance" if d <= n else "gram"


def _check_exact(rows: object, reader: BlockReader, memory: int) -> None:
    needed = 3 * 8 * reader.shape[0] * reader.shape[1]
    if isinstance(rows, h5py.Dataset) and needed > memory:
        raise InputError(
            f"method: 'exact' reads the whole dataset and needs {needed / 2**30:.1f} GiB, found "
            f"memory={memory / 2**30:.1f} GiB. Use method='auto' or a larger memory."
        )


@dataclass(frozen=True)
class _Job:
    """One decomposition: what all methods share."""

    reader: BlockReader
    rank: int
    memory: int
    seed: int
    progress: bool
    fewer: bool

    def known_rank(self) -> int:
        """Directions to be found, as far as the rows that have been read tell.

        Raises:
            InputError: more than there are are wanted, or there are no rows.
        """
        n, d = self.reader.count, self.reader.shape[1]
        if n > 0 and self.fewer and self.rank >= 1:
            return min(self.rank, n, d)
        _check_rank(self.rank, self.reader)
        return self.rank

    def exact(self) -> NormalSVD:
        matrix = np.concatenate(list(self._rows("reading"))).astype(np.float64)
        rank = self.known_rank()
        _, values, right = np.linalg.svd(matrix, full_matrices=False)
        bound = np.finfo(np.float64).eps * values[0] * np.sqrt(matrix.size)
        energy = float(np.vdot(matrix, matrix))
        return self._result(values[:rank], right[:rank].T, values, energy, float(bound), "exact")

    def covariance(self) -> NormalSVD:
        matrix = gram_matrix(self._rows("covariance"), self.reader.shape[1])
        rank = self.known_rank()
        energy = float(matrix.trace())
        eigenvalues, vectors = self._eigenpairs(matrix, rank)
        del matrix
        ritz, rotation, residual = rayleigh_ritz(self._rows("directions"), vectors, rank)
        bound = self._bound(ritz, residual)
        spectrum = self._spectrum(eigenvalues)
        return self._result(_roots(ritz), vectors @ rotation, spectrum, energy, bound, "covariance")

    def gram(self) -> NormalSVD:
        matrix = gram_matrix(self._columns("Gram matrix"), self.reader.shape[0])
        self.reader.skip_rows(matrix.diagonal())
        rank = self.known_rank()
        if not self.reader.keep.all():
            matrix = matrix[np.ix_(self.reader.keep, self.reader.keep)]
        energy = float(matrix.trace())
        eigenvalues, vectors = self._eigenpairs(matrix, rank)
        del matrix
        image: list[Array] = []
        ritz, rotation, residual = rayleigh_ritz(
            self._columns("directions"), vectors, rank, image.append
        )
        # No division by the singular values: the columns stay orthonormal where those are tiny.
        directions = orthonormalised(np.concatenate(image).astype(np.float64) @ rotation)
        bound = self._bound(ritz, residual)
        spectrum = self._spectrum(eigenvalues)
        return self._result(_roots(ritz), directions, spectrum, energy, bound, "gram")

    def randomized(self) -> NormalSVD:
        n = self.reader.shape[1]
        basis = krylov_basis(self._rows, n, self.known_rank(), self.memory // 2, self.seed)
        rank = self.known_rank()
        squares = []

        def counted() -> Iterator[Array]:
            for block in self._rows("directions"):
                squares.append(np.einsum("ij,ij->i", block, block).sum(dtype=np.float64))
                yield block

        ritz, rotation, residual = rayleigh_ritz(counted(), basis, rank)
        bound = self._bound(ritz, residual)
        energy = float(np.sum(squares))
        return self._result(_roots(ritz), basis @ rotation, None, energy, bound, "randomized")

    def _rows(self, name: str) -> Iterable[Array]:
        count, blocks = self.reader.rows()
        shown: Iterable[Array] = tqdm(blocks, desc=name, total=count, disable=not self.progress)
        return shown

    def _columns(self, name: str) -> Iterable[Array]:
        """Blocks of columns, transposed: the rows of A^T."""
        count, blocks = self.reader.columns()
        for block in tqdm(blocks, desc=name, total=count, disable=not self.progress):
            yield block.T

    def _eigenpairs(self, matrix: Array, rank: int) -> tuple[Array, Array]:
        """All eigenvalues, and more eigenvectors than wanted, for the Rayleigh-Ritz step.

        Float32 rows give a Gram matrix with float32 errors: eigenvectors computed in float32 add
        errors of the same size outside their span, about eps lambda_1 / (lambda_k - lambda_m) for
        m vectors. The further vectors make that gap wide.
        """
        more = min(len(matrix), int(_MORE_SHARE * rank) + _MORE)
        precision = np.float32 if self.reader.dtype == np.float32 else np.float64
        return leading_eigenpairs(matrix, more, precision)

    def _bound(self, ritz: Array, residual: float) -> float:
        """The error bound derived in `NormalSVD`."""
        values = _roots(ritz)
        quotient = residual / values[-1] if values[-1] > 0 else np.inf
        rounding = np.finfo(self.reader.dtype).eps * values[0]
        return float(min(quotient, np.sqrt(residual)) + rounding)

    def _spectrum(self, eigenvalues: Array) -> Array:
        """Singular values of the good rows: min(N, D) of them."""
        return _roots(eigenvalues)[: min(self.reader.count, self.reader.shape[1])]

    def _result(
        self,
        values: Array,
        directions: Array,
        spectrum: Array | None,
        energy: float,
        bound: float,
        method: str,
    ) -> NormalSVD:
        return NormalSVD(
            singular_values=torch.tensor(values, dtype=torch.float64),
            directions=fix_sign(torch.tensor(directions.astype(self.reader.dtype))),
            spectrum=None if spectrum is None else torch.tensor(spectrum, dtype=torch.float64),
            energy=energy,
            error_bound=bound,
            method=method,
            rows=self.reader.count,
            skipped=self.reader.shape[0] - self.reader.count,
        )


def _roots(eigenvalues: Array) -> Array:
    """Singular values from eigenvalues; negative ones are zeros plus rounding."""
    return np.sqrt(np.maximum(eigenvalues, 0.0))
