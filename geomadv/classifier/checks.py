"""What a network and its description must satisfy to become a Classifier."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from geomadv.errors import InputError


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


@torch.no_grad()
def num_classes_of(module: nn.Module, probe: Tensor, name: str) -> int:
    """Number of scores per image, after checking the scores of the probe images.

    module: images (N, C, H, W) -> scores; probe: a few images in the bounds; name: for messages.

    Raises:
        InputError: the module does not take the images, or its scores are not logits (N, >= 2)
            that depend on each image alone.
    """
    try:
        scores, again, alone = module(probe), module(probe), module(probe[:1])
    except Exception as error:  # a foreign module may raise anything
        raise InputError(
            f"network {name!r} does not take images of input_shape={tuple(probe.shape[1:])} "
            f"in {probe.dtype}: {error}"
        ) from error
    _check_form(scores, len(probe), name)
    _check_not_probabilities(scores, name)
    _check_repeats(scores, again, alone, name)
    return int(scores.shape[1])


def _check_form(scores: Any, images: int, name: str) -> None:
    if not isinstance(scores, Tensor) or scores.ndim != 2 or len(scores) != images:
        found = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise InputError(
            f"network {name!r} gives {found} for {images} images; expected a ({images}, classes) "
            "tensor of scores. Wrap it so that it returns that alone."
        )
    if not scores.is_floating_point():
        raise InputError(f"network {name!r} gives {scores.dtype}; expected floating scores.")
    if scores.shape[1] < 2:
        raise InputError(
            f"network {name!r} gives a single score per image. Wrap it so that it gives "
            "one per class, for a binary score s for example torch.cat([-s, s], 1) / 2."
        )
    if not scores.isfinite().all():
        raise InputError(f"network {name!r} gives non-finite scores. Check its weights.")


def _check_not_probabilities(scores: Tensor, name: str) -> None:
    # Capped for half precision, where it would let any small positive scores pass as a softmax.
    tolerance = min(1e3 * torch.finfo(scores.dtype).eps, 1e-2)
    one = torch.ones_like(scores[:, 0])
    if (scores >= 0).all() and torch.allclose(scores.sum(1), one, rtol=0, atol=tolerance):
        raise InputError(
            f"network {name!r} gives probabilities (they sum to 1): a softmax is its last "
            "step. Gradients of probabilities vanish; pass the network without its softmax."
        )
    if (scores <= 0).all() and torch.allclose(scores.exp().sum(1), one, rtol=0, atol=tolerance):
        raise InputError(
            f"network {name!r} gives log-probabilities (their exponentials sum to 1): "
            "pass the network without its log-softmax."
        )


def _check_repeats(scores: Tensor, again: Tensor, alone: Tensor, name: str) -> None:
    rounding = torch.finfo(scores.dtype).eps * scores.abs().amax()
    # The same call repeats to a few roundings, even with atomic additions on a GPU.
    if ((scores - again).abs() > 1e2 * rounding).any():
        raise InputError(
            f"network {name!r} gives different scores for the same images: its outputs "
            "are not deterministic. Remove noise or dropout that stays active in eval mode."
        )
    # Another batch size may run other kernels (TF32 on a GPU: 1e-3); mixing images shows more.
    if ((scores[:1] - alone).abs() > 1e4 * rounding).any():
        raise InputError(
            f"network {name!r} gives an image different scores alone and in a batch "
            "(batch-norm without running statistics?). geomadv needs per-image scores."
        )
