"""The fast image gradient of a first convolution: first and second order, both modes."""

import copy

import pytest
import torch
from torch import Tensor, nn

from geomadv import Classifier
from geomadv.classifier.image_conv import ImageConv2d, use_image_convolutions

CASES = [
    (1, 5, 1, 0),
    (3, 4, 2, 1),
    (3, (3, 2), (1, 2), (2, 0)),
    (2, 1, 3, 0),
]


def pair(channels, kernel, stride, padding):
    """The same two-layer network with the usual and with the fast first convolution."""
    torch.manual_seed(0)
    first = nn.Conv2d(channels, 7, kernel, stride=stride, padding=padding)
    plain = nn.Sequential(nn.Sequential(first), nn.Softplus()).double().requires_grad_(False)
    fast = copy.deepcopy(plain)
    use_image_convolutions(fast)
    assert isinstance(fast[0][0], ImageConv2d)
    x = torch.randn(3, channels, 11, 12, dtype=torch.float64)
    return plain, fast, x


def gradient(net: nn.Module, x: Tensor, **options: bool) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(net(x).pow(2).sum(), x, **options)
    return x, g


@pytest.mark.parametrize("case", CASES)
def test_gradient_and_double_backward_equal_torch(case):
    plain, fast, x = pair(*case)
    (a, ga), (b, gb) = (gradient(net, x, create_graph=True) for net in (plain, fast))
    torch.testing.assert_close(gb, ga)  # float64 defaults: 1e-7, sums of a few hundred terms
    v = torch.randn_like(x)
    (ha,), (hb,) = torch.autograd.grad((ga * v).sum(), a), torch.autograd.grad((gb * v).sum(), b)
    torch.testing.assert_close(hb, ha)
    assert ha.norm() > 0


@pytest.mark.parametrize("case", CASES)
def test_forward_mode_and_vmap_equal_torch(case):
    plain, fast, x = pair(*case)
    v = torch.randn(2, *x.shape, dtype=x.dtype)

    def hessian_product(net: nn.Module, direction: Tensor) -> Tensor:
        inner = torch.func.grad(lambda y: net(y).pow(2).sum())
        return torch.func.jvp(inner, (x,), (direction,))[1]

    expected = torch.stack([hessian_product(plain, d) for d in v])
    got = torch.func.vmap(lambda d: hessian_product(fast, d))(v)
    torch.testing.assert_close(got, expected)


def test_only_suitable_frozen_convolutions_are_replaced():
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.Conv2d(4, 8, 3, padding="same"),
        nn.Conv2d(8, 8, 3),
        nn.Conv2d(2, 4, 3, groups=2),
        nn.Conv2d(1, 4, 3, dilation=2),
        nn.Conv2d(1, 4, 3, padding=1, padding_mode="reflect"),
    ).requires_grad_(False)
    use_image_convolutions(net)
    assert [type(m) is ImageConv2d for m in net] == [True, False, False, False, False, False]
    trainable = nn.Sequential(nn.Conv2d(1, 4, 3))
    use_image_convolutions(trainable)
    assert type(trainable[0]) is nn.Conv2d


def test_the_users_module_keeps_its_convolutions():
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 6 * 6, 3))
    net = Classifier(module, (1, 8, 8))
    assert type(module[0]) is nn.Conv2d
    assert not any(isinstance(m, ImageConv2d) for m in net.module.modules())
    x = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(net(x), module(x))
