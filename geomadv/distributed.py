"""The one seam to torch.distributed: the same code runs on one process and under torchrun.

`start` joins the processes that torchrun launched; without torchrun everything here is a no-op on a
single process. Boundary points are divided over processes (`share`), sums over them are reduced.
The main process (rank 0) alone decides: it runs the eigensolver and writes files, while the others
answer its products (`solve_on_main`), so rounding that differs between machines cannot part them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

T = TypeVar("T")

# A process may wait while the main one trains a network or writes a file.
_PATIENCE = timedelta(hours=12)


class PointSums(Protocol):
    """What is needed of an operator that is a mean over boundary points."""

    @property
    def points_used(self) -> int: ...  # noqa: D102
    @property
    def linear(self) -> bool: ...  # noqa: D102
    def products_sum(self, vectors: Tensor, /) -> Tensor: ...  # noqa: D102


def start() -> None:
    """Joins the processes that torchrun launched; does nothing without torchrun or a second time.

    Communication is gloo's, through host memory: what is reduced is one (D, k) block a product.
    Each process takes the GPU of its local rank where there are GPUs.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ or dist.is_initialized():
        return
    if torch.cuda.is_available():
        local = int(os.environ.get("LOCAL_RANK", "0"))
        torch.cuda.set_device(local % torch.cuda.device_count())
    dist.init_process_group("gloo", timeout=_PATIENCE)


def stop() -> None:
    """Leaves the group of processes, if `start` joined one."""
    if _joined():
        dist.destroy_process_group()


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if _joined() else 0


def size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if _joined() else 1


def is_main() -> bool:
    """Whether this process is the one that solves, prints and writes."""
    return rank() == 0


def share(n: int) -> slice:
    """Which of n items are this process's: contiguous, in rank order, equal to within one."""
    base, more = divmod(n, size())
    first = rank() * base + min(rank(), more)
    return slice(first, first + base + (rank() < more))


def sum_over_processes(tensor: Tensor) -> Tensor:
    """Elementwise sum of the processes' tensors of one shape and dtype; a new tensor."""
    if size() == 1:
        return tensor.clone()
    total = tensor.detach().to("cpu", copy=True).contiguous()
    dist.all_reduce(total)
    return total.to(tensor.device)


def gather_rows(tensor: Tensor) -> Tensor:
    """The processes' tensors (n_r, ...) joined along the first axis in rank order, on each one."""
    if size() == 1:
        return tensor
    parts: list[Any] = [None] * size()
    dist.all_gather_object(parts, tensor.detach().cpu())
    return torch.cat(parts).to(tensor.device)


def from_main(value: T) -> T:
    """The main process's value, on every process; those of the others are ignored."""
    if size() == 1:
        return value
    box: list[Any] = [value if is_main() else None]
    dist.broadcast_object_list(box, src=0)
    received: T = box[0]
    return received


@contextmanager
def main_first() -> Iterator[None]:
    """Runs the block on the main process before the others, which then find its files."""
    if size() > 1 and not is_main():
        dist.barrier()
    yield
    if size() > 1 and is_main():
        dist.barrier()


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
            sent = block.cpu().contiguous()
            dist.broadcast(sent, src=0)
            block = sent.to(self._device)
        if self._local is None:
            part = torch.zeros(block.shape, dtype=torch.float64, device=block.device)
        else:
            part = self._local.products_sum(block).double()
        return sum_over_processes(part)

    def serve(self) -> None:
        """Answers the main process's products until it calls `finish`."""
        while columns := _command(0):
            self._answer(torch.empty(self.shape[0], columns, dtype=self._dtype))

    def finish(self) -> None:
        """Releases the processes in `serve`."""
        _command(0)


def _command(columns: int) -> int:
    """How many columns the main process is about to send; 0 ends the service."""
    if size() == 1:
        return columns
    number = torch.tensor([columns])
    dist.broadcast(number, src=0)
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


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()
