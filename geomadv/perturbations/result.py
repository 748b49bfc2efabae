"""What all perturbations of single images have in common: the record, and classes by number."""

from dataclasses import dataclass

import torch
from torch import Tensor

from geomadv.classifier import Classifier
from geomadv.errors import InputError


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
        middle = f", median norm {float(self.norm[changed].median()):.3g}" if changed.any() else ""
        return (
            f"{type(self).__name__}({len(self)} of images {tuple(self.delta.shape[1:])}, "
            f"{int(changed.sum())} labels changed{middle})"
        )


def check_classes(name: str, value: int | Tensor | None, n: int, net: Classifier) -> Tensor | None:
    """Classes for n images, one for all or one each, as (n,) int64; None for None.

    name: what the argument is called, for messages.

    Raises:
        InputError: not integers, another number of them, or classes that the network has not.
    """
    if value is None:
        return None
    classes = torch.as_tensor(value, device=net.device)
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
