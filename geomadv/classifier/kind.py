"""What kind of function a network is: piecewise linear, and whether it can be made smooth."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from geomadv.classifier.probes import images_of_every_kind, images_together
from geomadv.classifier.smoothness import (
    gradient_is_piecewise_constant,
    has_jumps,
    hessian_vanishes,
)
from geomadv.errors import InputError

if TYPE_CHECKING:
    from geomadv.classifier.network import Classifier

# What a device without float64 raises (TypeError), and a network that does not compute in it.
_NOT_IN_FLOAT64 = (RuntimeError, TypeError, InputError)


@torch.inference_mode(False)  # tensors made in inference mode have no gradients ever
def piecewise_linear(net: Classifier) -> bool:
    """Whether the gradient of a network stays the same under tiny steps, at images of every kind.

    Probed in float64. Where the network does not run in it, its exact Hessian products are looked
    at; where it has none, the answer is whether it calls a non-smooth function.
    """
    images = images_of_every_kind(net.input_shape, net.bounds).to(net.device)
    together = images_together(net.input_shape)
    try:
        exact = net.dtype == torch.float64
        double = net if exact else net.to(dtype=torch.float64, fast=False)
        return gradient_is_piecewise_constant(double.scores, images, net.bounds, together)
    except _NOT_IN_FLOAT64:
        images = images.to(net.dtype)
    try:
        return hessian_vanishes(net.scores, images, net.bounds, together)
    except RuntimeError:
        return bool(net.kinks)


@torch.inference_mode(False)
def keeps_jumps(smooth: Callable[[torch.dtype], Classifier], x: Tensor) -> bool | None:
    """Whether the gradient still jumps where all calls that have a smooth form are smooth.

    In float64 or else in float32; None where the network computes in neither.

    smooth: the smoothed network in a dtype; x: images (n, C, H, W) to look between.
    """
    for dtype in (torch.float64, torch.float32):
        try:
            net = smooth(dtype)
            return has_jumps(net.scores, x.to(dtype), net.bounds, dtype)
        except _NOT_IN_FLOAT64:
            continue
    return None
