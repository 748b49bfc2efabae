"""How many images at a time: from memory, and without changing results."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from geomadv.classifier.dispatch import Dispatch
from geomadv.errors import InputError

T = TypeVar("T")

# On a CPU larger batches than 128 are no faster, and small ones stay in the cache.
_CPU_IMAGES, _CPU_BYTES = 128, 2**28
_CUDA_IMAGES, _CUDA_SHARE = 2048, 0.25


class KeptBytes:
    """While entered, counts the bytes that forward passes keep for their backward passes."""

    def __init__(self) -> None:
        self.total = 0
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda t: t)

    def _pack(self, t: Tensor) -> Tensor:
        self.total += t.numel() * t.element_size()
        return t

    def __enter__(self) -> Self:
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.__exit__(*error)


class _Made(Dispatch):
    """While entered, counts the bytes of all results: at least what is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        made = [t for t in tree_leaves(result) if isinstance(t, Tensor)]
        self.total += sum(t.numel() * t.element_size() for t in made)
        return result


def counting_kept(compute: Callable[[], T]) -> tuple[T, int]:
    """The value of a computation, and the bytes that it keeps for its backward pass."""
    try:
        with KeptBytes() as kept:
            return compute(), kept.total
    except RuntimeError as error:
        # torch.func inside a forward allows no hooks on what is kept.
        if "saved tensor hooks" not in str(error):
            raise
        with _Made() as made:
            return compute(), made.total


def activation_bytes(scores: Callable[[Tensor], Tensor], one: Tensor, two: Tensor) -> int:
    """Bytes that each further image keeps for the backward pass, measured on 1 and 2 images."""

    def kept(x: Tensor) -> int:
        with torch.enable_grad():
            return counting_kept(lambda: scores(x.detach().requires_grad_()))[1]

    image = one.numel() * one.element_size()
    # The difference leaves out the weights, which are kept once.
    return max(kept(two) - kept(one), image)


def default_batch_size(device: torch.device, bytes_per_image: int) -> int:
    """Images per batch for gradient work, from what each of them keeps and the memory.

    The whole memory of a GPU counts, not what happens to be free: the same machine takes the same
    batches, and rounds alike.
    """
    images, room = batch_limits(device)
    return min(max(room // bytes_per_image, 1), images)


def batch_limits(device: torch.device) -> tuple[int, int]:
    """How many images, and bytes kept for their gradients, a batch has at most on a device."""
    if device.type == "cuda":
        _, total = torch.cuda.mem_get_info(device)
        return _CUDA_IMAGES, int(_CUDA_SHARE * total)
    return _CPU_IMAGES, _CPU_BYTES


@dataclass
class BatchLimit:
    """What running out of memory has taught about one network.

    Attributes:
        last: images per pass that were asked for last.
        most: the most that are taken from now on; None: memory has not run out yet.
    """

    last: int = 1
    most: int | None = None

    def limited(self, size: int) -> int:
        """The size asked for, or the most that memory allows."""
        self.last = size if self.most is None else min(size, self.most)
        return self.last


class Limited(Protocol):
    """A network that knows its limit."""

    name: str
    device: torch.device
    limit: BatchLimit


def until_it_fits(
    compute: Callable[[], T], nets: Sequence[Limited], tell: Callable[[str], None]
) -> T:
    """What `compute` gives, which is called again with half the batches where memory runs out.

    tell: takes a line that says so.

    Raises:
        InputError: memory does not suffice for one image at a time.
    """
    while True:
        before = [net.limit.most for net in nets]
        try:
            return compute()
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
        # Outside of the handler: the error holds the frames, and they hold the memory.
        # Something called by `compute` may have learned the limit after this took its batches.
        if before == [net.limit.most for net in nets]:
            for net in nets:
                _halve(net, tell)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.cuda.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def _halve(net: Limited, tell: Callable[[str], None]) -> None:
    size = net.limit.last
    if size <= 1:
        raise InputError(
            f"network {net.name!r}: the memory of {net.device} does not suffice for one image at a "
            "time. Free some of it, or use another device (--device cpu)."
        )
    net.limit.most = size // 2
    tell(
        f"network {net.name!r}: out of memory on {net.device} at {size} images a pass; going on "
        f"with {size // 2}, which changes results by rounding only"
    )
