"""The default walk is the published one: it goes to the nearest of all candidates at every step."""

import math

import networks_for_tests as nets
import numpy as np
import pytest
import torch
from networks_for_tests import SHAPE, gaussian
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from walks_for_tests import plain_walk

from geomadv import load_images, load_network
from geomadv.linalg import Subspace
from geomadv.perturbations import deepfool
from geomadv.perturbations.rivals import Rivals

D = math.prod(SHAPE)


def exact_distance(
    weight: Tensor, bias: Tensor, x: Tensor, basis: Tensor | None = None, order: float = 2
) -> Tensor:
    """Distance (N,) of rows x (N, D) to the nearest boundary of the scores W x + b.

    min over k of |f_k| / ||w_k - w_s|| in the dual norm, projected on a basis where there is one.
    """
    scores = x @ weight.T + bias
    source = scores.argmax(1)
    f = scores - scores.gather(1, source[:, None])
    w = weight[None] - weight[source][:, None]
    w = w if basis is None else w @ basis
    norm = torch.linalg.vector_norm(w, ord=1 if order == math.inf else 2, dim=2)
    return torch.where(norm > 0, f.abs() / norm, torch.inf).amin(1)


def test_a_far_scoring_rival_with_a_steep_gradient_is_the_nearest():
    weight = torch.zeros(5, 5, dtype=torch.float64)
    weight[:, 0] = torch.tensor([1, 0.9, 0.8, 0.7, 0])
    weight[1, 1] = weight[2, 2] = weight[3, 3] = 0.1
    weight[4, 4] = 5
    bias = torch.tensor([0, -0.2, -0.2, -0.2, -0.5], dtype=torch.float64)
    net = nets.linear(weight, bias, (1, 1, 5))
    x = torch.tensor([0.9, 0.1, 0.1, 0.1, 0.1], dtype=torch.float64).reshape(1, 1, 1, 5)
    # Score 0 for the last class against 0.9: |f| = 0.9, ||(-1, 0, 0, 0, 5)|| = sqrt(26).
    assert deepfool(net, x, overshoot=0).norm.item() == pytest.approx(0.9 / math.sqrt(26))


@pytest.mark.parametrize("order", [2, math.inf])
def test_linear_networks_with_norms_of_every_size(order):
    for seed in range(25):
        sizes = torch.exp(gaussian(9, 1, seed=4 * seed + 3))
        weight = gaussian(9, D, seed=4 * seed) * sizes
        bias = gaussian(9, seed=4 * seed + 1)
        x = gaussian(40, *SHAPE, seed=4 * seed + 2)
        found = deepfool(nets.linear(weight, bias), x, overshoot=0, p=order)
        exact = exact_distance(weight, bias, x.flatten(1), order=order)
        torch.testing.assert_close(found.norm, exact, rtol=1e-9, atol=1e-12)
        assert found.converged.all()


def test_confined_to_small_subspaces_of_a_linear_digit_classifier():
    pixels, labels = load_digits(return_X_y=True)
    fit = LogisticRegression(max_iter=200).fit(pixels / 16, labels)
    weight, bias = torch.from_numpy(fit.coef_), torch.from_numpy(fit.intercept_)
    shape = (1, 8, 8)
    net = nets.linear(weight, bias, shape, bounds=(0.0, 1.0))
    x = torch.from_numpy(pixels / 16)
    for seed in range(3):
        basis = nets.orthogonal_frame(64, 5, seed=seed)
        found = deepfool(net, x.reshape(-1, *shape), subspace=Subspace(basis), overshoot=0)
        exact = exact_distance(weight, bias, x, basis)
        torch.testing.assert_close(found.norm, exact, rtol=1e-8, atol=1e-12)


# Against a plain walk, one image at a time, that looks at every candidate at every step.


@pytest.mark.parametrize("p", [2, math.inf])
def test_agrees_with_a_plain_walk_in_both_norms(p):
    net = nets.perceptron(classes=12, hidden=40, shape=(1, 4, 4))
    x = gaussian(30, 1, 4, 4, seed=5)
    found = deepfool(net, x, p=p)
    for i in range(len(x)):
        delta, steps = plain_walk(net.scores, x[i], p)
        assert int(found.iterations[i]) == steps
        torch.testing.assert_close(found.delta[i].flatten(), delta, rtol=1e-6, atol=1e-8)
    order = math.inf if p == math.inf else 2
    norms = torch.linalg.vector_norm(found.delta.flatten(1), ord=order, dim=1)
    torch.testing.assert_close(found.norm, norms)


ZOO = [
    ("digits-relu", "digits", 100),
    ("mnist-convsmall-robust-eps0.1", "mnist", 24),
    ("mnist-convsmall-robust-eps0.3", "mnist", 40),
    ("cifar10-convsmall-robust-linf8", "cifar10", 40),
    ("cifar10-convsmall-robust-l2-36", "cifar10", 40),
    ("resnet20-cifar10", "cifar10", 24),
]


@pytest.mark.parametrize(("name", "data", "count"), ZOO)
def test_skipping_changes_no_iterate_on_real_networks(name, data, count, real_data):
    net = load_network(name, progress=False)
    x = load_images(data, split="test", limit=count, progress=False).images
    quick, full = deepfool(net, x), deepfool(net, x, prune=False)
    # Another batch composition rounds differently; on a long walk through kinks that can grow.
    moved = (quick.delta - full.delta).flatten(1).norm(dim=1) > 1e-3 * full.norm
    long = full.iterations > 10
    assert not (moved & ~long).any()
    assert (moved & long).sum() <= 2


def test_robust_network_agrees_with_a_plain_walk(real_data):
    net = load_network("mnist-convsmall-robust-eps0.3", progress=False)
    x = load_images("mnist", split="test", limit=12, progress=False).images
    norms = deepfool(net, x).norm.numpy()
    plain = np.array([float(plain_walk(net.scores, image)[0].norm()) for image in x])
    # Images are walked one at a time here: long walks may differ as above.
    assert np.sum(np.abs(norms / plain - 1) > 1e-2) <= 1


@pytest.mark.parametrize(("times", "looked_at"), [(1.0, True), (2.4, True), (2.6, False)])
def test_a_rival_is_skipped_beyond_two_and_a_half_times_the_nearest(times, looked_at):
    """Gradients of length 1: the predicted distances are the gaps."""
    like, image = torch.zeros(1, dtype=torch.float64), torch.tensor([0])
    rivals = Rivals(torch.tensor([[3, 1]]), like, prune=True)
    rivals.norms[:] = 1.0
    rivals.begin(image, torch.tensor([[1.0, times]], dtype=torch.float64), step=2)
    assert rivals.wanted.tolist() == [[True, False]]
    one = torch.ones(1, dtype=torch.float64)
    rivals.measured(image, torch.tensor([0]), torch.tensor([0]), one, one)
    assert rivals.reconsider(image).tolist() == ([0] if looked_at else [])
    assert rivals.wanted.tolist() == [[False, looked_at]]
