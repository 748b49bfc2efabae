"""The nearest boundary point: exact distances on quadrics and linear classifiers."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import networks_for_tests as nets
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks_for_tests import SHAPE, gaussian
from scipy.optimize import nnls
from torch import Tensor, nn

from geomadv.boundary import boundary_points
from geomadv.boundary import points as points_module
from geomadv.boundary.nearest import _Search, _Shortest, nearest_crossing
from geomadv.classifier import Classifier
from geomadv.classifier.boundary_function import BoundaryFunction
from geomadv.perturbations import deepfool

# The radius ends with steps of 0.2 % (_RADIUS), so a kept perturbation is longer by that at most
# once its direction has settled. An angle t between direction and normal costs about
# (1 - curvature x distance) t^2 / 2 of the length: 0.1 rad for ordinary curvature.
LENGTH, ANGLE = 1.002, 0.1


def length(delta: torch.Tensor) -> torch.Tensor:
    return delta.flatten(1).norm(dim=1)


@settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 10**6))
def test_reaches_the_nearest_point_of_quadrics(seed):
    net, x, nearest = nets.random_quadric(seed)
    p = boundary_points(net, x, nearest=True)
    plain = boundary_points(net, x)
    exact = length(nearest - x)
    assert p.converged.all()
    assert torch.all(p.distance >= exact * (1 - 1e-9))
    assert torch.all(p.distance <= plain.distance)
    # A quadric can have a second, farther local minimum: most points, not all.
    assert (p.distance / exact).median() <= LENGTH
    assert p.angle.median() <= ANGLE


def test_ratio_to_the_nearest_point_of_quadrics(record_property):
    ratios, angles = [], []
    for seed in range(25):
        net, x, nearest = nets.random_quadric(seed)
        p = boundary_points(net, x, nearest=True)
        ratios.append(p.distance / length(nearest - x))
        angles.append(p.angle)
    ratio, angle = torch.cat(ratios), torch.cat(angles)
    record_property("nearest_ratio_median", ratio.median().item())
    record_property("nearest_ratio_max", ratio.max().item())
    record_property("nearest_angle_median", angle.median().item())
    assert ratio.median() <= 1 + 1e-4
    assert (ratio <= LENGTH).double().mean() >= 0.98
    assert (angle <= ANGLE).double().mean() >= 0.98


@pytest.mark.parametrize("axes", [(1.0, 2.0, 3.0, 4.0, 5.0, 6.0), (1.0, 1.5, 1.5, 2.0, 8.0, 9.0)])
def test_ellipsoid_from_the_inside_and_the_outside(axes):
    a = 2 * torch.diag(torch.tensor(axes, dtype=torch.float64) ** -2)
    zero = torch.zeros(6, dtype=torch.float64)
    unit = gaussian(10, 6)
    unit /= (((unit @ a) * unit).sum(1) / 2).sqrt()[:, None]  # on the ellipsoid
    inside, outside = 0.7 * unit, 1.5 * unit
    # From outside the sign is turned and the roles of 0 and 1 with it: f < 0 at the image.
    for net, x, sign in (
        (nets.quadric(a, zero, -1.0), inside, 1),
        (nets.quadric(-a, zero, 1.0), outside, -1),
    ):
        p = boundary_points(net, x.reshape(-1, *SHAPE), nearest=True)
        matrix, b = (sign * a).numpy(), zero.numpy()
        exact = np.stack([nearest(matrix, b, -float(sign), row) for row in x.numpy()])
        exact_length = torch.from_numpy(np.linalg.norm(exact - x.numpy(), axis=1))
        assert p.converged.all()
        assert torch.all(p.distance >= exact_length * (1 - 1e-9))
        assert (p.distance / exact_length).median() <= LENGTH


def nearest(matrix, b, constant: float, x) -> np.ndarray:
    """On an ellipsoid, from inside (A > 0) or outside (A < 0): bisection on the multiplier."""
    if matrix[0, 0] > 0:
        return nets.nearest_on_quadric(matrix, b, constant, x)
    # Outside, I + l A > 0 for l in (-inf, 1 / max |a_i|): the root is at a negative l.
    values = np.diag(matrix)

    def f(multiplier: float) -> float:
        y = x / (1 + multiplier * values)
        return float(values @ y**2 / 2 + constant)

    low = -1.0
    while f(low) < 0:
        low *= 2
    high = 0.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if f(middle) > 0 else (low, middle)
    return x / (1 + low * values)


def test_sphere_from_inside_and_outside():
    x = gaussian(10, *SHAPE)
    x /= length(x).reshape(-1, 1, 1, 1)
    for net, start in ((nets.sphere(1.0), 0.4), (nets.sphere(1.0, inside_target=True), 3.0)):
        p = boundary_points(net, start * x, nearest=True)
        torch.testing.assert_close(p.distance, torch.full_like(p.distance, abs(1 - start)))
        assert p.angle.max() < 1e-6


def test_multiclass_linear_is_exact():
    weight, bias = gaussian(7, 6, seed=3), gaussian(7, seed=4)
    net, x = nets.linear(weight, bias), gaussian(50, *SHAPE)
    p = boundary_points(net, x, nearest=True)
    scores = x.flatten(1) @ weight.T + bias
    source = scores.argmax(1)
    gap = scores.amax(1, keepdim=True) - scores
    distance = gap / (weight[:, None] - weight[None]).norm(dim=2)[source]
    distance[torch.arange(50), source] = torch.inf
    torch.testing.assert_close(p.distance, distance.amin(1), rtol=1e-8, atol=1e-9)
    assert torch.equal(p.target, distance.argmin(1))
    # atan2 of the difference of unit vectors: rounding, not its square root.
    assert p.angle.max() < 1e-6


@pytest.mark.parametrize("target", [None, 2])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_never_longer_and_never_fewer_than_refined(target, dtype):
    net, x = nets.perceptron(dtype=dtype), gaussian(40, *SHAPE, dtype=dtype)
    plain = boundary_points(net, x, target=target)
    p = boundary_points(net, x, target=target, nearest=True)
    assert torch.all(p.converged >= plain.converged)
    assert torch.all(p.distance[plain.converged] <= plain.distance[plain.converged])
    assert p.angle[p.converged].median() < plain.angle[plain.converged].median()
    assert torch.all(p.residual[p.converged] <= 1e-4)


def test_perturbations_cross_and_shrink():
    net, x = nets.perceptron(), gaussian(30, *SHAPE)
    walk = deepfool(net, x)
    before = walk.delta.clone()
    delta = nearest_crossing(net, x, walk.delta, BoundaryFunction(walk.source), 60)
    margin = BoundaryFunction(walk.source)(net.scores(x + delta)).value
    assert torch.all(margin >= 0)
    assert torch.all(length(delta) <= length(before))
    assert torch.equal(walk.delta, before)


def test_starts_that_do_not_cross_are_searched_all_the_same():
    net, x = nets.perceptron(), gaussian(6, *SHAPE)
    walk = deepfool(net, x)
    boundary = BoundaryFunction(walk.source)
    start = walk.delta.clone()
    start[1], start[4] = 0, start[4] * 1e-3
    delta = nearest_crossing(net, x, start, boundary, 60)
    assert torch.all(boundary(net.scores(x + delta)).value >= 0)
    assert torch.all(length(delta) <= 1.1 * walk.norm)


def test_where_there_is_no_boundary_nothing_changes():
    net, x = nets.dead(), gaussian(3, *SHAPE)
    start = torch.stack([torch.zeros(SHAPE), torch.ones(SHAPE), -torch.ones(SHAPE)]).to(x)
    delta = nearest_crossing(net, x, start, BoundaryFunction(torch.zeros(3).long()), 20)
    assert torch.equal(delta, start)


def test_vanishing_gradient_is_no_nan():
    net, x = nets.dead(), gaussian(3, *SHAPE)
    source = torch.tensor([1, 1, 2])  # not on top: the "perturbation" counts as crossing
    delta = nearest_crossing(net, x, torch.ones_like(x), BoundaryFunction(source), 20)
    assert delta.isfinite().all()
    assert torch.all(length(delta) <= length(torch.ones_like(x)))


def test_nothing_depends_on_the_scale_of_the_images():
    a, b, x = torch.eye(6, dtype=torch.float64), gaussian(6, seed=1), gaussian(8, *SHAPE) / 4
    small = boundary_points(nets.quadric(a, b, -3.0), x, nearest=True)
    large = boundary_points(nets.quadric(a / 1e4, b / 1e2, -3.0), 100 * x, nearest=True)
    torch.testing.assert_close(large.distance, 100 * small.distance, rtol=1e-6, atol=0)


class Ramps(nn.Module):
    """f of s = w^T x / c, w = (1, ..., 1) / sqrt(D): up at s = 0.6 to 1, down again at 3 to 4.

    f = -1 + 1e-3 s + 2 ramp((s - 0.6) / 0.4) - 2 ramp(s - 3), ramp(t) = clamp(t, 0, 1). From s = 0
    all linear estimates lead to s = 1000, where f vanishes too; the nearest zero is at 4 / 5.001.
    """

    nearest = 4 / 5.001

    def __init__(self, scale: float, scores: float) -> None:
        super().__init__()
        self.scale, self.scores = scale, scores

    def forward(self, x: Tensor) -> Tensor:
        s = (x / self.scale).flatten(1).sum(1) / x[0].numel() ** 0.5
        f = -1 + 1e-3 * s + 2 * ((s - 0.6) / 0.4).clamp(0, 1) - 2 * (s - 3).clamp(0, 1)
        return self.scores * f


def ramps(
    scale: float = 1.0, scores: float = 1.0, dtype: torch.dtype = torch.float64
) -> tuple[Classifier, Tensor, Tensor]:
    """The network, images with s = 0 to 0.24, and their exact distances to the boundary."""
    module = nets.Pair(Ramps(scale, scores))
    net = nets.classifier(module, dtype=dtype, bounds=(0.0, scale))
    x = torch.linspace(0, 0.1, 5).reshape(-1, 1, 1, 1).expand(-1, *SHAPE).to(dtype)
    exact = Ramps.nearest - x.flatten(1).sum(1) / 6**0.5
    return net, scale * x, scale * exact


def test_a_near_boundary_that_the_walk_passes_over():
    net, x, exact = ramps()
    plain = boundary_points(net, x)
    assert torch.all(plain.distance > 1000 * exact)
    p = boundary_points(net, x, nearest=True)
    assert p.converged.all()
    torch.testing.assert_close(p.distance, exact, rtol=1e-6, atol=0)


class Threshold(nn.Module):
    """f = max(w^T x - 1, 0) - 1/2 with w as in Ramps: no slope before w^T x = 1, zero at 1.5."""

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1).sum(1) / x[0].numel() ** 0.5 - 1).clamp(min=0) - 0.5


def test_images_without_any_slope():
    net, (_, x, _) = nets.classifier(nets.Pair(Threshold()), bounds=(0.0, 1.0)), ramps()
    assert not boundary_points(net, x).converged.any()
    p = boundary_points(net, x, nearest=True)
    assert p.converged.all()
    exact = 1.5 - x.flatten(1).sum(1) / 6**0.5
    torch.testing.assert_close(p.distance, exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("dtype", "scales"), [(torch.float64, (1e-30, 1e-8, 1e30)), (torch.float32, (1e-9, 1e-3, 1e9))]
)
def test_any_scale_of_images_and_scores(dtype, scales):
    """Also float32 gradients whose squares vanish or overflow."""
    for scale, scores in itertools.product((1.0, *scales), (1e-25, 1.0, 1e25)):
        net, x, exact = ramps(scale, scores, dtype)
        own = BoundaryFunction(torch.zeros(len(x), dtype=torch.int64))
        delta = nearest_crossing(net, x, 900 * exact.reshape(-1, 1, 1, 1).expand_as(x), own, 60)
        # Radii end with steps of 0.2 % (_RADIUS) around the boundary.
        assert torch.all(margin_of(net, x + delta) >= 0)
        assert ((length(delta / scale) * scale) / exact).max() <= 1.01


@pytest.mark.parametrize("kind", ["own", "pair", "region"])
def test_linear_classes_whatever_the_boundary(kind):
    weight, bias = gaussian(5, 6, seed=3), gaussian(5, seed=4)
    net, x = nets.linear(weight, bias), gaussian(40, *SHAPE)
    source = net.predict(x)
    target = (source + 1) % 5
    boundary = BoundaryFunction(source, None if kind == "own" else target, kind)
    # Far beyond the boundary, on the way to where the target leads by 1.
    far = torch.stack([_into(weight, bias, t, point) for t, point in zip(target, x, strict=True)])
    delta = nearest_crossing(net, x, 30 * far, boundary, 100)
    assert torch.all(boundary(net.scores(x + delta)).value >= 0)
    exact = []
    scores = x.flatten(1) @ weight.T + bias
    for score, s, t in zip(scores, source.tolist(), target.tolist(), strict=True):
        others = [k for k in range(5) if k != t]
        if kind == "region":
            exact.append(_distance(weight[t] - weight[others], score[others] - score[t]))
        else:
            ends = [k for k in range(5) if k != s] if kind == "own" else [t]
            each = [(score[s] - score[k]) / (weight[k] - weight[s]).norm() for k in ends]
            exact.append(min(each).item())
    ratio = length(delta) / torch.tensor(exact, dtype=torch.float64)
    assert torch.all(ratio >= 1 - 1e-9)
    # Beyond the region of the source class lie several half-spaces, each with a nearest point of
    # its own; beyond one boundary, or in one region, there is only one.
    assert (ratio <= 1.01).double().mean() >= (0.9 if kind == "own" else 1.0)


def _distance(rows: Tensor, ends: Tensor) -> float:
    """Length of the shortest d with rows d >= ends."""
    return float(np.linalg.norm(_shortest(rows, ends)))


def _shortest(rows: Tensor, ends: Tensor) -> np.ndarray:
    """By non-negative least squares (Lawson and Hanson 1974, chapter 23)."""
    e = np.vstack([rows.numpy().T, ends.numpy()])
    f = np.zeros(len(e))
    f[-1] = 1
    multipliers, _ = nnls(e, f)
    residual = e @ multipliers - f
    return -residual[:-1] / residual[-1]


def _into(weight: Tensor, bias: Tensor, target: Tensor, x: Tensor) -> Tensor:
    """A perturbation (C, H, W) of the image x after which the target leads by more than 1."""
    others = [k for k in range(len(weight)) if k != target]
    score = weight @ x.flatten() + bias
    shortest = _shortest(weight[target] - weight[others], 1 + score[others] - score[target])
    return torch.from_numpy(shortest).reshape(SHAPE)


def margin_of(net: Classifier, x: Tensor) -> Tensor:
    return net.scores(x)[:, 1] - net.scores(x)[:, 0]


@pytest.mark.parametrize("refined_is_one", [True, False])
def test_a_polished_point_that_is_farther_replaces_only_what_is_no_boundary_point(
    monkeypatch, refined_is_one
):
    net = nets.sphere(2.0)
    found = boundary_points(net, 0.3 * gaussian(3, *net.input_shape))
    assert found.converged.all()
    farther = replace(found, distance=2 * found.distance)
    refined = replace(found, converged=torch.full((3,), refined_is_one))
    monkeypatch.setattr(points_module, "nearest_crossing", lambda *_: None)
    monkeypatch.setattr(points_module._Piece, "refined", lambda _: refined)
    monkeypatch.setattr(points_module._Piece, "_crossing", lambda *_: farther)
    piece = object.__new__(points_module._Piece)
    piece.net, piece.x, piece.boundary = net, None, None
    piece.walk = SimpleNamespace(delta=None)
    chosen = piece.nearest(10)
    expected = found if refined_is_one else farther
    assert torch.equal(chosen.distance, expected.distance)
    assert chosen.converged.all()


def test_only_a_shorter_perturbation_that_crosses_is_kept():
    best = _Shortest(torch.tensor([[3.0, 0.0]] * 3), torch.tensor([3.0, 3.0, 3.0]))
    offered = torch.tensor([[0.0, 2.0], [0.0, 4.0], [0.0, 1.0]])
    best.offer(offered, torch.tensor([True, True, False]))
    assert best.length.tolist() == [2, 3, 3]
    assert best.delta.tolist() == [[0, 2], [3, 0], [3, 0]]


def test_from_an_image_on_the_boundary_there_is_nothing_to_search():
    weight = torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    net = nets.linear(weight, torch.zeros(2, dtype=torch.float64), (1, 1, 2))
    x = torch.tensor([[0.0, 1.0], [-1.0, 1.0]], dtype=torch.float64).reshape(2, 1, 1, 2)
    delta = torch.tensor([[2.0, 0.0], [2.0, 0.0]], dtype=torch.float64).reshape(2, 1, 1, 2)
    found = nearest_crossing(net, x, delta, BoundaryFunction(torch.zeros(2, dtype=torch.int64)), 20)
    assert torch.equal(found[0], delta[0])
    assert length(found)[1].item() == pytest.approx(1, rel=2e-3)


def test_what_the_search_from_the_image_finds_is_kept(monkeypatch):
    monkeypatch.setattr(_Search, "slide", lambda *_: None)
    weight = torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    net = nets.linear(weight, torch.zeros(2, dtype=torch.float64), (1, 1, 2))
    x = torch.tensor([-1.0, 1.0], dtype=torch.float64).reshape(1, 1, 1, 2)
    boundary = BoundaryFunction(torch.zeros(1, dtype=torch.int64))
    found = nearest_crossing(net, x, 2 * torch.ones_like(x), boundary, 100)
    assert length(found).item() < 1.1  # Along the diagonal it is the root of 2.
