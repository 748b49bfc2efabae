"""FGSM and saliency maps: closed forms on linear networks, autograd references, bad input."""

import networks_for_tests as nets
import pytest
import torch
from networks_for_tests import SHAPE, gaussian
from torch.nn import functional as F

from geomadv import InputError, fgsm, saliency

D = 6


def images(n, seed=0, dtype=torch.float64):
    return gaussian(n, *SHAPE, seed=seed, dtype=dtype)


def test_linear_pair_moves_along_the_sign_of_the_weight():
    w = gaussian(D, seed=1)
    net, x = nets.linear_pair(w, 0.2), images(20)
    r = fgsm(net, x, 0.1)
    # Away from the predicted class: class 0 is where w.x + b < 0.
    away = torch.where(r.source == 0, 1.0, -1.0).double()
    expected = 0.1 * away[:, None] * w.sign()
    torch.testing.assert_close(r.delta.flatten(1), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(r.norm, torch.full((20,), 0.1 * D**0.5).double())
    assert torch.equal(r.adversarial, x + r.delta)
    assert torch.equal(r.source, net.predict(x))
    assert torch.equal(r.label, net.predict(r.adversarial))
    assert len(r) == 20


def test_same_step_as_the_cross_entropy_gradient():
    net, x = nets.perceptron(), images(30)
    for labels in (None, 3, torch.arange(30) % 5):
        y = net.predict(x) if labels is None else torch.as_tensor(labels).expand(30)
        z = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(net.scores(z), y, reduction="sum"), z)
        torch.testing.assert_close(fgsm(net, x, 0.5, labels).delta, 0.5 * gradient.sign())


def test_a_sure_network_still_has_a_direction():
    """Where softmax rounds to 1 in float32 the plain loss gradient is zero or wrong."""
    w = gaussian(D, seed=1)
    # Images a unit along ±w, scaled so that scores differ by 200 and more: exp(-200) is zero.
    side = torch.tensor([1.0, -1.0]).double()[:, None]
    x = (side * w / w.norm()).reshape(2, *SHAPE)
    net = nets.linear_pair(1000 * w / w.norm(), 0.0, dtype=torch.float32)
    r = fgsm(net, x.float(), 0.1)
    expected = -0.1 * side * w.sign()
    torch.testing.assert_close(r.delta.flatten(1), expected.float())


def test_clip_keeps_the_bounds_and_says_what_was_added():
    net = nets.perceptron(bounds=(0.0, 1.0))
    x = torch.rand(20, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    free, clipped = fgsm(net, x, 0.3), fgsm(net, x, 0.3, clip=True)
    assert free.adversarial.min() < 0
    assert clipped.adversarial.min() >= 0
    assert clipped.adversarial.max() <= 1
    torch.testing.assert_close(clipped.adversarial, free.adversarial.clamp(0, 1))
    torch.testing.assert_close(clipped.delta, clipped.adversarial - x)
    torch.testing.assert_close(clipped.norm, clipped.delta.flatten(1).norm(dim=1))


def test_saliency_of_a_linear_network_is_the_weight_of_the_class():
    weight, bias = gaussian(4, D, seed=2), gaussian(4, seed=3)
    net, x = nets.linear(weight, bias), images(15)
    torch.testing.assert_close(saliency(net, x).flatten(1), weight[net.predict(x)])
    torch.testing.assert_close(saliency(net, x, 2).flatten(1), weight[2].expand(15, D))
    chosen = torch.arange(15) % 4
    torch.testing.assert_close(saliency(net, x, chosen).flatten(1), weight[chosen])


def test_saliency_is_the_slope_of_the_score():
    net, x = nets.perceptron(), images(8)
    step, v = 1e-5, gaussian(8, *SHAPE, seed=5)
    own = net.predict(x)[:, None]
    rise = net.scores(x + step * v).gather(1, own) - net.scores(x - step * v).gather(1, own)
    slope = (saliency(net, x) * v).flatten(1).sum(1)
    # Central difference: truncation O(step^2) = 1e-10 and rounding eps / step = 2e-11, times O(10).
    torch.testing.assert_close(slope, rise.squeeze(1) / (2 * step), rtol=0, atol=1e-7)


def test_batch_size_changes_rounding_only_and_inputs_stay():
    net, x = nets.perceptron(), images(13)
    original = x.clone()
    for size in (1, 5):
        torch.testing.assert_close(
            fgsm(net, x, 0.1, batch_size=size).delta, fgsm(net, x, 0.1).delta
        )
        torch.testing.assert_close(saliency(net, x, batch_size=size), saliency(net, x))
    assert torch.equal(x, original)
    assert not fgsm(net, x, 0.1).delta.requires_grad
    assert not saliency(net, x).requires_grad
    with torch.no_grad():
        assert torch.equal(fgsm(net, x, 0.1).delta, fgsm(net, x, 0.1).delta)
        saliency(net, x)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_epsilon(epsilon):
    with pytest.raises(InputError, match="epsilon"):
        fgsm(nets.perceptron(), images(2), epsilon)


@pytest.mark.parametrize(
    ("labels", "message"),
    [(5, "labels: class 5"), (torch.tensor([0, 1]), "one per image"), (1.0, "integer")],
)
def test_bad_labels(labels, message):
    for call in (lambda *a: fgsm(a[0], a[1], 0.1, a[2]), saliency):
        with pytest.raises(InputError, match=message):
            call(nets.perceptron(), images(3), labels)
