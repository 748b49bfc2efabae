"""Slide along the decision boundary to the point nearest to the image."""

import math

import torch
from torch import Tensor

from geomadv.classifier import Classifier
from geomadv.segment import rival_margin

# Schedules, both falling as half a cosine. The turn towards the normal starts at four times the
# unit direction, so that DeepFool's direction is soon forgotten: from 1 the median norm on 64
# CIFAR-10 images (ResNet-20) was 15 % larger, from 16 no better. The change of radius starts at
# 5 % as in DDN (Rony et al. 2019, gamma).
_TURN = (4.0, 0.01)
_RADIUS = (0.05, 0.002)


def nearest_crossing(
    net: Classifier,
    x: Tensor,
    delta: Tensor,
    source: Tensor,
    targets: Tensor | None,
    steps: int,
) -> Tensor:
    """Perturbations that cross the boundary, shorter than delta and closer to its normal.

    At the nearest boundary point the perturbation is parallel to the normal n (the optimality
    condition that SuperDeepFool, Abdollahpoor et al. 2024, iterates). Here the unit direction u
    turns towards n by ever smaller steps, u <- (u + a n) / ||·||, while the radius shrinks inside
    the rival's region and grows outside, as in DDN (Rony et al. 2019). Steps are relative to the
    perturbation, so nothing depends on the scale of the images.

    Args:
        net: the network.
        x: images (n, C, H, W).
        delta: perturbations (n, C, H, W) that cross the boundary; others are returned unchanged.
        source: (n,) classes predicted at x.
        targets: (n,) classes to reach, or None for any other than the source class.
        steps: gradients to spend per image.

    Returns:
        (n, C, H, W) perturbations that end inside the rival's region, none longer than delta.
    """
    flat = delta.flatten(1)
    best, radius = flat.clone(), flat.norm(dim=1)
    with torch.no_grad():
        margin, _ = rival_margin(net.scores(x + delta), source, targets)
    start = (margin >= 0) & (radius > 0)
    rows = start.nonzero().squeeze(1)
    if len(rows) == 0:
        return delta
    targets = None if targets is None else targets[rows]
    direction = flat[rows] / radius[rows, None]
    best_radius, radius = radius[rows].clone(), radius[rows].clone()
    for step in range(steps):
        share = (1 + math.cos(math.pi * step / steps)) / 2
        turn, change = (low + (high - low) * share for high, low in (_TURN, _RADIUS))
        point = (radius[:, None] * direction).reshape(-1, *net.input_shape)
        margin, normal = _margin_and_normal(net, x[rows] + point, source[rows], targets)
        inside = margin >= 0
        better = inside & (radius < best_radius)
        best[rows[better]] = (radius[:, None] * direction)[better]
        best_radius = torch.where(better, radius, best_radius)
        smaller = torch.minimum(radius, best_radius) * (1 - change)
        radius = torch.where(inside, smaller, radius * (1 + change))
        turned = direction + turn * normal
        length = turned.norm(dim=1, keepdim=True)
        direction = torch.where(length > 0, turned / length, direction)
    return best.reshape(delta.shape)


def _margin_and_normal(
    net: Classifier, x: Tensor, source: Tensor, targets: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The rival's margin (n,) and its unit gradient (n, D), zero where the gradient vanishes."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        margin, _ = rival_margin(net.scores(x), source, targets)
        (gradient,) = torch.autograd.grad(margin.sum(), x)
    gradient = gradient.flatten(1)
    length = gradient.norm(dim=1, keepdim=True)
    usable = (length > torch.finfo(length.dtype).tiny) & length.isfinite()
    return margin.detach(), torch.where(usable, gradient / length, 0.0)
