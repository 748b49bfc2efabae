"""Scores that are no logits: probabilities, their logarithms, and both in other units.

Gradients of probabilities vanish where a network is sure, and boundaries of a third class bend
them, so such scores are refused.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from geomadv.classifier.dispatch import Dispatch
from geomadv.errors import InputError

# Sums over the classes, each rounded at the size of its terms, after some steps of arithmetic.
_ROUNDINGS = 1e3
# Rounding is less than this share of what the scores vary by over images, or does not tell.
_TOLD = 1e-2


def check_logits(module: nn.Module, x: Tensor, scores: Tensor, name: str) -> list[str]:
    """Notes on scores (n, classes) of the images x that may be probabilities and cannot be proven.

    Scores are probabilities if they are >= 0 and sum to 1. In other units, a p + b, or without some
    of the classes, they are if the forward pass computes such numbers p on the way: centred logits,
    shifted, sum to a constant too.

    Raises:
        InputError: the scores are probabilities, a p + b of probabilities p, or logarithms of
            these.
    """
    finite = scores.isfinite().all(1)
    scores = scores[finite].double()
    eps = _ROUNDINGS * torch.finfo(x.dtype).eps
    if _are_probabilities(scores, eps):
        raise InputError(
            f"network {name!r} gives probabilities (they sum to 1): a softmax is its last "
            "step. Gradients of probabilities vanish; pass the network without its softmax."
        )
    if (scores <= 0).all() and _are_probabilities(scores.exp(), eps):
        raise InputError(
            f"network {name!r} gives log-probabilities (their exponentials sum to 1): "
            "pass the network without its log-softmax."
        )
    with _Shares(finite, scores.shape[1], eps) as seen:
        module(x)
    for p in seen.found:
        for what, found in (("", scores), ("logarithms of ", scores.exp())):
            if scale := _scale(found, p, eps):
                raise InputError(
                    f"network {name!r} gives {what}{scale:.4g} times its probabilities: a softmax "
                    "is among its last steps. Gradients of probabilities vanish; pass the network "
                    "without it."
                )
    if any(_scale(scores, p, eps) for p in seen.sigmoids):
        return ["its scores are sigmoids, whose gradients vanish where it is sure: pass the logits"]
    total = scores.sum(1)
    if (total - total.mean()).abs().amax() > eps * scores.abs().sum(1).amax():
        return []
    if scores.min() < 0 or not scores.max() > 2 * scores.min():
        return []
    return [f"its scores are shares of {total[0]:.4g}: if percentages, pass the logits instead"]


def _are_probabilities(rows: Tensor, eps: float) -> bool:
    return bool((rows >= 0).all() and ((rows.sum(1) - 1).abs() <= eps).all())


def _scale(scores: Tensor, shares: Tensor, eps: float) -> float:
    """The a of scores = a p + b, p columns of the shares; 0 where they are not so.

    scores: (n, classes); shares: (n, m), m any number of classes.
    """
    if shares.shape[1] != scores.shape[1]:
        shares = shares[:, _most_alike(scores, shares)]
    p, f = shares - shares.mean(), scores - scores.mean()
    a = float((p * f).sum() / (p * p).sum().clamp_min(torch.finfo(p.dtype).tiny))
    allowed = eps * float(scores.abs().amax())
    # Beside a large offset rounding could hide anything.
    told = allowed < _TOLD * float((scores - scores.mean(0)).abs().amax())
    return a if told and (f - a * p).abs().amax() <= allowed else 0.0


def _most_alike(scores: Tensor, shares: Tensor) -> Tensor:
    """For each class the column (classes,) of the shares that varies most like its scores."""
    f, p = (rows - rows.mean(0) for rows in (scores, shares))
    tiny = torch.finfo(p.dtype).tiny
    alike = (f / f.norm(dim=0).clamp_min(tiny)).T @ (p / p.norm(dim=0).clamp_min(tiny))
    best: Tensor = alike.argmax(1)
    return best


class _Shares(Dispatch):
    """Notes results of a forward pass that are a row of probabilities, or of sigmoids, an image."""

    def __init__(self, finite: Tensor, classes: int, eps: float) -> None:
        """finite: (n,) of which images to look at."""
        super().__init__()
        self.finite, self.classes, self.eps = finite, classes, eps
        self.found: list[Tensor] = []
        self.sigmoids: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        images = len(self.finite)
        for t in tree_leaves(result):
            fits = isinstance(t, Tensor) and t.is_floating_point() and t.shape[:1] == (images,)
            if fits and (t.ndim == 2 or t.numel() == images * self.classes):
                # A copy: what follows may work in place.
                rows = t.flatten(1)[self.finite].double()
                # One-hot rows are steps, whose gradient is looked at elsewhere.
                if _are_probabilities(rows, self.eps) and ((rows > 0) & (rows < 1)).any():
                    self.found.append(rows)
                elif func is torch.ops.aten.sigmoid.default:
                    self.sigmoids.append(rows)
        return result
