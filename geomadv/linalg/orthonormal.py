"""Orthonormal bases in order, with dependent columns left out."""

import torch
from torch import Tensor

# Columns orthonormalised together: wide enough for BLAS-3, narrow enough that the QR of one block
# stays small beside the projection on the basis found so far.
_BLOCK = 64

# From so many numbers on, Cholesky QR takes a fraction of the time and memory of Householder QR.
# Where the smallest eigenvalue of the unit columns' products exceeds the second number, it loses
# a digit or two at most, and no column is near to a dependent one.
_MANY, _WELL_CONDITIONED = 1 << 24, 0.1


def orthonormal_columns(columns: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """Orthonormal basis of the span of (D, m) float64 `columns`, in their order.

    Householder QR up to the first dependent column, which ends what QR can tell (Cholesky QR where
    columns are many and far from dependent: the same basis to rounding). From there on
    block classical Gram-Schmidt with reorthogonalisation (Barlow and Smoktunowicz, Numerische
    Mathematik 123, 2013): each block is projected off the basis so far and factored by QR, twice.
    A column of which less than `tolerance` (relative to its norm) remains is dropped; each basis
    vector has a positive product with the column that it comes from.

    Args:
        columns: (D, m) finite float64 tensor; not changed.
        tolerance: relative norm below which a remainder counts as zero.

    Returns:
        (D, d) tensor with d <= min(D, m) orthonormal columns, and the numbers (d,) of the columns
        that they come from, ascending.
    """
    # Scaling by the largest entry first keeps the norms of very small and large columns finite.
    scale = columns.abs().amax(dim=0)
    numbers = (scale > 0).nonzero().flatten()
    if len(numbers) < len(scale):
        columns, scale = columns[:, numbers], scale[numbers]
    columns = columns / scale
    columns /= torch.linalg.vector_norm(columns, dim=0)
    d, m = columns.shape
    first = _independent(columns[:, :d], tolerance)
    kept = start = first.shape[1]
    if kept == min(d, m):
        return first.contiguous(), numbers[:kept]
    basis = columns.new_empty(min(d, m), d).T
    origin = numbers.new_empty(min(d, m))
    basis[:, :kept], origin[:kept] = first, numbers[:kept]
    while start < m and kept < d:
        stop = min(start + _BLOCK, start + d - kept, m)
        block, positions, used = _next_block(basis[:, :kept], columns[:, start:stop], tolerance)
        fresh = slice(kept, kept + block.shape[1])
        basis[:, fresh], origin[fresh] = block, numbers[start + positions]
        kept += block.shape[1]
        start += used
    return basis[:, :kept].clone(memory_format=torch.contiguous_format), origin[:kept]


def _independent(columns: Tensor, tolerance: float) -> Tensor:
    """Orthonormal vectors (D, k) of the unit columns (D, m) before the first dependent one."""
    if columns.numel() >= _MANY:
        product = columns.T @ columns
        if float(torch.linalg.eigvalsh(product)[0]) > _WELL_CONDITIONED:
            # Times the inverse: the product keeps the order of rows, where solving would turn it.
            inverse = torch.linalg.inv(torch.linalg.cholesky(product, upper=True))
            basis: Tensor = columns @ inverse
            return basis
    q, r = torch.linalg.qr(columns)
    remains = r.diagonal()
    small = (remains.abs() < tolerance).nonzero().flatten()
    k = int(small[0]) if len(small) > 0 else len(remains)
    aligned: Tensor = q[:, :k].mul_(torch.where(remains[:k] < 0, -1.0, 1.0))
    return aligned


def _next_block(basis: Tensor, columns: Tensor, tolerance: float) -> tuple[Tensor, Tensor, int]:
    """Orthonormal vectors that extend `basis`, which columns they are, how many were dealt with."""
    remainder = columns - basis @ (basis.T @ columns)
    independent = torch.linalg.vector_norm(remainder, dim=0) >= tolerance
    positions = independent.nonzero().flatten()
    q, r = torch.linalg.qr(remainder[:, independent])
    small = (r.diagonal().abs() < tolerance).nonzero().flatten()
    used = columns.shape[1]
    if len(small) > 0:
        # Behind a dependent column QR continues with an arbitrary vector: stop in front of it.
        first = int(small[0])
        q, used = q[:, :first], int(positions[first]) + 1
        remainder, independent = remainder[:, :used], independent[:used]
        positions = positions[:first]
    q = torch.linalg.qr(q - basis @ (basis.T @ q))[0]
    aligned = (q * columns[:, positions]).sum(dim=0)
    return q * torch.where(aligned < 0, -1.0, 1.0), positions, used
