"""The shape operator: Hessians between projections on each point's tangent plane.

Products of S_i = P_i H_i P_i / ||g_i||, P_i = I - n_i n_i^T, from those of the scaled Hessians
K_i = H_i / ||g_i||, for which the batches' weights account.
"""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from geomadv.curvature.products import Batch, Products, dots_of_rows, filled, sum_over_points

# Points whose corrections are multiplied together, as float64.
_ROWS = 512


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

    def matrix(self, scaled: Tensor) -> Tensor:
        """The sum of the S_i from that of the K_i, both (D, D) float64."""
        total = scaled.clone()
        for n, h, along in zip(
            self.normals.split(_ROWS), self.bent.split(_ROWS), self.along.split(_ROWS), strict=True
        ):
            mixed = h.double().T @ n.double()
            total -= mixed + mixed.T - n.double().T @ (along[:, None] * n.double())
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
    """For finite differences: the step is taken in each point's tangent plane, at full length.

    P_i v differs by point, yet A P_i v = A v - (n_i.v) A n_i and n_i.(A^T t) = (A n_i).t: behind
    the affine stem the A n_i serve all vectors, and A and A^T act once per vector.
    """

    def __init__(self, products: Products, normals: Tensor) -> None:
        self.normals = normals
        self._kept: dict[int, Tensor] = {}
        # Batches whose A n_i fit into the memory beside the points, z_i, of all.
        each = products.width * normals.element_size() * len(products.batches[0].x)
        self._room = products.memory // each - len(products.batches)

    def sums(self, products: Products, units: Tensor) -> Tensor:
        """Sum over the points of S_i v: (k, D) float64."""
        pushed = products.stem.push(units.unflatten(1, products.batches[0].x.shape[1:]))
        total = torch.zeros(pushed.shape, dtype=torch.float64, device=units.device)
        bent = torch.zeros(units.shape, dtype=torch.float64, device=units.device)
        for batch, j, rows, _, across, norms in self._rows(products, units, pushed):
            total[j] += sum_over_points(rows, norms)
            along = (dots_of_rows(across, rows) * norms)[: batch.size]
            bent[j] += along @ self.normals[batch.index].double()
        return products.stem.pull(total.to(units.dtype)).flatten(1).double() - bent

    def quadratics(self, products: Products, units: Tensor) -> Tensor:
        """v^T S_i v: (N, k) float64."""
        pushed = products.stem.push(units.unflatten(1, products.batches[0].x.shape[1:]))
        result = torch.empty(products.count, len(units), dtype=torch.float64, device=units.device)
        for batch, j, rows, own, _, norms in self._rows(products, units, pushed):
            values = dots_of_rows(own, rows) * norms.square()
            result[batch.index, j] = values[: batch.size]
        return result

    def _rows(
        self, products: Products, units: Tensor, pushed: Tensor
    ) -> Iterator[tuple[Batch, int, Tensor, Tensor, Tensor, Tensor]]:
        """Batch, number of the vector, then row by row K_i u_i before A^T, A u_i, A n_i, |P_i v|.

        With u_i = P_i v / |P_i v|; rows that fill the batch up have weight 0, and n_i = 0.
        """
        for i, (batch, apply) in enumerate(products.each()):
            across = self._across(products, i, batch)
            n = self.normals[batch.index].double()
            along = filled(n @ units.double().T, len(batch.x))
            lengths = filled((n * n).sum(1, keepdim=True), len(batch.x))
            for j, (v, t) in enumerate(zip(units.double(), pushed, strict=True)):
                c = along[:, j]
                norms = (v @ v - c.square() * (2 - lengths[:, 0])).clamp_min(0).sqrt()
                # The unit vector is meaningless where v is normal to rounding, its product is not
                # counted: the factor norms takes it away.
                shares = torch.stack([torch.ones_like(c), c]) / torch.where(norms > 0, norms, 1.0)
                one, other = shares.to(t.dtype).view(2, len(c), *[1] * t.ndim)
                own = (one * t).addcmul_(other, across, value=-1)
                yield batch, j, apply(own), own, across, norms

    def _across(self, products: Products, i: int, batch: Batch) -> Tensor:
        """A n_i of the batch's points; kept where there is room."""
        if i in self._kept:
            return self._kept[i]
        rows = filled(self.normals[batch.index], len(batch.x))
        made = products.stem.push(rows.unflatten(1, batch.x.shape[1:]))
        if len(self._kept) < self._room:
            self._kept[i] = made
        return made


def _dots(a: Tensor, b: Tensor) -> Tensor:
    """Scalar products of rows (N, D) -> (N,) float64."""
    return (a.double() * b.double()).sum(1)
