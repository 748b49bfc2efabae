"""Heads that are linear, whatever they are made of, and those that only look so on one image."""

import numpy as np
import pytest
import torch
from networks_for_tests import gaussian
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from geomadv import Classifier, InputError
from geomadv.experiments import CollisionSettings, softmax_directions
from geomadv.experiments.softmax.last_layer import last_layer

SHAPE = (3, 8, 8)
CLASSES, WIDTH = 5, 7


class Net(nn.Module):
    """Convolutional features (N, 7, 6, 6) or, pooled, (N, 7), and a head that is a function."""

    def __init__(self, head, pool=True):
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(nn.Conv2d(3, WIDTH, 3), nn.BatchNorm2d(WIDTH), nn.ReLU())
        self.pool = pool
        self.linear = nn.Linear(WIDTH, CLASSES)
        self.conv = nn.Conv2d(WIDTH, CLASSES, 1)
        self.wide = nn.Conv2d(WIDTH, CLASSES, 3, padding=1)
        self.normed = weight_norm(nn.Linear(WIDTH, CLASSES))
        self.register_buffer("mask", torch.arange(CLASSES) == 3)
        self.head = head

    def forward(self, x):
        g = self.body(x)
        return self.head(self, g.mean((2, 3)) if self.pool else g)


def network(head, pool=True, dtype=torch.float64):
    return Classifier(Net(head, pool), SHAPE, mean=0.4, std=0.3, name="headed", dtype=dtype)


def images(n=9, dtype=torch.float64):
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=dtype)


def weight(net):
    return net.linear.weight, net.linear.bias


POOLED = {
    "F.linear": lambda n, g: F.linear(g, *weight(n)),
    "matmul": lambda n, g: g @ n.linear.weight.T + n.linear.bias,
    "addmm": lambda n, g: torch.addmm(n.linear.bias, g, n.linear.weight.T),
    "einsum": lambda n, g: torch.einsum("nl,ml->nm", g, n.linear.weight),
    "weight norm": lambda n, g: n.normed(g),
    "scaled": lambda n, g: 3.5 * n.linear(g) / 0.7,
    "cosine": lambda n, g: 16 * F.linear(F.normalize(g), F.normalize(n.linear.weight)),
    "masked": lambda n, g: n.linear(g).masked_fill(n.mask, -1e4),
    "centred": lambda n, g: (lambda s: s - s.mean(1, keepdim=True))(n.linear(g)),
    "residual": lambda n, g: n.linear(g + F.linear(g, n.linear.weight.T @ n.normed.weight)),
    "conv of one pixel": lambda n, g: n.conv(g[:, :, None, None]).flatten(1),
    "in float32 inside": lambda n, g: n.linear(g),
}
SUMS = {
    "product and sum": lambda n, g: n.linear(g) + (g * n.linear.weight[1]).sum(1, keepdim=True),
    "sum and product": lambda n, g: (g[:, None] * n.linear.weight).sum(2) + n.linear(g),
    "two products": lambda n, g: n.linear(g) + n.normed(g),
    "product of a view": lambda n, g: g[:, :CLASSES] - n.conv(g[:, :, None, None]).flatten(1),
    "shares of two layers": lambda n, g: torch.stack([n.linear(g), n.normed(2 * g)]).mean(0),
    "minus the mean feature": lambda n, g: n.linear(g).sub_(g.mean(1, keepdim=True)),
    "halves": lambda n, g: F.linear(g[:, :3], n.linear.weight[:, :3]) + g[:, 3:].sum(1)[:, None],
}
SPATIAL = {
    "conv and mean": lambda n, g: n.conv(g).mean((2, 3)),
    "conv and pooling": lambda n, g: F.adaptive_avg_pool2d(n.conv(g), 1).flatten(1),
    "conv and two poolings": lambda n, g: F.avg_pool2d(F.avg_pool2d(n.conv(g), 2), 3).flatten(1),
    "tokens": lambda n, g: n.linear(g.flatten(2).transpose(1, 2)).mean(1),
    "sum of places": lambda n, g: n.conv(g).sum((2, 3)),
}


def check(net, x, width):
    head = last_layer(net, x, batch_size=4)
    assert head.weight.shape == (CLASSES, width)
    features, labels = head.features(x, batch_size=2)
    scores = net.scores(x)
    # Sums of some hundred products of order one.
    rounding = 1e3 * torch.finfo(net.dtype).eps * scores.abs().max().item()
    np.testing.assert_allclose(features @ head.weight.T + head.bias, scores, atol=rounding)
    assert labels.tolist() == scores.argmax(1).tolist()
    return head


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", POOLED)
def test_linear_heads(name, dtype):
    check(network(POOLED[name], dtype=dtype), images(dtype=dtype), WIDTH)


@pytest.mark.parametrize("name", SUMS)
def test_heads_of_more_than_one_term(name):
    net = network(SUMS[name])
    head = check(net, images(), WIDTH)
    # The Jacobian at another image than the one that it was taken at.
    features, _ = head(images()[5:6])
    raw = net.module.module
    exact = torch.autograd.functional.jacobian(lambda g: raw.head(raw, g)[0], features)
    np.testing.assert_allclose(head.weight, exact[:, 0].detach(), atol=1e-14)


def test_a_map_that_a_convolution_and_a_pooled_layer_read_is_the_features():
    both = network(lambda n, g: n.linear(g.mean((2, 3))) + n.conv(g).mean((2, 3)), pool=False)
    check(both, images(), WIDTH)
    deep = network(lambda n, g: n.linear(g.mean((2, 3))) + n.wide(2 * g)[:, :, 2, 2], pool=False)
    check(deep, images(), WIDTH * 36)


@pytest.mark.parametrize("name", SPATIAL)
def test_pooling_behind_the_head_is_a_mean_of_features(name):
    net = network(SPATIAL[name], pool=False)
    head = check(net, images(), WIDTH)
    raw = net.module.module
    layer = raw.linear if name == "tokens" else raw.conv
    places = 36 if name == "sum of places" else 1
    exact = places * layer.weight.detach().reshape(CLASSES, WIDTH)
    np.testing.assert_allclose(head.weight, exact, rtol=1e-13)
    np.testing.assert_allclose(head.bias, places * layer.bias.detach(), rtol=1e-13)


def test_places_that_do_not_count_alike_are_features_of_their_own():
    check(network(lambda n, g: n.wide(g).mean((2, 3)), pool=False), images(), WIDTH * 36)
    ramp = torch.linspace(0, 1, 36, dtype=torch.float64).reshape(6, 6)
    check(network(lambda n, g: (n.conv(g) * ramp).sum((2, 3)), pool=False), images(), WIDTH * 36)


@pytest.mark.parametrize("smooth", [False, True])
def test_network_in_network(smooth):
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 24, 5, padding=2), nn.ReLU(), nn.Conv2d(24, 12, 1), nn.ReLU())
    pools = (nn.MaxPool2d(3, stride=2, ceil_mode=True), nn.AvgPool2d(3, stride=2, ceil_mode=True))
    end = (nn.Conv2d(12, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net = Classifier(nn.Sequential(*layers, *pools, *end), (3, 32, 32), name="nin")
    net = net.smoothed(5.0) if smooth else net
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    head = last_layer(net, x)
    last = [m for m in net.module.modules() if isinstance(m, nn.Conv2d)][-1]
    # The Jacobian in float32: each entry is W / 64, exact, and their sum.
    np.testing.assert_allclose(head.weight, last.weight.detach()[:, :, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(head.bias, last.bias.detach(), rtol=1e-6)
    given = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(head(given)[0].sum(), given)
    assert gradient.norm() > 0


class Positive(nn.Module):
    """Linear -> ReLU, shifted so that the scores of the first images are positive."""

    def __init__(self):
        super().__init__()
        self.flat, self.last = nn.Flatten(), nn.Linear(192, CLASSES)
        with torch.no_grad():
            self.last.bias.fill_(0.4)

    def forward(self, x):
        return torch.relu(self.last(self.flat(x)))


def test_a_head_that_is_linear_on_some_images_is_refused():
    torch.manual_seed(0)
    net = Classifier(Positive(), SHAPE, name="relu", dtype=torch.float64)
    x = images(80)
    raw = net.module.module.last(x.flatten(1))
    positive = (raw > 0).all(1)
    assert positive.any()
    assert not positive.all()
    x = torch.cat([x[positive], x[~positive]])
    with pytest.raises(InputError) as caught:
        last_layer(net, x, batch_size=7)
    message = str(caught.value)
    assert f"on {int((~positive).sum())} of 80 images" in message
    assert "does not end in a linear layer" in message
    assert "layer=" in message
    with pytest.raises(InputError, match="80 images"):
        softmax_directions(net, x)


@pytest.mark.parametrize(
    "head",
    [
        lambda n, g: 5 * torch.tanh(n.linear(g) / 5),
        lambda n, g: n.linear(g) + (g**2).sum(1, keepdim=True),
        lambda n, g: n.linear(g) * g.mean(1, keepdim=True),
        lambda n, g: F.softplus(n.linear(g)),
        lambda n, g: F.linear(g, n.linear.weight) + n.linear(g).amax(1, keepdim=True),
        lambda n, g: n.linear(g) + n.linear(torch.sin(g)),
        lambda n, g: -torch.cdist(g, n.linear.weight),
        lambda n, g: n.linear(g) + F.linear(g.relu() ** 2, n.linear.weight),
        lambda n, g: n.linear(g) + (g * g.roll(1, 1)).sum(1, keepdim=True),
    ],
)
def test_other_heads_are_refused(head):
    with pytest.raises(InputError, match=r"does not end in a linear layer.* [1-9] of 9 images"):
        last_layer(network(head), images())
    # One image alone always agrees with an affine function: a few more are made up.
    with pytest.raises(InputError, match=r"does not end.* of 1 images and 7 random ones"):
        last_layer(network(head), images(1))


def test_images_together_in_one_row_are_refused():
    net = network(lambda n, g: (n.linear.weight @ g.T).T)
    with pytest.raises(InputError, match=r"\(7, 9\) for 9 images"):
        last_layer(net, images())


class Nested(nn.Module):
    """Two linear layers in a row, behind names, and a head of sums instead of a product."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(192, 20), nn.ReLU())
        self.tail = nn.ModuleDict({"down": nn.Linear(20, 6), "up": nn.Linear(6, CLASSES)})

    def forward(self, x):
        return self.tail["up"](self.tail["down"](self.body(x)))


class Sums(nn.Module):
    """W g without a call that multiplies matrices."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(gaussian(CLASSES, 20))

    def forward(self, g):
        return (g[:, None] * self.weight).sum(2)


@pytest.mark.parametrize("smooth", [False, True])
def test_a_named_layer(smooth):
    torch.manual_seed(0)
    net = Classifier(Nested(), SHAPE, name="nested", dtype=torch.float64)
    net = net.smoothed(4.0) if smooth else net
    x, raw = images(), net.module.module
    assert last_layer(net, x).weight.shape == (CLASSES, 6)
    head = last_layer(net, x, layer="tail.down")
    both = raw.tail["up"].weight @ raw.tail["down"].weight
    np.testing.assert_allclose(head.weight, both.detach(), atol=1e-14)
    features, scores = head(x)
    np.testing.assert_allclose(scores.detach(), net.scores(x).detach(), atol=1e-13)
    again = features.detach().numpy() @ head.weight.T + head.bias
    np.testing.assert_allclose(again, scores.detach(), atol=1e-13)


def test_a_named_layer_of_any_kind():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 20), nn.ReLU(), Sums())
    net = Classifier(module, SHAPE, name="sums", dtype=torch.float64)
    with pytest.raises(InputError, match="layer="):
        last_layer(net, images())
    head = last_layer(net, images(), layer="3")
    np.testing.assert_allclose(head.weight, gaussian(CLASSES, 20), atol=0)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("tail.sideways", "no such module.*tail.up"),
        ("", "no such module"),
        ("body.2", "W g \\+ b|does not"),
        ("tail", "called 0 times"),
        ("body.1", "does not end in a linear layer"),
    ],
)
def test_named_layers_that_do_not_fit(layer, message):
    torch.manual_seed(0)
    net = Classifier(Nested(), SHAPE, name="nested", dtype=torch.float64)
    with pytest.raises(InputError, match=message):
        last_layer(net, images(), layer=layer)


def test_a_layer_for_the_whole_experiment():
    torch.manual_seed(0)
    net = Classifier(Nested(), SHAPE, name="nested", dtype=torch.float64)
    x = images(40)
    assert len(net.predict(x).unique()) > 1
    few = CollisionSettings(pairs=3, steps=2)
    ds = softmax_directions(net, x, few, layer="tail.down")
    assert ds.sizes["feature"] == 20
