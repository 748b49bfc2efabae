"""What DeepFool reports: no crossing, no step, clipped images; and the input it refuses."""

import math
from types import SimpleNamespace

import networks_for_tests as nets
import pytest
import torch
from networks_for_tests import SHAPE
from test_deepfool import assert_same, images, multiclass

from geomadv.errors import InputError
from geomadv.linalg import Subspace
from geomadv.perturbations import deepfool


def test_source_is_the_prediction_not_the_label():
    net, x = multiclass(4), images(20)
    wrong = (net.predict(x) + 1) % 4
    r = deepfool(net, SimpleNamespace(images=x, labels=wrong))
    assert torch.equal(r.source, net.predict(x))
    assert_same(r, deepfool(net, x))
    assert torch.all(r.norm > 0)


def test_image_already_predicted_as_the_target_gets_zero():
    net, x = nets.perceptron(), images(20)
    r = deepfool(net, x, target=net.predict(x))
    assert r.converged.all()
    assert torch.all(r.delta == 0)
    assert torch.all(r.iterations == 0)
    assert torch.equal(r.adversarial, x)
    assert torch.equal(r.label, r.source)


@pytest.mark.parametrize("target", [None, 2])
def test_vanishing_gradient_is_not_converged_and_not_nan(target):
    x = images(4)
    r = deepfool(nets.dead(), x, target=target)
    assert not r.converged.any()
    assert torch.all(r.delta == 0)
    assert torch.all(r.norm == 0)
    assert torch.equal(r.adversarial, x)
    assert torch.equal(r.label, r.source)


def test_one_dead_image_does_not_touch_its_batch():
    x = images(5) / 4
    x[2] = 0
    r = deepfool(nets.sphere(1.0), x)
    assert r.converged.tolist() == [True, True, False, True, True]
    assert torch.all(r.delta[2] == 0)
    assert r.delta.isfinite().all()
    keep = torch.tensor([0, 1, 3, 4])
    torch.testing.assert_close(r.delta[keep], deepfool(nets.sphere(1.0), x[keep]).delta)


def test_running_out_of_steps_is_flagged():
    # From far outside a sphere each step halves the distance: log2(100) steps and more.
    x = images(5)
    x *= 100 / x.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
    net = nets.sphere(1.0, inside_target=True)
    few, many = deepfool(net, x, max_iter=3, overshoot=0), deepfool(net, x, overshoot=0)
    assert not few.converged.any()
    assert torch.all(few.iterations == 3)
    assert torch.equal(few.label, few.source)
    assert torch.all(few.norm > 0)
    assert torch.equal(net.predict(few.adversarial), few.label)
    assert many.converged.all()
    assert torch.all((many.iterations > 3) & (many.iterations < 50))
    none = deepfool(net, x, max_iter=0)
    assert torch.all(none.delta == 0)
    assert not none.converged.any()


@pytest.mark.parametrize("target", [None, 1])
def test_adversarial_is_what_was_tested_and_clip_keeps_the_bounds(target):
    net = nets.perceptron(bounds=(0.0, 1.0), dtype=torch.float32)
    x = torch.rand(40, *SHAPE, generator=torch.Generator().manual_seed(0)).round(decimals=1)
    free = deepfool(net, x, target=target)
    clipped = deepfool(net, x, target=target, clip=True)
    for r in (free, clipped):
        scores = net.scores(r.adversarial)
        assert torch.equal(scores.argmax(1), r.label)
        torch.testing.assert_close(r.adversarial, x + r.delta)
        torch.testing.assert_close(r.norm, r.delta.flatten(1).norm(dim=1))
    assert clipped.adversarial.min() >= 0
    assert clipped.adversarial.max() <= 1
    outside = (free.adversarial < 0) | (free.adversarial > 1)
    assert outside.any()
    unaffected = ~outside.flatten(1).any(1) & (free.iterations == 1)
    torch.testing.assert_close(clipped.delta[unaffected], free.delta[unaffected])


class _Walled(torch.nn.Module):
    """f = 1 - (sum of x - 3)^2, whose steps fall short of 2 from below; no number beyond a wall."""

    def __init__(self, wall: float, lost: float) -> None:
        super().__init__()
        self.wall, self.lost = wall, lost

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        s = x.flatten(1).sum(1)
        return torch.where(s > self.wall, self.lost, 1 - (s - 3) ** 2)


@pytest.mark.parametrize("lost", [math.inf, math.nan])
@pytest.mark.parametrize(("wall", "steps"), [(0.5, 0), (1.6, 1), (1.95, 2)])
def test_a_step_to_where_there_are_no_scores_is_not_taken(wall, steps, lost):
    pair, x = nets.Pair(_Walled(wall, lost)), torch.zeros(2, *SHAPE).double()
    net = nets.classifier(pair, bounds=(0.0, 0.05))
    r = deepfool(net, x, overshoot=0)
    s = 0.0
    for _ in range(steps):  # Newton's
        s -= ((s - 3) ** 2 - 1) / (2 * (s - 3))
    assert not r.converged.any()
    torch.testing.assert_close(r.adversarial.flatten(1).sum(1), torch.full((2,), s).double())
    assert net.scores(r.adversarial).isfinite().all()
    assert torch.all(r.iterations == steps)


def test_inputs_are_not_changed_and_results_carry_no_graph():
    net, x = nets.perceptron(), images(8)
    original, targets = x.clone(), torch.arange(8) % 5
    deepfool(net, x, target=targets)
    assert torch.equal(x, original)
    assert torch.equal(targets, torch.arange(8) % 5)
    assert not x.requires_grad
    tracked = deepfool(net, x.clone().requires_grad_())
    assert not tracked.delta.requires_grad
    assert not tracked.adversarial.requires_grad
    assert_same(deepfool(net, x.numpy()), deepfool(net, x))
    assert torch.equal(x, original)
    with torch.no_grad():
        assert_same(deepfool(net, x), tracked)


# Bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": 5}, "class 5 does not exist.*0 to 4"),
        ({"target": -1}, "class -1 does not exist"),
        ({"target": torch.tensor([4, 0, -2])}, "class -2 does not exist"),
        ({"target": torch.tensor([0, 1])}, "2.*3 images"),
        ({"target": torch.zeros(3, 1, dtype=torch.int64)}, "one per image"),
        ({"target": 1.0}, "integer"),
        ({"target": torch.tensor([True, False, True])}, "integer"),
        ({"candidates": 1}, "candidates=1"),
        ({"p": 1}, "p=1"),
        ({"subspace": Subspace(torch.eye(6)), "p": math.inf}, "p=inf with a subspace"),
        ({"overshoot": -0.1}, "overshoot=-0.1"),
        ({"overshoot": float("nan")}, "overshoot=nan"),
        ({"overshoot": float("inf")}, "overshoot=inf"),
        ({"max_iter": -1}, "max_iter=-1"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"subspace": Subspace(torch.eye(7))}, "7 dimensions.*6"),
        ({"subspace": Subspace(torch.eye(6)), "clip": True}, "clip=True with a subspace"),
    ],
)
def test_bad_settings_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        deepfool(nets.perceptron(), images(3), **arguments)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.zeros(2, 1, 3, 3), "shape"),
        (torch.zeros(*SHAPE), "batch dimension"),
        (torch.zeros(0, *SHAPE), "empty"),
        (torch.full((2, *SHAPE), torch.nan), "NaN"),
        (torch.full((2, *SHAPE), 1.5), r"span \[1.5, 1.5\], outside bounds \[0, 1\]"),
        (torch.zeros(2, *SHAPE, dtype=torch.uint8), "/ 255"),
    ],
)
def test_bad_images_are_refused(bad, message):
    with pytest.raises(InputError, match=message):
        deepfool(nets.perceptron(bounds=(0.0, 1.0)), bad)
