"""The one seam to torch.distributed: the same code runs on one process and under torchrun.

`start` joins the processes that torchrun launched; without torchrun everything here is a no-op on a
single process. Boundary points are divided over processes (`share`), sums over them are reduced.
The main process (rank 0) alone decides: it runs eigensolvers and writes files, while the others
answer its products (`geomadv.curvature.shared`), so rounding that differs between machines cannot
part them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from geomadv.errors import InputError

T = TypeVar("T")

# A process may wait while the main one trains a network or writes a file.
_PATIENCE = timedelta(hours=12)
_SHORT = timedelta(seconds=5)


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
    return torch.cat(gather(tensor.detach().cpu())).to(tensor.device)


def gather(value: T) -> list[T]:
    """The processes' values in rank order, on each one."""
    if size() == 1:
        return [value]
    parts: list[Any] = [None] * size()
    dist.all_gather_object(parts, value)
    return parts


def broadcast(tensor: Tensor) -> None:
    """The main process's tensor (CPU, contiguous), written into those of the others."""
    dist.broadcast(tensor, src=0)


def from_main(value: T) -> T:
    """The main process's value, on every process; those of the others are ignored."""
    if size() == 1:
        return value
    box: list[Any] = [value if is_main() else None]
    dist.broadcast_object_list(box, src=0)
    received: T = box[0]
    return received


def on_main(decide: Callable[[], T]) -> T:
    """What the function gives on the main process, on every process; its `InputError` likewise."""
    if size() == 1:
        return decide()
    outcome: tuple[Any, InputError | None] = (None, None)
    if is_main():
        try:
            outcome = (decide(), None)
        except InputError as error:
            outcome = (None, error)
    value, refused = from_main(outcome)
    if refused is not None:
        raise refused
    decided: T = value
    return decided


def barrier() -> None:
    """Waits until every process has come here."""
    if size() > 1:
        dist.barrier()


def stop_together() -> None:
    """Lets the main process say why all stop: once one has failed, torchrun ends the others.

    Where only some of them stop, this takes as long as `_SHORT` and no longer.
    """
    if size() > 1:
        with suppress(RuntimeError):
            dist.monitored_barrier(timeout=_SHORT)


@contextmanager
def main_first() -> Iterator[None]:
    """Runs the block on the main process before the others, which then find its files."""
    if size() > 1 and not is_main():
        dist.barrier()
    yield
    if size() > 1 and is_main():
        dist.barrier()


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()
