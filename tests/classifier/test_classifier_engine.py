"""What is evaluated equals the module for odd networks: scores, gradients, one image or more."""

import pytest
import torch
from odd_layers import Lambda, settle, small
from odd_networks import ODD, WORKS, built, classifier, original
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from geomadv.classifier import Classifier
from geomadv.classifier.engine import hessian_difference
from geomadv.classifier.image_conv import ImageConv2d
from geomadv.classifier.normalised import Normalised
from geomadv.classifier.probes import allowance, class_spread, probe_images, scores_differ

EPS = torch.finfo(torch.float32).eps


def photographs(name: str, dtype: torch.dtype) -> Tensor:
    """Noise of three strengths in the bounds, other than the probes'."""
    (low, high), shape = ODD[name].bounds, ODD[name].shape
    generator = torch.Generator().manual_seed(11)
    unit = torch.rand(3, *shape, generator=generator, dtype=torch.float64)
    unit *= torch.tensor([1.0, 0.5, 0.1], dtype=torch.float64)[:, None, None, None]
    return (low + (high - low) * unit).to(dtype)


@pytest.mark.parametrize("name", [name for name, odd in WORKS.items() if odd.same])
def test_scores_and_gradients_are_those_of_the_module(name: str) -> None:
    net, module = classifier(name), original(name)
    x = photographs(name, net.dtype)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    found, expected = net(a), module(b.clone())
    # Float32 sums of some hundred terms in a few layers: tens of roundings; per class, so that a
    # class of -1e9 hides nothing.
    size = expected.detach().abs().amax(0)
    assert ((found - expected).abs() <= 1e3 * EPS * size).all()
    constant = expected.detach().amax(0) == expected.detach().amin(0)
    weights = torch.where(constant, 0.0, torch.linspace(-1, 2, len(size)) / size)
    (g,) = torch.autograd.grad((found * weights.to(found)).sum(), a)
    (h,) = torch.autograd.grad((expected * weights.to(found)).sum(), b)
    assert (g - h).abs().max() <= 1e-4 * h.abs().max()
    alone = torch.cat([net(row[None]) for row in x])
    assert ((alone - expected).abs() <= 1e3 * EPS * size).all()


@pytest.mark.parametrize("name", WORKS)
def test_notes_say_what_was_adapted_and_nothing_else(name: str) -> None:
    net = classifier(name)
    if ODD[name].note:
        assert ODD[name].note in net.note
    else:
        assert net.note == ""
    assert net.to().note == net.note


@pytest.mark.parametrize("name", ["tutorial view", "trades", "as_strided", "order of memory"])
def test_only_the_part_that_fails_is_left_out(name: str) -> None:
    net = classifier(name)
    assert net.note.startswith("evaluated without channels-last weights (")
    assert any(type(m) is ImageConv2d for m in net._engine.modules())


def test_a_form_that_fails_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    net = Classifier(built("resnet in resnet"), (3, 12, 12))
    assert "view size" in net.note
    assert capfd.readouterr() == ("", "")


def test_images_of_any_layout_reach_a_view() -> None:
    module = built("tutorial view")
    x = photographs("tutorial view", torch.float32)
    for mean in (None, 0.0):
        net = Classifier(module, (3, 20, 20), mean=mean)
        flipped = x.contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(net(flipped), net(x))
        torch.testing.assert_close(net(x.mT.contiguous().mT), net(x))


def test_the_plain_module_keeps_its_layout() -> None:
    net = Classifier(small(), (3, 12, 12))
    weights = [m.weight for m in net.module.modules() if isinstance(m, nn.Conv2d)]
    assert all(w.is_contiguous() for w in weights)
    fast = [m.weight for m in net._engine.modules() if isinstance(m, nn.Conv2d)]
    assert not any(w.is_contiguous() for w in fast)


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_grouped_convolutions_keep_their_layout_in_float64(groups: int, dtype: torch.dtype) -> None:
    torch.manual_seed(groups)
    layers = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3, groups=groups), nn.ReLU()
    module = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 64, 5))
    net = Classifier(module, (3, 12, 12)).to(dtype=dtype)
    weights = [m.weight for m in net._engine.modules() if isinstance(m, nn.Conv2d)]
    dense = all(w.is_contiguous() for w in weights)
    assert dense == (groups > 1 and dtype == torch.float64)
    assert net.note == ""
    assert net.is_piecewise_linear


def norms(module: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm2d) for m in module.modules())


@pytest.mark.parametrize(
    ("name", "stay"),
    [
        ("plain", 0),
        ("hook on norm", 1),
        ("pre-hook on norm", 1),
        ("hook on convolution", 1),
        ("pre-hook on convolution", 1),
        ("hook on block", 1),
        ("forward of an instance", 1),
        ("weight norm", 1),
        ("old weight norm", 1),
        ("spectral norm", 1),
        ("parametrisation", 1),
        ("pruned", 1),
        ("convolution subclass", 1),
        ("weight-standardised", 1),
        ("norm subclass", 1),
        ("named twice", 1),
        ("tied", 1),
    ],
)
def test_what_does_more_than_its_class_is_not_folded(name: str, stay: int) -> None:
    net = classifier(name)
    assert norms(net._engine) == stay


def test_hooks_that_are_idle_on_noise_act_on_dark_images() -> None:
    module, net = built("hook on norm"), classifier("hook on norm")
    idle = built("plain")
    dark = torch.zeros(2, 3, 12, 12)
    module[1]._forward_hooks.clear()
    plain = Classifier(module, (3, 12, 12))
    assert not torch.allclose(net(dark), plain(dark))
    assert idle is not module


def test_backward_hooks_on_a_block_run() -> None:
    net = small()
    block = nn.Sequential(net[0], net[1])
    counted = []
    block.register_full_backward_hook(lambda *_: counted.append(1))
    used = Classifier(nn.Sequential(block, *net[2:]), (3, 12, 12))
    x = torch.rand(1, 3, 12, 12, requires_grad=True)
    counted.clear()
    torch.autograd.grad(used(x).sum(), x)
    assert counted


def test_layers_are_seen_by_global_hooks() -> None:
    ran: list[str] = []
    net = Classifier(small(), (3, 12, 12))
    handle = register_module_forward_hook(lambda m, *_: ran.append(type(m).__name__))
    try:
        net(torch.rand(1, 3, 12, 12))
    finally:
        handle.remove()
    assert "Linear" in ran


# Tolerances: a masked class, an offset and the scale of another class hide no error


def scores(rows: int = 8, classes: int = 6) -> Tensor:
    return torch.randn(rows, classes, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("mask", [-1e4, -1e9, 1e6])
def test_a_masked_class_leaves_the_allowance_of_the_others(mask: float) -> None:
    s = scores()
    masked = torch.cat([s, torch.full((8, 5), mask)], 1)
    torch.testing.assert_close(allowance(masked, 1e3)[:, :6], allowance(s, 1e3))
    wrong = masked.clone()
    wrong[:, 2] += 1e-3
    # 1e-3 is 8,000 roundings of an ordinary score.
    assert scores_differ(wrong, masked, allowance(masked, 1e3))[:, 2].all()
    assert not scores_differ(masked, masked, allowance(masked, 1e3)).any()


@pytest.mark.parametrize("scale", [1e-20, 1e-3, 1.0, 1e20])
def test_allowances_follow_the_scale(scale: float) -> None:
    s = scores().double()
    torch.testing.assert_close(allowance(scale * s, 1e3), scale * allowance(s, 1e3))


def test_an_offset_costs_its_own_rounding_only() -> None:
    s = scores().double()
    shifted = allowance(s + 1e4, 1e3)
    eps = torch.finfo(torch.float64).eps
    assert ((shifted - allowance(s, 1e3)).abs() <= eps * 40 * 1e4).all()


def test_a_small_class_is_judged_by_itself() -> None:
    s = scores()
    s[:, 0] *= 1e-3
    wrong = s.clone()
    wrong[:, 0] += 1e-4
    assert scores_differ(wrong, s, allowance(s, 1e3)).any(0).tolist() == [True] + [False] * 5


def test_constant_classes_do_not_vary() -> None:
    s = scores()
    s[:, 1] = 1e5
    s[:, 2] = 1e5 * (1 + EPS * torch.tensor([0, 1] * 4))
    assert (class_spread(s) > 0).tolist() == [True, False, False, True, True, True]


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-3.0, 255.0)])
def test_probes_lie_in_the_bounds_and_are_of_several_kinds(bounds: tuple[float, float]) -> None:
    x = probe_images((3, 8, 9), bounds).images
    assert x.amin() == bounds[0]
    assert x.amax() == bounds[1]
    assert len({round(float(row.std()), 9) for row in x}) >= 5
    assert torch.equal(x, probe_images((3, 8, 9), bounds).images)


# Engines with an error


class Wrong(nn.Module):
    """The module with an error: of its scores, its gradient, or its curvature."""

    def __init__(self, module: nn.Module, error: str) -> None:
        super().__init__()
        self.module, self.error = module, error

    def forward(self, x: Tensor) -> Tensor:
        s: Tensor = self.module(x)
        if self.error == "scores":
            return torch.cat([s[:, :1] + 1e-2, s[:, 1:]], 1)
        if self.error == "alone":
            return s * (1.01 if len(x) == 1 else 1)
        if self.error == "dark":
            return s + (x.mean((1, 2, 3)) < 0.05)[:, None] * 0.1
        d = self.module(x.detach())
        if self.error == "gradient":
            return d + 1.1 * (s - d)
        # Scores and gradients as before, second derivatives doubled.
        return s + (s - d) * (s - d)


@pytest.mark.parametrize("error", ["scores", "alone", "dark", "gradient"])
def test_an_engine_with_an_error_is_not_used(error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from geomadv.classifier import engine

    monkeypatch.setattr(engine, "_engine", lambda m, inner, **_: Wrong(m.around(inner), error))
    module = small()
    net = Classifier(module, (3, 12, 12))
    assert net._engine is net.module
    assert net.note.startswith("evaluated as the plain module (it gave")


def test_an_engine_with_another_curvature_is_replaced() -> None:
    module = small()
    net = Classifier(module, (3, 12, 12))
    x, v = torch.rand(2, 3, 12, 12), torch.randn(1, 3, 12, 12)
    weights = torch.tensor([[1.0, -1, 0, 0, 0]]).repeat(2, 1)
    net.settle_second_order(x, weights, v)
    assert net._engine is not net.module
    assert net.note == ""
    net = Classifier(module, (3, 12, 12))
    net._engine = Wrong(net._engine, "curvature")
    net.settle_second_order(x, weights, v)
    assert net._engine is net.module
    assert "second derivative" in net.note


def test_a_network_without_second_derivatives_is_no_error_of_the_engine() -> None:
    plain = Normalised(small().requires_grad_(False), None, None)
    x, v = torch.rand(1, 3, 12, 12), torch.randn(1, 3, 12, 12)
    weights = torch.tensor([[1.0, -1, 0, 0, 0]])
    once = Lambda(plain, lambda body, at: body(_Once.apply(at)))
    assert hessian_difference(plain, once, x, weights, v) == ""
    assert "twice" in hessian_difference(once, plain, x, weights, v)


class _Once(torch.autograd.Function):
    """The identity, whose gradient cannot be differentiated."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, *g: Tensor) -> Tensor:  # type: ignore[override]
        return _Never.apply(g[0])  # type: ignore[no-any-return, no-untyped-call]


class _Never(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, *g: Tensor) -> Tensor:  # type: ignore[override]
        raise NotImplementedError("cannot be differentiated twice")


def test_a_network_made_in_inference_mode_has_gradients() -> None:
    torch.manual_seed(0)
    with torch.inference_mode():
        module = settle(small())
        net = Classifier(module, (3, 12, 12))
    x = torch.rand(1, 3, 12, 12, requires_grad=True)
    assert torch.autograd.grad(net(x).sum(), x)[0].any()


def test_a_copy_for_a_few_passes_is_the_plain_module_and_says_so() -> None:
    net = classifier("trades")
    plain = net.to(fast=False)
    x = photographs("trades", net.dtype)
    assert torch.equal(plain.scores(x), net.module(x))
    assert "plain module (asked for)" in plain.note
    assert plain.to().note == net.note
