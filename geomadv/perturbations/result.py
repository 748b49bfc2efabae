"""What all perturbations of single images have in common: the record, and classes by number."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geomadv.classifier import Classifier
from geomadv.doors import check_device
from geomadv.errors import InputError, closest

# One class for all images, or one each, by number or by the network's name for it.
Classes = int | str | Sequence[int | str] | Tensor


@dataclass(frozen=True)
class Perturbations:
    """Perturbations, one per image, in the order of the images."""

    delta: Tensor  # (N, C, H, W)  perturbation, image units
    adversarial: Tensor  # (N, C, H, W)  the perturbed images as they were tested
    norm: Tensor  # (N,)  Euclidean norm of delta, image units
    source: Tensor  # (N,)  int64, the class predicted at the clean image
    label: Tensor  # (N,)  int64, the class predicted at `adversarial`; -1: scores not finite

    def __len__(self) -> int:
        return len(self.norm)

    def __repr__(self) -> str:
        changed = self.label != self.source
        middle = (
            f", median norm {float(self.norm[changed].double().quantile(0.5)):.3g}"
            if changed.any()
            else ""
        )
        return (
            f"{type(self).__name__}({len(self)} of images {tuple(self.delta.shape[1:])}, "
            f"{int(changed.sum())} labels changed{middle})"
        )


def _numbers(name: str, value: Any, net: Classifier) -> Tensor:
    """Classes as numbers; texts are names of the network's classes."""
    words = np.asarray(value) if not isinstance(value, Tensor) else None
    if words is not None and words.dtype.kind in "USO":
        known = {word: k for k, word in enumerate(net.class_names)}
        if unknown := [w for w in words.ravel().tolist() if w not in known]:
            hint = closest(str(unknown[0]), net.class_names)
            raise InputError(
                f"{name}: {unknown[0]!r} is no class of network {net.name!r}.{hint} Expected class "
                f"numbers, 0 to {net.num_classes - 1}, or names of its classes, which are "
                f"{', '.join(net.class_names[:12])}{', ...' if net.num_classes > 12 else ''}."
            )
        value = [known[w] for w in words.ravel().tolist()] if words.ndim else known[words.item()]
    check_device(name, value)
    return torch.as_tensor(value, device=net.device)


def check_classes(name: str, value: Classes | None, n: int, net: Classifier) -> Tensor | None:
    """Classes for n images, one for all or one each, as (n,) int64; None for None.

    name: what the argument is called, for messages.

    Raises:
        InputError: not integers, another number of them, or classes that the network has not.
    """
    if value is None:
        return None
    classes = _numbers(name, value, net)
    if classes.is_floating_point() or classes.dtype == torch.bool:
        raise InputError(f"{name} must be integer classes, not {classes.dtype}.")
    if classes.ndim > 1 or (classes.ndim == 1 and len(classes) != n):
        raise InputError(
            f"{name} has shape {tuple(classes.shape)} for {n} images: give one class for all, or "
            "one per image."
        )
    unknown = classes[(classes < 0) | (classes >= net.num_classes)]
    if len(unknown) > 0:
        raise InputError(
            f"{name}: class {int(unknown[0])} does not exist; network {net.name!r} has classes 0 "
            f"to {net.num_classes - 1}."
        )
    return classes.to(torch.int64).expand(n).clone()
