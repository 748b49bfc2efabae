"""Hyperplanes and the plane in which one tilts against the nearest-centroid classifier's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Inner products of D terms and the rounding of the centroids: some tens of roundings of sqrt(D).
_ROUNDINGS = 32

# Radians: a direction whose error is bounded by this counts as that of the minimiser.
CONVERGED = np.radians(0.1)


def as_good_as_the_best(error: Array, count: int) -> NDArray[np.bool_]:
    """Which errors (..., k) of classifiers lie within one standard error of the best of the k.

    count: images that the errors are of. Its standard error is the binomial one at the mean of
    Jeffreys' posterior, since no error at all has an uncertainty, too. NaN is not good.
    """
    with np.errstate(invalid="ignore"):
        best = np.where(np.isfinite(error), error, np.inf).min(-1, keepdims=True)
        rough = (best * count + 0.5) / (count + 1)
        good: NDArray[np.bool_] = error <= best + np.sqrt(rough * (1 - rough) / count)
    return good


@dataclass(frozen=True)
class Hyperplane:
    """The boundary f(x) = w.x + b = 0 of a linear classifier; f > 0 is the second class.

    A classifier whose weight is zero or not finite has no boundary: distances, angles and
    perturbations are NaN then, and `is_usable` is False.
    """

    weight: Array  # (D,), score units per image unit
    bias: float  # score units
    converged: bool = True  # the direction is right to CONVERGED, or exact by construction
    precision: type[np.floating] = np.float64  # of the weights as they were given
    angle_bound: float = np.nan  # on the error of the direction, radians; NaN: not known

    @property
    def is_usable(self) -> bool:
        """Whether there is a boundary."""
        finite = np.isfinite(self.weight).all() and np.isfinite(self.bias)
        return bool(finite and self.weight.any())

    @property
    def normal(self) -> Array:
        """(D,) unit normal into the second class."""
        if not self.is_usable:
            return np.full_like(self.weight, np.nan)
        # Dividing by the largest entry first: the square of a tiny weight would underflow.
        scaled = self.weight / np.abs(self.weight).max()
        return np.asarray(scaled / np.linalg.norm(scaled))

    @property
    def offset(self) -> float:
        """Signed distance of the origin, image units: f(0) / ||w||."""
        if not self.is_usable:
            return float("nan")
        largest = np.abs(self.weight).max()
        return float(self.bias / largest / np.linalg.norm(self.weight / largest))

    def scores(self, x: Array) -> Array:
        """Scores f(x) of the rows of x (N, D). (N,)."""
        return np.asarray(x @ self.weight + self.bias)

    def correct(self, x: Array, is_second: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whether rows x (N, D) fall on the side of their class. (N,)."""
        return np.asarray((self.scores(x) > 0) == is_second)

    def distances(self, x: Array) -> Array:
        """Signed distances f(x) / ||w|| of rows (N, D), image units. (N,)."""
        return np.asarray(x @ self.normal + self.offset)

    def perturbations(self, x: Array) -> Array:
        """Smallest perturbations -f(x) w / ||w||^2 that bring rows (N, D) to f = 0. (N, D)."""
        return -self.distances(x)[:, None] * self.normal

    def deviation_angle(self, z: Array) -> float:
        """Angle to the unit vector z, radians in [0, pi]: arccos(w.z / ||w||).

        Computed as an arctangent, which keeps small angles exact where the arccosine loses half
        the digits.
        """
        w = self.normal
        along = float(w @ z)
        return float(np.arctan2(np.linalg.norm(w - along * z), along))

    def tilt_direction(self, z: Array) -> Array | None:
        """Second axis of the tilting plane (Tanay): n = (w - (w.z) z) / ||.||. (D,).

        None where w is parallel to z within the rounding of the weights, or not usable.
        """
        if not self.is_usable:
            return None
        rounding = _ROUNDINGS * np.finfo(self.precision).eps * np.sqrt(len(z))
        return orthogonal_part(self.normal, z[None], rounding)


def nearest_centroid(centroids: Array) -> Hyperplane:
    """The hyperplane halfway between two centroids (2, D); its normal is z."""
    weight = centroids[1] - centroids[0]
    return Hyperplane(weight, -float(weight @ centroids.mean(0)))


def orthogonal_part(vector: Array, basis: Array, smallest: float) -> Array | None:
    """Unit vector along the part of a vector orthogonal to basis rows (k, D). (D,).

    None where that part is no longer than `smallest`.
    """
    rest = vector - basis.T @ (basis @ vector)
    length = np.linalg.norm(rest)
    if not length > smallest:
        return None
    rest = rest / length
    # Again: what is left along the basis was divided by a length that may be small.
    rest = rest - basis.T @ (basis @ rest)
    return np.asarray(rest / np.linalg.norm(rest))


def some_direction(basis: Array, x: Array, centre: Array) -> Array:
    """A unit vector orthogonal to basis rows (k, D), k < D, that shows how the data spread. (D,).

    It points to the row of x (N, D) farthest from centre + span(basis); to a coordinate axis where
    all rows lie in there. Always the same for the same data.
    """
    squares = np.einsum("nd,nd->n", x, x) - 2 * x @ centre + centre @ centre
    inside = (x @ basis.T - centre @ basis.T) ** 2
    row = x[int(np.argmax(squares - inside.sum(1)))] - centre
    rounding = _ROUNDINGS * np.finfo(np.float64).eps * np.sqrt(x.shape[1])
    found = orthogonal_part(row, basis, rounding * (np.linalg.norm(row) + np.linalg.norm(centre)))
    if found is None:
        axis = np.eye(1, x.shape[1], int(np.argmin((basis**2).sum(0))))[0]
        found = orthogonal_part(axis, basis, 0.0)
    assert found is not None
    return found
