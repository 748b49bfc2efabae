"""Networks through which no gradient can go, or chance, or other images: the true reason."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from networks_with_activations import Rectifier
from odd_layers import Lambda, small
from odd_networks import ODD, REFUSED, built
from torch import Tensor, nn

from geomadv.boundary import boundary_points
from geomadv.classifier import Classifier
from geomadv.curvature import mean_hessian
from geomadv.errors import InputError

SHAPE = (3, 12, 12)


@pytest.mark.parametrize("name", REFUSED)
def test_the_true_reason_is_given_when_the_classifier_is_made(name: str) -> None:
    odd, module = ODD[name], built(name)
    with pytest.raises(InputError) as raised:
        Classifier(module, odd.shape, bounds=odd.bounds, name=name)
    message = str(raised.value)
    assert odd.expected in message
    if name != "norm without statistics":
        assert "without running statistics" not in message


def test_reasons_do_not_depend_on_the_callers_gradient_mode() -> None:
    for context in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        with context():
            assert Classifier(small(), SHAPE).num_classes == 5
            with pytest.raises(InputError, match="detach"):
                Classifier(built("detached"), SHAPE)


class KeepsItsLast(nn.Module):
    """Gives the scores of the last images again, with their graph or without."""

    def __init__(self, graph: bool) -> None:
        super().__init__()
        self.body, self.graph = small(), graph
        self.last: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.last is None or not torch.equal(self.last[0], x):
            scores: Tensor = self.body(x)
            self.last = x.detach().clone(), scores if self.graph else scores.detach()
            return scores
        return self.last[1]


@pytest.mark.parametrize("graph", [True, False])
def test_kept_scores_are_the_reason_given(graph: bool) -> None:
    with pytest.raises(InputError, match="kept scores"):
        Classifier(KeepsItsLast(graph), SHAPE)


def energy(body: nn.Module, x: Tensor) -> Tensor:
    total: Tensor = body(x).square().sum()
    return total / 2


def test_scores_of_a_gradient_inside_are_taken_or_the_mode_is_named() -> None:
    def slopes(body: nn.Module, x: Tensor) -> Tensor:
        return torch.func.grad(lambda z: energy(body, z))(x).flatten(1)[:, 100:104]

    net = Classifier(Lambda(small(), slopes).double(), SHAPE)
    points = boundary_points(net, torch.rand(3, *SHAPE, dtype=torch.float64))
    operator = mean_hessian(net, points)
    assert points.converged.any()
    assert operator.kind == "exact"

    def bare(body: nn.Module, x: Tensor) -> Tensor:
        return torch.autograd.grad(energy(body, x), x, create_graph=True)[0].flatten(1)[:, :4]

    with pytest.raises(InputError, match="enable_grad"):
        Classifier(Lambda(small(), bare), SHAPE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_lowest_number_is_a_mask_and_minus_infinity_is_named_as_one(dtype: torch.dtype) -> None:
    def masked(value: float) -> nn.Module:
        return Lambda(small(), lambda body, x: F.pad(body(x), (0, 2), value=value)).to(dtype)

    net = Classifier(masked(torch.finfo(dtype).min), SHAPE)
    plain = Classifier(net.module.module.body, SHAPE)
    x = torch.rand(3, *SHAPE, dtype=dtype)
    torch.testing.assert_close(boundary_points(net, x).distance, boundary_points(plain, x).distance)
    assert all(map(math.isfinite, net.behaviour))
    with pytest.raises(InputError, match="in class 5, 6: masked"):
        Classifier(masked(-math.inf), SHAPE)


def test_a_dead_network_is_taken() -> None:
    net = Classifier(built("dead"), SHAPE)
    x = torch.rand(1, *SHAPE, requires_grad=True)
    assert not torch.autograd.grad(net(x).sum(), x)[0].any()


def test_scores_that_a_constant_switches_off_are_taken() -> None:
    for value in (0.0, -1e4, -1e9):
        module = Lambda(small(), lambda body, x, v=value: F.pad(body(x), (2, 3), value=v))
        assert Classifier(module, SHAPE).num_classes == 10


def test_what_detaches_a_constant_is_taken() -> None:
    """`detach` of what does not depend on the image, or of what changes nothing, cuts nothing."""

    def forward(body: nn.Module, x: Tensor) -> Tensor:
        s = body(x)
        shift = s.detach() * 0 + body[7].bias.detach()  # type: ignore[index]
        with torch.no_grad():
            largest = s.amax(1, keepdim=True)
        return s - largest + largest + shift

    net = Classifier(Lambda(small(), forward), SHAPE)
    assert net.note == ""


def test_harmless_hooks_on_gradients_are_taken() -> None:
    module, kept = small(), []
    module[2].register_full_backward_hook(lambda _m, _i, g: kept.append(g[0].shape))
    net = Classifier(module, SHAPE)
    x = torch.rand(1, *SHAPE, requires_grad=True)
    assert torch.autograd.grad(net(x).sum(), x)[0].any()
    assert kept


def test_relu_networks_pass_the_slope_check() -> None:
    for seed in range(5):
        torch.manual_seed(seed)
        module = Lambda(small(act=nn.ReLU), lambda body, x: body(x) + 0 * body(x).detach())
        assert Classifier(module, SHAPE).num_classes == 5


def test_a_layer_kept_in_a_list_stays_in_training_and_is_named_as_chance() -> None:
    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.layers = small(), [nn.Dropout(0.3)]

        def forward(self, x: Tensor) -> Tensor:
            return self.body(self.layers[0](x))  # type: ignore[no-any-return]

    with pytest.raises(InputError, match="not deterministic"):
        Classifier(Listed(), SHAPE)


@pytest.mark.parametrize("share", [1e-3, 1.0])
@pytest.mark.parametrize("mask", [0.0, -1e9])
def test_images_that_depend_on_each_other_are_found_behind_a_mask(
    share: float, mask: float
) -> None:
    def forward(body: nn.Module, x: Tensor) -> Tensor:
        s = body(x)
        return F.pad(s + share * 10 * (s.mean(0) - s), (0, 3), value=mask)

    with pytest.raises(InputError, match=r"alone and in a batch: its forward mixes"):
        Classifier(Lambda(small(), forward), SHAPE)


def test_a_first_call_that_fills_a_buffer_is_noted() -> None:
    class DataDependent(nn.Module):
        shift: Tensor
        ready: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.body = small()
            self.register_buffer("shift", torch.zeros(5))
            self.register_buffer("ready", torch.zeros((), dtype=torch.bool))

        def forward(self, x: Tensor) -> Tensor:
            s = self.body(x)
            if not self.ready:
                self.shift.copy_(s.detach().mean(0))
                self.ready.fill_(True)
            return s - self.shift  # type: ignore[no-any-return]

    assert "shift" in Classifier(DataDependent(), SHAPE).note


def test_the_original_is_left_alone_by_lazy_and_stateful_networks() -> None:
    module = built("lazy")
    Classifier(module, SHAPE)
    assert any(torch.nn.parameter.is_lazy(p) for p in module.parameters())
    counting = built("counter")
    Classifier(counting, SHAPE)
    assert int(counting.calls) == 0


@pytest.mark.parametrize("size", [1, 2, 5])
def test_networks_that_drop_a_batch_of_one_work(size: int) -> None:
    for name in ("squeezed scores", "squeezed inside"):
        module = built(name)
        net = Classifier(module, SHAPE)
        x = torch.rand(5, *SHAPE)
        expected = module(x)[:size]
        torch.testing.assert_close(net(x[:size]), expected)
        y = x[:size].clone().requires_grad_()
        assert torch.autograd.grad(net(y).sum(), y)[0].any()


@pytest.mark.parametrize("width", [1e2, 1e3, 1e4])
@pytest.mark.parametrize("act", [nn.Tanh, nn.Sigmoid, nn.ReLU])
def test_saturated_networks_are_taken(act: type[nn.Module], width: float) -> None:
    """In wide bounds most images lie where tanh is flat to rounding, a step away from a jump."""
    for seed in range(3):
        torch.manual_seed(seed)
        layers = [nn.Flatten(), nn.Linear(12, 16), act(), nn.Linear(16, 5)]
        net = Classifier(nn.Sequential(*layers), (1, 3, 4), bounds=(-width, width))
        assert net.note == ""


class Sign(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sign()


def test_steps_that_are_far_apart_are_steps() -> None:
    """Few thresholds, so that none may lie within a hundredth of the pixels' range."""
    for seed in range(6):
        torch.manual_seed(seed)
        module = nn.Sequential(nn.Flatten(), nn.Linear(12, 16), Sign(), nn.Linear(16, 5))
        with pytest.raises(InputError, match=r"all gradients are zero: the scores are steps"):
            Classifier(module, (1, 3, 4))


@pytest.mark.parametrize(("depth", "width", "classes"), [(8, 24, 200), (11, 512, 1000)])
@pytest.mark.parametrize("seed", range(6))
def test_scores_that_hardly_depend_on_the_image_are_no_mixing(
    seed: int, depth: int, width: int, classes: int
) -> None:
    """Sigmoid layers: scores vary by 1e-6 of themselves, or by less than float32 can tell.

    Among a thousand scores some are near 0, the sums of terms as large as those of the others.
    """
    torch.manual_seed(seed)
    layers = [nn.Flatten(), nn.Linear(12, width), nn.Sigmoid()]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), nn.Sigmoid()]
    module = nn.Sequential(*layers, nn.Linear(width, classes))
    assert Classifier(module, (3, 2, 2)).num_classes == classes


class Surrogate(Rectifier):
    """Its derivative is that of a softplus."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * torch.sigmoid(10 * ctx.saved_tensors[0])


class Swish(torch.autograd.Function):
    """A derivative of its own, which is right."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        gate = x.sigmoid()
        return gradient * gate * (1 + x * (1 - gate))


# Wrong by some percent of the norm, far less than kinks make between two points.
NEARLY: dict[str, Callable[[Tensor], Tensor]] = {
    "detached gate": lambda x: x * x.sigmoid().detach(),
    "detached scale": lambda x: x / (1 + x.square().mean(1, keepdim=True)).sqrt().detach(),
    "copied": lambda x: x + 0.1 * torch.tensor(x).sin(),
    "surrogate": Surrogate.apply,
    "ungraded": lambda x: x.tanh() + 0.03 * without_grad(x),
}
RIGHT: dict[str, Callable[[Tensor], Tensor]] = {
    "derivative of its own": Swish.apply,
    "stable softmax": lambda x: (x - x.amax(1, keepdim=True).detach()).softmax(1),
    "shape alone": lambda x: torch.where(x > 0, x, torch.zeros_like(x) - 0.1),
}


@torch.no_grad()
def without_grad(x: Tensor) -> Tensor:
    return x.cos()


@pytest.mark.filterwarnings("ignore:To copy construct")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", [*NEARLY, *RIGHT])
def test_gradients_that_are_nearly_the_slopes_are_refused(name: str, dtype: torch.dtype) -> None:
    for seed in range(3):
        torch.manual_seed(seed)
        first = nn.Linear(16, 24)
        first.bias.data.normal_()
        act = Lambda(nn.Identity(), lambda _, x: (NEARLY | RIGHT)[name](x))
        module = nn.Sequential(nn.Flatten(), first, act, nn.Linear(24, 5)).to(dtype)
        if name in RIGHT:
            assert Classifier(module, (1, 4, 4)).note == ""
        else:
            with pytest.raises(InputError, match="not the slopes of its scores: its forward"):
                Classifier(module, (1, 4, 4))
