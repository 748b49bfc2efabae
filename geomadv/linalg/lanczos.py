"""One Krylov space with full reorthogonalisation, and Ritz pairs with residuals for both ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh, qr

from geomadv.linalg.operators import Array, CountedOperator, eigh_driver

# A remainder below this many rounding errors of the operator is noise: the space is invariant.
_NOISE = 32


@dataclass(frozen=True)
class RitzPairs:
    """All Ritz pairs of a Krylov space, ascending.

    For a Ritz vector x with value t, A x - t x has one part inside the space and one outside. The
    inside part is zero for a symmetric A: it is the antisymmetric part of A applied to x, which a
    larger space does not reduce.

    Attributes:
        values: (m,) eigenvalues of the symmetric part of the projected operator.
        coefficients: (m, m) Ritz vectors in the basis, one per column.
        inside: (m,) norms of the residuals' parts inside the space.
        outside: (m,) norms of their parts outside it.
        asymmetry: Frobenius norms ||P - P^T|| / (2 ||P||) of the projected operator P.
    """

    values: Array
    coefficients: Array
    inside: Array
    outside: Array
    asymmetry: float

    @property
    def scale(self) -> float:
        """Largest |value|."""
        return float(np.abs(self.values).max())

    @property
    def residuals(self) -> Array:
        """(m,) norms ||A x - t x||, to rounding the same as from a further product."""
        return np.hypot(self.inside, self.outside)


class KrylovSpace:
    """Orthonormal vectors, of which the first `size` have been multiplied by the operator.

    The others are pending. Every product is stored as its coefficients in the vectors, so that
    A Q[:, :size] = Q H holds to rounding, and with it residuals cost no products. All coefficients
    are computed, not only the three-term recurrence: that makes the residuals those of the
    operator as it is, symmetric or not (block Arnoldi; Saad, Numerical Methods for Large Eigenvalue
    Problems, 2011, chapter 6).

    Memory: 8 D (capacity + pending) bytes are reserved, and provided by the system as the space
    grows.

    Args:
        operator: to be multiplied.
        capacity: most products; at most D.
        pending: most vectors that wait at a time.
        seed: of the start vectors and of those that replace them in invariant subspaces.
    """

    def __init__(self, operator: CountedOperator, capacity: int, pending: int, seed: int) -> None:
        d = operator.dimension
        self.operator = operator
        self.capacity = min(capacity, d)
        self.seed = seed
        self.size = 0
        self.vectors = 0
        self.drawn = 0
        rows = min(d, self.capacity + pending)
        self._basis = np.empty((rows, d))
        self._projected = np.zeros((rows, self.capacity))
        self._dropped = np.zeros(self.capacity)
        self._norm = 0.0

    @property
    def full(self) -> bool:
        """No further product is possible."""
        return self.size >= self.capacity

    def extend(self, width: int) -> None:
        """Multiplies the first `width` pending vectors; without any, random ones are drawn."""
        if self.vectors == self.size:
            for _ in range(min(width, self.operator.dimension - self.size)):
                self.draw()
        stop = min(self.size + width, self.vectors, self.capacity)
        image = self.operator(np.ascontiguousarray(self._basis[self.size : stop].T))
        self._norm = max(self._norm, float(np.linalg.norm(image, axis=0).max()))
        self._append(image, slice(self.size, stop))
        self.size = stop

    def draw(self) -> None:
        """Adds a random vector of the complement to the pending ones.

        The number of the draw seeds it: a resumed solve goes on with the same vectors.
        """
        generator = np.random.default_rng([self.seed, self.drawn])
        vector = generator.standard_normal(self.operator.dimension)
        basis = self._basis[: self.vectors]
        for _ in range(3):
            vector -= (basis @ vector) @ basis
            vector /= np.linalg.norm(vector)
        self._basis[self.vectors] = vector
        self.drawn += 1
        self.vectors += 1

    def draw_first(self) -> None:
        """Draws a random vector of the complement, if there is one, to be multiplied next."""
        if self.vectors < self.operator.dimension:
            self.draw()
            self.put_newest_first()

    def put_newest_first(self) -> None:
        """Puts the newest of the pending vectors in front of the others."""
        first, newest = self.size, self.vectors - 1
        if newest > first:
            for rows in (self._basis, self._projected):
                rows[[first, newest]] = rows[[newest, first]]

    def ritz(self) -> RitzPairs:
        """Rayleigh-Ritz pairs of the symmetric part, with residuals of the operator itself."""
        n = self.size
        square = self._projected[:n, :n]
        values, coefficients = eigh(
            (square + square.T) / 2, driver=eigh_driver(len(square)), check_finite=False
        )
        pending = self._projected[n : self.vectors, :n] @ coefficients
        outside = np.linalg.norm(pending, axis=0) + self._dropped[:n] @ np.abs(coefficients)
        antisymmetric = (square - square.T) / 2
        total = float(np.linalg.norm(square))
        return RitzPairs(
            values,
            coefficients,
            np.linalg.norm(antisymmetric @ coefficients, axis=0),
            outside,
            float(np.linalg.norm(antisymmetric)) / total if total > 0 else 0.0,
        )

    def directions(self, coefficients: Array) -> Array:
        """(D, m) vectors with the given (size, m) coefficients."""
        return np.ascontiguousarray((coefficients.T @ self._basis[: self.size]).T)

    def product_error(self, column: int) -> float:
        """Relative difference of a stored product and the operator's, which takes one not counted.

        So a solve that was stopped says as many products as one that was not.
        """
        counted = self.operator.products
        image = self.operator(self._basis[column][:, None])[:, 0]
        self.operator.products = counted
        stored = self._projected[: self.vectors, column] @ self._basis[: self.vectors]
        return float(np.linalg.norm(image - stored) / max(self._norm, np.finfo(float).tiny))

    def state(self) -> dict[str, Array]:
        """What `restore` needs, as arrays."""
        n, m = self.size, self.vectors
        return {
            "basis": self._basis[:m],
            "projected": self._projected[:m, :n],
            "dropped": self._dropped[:n],
            "norm": np.array(self._norm),
            "drawn": np.array(self.drawn),
            "products": np.array(self.operator.products),
        }

    def restore(self, state: dict[str, Array]) -> None:
        """Takes over a state whose products fit the capacity."""
        m, n = state["projected"].shape
        self._basis[:m] = state["basis"]
        self._projected[:m, :n] = state["projected"]
        self._dropped[:n] = state["dropped"]
        self._norm = float(state["norm"])
        self.drawn = int(state["drawn"])
        self.operator.products = int(state["products"])
        self.size, self.vectors = n, m

    def _append(self, image: Array, columns: slice) -> None:
        """Stores products as coefficients; what is new in them becomes pending vectors."""
        basis = self._basis[: self.vectors]
        coefficients = basis @ image
        image -= basis.T @ coefficients
        fresh, triangle, order = qr(image, mode="economic", pivoting=True, check_finite=False)
        rank = int(np.sum(np.abs(triangle.diagonal()) > _NOISE * self.operator.eps * self._norm))
        rank = min(rank, self.operator.dimension - self.vectors)
        unpivoted = np.empty_like(triangle)
        unpivoted[:, order] = triangle
        self._dropped[columns] = np.linalg.norm(unpivoted[rank:], axis=0)
        fresh, upper = fresh[:, :rank], unpivoted[:rank]
        # Normalising a small remainder magnifies what rounding left of the basis in it.
        for _ in range(2):
            overlap = basis @ fresh
            coefficients += overlap @ upper
            fresh, triangle = np.linalg.qr(fresh - basis.T @ overlap)
            upper = triangle @ upper
        self._projected[: self.vectors, columns] = coefficients
        self._projected[self.vectors : self.vectors + rank, columns] = upper
        self._basis[self.vectors : self.vectors + rank] = fresh.T
        self.vectors += rank
