"""Folded batch-norms give the same scores and gradients; what cannot be folded is left alone."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from geomadv.classifier import Classifier
from geomadv.classifier.folding import fold_batch_norm

SHAPE = (3, 8, 8)


def norms(module: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm2d) for m in module.modules())


def settled(module: nn.Module, seed: int = 0) -> nn.Module:
    """Float64, evaluation mode, random but ordinary batch-norm statistics and weights."""
    generator = torch.Generator().manual_seed(seed)
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d) and m.running_mean is not None:
            assert m.running_var is not None
            m.running_mean.normal_(generator=generator)
            m.running_var.uniform_(0.5, 2, generator=generator)
            if m.affine:
                nn.init.uniform_(m.weight, 0.5, 2, generator=generator)
                nn.init.normal_(m.bias, generator=generator)
    return module.double().eval().requires_grad_(False)


def head(channels: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5))


def images(n: int = 3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, *SHAPE, generator=generator, dtype=torch.float64)


class Block(nn.Module):
    """A residual block with a projected shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 6, 3, 1, 1, groups=2), nn.BatchNorm2d(6, affine=False)
        self.shortcut = nn.Sequential(nn.Conv2d(3, 6, 1, 2, bias=False), nn.BatchNorm2d(6))
        self.head = head(6)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        scores: Tensor = self.head(F.relu(self.bn2(self.conv2(y)) + self.shortcut(x)))
        return scores


class ConvUsedTwice(nn.Module):
    """One convolution whose two calls go through two norms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn1, self.bn2 = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.head = head(3)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.bn2(self.conv(torch.tanh(self.bn1(self.conv(x))))))
        return scores


class OutputReadTwice(ConvUsedTwice):
    """One output of a convolution read by two norms."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        scores: Tensor = self.head(self.bn1(y) * self.bn2(y))
        return scores


class NormUsedTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.bn = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
        self.head = head(4)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.bn(self.conv2(torch.tanh(self.bn(self.conv1(x))))))
        return scores


class FunctionalNorm(nn.Module):
    """F.batch_norm on one convolution, a module on the other."""

    average: Tensor
    variance: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.bn = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
        self.register_buffer("average", torch.rand(4))
        self.register_buffer("variance", torch.rand(4) + 0.5)
        self.head = head(4)

    def forward(self, x: Tensor) -> Tensor:
        y = F.batch_norm(self.conv1(x), self.average, self.variance)
        scores: Tensor = self.head(self.bn(self.conv2(torch.tanh(y))))
        return scores


class TiedWeight(nn.Module):
    """The convolution's weight is read a second time, past the norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.head = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), head(3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.bn(self.conv(x)))
        scores: Tensor = self.head(F.conv2d(y, self.conv.weight))
        return scores


class DependsOnValues(nn.Module):
    """Control flow that a symbolic trace cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), head(4))

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.body(x)
        return -scores if x.mean() > 2 else scores


class Hooked(nn.Module):
    """A hook on the norm, which folding removes, changes the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), head(4))
        self.body[1].register_forward_hook(lambda _module, _inputs, output: 2 * output)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.body(x)
        return scores


CASES: dict[str, tuple[type[nn.Module], int]] = {
    # How many norms stay.
    "residual block": (Block, 0),
    "convolution used twice": (ConvUsedTwice, 2),
    "output read twice": (OutputReadTwice, 2),
    "norm used twice": (NormUsedTwice, 1),
    "functional norm beside a module": (FunctionalNorm, 0),
    "tied weight": (TiedWeight, 0),
    "untraceable": (DependsOnValues, 1),
    "hook on the norm": (Hooked, 1),
}


@pytest.mark.parametrize("case", CASES)
def test_scores_and_gradients_survive_folding(case: str) -> None:
    torch.manual_seed(0)
    build, stay = CASES[case]
    module = settled(build())
    folded = fold_batch_norm(module)
    x, y = images(4, 1).requires_grad_(), images(4, 1).requires_grad_()
    # Float64 sums of at most 54 terms, three layers deep: 1e-12 leaves a factor of 100.
    torch.testing.assert_close(folded(x), module(y), rtol=1e-12, atol=1e-12)
    weights = torch.arange(20.0, dtype=torch.float64).reshape(4, 5)
    (g,) = torch.autograd.grad((folded(x) * weights).sum(), x)
    (expected,) = torch.autograd.grad((module(y) * weights).sum(), y)
    torch.testing.assert_close(g, expected, rtol=1e-12, atol=1e-12)
    assert norms(folded) == stay
    assert not folded.training
    assert not any(p.requires_grad for p in folded.parameters())


@pytest.mark.parametrize("case", CASES)
def test_folding_leaves_the_module_as_it_was(case: str) -> None:
    module = settled(CASES[case][0]())
    before = {k: v.clone() for k, v in module.state_dict().items()}
    count = norms(module)
    fold_batch_norm(module)
    after = module.state_dict()
    assert norms(module) == count
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_a_parametrised_convolution_keeps_its_scores() -> None:
    conv = parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
    module = settled(nn.Sequential(conv, nn.BatchNorm2d(4), head(4)))
    folded = fold_batch_norm(module)
    torch.testing.assert_close(folded(images(3, 1)), module(images(3, 1)), rtol=1e-12, atol=1e-12)


def test_without_foldable_norms_the_module_itself_comes_back() -> None:
    plain = settled(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), head(4)))
    batch = settled(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), head(4))
    )
    assert fold_batch_norm(plain) is plain
    assert fold_batch_norm(batch) is batch


def test_a_norm_before_its_convolution_stays() -> None:
    module = settled(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), head(4)))
    assert norms(fold_batch_norm(module)) == 1


@settings(deadline=None, max_examples=20)
@given(
    channels=st.integers(1, 4),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    padding=st.integers(0, 1),
    bias=st.booleans(),
    affine=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_any_convolution_with_any_statistics(
    channels: int, kernel: int, stride: int, padding: int, bias: bool, affine: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    conv = nn.Conv2d(3, channels, kernel, stride, padding, bias=bias)
    layers = nn.Sequential(conv, nn.BatchNorm2d(channels, affine=affine), head(channels))
    module = settled(layers, seed)
    folded = fold_batch_norm(module)
    assert norms(folded) == 0
    torch.testing.assert_close(folded(images()), module(images()), rtol=1e-12, atol=1e-12)


def test_the_classifier_evaluates_the_folded_network() -> None:
    torch.manual_seed(0)
    module = settled(Block()).float()
    net = Classifier(module, SHAPE, mean=0.4, std=0.2)
    x = images().float().requires_grad_()
    # Float32: sums of up to 54 terms through three layers, 1e-7 each relative to the largest.
    torch.testing.assert_close(net(x), module((x - 0.4) / 0.2), rtol=1e-5, atol=1e-5)
    double = net.to(dtype=torch.float64)
    torch.testing.assert_close(double(x).float(), net(x), rtol=1e-5, atol=1e-5)
    assert (torch.autograd.grad(net(x).sum(), x)[0] != 0).any()


def test_folding_does_not_show_in_the_checksum() -> None:
    # The checksum is of the network as given: whether it could be folded is an implementation
    # matter.
    torch.manual_seed(0)
    module = settled(Block())
    net = Classifier(module, SHAPE)
    assert norms(net.module) == norms(module) == 3
    assert net.weights_sha256 == Classifier(module, SHAPE).weights_sha256
