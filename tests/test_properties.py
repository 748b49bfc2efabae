"""What changes no geometry changes no number: names, order, rotations, scales, precision, batches.

Each symmetry is a map of the network's input and output. What is measured on the mapped network,
mapped back, must be what is measured on the network itself. Smooth random networks in float64.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from networks_for_tests import classifier, gaussian, orthogonal_frame, perceptron
from torch import Tensor, nn

import geomadv as ga
from geomadv.experiments import resampled
from geomadv.linalg import NestedSubspaces

SHAPE, D, CLASSES, COUNT = (1, 3, 4), 12, 4, 10
# Rounding of float64, 1e-16, over the hundred steps to a nearest point and the quotients of an
# eigensolve; a step that is another one would show as some 1e-3.
TOLERANCE = 1e-7
# A nudge beside which rounding is nothing, how much of it a walk may make, and in how many steps.
NUDGE, GROWTH, STEPS = 1e-10, 1e4, 20


class Mapped(nn.Module):
    """Scores a F(x M)[order] + b + (what all scores share) s sum(x)."""

    def __init__(self, module, matrix, order, scale, shifts) -> None:
        super().__init__()
        self.module, self.order, self.scale, self.shifts = module, order, scale, shifts
        self.register_buffer("matrix", matrix)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.module((x.flatten(1) @ self.matrix).reshape(x.shape))
        shared = self.shifts[0] + self.shifts[1] * x.flatten(1).sum(1, keepdim=True)
        return self.scale * scores[:, self.order] + shared


@dataclass
class Symmetry:
    """A map of network and images. matrix: x of the network for a row of the mapped images."""

    matrix: Tensor = field(default_factory=lambda: torch.eye(D, dtype=torch.float64))
    order: Tensor = field(default_factory=lambda: torch.arange(CLASSES))
    rows: Tensor = field(default_factory=lambda: torch.arange(COUNT))
    scale: float = 1.0
    shifts: tuple[float, float] = (0.0, 0.0)
    batch_size: int | None = None

    def network(self, net: ga.Classifier) -> ga.Classifier:
        module = Mapped(net.module, self.matrix, self.order, self.scale, self.shifts)
        return classifier(module, SHAPE)

    def images(self, x: Tensor) -> Tensor:
        return (x.flatten(1) @ self.matrix.T).reshape(x.shape)[self.rows]

    def classes(self, numbers: Tensor) -> Tensor:
        """Classes of the mapped network in the network's numbers; -1 is none."""
        return torch.where(numbers < 0, numbers, self.order[numbers.clamp_min(0)])

    def back(self, vectors: Tensor) -> Tensor:
        """Rows of the mapped space (n, D) in the network's."""
        return vectors.flatten(1) @ self.matrix


KINDS: dict[str, Callable[[int], Symmetry]] = {
    "images in another order": lambda seed: Symmetry(rows=mixed(COUNT, seed)),
    "classes in another order": lambda seed: Symmetry(order=mixed(CLASSES, seed)),
    "batches": lambda seed: Symmetry(batch_size=1 + seed % COUNT),
    "rotated": lambda seed: Symmetry(matrix=orthogonal_frame(D, D, seed=seed)),
    "mirrored": lambda seed: Symmetry(matrix=torch.eye(D, dtype=torch.float64).flip(seed % 2)),
    "scores scaled": lambda seed: Symmetry(scale=10.0 ** (seed % 7 - 3)),
    "scores shifted": lambda seed: Symmetry(shifts=(seed % 9 - 4.0, (seed % 5 - 2) / 3)),
    "all at once": lambda seed: Symmetry(
        orthogonal_frame(D, D, seed=seed), mixed(CLASSES, seed), mixed(COUNT, seed + 1),
        2.0 ** (seed % 5 - 2), (1.0, -0.5), 3,
    ),
}  # fmt: skip


def mixed(n: int, seed: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def same(found: Tensor, expected: Tensor, words: str) -> None:
    if expected.dtype.is_floating_point:
        size = float(expected.nan_to_num().abs().max().clamp_min(1e-12))
        torch.testing.assert_close(
            found, expected, rtol=0, atol=TOLERANCE * size, equal_nan=True, msg=lambda m: words + m
        )
    else:
        assert torch.equal(found, expected), words


def steady(
    walk: Callable[[Tensor], Any], x: Tensor, nudge: float = NUDGE, growth: float = GROWTH
) -> Tensor:
    """Images (n,) whose walks a nudge to either side does not turn: roundings cannot then either.

    Others come to where three classes meet, or go to and fro between them for long, and at last
    are as near as rounding: one step more or less is then no difference.
    """
    v = nudge * gaussian(*x.shape, seed=5).to(x)
    ends, starts = [walk(x + v), walk(x - v)], [x + v, x - v]
    one, two = (
        e.points if hasattr(e, "points") else s + e.delta for e, s in zip(ends, starts, strict=True)
    )
    close = (one - two).flatten(1).norm(dim=1) <= growth * nudge
    steps = torch.stack([e.iterations for e in ends])
    return close & (steps[0] == steps[1]) & (steps[0] <= STEPS)


def check_points(found, expected, by: Symmetry, rows: Tensor) -> None:
    """Boundary points or perturbations of some rows, in whichever order and base."""

    def compare(names: str, back=lambda value: value) -> None:
        for name in names.split():
            if isinstance(value := getattr(found, name, None), Tensor):
                wanted = getattr(expected, name)[by.rows][rows[by.rows]]
                mapped = back(value[rows[by.rows]])
                same(mapped, wanted.reshape(mapped.shape), name)

    compare("source target near label label_after", by.classes)
    compare("converged iterations third norm distance angle")
    compare("delta adversarial points normals directions", by.back)


def check_curvatures(found, expected, by: Symmetry, factor: float) -> None:
    """Values, and what the directions do to a vector: a null direction is any of its space."""
    values = torch.as_tensor(found.values) / factor
    same(values, torch.as_tensor(expected.values), "curvatures")
    rows = by.back(torch.as_tensor(found.directions).T)
    part = expected.directions @ expected.values.diag() @ expected.directions.T
    same(rows.T @ values.diag() @ rows, part, "principal directions")


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=2)
@given(seed=st.integers(0, 200))
def test_a_symmetry_changes_no_boundary(kind: str, seed: int) -> None:
    by, net, x = KINDS[kind](seed), perceptron(CLASSES, 8, seed, SHAPE), gaussian(COUNT, *SHAPE)
    other, y = by.network(net), by.images(x)

    def nearest(net: ga.Classifier, x: Tensor, **how: Any) -> ga.BoundaryPoints:
        return ga.boundary_points(net, x, nearest=True, nearest_steps=20, **how)

    for walk in (ga.deepfool, ga.boundary_points, nearest):
        rows = steady(partial(walk, net), x)
        check_points(walk(other, y, batch_size=by.batch_size), walk(net, x), by, rows)


@settings(deadline=None, max_examples=4)
@given(kind=st.sampled_from([*KINDS]), seed=st.integers(0, 200), target=st.integers(0, CLASSES - 1))
@example(kind="images in another order", seed=1, target=0)  # A curvature of 0 among the four.
@example(kind="scores shifted", seed=24, target=0)  # Saturated wherever probes look.
def test_a_symmetry_changes_no_curvature(kind: str, seed: int, target: int) -> None:
    by, net, x = KINDS[kind](seed), perceptron(CLASSES, 8, seed, SHAPE), gaussian(COUNT, *SHAPE)
    other, towards = by.network(net), int((by.order == target).nonzero())
    rows = steady(partial(ga.boundary_points, net, target=target), x)
    points = ga.boundary_points(net, x, target=target)
    others = ga.boundary_points(other, by.images(x), target=towards, batch_size=by.batch_size)
    check_points(others, points, by, rows)
    points, others = points[rows], others[rows[by.rows]]
    assume(points.converged.any())
    for operator, factor in ((ga.mean_hessian, by.scale), (ga.mean_shape_operator, 1.0)):
        one, two = (
            ga.principal_curvatures(operator(n, p), k=2)
            for n, p in ((other, others), (net, points))
        )
        check_curvatures(one, two, by, factor)


@settings(deadline=None, max_examples=2)
@given(seed=st.integers(0, 200), order=st.permutations(range(CLASSES)))
def test_renamed_classes_and_images_in_another_order_give_the_same_rates(
    seed: int, order: list[int]
) -> None:
    by = Symmetry(order=torch.tensor(order), rows=mixed(COUNT, seed))
    net, x = perceptron(CLASSES, 8, seed, SHAPE), gaussian(COUNT, *SHAPE)
    labels = torch.arange(COUNT) % CLASSES
    old = ga.ImageSet(x, labels, bounds=(-9.0, 9.0))
    # Class k of the other network is class order[k] of this one.
    new = ga.ImageSet(by.images(x), by.order.argsort()[labels][by.rows], bounds=(-9.0, 9.0))
    families, mean = {"any": NestedSubspaces(orthogonal_frame(D, D))}, torch.zeros(SHAPE)
    one, two = (
        ga.experiments.subspace_accuracy(n, i, mean, families, [0, 3, D])
        for n, i in ((by.network(net), new), (net, old))
    )
    np.testing.assert_array_equal(one["accuracy"], two["accuracy"])


@settings(deadline=None, max_examples=2)
@given(seed=st.integers(0, 200))
def test_float32_follows_float64(seed: int) -> None:
    """Scores have 1e-7 of rounding, over some steps; labels are equal where they are decided."""
    x = gaussian(COUNT, *SHAPE)
    double, single = (
        perceptron(CLASSES, 8, seed, SHAPE, dtype) for dtype in (torch.float64, torch.float32)
    )
    for walk in (ga.deepfool, ga.boundary_points):
        one, two = walk(single, x.float()), walk(double, x)
        rows = steady(partial(walk, double), x, nudge=1e-5, growth=10)
        for name in ("source", "converged"):
            assert torch.equal(getattr(one, name)[rows], getattr(two, name)[rows])
        name = "delta" if walk is ga.deepfool else "points"
        found, wanted = getattr(one, name).double(), getattr(two, name)
        torch.testing.assert_close(found[rows], wanted[rows], rtol=0, atol=1e-4)


@settings(deadline=None, max_examples=2)
@given(seed=st.integers(0, 200), sizes=st.lists(st.integers(1, 3), min_size=1, max_size=3))
def test_chained_resampling_is_the_product_of_its_matrices(seed: int, sizes: list[int]) -> None:
    """Resampling is linear: a chain has the scores at the images behind all of its matrices."""
    chain = net = perceptron(CLASSES, 8, seed, SHAPE)
    identity = torch.eye(D, dtype=torch.float64).reshape(D, *SHAPE)
    matrix = torch.eye(D, dtype=torch.float64)
    for low in sizes:
        chain = resampled(chain, low)
        pixels = ga.Classifier(nn.Flatten(), SHAPE, bounds=net.bounds, dtype=torch.float64)
        matrix = resampled(pixels, low)(identity).flatten(1) @ matrix
    x = gaussian(COUNT, *SHAPE, seed=seed)
    expected = net((x.flatten(1) @ matrix).reshape(x.shape))
    # Ten sums of some numbers of order 1.
    torch.testing.assert_close(chain(x), expected, rtol=0, atol=1e-12)
    # Points that the outermost unit does not tell apart share a perturbation.
    found = ga.deepfool(chain, x)
    mapped = ga.deepfool(by_matrix(net, matrix), x)
    same(found.delta, mapped.delta, "perturbation behind a chain")


def by_matrix(net: ga.Classifier, matrix: Tensor) -> ga.Classifier:
    return Symmetry(matrix=matrix).network(net)


def test_a_perturbation_of_zero_compares_with_nothing_and_says_what_to_do() -> None:
    """That of a network that predicts one class everywhere."""
    nets = [perceptron(CLASSES, 8, seed, SHAPE) for seed in range(2)]
    nets[1].name = "other"
    x, zero = gaussian(COUNT, *SHAPE), torch.zeros(SHAPE, dtype=torch.float64)
    with pytest.raises(ga.InputError, match=r"perturbation: it is zero.*larger radius"):
        ga.experiments.norm_comparison(nets[0], x, x, zero, [0.0])
    with pytest.raises(ga.InputError, match=r"perturbations: the one for .* larger radius"):
        ga.experiments.transfer(nets, [zero, zero], x)
