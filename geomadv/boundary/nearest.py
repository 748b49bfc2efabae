"""Slide along the decision boundary to the point nearest to the image."""

import math

import torch
from torch import Tensor

from geomadv.classifier import Classifier
from geomadv.classifier.boundary_function import BoundaryFunction

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
    boundary: BoundaryFunction,
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
        boundary: which boundary, for each image.
        steps: gradients to spend per image.

    Returns:
        (n, C, H, W) perturbations that end beyond the boundary, none longer than delta.
    """
    flat = delta.flatten(1)
    best, radius = flat.clone(), flat.norm(dim=1)
    with torch.no_grad():
        margin = boundary(net.scores(x + delta)).value
    start = (margin >= 0) & (radius > 0)
    rows = start.nonzero().squeeze(1)
    if len(rows) == 0:
        return delta
    boundary = boundary[rows]
    direction = flat[rows] / radius[rows, None]
    best_radius, radius = radius[rows].clone(), radius[rows].clone()
    for step in range(steps):
        share = (1 + math.cos(math.pi * step / steps)) / 2
        turn, change = (low + (high - low) * share for high, low in (_TURN, _RADIUS))
        point = (radius[:, None] * direction).reshape(-1, *net.input_shape)
        margin, normal = _margin_and_normal(net, x[rows] + point, boundary)
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
    net: Classifier, x: Tensor, boundary: BoundaryFunction
) -> tuple[Tensor, Tensor]:
    """The boundary function (n,) and its unit gradient (n, D), zero where the gradient vanishes."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        margin = boundary(net.scores(x)).value
        (gradient,) = torch.autograd.grad(margin.sum(), x)
    gradient = gradient.flatten(1)
    length = gradient.norm(dim=1, keepdim=True)
    usable = (length > torch.finfo(length.dtype).tiny) & length.isfinite()
    return margin.detach(), torch.where(usable, gradient / length, 0.0)
