"""DeepFool written out, image by image and class by class."""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def plain_walk(
    scores_of: Callable[[Tensor], Tensor], x: Tensor, p: float = 2, max_iter: int = 50
) -> tuple[Tensor, int]:
    """The published algorithm on an image x (C, H, W): perturbation, float64, and steps.

    Scores and gradients are in the precision of x.
    """
    total = torch.zeros(x.numel(), dtype=torch.float64)
    clean = scores_of(x[None])[0].detach()
    order = clean.argsort(descending=True)[:10]
    source = int(order[0])
    for step in range(max_iter):
        at = (x + 1.02 * total.reshape(x.shape)).to(x.dtype)[None].requires_grad_()
        scores = scores_of(at)[0]
        if int(scores.argmax()) != source:
            return 1.02 * total, step
        best, move = math.inf, total
        for k in order[1:]:
            f = scores[k] - scores[source]
            w = torch.autograd.grad(f, at, retain_graph=True)[0].double()
            norm = float(w.abs().sum() if p == math.inf else w.norm())
            if norm > 0 and abs(float(f.detach())) / norm < best:
                best = abs(float(f.detach())) / norm
                move = best * (w.sign() if p == math.inf else w / norm).flatten()
        total = total + move
    return 1.02 * total, max_iter
