"""The one seam to torch.distributed: the same code runs on one process and on several.

`start` joins the processes that torchrun launched, `together` forks as many on this machine;
without either everything here is a no-op on a single process. Boundary points are divided over
processes (`share`), sums over them are reduced. The main process (rank 0) alone decides: it runs
eigensolvers and writes files, while the others answer its products (`geomadv.curvature.shared`), so
rounding that differs between machines cannot part them.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from multiprocessing.process import BaseProcess
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from geomadv.errors import InputError

T = TypeVar("T")

# A process may wait while the main one trains a network or writes a file.
_PATIENCE = timedelta(hours=12)
# Seconds in which the main process says why all stop.
_SHORT = 3.0

# What ends a fork: the terminal or its parent.
_ENDING = (signal.SIGINT, signal.SIGTERM)

# Of Linux' prctl: the signal that a process gets when its parent ends.
_PR_SET_PDEATHSIG = 1

# What torch.distributed says, by back end, where the other end of a connection has gone.
_GONE = ("connection", "remote process exited", "broken pipe")

# Whether this process works at something by itself, see `by_itself`.
_alone = False


class LostProcessError(RuntimeError):
    """Another process has died, so that this one cannot go on."""


def start(meeting: str | None = None) -> None:
    """Joins the processes that torchrun launched; does nothing without torchrun or a second time.

    meeting: URL where they find each other; default: where torchrun says.

    Each process takes the GPU of its local rank where there are GPUs. Tensors on them are reduced
    by NCCL if each process of a machine has one of its own, and everything else by gloo, through
    host memory. The machines must be alike in this. Processes that must share a GPU are warned.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ or dist.is_initialized():
        return
    gpus, local = torch.cuda.device_count(), int(os.environ.get("LOCAL_RANK", "0"))
    if gpus > 0:
        torch.cuda.set_device(local % gpus)
    if 0 < gpus < processes_here() and local == 0:
        warnings.warn(
            f"{processes_here()} processes share {gpus} GPU{'s' * (gpus > 1)}: they wait for each "
            "other. Start as many as there are GPUs.",
            stacklevel=2,
        )
    own = processes_here() <= gpus and dist.is_nccl_available()
    where: dict[str, Any] = {}
    if meeting is not None:
        numbers = {"rank": int(os.environ["RANK"]), "world_size": int(os.environ["WORLD_SIZE"])}
        where = {"init_method": meeting, **numbers}
    backend = "cpu:gloo,cuda:nccl" if own else "gloo"
    dist.init_process_group(backend, timeout=_PATIENCE, **where)


def forks_are_safe() -> bool:
    """Whether a process that has started neither threads nor a GPU may be forked.

    With the libraries in use that is so on Linux alone; and forks of one of several processes would
    hold connections open that must end with it.
    """
    return sys.platform == "linux" and size() == 1


def fork(work: Callable[..., object], *arguments: object) -> BaseProcess:
    """A fork of this process that does some work, and that dies with this one, however it dies."""
    process = multiprocessing.get_context("fork").Process(
        target=_bound, args=(work, *arguments), daemon=True
    )
    # A signal before the fork has handlers of its own would raise what those of this process raise,
    # and the fork would return into this process's work.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        with warnings.catch_warnings():  # Python's, of the threads that libraries hold ready
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process


def _bound(work: Callable[..., object], *arguments: object) -> None:
    """Does the work of a fork, which ends at once where the terminal or its parent does."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    work(*arguments)


def together(processes: int, work: Callable[[], T]) -> T:
    """What some work gives in this process, the main one, while forks of it do the same work.

    Like torchrun on one machine, but nothing is imported again. Each gets its share of the threads.
    For a process that has started neither threads nor a GPU yet.

    Raises:
        InputError: fewer than one process, several under torchrun, or several where processes
            cannot be forked.
    """
    if processes == 1:
        return work()
    if processes < 1 or not forks_are_safe():
        raise InputError(
            f"processes={processes} (--processes): expected 1 or more, and more than one on Linux "
            "alone and not under torchrun. Elsewhere torchrun starts as many as you like: "
            "torchrun --nproc-per-node=2 -m geomadv run EXPERIMENT..."
        )
    before, threads = dict(os.environ), torch.get_num_threads()
    with TemporaryDirectory(prefix="geomadv-") as folder:
        where = (processes, f"file://{folder}/meeting")
        others = [fork(_other, rank, *where, work) for rank in range(1, processes)]
        try:
            _join(0, *where)
            return work()
        finally:
            for other in others:
                other.terminate()
                other.join()
            stop()
            os.environ.clear()
            os.environ.update(before)
            torch.set_num_threads(threads)


def _other(rank: int, processes: int, meeting: str, work: Callable[[], object]) -> None:
    """What a fork does; the main process says why all stop."""
    with suppress(InputError, LostProcessError):
        _join(rank, processes, meeting)
        work()


def _join(rank: int, processes: int, meeting: str) -> None:
    names = ("RANK", "LOCAL_RANK"), ("WORLD_SIZE", "LOCAL_WORLD_SIZE")
    for group, value in zip(names, (rank, processes), strict=True):
        os.environ.update(dict.fromkeys(group, str(value)))
    torch.set_num_threads(max(1, torch.get_num_threads() // processes))
    start(meeting)


def processes_here() -> int:
    """How many processes torchrun launched on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def stop() -> None:
    """Leaves the group of processes, if `start` joined one."""
    if _joined():
        dist.destroy_process_group()


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if _joined() else 0


def size() -> int:
    """How many processes work together."""
    return dist.get_world_size() if _joined() and not _alone else 1


def is_main() -> bool:
    """Whether this process is the one that solves, prints and writes."""
    return rank() == 0


@contextmanager
def by_itself() -> Iterator[None]:
    """Inside, this process is one of one: nothing that it computes waits for the others."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


@contextmanager
def _talking() -> Iterator[None]:
    """Raises `LostProcessError` where another process has gone."""
    try:
        yield
    except RuntimeError as error:
        if any(words in str(error).lower() for words in _GONE):
            raise LostProcessError(str(error)) from error
        raise


def share(n: int) -> slice:
    """Which of n items are this process's: contiguous, in rank order, equal to within one."""
    if size() == 1:
        return slice(0, n)
    base, more = divmod(n, size())
    first = rank() * base + min(rank(), more)
    return slice(first, first + base + (rank() < more))


def sum_over_processes(tensor: Tensor) -> Tensor:
    """Elementwise sum of the processes' tensors of one shape and dtype; a new tensor."""
    if size() == 1:
        return tensor.clone()
    total = tensor.detach().to(_wire(tensor), copy=True).contiguous()
    with _talking():
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
    with _talking():
        dist.all_gather_object(parts, value)
    return parts


def broadcast(tensor: Tensor) -> None:
    """The main process's tensor, written into those of the others."""
    sent = tensor.to(_wire(tensor)).contiguous()
    with _talking():
        dist.broadcast(sent, src=0)
    if not is_main():
        tensor.copy_(sent)


def from_main(value: T) -> T:
    """The main process's value, on every process; those of the others are ignored."""
    if size() == 1:
        return value
    box: list[Any] = [value if is_main() else None]
    with _talking():
        dist.broadcast_object_list(box, src=0)
    received: T = box[0]
    return received


def on_main(decide: Callable[[], T]) -> T:
    """What the main process finds by itself, on every process; its `InputError` likewise."""
    if size() == 1:
        return decide()
    outcome: tuple[Any, InputError | None] = (None, None)
    if is_main():
        try:
            with by_itself():
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
    gather(None)


def stop_together() -> None:
    """Lets the main process say why all stop: once one has ended, torchrun ends the others."""
    if not is_main():
        time.sleep(_SHORT)


@contextmanager
def main_first() -> Iterator[None]:
    """Runs the block on the main process before the others, which then find its files."""
    if not is_main():
        barrier()
    yield
    if is_main():
        barrier()


def _wire(tensor: Tensor) -> torch.device:
    """Where the back end takes a tensor: on its GPU by NCCL, through host memory by gloo."""
    direct = tensor.is_cuda and "nccl" in str(dist.get_backend_config())
    return tensor.device if direct else torch.device("cpu")


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()
