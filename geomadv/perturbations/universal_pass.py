"""One pass of the universal perturbation over its images: one at a time, or in blocks."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geomadv.classifier import Classifier
from geomadv.classifier.boundary_function import BoundaryFunction
from geomadv.perturbations.balls import project_ball
from geomadv.perturbations.deepfool import deepfool_from
from geomadv.perturbations.fooling import is_fooled, labels_under, lost
from geomadv.perturbations.settings import DeepFoolSettings

# Images on which the points of a block's path are compared, drawn anew at each pass; how the
# numbers of steps grow along the path; and how sharply an image counts as fooled (`_merit`). With
# CIFAR-10 ResNet-20, 200 images and two passes, 64 of them fooled 38 % instead of 45 %; the plain
# count fooled 38 % of held-out images instead of 42 %; a growth of 2 took half as long again for
# the same rate.
_WATCHED, _GROWTH, _SHARPNESS = 128, 4, 4.0


@dataclass(frozen=True)
class Problem:
    """What a pass needs to know."""

    net: Classifier
    x: Tensor  # (N, C, H, W) sample set
    clean: Tensor  # (N,) int64, predictions at the sample set
    margin: float  # mean score difference to the best rival at the sample set
    radius: float
    p: float
    search: DeepFoolSettings
    block: int
    size: int

    def labels(self, index: Tensor, v: Tensor) -> Tensor:
        """Labels (n,) of the images `index` under v, as of `labels_under`."""
        return labels_under(self.net, self.x[index], v, self.size)

    def fooled(self, index: Tensor, v: Tensor) -> Tensor:
        """Which of the images `index` change their label under v. (n,) bool."""
        return is_fooled(self.labels(index, v), self.clean[index])

    def steps(self, index: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """DeepFool's way out from x + v for those that find one: steps (n, C, H, W) and labels."""
        found = deepfool_from(self.net, self.x[index] + v, self.search, self.size)
        return found.delta[found.converged], found.label[found.converged]

    def project(self, v: Tensor) -> Tensor:
        """The nearest point of the ball."""
        return project_ball(v, self.radius, self.p)


def sequential_pass(
    problem: Problem, v: Tensor, order: Tensor, advance: Callable[[int], None]
) -> tuple[Tensor, int]:
    """Algorithm 1 as published: one image after the other. Returns v and the steps taken."""
    taken = 0
    for index in order.split(1):
        labels = problem.labels(index, v)
        if not (is_fooled(labels, problem.clean[index]) | lost(labels)):
            steps, _ = problem.steps(index, v)
            if len(steps) > 0:
                v = problem.project(v + steps[0])
                taken += 1
        advance(1)
    return v, taken


def batched_pass(
    problem: Problem,
    v: Tensor,
    order: Tensor,
    watched: Tensor,
    advance: Callable[[int], None],
) -> tuple[Tensor, int]:
    """The same in blocks of images that v does not fool, one DeepFool call for each block.

    The steps of a block are added one after the other, as the original adds them, those to the
    most frequent label first. After the first few, those that follow serve images which v fools
    by then, or would undo what the earlier ones did; so the path is looked at after 1, 4, 16, ...
    steps, and v moves to its best point for the watched images, if that is no worse than v itself.
    """
    taken = 0
    merit = _merit(problem, watched, v)
    while len(order) > 0:
        index, rest = _next_block(problem, v, order)
        if len(index) > 0:
            counts, points = _path(problem, v, *problem.steps(index, v))
            merits = [_merit(problem, watched, point) for point in points]
            if merits and max(merits) >= merit:
                merit = max(merits)
                best = merits.index(merit)
                v, taken = points[best], taken + counts[best]
        advance(len(order) - len(rest))
        order = rest
    return v, taken


def _next_block(problem: Problem, v: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """The first images of `order` that v does not fool, at most a block; and who comes after."""
    found: list[Tensor] = []
    missing = problem.block
    while missing > 0 and len(order) > 0:
        ahead = order[: problem.block]
        labels = problem.labels(ahead, v)
        places = (~is_fooled(labels, problem.clean[ahead])).nonzero().squeeze(1)[:missing]
        # Where scores overflow under v there is no way to look for.
        found.append(ahead[places[~lost(labels[places])]])
        missing -= len(places)
        # A full block ends behind its last image; whoever comes later meets another v.
        order = order[len(ahead) if missing > 0 else int(places[-1]) + 1 :]
    return torch.cat(found), order


def _path(
    problem: Problem, v: Tensor, steps: Tensor, labels: Tensor
) -> tuple[list[int], list[Tensor]]:
    """Numbers of steps, 1, 4, 16, ... and all, and where v is after so many."""
    if len(steps) == 0:
        return [], []
    frequency = torch.bincount(labels, minlength=problem.net.num_classes)[labels]
    # Two labels may be equally frequent: they do not alternate.
    rank = frequency * problem.net.num_classes + labels
    sums = steps[rank.argsort(descending=True, stable=True)].cumsum(0)
    counts = [1]
    while counts[-1] < len(steps):
        counts.append(min(_GROWTH * counts[-1], len(steps)))
    return counts, [problem.project(v + sums[count - 1]) for count in counts]


@torch.no_grad()
def _merit(problem: Problem, watched: Tensor, v: Tensor) -> float:
    """How good v is for the watched images: those fooled count 1, those nearly fooled a part.

    The logistic function of the margin, in units of the clean images' mean margin. The plain count
    has so much chance in it that the best of several points is often the luckiest.
    """
    total = 0.0
    for index in watched.split(problem.size):
        scores = problem.net.scores(problem.x[index] + v)
        margin = BoundaryFunction(problem.clean[index])(scores).value
        fooled = (_SHARPNESS * margin.double() / problem.margin).sigmoid()
        total += float(fooled.nan_to_num(0.0).sum())
    return total


def watched_images(order: Tensor, seed: list[int]) -> Tensor:
    """A sample of the images for the comparisons of one pass."""
    generator = np.random.default_rng(seed)
    chosen = generator.permutation(len(order))[:_WATCHED]
    return order[torch.from_numpy(chosen).to(order.device)]
