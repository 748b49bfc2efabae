"""The nearest boundary point: exact distances on quadrics and linear classifiers."""

import networks_for_tests as nets
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks_for_tests import SHAPE, gaussian

from geomadv.boundary import boundary_points
from geomadv.boundary.nearest import nearest_crossing
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


def test_perturbations_that_do_not_cross_come_back_unchanged():
    net, x = nets.perceptron(), gaussian(6, *SHAPE)
    walk = deepfool(net, x)
    start = walk.delta.clone()
    start[1], start[4] = 0, start[4] * 1e-3
    delta = nearest_crossing(net, x, start, BoundaryFunction(walk.source), 20)
    assert torch.equal(delta[[1, 4]], start[[1, 4]])
    none = nearest_crossing(net, x, 0 * start, BoundaryFunction(walk.source), 20)
    assert torch.all(none == 0)


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
