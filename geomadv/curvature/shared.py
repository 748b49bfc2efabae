"""Means over boundary points that are divided over processes, and solves with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from geomadv.distributed import broadcast, from_main, is_main, size, sum_over_processes

T = TypeVar("T")


class PointSums(Protocol):
    """What is needed of an operator that is a mean over boundary points."""

    @property
    def points_used(self) -> int: ...  # noqa: D102
    @property
    def linear(self) -> bool: ...  # noqa: D102
    def products_sum(self, vectors: Tensor, /) -> Tensor: ...  # noqa: D102


@dataclass(frozen=True)
class KnownSum:
    """A sum over boundary points that is known as a matrix (D, D) float64."""

    matrix: Tensor
    points_used: int
    linear: bool = True

    def products_sum(self, vectors: Tensor, /) -> Tensor:
        """Products (D, k) float64 with vectors (D, k)."""
        return self.matrix @ vectors.double()


class SharedMean(LinearOperator):  # type: ignore[misc]
    """The mean over the boundary points of all processes, as one symmetric operator (D, D).

    On the main process it is an ordinary LinearOperator; each product is answered by all processes,
    the others being in `serve`. Sums are added in float64 and divided once by the number of points.

    Args:
        local: the mean over this process's points; None for a process without points.
        dimension: D.
        dtype, device: of the vectors that `local` takes.
    """

    def __init__(
        self,
        local: PointSums | None,
        dimension: int,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> None:
        self._local, self._dtype, self._device = local, dtype, device
        # The main process, which asks, always has points.
        self.linear = local is None or local.linear
        count = torch.tensor([0 if local is None else local.points_used])
        self.points_used = int(sum_over_processes(count))
        super().__init__(torch.empty(0, dtype=dtype).numpy().dtype, (dimension, dimension))

    def _matmat(self, vectors: NDArray[Any]) -> NDArray[np.floating]:
        columns = np.ascontiguousarray(vectors, dtype=self.dtype)
        block = torch.from_numpy(columns).to(self._device)
        _command(block.shape[1])
        total = self._answer(block)
        result: NDArray[np.floating] = (total / self.points_used).cpu().numpy().astype(self.dtype)
        return result

    def _matvec(self, vector: NDArray[Any]) -> NDArray[np.floating]:
        return self._matmat(vector.reshape(-1, 1))[:, 0]

    def _adjoint(self) -> SharedMean:
        return self

    def _answer(self, block: Tensor) -> Tensor:
        if size() > 1:
            broadcast(block)
        if self._local is None:
            part = torch.zeros(block.shape, dtype=torch.float64, device=block.device)
        else:
            part = self._local.products_sum(block).double()
        return sum_over_processes(part)

    def serve(self) -> None:
        """Answers the main process's products until it calls `finish`."""
        while columns := _command(0):
            empty = torch.empty(self.shape[0], columns, dtype=self._dtype)
            self._answer(empty.to(self._device))

    def finish(self) -> None:
        """Releases the processes in `serve`."""
        _command(0)


def _command(columns: int) -> int:
    """How many columns the main process is about to send; 0 ends the service."""
    if size() == 1:
        return columns
    number = torch.tensor([columns])
    broadcast(number)
    return int(number)


def solve_on_main(shared: SharedMean, solve: Callable[[LinearOperator], T]) -> T:
    """The result of `solve(shared)`, run on the main process and handed to all.

    Args:
        shared: the operator; every process must call with its own.
        solve: any computation from products with the operator, for example an eigensolve.

    Raises:
        Exception: whatever `solve` raised on the main process, on every process.
    """
    if size() == 1:
        return solve(shared)
    result: T | None = None
    error: Exception | None = None
    if is_main():
        try:
            result = solve(shared)
        except Exception as raised:  # every process must end alike, none wait for a product
            error = raised
        shared.finish()
    else:
        shared.serve()
    result, error = from_main((result, error))
    if error is not None:
        raise error
    return result  # type: ignore[return-value]
