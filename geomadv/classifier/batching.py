"""How many images at a time: from memory, and without changing results."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from geomadv.errors import InputError

if TYPE_CHECKING:
    from geomadv.classifier import Classifier

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


def activation_bytes(scores: Callable[[Tensor], Tensor], one: Tensor, two: Tensor) -> int:
    """Bytes that each further image keeps for the backward pass, measured on 1 and 2 images."""

    def kept(x: Tensor) -> int:
        with torch.enable_grad(), KeptBytes() as counted:
            scores(x.detach().requires_grad_())
        return counted.total

    image = one.numel() * one.element_size()
    # The difference leaves out the weights, which are kept once.
    return max(kept(two) - kept(one), image)


def default_batch_size(net: "Classifier") -> int:
    """Images per batch for gradient work, from the network's activations and the memory."""
    if net.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(net.device)
        return int(min(max(_CUDA_SHARE * free // net.bytes_per_image, 1), _CUDA_IMAGES))
    return int(min(max(_CPU_BYTES // net.bytes_per_image, 1), _CPU_IMAGES))


def check_batch_size(batch_size: int | None, net: "Classifier") -> int:
    """The batch size to use: as given, or the default.

    Raises:
        InputError: batch_size < 1.
    """
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size={batch_size} must be at least 1, or None for the default.")
    return batch_size or default_batch_size(net)
