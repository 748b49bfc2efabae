"""Nothing is computed below float32: half weights, casts, autocast inside and around."""

import copy

import pytest
import torch
from odd_forwards import HalfBody, autocast
from odd_layers import Lambda, small
from odd_networks import built
from torch import Tensor, nn

from geomadv.classifier import Classifier
from geomadv.errors import InputError

SHAPE = (3, 12, 12)
HALVES = (torch.float16, torch.bfloat16)
EPS = torch.finfo(torch.float32).eps


def images(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=dtype)


def fixed(*args: object) -> nn.Sequential:
    torch.manual_seed(3)
    return small(*args).eval()  # type: ignore[arg-type]


def assert_exact(net: Classifier, reference: nn.Module) -> None:
    """Scores and gradients to float32 rounding of a float64 reference."""
    x = images().requires_grad_()
    y = images().double().requires_grad_()
    found, expected = net(x), reference.double()(y)
    assert found.dtype == net.dtype == torch.float32
    # Sums of some hundred terms of order 1 in three layers.
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=300 * EPS)
    (g,), (h,) = (
        torch.autograd.grad(found[:, 1].sum(), x),
        torch.autograd.grad(expected[:, 1].sum(), y),
    )
    torch.testing.assert_close(g.double(), h, rtol=0, atol=300 * EPS)


@pytest.mark.parametrize("dtype", HALVES)
def test_half_weights_keep_their_values(dtype: torch.dtype) -> None:
    module = fixed().to(dtype)
    net = Classifier(module, SHAPE)
    assert str(dtype) in net.note
    assert_exact(net, copy.deepcopy(module).float())
    values = dict(net.module.module.named_parameters())
    assert all(torch.equal(values[k], p.float()) for k, p in module.named_parameters())
    assert next(module.parameters()).dtype == dtype


@pytest.mark.parametrize("dtype", HALVES)
def test_a_half_type_asked_for_rounds_the_weights_only(dtype: torch.dtype) -> None:
    rounded = fixed().to(dtype).float()
    for net in (
        Classifier(fixed(), SHAPE, dtype=dtype),
        Classifier(fixed(), SHAPE).to(dtype=dtype),
    ):
        assert f"rounded to {dtype}" in net.note
        assert_exact(net, copy.deepcopy(rounded))


def test_normalisation_is_not_rounded_to_half() -> None:
    net = Classifier(fixed().half(), SHAPE, mean=0.1234567, std=0.7654321)
    assert net.module.mean.dtype == torch.float32
    inner = copy.deepcopy(fixed().half()).float()
    assert_exact(net, Lambda(inner, lambda body, x: body((x - 0.1234567) / 0.7654321)))


@pytest.mark.parametrize("dtype", HALVES)
def test_casts_between_half_and_float_parts_have_no_effect(dtype: torch.dtype) -> None:
    torch.manual_seed(3)
    module = HalfBody(dtype).eval()
    net = Classifier(module, SHAPE)
    exact = copy.deepcopy(module).double()
    assert_exact(net, Lambda(exact, lambda m, x: m.head(m.body(x))))  # type: ignore[operator]
    assert "casts" in net.note


@pytest.mark.parametrize(
    "forward",
    [
        autocast,
        lambda body, x: body(x.half().float()),
        lambda body, x: body(x.to(torch.bfloat16).to(torch.float32)),
        lambda body, x: body(x.to(x.new_zeros(1, dtype=torch.float16)).float()),
        lambda body, x: body(x).bfloat16(),
        lambda body, x: torch.autocast("cpu", torch.bfloat16)(body)(x),
        lambda body, x: body(x + torch.zeros(1, 3, 12, 12, dtype=torch.float16)),
        lambda body, x: body(x.type(torch.float16).type_as(x)),
    ],
    ids=["autocast", "half", "to", "to other", "scores", "decorated", "zeros", "type"],
)
def test_casts_and_autocast_inside_have_no_effect(forward) -> None:  # type: ignore[no-untyped-def]
    net = Classifier(Lambda(fixed(), forward), SHAPE)
    assert_exact(net, fixed())


def test_autocast_around_a_call_has_no_effect() -> None:
    net = Classifier(fixed(), SHAPE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert net(images()).dtype == torch.float32
        made = Classifier(fixed(), SHAPE)
        inside = made(images())
    assert made.note == ""
    torch.testing.assert_close(inside, net(images()))


def test_autocast_in_a_scripted_part_is_refused_with_its_reason() -> None:
    class Scripted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(432, 5)

        def forward(self, x: Tensor) -> Tensor:
            y = x.flatten(1).to(torch.bfloat16).to(torch.float32)
            scores: Tensor = self.layer(y)
            return scores

    with pytest.raises(InputError, match=r"bfloat16 inside.*without half precision"):
        Classifier(torch.jit.script(Scripted()), SHAPE)


def test_double_scores_and_heads_follow_the_network() -> None:
    for name in ("double scores", "double head"):
        net = Classifier(built(name), SHAPE)
        x = images().requires_grad_()
        scores = net(x)
        assert scores.dtype == net.dtype == torch.float32
        torch.testing.assert_close(scores, built(name)(images()).float())
        assert torch.autograd.grad(scores.sum(), x)[0].any()


def test_a_double_copy_of_a_network_with_casts_is_double() -> None:
    module = Lambda(fixed(), lambda body, x: body(x.float()))
    double = Classifier(module, SHAPE).to(dtype=torch.float64)
    x = images(torch.float64)
    torch.testing.assert_close(double(x), fixed().double()(x), rtol=0, atol=1e-12)


def test_masks_in_float32_leave_a_double_network_double() -> None:
    module = Lambda(fixed(), lambda body, x: body(x * (x > 0.3).float()))
    double = Classifier(module, SHAPE, dtype=torch.float64)
    x = images(torch.float64)
    torch.testing.assert_close(double(x), fixed().double()(x * (x > 0.3)), rtol=0, atol=1e-12)


def test_curvature_of_an_autocast_network_equals_the_plain_one() -> None:
    plain, cast = Classifier(fixed(), SHAPE), Classifier(Lambda(fixed(), autocast), SHAPE)
    v = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(1))

    def product(net: Classifier) -> Tensor:
        x = images()[:1].requires_grad_()
        (g,) = torch.autograd.grad(net.scores(x)[:, 1].sum(), x, create_graph=True)
        return torch.autograd.grad((g * v).sum(), x)[0]

    expected = product(plain)
    torch.testing.assert_close(product(cast), expected, rtol=0, atol=1e-4 * expected.abs().max())
    assert not cast.is_piecewise_linear
