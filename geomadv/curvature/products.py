"""Hessian-vector products of the boundary function, summed over boundary points.

The boundary function of point i is f_i = F_target - F_near. Its Hessian is applied in two steps.
Most networks begin with an affine map z = A x + b (normalisation, first convolution), the same at
every point, so that the Hessian in image space is A^T (Hessian in z) A: A and A^T act once per
vector instead of once per vector and point. In between, a `Linearisation` of the rest of the
network at a batch of points gives the products in z.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from geomadv.boundary import BoundaryPoints
from geomadv.classifier import Classifier
from geomadv.classifier.batching import counting_kept
from geomadv.curvature.attention import plain_attention
from geomadv.errors import InputError

# z (n, ...) -> (n, ...): products of each point's Hessian with one vector (n = 1) or its own.
Linearisation = Callable[[Tensor], Tensor]


class Stem(Protocol):
    """The affine beginning z = A x + b of a network, and the rest of it."""

    def enter(self, x: Tensor) -> Tensor:
        """Images (n, C, H, W) -> z (n, ...)."""

    def push(self, v: Tensor) -> Tensor:
        """A v of vectors (n, C, H, W) -> (n, ...)."""

    def pull(self, t: Tensor) -> Tensor:
        """A^T t of vectors (n, ...) -> (n, C, H, W)."""

    def rest(self, z: Tensor) -> Tensor:
        """Scores (n, classes) from z (n, ...)."""


class NoStem:
    """The whole network as the rest: A is the identity."""

    def __init__(self, net: Classifier) -> None:
        self.rest = net.scores

    def enter(self, x: Tensor) -> Tensor:
        """The images themselves."""
        return x

    push = pull = enter


@dataclass(frozen=True)
class Batch:
    """Some boundary points; short batches are filled up with points of weight 0."""

    x: Tensor  # (B, C, H, W)
    weights: Tensor  # (B, classes): f_i = (weights_i * scores_i).sum(); zero rows fill up
    index: slice  # which of the points these are

    @property
    def size(self) -> int:
        """How many of the rows are points."""
        return int(self.index.stop - self.index.start)


def batches_of(
    net: Classifier, points: BoundaryPoints, batch_size: int, scale: Tensor | None = None
) -> list[Batch]:
    """Batches of one common size, at most batch_size, so that one trace serves all of them.

    scale: (N,) factor on each point's boundary function; None for 1.
    """
    n = len(points)
    count = -(-n // batch_size)
    size = -(-n // count)
    x = points.points.detach().to(device=net.device, dtype=net.dtype)
    ones = torch.ones(n, 1, device=net.device, dtype=net.dtype)
    factor = ones if scale is None else scale[:, None].to(ones)
    weights = torch.zeros(n, net.num_classes, device=net.device, dtype=net.dtype)
    weights.scatter_add_(1, points.target.to(net.device)[:, None], factor)
    weights.scatter_add_(1, points.near.to(net.device)[:, None], -factor)
    return [_batch(x, weights, start, size) for start in range(0, n, size)]


def _batch(x: Tensor, weights: Tensor, start: int, size: int) -> Batch:
    rows, signs = x[start : start + size], weights[start : start + size]
    index = slice(start, start + len(rows))
    missing = size - len(rows)
    if missing:
        rows = torch.cat([rows, rows[:1].expand(missing, *rows.shape[1:])])
        signs = filled(signs, size)
    return Batch(rows, signs, index)


@dataclass(frozen=True)
class Linearised:
    """A linearisation at one batch and the bytes that keeping it takes."""

    apply: Linearisation
    nbytes: int


class Lineariser(Protocol):
    """How Hessians are applied at a batch: exactly or by finite differences."""

    def __call__(self, stem: Stem, batch: Batch) -> Linearised:
        """The linearisation at the points of the batch."""


class DoubleBackward:
    """Exact: the gradient's graph is kept and differentiated once more."""

    def __call__(self, stem: Stem, batch: Batch) -> Linearised:
        """The Hessian is symmetric: reverse mode over the gradient gives the same product."""

        def differentiate() -> tuple[Tensor, Tensor]:
            z = stem.enter(batch.x).detach().requires_grad_()
            value = (stem.rest(z) * batch.weights).sum()
            return z, torch.autograd.grad(value, z, create_graph=True)[0]

        with torch.enable_grad(), plain_attention():
            (z, gradient), kept = counting_kept(differentiate)

        def apply(t: Tensor) -> Tensor:
            if gradient.grad_fn is None:
                return torch.zeros_like(z)
            (product,) = torch.autograd.grad(
                gradient, z, t.expand_as(gradient), retain_graph=True, materialize_grads=True
            )
            return product

        return Linearised(apply, kept)


@dataclass(frozen=True)
class FiniteDifference:
    """Central difference of the gradient at distance `step` (image units) along unit vectors."""

    step: float

    def __call__(self, stem: Stem, batch: Batch) -> Linearised:
        """Two gradients a product; only the points are kept."""
        z = stem.enter(batch.x).detach()

        def apply(t: Tensor) -> Tensor:
            ahead = self.gradient(stem, torch.add(z, t, alpha=self.step), batch.weights)
            behind = self.gradient(stem, torch.sub(z, t, alpha=self.step), batch.weights)
            # In place: fresh memory costs as much as the arithmetic.
            return ahead.sub_(behind).div_(2 * self.step)

        return Linearised(apply, z.numel() * z.element_size())

    def gradient(self, stem: Stem, z: Tensor, weights: Tensor) -> Tensor:
        """Gradients of the boundary functions in z (n, ...)."""
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            (gradient,) = torch.autograd.grad((stem.rest(z) * weights).sum(), z)
        return gradient


class Products:
    """Products of the points' Hessians with vectors, batch by batch.

    Linearisations are kept as long as they fit into `memory` bytes; the others are made anew for
    every block of vectors, which shares them.
    """

    def __init__(
        self, stem: Stem, batches: list[Batch], lineariser: Lineariser, memory: int
    ) -> None:
        self.stem, self.batches, self.lineariser = stem, batches, lineariser
        self.memory = memory
        self._kept: dict[int, Linearised] = {}

    @property
    def count(self) -> int:
        """How many points."""
        return int(self.batches[-1].index.stop)

    @property
    def width(self) -> int:
        """Numbers that one vector takes behind the stem."""
        return self.stem.push(self.batches[0].x[:1]).numel()

    def each(self) -> Iterator[tuple[Batch, Linearisation]]:
        """Every batch with its linearisation."""
        for i, batch in enumerate(self.batches):
            made = self._kept.get(i)
            if made is None:
                made = self.lineariser(self.stem, batch)
                used = sum(kept.nbytes for kept in self._kept.values())
                if used + made.nbytes <= self.memory:
                    self._kept[i] = made
            yield batch, made.apply

    def sums(self, vectors: Tensor, factors: Tensor | None = None) -> Tensor:
        """Sum over the points of H_i v: unit vectors (k, C, H, W) -> (k, C, H, W) float64.

        factors: (m, N) of the points, for m sums from the same products: (m, k, C, H, W).
        """
        pushed = self.stem.push(vectors)
        lead = () if factors is None else (len(factors),)
        total = torch.zeros(*lead, *pushed.shape, dtype=torch.float64, device=pushed.device)
        for batch, apply in self.each():
            own = None if factors is None else factors[:, batch.index]
            for j, one in enumerate(total.unbind(len(lead))):
                one += sum_over_points(apply(pushed[j : j + 1])[: batch.size], own)
        flat = total.flatten(0, len(lead)).to(vectors.dtype)
        return self.stem.pull(flat).double().view(*lead, *vectors.shape)

    def quadratics(self, vectors: Tensor) -> Tensor:
        """v^T H_i v: unit vectors (k, C, H, W) -> (N, k) float64."""
        pushed = self.stem.push(vectors)
        result = torch.empty(self.count, len(pushed), dtype=torch.float64, device=pushed.device)
        for batch, apply in self.each():
            for j in range(len(pushed)):
                rows = apply(pushed[j : j + 1])[: batch.size].flatten(1)
                result[batch.index, j] = rows.double() @ pushed[j].flatten().double()
        return result

    def own(self, batch: Batch, apply: Linearisation, vectors: Tensor) -> Tensor:
        """H_i v_i, one vector per point of the batch: (size, C, H, W) -> (size, C, H, W)."""
        rows = filled(vectors, len(batch.x))
        return self.stem.pull(apply(self.stem.push(rows)))[: batch.size]

    def first_bad(self, vectors: Tensor) -> int | None:
        """Number of the first point at which a product with one of the vectors is not finite."""
        pushed = self.stem.push(vectors)
        for batch, apply in self.each():
            for t in pushed.split(1):
                finite = apply(t)[: batch.size].flatten(1).isfinite().all(1)
                if not finite.all():
                    return int(batch.index.start + (~finite).nonzero()[0])
        return None


def filled(rows: Tensor, size: int) -> Tensor:
    """Rows (n, ...) with zeros behind them (size, ...)."""
    return torch.cat([rows, rows.new_zeros(size - len(rows), *rows.shape[1:])])


def sum_over_points(rows: Tensor, factors: Tensor | None = None) -> Tensor:
    """Sum (...) of rows (n, ...), as a matrix-vector product: many times faster on a CPU.

    factors: (n,) of the rows, or (m, n) for m sums (m, ...); None for 1.
    """
    weights = rows.new_ones(len(rows)) if factors is None else factors.to(rows.dtype)
    summed = weights @ _flat(rows)
    if _is_flat(rows):
        return summed.view(*summed.shape[:-1], *rows.shape[1:])
    shape = (*summed.shape[:-1], *rows.shape[1:])
    return summed.as_strided(shape, (*summed.stride()[:-1], *rows.stride()[1:]))


def dots_of_rows(a: Tensor, b: Tensor) -> Tensor:
    """Scalar products (n,) float64 of rows (n, ...) in the same layout, summed in their own."""
    if a.stride() != b.stride():
        a, b = a.contiguous(), b.contiguous()
    dots: Tensor = torch.linalg.vecdot(_flat(a), _flat(b))
    return dots.double()


def _flat(rows: Tensor) -> Tensor:
    """Rows (n, size) in the order of memory, without a copy where each row is dense."""
    if _is_flat(rows):
        return rows.flatten(1)
    # Channels-last rows are dense in another order, which sums do not see.
    return rows.as_strided((len(rows), rows[0].numel()), (rows[0].numel(), 1))


def _is_flat(rows: Tensor) -> bool:
    return rows.stride(0) != rows[0].numel() or rows.is_contiguous()


def check_points(net: Classifier, points: BoundaryPoints) -> Tensor:
    """Indices of the converged points.

    Raises:
        InputError: points of another image shape or of classes that the network does not have;
            no point that converged.
    """
    if points.points.shape[1:] != net.input_shape:
        raise InputError(
            f"points have shape {tuple(points.points.shape)}, but network {net.name!r} takes "
            f"(N, {', '.join(map(str, net.input_shape))}). Collect them with this network."
        )
    chosen = points.converged.nonzero().squeeze(1)
    if len(chosen) == 0:
        raise InputError(
            f"points: none of {len(points)} boundary points converged (the target class was never "
            "reached, or there are no images). Give more images, another target or a larger "
            "max_iter to boundary_points."
        )
    classes = torch.stack([points.near, points.target])[:, chosen]
    if not ((classes >= 0) & (classes < net.num_classes)).all():
        raise InputError(
            f"points name class {int(classes.max())}, but network {net.name!r} has "
            f"{net.num_classes} classes. Collect them with this network."
        )
    return chosen
