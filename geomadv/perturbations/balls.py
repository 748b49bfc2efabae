"""Balls of the 2- and the maximum norm: projections and norms."""

import math

import torch
from torch import Tensor

from geomadv.classifier import Classifier
from geomadv.errors import InputError


def check_ball(radius: float, p: float) -> None:
    """Radius and order of a ball.

    Raises:
        InputError: radius is not positive and finite, or p is neither 2 nor math.inf.
    """
    if not 0 < radius < math.inf:
        raise InputError(f"radius={radius} must be positive and finite, in image units.")
    if p not in (2, math.inf):
        raise InputError(f"p={p}: the norm must be p=2 or p=math.inf.")


def ball_norm(v: Tensor, p: float) -> float:
    """The p-norm of all entries of v, taken in float64."""
    return float(torch.linalg.vector_norm(v.double().flatten(), ord=p))


def mean_norm(x: Tensor, p: float = 2) -> float:
    """Mean p-norm of images (N, C, H, W), taken in float64."""
    return float(torch.linalg.vector_norm(x.flatten(1).double(), ord=p, dim=1).mean())


def project_ball(v: Tensor, radius: float, p: float) -> Tensor:
    """The point of the p-ball of a radius around 0 that is nearest to v, in the shape of v.

    p = 2: v scaled back to the sphere where it lies outside; p = math.inf: each entry clipped.
    """
    if p == 2:
        norm = ball_norm(v, 2)
        return v if norm <= radius else v * (radius / norm)
    return v.clamp(-radius, radius)


def farthest(net: Classifier, p: float = 2) -> float:
    """The p-norm distance of the two images in the bounds that are farthest apart, image units."""
    low, high = net.bounds
    return (high - low) * (1 if p == math.inf else math.sqrt(net.dimension))


def check_units(name: str, size: float, p: float, net: Classifier) -> None:
    """Refuses perturbations larger than any between two images, as those in 8-bit units are.

    name: of the argument, for messages; size: of the perturbation, in the p-norm, image units.

    Raises:
        InputError: the bounds of the network hold no two images so far apart.
    """
    low, high = net.bounds
    if size > (most := farthest(net, p)):
        eighth = f" In 8-bit units? Then give {size:g}/255." if (low, high) == (0, 1) else ""
        raise InputError(
            f"{name}={size:g} is more than the distance of any two images (at most {most:.4g}) in "
            f"the bounds [{low:g}, {high:g}] of network {net.name!r}; expected image units.{eighth}"
        )
