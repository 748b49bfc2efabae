"""How many images at a time: from memory, and without changing results."""

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor

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


def default_batch_size(device: torch.device, bytes_per_image: int) -> int:
    """Images per batch for gradient work, from what each of them keeps and the memory."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(min(max(_CUDA_SHARE * free // bytes_per_image, 1), _CUDA_IMAGES))
    return int(min(max(_CPU_BYTES // bytes_per_image, 1), _CPU_IMAGES))
