"""Exact products are taken where they hold all the curvature, whatever the calls are named."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks_with_activations import SHAPE, Activation, Net, Rectifier
from test_curvature_operators import points_at, worst
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from geomadv.classifier import Classifier
from geomadv.classifier.jumps import SCALES, change_on_lines
from geomadv.curvature import mean_hessian
from geomadv.curvature.measured import _STEPS, _Gap, measure
from geomadv.curvature.products import batches_of
from geomadv.errors import InputError


def classifier(activation: Activation, dtype: torch.dtype = torch.float64) -> Classifier:
    return Classifier(Net(activation), SHAPE, dtype=dtype)


def images(n: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(n, *SHAPE, generator=generator, dtype=torch.float64).to(dtype)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class _Rectifier(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * (x > 0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * (ctx.saved_tensors[0] > 0)


class _ForgetsItsSlope(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        with torch.no_grad():
            slope = 1 - ctx.saved_tensors[0].tanh() ** 2
        return gradient * slope


def sampled(x: Tensor) -> Tensor:
    """The feature maps read at places that depend on their values."""
    grid = torch.tanh(x[:, :2]).permute(0, 2, 3, 1)
    return F.grid_sample(x, grid, align_corners=False)


# Curved everywhere, and kinks beside it.
KINKED: dict[str, Activation] = {
    "SELU": F.selu,
    "ELU(2)": lambda x: F.elu(x, 2.0),
    "threshold": lambda x: F.threshold(x, 0.1, 0.1).tanh(),
    "threshold with a jump": lambda x: F.threshold(x, 0.1, 0.0).tanh(),
    "rrelu": lambda x: F.rrelu(x).tanh(),
    "abs_": lambda x: (2 * x.tanh()).abs_().exp(),
    "absolute": lambda x: x.absolute().tanh(),
    "fmax": lambda x: torch.fmax(x.tanh(), x * x),
    "fmin": lambda x: torch.fmin(x.sin(), x.flip(1)),
    "masked_fill": lambda x: x.masked_fill(x < 0, 0.0).tanh(),
    "where": lambda x: torch.where(x > 0, x * x + x, x.tanh() / 2),
    "mask": lambda x: (x * (x > 0)).exp(),
    "median": lambda x: x.median(1, keepdim=True).values * x.tanh(),
    "quantile": lambda x: torch.quantile(x, 0.3, dim=1, keepdim=True) * x.tanh(),
    "maximum norm": lambda x: x * torch.linalg.vector_norm(x, torch.inf, (2, 3), keepdim=True),
    "l1 norm": lambda x: x * x.norm(p=1, dim=1, keepdim=True),
    "hardswish": lambda x: F.hardswish(10 * x),
    "softshrink": lambda x: F.softshrink(x, 0.1).tanh(),
    "hardshrink": lambda x: F.hardshrink(x, 0.1).tanh(),
    "relu6": lambda x: F.relu6(x).tanh(),
    "sort": lambda x: x.sort(1).values.tanh(),
    "topk": lambda x: x.topk(2, dim=1).values.tanh(),
    "cummax": lambda x: x.cummax(1).values.tanh(),
    "max-pooling of tanh": lambda x: F.max_pool2d(x.tanh(), 2),
    "fractional part": lambda x: (3 * x).frac() * x,
    "a little relu": lambda x: F.gelu(x) + 0.02 * x.relu(),
    "log of a modulus": lambda x: (x.abs() + 0.1).log(),
    "grid_sample": sampled,
    "custom rectifier": lambda x: torch.tanh(_Rectifier.apply(x)),
    "modulus of a real spectrum": lambda x: torch.fft.fft2(x).abs(),
}
# Autograd has no second derivatives of these or wrong ones.
MISSING: dict[str, Activation] = {
    "hardsigmoid": lambda x: F.hardsigmoid(20 * x) * x,
    "forgotten slope": lambda x: _ForgetsItsSlope.apply(x) * 1.0,
    "a little of a forgotten slope": lambda x: torch.tanh(x) + 0.05 * _ForgetsItsSlope.apply(x),
}
SMOOTH: dict[str, Activation] = {
    "ELU": F.elu,
    "CELU(1/2)": lambda x: F.celu(x, 0.5),
    "GELU": F.gelu,
    "Mish": F.mish,
    "log-sigmoid": F.logsigmoid,
    "tanhshrink": F.tanhshrink,
    "softsign": lambda x: x / (1 + x * x),
    "sharp softplus": lambda x: F.softplus(x, 1000.0),
    "relu squared": lambda x: x.relu() ** 2,
    "Huber": lambda x: F.smooth_l1_loss(x, 0 * x, reduction="none"),
    "norm with a floor": lambda x: x / x.norm(dim=1, keepdim=True).clamp(min=1e-9),
    "normalize": F.normalize,
    "cosine similarity": lambda x: F.cosine_similarity(x, x.flip(1) + 1, dim=1).unsqueeze(1) * x,
    "clamp on parameters": lambda x: x.tanh() * torch.ones(4, 1, 1).to(x).clamp(min=2).relu(),
    "clamp far away": lambda x: x.tanh().clamp(-3, 3),
    "relu of a sigmoid": lambda x: x.sigmoid().relu(),
    "modulus of a complex number": lambda x: torch.complex(1 + x * x, x).abs(),
    "softmax": lambda x: (20 * x).softmax(1),
    "shifted by its maximum": lambda x: (x - x.amax(1, keepdim=True)).softmax(1),
    "sum of sorted": lambda x: x.sort(1).values.sum(1, keepdim=True).tanh(),
    "where that is no choice": lambda x: torch.where(x > 0, x.tanh(), -(-x).tanh()),
    "layer norm": lambda x: F.layer_norm(x, x.shape[1:]),
    "nearly linear": lambda x: x + 1e-6 * x.sin(),
}


def kind_at(net: Classifier, n: int) -> str:
    return measure(net, batches_of(net, points_at(images(n, net.dtype)), 40)).kind


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((name, "kinked") for name in KINKED),
        *((name, "missing") for name in MISSING),
        *((name, "smooth") for name in SMOOTH),
    ],
)
def test_what_exact_products_leave_out_is_found(name: str, expected: str) -> None:
    assert kind_at(classifier((KINKED | MISSING | SMOOTH)[name]), 8) == expected


@pytest.mark.parametrize("name", ["SELU", "median", "forgotten slope", "ELU", "normalize"])
def test_one_point_is_enough(name: str) -> None:
    expected = "kinked" if name in KINKED else "missing" if name in MISSING else "smooth"
    assert kind_at(classifier((KINKED | MISSING | SMOOTH)[name]), 1) == expected


@pytest.mark.parametrize("name", ["SELU", "masked_fill", "sort", "GELU", "sharp softplus"])
def test_networks_in_float32_are_judged_in_float64(name: str) -> None:
    activation = (KINKED | SMOOTH)[name]
    expected = "kinked" if name in KINKED else "smooth"
    assert kind_at(classifier(activation, torch.float32), 8) == expected


def test_a_network_that_does_not_run_in_float64_is_judged_coarsely_and_that_is_noted() -> None:
    for name, kind in (("masked_fill", "finite-difference"), ("GELU", "exact")):
        net = Classifier(Always32(Net((KINKED | SMOOTH)[name])), SHAPE)
        operator = mean_hessian(net, points_at(images(6, torch.float32)))
        assert operator.kind == kind
        assert "measured in float32" in operator.note


class Always32(nn.Module):
    """Has kernels for float32 alone."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.inner = module

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            raise RuntimeError(f"no kernel for {x.dtype}")
        scores: Tensor = self.inner(x)
        return scores


def test_the_second_difference_falls_by_the_derivatives_that_are_continuous() -> None:
    # The gradients sign t, |t|^(1/2) sign t and |t| of |t|, |t|^(3/2) and t |t|.
    powers = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    odd, places = torch.tensor([True, True, False]), torch.tensor([0.31, 0.447, 0.613]).double()

    def gradient(x: Tensor) -> Tensor:
        t = x.flatten(1)[:, 0] - places
        slope = t.abs() ** powers * torch.where(odd, t.sign(), 1.0)
        return torch.stack([slope, 0 * slope], 1).view_as(x)

    start = torch.zeros(3, 1, 1, 2, dtype=torch.float64)
    end = start + torch.tensor([1.0, 0.0])
    change = change_on_lines(gradient, start, end, SCALES[torch.float64], torch.float64)
    # The slope runs from -1 to 1, which is all of its change.
    assert change.jumps.tolist() == pytest.approx([1, 0, 0])
    rates = (change.bends[-1] / change.bends[0]).log() / np.log(1e-6 / 1e-3)
    # Where the kink lies in its segment makes a factor of 4 at most.
    assert (rates - powers).abs().max() < np.log(4) / np.log(1e3)


@pytest.mark.parametrize("share", [1e-4, 0.01, 0.3])
@pytest.mark.parametrize("power", [-0.5, 0.0, 0.5, 2.0])
def test_gaps_of_many_kinks_do_not_fall_with_the_step(power: float, share: float) -> None:
    for steps in _STEPS.values():
        coarse = share * (steps.coarse / steps.fine) ** power
        gap = _Gap(steps, coarse=coarse, fine=share, local=0.0, floors=(0.0, 0.0))
        assert gap.is_of_kinks == (power <= 0 and share > 1e-3)
        assert not replace(gap, floors=(2 * share, 0.0)).is_of_kinks


def test_selu_has_no_eigenvalue_from_its_smooth_parts_alone() -> None:
    net, points = classifier(F.selu), points_at(images(20))
    auto = mean_hessian(net, points, step=0.2)
    assert (auto.kind, auto.step) == ("finite-difference", 0.2)
    assert "selu" in auto.note
    assert "jump of the gradient" in auto.note
    insisted = mean_hessian(net, points, hvp="exact")
    assert insisted.kind == "exact"
    assert "leave out curvature of kinks" in insisted.note
    values, vectors = np.linalg.eigh(insisted.dense())
    # The kinks bend the other way: along that direction the difference has another value.
    v = torch.from_numpy(vectors[:, -1:])
    along = float(auto.per_point_quadratic(v).mean())
    assert abs(along - values[-1]) > 0.2 * abs(values[-1])
    # With the kinks smooth, exact products and differences agree to truncation, (beta h)^2 / 6.
    smoothed = net.smoothed(10.0)
    assert measure(smoothed, batches_of(smoothed, points, 20)).kind == "smooth"


@pytest.mark.parametrize("name", ["ELU", "norm with a floor", "relu of a sigmoid", "softmax"])
def test_smooth_networks_get_the_eigenvalues_of_their_hessian(name: str) -> None:
    net, points = classifier(SMOOTH[name]), points_at(images(6))
    operator = mean_hessian(net, points, batch_size=4)
    assert (operator.kind, operator.note) == ("exact", "")
    # Rounding of sums of some 100 terms.
    assert worst(operator.dense(), by_double_backward(net, points.points)) < 1e-10


def by_double_backward(net: Classifier, x: Tensor) -> Tensor:
    """Mean Hessian (D, D) of F_1 - F_0, row by row, with plain attention."""
    with sdpa_kernel([SDPBackend.MATH]), torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        scores = net.module(x)
        (g,) = torch.autograd.grad((scores[:, 1] - scores[:, 0]).sum(), x, create_graph=True)
        rows = [
            torch.autograd.grad(column.sum(), x, retain_graph=True)[0].flatten(1).mean(0)
            for column in g.flatten(1).T
        ]
    return torch.stack(rows)


# Transformers


class TimmAttention(nn.Module):
    """As in timm: one projection for all heads, fused attention of 4-D tensors."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        n, length, dim = x.shape
        q, k, v = self.qkv(x).view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(n, length, dim))
        return out


class TorchvisionAttention(nn.Module):
    """As in torchvision: `nn.MultiheadAttention` without its weights."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, heads, dropout=0.1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return mixed


class Block(nn.Module):
    """Pre-norm encoder block."""

    def __init__(self, attention: nn.Module, dim: int) -> None:
        super().__init__()
        self.attention = attention
        self.one, self.two = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.one(x))
        result: Tensor = x + self.mlp(self.two(x))
        return result


class VisionTransformer(nn.Module):
    """Patches, class token, positions, the given encoder, head."""

    def __init__(self, encoder: nn.Module, dim: int = 8) -> None:
        super().__init__()
        self.patches, self.encoder = nn.Conv2d(2, dim, 2, 2), encoder
        self.token = nn.Parameter(torch.randn(1, 1, dim))
        self.places = nn.Parameter(torch.randn(1, 10, dim) / 2)
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.places
        scores: Tensor = self.head(self.norm(self.encoder(x)[:, 0]))
        return scores


def encoder(layers: int = 1, **options: Any) -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, **options)
    return layer if layers == 1 else nn.TransformerEncoder(layer, layers)


TRANSFORMERS: dict[str, Callable[[], nn.Module]] = {
    "timm": lambda: Block(TimmAttention(8, 2), 8),
    "torchvision": lambda: Block(TorchvisionAttention(8, 2), 8),
    "encoder layer": lambda: encoder(activation="gelu"),
}


@pytest.mark.filterwarnings("ignore::UserWarning:torch")
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers_get_exact_products(name: str) -> None:
    torch.manual_seed(0)
    net = Classifier(VisionTransformer(TRANSFORMERS[name]()), SHAPE, dtype=torch.float64)
    x = images(5)
    operator = mean_hessian(net, points_at(x), batch_size=3)
    assert (operator.kind, operator.note) == ("exact", "")
    v = torch.randn(72, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = operator.products_sum(v) / len(x)
    assert worst(found, by_double_backward(net, x) @ v) < 1e-10
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_transformer_of_relus_has_kinks() -> None:
    torch.manual_seed(0)
    net = Classifier(VisionTransformer(encoder(2)), SHAPE, dtype=torch.float64)
    assert kind_at(net, 8) == "kinked"


# What follows from the verdict


def test_a_clamp_that_is_met_nowhere_near_the_points_does_not_count_and_elsewhere_does() -> None:
    net = classifier(lambda x: (x * x).clamp(max=1e3) if x.ndim else x)
    assert net.kinks == ("clamp",)
    assert mean_hessian(net, points_at(images(3))).kind == "exact"
    near = classifier(lambda x: (x * x).clamp(max=0.1))
    assert mean_hessian(near, points_at(images(3))).kind == "finite-difference"


def test_kinks_in_the_points_themselves_are_kinks() -> None:
    # Pixels cut at 0, where half of the pixels of every point are: g jumps at the point.
    net = classifier(lambda x: x.tanh())
    cut = Classifier(nn.Sequential(Cut(), net.module), SHAPE, dtype=torch.float64)
    x = images(4)
    x[:, :, ::2] = 0
    assert kind_at(net, 4) == "smooth"
    assert measure(cut, batches_of(cut, points_at(x), 4)).kind == "kinked"


class Cut(nn.Module):
    """Pixels in [0, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(0, 1)


def test_the_verdict_is_the_same_every_time_and_for_every_batch_size() -> None:
    net, points = classifier(F.selu), points_at(images(11))
    verdicts = {measure(net, batches_of(net, points, size)) for size in (11, 4, 11)}
    assert {v.kind for v in verdicts} == {"kinked"}
    first, _, last = (measure(net, batches_of(net, points, size)) for size in (11, 4, 11))
    assert first == last


def test_gradients_that_are_no_slopes_do_not_come_so_far():
    with pytest.raises(InputError, match="not the slopes of its scores"):
        classifier(lambda x: torch.tanh(_StraightThrough.apply(x) * x))


@pytest.mark.parametrize("name", MISSING)
def test_wrong_second_derivatives_are_not_to_be_had(name: str) -> None:
    net, points = classifier(MISSING[name]), points_at(images(3))
    with pytest.raises(InputError, match="no second derivatives"):
        mean_hessian(net, points, hvp="exact")
    assert "no second derivatives" in mean_hessian(net, points).note


class Late(nn.Module):
    """Decides by values what it computes: a trace at dark images is none for bright ones."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net(torch.tanh)

    def forward(self, x: Tensor) -> Tensor:
        bright = x.detach().mean((1, 2, 3)) > 2
        scores: Tensor = self.net(x)
        return scores * (1 + bright[:, None] * scores)


def test_products_hold_at_points_where_the_network_is_another_one() -> None:
    torch.manual_seed(0)
    net = Classifier(Late(), SHAPE, bounds=(0.0, 4.0), dtype=torch.float64)
    x = images(4)
    x[2:] += 3
    operator = mean_hessian(net, points_at(x), hvp="exact", batch_size=2)
    assert worst(operator.dense(), by_double_backward(net, x)) < 1e-10


class Curved(nn.Module):
    """Linear to rounding but near an image, where its second score bends."""

    def __init__(self, centre: Tensor) -> None:
        super().__init__()
        self.net = Net(lambda x: x)
        self.register_buffer("centre", centre)

    def forward(self, x: Tensor) -> Tensor:
        near = torch.exp(-10 * (x - self.centre).square().flatten(1).sum(1))
        scores: Tensor = self.net(x)
        return scores + near[:, None] * torch.eye(3).to(x)[1]


def test_curvature_where_no_probe_looks_is_found_at_the_points() -> None:
    x = images(4)
    net = Classifier(Curved(x[:1]), SHAPE, dtype=torch.float64)
    assert net.is_piecewise_linear
    elsewhere = mean_hessian(net, points_at(1 - x[1:]))
    assert (elsewhere.kind, elsewhere.note) == ("finite-difference", "")
    with pytest.raises(InputError, match="piecewise linear"):
        mean_hessian(net, points_at(1 - x[1:]), hvp="exact")
    for hvp in ("auto", "exact"):
        operator = mean_hessian(net, points_at(x[:1]), hvp=hvp)
        assert (operator.kind, operator.note) == ("exact", "")
    assert mean_hessian(net, points_at(torch.cat([1 - x[1:], x[:1]]))).kind == "exact"
    # f = F_1 - F_0 holds exp(-10 ||x - c||^2).
    np.testing.assert_allclose(operator.dense(), -20 * np.eye(net.dimension), atol=1e-9)


class _Raises(Rectifier):
    """Its derivative has none, and says so in its own way."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            raise TypeError("not twice")
        (x,) = ctx.saved_tensors
        return gradient * (x > 0)


def test_a_piecewise_linear_network_needs_no_second_derivatives() -> None:
    operator = mean_hessian(classifier(_Raises.apply), points_at(images(3)))
    assert (operator.kind, operator.note) == ("finite-difference", "")
