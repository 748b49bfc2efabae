"""Boundary points and normals: half-spaces, spheres, multi-class models, real images."""

import math

import networks_for_tests as nets
import numpy as np
import pytest
import torch
from networks_for_tests import SHAPE, gaussian

from geomadv.boundary import boundary_gradient, boundary_points
from geomadv.classifier import Classifier
from geomadv.errors import InputError
from geomadv.perturbations import deepfool

D = 6


def images(n: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return gaussian(n, *SHAPE, seed=seed, dtype=dtype)


def on_sphere(n: int, radius: float) -> torch.Tensor:
    x = images(n)
    return radius * x / x.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)


# Closed forms


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_half_space(dtype):
    w, b = gaussian(D, seed=1), 0.3
    net, x = nets.linear_pair(w, b, dtype=dtype), images(50, dtype=dtype)
    p = boundary_points(net, x)
    flat = x.double().flatten(1)
    f = flat @ w + b
    eps = torch.finfo(dtype).eps
    assert p.converged.all()
    # From class 0 the normal is w / ||w||, from class 1 its opposite: always into the target.
    expected = -f.sign()[:, None] * w / w.norm()
    torch.testing.assert_close(p.normals, expected.to(dtype), rtol=0, atol=8 * eps)
    # |f| <= tolerance leaves the point off by |f| / ||w||, tolerance relative to the scores.
    error = (p.distance - f.abs() / w.norm()).abs()
    tolerance = {torch.float64: 1e-10, torch.float32: 1e-5}[dtype]
    assert torch.all(error <= tolerance * f.abs() / w.norm() + 8 * eps * flat.norm(dim=1))
    assert p.angle.max() < 100 * eps * (flat.norm(dim=1) / p.distance).max()
    assert torch.equal(p.source, (f > 0).long())
    assert torch.equal(p.target, 1 - p.source)
    assert p.points.shape == x.shape
    assert p.normals.shape == (50, D)
    assert {p.points.dtype, p.normals.dtype, p.distance.dtype} == {dtype}
    assert len(p) == 50


@pytest.mark.parametrize(("inside_target", "start"), [(False, 0.4), (True, 1.7)])
def test_sphere(inside_target, start):
    radius = 1.3
    net, x = nets.sphere(radius, inside_target=inside_target), on_sphere(12, start)
    p = boundary_points(net, x)
    assert p.converged.all()
    # |f| <= 1e-10 max |score|, gradient 2 r.
    flat = p.points.flatten(1)
    torch.testing.assert_close(
        flat.norm(dim=1), torch.full_like(p.distance, radius), atol=1e-9, rtol=0
    )
    sign = -1 if inside_target else 1
    torch.testing.assert_close(p.normals, sign * flat / radius, atol=1e-9, rtol=0)
    torch.testing.assert_close(
        p.distance, torch.full_like(p.distance, abs(radius - start)), atol=1e-9, rtol=0
    )
    assert p.angle.max() < 1e-12


@pytest.mark.parametrize("settings", [{}, {"target": 3}, {"target": 3, "boundary": "pair"}])
def test_signs(settings):
    net, x = nets.perceptron(), images(30)
    p = boundary_points(net, x, **settings)
    p = p[p.converged]
    assert len(p) > 5
    at_image, _, _ = boundary_gradient(net, images(30)[:1], p.source[:1], p.target[:1])
    assert at_image < 0
    step = 1e-4 * p.normals.reshape(-1, *SHAPE)
    for sign in (-1, 1):
        f, _, _ = boundary_gradient(net, p.points + sign * step, p.near, p.target)
        assert torch.all(sign * f > 0)
    torch.testing.assert_close(p.normals.norm(dim=1), torch.ones(len(p), dtype=torch.float64))


def test_normals_against_central_differences():
    net, x = nets.perceptron(), images(5)
    p = boundary_points(net, x)
    h = 1e-5  # truncation h^2 = 1e-10, rounding eps / h = 2e-11
    basis = h * torch.eye(D, dtype=torch.float64).reshape(D, *SHAPE)
    for k in range(5):
        scores = net.scores(p.points[k] + basis) - net.scores(p.points[k] - basis)
        gradient = (scores[:, p.target[k]] - scores[:, p.source[k]]) / (2 * h)
        torch.testing.assert_close(p.normals[k], gradient / gradient.norm(), atol=1e-8, rtol=0)


def test_gradient_of_a_quadric_and_a_cubic():
    a = gaussian(D, D)
    a, b, x = a + a.T, gaussian(D, seed=1), images(7)
    source, target = torch.zeros(7, dtype=torch.int64), torch.ones(7, dtype=torch.int64)
    flat = x.flatten(1)
    for net, expected in (
        (nets.quadric(a, b, 0.5), flat @ a + b),
        (nets.cubic(a[0], b, 0.5), a[0] * flat**2 / 2 + b),
    ):
        f, gradient, scores = boundary_gradient(net, x, source, target)
        torch.testing.assert_close(gradient, expected)
        torch.testing.assert_close(f, scores[:, 1] - scores[:, 0])
        _, opposite, _ = boundary_gradient(net, x, target, source)
        assert torch.equal(opposite, -gradient)
        assert not x.requires_grad


# Refined points


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_residual_is_within_the_tolerance(dtype):
    net, x = nets.perceptron(dtype=dtype), images(40, dtype=dtype)
    scale = net(x).abs().amax(1)
    p = boundary_points(net, x)
    assert p.converged.all()
    default = {torch.float64: 1e-10, torch.float32: 1e-5}[dtype]
    assert torch.all(p.residual <= default * scale)
    coarse = boundary_points(net, x, tolerance=1e-3)
    assert torch.all(coarse.residual <= 1e-3 * scale)
    scores = net(p.points)
    rows = torch.arange(40)
    torch.testing.assert_close(
        (scores[rows, p.target] - scores[rows, p.source]).abs(), p.residual, rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("spread", [1.0, 0.01, 0.001])
@pytest.mark.parametrize("seed", range(5))
def test_images_near_the_boundary_of_a_binary_network_converge_in_float32(spread, seed):
    # Both scores are +-f/2 and small: rounding of the image must not be held against the point.
    shape = (1, 28, 28)
    w = gaussian(784, seed=seed)
    x = torch.rand(200, 784, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = x.mean(0) + spread * (x - x.mean(0))
    net = nets.linear_pair(w, -float((x @ w).mean()), shape, torch.float32)
    assert boundary_points(net, x.reshape(-1, *shape)).converged.all()


def test_the_point_lies_on_the_segment_to_deepfools_point():
    net, x = nets.perceptron(), images(20)
    p, r = boundary_points(net, x), deepfool(net, x)
    share = p.distance / r.norm
    assert torch.all((share > 0) & (share <= 1))
    torch.testing.assert_close(p.points, x + share.reshape(-1, 1, 1, 1) * r.delta)
    assert torch.equal(p.iterations, r.iterations)
    assert torch.equal(p.source, r.source)


def test_untargeted_points_have_no_third_class_above():
    net, x = nets.perceptron(classes=8), images(60)
    p = boundary_points(net, x)
    assert p.converged.all()
    top = net(p.points).topk(2, dim=1)
    pair = torch.stack([p.source, p.target], dim=1)
    assert torch.equal(top.indices.sort(1).values, pair.sort(1).values)


def test_on_the_boundary_of_a_pair_a_third_class_on_top_is_flagged_and_kept():
    net, x = nets.perceptron(classes=8), images(60)
    p = boundary_points(net, x, target=5, boundary="pair")
    assert torch.equal(p.near, p.source)
    assert torch.all(p.target == 5)
    other = p.source != 5
    scores = net(p.points)
    pair = torch.stack([p.source, p.target], dim=1)
    above = scores.scatter(1, pair, -torch.inf).amax(1) - scores.gather(1, pair).amax(1)
    assert torch.equal(p.third[other], above[other] > 1e-8)
    assert (p.third & p.converged).any()
    assert (~p.third & p.converged).any()
    assert p.normals[p.converged].isfinite().all()


@pytest.mark.parametrize("boundary", ["region", "pair"])
@pytest.mark.parametrize("position", ["refine", 0.8])
def test_image_of_the_target_class_has_no_boundary_point(position, boundary):
    net, x = nets.perceptron(), images(10)
    p = boundary_points(net, x, target=net.predict(x), position=position, boundary=boundary)
    assert not p.converged.any()
    assert p.normals.isnan().all()
    assert torch.all(p.distance == 0)


def test_image_exactly_on_the_boundary_is_its_own_boundary_point():
    w = torch.tensor([1.0, 0, 0, 0, 0, 0], dtype=torch.float64)
    x = images(3)
    x.view(3, -1)[0, 0] = 0
    p = boundary_points(nets.linear_pair(w, 0.0), x)
    assert p.converged.all()
    assert (p.distance[0], p.residual[0]) == (0, 0)
    torch.testing.assert_close(p.normals[0], w)
    assert p.angle[0].isnan()


# Points that did not make it


@pytest.mark.parametrize("position", ["refine", 0.8])
@pytest.mark.parametrize("target", [None, 2])
def test_dead_network_is_kept_and_flagged(position, target):
    x = images(4)
    p = boundary_points(nets.dead(), x, target=target, position=position)
    assert len(p) == 4
    assert not p.converged.any()
    assert p.normals.isnan().all()
    assert p.points.isfinite().all()


@pytest.mark.parametrize("settings", [{}, {"position": 0.8}, {"nearest": True, "nearest_steps": 4}])
def test_non_converged_images_stay_in_their_place(settings):
    net = nets.sphere(1.0, inside_target=True)
    x = torch.cat([on_sphere(1, 100.0), on_sphere(2, 1.2), on_sphere(1, 50.0)])
    p = boundary_points(net, x, max_iter=4, **settings)
    assert p.converged.tolist() == [False, True, True, False]
    assert p.normals[[0, 3]].isnan().all()
    assert p.normals[[1, 2]].isfinite().all()
    assert p.angle[[0, 3]].isnan().all()
    assert p.distance.isfinite().all()


# A fixed share of the perturbation


@pytest.mark.parametrize("target", [None, 3])
def test_fixed_share_of_the_perturbation(target):
    net, x = nets.perceptron(), images(20)
    r = deepfool(net, x, target=target)
    p = boundary_points(net, x, target=target, position=0.8, boundary="pair")
    torch.testing.assert_close(p.points, x + 0.8 * r.delta)
    torch.testing.assert_close(p.distance, 0.8 * r.norm)
    pair = boundary_gradient(net, r.adversarial, r.source, p.target)[0]
    assert torch.equal(p.converged, pair > 0)
    expected = r.label if target is None else torch.full((20,), 3)
    assert torch.equal(p.target, expected)
    f, gradient, _ = boundary_gradient(net, p.points, p.source, p.target)
    torch.testing.assert_close(p.residual, f.abs())
    normals = gradient / gradient.norm(dim=1, keepdim=True)
    torch.testing.assert_close(p.normals[p.converged], normals[p.converged])


def test_share_may_be_any_real_number():
    net, x = nets.perceptron(), images(3)
    one = boundary_points(net, x, position=1)
    torch.testing.assert_close(one.points, deepfool(net, x).adversarial)
    single = boundary_points(net, x, position=np.float32(0.5))
    torch.testing.assert_close(single.points, boundary_points(net, x, position=0.5).points)


# The record, batches, inputs


def test_indexing():
    p = boundary_points(nets.perceptron(), images(6))
    assert len(p[2:5]) == 3
    assert len(p[p.target == p.target[0]]) >= 1
    for one in (p[3], p[np.int64(3)], p[torch.tensor([3])], p[[3]], p[-3]):
        assert one.points.shape == (1, *SHAPE)
        assert torch.equal(one.normals, p.normals[3:4])
        assert torch.equal(one.converged, p.converged[3:4])
    with pytest.raises(IndexError):
        p[6]


@pytest.mark.parametrize(
    "settings",
    [{}, {"target": 3}, {"target": 3, "boundary": "pair"}, {"nearest": True}, {"position": 0.8}],
)
def test_batch_size_changes_rounding_only(settings):
    net, x = nets.perceptron(), images(11)
    together = boundary_points(net, x, **settings)
    for size in (1, 4):
        again = boundary_points(net, x, batch_size=size, **settings)
        assert torch.equal(again.converged, together.converged)
        assert torch.equal(again.target, together.target)
        # 1e-10 of the scores decides where the search stops.
        torch.testing.assert_close(again.points, together.points, rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(
            again.normals, together.normals, rtol=0, atol=1e-6, equal_nan=True
        )


def test_inputs_are_not_changed_and_results_carry_no_graph():
    net, x, targets = nets.perceptron(), images(6), torch.arange(6, dtype=torch.int32) % 5
    original = x.clone()
    p = boundary_points(net, x.requires_grad_(), target=targets, nearest=True)
    assert torch.equal(x, original)
    assert torch.equal(targets, torch.arange(6) % 5)
    assert not any(getattr(p, k).requires_grad for k in ("points", "normals", "distance", "angle"))
    again = boundary_points(net, original.numpy(), target=targets.long(), nearest=True)
    assert torch.equal(again.points, p.points)


def test_tolerance_follows_the_images_where_the_network_has_no_dtype():
    module = nets.Pair(torch.nn.Sequential(torch.nn.Flatten(), _Sum()))
    net = Classifier(module, SHAPE, bounds=(-10.0, 10.0))
    x = images(10)
    p = boundary_points(net, x)
    assert p.points.dtype == torch.float64
    assert torch.all(p.residual <= 1e-10 * net(x).abs().amax(1))


class _Sum(torch.nn.Module):
    """f = sum of exp(x / 10) - 6, without a parameter."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x / 10).exp().sum(1) - 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"position": "middle"}, "position='middle'"),
        ({"position": 0}, "position=0"),
        ({"position": -0.5}, "position=-0.5"),
        ({"position": math.nan}, "position=nan"),
        ({"position": math.inf}, "position=inf"),
        ({"position": True}, "position=True"),
        ({"position": None}, "position=None"),
        ({"position": 0.8, "nearest": True}, "nearest=True"),
        ({"tolerance": -1e-3}, "tolerance=-0.001"),
        ({"tolerance": math.nan}, "tolerance=nan"),
        ({"nearest": True, "nearest_steps": 0}, "nearest_steps=0"),
        ({"target": 5}, "class 5 does not exist"),
        ({"target": torch.tensor([0, 1])}, "one per image"),
        ({"max_iter": -1}, "max_iter"),
        ({"overshoot": -1.0}, "overshoot"),
        ({"candidates": 0}, "candidates"),
        ({"batch_size": -2}, "batch_size"),
    ],
)
def test_bad_settings_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        boundary_points(nets.perceptron(), images(3), **arguments)


# Real data


def test_resnet20_on_cifar10(real_data):
    net, x = nets.resnet20_cifar10(32)
    p = boundary_points(net, x)
    assert p.converged.all()
    assert torch.all(p.residual <= 1e-5 * net(x).abs().amax(1))
    assert torch.equal(p.source, net.predict(x))
    torch.testing.assert_close(p.normals.norm(dim=1), torch.ones(32))
    # The normal and the perturbation point the same way, if not exactly.
    assert torch.all(p.angle < math.pi / 2)
    few = boundary_points(net, x[:5], batch_size=1)
    assert torch.equal(few.target, p.target[:5])
    # float32 rounding of 20 layers, amplified over a few steps across kinks.
    torch.testing.assert_close(few.distance, p.distance[:5], rtol=1e-3, atol=0)


def test_nearest_points_of_resnet20(real_data):
    net, x = nets.resnet20_cifar10(8)
    plain, p = boundary_points(net, x), boundary_points(net, x, nearest=True, nearest_steps=40)
    assert p.converged.all()
    assert torch.all(p.distance <= plain.distance)
    assert p.distance.median() < plain.distance.median()
    assert p.angle.median() < plain.angle.median()


class Jump(torch.nn.Module):
    """Scores 0 and x + 2 [x > 0] - 1, whose difference has no zero."""

    def forward(self, x):
        s = x.flatten(1).sum(1)
        return torch.stack([0 * s, s + 2 * (s > 0).to(s) - 1], 1)


def test_where_scores_jump_across_there_is_no_boundary_point():
    net = Classifier(Jump(), (1, 1, 1), bounds=(-9.0, 9.0), dtype=torch.float64)
    points = boundary_points(net, torch.full((1, 1, 1, 1), -0.5, dtype=torch.float64))
    assert points.residual.item() == pytest.approx(1)
    assert not points.converged
