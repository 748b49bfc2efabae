"""Which images one perturbation fools."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geomadv.classifier import Classifier
from geomadv.errors import InputError

# Stands for the class of an image whose scores are not finite.
NO_LABEL = -1


def labels_of(scores: Tensor) -> Tensor:
    """Classes (N,) int64 of scores (N, classes); -1 where a score is NaN or infinite.

    An argmax takes NaN for the largest: an image whose scores overflow would count as class 0, or
    as fooled.
    """
    return torch.where(scores.isfinite().all(1), scores.argmax(1), NO_LABEL)


@torch.no_grad()
def labels_at(net: Classifier, x: Tensor, size: int) -> Tensor:
    """Classes (N,) int64 at any points (N, C, H, W) of image space; -1 as in `labels_of`."""
    return torch.cat([labels_of(net.scores(part)) for part in x.split(size)])


@torch.no_grad()
def labels_under(net: Classifier, x: Tensor, delta: Tensor, size: int) -> Tensor:
    """Classes (N,) int64 at x + delta, with one delta (C, H, W) for all images; -1 likewise."""
    return torch.cat([labels_of(net.scores(part + delta)) for part in x.split(size)])


def clean_labels(net: Classifier, x: Tensor, size: int) -> Tensor:
    """Classes (N,) int64 of clean images (N, C, H, W).

    Raises:
        InputError: scores that are not finite.
    """
    return check_labels(net, labels_at(net, x, size))


def check_labels(net: Classifier, labels: Tensor, start: int = 0) -> Tensor:
    """The labels (N,) of clean images, if there are such.

    start: the number of the first of these images, for the message.

    Raises:
        InputError: scores that are not finite.
    """
    missing = lost(labels)
    if missing.any():
        first = start + int(missing.nonzero()[0])
        raise InputError(
            f"network {net.name!r} gives non-finite scores on {int(missing.sum())} of "
            f"{len(labels)} images, first on number {first}: they have no predicted class. Leave "
            "such images out, check the weights, or use dtype=torch.float64."
        )
    return labels


def lost(labels: Tensor) -> Tensor:
    """(N,) bool: no label, because scores are not finite."""
    return labels == NO_LABEL


def is_fooled(labels: Tensor, clean: Tensor) -> Tensor:
    """(N,) bool: another class than `clean`; an image without a class (-1) is not fooled."""
    return (labels != clean) & ~lost(labels)


def fooled_and_lost(
    net: Classifier,
    x: Tensor,
    clean: Tensor,
    norms: Sequence[float],
    size: int,
    advance: Callable[[], object],
    units: Tensor,
) -> NDArray[np.bool_]:
    """Which images (N,) unit vectors (k, D) fool at every norm, and leave without a label.

    clean: their labels; size: images per pass; advance: called after each vector and norm.
    Gives a (2, norms, k, N) array.
    """
    found = np.empty((2, len(norms), len(units), len(x)), dtype=bool)
    for i, norm in enumerate(norms):
        for k, unit in enumerate(units):
            labels = labels_under(net, x, (norm * unit).reshape(net.input_shape), size)
            found[0, i, k] = is_fooled(labels, clean).cpu().numpy()
            found[1, i, k] = lost(labels).cpu().numpy()
            advance()
    return found


def check_norms(norms: Sequence[float]) -> None:
    """Raises `InputError` where there are no norms, or not all are positive and finite."""
    if not norms or not all(np.isfinite(n) and n > 0 for n in norms):
        raise InputError(f"norms={list(norms)} must be positive numbers, in image units.")


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
