"""The parts of Hessian-vector products: stem, trace, double backward, and when they are used."""

from typing import Any

import networks_for_tests as nets
import pytest
import torch
from test_curvature_operators import D, dense, points_at, smooth, worst
from torch import Tensor, nn

from geomadv.classifier import Classifier
from geomadv.curvature import mean_hessian
from geomadv.curvature.products import Batch, DoubleBackward, NoStem, batches_of
from geomadv.curvature.stem import TracedStem
from geomadv.curvature.traced import Traced
from geomadv.errors import InputError
from geomadv.networks.architectures import cifar_resnet, digits_cnn, lenet_softplus

SHAPE = (3, 8, 8)


class Residual(nn.Module):
    """x + conv(softplus(conv(x))): the image is read twice, so nothing but it is common."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)
        self.last = nn.Linear(192, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = x + self.two(nn.functional.softplus(self.one(x)))
        result: Tensor = self.last(torch.sigmoid(h).flatten(1))
        return result


class Attention(nn.Module):
    """One attention head over the rows of the image."""

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(1, 2)
        mixed = nn.functional.scaled_dot_product_attention(rows, rows, rows.tanh())
        return mixed.mean(1)[:, :3]


def modules() -> dict[str, nn.Module]:
    """Smooth networks of many kinds on images of shape (3, 8, 8), three classes or more."""
    torch.manual_seed(0)
    flat = nn.Flatten()
    return {
        "mlp": nn.Sequential(flat, nn.Linear(192, 8), nn.SiLU(), nn.Linear(8, 3)),
        "elementwise first": nn.Sequential(nn.Tanh(), flat, nn.Linear(192, 3), nn.ELU()),
        "conv, flatten": nn.Sequential(nn.Conv2d(3, 2, 3), nn.GELU(), flat, nn.Linear(72, 3)),
        "in place": nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2), nn.SiLU(inplace=True), flat, nn.Linear(36, 3)
        ),
        "batch norm, tanh gelu": nn.Sequential(
            nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.GELU("tanh"), flat, nn.Linear(144, 3)
        ),
        "group norm": nn.Sequential(
            nn.Conv2d(3, 4, 3, bias=False), nn.GroupNorm(2, 4), nn.Mish(), flat, nn.Linear(144, 3)
        ),
        "residual": Residual(),
        "attention": Attention(),
    }


def batch_at(net: Classifier, n: int = 3, weight: float = 1.0) -> Batch:
    x = nets.gaussian(n, *net.input_shape, seed=2, dtype=net.dtype)
    weights = torch.zeros(n, net.num_classes, dtype=net.dtype)
    weights[:, 0], weights[:, 2] = -weight, weight
    return Batch(x, weights, slice(0, n))


def forward_over_reverse(net: Classifier, batch: Batch, v: Tensor) -> Tensor:
    """Products (n, C, H, W) by torch.func, independent of the package's own paths."""

    def gradient(x: Tensor) -> Tensor:
        return torch.func.grad(lambda y: (net.module(y) * batch.weights).sum())(x)

    product: Tensor = torch.func.jvp(gradient, (batch.x,), (v.expand_as(batch.x),))[1]
    return product


@pytest.mark.parametrize("name", modules())
def test_traced_products_equal_forward_mode_and_double_backward(name: str) -> None:
    net = Classifier(modules()[name], SHAPE, mean=0.4, std=[0.2, 0.3, 0.4], dtype=torch.float64)
    batch = batch_at(net)
    v = nets.gaussian(1, *SHAPE, seed=5)
    double = DoubleBackward()(NoStem(net), batch)
    plain = double.apply(v)
    assert double.nbytes > 0
    if name not in ("attention", "group norm"):  # fused kernels without forward mode
        assert worst(plain, forward_over_reverse(net, batch, v)) < 1e-10
    stem = TracedStem(net, batch.x)
    traced = Traced(stem, batch)
    linearised = traced(stem, batch)
    assert worst(stem.pull(linearised.apply(stem.push(v))), plain) < 1e-10
    # A vector for each point, at other points.
    other = Batch(1 - batch.x, batch.weights, batch.index)
    rows = nets.gaussian(3, *SHAPE, seed=6)
    found = stem.pull(traced(stem, other).apply(stem.push(rows)))
    assert worst(found, DoubleBackward()(NoStem(net), other).apply(rows)) < 1e-10


@pytest.mark.parametrize("name", modules())
def test_stem_is_affine_and_continues_to_the_scores(name: str) -> None:
    net = Classifier(modules()[name], SHAPE, mean=0.4, std=0.2, dtype=torch.float64)
    x = nets.gaussian(3, *SHAPE, seed=1)
    stem = TracedStem(net, x)
    assert worst(stem.rest(stem.enter(x)), net.scores(x)) < 1e-12
    v = nets.gaussian(2, *SHAPE, seed=7)
    origin = torch.zeros_like(v)
    assert worst(stem.push(v), stem.enter(v) - stem.enter(origin)) < 1e-12
    t = nets.gaussian(*stem.enter(v).shape, seed=8)
    # The adjoint: <A v, t> = <v, A^T t>.
    assert float((stem.push(v) * t).sum()) == pytest.approx(float((v * stem.pull(t)).sum()))
    if name in ("mlp", "conv, flatten", "in place"):
        assert stem.push(v)[0].numel() < net.dimension


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (digits_cnn, (1, 8, 8)),
        (lenet_softplus, (1, 28, 28)),
        (lambda: cifar_resnet(1), (3, 32, 32)),
    ],
)
def test_networks_of_the_zoo_are_traced(module: Any, shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    net = Classifier(module(), shape, dtype=torch.float64)
    x = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    hvp: Any = "smoothed" if net.kinks else "exact"
    operator = mean_hessian(net, points_at(x), hvp=hvp, batch_size=2)
    assert operator.note == ""
    used = net.smoothed(10) if net.kinks else net
    v = nets.gaussian(net.dimension, 1)
    (batch,) = batches_of(used, points_at(x), 3)
    rows = DoubleBackward()(NoStem(used), batch).apply(v.T.reshape(1, *shape))
    assert worst(operator.products_sum(v), rows.flatten(1).sum(0)[:, None]) < 1e-9


def test_batches_are_of_one_size_and_filled_with_points_that_do_not_count() -> None:
    net, points = smooth()
    batches = batches_of(net, points, 4)
    assert [b.size for b in batches] == [4, 3]
    assert all(len(b.x) == 4 for b in batches)
    assert not batches[-1].weights[3].any()
    assert torch.equal(torch.cat([b.x[: b.size] for b in batches]), points.points)
    scaled = batches_of(net, points, 4, 2 * torch.ones(7))
    assert torch.equal(scaled[0].weights, 2 * batches[0].weights)


class Branching(nn.Module):
    """Smooth, but its calls depend on the values of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(D, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.linear(x.flatten(1)))
        return h * h if float(x.detach().sum()) < 1e9 else h


def test_a_network_that_cannot_be_traced_is_differentiated_twice_and_noted() -> None:
    torch.manual_seed(0)
    net = Classifier(Branching(), nets.SHAPE, dtype=torch.float64)
    points = points_at(nets.gaussian(5, *nets.SHAPE))
    operator = mean_hessian(net, points, hvp="exact", batch_size=2)
    assert "double backward" in operator.note
    assert worst(operator.dense(), dense(net, points)[0].mean(0)) < 1e-12


class Coordinates(nn.Module):
    """Adds maps that it keeps: for the last size of a batch, or every size that it met; or none."""

    def __init__(self, every: bool | None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.every, self.body = every, modules()["conv, flatten"]
        self.kept: dict[int, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        ramp = torch.linspace(-1, 1, SHAPE[2], dtype=x.dtype)
        if self.every is None:
            return self.body(x + ramp)  # type: ignore[no-any-return]
        if len(x) not in self.kept:
            maps = {len(x): ramp.expand(len(x), *SHAPE).contiguous()}
            self.kept = {**self.kept, **maps} if self.every else maps
        result: Tensor = self.body(x + self.kept[len(x)])
        return result


@pytest.mark.parametrize("every", [True, False])
@pytest.mark.parametrize("hvp", ["exact", "finite-difference"])
def test_maps_that_a_network_keeps_are_no_part_of_its_stem(hvp: Any, every: bool) -> None:
    net = Classifier(Coordinates(every), SHAPE, dtype=torch.float64)
    x = nets.gaussian(5, *SHAPE, seed=3)
    plain = Classifier(Coordinates(None), SHAPE, dtype=torch.float64)
    before, expected = net.scores(x), dense(plain, points_at(x))[0].mean(0)
    step = 1e-4 if hvp == "finite-difference" else None
    for batch_size in (None, 2):
        operator = mean_hessian(net, points_at(x), hvp=hvp, step=step, batch_size=batch_size)
        # Vectors as many as points, fewer and more; differences of 1e-4 leave some 1e-8.
        vectors = torch.eye(net.dimension, dtype=torch.float64)
        for some in (vectors[:, :5], vectors[:, 3:4], vectors[:, :30]):
            assert worst(operator @ some, expected @ some) < 1e-6
    # What a trace left in it would end here.
    torch.testing.assert_close(net.scores(x), before, rtol=0, atol=0)


def test_operators_over_other_points_share_the_traces_of_their_network() -> None:
    net, points = smooth()
    first = mean_hessian(net, points[:4], hvp="exact")
    again, fewer = (mean_hessian(net, points[i], hvp="exact") for i in (slice(3, 7), slice(3)))
    stems = [operator._products.stem for operator in (first, again, fewer)]
    assert stems[0] is stems[1]
    assert stems[0] is not stems[2]
    assert worst(again.dense(), dense(net, points[3:7])[0].mean(0)) < 1e-12
    assert not net.to(dtype=torch.float64).traces


class _OnceDifferentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.tanh(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * (1 - torch.tanh(ctx.saved_tensors[0]) ** 2)


class Once(nn.Module):
    """tanh with a first derivative only."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(D, 3)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = _OnceDifferentiable.apply(self.linear(x.flatten(1)))
        return result


def test_without_second_derivatives_auto_takes_differences_and_exact_is_refused() -> None:
    torch.manual_seed(0)
    net = Classifier(Once(), nets.SHAPE, dtype=torch.float64)
    points = points_at(nets.gaussian(5, *nets.SHAPE))
    operator = mean_hessian(net, points, step=1e-3)
    assert (operator.kind, operator.step) == ("finite-difference", 1e-3)
    assert "no second derivatives" in operator.note
    with pytest.raises(InputError, match="no second derivatives"):
        mean_hessian(net, points, hvp="exact")
    # Truncation, h^2 / 6 times the fourth derivative, and rounding, 1e-16 / h, are below 1e-5.
    tanh = nn.Sequential(nn.Flatten(), net.module.module.linear, nn.Tanh())
    smooth_net = Classifier(tanh, nets.SHAPE, dtype=torch.float64)
    assert worst(operator.dense(), dense(smooth_net, points)[0].mean(0)) < 1e-5


def test_a_linear_network_has_no_curvature() -> None:
    net = nets.linear_pair(torch.ones(D, dtype=torch.float64), -1.0)
    points = points_at(nets.gaussian(3, *nets.SHAPE))
    smoothed = mean_hessian(net, points, hvp="smoothed")
    assert not smoothed.dense().any()
    # Differences of equal gradients: rounding eps |g| / step at most.
    assert abs(mean_hessian(net, points, step=1.0).dense()).max() < 1e-14
