"""Scores where pixels leave the bounds, as those of perturbed images do.

A forward that looks at the range of its numbers (`if x.max() > 1: x = x / 255`) is one network on
images and another on the perturbed ones, and where it looks at a whole batch, one image changes the
scores of all.
"""

from contextlib import suppress

import torch
from torch import Tensor, nn

from geomadv.classifier.normalised import copied
from geomadv.classifier.probes import class_spread
from geomadv.errors import InputError

# Of the bounds' width: how close to a bound a jump is looked for, and again in float64, which tells
# steep from jumping; and how far out an image may change the others.
_STEP, _FINE, _FAR = 1e-4, 1e-9, 1.5
# A jump is so many times the change beside it, and such a share of how the class varies.
_TIMES, _SHARE = 10.0, 1e-2


def across_bounds(x: Tensor, bounds: tuple[float, float]) -> Tensor:
    """The image x (1, C, H, W), and the same with a pixel above and one with a pixel below."""
    width = _FAR * (bounds[1] - bounds[0])
    return torch.cat([x, _with_pixel(x, bounds[1] + width), _with_pixel(x, bounds[0] - width)])


def check_no_jump(
    module: nn.Module, x: Tensor, bounds: tuple[float, float], scores: Tensor, name: str
) -> None:
    """Refuses a module whose scores jump where a pixel of the image x (1, C, H, W) leaves bounds.

    scores: (n, classes) of several images, which tell how much each class varies.

    Raises:
        InputError: they jump, in float64 too where the module computes in it, or it fails there.
    """
    jump = _jump(module, x, bounds, scores, name, _STEP)
    if jump:
        # Scores that hardly depend on the image jump by rounding; others are steep.
        with suppress(Exception):  # foreign code, or a device, without float64
            double = copied(module).double()
            jump = _jump(double, x.double(), bounds, scores.double(), name, _FINE)
    if jump:
        raise InputError(
            f"network {name!r} gives other scores as soon as a pixel leaves the bounds {bounds}: "
            f"they jump by {jump:.2g} of what they vary by. Walks to the boundary leave the "
            "bounds; let its forward compute alike there, without asking for the range of its "
            "images (x.max() > 1)."
        )


def _jump(
    module: nn.Module,
    x: Tensor,
    bounds: tuple[float, float],
    scores: Tensor,
    name: str,
    step: float,
) -> float:
    """The largest jump at the bounds, in spreads of the class; 0 where there is none."""
    spread, found = class_spread(scores), 0.0
    varying = spread > 0
    for bound, out in zip(bounds, (-1, 1), strict=True):
        steps = [bound + out * k * step * (bounds[1] - bounds[0]) for k in (-3, -1, 1, 3)]
        inside, outside = (_scores(module, x, pair, name) for pair in (steps[:2], steps[2:]))
        rows = torch.cat([inside, outside]).double()[:, varying] / spread[varying]
        if rows.isfinite().all() and varying.any():
            before, jump, after = rows.diff(dim=0).abs().amax(1).tolist()
            found = max(found, jump if jump > _SHARE + _TIMES * max(before, after) else 0.0)
    return found


def _scores(module: nn.Module, x: Tensor, values: list[float], name: str) -> Tensor:
    try:
        scores: Tensor = module(torch.cat([_with_pixel(x, value) for value in values]))
    except Exception as error:  # a foreign module may raise anything
        line = str(error).strip().split("\n")[0]
        raise InputError(
            f"network {name!r} fails where pixels are around {values[0]:.6g}: {line}. Walks to the "
            "boundary leave the bounds; let its forward take any numbers."
        ) from error
    return scores


def _with_pixel(x: Tensor, value: float) -> Tensor:
    """The image x (1, C, H, W) with the middle pixel of all channels set."""
    changed = x.clone()
    changed[:, :, x.shape[2] // 2, x.shape[3] // 2] = value
    return changed
