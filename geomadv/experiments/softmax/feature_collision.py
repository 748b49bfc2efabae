"""Images whose features meet those of another class's image, up to adversarial directions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from geomadv.boundary.nearest import falling
from geomadv.errors import InputError
from geomadv.experiments.softmax.last_layer import LastLayer
from geomadv.keep import Keep, keep_nothing
from geomadv.labels import IMAGE
from geomadv.linalg import uniform_directions
from geomadv.perturbations.fooling import check_labels, labels_of
from geomadv.progress import tqdm

# From radii that nobody sees on natural images to those of another image.
_RELATIVE_EPSILONS = (0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8)

# The longest step as a share of the radius: at the start, and after the last step.
_FIRST_STEP, _LAST_STEP = 0.5, 0.01


@dataclass(frozen=True)
class CollisionSettings:
    """How to search for collisions, and when one counts.

    A collision has the goal's predicted class and at most `tolerance` of the distance left.
    """

    pairs: int = 100
    """Random pairs of images of different predicted classes."""
    relative_epsilons: tuple[float, ...] = _RELATIVE_EPSILONS
    """Radii as shares of the mean image norm, ascending."""
    tolerance: float = 0.05
    """Share of the pair's distance in visible features that a collision may leave."""
    steps: int = 40
    """Steps of projected gradient descent per radius."""
    clip: bool = False
    """Keep images inside the network's bounds as well."""
    examples: int = 4
    """Pairs whose images are kept."""

    def check(self) -> None:
        """Raises InputError for settings that make no search."""
        radii = list(self.relative_epsilons)
        ascending = all(a < b for a, b in pairwise(radii))
        if not radii or not ascending or not (radii[0] > 0 and math.isfinite(radii[-1])):
            raise InputError(
                f"relative_epsilons={radii} must be finite, positive and ascending: shares of the "
                "mean image norm."
            )
        if self.pairs < 1 or self.steps < 1 or self.examples < 0:
            raise InputError(
                f"pairs={self.pairs} and steps={self.steps} must be at least 1, "
                f"examples={self.examples} at least 0."
            )
        if not 0 < self.tolerance < 1:
            raise InputError(
                f"tolerance={self.tolerance} must lie between 0 and 1: the share of the pair's "
                "feature distance that may remain."
            )


@dataclass(frozen=True)
class Collisions:
    """What the search found at every radius (e of them) for every pair (n of them).

    Attributes:
        residual: (e, n) remaining share of the pair's visible feature distance.
        theta: (e, n) distance of the best image's features to the goal's along the adversarial
            directions, feature units: |theta| of the conjecture.
        label: (e, n) predicted class of the best image.
        norm: (e, n) its distance to the start, image units.
        success: (e, n) bool: residual within the tolerance, label that of the goal.
        examples: (e, min(examples, n), C, H, W) best images of the first pairs.
        noise: (e, n) bool: success of a random image at the radius from the start.
    """

    residual: NDArray[np.float64]
    theta: NDArray[np.float64]
    label: NDArray[np.int64]
    norm: NDArray[np.float64]
    success: NDArray[np.bool_]
    examples: NDArray[np.floating]
    noise: NDArray[np.bool_]


def random_pairs(
    prediction: NDArray[np.int64], count: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices (count,) of starts and of goals: uniform over pairs of classes, then over images.

    Raises:
        InputError: all images are predicted as one class.
    """
    generator = np.random.default_rng(seed)
    classes = np.unique(prediction)
    if len(classes) < 2:
        raise InputError(
            f"images: all {len(prediction)} are predicted as class {int(classes[0])}; collisions "
            "need images of at least two predicted classes. Give more images."
        )
    members = [np.flatnonzero(prediction == c) for c in classes]
    first = generator.integers(len(classes), size=count)
    second = (first + generator.integers(1, len(classes), size=count)) % len(classes)
    starts, goals = (np.array([generator.choice(members[c]) for c in cs]) for cs in (first, second))
    return starts, goals


def feature_collisions(
    layer: LastLayer,
    starts: Tensor,
    goals: Tensor,
    visible: Tensor,
    epsilons: Sequence[float],
    settings: CollisionSettings,
    batch_size: int,
    keep: Keep = keep_nothing,
    progress: bool = False,
    seed: int = 0,
) -> Collisions:
    """Searches the balls around the starts for images with the goals' visible features.

    The conjecture of Zou et al.: g(x*) = g(x') + theta d' with d' an adversarial direction and
    ||x* - x|| <= epsilon, that is V^T (g(x*) - g(x')) = 0 with V the visible directions. The
    distance ||V^T (g(x*) - g(x'))|| is minimised by projected gradient descent. A step goes as far
    as the linearised distance vanishes (Polyak's step, for a minimum of zero), at most a share
    of the radius that falls along a cosine. Each radius starts from the best image of the one
    before and leaves out the pairs that have collided: success is monotone in the radius.
    What is found is a lower bound on what exists.

    Args:
        layer: the feature map g.
        starts: (n, C, H, W) images x.
        goals: (n, C, H, W) images x', of other predicted classes.
        visible: (l, r) orthonormal columns V.
        epsilons: radii, ascending, image units.
        settings: tolerance, steps, clip and examples.
        batch_size: pairs per pass.
        keep: what keeps finished radii; default nothing. See `Keep`.
        progress: show a progress bar.
        seed: of the random images.
    """
    search = _Search(layer, starts, goals, visible, settings, batch_size)
    kept, noise = [], uniform_directions(len(starts), starts[0].numel(), seed=seed).to(starts)
    for epsilon in tqdm(epsilons, desc="collisions", unit="radius", disable=not progress):
        search.restore(keep(f"collisions-{epsilon!r}", partial(search.ball, epsilon)))
        kept.append((*search.state(), search.collides(epsilon * noise.reshape_as(starts))))
    return Collisions(*(np.stack(parts) for parts in zip(*kept, strict=True)))


class _Search:
    """The best images so far of all pairs."""

    def __init__(
        self,
        layer: LastLayer,
        starts: Tensor,
        goals: Tensor,
        visible: Tensor,
        settings: CollisionSettings,
        batch_size: int,
    ) -> None:
        self.layer, self.settings, self.start = layer, settings, starts
        self.batch_size = batch_size
        self.visible = visible.to(starts)
        self.delta = torch.zeros_like(starts)
        with torch.no_grad():
            passes = [[layer(p) for p in x.split(batch_size)] for x in (starts, goals)]
            (here, now), (there, then) = (
                [torch.cat(t) for t in zip(*parts, strict=True)] for parts in passes
            )
        self.goal, self.goal_label = there, check_labels(layer.net, labels_of(then))
        self.label = check_labels(layer.net, labels_of(now))
        self.distance = self._seen(here - there).norm(dim=1)
        self.residual = torch.ones_like(self.distance)
        self.theta = self._unseen(here - there)

    def _seen(self, difference: Tensor) -> Tensor:
        return difference @ self.visible

    def _unseen(self, difference: Tensor) -> Tensor:
        """Norms of the adversarial parts (n,)."""
        norms: Tensor = (difference - self._seen(difference) @ self.visible.T).norm(dim=1)
        return norms

    @torch.no_grad()
    def collides(self, delta: Tensor) -> NDArray[np.bool_]:
        """(n,) whether the starts moved by delta (n, C, H, W) collide with their goals."""
        moved = self.start + delta
        if self.settings.clip:
            moved = moved.clamp(*self.layer.net.bounds)
        features, scores = (
            torch.cat(p) for p in zip(*map(self.layer, moved.split(self.batch_size)), strict=True)
        )
        left = self._seen(features - self.goal).norm(dim=1) / self.distance
        same = labels_of(scores) == self.goal_label
        return np.asarray(((left <= self.settings.tolerance) & same).cpu())

    @property
    def success(self) -> Tensor:
        """(n,) bool."""
        return (self.residual <= self.settings.tolerance) & (self.label == self.goal_label)

    def ball(self, epsilon: float) -> xr.Dataset:
        """Descent of all pairs that have not collided; what `restore` goes on from."""
        for index in (~self.success).nonzero().squeeze(1).split(self.batch_size):
            self.descend(index, epsilon)
        pair, image = ("pair",), ("pair", *IMAGE)
        return xr.Dataset(
            {
                "delta": (image, self.delta.cpu().numpy()),
                "label": (pair, self.label.cpu().numpy()),
                "residual": (pair, self.residual.cpu().numpy()),
                "theta": (pair, self.theta.cpu().numpy()),
            }
        )

    def restore(self, found: xr.Dataset) -> None:
        """The best images after a ball."""
        for name in ("delta", "label", "residual", "theta"):
            old = getattr(self, name)
            setattr(self, name, torch.from_numpy(found[name].to_numpy()).to(old))

    def descend(self, index: Tensor, epsilon: float) -> None:
        """Descent of the pairs `index` in the ball of radius epsilon, from their best images."""
        steps, delta = self.settings.steps, self.delta[index]
        for t in range(steps + 1):
            x = (self.start[index] + delta).requires_grad_()
            with torch.enable_grad():
                features, scores = self.layer(x)
                difference = features - self.goal[index]
                distance = self._seen(difference).norm(dim=1)
            self._note(index, delta, difference.detach(), labels_of(scores.detach()))
            going = ~self.success[index]
            if t == steps or not going.any():
                return
            (gradient,) = torch.autograd.grad(distance.sum(), x)
            index, delta = index[going], delta[going]
            longest = epsilon * falling(_FIRST_STEP, _LAST_STEP, t, steps)
            step = _polyak(gradient[going], distance.detach()[going], longest)
            delta = self._confine(index, delta - step, epsilon)

    def _note(self, index: Tensor, delta: Tensor, difference: Tensor, label: Tensor) -> None:
        """Keeps the images that are closer; difference (n, l) of features to the goal's."""
        residual = self._seen(difference).norm(dim=1) / self.distance[index]
        closer = residual < self.residual[index]
        chosen = index[closer]
        self.residual[chosen], self.label[chosen] = residual[closer], label[closer]
        self.theta[chosen] = self._unseen(difference[closer])
        self.delta[chosen] = delta[closer]

    def _confine(self, index: Tensor, delta: Tensor, epsilon: float) -> Tensor:
        """Projection on the ball, then on the box, which only shortens it further."""
        norm = delta.flatten(1).norm(dim=1)
        delta = delta * (epsilon / norm.clamp(min=epsilon))[:, None, None, None]
        if not self.settings.clip:
            return delta
        start = self.start[index]
        return (start + delta).clamp(*self.layer.net.bounds) - start

    def state(self) -> tuple[NDArray[Any], ...]:
        """The fields of `Collisions`, now."""
        shown = slice(self.settings.examples)
        tensors = (
            self.residual.double(),
            self.theta.double(),
            self.label,
            self.delta.flatten(1).norm(dim=1).double(),
            self.success,
            self.start[shown] + self.delta[shown],
        )
        return tuple(t.cpu().numpy().copy() for t in tensors)


def _polyak(gradient: Tensor, distance: Tensor, longest: float) -> Tensor:
    """Steps (n, C, H, W) down the gradient, no longer than `longest`; none where it vanishes."""
    norm = gradient.flatten(1).norm(dim=1)
    usable = (norm > torch.finfo(norm.dtype).tiny) & norm.isfinite()
    length = torch.where(usable, (distance / norm).clamp(max=longest), 0.0)
    unit = torch.where(usable[:, None, None, None], gradient / norm[:, None, None, None], 0.0)
    return unit * length[:, None, None, None]
