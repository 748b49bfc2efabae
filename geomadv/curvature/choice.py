"""How Hessians are to be applied: the choice of `hvp`, its step or beta, and the memory for it."""

import math
import os
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from geomadv.classifier import Classifier
from geomadv.classifier.probes import images_together
from geomadv.classifier.smoothness import hessian_vanishes
from geomadv.errors import InputError

Kind = Literal["exact", "finite-difference", "smoothed"]
Hvp = Literal["auto", "exact", "finite-difference", "smoothed"]

# Softplus sharpness of "smoothed".
_BETA = 10.0
# Finite-difference factor in the released code of "With Friends Like These".
_PAPER_FACTOR = 10
# Images at which curvature is looked for before boundary points are.
_LOOKED_AT = 8
_MEMORY_SHARE, _UNKNOWN_MEMORY = 0.25, 2**30


@dataclass(frozen=True)
class Choice:
    """A kind of product with its parameter; the others are None."""

    kind: Kind
    step: float | None = None
    beta: float | None = None
    fallback_step: float | None = None  # "auto": of differences, where points show no smoothness


def choose(net: Classifier, hvp: str, step: float | None, beta: float | None) -> Choice:
    """What `hvp` means for this network, as far as it can be said without boundary points.

    "auto" is exact here; the points may show that it has to fall back, and that "exact" has no
    meaning (see `method_for`).

    Raises:
        InputError: unknown hvp, a step or beta that is not positive and finite or does not belong
            to hvp.
    """
    if hvp not in ("auto", "exact", "finite-difference", "smoothed"):
        raise InputError(f"hvp={hvp!r} must be 'auto', 'exact', 'finite-difference' or 'smoothed'.")
    _check_parameter("step", step, hvp, ("auto", "finite-difference"))
    _check_parameter("beta", beta, hvp, ("smoothed",))
    if hvp == "smoothed":
        return Choice("smoothed", beta=_BETA if beta is None else float(beta))
    if hvp == "exact":
        return Choice("exact")
    length = paper_step(net) if step is None else float(step)
    if hvp == "auto":
        return Choice("exact", fallback_step=length)
    return Choice("finite-difference", step=length)


def no_curvature(net: Classifier) -> InputError:
    """The refusal of exact products on a piecewise-linear network."""
    return InputError(
        f"hvp='exact' on {net.name!r}: the network is piecewise linear, its Hessian is zero almost "
        "everywhere. Use hvp='finite-difference' (curvature at scale step) or hvp='smoothed' "
        "(softplus)."
    )


def check_curved(net: Classifier, hvp: str, images: Tensor) -> None:
    """Refuses exact products early, where images (n, C, H, W) show no curvature either.

    Raises:
        InputError: hvp="exact", and neither images of every kind nor these show any.
    """
    if hvp == "exact" and net.is_piecewise_linear:
        x = images[:_LOOKED_AT].to(device=net.device, dtype=net.dtype)
        try:
            flat = hessian_vanishes(net.scores, x, net.bounds, images_together(net.input_shape))
        except RuntimeError:  # there is no double backward
            flat = True
        if flat:
            raise no_curvature(net)


def paper_step(net: Classifier) -> float:
    """Step of the paper's finite difference, 10 sqrt(D) (max - min) / 512, image units.

    From the released code of "With Friends Like These" (Jetley, Lord and Torr, 2018).
    """
    low, high = net.bounds
    return _PAPER_FACTOR * math.sqrt(net.dimension) * (high - low) / 512


def check_memory(memory: int | None, net: Classifier) -> int:
    """Bytes for keeping linearisations: as given, or a quarter of what is free now.

    Raises:
        InputError: memory < 0.
    """
    if memory is not None:
        if memory < 0:
            raise InputError(f"memory={memory} bytes must be >= 0, or None for the default.")
        return memory
    if net.device.type == "cuda":
        return int(_MEMORY_SHARE * torch.cuda.mem_get_info(net.device)[0])
    try:
        return int(_MEMORY_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES"))
    except (AttributeError, ValueError):  # systems that do not tell
        return _UNKNOWN_MEMORY


def _check_parameter(name: str, value: float | None, hvp: str, belongs: tuple[str, ...]) -> None:
    if value is None:
        return
    if not 0 < value < math.inf:
        raise InputError(f"{name}={value} must be > 0 and finite, or None for the default.")
    if hvp not in belongs:
        raise InputError(
            f"{name}={value} has no meaning with hvp={hvp!r}; it belongs to "
            f"hvp={' or '.join(map(repr, belongs))}."
        )
