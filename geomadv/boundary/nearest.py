"""Slide along the decision boundary to the point nearest to the image."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from geomadv.classifier import Classifier
from geomadv.classifier.boundary_function import BoundaryFunction
from geomadv.linalg.vectors import unit_rows

# Shares of delta at which the ray is looked at.
_SHARES = (0.0, *(2.0**-power for power in (6, 5.25, 4.5, 3.75, 3, 2.25, 1.5, 0.75, 0)))
# Gradients (a forward pass, and a backward pass of twice its work) that it leaves to the ten passes
# along the ray and to what a caller needs for the point: five or six passes on the segment to it,
# and its normal.
_OTHER_COST = 6
# Share of the gradients for the search from the image outwards.
_OUTWARD = 0.25
# DeepFool walked far if another search crosses at 1/_FAR of its length. Then the boundary is rough.
_FAR = 1.5

# Schedules, all falling as half a cosine. On a smooth boundary the turn towards the normal starts
# at four times the unit direction, so that DeepFool's direction is soon forgotten: from 1 the
# median norm on 64 CIFAR-10 images (ResNet-20) was 15 % larger, from 16 no better. On a rough one
# (MNIST network robust to 0.3) it starts at 1 and follows the mean of recent normals: from 4 the
# median norm of 64 images was 30 % larger. From the image outwards 0.5, where 2 was 16 % larger.
# The change of radius starts at 5 % as in DDN (Rony et al. 2019, gamma).
_TURN_SMOOTH, _TURN_ROUGH, _TURN_OUTWARD, _TURN_LAST = 4.0, 1.0, 0.5, 0.01
_RADIUS = (0.05, 0.002)
_MEMORY_ROUGH = 0.5
# No point farther than this many times the shortest crossing is looked at.
_REACH = 1.2


def nearest_crossing(
    net: Classifier,
    x: Tensor,
    delta: Tensor,
    boundary: BoundaryFunction,
    steps: int,
) -> Tensor:
    """Perturbations that cross the boundary, shorter than delta and closer to its normal.

    At the nearest boundary point the perturbation is parallel to the normal n (the optimality
    condition that SuperDeepFool, Abdollahpoor et al. 2024, iterates). The search has three parts:

    1. The ray along delta is looked at, at nine shares from 1/64 to 1.
    2. A search from the image outwards, inside the pixel box, in a quarter of the gradients: the
       first radius is the linear estimate |f| / ||grad f|| as in FMN (Pintor et al. 2021). Where
       the network saturates outside the box, DeepFool and the ray walk far and this one does not.
       Where the gradient vanishes it tries the brightest and the darkest image and fixed noise.
    3. The boundary is followed from the best point, without the box: the unit direction u turns
       towards n by ever smaller steps, u <- (u + a n) / ||·||, while the radius shrinks beyond the
       boundary and grows on the image's side, as in DDN (Rony et al. 2019). Where 1 and 2 are not
       much shorter than delta it starts from delta with large turns; elsewhere from the mean of
       both directions, with small ones along the mean of recent normals.

    Steps are relative to the perturbation, radii to f / ||grad f||, so nothing depends on the
    scale of images or scores. Other images of the batch change results by rounding only, but a
    network with kinks amplifies that along a hundred steps: on 64 images of ResNet-20, batches of
    1 and of 64 ended at lengths within 0.8 %, 17 of them apart by more than 0.01 %, and 5
    directions had a cosine below 0.99.

    Args:
        net: the network.
        x: images (n, C, H, W).
        delta: perturbations (n, C, H, W), best ones that cross the boundary. Others serve as a
            direction only.
        boundary: which boundary, for each image.
        steps: gradients to spend per image. Six of them are spared for the forward passes along the
            ray and for a caller's last search on the segment to the result.

    Returns:
        (n, C, H, W) perturbations that end beyond the boundary, none longer than a delta that does.
        Where no crossing was found, and at images that lie on the boundary or beyond it, delta.
    """
    result = delta.clone()
    best, ahead = _on_ray(net, x, delta, boundary)
    rows = ahead.nonzero().squeeze(1)
    if len(rows) > 0:
        search = _Search(net, x[rows], boundary[rows])
        shortest = search.run(delta[rows].flatten(1), best[rows], steps)
        found = shortest.length.isfinite()
        result[rows[found]] = shortest.delta[found].reshape(-1, *delta.shape[1:])
    return result


@dataclass
class _Shortest:
    """The shortest perturbation known to cross, for each of n images."""

    delta: Tensor  # (n, D)
    length: Tensor  # (n,) inf where none is known

    def __getitem__(self, rows: Tensor) -> "_Shortest":
        return _Shortest(self.delta[rows], self.length[rows])

    def offer(self, delta: Tensor, crosses: Tensor) -> None:
        """Keeps delta (n, D) where it crosses (n,) and is shorter."""
        length = _length(delta)
        better = crosses & (length < self.length)
        self.delta = torch.where(better[:, None], delta, self.delta)
        self.length = torch.where(better, length, self.length)


@torch.no_grad()
def _on_ray(
    net: Classifier, x: Tensor, delta: Tensor, boundary: BoundaryFunction
) -> tuple[_Shortest, Tensor]:
    """The first of the shares of delta that crosses; and whether the image has a way to go (n,)."""
    flat = delta.flatten(1)
    best = _Shortest(torch.zeros_like(flat), flat.new_full((len(x),), torch.inf))
    ahead = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for share in _SHARES:
        margin = boundary(net.scores(x + share * delta)).value
        if share == 0:
            ahead = margin < 0
        else:
            best.offer(share * flat, margin >= 0)
    return best, ahead


class _Search:
    """Searches around n images that lie on the near side of their boundaries."""

    def __init__(self, net: Classifier, x: Tensor, boundary: BoundaryFunction) -> None:
        self.net, self.x, self.boundary = net, x, boundary

    def run(self, delta: Tensor, best: _Shortest, steps: int) -> _Shortest:
        """The shortest perturbation found; `best` is the shortest known along delta (n, D)."""
        outward = int(_OUTWARD * steps)
        length = _length(delta)
        boxed, last = self.outwards(torch.where(best.length.isfinite(), length, torch.inf), outward)
        shorter = torch.minimum(boxed.length, best.length)
        rough = best.length.isinf() | (_FAR * shorter < length)
        # A direction not known is zero; a search that found nothing at least got somewhere.
        mean = _unit(best.delta)[0] + _unit(boxed.delta)[0]
        turned = _unit(mean)[0] * torch.where(shorter.isfinite(), shorter, 0.0)[:, None]
        turned = torch.where((_length(turned) > 0)[:, None], turned, last)
        start = torch.where(rough[:, None], turned, delta)
        best.offer(boxed.delta, boxed.length.isfinite())
        self.slide(start, rough, best, max(0, steps - outward - _OTHER_COST))
        return best

    def look(self, delta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boundary function (n,), its unit gradient (n, D) and the gradient's length (n,)."""
        x = (self.x + delta.reshape(self.x.shape)).detach().requires_grad_()
        with torch.enable_grad():
            margin = self.boundary(self.net.scores(x)).value
            (gradient,) = torch.autograd.grad(margin.sum(), x)
        return margin.detach(), *_unit(gradient.flatten(1))

    def outwards(self, cap: Tensor, steps: int) -> tuple[_Shortest, Tensor]:
        """From the images, inside the pixel box and at most cap (n,) long; and the last point."""
        flat = self.x.flatten(1)
        low, high = (flat.clamp(max=self.net.bounds[0]), flat.clamp(min=self.net.bounds[1]))
        cap = torch.minimum(cap, _length(torch.maximum(flat - low, high - flat)))
        best = _Shortest(torch.zeros_like(flat), torch.full_like(cap, torch.inf))
        delta = torch.zeros_like(flat)
        radius = torch.zeros_like(cap)
        noise = _noise(flat)
        for step in range(steps):
            turn, change = falling(_TURN_OUTWARD, _TURN_LAST, step, steps), _change(step, steps)
            margin, normal, slope = self.look(delta)
            beyond = margin >= 0
            best.offer(delta, beyond)
            estimate = (margin.abs() / slope).nan_to_num(torch.inf)
            farther = torch.where(best.length.isfinite(), radius * (1 + change), radius + estimate)
            nearer = torch.minimum(radius, best.length) * (1 - change)
            radius = torch.minimum(torch.where(beyond, nearer, farther), cap)
            direction = _unit(_unit(delta)[0] + turn * normal)[0]
            # No slope shows the way: to the brightest image, the darkest, and into noise.
            blind = (slope == 0) & best.length.isinf()
            elsewhere = (high - flat, low - flat, noise.expand_as(flat))[step % 3]
            direction = torch.where(blind[:, None], _unit(elsewhere)[0], direction)
            delta = (flat + radius[:, None] * direction).clamp(low, high) - flat
        return best, delta

    def slide(self, start: Tensor, rough: Tensor, best: _Shortest, steps: int) -> None:
        """Along the boundary from start (n, D), without the pixel box; improves `best`."""
        direction, radius = _unit(start)
        memory = _MEMORY_ROUGH * rough.to(start.dtype)
        first = torch.where(rough, _TURN_ROUGH, _TURN_SMOOTH).to(start.dtype)
        mean = torch.zeros_like(start)
        for step in range(steps):
            change = _change(step, steps)
            turn = _TURN_LAST + (first - _TURN_LAST) * falling(1.0, 0.0, step, steps)
            delta = radius[:, None] * direction
            margin, normal, _ = self.look(delta)
            beyond = margin >= 0
            best.offer(delta, beyond)
            nearer = torch.minimum(radius, best.length) * (1 - change)
            farther = torch.minimum(radius * (1 + change), best.length * _REACH)
            radius = torch.where(beyond, nearer, farther)
            mean = memory[:, None] * mean + (1 - memory)[:, None] * normal
            # A mean that starts at zero is too short by this at first (Kingma and Ba 2015).
            weight = turn / (1 - memory ** (step + 1))
            turned, length = _unit(direction + weight[:, None] * mean)
            direction = torch.where(length[:, None] > 0, turned, direction)


def _noise(like: Tensor) -> Tensor:
    """The same normal numbers (D,) for every image of every batch."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(like.shape[1], generator=generator, dtype=torch.float64).to(like)


def _change(step: int, steps: int) -> float:
    return falling(*_RADIUS, step, steps)


def falling(first: float, last: float, step: int, steps: int) -> float:
    """From `first` at step 0 to `last` at step `steps` as half a cosine."""
    return last + (first - last) * (1 + math.cos(math.pi * step / steps)) / 2


def _length(vectors: Tensor) -> Tensor:
    return _unit(vectors)[1]


def _unit(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Unit rows (n, D) and lengths (n,), whatever the scale; both zero where one cannot tell."""
    unit, length = unit_rows(vectors)
    return unit, torch.where(length.isfinite(), length, 0.0)
