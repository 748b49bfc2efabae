"""Linear subspaces of image space: projection, coordinates, angles and random directions."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geomadv.errors import InputError
from geomadv.linalg.orthonormal import orthonormal_columns

Vectors = TypeVar("Vectors", Tensor, NDArray[np.floating])


class Subspace:
    """The span of some directions of R^D, with an orthonormal basis in their order.

    The span of the first j basis columns is the span of the first corresponding input columns,
    so that `leading(d)` of stacked directions means what it says. A column is dropped as dependent
    if, scaled to norm 1, less than 100 sqrt(m) eps of it lies outside the span of the columns
    before it (eps of the input dtype; zero columns always): rounding of the input, with room for
    columns in front of it that are ill-conditioned. The work is done in float64.

    Args:
        directions: (D, m) floating-point tensor or array, one direction per column, any norms.
        dtype: of the basis; default that of the directions.

    Raises:
        InputError: no columns, NaN or infinite entries, only zero columns, or not two-dimensional.
    """

    def __init__(
        self, directions: Tensor | NDArray[np.floating], dtype: torch.dtype | None = None
    ) -> None:
        columns = _as_columns(directions)
        tolerance = 100 * columns.shape[1] ** 0.5 * torch.finfo(columns.dtype).eps
        basis, origin = orthonormal_columns(columns.detach().double(), tolerance)
        if basis.shape[1] == 0:
            raise InputError(
                f"directions: all {columns.shape[1]} columns are zero, expected at least one "
                "direction. Remove zero rows or columns before building a subspace."
            )
        self._basis, self._origin = basis.to(dtype or columns.dtype), origin

    @classmethod
    def _of_basis(cls, basis: Tensor, origin: Tensor | None = None) -> Subspace:
        """A subspace whose basis is orthonormal already; by default it is its own origin."""
        subspace = cls.__new__(cls)
        subspace._basis = basis
        if origin is None:
            origin = torch.arange(basis.shape[1], device=basis.device)
        subspace._origin = origin
        return subspace

    def __repr__(self) -> str:
        return (
            f"Subspace(dimension={self.dimension}, ambient_dimension={self.ambient_dimension}, "
            f"dtype={self._basis.dtype}, device={self._basis.device})"
        )

    @property
    def basis(self) -> Tensor:
        """(D, d) tensor with orthonormal columns."""
        return self._basis

    @property
    def dimension(self) -> int:
        """Number d of independent directions."""
        return self._basis.shape[1]

    @property
    def ambient_dimension(self) -> int:
        """Number D of coordinates of the surrounding space."""
        return self._basis.shape[0]

    @property
    def origin(self) -> Tensor:
        """(d,) int64 number of the direction that each basis column comes from, ascending."""
        return self._origin

    def coordinates(self, x: Vectors) -> Vectors:
        """Coordinates Q^T x in the basis: (d,) for x of shape (D,), else (N, d).

        Args:
            x: (D,), (N, D) or (N, C, H, W) tensor or array with C H W = D.

        Raises:
            InputError: another shape.
        """
        vectors = self._vectors(x)
        coordinates = vectors @ self._basis.to(vectors.dtype)
        return _like(coordinates[0] if x.ndim == 1 else coordinates, x)

    def project(self, x: Vectors) -> Vectors:
        """Orthogonal projection Q Q^T x, in the shape and kind (tensor or array) of `x`.

        Args:
            x: (D,), (N, D) or (N, C, H, W) tensor or array with C H W = D.

        Raises:
            InputError: another shape.
        """
        vectors = self._vectors(x)
        basis = self._basis.to(vectors.dtype)
        return _like(((vectors @ basis) @ basis.T).reshape(tuple(x.shape)), x)

    def norm_fraction(self, x: Vectors) -> Vectors:
        """Share ||Q^T x|| / ||x|| of each vector's norm inside the subspace, between 0 and 1.

        A zero vector has no direction: its share is NaN.

        Args:
            x: (D,), (N, D) or (N, C, H, W) tensor or array with C H W = D.

        Returns:
            (N,) shares, or a scalar for a single vector.

        Raises:
            InputError: another shape.
        """
        vectors = self._vectors(x)
        inside = torch.linalg.vector_norm(vectors @ self._basis.to(vectors.dtype), dim=1)
        share = (inside / torch.linalg.vector_norm(vectors, dim=1)).clamp(max=1.0)
        return _like(share[0] if x.ndim == 1 else share, x)

    def leading(self, d: int) -> Subspace:
        """The subspace of the first `d` basis columns, a view: nothing is recomputed.

        Raises:
            InputError: `d` is not between 1 and the dimension.
        """
        if not 1 <= d <= self.dimension:
            raise InputError(
                f"d: expected 1 to {self.dimension}, the dimension of this subspace, found {d}. "
                "Give more directions, or ask for fewer dimensions."
            )
        return Subspace._of_basis(self._basis[:, :d], self._origin[:d])

    def complement_sample(self, d: int, seed: int = 0) -> Subspace:
        """`d` orthonormal directions, uniformly distributed in the orthogonal complement.

        Gaussian columns, projected on the complement and orthonormalised by QR with a positive
        diagonal of R, are Haar-distributed (Mezzadri, Notices of the AMS 54, 2007, section 5).

        Raises:
            InputError: `d` < 1 or larger than D - dimension.
        """
        room = self.ambient_dimension - self.dimension
        if not 1 <= d <= room:
            raise InputError(
                f"d: expected 1 to {room}, the dimension of the complement of {self.dimension} "
                f"directions in R^{self.ambient_dimension}, found {d}. Ask for fewer directions."
            )
        basis = self._basis.double()
        columns = _gaussian((self.ambient_dimension, d), seed).to(basis.device)
        # Once for the component, once for the rounding of the stored basis and of the first pass.
        for _ in range(2):
            columns -= basis @ (basis.T @ columns)
        q = torch.linalg.qr(columns)[0]
        q -= basis @ (basis.T @ q)
        q = torch.linalg.qr(q)[0]
        # QR leaves signs open: each direction follows its Gaussian column.
        q *= torch.where(torch.einsum("ij,ij->j", q, columns) < 0, -1.0, 1.0)
        return Subspace._of_basis(q.to(self._basis.dtype))

    def random_unit(self, n: int, seed: int = 0) -> Tensor:
        """(n, D) unit vectors, independent and uniform on the unit sphere of the subspace.

        Raises:
            InputError: `n` < 1.
        """
        if n < 1:
            raise InputError(f"n: expected at least 1 vector, found {n}.")
        coordinates = _gaussian((n, self.dimension), seed).to(self._basis.device)
        vectors = coordinates @ self._basis.double().T
        return torch.nn.functional.normalize(vectors, dim=1, eps=0.0).to(self._basis.dtype)

    def principal_angles(self, other: Subspace) -> Tensor:
        """The min(d, d') principal angles to another subspace, radians in float64, ascending.

        Angles below 45 degrees come from their sines, the others from their cosines, so that tiny
        ones and those near pi/2 keep their digits (Björck and Golub, Mathematics of Computation
        27, 1973). What remains is the rounding of the stored bases, about eps of their dtype.

        Raises:
            InputError: `other` lives in a space of another dimension.
        """
        if other.ambient_dimension != self.ambient_dimension:
            raise InputError(
                f"other: expected a subspace of R^{self.ambient_dimension}, found one of "
                f"R^{other.ambient_dimension}. Compare directions of the same image size."
            )
        small, large = sorted((self, other), key=lambda subspace: subspace.dimension)
        # A float32 basis is orthonormal to 1e-7 only; QR restores that in float64.
        q = torch.linalg.qr(large._basis.double())[0]
        p = torch.linalg.qr(small._basis.to(large._basis.device).double())[0]
        overlap = q.T @ p
        cosines = torch.linalg.svdvals(overlap).clamp(max=1.0)
        sines = torch.linalg.svdvals(p - q @ overlap).clamp(max=1.0).flip(0)
        return torch.where(sines**2 < 0.5, sines.arcsin(), cosines.arccos())

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Subspace:
        """The same subspace with its basis on another device or in another floating dtype."""
        basis = self._basis.to(
            device=device or self._basis.device, dtype=dtype or self._basis.dtype
        )
        return Subspace._of_basis(basis, self._origin.to(basis.device))

    def _vectors(self, x: Tensor | NDArray[np.floating]) -> Tensor:
        """`x` as an (N, D) tensor on the basis' device, in the wider dtype of the two."""
        tensor = x if isinstance(x, Tensor) else torch.from_numpy(np.ascontiguousarray(x))
        found = tensor.shape[1:].numel() if tensor.ndim > 1 else tensor.numel()
        if tensor.ndim not in (1, 2, 4) or found != self.ambient_dimension:
            raise InputError(
                f"x: expected shape (D,), (N, D) or (N, C, H, W) with D = C H W = "
                f"{self.ambient_dimension}, found {tuple(x.shape)}. Flatten or reshape the vectors "
                "to the image size that the subspace was made from."
            )
        vectors = tensor.reshape(-1, self.ambient_dimension)
        return vectors.to(self._basis.device, torch.promote_types(tensor.dtype, self._basis.dtype))


def _like(result: Tensor, x: Vectors) -> Vectors:
    """`result` as a tensor or an array, whichever `x` is."""
    if isinstance(x, Tensor):
        return result
    array: NDArray[np.floating] = result.detach().cpu().numpy()
    return array


def _gaussian(shape: tuple[int, int], seed: int) -> Tensor:
    """Standard normal float64 numbers, the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _as_columns(directions: Tensor | NDArray[np.floating]) -> Tensor:
    """The directions as a checked floating-point (D, m) tensor."""
    columns = directions if isinstance(directions, Tensor) else torch.as_tensor(directions)
    if columns.ndim != 2 or 0 in columns.shape:
        raise InputError(
            f"directions: expected shape (D, m) with at least one direction per column, found "
            f"{tuple(columns.shape)}. Pass a single direction as directions[:, None]."
        )
    if not columns.is_floating_point():
        raise InputError(
            f"directions: expected a floating-point dtype, found {columns.dtype}. "
            "Convert with directions.astype(float) or directions.double()."
        )
    finite = columns.isfinite().all(dim=0)
    if not finite.all():
        raise InputError(
            f"directions: {int((~finite).sum())} of {len(finite)} columns contain NaN or infinite "
            "values, expected finite numbers. Leave out samples without a direction."
        )
    return columns
