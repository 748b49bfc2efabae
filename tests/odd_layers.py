"""Layers as people dress and join them: hooks, parametrisations, shared weights, attention."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune


class Lambda(nn.Module):
    """A function of a body and its input as a forward pass; the body is a module."""

    def __init__(self, body: nn.Module, forward: Callable[[nn.Module, Tensor], Any]) -> None:
        super().__init__()
        self.body, self.function = body, forward

    def forward(self, x: Tensor) -> Any:
        return self.function(self.body, x)


def small(classes: int = 5, act: type[nn.Module] = nn.Tanh) -> nn.Sequential:
    """Conv-BN-act-conv-act-pool-linear with ordinary statistics."""
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        act(),
        nn.Conv2d(6, 8, 3, 2, 1),
        act(),
        nn.AdaptiveAvgPool2d(3),
        nn.Flatten(),
        nn.Linear(72, classes),
    )
    settle(net)
    return net


def settle(module: nn.Module) -> nn.Module:
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d) and m.running_mean is not None:
            m.running_mean.normal_(0, 0.3)
            m.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return module


def with_forward(forward: Callable[[nn.Module, Tensor], Any]) -> Callable[[], nn.Module]:
    return lambda: Lambda(small(), forward)


class View(nn.Module):
    """PyTorch's tutorial network: `view` behind two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 16, 3)
        self.f1, self.f2 = nn.Linear(16 * 2 * 2, 20), nn.Linear(20, 5)

    def features(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.c1(x)), 2)
        return F.max_pool2d(F.relu(self.c2(x)), 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return self.f2(F.relu(self.f1(x.view(x.size(0), -1))))


class Trades(nn.Module):
    """TRADES' MNIST network: named layers, then view(-1, ...)."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_extractor = nn.Sequential()
        for name, layer in (
            ("conv1", nn.Conv2d(1, 8, 3)),
            ("relu1", nn.ReLU(inplace=True)),
            ("conv2", nn.Conv2d(8, 8, 3)),
            ("relu2", nn.ReLU(inplace=True)),
            ("maxpool1", nn.MaxPool2d(2, 2)),
            ("conv3", nn.Conv2d(8, 16, 3)),
            ("relu3", nn.ReLU(inplace=True)),
            ("maxpool2", nn.MaxPool2d(2, 2)),
        ):
            self.feature_extractor.add_module(name, layer)
        self.classifier = nn.Sequential()
        self.classifier.add_module("fc1", nn.Linear(16 * 5 * 5, 20))
        self.classifier.add_module("relu1", nn.ReLU())
        self.classifier.add_module("drop", nn.Dropout())
        self.classifier.add_module("fc2", nn.Linear(20, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.feature_extractor(x).view(-1, 16 * 5 * 5))


class StandardisedConv(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.view(self.weight.size(0), -1)
        w = (flat - flat.mean(1, keepdim=True)) / (flat.std(1, keepdim=True) + 1e-5)
        return F.conv2d(x, w.view_as(self.weight), self.bias, self.stride, self.padding)


class Doubling(nn.Conv2d):
    """A subclass that folding must not take for its class."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class ClippedNorm(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).clamp(-0.1, 0.1)


def hooked(where: int, kind: str = "forward") -> Callable[[], nn.Module]:
    """A hook that is idle on noise, and acts on dark images."""

    def forward(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        return output * (1 + (output.flatten(1).mean(1) < -0.2).to(output)[:, None, None, None])

    def build() -> nn.Module:
        net = small()
        if kind == "forward":
            net[where].register_forward_hook(forward)
        elif kind == "pre":
            net[where].register_forward_pre_hook(lambda _m, i: (i[0] * 1.5,))
        return net

    return build


def hooked_block() -> nn.Module:
    net = small()
    block = nn.Sequential(net[0], net[1])
    block.register_forward_hook(lambda _m, _i, out: out.clamp(max=0.2))
    return nn.Sequential(block, *net[2:])


def instance_forward() -> nn.Module:
    net = small()
    norm = net[1]
    norm.forward = lambda x: nn.BatchNorm2d.forward(norm, x) * 1.138  # type: ignore[method-assign]
    return net


def weight_norm(old: bool) -> nn.Module:
    net = small()
    wrap = torch.nn.utils.weight_norm if old else parametrizations.weight_norm
    net[0], net[3], net[7] = wrap(net[0]), wrap(net[3]), wrap(net[7])
    return net


def spectral_norm(old: bool) -> nn.Module:
    net = small()
    wrap = torch.nn.utils.spectral_norm if old else parametrizations.spectral_norm
    net[0], net[7] = wrap(net[0]), wrap(net[7])
    net(torch.rand(2, 3, 12, 12))
    return net


class Symmetric(nn.Module):
    def forward(self, w: Tensor) -> Tensor:
        return (w + w.flip(-1)) / 2


def parametrised() -> nn.Module:
    net = small()
    parametrize.register_parametrization(net[0], "weight", Symmetric())
    return net


def pruned() -> nn.Module:
    net = small()
    prune.l1_unstructured(net[0], "weight", amount=0.5)
    prune.random_unstructured(net[7], "weight", amount=0.3)
    return net


class Tied(nn.Module):
    """One convolution twice, and its weight once more."""

    def __init__(self) -> None:
        super().__init__()
        self.inp, self.conv, self.norm = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, 1, 1), None
        self.norm = nn.BatchNorm2d(6)
        self.again = self.conv
        self.head = nn.Linear(6, 5)
        settle(self)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.norm(self.conv(self.inp(x))))
        y = torch.tanh(self.again(y)) + F.conv2d(y, self.conv.weight, padding=1)
        return self.head(y.mean((2, 3)))


class NamedTwice(nn.Module):
    """The same convolution and norm under two names, both called."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.n = nn.Conv2d(3, 3, 3, 1, 1), nn.BatchNorm2d(3)
        self.b, self.m = self.a, self.n
        self.head = nn.Linear(3, 5)
        settle(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.m(self.b(torch.tanh(self.n(self.a(x))))).mean((2, 3)))


class Patches(nn.Module):
    """A small vision transformer."""

    def __init__(self, own: bool) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 16, 4, 4)
        self.place = nn.Parameter(torch.randn(1, 9, 16) / 4)
        self.own = own
        self.attention: nn.Module
        if own:
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        else:
            layer = nn.TransformerEncoderLayer(16, 2, 32, 0.1, F.gelu, batch_first=True)
            self.attention = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        t = self.embed(x).flatten(2).transpose(1, 2) + self.place
        t = t + self.attention(t, t, t)[0] if self.own else self.attention(t)
        return self.head(t.mean(1))


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.cell = kind(36, 12, batch_first=True)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.permute(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1)
        return self.head(self.cell(rows)[0][:, -1])


class HiddenLayers(nn.Module):
    """Layers in a plain list: PyTorch does not know of them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = [nn.Flatten(), nn.Linear(432, 8), nn.Tanh(), nn.Linear(8, 5)]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyConv2d(6, 3), nn.Tanh(), nn.Flatten(), nn.LazyLinear(5))


def quantised() -> nn.Module:
    net = nn.Sequential(nn.Flatten(), nn.Linear(432, 8), nn.ReLU(), nn.Linear(8, 5))
    return torch.ao.quantization.quantize_dynamic(net, {nn.Linear}, dtype=torch.qint8)


def scripted() -> nn.Module:
    return torch.jit.script(small().eval())


def traced() -> nn.Module:
    return torch.jit.trace(small().eval(), torch.rand(2, 3, 12, 12))


def frozen_script() -> nn.Module:
    return torch.jit.freeze(torch.jit.script(small().eval()))


def compiled_part() -> nn.Module:
    net = small()
    net[3] = torch.compile(net[3])
    return net


def grouped() -> nn.Module:
    return settle(
        nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=2, dilation=2, groups=3),
            nn.BatchNorm2d(6),
            nn.Softplus(),
            nn.Conv2d(6, 6, 3, groups=6, padding="same", padding_mode="reflect"),
            nn.BatchNorm2d(6, affine=False),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(6 * 144, 5),
        )
    )


def norms() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.GroupNorm(2, 8),
        nn.GELU(),
        nn.InstanceNorm2d(8),
        nn.LayerNorm([8, 10, 10]),
        nn.Flatten(),
        nn.Linear(800, 5),
    )


def transposed() -> nn.Module:
    layers = [nn.Conv2d(3, 6, 3), nn.Tanh(), nn.ConvTranspose2d(6, 4, 3, 2), nn.BatchNorm2d(4)]
    return settle(nn.Sequential(*layers, nn.Tanh(), nn.Flatten(), nn.Linear(4 * 21 * 21, 5)))


def dead() -> nn.Module:
    net = small(act=nn.ReLU)
    nn.init.constant_(net[3].bias, -100.0)
    return net


def weights_as_buffers() -> nn.Module:
    net = small()
    weight = net[0].weight.detach().clone()
    del net[0]._parameters["weight"]
    net[0].register_buffer("weight", weight)
    return net
