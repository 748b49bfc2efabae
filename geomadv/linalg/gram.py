"""Eigenpairs of A^T A from blocks of A: products, one tridiagonalisation, Rayleigh-Ritz."""

from collections.abc import Callable, Iterable

import numpy as np
from scipy.linalg import cholesky, eigh, eigh_tridiagonal, lapack, solve_triangular

from geomadv.linalg.blocks import Array, pieces
from geomadv.linalg.operators import eigh_driver

# Above this share of all eigenvectors, divide and conquer on the whole matrix is faster.
_SUBSET = 0.25

# Largest inner product of unit columns at which Cholesky QR loses nothing worth mentioning.
_NEARLY_ORTHOGONAL = 1e-3


def gram_matrix(blocks: Iterable[Array], n: int) -> Array:
    """Sum of B^T B over blocks B of shape (b, n), as a float64 (n, n) array.

    Products of at most 8192 rows in the blocks' own precision (`a.T @ a` uses the symmetric half
    only), summed in float64. A NaN in column j of some block reaches row and column j only.
    """
    total = np.zeros((n, n))
    product: Array | None = None
    for block in blocks:
        for piece in pieces(block):
            if product is None:
                product = np.empty((n, n), dtype=block.dtype)
            np.matmul(piece.T, piece, out=product)
            total += product
    return total


def leading_eigenpairs(matrix: Array, k: int, precision: type = np.float64) -> tuple[Array, Array]:
    """All eigenvalues and the eigenvectors of the `k` largest, of a symmetric matrix.

    One reduction to tridiagonal form gives both: all eigenvalues by the QR iteration (sterf), k
    vectors by relatively robust representations (stemr), transformed back with the reflectors.
    Half of the reduction is bound by the memory's speed, so in float32 it takes half the time; a
    Rayleigh-Ritz step on some more vectors than wanted then restores the leading pairs.

    Args:
        matrix: (n, n) symmetric float64 array; overwritten.
        k: number of eigenvectors, 1 to n.
        precision: np.float64, or np.float32 for the reduction in float32.

    Returns:
        (n,) eigenvalues and (n, k) orthonormal float64 eigenvectors, largest eigenvalue first.
    """
    n = len(matrix)
    if k > _SUBSET * n:
        found = eigh(matrix, overwrite_a=True, check_finite=False, driver=eigh_driver(len(matrix)))
        return found[0][::-1], np.ascontiguousarray(found[1][:, : -k - 1 : -1])
    reduce, rotate = (
        (lapack.ssytrd, lapack.sormqr)
        if precision is np.float32
        else (lapack.dsytrd, lapack.dormqr)
    )
    # The transpose of a symmetric C-ordered array is the same matrix in Fortran order: no copy.
    reduced, diagonal, off_diagonal, tau, _ = reduce(
        matrix.astype(precision, copy=False).T, lower=1, lwork=64 * n, overwrite_a=1
    )
    diagonal, off_diagonal = diagonal.astype(np.float64), off_diagonal.astype(np.float64)
    values = eigh_tridiagonal(diagonal, off_diagonal, eigvals_only=True, lapack_driver="sterf")
    vectors = eigh_tridiagonal(
        diagonal,
        off_diagonal,
        select="i",
        select_range=(n - k, n - 1),
        lapack_driver="stemr",
    )[1]
    # The reflectors act on all coordinates but the first (LAPACK Users' Guide, xORMTR).
    rest = vectors[1:].astype(precision)
    vectors[1:] = rotate("L", "N", reduced[1:, :-1], tau, rest, lwork=64 * k)[0]
    if precision is not np.float64:
        vectors = np.linalg.qr(vectors[:, ::-1])[0]
        return values[::-1], vectors
    return values[::-1], np.ascontiguousarray(vectors[:, ::-1])


def orthonormalised(columns: Array) -> Array:
    """Orthonormal columns with the same leading spans, from nearly orthogonal float64 columns.

    Cholesky QR, whose error is the square of the condition number of the scaled columns times
    rounding: near 1 here. Where columns vanish or depend on each other, Householder QR.
    """
    lengths = np.linalg.norm(columns, axis=0)
    if lengths.min() > 0:
        scaled = columns / lengths
        product = scaled.T @ scaled
        if np.abs(product - np.eye(len(product))).max() < _NEARLY_ORTHOGONAL:
            factor = cholesky(product, lower=False)
            return np.asarray(solve_triangular(factor, scaled.T, trans="T").T)
    q, r = np.linalg.qr(columns)
    return np.asarray(q * np.where(r.diagonal() < 0, -1.0, 1.0))


def rayleigh_ritz(
    blocks: Iterable[Array], basis: Array, k: int, store: Callable[[Array], None] | None = None
) -> tuple[Array, Array, float]:
    """Ritz pairs of G = sum of B^T B over blocks B in the span of `basis`, with their residual.

    Args:
        blocks: (b, n) arrays that together form the matrix.
        basis: (n, m) orthonormal float64 columns.
        k: pairs wanted, at most m.
        store: called with every product B @ basis, in order.

    Returns:
        (k,) Ritz values, largest first; the (m, k) rotation Y that turns the basis into the Ritz
        vectors; and the spectral norm of G X - X Theta for X = basis @ Y.
    """
    m = basis.shape[1]
    projected = np.zeros((m, m))
    image = np.zeros(basis.shape)
    rounded: Array | None = None
    for block in blocks:
        for piece in pieces(block):
            rounded = basis.astype(piece.dtype, copy=False) if rounded is None else rounded
            product = piece @ rounded
            image += piece.T @ product
            if store is not None:
                store(product)
            wide = product.astype(np.float64, copy=False)
            projected += wide.T @ wide
    ascending, vectors = np.linalg.eigh(projected)
    values: Array = ascending[: -k - 1 : -1]
    rotation: Array = vectors[:, : -k - 1 : -1]
    residual = image @ rotation - (basis @ rotation) * values
    return values, rotation, float(np.linalg.norm(np.linalg.qr(residual, mode="r"), 2))
