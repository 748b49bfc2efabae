"""Which images one perturbation fools."""

from typing import Any

import torch
from torch import Tensor

from geomadv.classifier import Classifier
from geomadv.errors import InputError


@torch.no_grad()
def labels_at(net: Classifier, x: Tensor, size: int) -> Tensor:
    """Classes (N,) int64 at any points (N, C, H, W) of image space; nothing is checked."""
    return torch.cat([net.scores(part).argmax(1) for part in x.split(size)])


@torch.no_grad()
def labels_under(net: Classifier, x: Tensor, delta: Tensor, size: int) -> Tensor:
    """Classes (N,) int64 at x + delta, with one delta (C, H, W) for all images."""
    return torch.cat([net.scores(part + delta).argmax(1) for part in x.split(size)])


def check_perturbation(net: Classifier, delta: Any, name: str = "perturbation") -> Tensor:
    """A perturbation (C, H, W) on the network's device and in its dtype.

    Raises:
        InputError: another shape, or entries that are not finite.
    """
    tensor = torch.as_tensor(delta)
    if tuple(tensor.shape) != net.input_shape:
        raise InputError(
            f"{name} has shape {tuple(tensor.shape)}, but images of network {net.name!r} have "
            f"{net.input_shape}. Use a perturbation that was made for images of this shape."
        )
    if not tensor.isfinite().all():
        raise InputError(f"{name} has NaN or infinite entries; expected finite numbers.")
    return tensor.to(device=net.device, dtype=net.dtype)
