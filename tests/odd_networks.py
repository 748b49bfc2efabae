"""Networks as people write them, with what is right for each: a table that several tests walk.

Every entry builds a small module anew. `expected` is "works", or a word of the `InputError` that
refuses it; `note` is a word of `Classifier.note` where the network is adapted. `same` says that
scores and gradients equal those of the module itself, called with gradients in its own dtype.
"""

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from published_cifar import Shape
from published_networks import PUBLISHED
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from geomadv import Classifier


@dataclass(frozen=True)
class Odd:
    build: Callable[[], nn.Module]
    shape: Shape = (3, 12, 12)
    bounds: tuple[float, float] = (0.0, 1.0)
    expected: str = "works"
    note: str = ""
    same: bool = True
    options: dict[str, Any] = field(default_factory=dict)  # of Classifier


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


class Masked(nn.Module):
    def __init__(self, value: float, offset: float = 0.0, noise: float = 0.0) -> None:
        super().__init__()
        self.body, self.value, self.offset, self.noise = small(8), value, offset, noise

    def forward(self, x: Tensor) -> Tensor:
        s = self.body(x).clone() + self.offset
        if self.noise:
            s = s + self.noise * torch.randn_like(s)
        s[:, 4:] = self.value
        return s


class Kept(nn.Module):
    """Keeps its features, with their history."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = small(9), nn.Linear(9, 5)
        self.features: Any = None
        self(torch.rand(2, 3, 12, 12))

    def forward(self, x: Tensor) -> Tensor:
        self.features = {"last": [self.body(x)]}
        return self.head(self.features["last"][0])


class Counting(nn.Module):
    """A counter among the buffers does no harm; a running mean that moves does."""

    def __init__(self, moving: bool) -> None:
        super().__init__()
        self.body, self.moving = small(), moving
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("average", torch.zeros(5))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        s = self.body(x)
        if self.moving:
            self.average = 0.9 * self.average + 0.1 * s.detach().mean(0)
        return s - 1e-9 * self.average


class FunctionalNorm(nn.Module):
    def __init__(self, keep: bool) -> None:
        super().__init__()
        self.body, self.keep = small(), keep
        self.register_buffer("m", torch.zeros(3))
        self.register_buffer("v", torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        m, v = (self.m, self.v) if self.keep else (None, None)
        return self.body(F.batch_norm(x, m, v, training=True))


class HalfBody(nn.Module):
    """Half layers with casts around them, and a float32 head."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.body, self.head, self.low = small(9).to(dtype), nn.Linear(9, 5), dtype

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x.to(self.low)).float())


class DoubleHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = small(9), nn.Linear(9, 5).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).double())


def autocast(body: nn.Module, x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return body(x)


@torch.no_grad()
def without_gradient(body: nn.Module, x: Tensor) -> Tensor:
    return body(x)


def inference(body: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return body(x)


def class_detached(body: nn.Module, x: Tensor) -> Tensor:
    s = body(x)
    return torch.cat([s[:, :3], s[:, 3:].detach()], 1)


def branch_detached(body: nn.Module, x: Tensor) -> Tensor:
    return body(x) + 2 * body(x.detach() * 0.5)


def branch_no_grad(body: nn.Module, x: Tensor) -> Tensor:
    s = body(x)
    with torch.no_grad():
        t = body(x.flip(-1))
    return s + 2 * t


class Twisted(torch.autograd.Function):
    """A backward pass of another function."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *g: Tensor) -> Tensor:  # type: ignore[override]
        return -3 * g[0]


class NoBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()


def through_numpy(body: nn.Module, x: Tensor) -> Tensor:
    return torch.from_numpy(body(x).detach().numpy() * 2)


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


def strided_view(body: nn.Module, x: Tensor) -> Tensor:
    y = body[0](x)  # type: ignore[index]
    n, c, h, w = y.shape
    return y.as_strided((n, 5), (c * h * w, 7)) + y.as_strided((n, 5), (c * h * w, 11)).tanh()


def raw_order(body: nn.Module, x: Tensor) -> Tensor:
    """Reads numbers in the order of memory, which channels-last changes without an error."""
    y = body[0](x)  # type: ignore[index]
    flat = y.as_strided((len(y), y[0].numel()), (y[0].numel(), 1))
    return torch.tanh(flat[:, :5] + 3 * flat[:, 40:45])


def squeezed_inside(body: nn.Module, x: Tensor) -> Tensor:
    features = F.adaptive_avg_pool2d(body[0](x), 1).squeeze()  # type: ignore[index]
    return torch.cat([features, features.tanh()], dim=1)


def uint8_inside(body: nn.Module, x: Tensor) -> Tensor:
    return body((255 * x).to(torch.uint8).float() / 255)


def batch_mean(body: nn.Module, x: Tensor) -> Tensor:
    s = body(x)
    return s + 0.05 * s.mean(0)


def in_place(body: nn.Module, x: Tensor) -> Tensor:
    x.sub_(0.5).div_(0.25)
    return body(x)


def standardised(body: nn.Module, x: Tensor) -> Tensor:
    m, s = x.mean((1, 2, 3), keepdim=True), x.std((1, 2, 3), keepdim=True)
    return body((x - m) / s)


def grad_dependent(body: nn.Module, x: Tensor) -> Tensor:
    return body(x) * (2.0 if torch.is_grad_enabled() else 1.0)


def with_lock() -> nn.Module:
    import threading

    net = small()
    net.lock = threading.Lock()  # type: ignore[assignment]
    return net


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


def guided() -> nn.Module:
    net = small()
    net[2].register_full_backward_hook(lambda _m, gi, _go: (gi[0].clamp(min=0),))
    return net


@contextlib.contextmanager
def quiet() -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


WORKS = {
    "tutorial view": Odd(View, (3, 20, 20), note="channels-last"),
    "trades": Odd(Trades, (1, 28, 28), note="channels-last"),
    "plain": Odd(small),
    "relu": Odd(lambda: small(act=nn.ReLU)),
    "weight-standardised": Odd(
        lambda: nn.Sequential(
            StandardisedConv(3, 6, 3), nn.BatchNorm2d(6), nn.Tanh(), nn.Flatten(), nn.Linear(600, 5)
        ),
    ),
    "convolution subclass": Odd(
        lambda: nn.Sequential(Doubling(3, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(600, 5))
    ),
    "norm subclass": Odd(
        lambda: nn.Sequential(nn.Conv2d(3, 6, 3), ClippedNorm(6), nn.Flatten(), nn.Linear(600, 5))
    ),
    "hook on norm": Odd(hooked(1)),
    "hook on convolution": Odd(hooked(0)),
    "pre-hook on norm": Odd(hooked(1, "pre")),
    "pre-hook on convolution": Odd(hooked(0, "pre")),
    "hook on block": Odd(hooked_block),
    "forward of an instance": Odd(instance_forward),
    "old weight norm": Odd(lambda: weight_norm(old=True)),
    "weight norm": Odd(lambda: weight_norm(old=False)),
    "old spectral norm": Odd(lambda: spectral_norm(old=True)),
    "spectral norm": Odd(lambda: spectral_norm(old=False)),
    "parametrisation": Odd(parametrised),
    "pruned": Odd(pruned),
    "tied": Odd(Tied),
    "named twice": Odd(NamedTwice),
    "attention": Odd(lambda: Patches(own=True)),
    "encoder layers": Odd(lambda: Patches(own=False)),
    "gru": Odd(lambda: Recurrent(nn.GRU), (3, 4, 12)),
    "lstm": Odd(lambda: Recurrent(nn.LSTM), (3, 4, 12)),
    "layers in a list": Odd(HiddenLayers),
    "grouped, dilated": Odd(grouped),
    "group and layer norm": Odd(norms),
    "transposed convolution": Odd(transposed),
    "as_strided": Odd(with_forward(strided_view), note="channels-last"),
    "order of memory": Odd(with_forward(raw_order), note="channels-last"),
    "in place on the input": Odd(with_forward(in_place)),
    "standardised images": Odd(with_forward(standardised)),
    "masked": Odd(lambda: Masked(-1e9)),
    "masked, offset": Odd(lambda: Masked(-1e4, 1e4)),
    "cut classes": Odd(with_forward(lambda body, x: body(x)[:, :3])),
    "scaled classes": Odd(
        with_forward(lambda body, x: body(x) * 10.0 ** torch.arange(-3, 2).to(x))
    ),
    "tiny scores": Odd(with_forward(lambda body, x: 1e-20 * body(x))),
    "large scores": Odd(with_forward(lambda body, x: 1e20 * body(x))),
    "thousand classes": Odd(lambda: small(1000)),
    "two classes": Odd(lambda: small(2)),
    "not square": Odd(small, (3, 9, 20)),
    "bounds 0..255": Odd(with_forward(lambda body, x: body(x / 255)), bounds=(0.0, 255.0)),
    "bounds -1..1": Odd(small, bounds=(-1.0, 1.0)),
    "one channel": Odd(
        lambda: settle(
            nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(400, 5))
        ),
        (1, 12, 12),
    ),
    "kept features": Odd(Kept),
    "counter": Odd(lambda: Counting(moving=False)),
    "data parallel": Odd(lambda: nn.DataParallel(small())),
    "compiled": Odd(lambda: torch.compile(small()), same=False),
    "compiled part": Odd(compiled_part, note="uncompiled", same=False),
    "scripted": Odd(scripted),
    "traced": Odd(traced),
    "frozen script": Odd(frozen_script),
    "dead": Odd(dead),
    "weights as buffers": Odd(weights_as_buffers),
    "permuted": Odd(
        with_forward(lambda body, x: body(x.permute(0, 2, 3, 1).flip(1).permute(0, 3, 1, 2)))
    ),
    "checkpointed": Odd(
        with_forward(
            lambda body, x: torch.utils.checkpoint.checkpoint(body, x, use_reentrant=False)
        )
    ),
    "mean of passes": Odd(with_forward(lambda body, x: (body(x) + body(x.flip(-1))) / 2)),
    "comparison masks": Odd(with_forward(lambda body, x: body(x * (x > 0.5).float()))),
    "double": Odd(lambda: small().double()),
    "double scores": Odd(with_forward(lambda body, x: body(x).double()), same=False),
    "double head": Odd(DoubleHead, same=False),
    "half": Odd(lambda: small().half(), note="float16", same=False),
    "bfloat16": Odd(lambda: small().bfloat16(), note="bfloat16", same=False),
    "half body": Odd(lambda: HalfBody(torch.float16), note="float16", same=False),
    "bfloat16 body": Odd(lambda: HalfBody(torch.bfloat16), note="bfloat16", same=False),
    "autocast": Odd(with_forward(autocast), note="autocast", same=False),
    "half and back": Odd(
        with_forward(lambda body, x: body(x.half().float())), note="casts", same=False
    ),
    "half scores": Odd(with_forward(lambda body, x: body(x).half()), note="casts", same=False),
    "half by name": Odd(
        with_forward(lambda body, x: body(x.type("torch.HalfTensor").type("torch.FloatTensor"))),
        note="casts",
        same=False,
    ),
    "squeezed scores": Odd(with_forward(lambda body, x: body(x).squeeze()), note="alone"),
    "squeezed inside": Odd(with_forward(squeezed_inside), note="alone"),
    "lazy": Odd(lazy, note="lazy", same=False),
    **{name: Odd(**entry) for name, entry in PUBLISHED.items()},
}

REFUSED = {
    "no_grad": Odd(with_forward(without_gradient), expected="no_grad"),
    "inference_mode": Odd(with_forward(inference), expected="inference_mode"),
    "detached": Odd(with_forward(lambda body, x: body(x.detach())), expected="detach"),
    "data": Odd(with_forward(lambda body, x: body(x.data)), expected="data"),
    "numpy": Odd(with_forward(through_numpy), expected="detach"),
    "numpy without detach": Odd(
        with_forward(lambda body, x: torch.from_numpy(body(x).numpy())), expected="numpy"
    ),
    "list": Odd(with_forward(lambda body, x: torch.tensor(body(x).tolist())), expected="tolist"),
    "uint8 inside": Odd(with_forward(uint8_inside), expected="whole numbers"),
    "one-hot": Odd(
        with_forward(lambda body, x: F.one_hot(body(x).argmax(1), 5).float() * 3),
        expected="whole numbers",
    ),
    "rounded": Odd(with_forward(lambda body, x: (body(x) * 100).round()), expected="steps"),
    "quantised": Odd(quantised, expected="quantised"),
    "class detached": Odd(with_forward(class_detached), expected="class 3"),
    "branch detached": Odd(with_forward(branch_detached), expected="detach"),
    "branch without gradient": Odd(with_forward(branch_no_grad), expected="no_grad"),
    "other backward": Odd(with_forward(lambda body, x: body(Twisted.apply(x))), expected="slopes"),
    "no backward": Odd(
        with_forward(lambda body, x: body(NoBackward.apply(x))), expected="without a gradient"
    ),
    "gradient mode": Odd(with_forward(grad_dependent), expected="gradient mode"),
    "guided backward": Odd(guided, expected="hooks on gradients"),
    "constant scores": Odd(
        with_forward(lambda body, x: body[7].bias.expand(len(x), 5)),  # type: ignore[index]
        expected="do not depend on the image",
    ),
    "noise, masked": Odd(lambda: Masked(-1e9, noise=1e-3), expected="not deterministic"),
    "noise, offset": Odd(lambda: Masked(0, 1e4, noise=1e-1), expected="not deterministic"),
    "dropout": Odd(
        with_forward(lambda body, x: body(F.dropout(x, 0.01, training=True))),
        expected="not deterministic",
    ),
    "batch mean": Odd(with_forward(batch_mean), expected="mixes the images"),
    "batch mean, masked": Odd(
        with_forward(lambda b, x: F.pad(batch_mean(b, x), (0, 5), value=-1e9)),
        expected="mixes the images",
    ),
    "training norm": Odd(lambda: FunctionalNorm(keep=False), expected="mixes the images"),
    "training norm with statistics": Odd(lambda: FunctionalNorm(keep=True), expected="changes m"),
    "norm without statistics": Odd(
        lambda: nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), small()),
        expected="batch-norm without running statistics",
    ),
    "moving average": Odd(lambda: Counting(moving=True), expected="changes average"),
    "a lock": Odd(with_lock, expected="cannot be copied"),
    "softmax": Odd(with_forward(lambda body, x: body(x).softmax(1)), expected="probabilities"),
    "half softmax": Odd(
        lambda: nn.Sequential(small(), nn.Softmax(1)).half(), expected="probabilities"
    ),
}

ODD: dict[str, Odd] = {**WORKS, **REFUSED}


def built(name: str) -> nn.Module:
    """The module of an entry, in evaluation mode: always the same numbers."""
    torch.manual_seed(7)
    with quiet():
        return ODD[name].build().eval()


@functools.cache
def classifier(name: str) -> Classifier:
    odd = ODD[name]
    return Classifier(built(name), odd.shape, bounds=odd.bounds, name=name, **odd.options)


def original(name: str) -> Callable[[Tensor], Tensor]:
    """Images to scores, by the module alone."""
    module, options = built(name), ODD[name].options

    def scores(x: Tensor) -> Tensor:
        mean, std = (
            torch.tensor(options.get(k, d)).view(-1, 1, 1) for k, d in (("mean", 0.0), ("std", 1.0))
        )
        found = module((x - mean.to(x)) / std.to(x)) if "mean" in options else module(x)
        return found[options["output"]] if "output" in options else found

    return scores
