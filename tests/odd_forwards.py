"""Forward passes that do odd things to numbers, gradients or their own state."""

from typing import Any

import torch
import torch.nn.functional as F
from odd_layers import small
from torch import Tensor, nn


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


def guided() -> nn.Module:
    net = small()
    net[2].register_full_backward_hook(lambda _m, gi, _go: (gi[0].clamp(min=0),))
    return net
