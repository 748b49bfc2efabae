"""Convolutions of frozen weights for repeated differentiation.

The second backward pass of torch's convolution also computes a gradient of the weights, group by
group, whether it is wanted or not. Here the convolution and its adjoint are each other's
derivative, and nothing else is computed.
"""

from typing import Any

import torch
from torch import Tensor

Settings = tuple[Any, ...]  # stride, padding, dilation, transposed, output padding, groups

_ATEN = torch.ops.aten


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, settings: Settings
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.settings, ctx.shape = settings, x.shape
        result: Tensor = _ATEN.convolution.default(x, weight, bias, *settings)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (weight,) = ctx.saved_tensors
        product = _Adjoint.apply(  # type: ignore[no-untyped-call]
            gradients[0], weight, ctx.shape, ctx.settings
        )
        return product, None, None, None


class _Adjoint(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, gradient: Tensor, weight: Tensor, shape: torch.Size, settings: Settings
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.settings = settings
        # Only the shape and layout of the input matter here.
        layout = torch.channels_last if len(shape) == 4 else torch.contiguous_format
        x = torch.empty(shape, dtype=gradient.dtype, device=gradient.device, memory_format=layout)
        mask = [True, False, False]
        result: Tensor = _ATEN.convolution_backward.default(
            gradient, x, weight, [0], *settings, mask
        )[0]
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (weight,) = ctx.saved_tensors
        product = _Convolution.apply(  # type: ignore[no-untyped-call]
            gradients[0], weight, None, ctx.settings
        )
        return product, None, None, None


def convolution(x: Tensor, weight: Tensor, bias: Tensor | None, *settings: Any) -> Tensor:
    """The arguments and the value of torch's elementary convolution; gradients in x only."""
    result: Tensor = _Convolution.apply(  # type: ignore[no-untyped-call]
        x, weight, bias, settings
    )
    return result
