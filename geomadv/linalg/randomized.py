"""Randomised block Krylov: leading directions when no Gram matrix fits in memory."""

from collections.abc import Callable, Iterable

import numpy as np

from geomadv.linalg.blocks import Array, pieces

# Extra columns beyond the rank, and largest number of products with A^T A: a spectrum of normals
# decays slowly, so that the usual 10 columns and 2 to 7 power steps of randomised methods leave
# errors of 1 % (scikit-learn's `randomized_svd`, measured on 10,000 x 3,072 normals).
_OVERSAMPLING = 0.5
_DEPTH = 6


def krylov_basis(
    read: Callable[[str], Iterable[Array]], n: int, k: int, memory: int, seed: int
) -> Array:
    """Orthonormal basis of the block Krylov space of A^T A on Gaussian columns.

    Musco and Musco, "Randomized block Krylov methods for stronger and faster approximate singular
    value decomposition" (NeurIPS 2015), algorithm 2, with every new block orthogonalised against
    all earlier ones in float64.

    Args:
        read: gives the blocks (b, n) of A for one pass, with the name of the pass.
        n: columns of A.
        k: directions wanted.
        memory: bytes; limits the depth (at least one product is made).
        seed: of the Gaussian start.

    Returns:
        (n, m) basis, k <= m <= n.
    """
    width = min(n, k + max(10, int(_OVERSAMPLING * k)))
    # Basis, its image in the Rayleigh-Ritz step, and one more copy there.
    depth = int(np.clip(memory // (3 * 8 * n * width) - 1, 1, _DEPTH))
    start = np.random.default_rng(seed).standard_normal((n, width))
    basis = np.linalg.qr(start)[0]
    newest = basis
    for step in range(depth):
        image = _apply(read(f"Krylov step {step + 1} of {depth}"), newest)
        room = n - basis.shape[1]
        if room == 0:
            break
        # Twice is enough (Kahan and Parlett), with a QR between that brings back the scale.
        for _ in range(2):
            image = np.linalg.qr(image - basis @ (basis.T @ image))[0]
        newest = np.linalg.qr(image[:, :room])[0]
        basis = np.hstack([basis, newest])
    return np.linalg.qr(basis)[0]


def _apply(blocks: Iterable[Array], columns: Array) -> Array:
    """A^T A @ columns in one pass over the blocks of A."""
    image = np.zeros(columns.shape)
    rounded: Array | None = None
    for block in blocks:
        for piece in pieces(block):
            rounded = columns.astype(piece.dtype, copy=False) if rounded is None else rounded
            image += piece.T @ (piece @ rounded)
    return image
