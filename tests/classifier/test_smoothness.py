"""Kinks are found and smoothed in modules and in functional calls alike."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from networks_with_activations import SHAPE, Activation, Net
from torch import Tensor, nn

from geomadv.classifier import Classifier
from geomadv.classifier.smooth_forms import SmoothActivations
from geomadv.classifier.smoothness import kinks
from geomadv.errors import InputError


def classifier(activation: Activation) -> Classifier:
    return Classifier(Net(activation).double(), SHAPE)


def mutating(x: Tensor) -> Tensor:
    x.relu_()
    return x


KINKED: dict[str, tuple[Activation, str]] = {
    "nn.ReLU": (nn.ReLU(), "relu"),
    "nn.ReLU in place": (nn.ReLU(inplace=True), "relu"),
    "F.relu": (F.relu, "relu"),
    "torch.relu": (torch.relu, "relu"),
    "tensor.relu": (lambda x: x.relu(), "relu"),
    "tensor.relu_": (mutating, "relu"),
    "clamp(min=0)": (lambda x: x.clamp(min=0), "clamp"),
    "torch.clamp": (lambda x: torch.clamp(x, -0.2, 0.2), "clamp"),
    "clamp_min": (lambda x: x.clamp_min(0), "clamp_min"),
    "clamp_max_": (lambda x: x.clamp_max_(0), "clamp_max"),
    "clamp_": (lambda x: x.clamp_(min=0), "clamp"),
    "relu6": (lambda x: F.relu6(30 * x), "relu6"),
    "nn.ReLU6": (nn.ReLU6(), "hardtanh"),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.2), "leaky_relu"),
    "leaky_relu_": (lambda x: F.leaky_relu_(x, 0.2), "leaky_relu"),
    "nn.PReLU": (nn.PReLU(4), "prelu"),
    "nn.PReLU of one slope": (nn.PReLU(), "prelu"),
    "hardtanh": (lambda x: F.hardtanh(x, -0.3, 0.3), "hardtanh"),
    "keyword input": (lambda x: F.relu(input=x), "relu"),
    "nn.MaxPool2d": (nn.MaxPool2d(2), "max_pool2d"),
    "F.max_pool2d": (lambda x: F.max_pool2d(x, 3, 1, 1), "max_pool2d"),
    "max_pool1d": (lambda x: F.max_pool1d(x.flatten(2), 4), "max_pool1d"),
    "adaptive max-pooling": (lambda x: F.adaptive_max_pool2d(x, 2), "adaptive_max_pool2d"),
    "hardsigmoid": (lambda x: F.hardsigmoid(30 * x), "hardsigmoid"),
    "softshrink": (nn.Softshrink(0.1), "softshrink"),
    "threshold": (nn.Threshold(0.1, 0.1), "threshold"),
    "rrelu": (nn.RReLU(), "rrelu"),
    "abs()": (abs, "abs"),
    "abs_": (lambda x: x.abs_(), "abs"),
    "absolute": (torch.absolute, "absolute"),
    "maximum": (lambda x: x.maximum(-x), "maximum"),
    "fmin": (lambda x: torch.fmin(x, x.flip(1)), "fmin"),
    "max": (lambda x: x.max(dim=1).values, "max"),
    "max of two": (lambda x: torch.max(x, -x), "max"),
    "min": (lambda x: torch.min(x, 1)[0], "min"),
    "amax": (lambda x: x.amax((2, 3)), "amax"),
}
SMOOTH: dict[str, Activation] = {
    "GELU": nn.GELU(),
    "softplus": nn.Softplus(),
    "softplus(beta=50)": nn.Softplus(beta=50),
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "square": torch.square,
}
UNSMOOTHABLE: dict[str, tuple[Activation, str]] = {
    "uneven adaptive max-pooling": (lambda x: F.adaptive_max_pool2d(x, 3), "adaptive_max_pool2d"),
    "pooling with indices": (
        lambda x: F.max_pool2d(x, 2, return_indices=True)[0],
        "max_pool2d_with_indices",
    ),
    "hardshrink": (nn.Hardshrink(0.1), "hardshrink"),
    "threshold with a jump": (nn.Threshold(0.1, 0.0), "threshold"),
    "sort": (lambda x: x.sort(dim=1).values, "sort"),
    "topk": (lambda x: x.topk(2, dim=1).values, "topk"),
    "median": (lambda x: x.median(dim=1).values, "median"),
}
# Beside KINKED: curved between the kinks.
CURVED: dict[str, tuple[Activation, str]] = {
    "SELU": (nn.SELU(), "selu"),
    "ELU(2)": (nn.ELU(2.0), "elu"),
    "hardswish": (lambda x: F.hardswish(20 * x), "hardswish"),
}


@pytest.mark.parametrize("case", KINKED)
def test_kinked_networks_are_piecewise_linear_and_named(case: str) -> None:
    activation, name = KINKED[case]
    net = classifier(activation)
    assert net.is_piecewise_linear
    assert net.kinks == (name,)


@pytest.mark.parametrize("case", SMOOTH)
def test_smooth_networks_are_not_piecewise_linear(case: str) -> None:
    net = classifier(SMOOTH[case])
    assert not net.is_piecewise_linear
    assert net.kinks == ()


def test_linear_networks_are_piecewise_linear_without_kinks() -> None:
    net = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(72, 3)), SHAPE)
    assert net.is_piecewise_linear
    assert net.kinks == ()


def test_one_smooth_layer_makes_the_whole_network_curved() -> None:
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(72, 20), nn.ReLU(), nn.Linear(20, 20), nn.GELU()]
    net = Classifier(nn.Sequential(*layers, nn.Linear(20, 3)), SHAPE)
    assert not net.is_piecewise_linear
    assert net.kinks == ("relu",)


def test_the_probe_needs_no_gradient_mode_of_the_caller() -> None:
    for context in (torch.no_grad, torch.inference_mode):
        nets = classifier(F.relu).to(dtype=torch.float32), classifier(lambda x: F.gelu(x.relu()))
        with context():
            assert [net.is_piecewise_linear for net in nets] == [True, False]


def test_networks_that_cast_to_float32_inside_are_lifted_or_measured_there() -> None:
    class Single(nn.Module):
        def __init__(self, activation: Activation) -> None:
            super().__init__()
            self.activation = activation

        def forward(self, x: Tensor) -> Tensor:
            x = self.activation(x.float() - 0.5).flatten(1)
            return torch.stack([x.sum(1), x[:, 0] * 2], 1)

    assert Classifier(Single(F.relu), SHAPE).is_piecewise_linear
    assert not Classifier(Single(F.gelu), SHAPE).is_piecewise_linear


class Constant(nn.Module):
    """A formula with weights that stay in float32, so that it does not run in float64."""

    def __init__(self, formula: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.formula = formula
        self.held = [torch.randn(72, 3, generator=torch.Generator().manual_seed(0))]

    def forward(self, x: Tensor) -> Tensor:
        return self.formula(x, self.held[0])


class Inside(nn.Module):
    """Scripted: its cast to float32 stays, so that in float64 its gradient is rounding."""

    def __init__(self, smooth: bool) -> None:
        super().__init__()
        self.smooth = smooth
        self.weight = nn.Parameter(torch.randn(72, 3, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Tensor:
        z = torch.relu(x.float() - 0.5).flatten(1) @ self.weight.float()
        if self.smooth:
            z = torch.tanh(z / 8)
        return z.to(x.dtype)


ONLY_FLOAT32: dict[str, tuple[Callable[[], nn.Module], bool]] = {
    name: (partial(Constant, formula), linear)
    for name, (formula, linear) in {
        "ReLU": (lambda x, w: F.relu(x.flatten(1) - 0.5) @ w, True),
        "max-pooling": (lambda x, w: F.max_pool2d(x, 2).flatten(1) @ w[:18], True),
        "linear": (lambda x, w: x.flatten(1) @ w, True),
        "ReLU, sigmoid": (lambda x, w: F.relu(x.flatten(1) - 0.5) @ w.sigmoid().sigmoid(), True),
        "ReLU and sigmoid": (lambda x, w: F.relu(x.flatten(1) @ w).sigmoid(), False),
        "gate": (lambda x, w: F.relu(x.flatten(1) @ w) * x.mean((1, 2, 3))[:, None], False),
        "softmax of maxima": (lambda x, w: x.flatten(2).amax(1).softmax(1) @ w[:36], False),
        "ReLU and a hundredth of a tanh": (
            lambda x, w: F.relu(x.flatten(1) - 0.5) @ w + 0.01 * torch.tanh(x.flatten(1) @ w),
            False,
        ),
    }.items()
} | {
    "scripted": (lambda: torch.jit.script(Inside(False)), True),
    "scripted and curved": (lambda: torch.jit.script(Inside(True)), False),
}


@pytest.mark.parametrize("case", ONLY_FLOAT32)
def test_networks_that_do_not_run_in_float64_are_measured_in_float32(case: str) -> None:
    build, linear = ONLY_FLOAT32[case]
    net = Classifier(build(), SHAPE)
    assert net.is_piecewise_linear is linear


# Smooth versions


@pytest.mark.parametrize("beta", [1.0, 10.0, 50.0])
@pytest.mark.parametrize(
    ("original", "bound"),
    [
        (F.relu, 1.0),
        (lambda x: F.relu(x, inplace=True), 1.0),
        (torch.relu, 1.0),
        (lambda x: x.clone().relu_(), 1.0),
        (lambda x: F.relu(input=x), 1.0),
        (F.relu6, 1.0),
        (lambda x: F.leaky_relu(x, 0.2), 0.8),
        (lambda x: F.leaky_relu(x, negative_slope=-0.5), 1.5),
        (lambda x: F.prelu(x, torch.tensor(0.25, dtype=x.dtype)[None]), 0.75),
        (lambda x: F.hardtanh(x, -2.0, 1.0), 1.0),
        (lambda x: x.clamp(min=-0.5), 1.0),
        (lambda x: x.clamp(max=0.5), 1.0),
        (lambda x: torch.clamp(x, -0.5, 0.5), 1.0),
        (lambda x: x.clamp_max(0.5), 1.0),
        (lambda x: torch.clamp_min(x, 0.5), 1.0),
        (F.rrelu, 1 - (1 / 8 + 1 / 3) / 2),
        (lambda x: F.threshold(x, 0.5, 0.5), 1.0),
        (lambda x: F.softshrink(x, 0.5), 1.0),
        (F.hardsigmoid, 1 / 6),
        (abs, 2.0),
        (lambda x: x.maximum(torch.zeros_like(x)), 1.0),
        (lambda x: torch.min(x, -x), 1.0),
        (lambda x: F.elu(x, 3.0), 2.0),
        (F.selu, 1.0507 * 0.6733),
    ],
)
def test_smooth_activations_stay_within_log2_over_beta(
    original: Activation, bound: float, beta: float
) -> None:
    # 0 < softplus - relu <= log(2)/beta; a smooth form with slope jump a at one kink is off by
    # |a| log(2)/beta at most, and one with two opposite kinks by no more than the larger of both.
    x = torch.linspace(-8, 8, 1601, dtype=torch.float64).reshape(1, 1, 1, -1)
    with SmoothActivations(beta):
        smooth = original(x.clone())
    error = (smooth - original(x.clone())).abs().amax().item()
    assert error <= bound * math.log(2) / beta * (1 + 1e-12)
    # At the kink itself, one of the 1601 points, the other kink is far where beta is large.
    if beta >= 10:
        assert error == pytest.approx(bound * math.log(2) / beta, rel=1e-2)


@pytest.mark.parametrize("beta", [2.0, 20.0])
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 2},
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": 3, "stride": 1, "padding": 1, "dilation": 2},
        {"kernel_size": (2, 3), "stride": (3, 1), "padding": (1, 0), "dilation": (1, 2)},
        {"kernel_size": 3, "stride": 2, "ceil_mode": True},
        {"kernel_size": 2, "stride": 2, "padding": 1, "ceil_mode": True},
        {"kernel_size": 2, "stride": 5, "ceil_mode": True},
        {"kernel_size": 3, "stride": 4, "padding": 1},
    ],
)
@pytest.mark.parametrize("size", [(7, 8), (8, 9)])
def test_smooth_pooling_stays_within_log_k_over_beta(
    options: dict[str, object], beta: float, size: tuple[int, int]
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64)
    pool = nn.MaxPool2d(**options)  # type: ignore[arg-type]
    with SmoothActivations(beta):
        smooth = pool(x)
    excess = smooth - pool(x)
    k = math.prod(
        (options["kernel_size"],) * 2 if isinstance(options["kernel_size"], int) else (2, 3)
    )
    # max <= log(sum exp(beta x))/beta <= max + log(k)/beta; 1e-12: rounding of numbers near 1.
    assert smooth.shape == pool(x).shape
    assert excess.amin() >= -1e-12
    assert excess.amax() <= math.log(k) / beta + 1e-12


def test_smooth_pooling_of_equal_values_meets_the_bound() -> None:
    # k equal values x: log(k exp(beta x))/beta = x + log(k)/beta; padding adds nothing. Values of
    # -1e6 are below any fixed padding value one might choose.
    for value in (3.0, -1e6):
        x = torch.full((1, 1, 4, 4), value, dtype=torch.float64)
        with SmoothActivations(5.0):
            smooth = F.max_pool2d(x, 2, 2, padding=1)
        inside = torch.tensor([1, 2, 1], dtype=torch.float64)
        expected = value + torch.log(inside[:, None] * inside).reshape(1, 1, 3, 3) / 5
        torch.testing.assert_close(smooth, expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("case", KINKED)
def test_smoothed_networks_converge_and_are_curved(case: str) -> None:
    net = classifier(KINKED[case][0])
    x = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    # One activation before a linear layer W: the score error is at most sum_j |W_j| c/beta with
    # c = log 2 for activations of slope jump <= 1, log 4 for one of 2 (a modulus) and log k for a
    # maximum over k values.
    windows = {"nn.MaxPool2d": 4, "F.max_pool2d": 9, "max": 4, "min": 4, "amax": 16}
    windows |= {"abs()": 4, "abs_": 4, "absolute": 4, "max_pool1d": 4, "adaptive max-pooling": 4}
    constant = math.log(windows.get(case, 2))
    weight = dict(net.module.named_parameters())["module.linear.weight"].abs().sum(1).amax()
    for beta in (10.0, 1000.0):
        smooth = net.smoothed(beta)
        error = (smooth(x) - net(x)).abs().amax()
        assert 0 < error <= weight * constant / beta
        assert not smooth.is_piecewise_linear
        assert smooth.kinks == ()


@pytest.mark.parametrize(
    "guard",
    [
        lambda v: v.clamp(min=1e-6),
        lambda v: v.clamp_min(1e-3),
        lambda v: torch.clamp(v, 1e-6, 1 - 1e-6),
    ],
)
def test_bounds_that_only_guard_are_left_as_they_are(guard: Callable[[Tensor], Tensor]) -> None:
    def standardised(x: Tensor) -> Tensor:
        x = x - x.mean((2, 3), keepdim=True)
        return x / guard(x.square().mean((2, 3), keepdim=True) / 9).sqrt()

    net = classifier(standardised)
    x = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(net.smoothed(10)(x), net(x), rtol=0, atol=0)


def test_in_place_activations_change_their_input_when_smoothed_too() -> None:
    # The network reads x after an in-place call whose result it drops.
    net, plain = classifier(mutating), classifier(F.relu)
    x = torch.rand(3, *SHAPE, dtype=torch.float64)
    torch.testing.assert_close(net.smoothed(5)(x), plain.smoothed(5)(x), rtol=0, atol=0)


@pytest.mark.parametrize("case", CURVED)
def test_curved_networks_with_kinks_are_named_and_smoothed(case: str) -> None:
    activation, name = CURVED[case]
    net = classifier(activation)
    assert not net.is_piecewise_linear
    assert net.kinks == (name,)
    x = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    errors = [(net.smoothed(beta)(x) - net(x)).abs().amax().item() for beta in (10.0, 1000.0)]
    assert 0 < errors[1] < errors[0] / 30


def test_only_calls_on_values_of_the_image_are_kinks() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor([0.3, -0.2]))

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(x * self.scale.exp().clamp(max=1.1).amax())

    net = classifier(Scaled())
    assert net.kinks == ()
    x = torch.rand(2, *SHAPE, dtype=torch.float64)
    torch.testing.assert_close(net.smoothed(1.0)(x), net(x), rtol=0, atol=0)


@pytest.mark.parametrize("case", UNSMOOTHABLE)
def test_kinks_without_a_smooth_form_are_refused_by_name(case: str) -> None:
    activation, name = UNSMOOTHABLE[case]
    net = classifier(activation)
    assert name in net.kinks
    with pytest.raises(InputError, match=rf"{name}.*finite-difference"):
        net.smoothed()


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_hidden_kinks_are_refused_rather_than_left() -> None:
    with pytest.raises(InputError, match="hidden"):
        classifier(lambda x: x * (x > 0)).smoothed()
    with pytest.raises(InputError, match="masked_fill"):
        classifier(lambda x: x.masked_fill(x < 0, 0.0)).smoothed()
    relu = nn.Sequential(nn.Flatten(), nn.Linear(72, 8), nn.ReLU(), nn.Linear(8, 3))
    scripted = Classifier(torch.jit.trace(relu, torch.rand(4, *SHAPE)), SHAPE)
    assert scripted.is_piecewise_linear
    with pytest.raises(InputError, match="hidden"):
        scripted.smoothed()


@pytest.mark.parametrize("beta", [0, -1.0, float("nan"), float("inf")])
def test_bad_sharpness_is_refused(beta: float) -> None:
    with pytest.raises(InputError, match=r"beta=.*> 0"):
        classifier(F.relu).smoothed(beta)


def test_a_smooth_or_linear_network_is_its_own_smooth_version() -> None:
    linear = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(72, 3)), SHAPE)
    for net in (linear, classifier(F.gelu)):
        x = torch.rand(3, *SHAPE, dtype=net.dtype)
        torch.testing.assert_close(net.smoothed()(x), net(x), rtol=0, atol=0)


def test_smoothed_networks_are_told_apart() -> None:
    net = classifier(F.relu)
    smooth = net.smoothed(10)
    assert (net.name, smooth.name) == ("network", "network-softplus10")
    checksums = {net.weights_sha256, smooth.weights_sha256, net.smoothed(20).weights_sha256}
    assert len(checksums) == 3
    assert net.is_piecewise_linear
    assert smooth.to(dtype=torch.float32).kinks == ()


@pytest.mark.parametrize("case", KINKED)
def test_second_derivatives_go_through_smoothed_networks(case: str) -> None:
    net = classifier(KINKED[case][0]).smoothed(5.0)
    generator = torch.Generator().manual_seed(2)
    x, v = (torch.rand(*SHAPE, generator=generator, dtype=torch.float64) for _ in range(2))

    def f(image: Tensor) -> Tensor:
        scores = net.scores(image.reshape(1, *SHAPE))
        return scores[0, 1] - scores[0, 0]

    hessian = torch.func.hessian(f)(x.flatten())
    _, product = torch.autograd.functional.hvp(f, x, v)
    assert hessian.abs().amax() > 1e-4
    # Rounding of sums of 72 terms; central differences of the gradient add O(h^2) + O(eps/h).
    torch.testing.assert_close(hessian, hessian.T, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(hessian @ v.flatten(), product.flatten(), rtol=1e-9, atol=1e-11)
    h, gradient = 1e-5, torch.func.grad(f)
    difference = (gradient(x + h * v) - gradient(x - h * v)) / (2 * h)
    torch.testing.assert_close(difference, product, rtol=1e-5, atol=1e-7)


def test_smoothing_ends_with_the_call() -> None:
    net = classifier(F.relu).smoothed(1.0)
    net(torch.rand(1, *SHAPE, dtype=torch.float64))
    assert F.relu(torch.tensor(-1.0)).item() == 0


def test_kinks_of_a_module() -> None:
    module = nn.Sequential(nn.ReLU(), nn.Hardshrink(), nn.MaxPool2d(2), nn.GELU())
    assert kinks(module, torch.rand(1, *SHAPE)) == (["max_pool2d", "relu"], ["hardshrink"])
