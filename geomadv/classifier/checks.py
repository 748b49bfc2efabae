"""What a network and its description must satisfy to become a Classifier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from geomadv.errors import InputError

if TYPE_CHECKING:
    from geomadv.classifier.network import Classifier


def check_kind(module: Any) -> None:
    """The module must be an `nn.Module`.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(module, nn.Module):
        raise InputError(
            f"module is a {type(module).__name__}, expected a torch.nn.Module. Wrap a function "
            "in a module's forward; networks by name come from load_network."
        )
    if empty := [name for name, t in module.named_parameters() if t.is_meta]:
        raise InputError(
            f"module has weights on the device meta, which have no values ({empty[0]}, ...): make "
            "the network on the CPU, or load its weights with assign=True."
        )


def usable_device(value: torch.device | str) -> torch.device:
    """The device, where tensors can be made.

    Raises:
        InputError: no such device, or it is not there.
    """
    try:
        device = torch.device(value)
        torch.empty(1, device=device)
        if device.type != "meta" and (device.type != "cpu" or not device.index):
            return device
        reason = "there is one CPU" if device.type == "cpu" else "tensors have no values there"
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0].removesuffix(".")
        if reason.startswith("Expected one of"):
            reason = "torch knows no such device"
    raise InputError(f"device={value!r} (--device): {reason}. Expected cpu, cuda or cuda:1.")


def image_shape(value: Any) -> tuple[int, int, int]:
    """Checked (channels, height, width).

    Raises:
        InputError: not three whole numbers >= 1.
    """
    try:
        shape = tuple(int(v) for v in value)
        whole = all(s == v and s >= 1 for s, v in zip(shape, value, strict=True))
    except (TypeError, ValueError):
        shape, whole = (), False
    if not whole or len(shape) != 3:
        raise InputError(
            f"input_shape={value!r} must be (channels, height, width) of one image, whole numbers "
            ">= 1, without a batch dimension."
        )
    return shape[0], shape[1], shape[2]


def pixel_bounds(value: Any) -> tuple[float, float]:
    """Checked (low, high).

    Raises:
        InputError: not two finite numbers low < high.
    """
    try:
        low, high = (float(v) for v in value)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not -math.inf < low < high < math.inf:
        raise InputError(f"bounds={value!r} must be finite numbers (low, high) with low < high.")
    return low, high


def per_channel(name: str, value: Any, channels: int) -> Tensor | None:
    """A mean or std as a (1 or channels, 1, 1) float64 copy; None for None.

    Raises:
        InputError: not one number or one per channel, not finite, or a std <= 0.
    """
    if value is None:
        return None
    try:
        tensor = torch.as_tensor(value, dtype=torch.float64).detach().clone().flatten()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name}={value!r} must be one number or one per channel.") from error
    if len(tensor) not in (1, channels):
        raise InputError(
            f"{name} has {len(tensor)} entries for images of {channels} channels. "
            f"Give one number or one per channel."
        )
    if not tensor.isfinite().all() or (name == "std" and (tensor <= 0).any()):
        raise InputError(f"{name}={value!r} must be finite{' and > 0' if name == 'std' else ''}.")
    return tensor.reshape(-1, 1, 1)


def names_of_classes(value: Sequence[str] | None, num_classes: int) -> tuple[str, ...]:
    """Class names, by default "0", "1", ...

    Raises:
        InputError: not one name per class.
    """
    names = [str(c) for c in range(num_classes)] if value is None else [str(n) for n in value]
    if len(names) != num_classes:
        raise InputError(
            f"class_names has {len(names)} names, but the network gives {num_classes} "
            "scores per image. Give one name per score, or none."
        )
    return tuple(names)


def check_known(net: Classifier, labels: Tensor, what: str) -> None:
    """The labels (N,) of images must be classes of the network.

    what: how the message begins, up to the label, such as "images: label".

    Raises:
        InputError: a label beyond its classes.
    """
    largest = int(labels.max())
    if largest >= net.num_classes:
        raise InputError(
            f"{what} {largest}, but network {net.name!r} knows classes 0 to {net.num_classes - 1}. "
            "Give images of the classes that it was trained on."
        )
