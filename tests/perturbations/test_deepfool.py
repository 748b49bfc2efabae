"""DeepFool: closed forms, properties, a plain reference implementation, then real images."""

import networks_for_tests as nets
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks_for_tests import SHAPE, gaussian

from geomadv.classifier import Classifier
from geomadv.linalg import Subspace
from geomadv.perturbations import deepfool

D = 6
# Rounding of a closed form of D terms, twice (here and in the library): a few eps.
EXACT = {torch.float64: 1e-10, torch.float32: 1e-5}


def images(n: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return gaussian(n, *SHAPE, seed=seed, dtype=dtype)


def multiclass(classes: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Classifier:
    weight, bias = gaussian(classes, D, seed=seed), gaussian(classes, seed=seed + 1)
    return nets.linear(weight, bias, dtype=dtype)


def pair_projection(net: Classifier, x: torch.Tensor, rivals: torch.Tensor) -> torch.Tensor:
    """Closed form -f w / ||w||^2 to the boundary (prediction, rival), float64. (N, D)."""
    module = net.to(dtype=torch.float64).module.module
    scores = module(x.double())
    source, rows = scores.argmax(1), torch.arange(len(x))
    f = scores[rows, rivals] - scores[rows, source]
    w = module.weight[rivals] - module.weight[source]
    return -(f / w.square().sum(1))[:, None] * w


def nearest_projection(net: Classifier, x: torch.Tensor, rivals: int) -> torch.Tensor:
    """The shortest projection over the `rivals` best-scoring classes behind the prediction."""
    ranked = net.to(dtype=torch.float64).module(x.double()).argsort(1, descending=True)
    every = torch.stack(
        [pair_projection(net, x, ranked[:, k]) for k in range(1, rivals + 1)], dim=1
    )
    return every[torch.arange(len(x)), every.norm(dim=2).argmin(1)]


def assert_same(a, b, rtol: float = 1e-9) -> None:
    for name in ("source", "label", "converged", "iterations"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name
    scale = b.norm.max().item()
    torch.testing.assert_close(a.delta, b.delta, rtol=rtol, atol=rtol * scale)


# Closed forms: linear


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_linear_pair_is_the_projection_after_one_step(dtype):
    w, b = gaussian(D, seed=1), 0.3
    net, x = nets.linear_pair(w, b, dtype=dtype), images(40, dtype=dtype)
    r = deepfool(net, x, overshoot=0.02)
    flat = x.double().flatten(1)
    exact = -1.02 * ((flat @ w + b) / (w @ w))[:, None] * w
    # A score's rounding, relative to f, grows as the image nears the boundary: ||w|| ||x|| / |f|.
    error = (r.delta.flatten(1) - exact).norm(dim=1)
    assert torch.all(error <= EXACT[dtype] * flat.norm(dim=1).clamp_min(1))
    assert r.converged.all()
    assert torch.all(r.iterations == 1)
    assert torch.equal(r.source, ((flat @ w + b) > 0).long())
    assert torch.equal(r.label, 1 - r.source)
    torch.testing.assert_close(r.norm, r.delta.flatten(1).norm(dim=1))
    assert {t.dtype for t in (r.delta, r.adversarial, r.norm)} == {dtype}
    assert len(r) == 40


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_multiclass_linear_goes_to_the_nearest_of_all_classes(dtype):
    net, x = multiclass(8, dtype=dtype), images(60, dtype=dtype)
    r = deepfool(net, x)
    exact = 1.02 * nearest_projection(net, x, rivals=7)
    error = (r.delta.flatten(1) - exact).norm(dim=1)
    assert torch.all(error <= EXACT[dtype] * x.flatten(1).norm(dim=1))
    assert r.converged.all()
    assert torch.all(r.iterations == 1)
    assert {0, 7} <= set(r.source.tolist())
    assert {0, 7} <= set(r.label.tolist())


def test_targeted_linear_is_the_projection_on_the_pair_whoever_else_is_on_top():
    net, x = multiclass(8), images(80)
    targets = torch.arange(80) % 8
    r = deepfool(net, x, target=targets)
    already = r.source == targets
    exact = 1.02 * pair_projection(net, x, targets)
    exact[already] = 0
    torch.testing.assert_close(r.delta.flatten(1), exact, rtol=1e-10, atol=1e-12)
    on_top = net.predict(x + exact.reshape(x.shape))
    assert torch.equal(r.label, on_top)
    assert torch.equal(r.converged, on_top == targets)
    assert (~r.converged).any()
    assert r.converged[~already].any()
    assert torch.equal(r.iterations, (~already).long())


def test_one_target_for_all_is_the_same_as_one_per_image():
    net, x = multiclass(5), images(9)
    assert_same(deepfool(net, x, target=4), deepfool(net, x, target=torch.full((9,), 4)))
    as_int32 = torch.full((9,), 4, dtype=torch.int32)
    assert_same(deepfool(net, x, target=4), deepfool(net, x, target=as_int32))


@pytest.mark.parametrize(("source", "target"), [(0, 4), (4, 0), (0, 1), (4, 3)])
def test_first_and_last_class_as_source_and_target(source, target):
    # Scores e_k . x for the first five pixels: the projection moves two pixels half the gap each.
    net = nets.linear(torch.eye(5, D, dtype=torch.float64), torch.zeros(5, dtype=torch.float64))
    x = torch.zeros(1, *SHAPE, dtype=torch.float64)
    x.view(-1)[source], x.view(-1)[target] = 1.0, 0.5
    for r in (deepfool(net, x, target=target), deepfool(net, x)):
        expected = torch.zeros(D, dtype=torch.float64)
        expected[source], expected[target] = -0.255, 0.255
        torch.testing.assert_close(r.delta.flatten(), expected)
        assert (r.source.item(), r.label.item()) == (source, target)
        assert r.converged.all()


def test_candidates_are_the_best_scores_at_the_clean_image():
    net, x = multiclass(12), images(50)
    norms = []
    for candidates in (2, 4, 12, 100):
        r = deepfool(net, x, candidates=candidates)
        exact = 1.02 * nearest_projection(net, x, rivals=min(candidates, 12) - 1)
        torch.testing.assert_close(r.delta.flatten(1), exact, rtol=1e-10, atol=1e-12)
        norms.append(r.norm)
    assert torch.all(norms[1] <= norms[0] + 1e-12)
    assert (norms[2] < norms[0]).any()
    assert torch.equal(norms[2], norms[3])


def test_overshoot_has_an_effect():
    net, x = nets.linear_pair(gaussian(D, seed=1), 0.3), images(10)
    small, large = deepfool(net, x, overshoot=0.01), deepfool(net, x, overshoot=0.5)
    torch.testing.assert_close(large.norm / small.norm, torch.full_like(small.norm, 1.5 / 1.01))


def test_without_overshoot_the_walk_still_crosses():
    r = deepfool(nets.linear_pair(gaussian(D, seed=1), 0.3), images(50), overshoot=0)
    assert r.converged.all()
    assert torch.all(r.label != r.source)


# Closed forms: confined


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_confined_linear_is_the_projection_inside_the_subspace(dtype):
    w, b, frame = gaussian(D, seed=1), 0.3, nets.orthogonal_frame(D, 3, seed=5)
    net, x = nets.linear_pair(w, b, dtype=dtype), images(30, dtype=dtype)
    r = deepfool(net, x, subspace=Subspace(frame.to(dtype)))
    f = x.double().flatten(1) @ w + b
    inside = frame @ (frame.T @ w)
    exact = -1.02 * (f / (inside @ inside))[:, None] * inside
    error = (r.delta.flatten(1) - exact).norm(dim=1)
    assert torch.all(error <= EXACT[dtype] * x.flatten(1).norm(dim=1) * w.norm() / inside.norm())
    assert r.converged.all()
    assert torch.all(r.iterations == 1)
    # ||r|| / cos(angle between the normal and the subspace)
    free = deepfool(net, x).norm
    cosine = (inside.norm() / w.norm()).to(dtype)
    torch.testing.assert_close(r.norm, free / cosine, rtol=1e-4, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("target", [None, 2])
def test_confined_walks_stay_in_the_subspace(dtype, target):
    net, x = nets.perceptron(dtype=dtype), images(20, dtype=dtype)
    frame = nets.orthogonal_frame(D, 4, seed=5)
    r = deepfool(net, x, target=target, subspace=Subspace(frame.to(dtype)))
    assert r.converged.any()
    delta = r.delta.double().flatten(1)
    rest = (delta - delta @ frame @ frame.T).norm(dim=1)
    # Products with an orthonormal basis leave a few eps: far below 1e-5 in float32.
    assert torch.all(rest <= 100 * torch.finfo(dtype).eps * delta.norm(dim=1))


def test_whole_space_as_subspace_changes_rounding_only():
    net, x = nets.perceptron(), images(20)
    whole = Subspace(nets.orthogonal_frame(D, D, seed=5))
    assert_same(deepfool(net, x, subspace=whole), deepfool(net, x))


def test_subspace_orthogonal_to_the_normal_leaves_the_image_where_it_is():
    w = torch.eye(D, dtype=torch.float64)[0]
    net = nets.linear_pair(w, 0.3)
    r = deepfool(net, images(5), subspace=Subspace(torch.eye(D, dtype=torch.float64)[:, 1:3]))
    assert not r.converged.any()
    assert torch.all(r.delta == 0)
    assert torch.all(r.iterations == 0)


# Quadrics: the nearest point bounds DeepFool from below


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_nearest_point_of_a_quadric_bounds_deepfool_from_below(seed):
    net, x, nearest = nets.random_quadric(seed)
    r = deepfool(net, x)
    distance = (nearest - x).flatten(1).norm(dim=1)
    # The root of the secular equation is good to 1e-12; the point lies beyond the boundary.
    assert torch.all(r.norm[r.converged] >= distance[r.converged] * (1 - 1e-9))


def test_ratio_to_the_nearest_point_of_quadrics(record_property):
    ratios, converged = [], []
    for seed in range(25):
        net, x, nearest = nets.random_quadric(seed)
        r = deepfool(net, x)
        ratios.append((r.norm / (nearest - x).flatten(1).norm(dim=1))[r.converged])
        converged.append(r.converged)
    ratio = torch.cat(ratios)
    for q in (0.1, 0.5, 0.9):
        record_property(f"deepfool_to_nearest_q{q:g}", ratio.quantile(q).item())
    assert torch.cat(converged).all()
    # Strongly curved quadrics (curvature x distance of order 1); greedy steps cost some length.
    assert 1.0 <= ratio.median() < 1.5


def test_radial_walk_from_inside_a_sphere_follows_newtons_recursion():
    # f = rho^2 - r^2 along the ray: rho <- rho + (r^2 - rho^2) / 2 rho, tested at 1.02 the sum.
    x = images(6)
    x /= 2 * x.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
    r = deepfool(nets.sphere(1.0), x)
    total = (1 - 0.25) / (2 * 0.5)
    torch.testing.assert_close(r.delta, 1.02 * total * x / 0.5)
    assert torch.all(r.iterations == 1)
    assert r.converged.all()


# Independent implementation


def reference_deepfool(module, x: np.ndarray, overshoot: float, max_iter: int):
    """Equation 8 of the paper for one image, hand-derived Jacobian of W2 tanh(W1 x + b1) + b2."""
    w1, b1, w2, b2 = (getattr(module, k).numpy() for k in ("w1", "b1", "w2", "b2"))
    source = int(np.argmax(w2 @ np.tanh(w1 @ x + b1) + b2))
    total, point, steps = np.zeros_like(x), x, 0
    while steps < max_iter:
        hidden = np.tanh(w1 @ point + b1)
        scores = w2 @ hidden + b2
        if np.argmax(scores) != source:
            break
        jacobian = (w2 * (1 - hidden**2)) @ w1
        w = np.delete(jacobian - jacobian[source], source, axis=0)
        f = np.delete(scores - scores[source], source)
        norms = np.linalg.norm(w, axis=1)
        k = int(np.argmin(np.abs(f) / norms))
        total = total + np.abs(f[k]) / norms[k] ** 2 * w[k]
        point, steps = x + (1 + overshoot) * total, steps + 1
    return (1 + overshoot) * total, steps


def test_agrees_with_a_plain_implementation():
    net, x = nets.perceptron(classes=6), 2 * images(30)
    r = deepfool(net, x, prune=False)
    several = 0
    for k in range(30):
        delta, steps = reference_deepfool(net.module.module, x[k].flatten().numpy(), 0.02, 50)
        # Same numbers in another order of sums; steps amplify rounding a little.
        scale = np.linalg.norm(delta)
        np.testing.assert_allclose(r.delta[k].flatten().numpy(), delta, atol=1e-9 * scale)
        assert r.iterations[k] == steps
        several += steps > 1
    assert several >= 5


def test_skipping_rivals_changes_no_iterate():
    shape = (1, 8, 8)
    net = nets.perceptron(classes=10, hidden=32, shape=shape)
    x = gaussian(100, *shape, seed=9)
    quick, full = deepfool(net, x), deepfool(net, x, prune=False)
    assert_same(quick, full)


# Batches, precision, order


@pytest.mark.parametrize("target", [None, 3])
@pytest.mark.parametrize("confined", [False, True])
def test_batch_size_changes_rounding_only(target, confined):
    net, x = nets.perceptron(), 2 * images(13)
    subspace = Subspace(nets.orthogonal_frame(D, 4)) if confined else None
    together = deepfool(net, x, target=target, subspace=subspace)
    for size in (1, 5, 100):
        again = deepfool(net, x, target=target, subspace=subspace, batch_size=size)
        assert_same(again, together)
    alone = [deepfool(net, x[k : k + 1], target=target, subspace=subspace) for k in range(13)]
    torch.testing.assert_close(torch.cat([r.delta for r in alone]), together.delta)
    assert torch.equal(torch.cat([r.label for r in alone]), together.label)


def test_order_of_images_is_irrelevant():
    net, x = nets.perceptron(), 2 * images(17)
    order = torch.randperm(17, generator=torch.Generator().manual_seed(0))
    straight, shuffled = deepfool(net, x, batch_size=4), deepfool(net, x[order], batch_size=4)
    torch.testing.assert_close(shuffled.delta, straight.delta[order])
    assert torch.equal(shuffled.label, straight.label[order])


def test_float32_follows_float64():
    x = images(30)
    double = deepfool(nets.perceptron(), x)
    single = deepfool(nets.perceptron(dtype=torch.float32), x.float())
    assert torch.equal(single.label, double.label)
    # Ten-term sums: eps of float32 times conditioning ||x|| / ||delta||, amplified by some steps.
    torch.testing.assert_close(single.norm.double(), double.norm, rtol=1e-3, atol=1e-5)


def test_repeats_exactly():
    net, x = nets.perceptron(), images(11)
    assert torch.equal(deepfool(net, x).delta, deepfool(net, x).delta)


# Real data


def test_resnet20_on_cifar10(real_data):
    net, x = nets.resnet20_cifar10(32)
    r = deepfool(net, x)
    assert r.converged.all()
    assert torch.all(r.label != r.source)
    assert torch.equal(net.predict(r.adversarial), r.label)
    # Published DeepFool norms on CIFAR-10 networks are a few per cent of the image's norm.
    assert 0 < (r.norm / x.flatten(1).norm(dim=1)).median() < 0.05
    few = deepfool(net, x[:6], batch_size=1)
    # float32 rounding of 20 layers, amplified over a few steps across kinks.
    torch.testing.assert_close(few.norm, r.norm[:6], rtol=1e-3, atol=0)
    assert torch.equal(few.label, r.label[:6])
