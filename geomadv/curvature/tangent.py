"""The shape operator: Hessians between projections on each point's tangent plane.

Products of S_i = P_i H_i P_i / ||g_i||, P_i = I - n_i n_i^T, from those of the scaled Hessians
K_i = H_i / ||g_i||, for which the batches' weights account.
"""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from geomadv.curvature.products import Products


class Tangent(Protocol):
    """Sums and quadratic forms of the S_i; unit vectors are rows (k, D)."""

    def sums(self, products: Products, units: Tensor) -> Tensor:
        """Sum over the points of S_i v: (k, D) float64."""

    def quadratics(self, products: Products, units: Tensor) -> Tensor:
        """v^T S_i v: (N, k) float64."""


class ExactTangent:
    """For linear symmetric products: S_i v = K_i v - n (h.v) - h (n.v) + n (n.h) (n.v), h = K_i n.

    The projections become a correction of low rank, and K_i v keeps what makes it fast: one vector
    for all points. Holds h, one image per point.
    """

    def __init__(self, products: Products, normals: Tensor) -> None:
        self.normals = normals
        self.bent = torch.empty_like(normals)
        shape = products.batches[0].x.shape[1:]
        for batch, apply in products.each():
            rows = normals[batch.index].unflatten(1, shape)
            self.bent[batch.index] = products.own(batch, apply, rows).flatten(1)
        self.along = _dots(normals, self.bent)

    def sums(self, products: Products, units: Tensor) -> Tensor:
        """Sum over the points of S_i v: (k, D) float64."""
        images = units.unflatten(1, products.batches[0].x.shape[1:])
        total = products.sums(images).flatten(1)
        for batch in products.batches:
            n, h, across, bent = self._parts(batch.index, units)
            total -= (bent - across * self.along[batch.index]) @ n
            total -= across @ h
        return total

    def quadratics(self, products: Products, units: Tensor) -> Tensor:
        """v^T S_i v: (N, k) float64."""
        images = units.unflatten(1, products.batches[0].x.shape[1:])
        result = products.quadratics(images)
        for batch in products.batches:
            _, _, across, bent = self._parts(batch.index, units)
            correction = 2 * across * bent - across.square() * self.along[batch.index]
            result[batch.index] -= correction.T
        return result

    def _parts(self, index: slice, units: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """n, h (B, D), v.n and v.h (k, B), in float64."""
        n, h, v = self.normals[index].double(), self.bent[index].double(), units.double()
        return n, h, v @ n.T, v @ h.T


class FiniteDifferenceTangent:
    """For finite differences: the step is taken in each point's tangent plane, at full length."""

    def __init__(self, normals: Tensor) -> None:
        self.normals = normals

    def sums(self, products: Products, units: Tensor) -> Tensor:
        """Sum over the points of S_i v: (k, D) float64."""
        total = torch.zeros(units.shape, dtype=torch.float64, device=units.device)
        for index, j, rows, _ in self._rows(products, units):
            n = self.normals[index].double()
            total[j] += rows.sum(0) - _dots(n, rows) @ n
        return total

    def quadratics(self, products: Products, units: Tensor) -> Tensor:
        """v^T S_i v: (N, k) float64."""
        result = torch.empty(products.count, len(units), dtype=torch.float64, device=units.device)
        for index, j, rows, own in self._rows(products, units):
            result[index, j] = _dots(rows, own)
        return result

    def _rows(
        self, products: Products, units: Tensor
    ) -> Iterator[tuple[slice, int, Tensor, Tensor]]:
        """Points, number of the vector, K_i P_i v and P_i v (B, D) float64."""
        shape = products.batches[0].x.shape[1:]
        for batch, apply in products.each():
            n = self.normals[batch.index].double()
            for j, v in enumerate(units.double()):
                own = v - (n @ v)[:, None] * n
                norms = own.norm(dim=1, keepdim=True)
                # The unit vector is meaningless where v is normal to rounding, its product is not
                # counted: the factor norms takes it away.
                steps = own / torch.where(norms > 0, norms, 1.0)
                images = steps.to(units.dtype).unflatten(1, shape)
                rows = products.own(batch, apply, images).flatten(1).double() * norms
                yield batch.index, j, rows, own


def _dots(a: Tensor, b: Tensor) -> Tensor:
    """Scalar products of rows (N, D) -> (N,) float64."""
    return (a.double() * b.double()).sum(1)
