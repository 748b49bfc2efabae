"""Where a network is not smooth, and a smooth stand-in for it.

Piecewise-linear networks (ReLU, max-pooling) have an exact Hessian that is zero almost everywhere,
so second-order geometry needs to know (definitions, "Second order"). Functional calls such as
`F.relu` leave no trace among a network's modules; both the search for kinks and the smooth
version therefore work on the calls that a forward pass makes.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Smooth = Callable[..., Tensor]


def _softplus(x: Tensor, beta: float) -> Tensor:
    """Smooth max(x, 0) = log(1 + exp(beta x)) / beta.

    Above beta x = 40 what F.softplus leaves out, exp(-40) = 4e-18, is below float64 rounding; at
    its default of 20 the network would keep a kink that float64 can see.
    """
    return F.softplus(x, beta, threshold=40)


def _relu(beta: float, x: Tensor, *_: Any, **__: Any) -> Tensor:
    return _softplus(x, beta)


def _relu6(beta: float, x: Tensor, *_: Any, **__: Any) -> Tensor:
    return _softplus(x, beta) - _softplus(x - 6, beta)


def _leaky_relu(beta: float, x: Tensor, negative_slope: float = 0.01, *_: Any, **__: Any) -> Tensor:
    return negative_slope * x + (1 - negative_slope) * _softplus(x, beta)


def _prelu(beta: float, x: Tensor, weight: Tensor) -> Tensor:
    slope = weight.reshape(-1, *[1] * (x.ndim - 2)) if weight.numel() > 1 else weight
    return slope * x + (1 - slope) * _softplus(x, beta)


def _clamp(beta: float, x: Tensor, min: Any = None, max: Any = None) -> Tensor:
    if min is not None:
        x = min + _softplus(x - min, beta)
    if max is not None:
        x = max - _softplus(max - x, beta)
    return x


def _clamp_max(beta: float, x: Tensor, max: Any) -> Tensor:
    return _clamp(beta, x, max=max)


def _hardtanh(
    beta: float, x: Tensor, min_val: float = -1.0, max_val: float = 1.0, *_: Any, **__: Any
) -> Tensor:
    return _clamp(beta, x, min_val, max_val)


def _pair(value: Any) -> tuple[int, int]:
    first, *rest = value if isinstance(value, Iterable) else (value,)
    return int(first), int(rest[0] if rest else first)


def _windows(length: int, kernel: int, step: int, pad: int, dilation: int, ceil: bool) -> int:
    """Number of pooling windows along one side, as in `torch.nn.MaxPool2d`."""
    room = length + 2 * pad - dilation * (kernel - 1) - 1
    if not ceil:
        return room // step + 1
    count = -(-room // step) + 1
    # A window must start inside the image or its left padding.
    return count - 1 if (count - 1) * step >= length + pad else count


def _max_pool2d(
    beta: float,
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    *_: Any,
    **__: Any,
) -> Tensor:
    """Smooth maximum log(sum exp(beta x)) / beta over each window, the same family as softplus."""
    kernel, pad, dil = _pair(kernel_size), _pair(padding), _pair(dilation)
    step = kernel if stride is None or stride == [] else _pair(stride)
    sides = list(zip(x.shape[-2:], kernel, step, pad, dil, strict=True))
    size = [_windows(*side, ceil=ceil_mode) for side in sides]
    after = [
        max((count - 1) * s + d * (k - 1) + 1 - length - p, 0)
        for count, (length, k, s, p, d) in zip(size, sides, strict=True)
    ]
    # Finite even after the product with beta: infinities have no derivative under logsumexp.
    lowest = torch.finfo(x.dtype).min / (2 * max(beta, 1))
    x = F.pad(x, (pad[1], after[1], pad[0], after[0]), value=lowest)
    windows = F.unfold(x, kernel, dilation=dil, stride=step)
    windows = windows.reshape(*x.shape[:2], kernel[0] * kernel[1], *size)
    return torch.logsumexp(beta * windows, dim=2) / beta


def _table(entries: Iterable[tuple[tuple[Any, ...], Smooth]]) -> dict[Any, Smooth]:
    return {call: smooth for calls, smooth in entries for call in calls}


_SMOOTH: dict[Any, Smooth] = _table(
    [
        ((F.relu, torch.relu, torch.relu_, torch.Tensor.relu, torch.Tensor.relu_), _relu),
        ((F.relu6,), _relu6),
        ((F.leaky_relu, F.leaky_relu_), _leaky_relu),
        ((F.prelu, torch.prelu, torch.Tensor.prelu), _prelu),
        ((F.hardtanh, F.hardtanh_), _hardtanh),
        ((torch.clamp, torch.Tensor.clamp, torch.clip, torch.Tensor.clip), _clamp),
        ((torch.clamp_, torch.Tensor.clamp_, torch.clip_, torch.Tensor.clip_), _clamp),
        ((torch.clamp_min, torch.Tensor.clamp_min), _clamp),
        ((torch.clamp_min_, torch.Tensor.clamp_min_), _clamp),
        ((torch.clamp_max, torch.Tensor.clamp_max), _clamp_max),
        ((torch.clamp_max_, torch.Tensor.clamp_max_), _clamp_max),
        ((F.max_pool2d, torch.max_pool2d), _max_pool2d),
    ]
)

_UNSMOOTHABLE = {
    F.max_pool1d,
    F.max_pool3d,
    F.max_pool1d_with_indices,
    F.max_pool2d_with_indices,
    F.max_pool3d_with_indices,
    F.adaptive_max_pool1d,
    F.adaptive_max_pool2d,
    F.adaptive_max_pool3d,
    F.fractional_max_pool2d,
    F.threshold,
    F.hardswish,
    F.hardsigmoid,
    F.softshrink,
    F.hardshrink,
    F.rrelu,
    torch.abs,
    torch.Tensor.abs,
    torch.max,
    torch.Tensor.max,
    torch.min,
    torch.Tensor.min,
    torch.amax,
    torch.Tensor.amax,
    torch.amin,
    torch.Tensor.amin,
    torch.maximum,
    torch.Tensor.maximum,
    torch.minimum,
    torch.Tensor.minimum,
    torch.sort,
    torch.Tensor.sort,
    torch.topk,
    torch.Tensor.topk,
}


class _KinkRecorder(TorchFunctionMode):
    """Notes the names of the non-smooth functions that a forward pass calls."""

    def __init__(self) -> None:
        super().__init__()
        self.smoothable: set[str] = set()
        self.other: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _SMOOTH:
            self.smoothable.add(func.__name__.strip("_"))
        elif func in _UNSMOOTHABLE:
            self.other.add(func.__name__.strip("_"))
        return func(*args, **(kwargs or {}))


class SmoothActivations(TorchFunctionMode):
    """Inside this context ReLU-like calls are softplus(beta) and max-pooling is log-sum-exp.

    As beta grows the smooth functions approach the original ones uniformly: softplus(beta) is at
    most log(2)/beta above ReLU, the pooled maximum of k values at most log(k)/beta.
    """

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        smooth = _SMOOTH.get(func)
        if smooth is None:
            return func(*args, **kwargs)
        x, *rest = args if args else (kwargs.pop("input"),)
        if not (func.__name__.endswith("_") or kwargs.get("inplace")):
            return smooth(self.beta, x, *rest, **kwargs)
        # Who reads x afterwards must find the new values there, as with the original call.
        return x.copy_(smooth(self.beta, x.clone(), *rest, **kwargs))


def kinks(module: nn.Module, x: Tensor) -> tuple[list[str], list[str]]:
    """Names of the non-smooth functions called on x: (those with a smooth form here, others)."""
    with torch.no_grad(), _KinkRecorder() as recorder:
        module(x)
    return sorted(recorder.smoothable), sorted(recorder.other)


# In float64 a piecewise-constant gradient repeats to rounding (about 1e-16); a smooth network's
# changes by step * curvature / slope, 1e-7 for ordinary networks. The threshold lies between. The
# step is so small that even networks of millions of ReLUs rarely cross a kink in it.
_STEP, _SAME = 1e-7, 1e-13


def gradient_is_piecewise_constant(
    scores: Callable[[Tensor], Tensor], x: Tensor, seed: int = 0, probes: int = 5
) -> bool:
    """Whether the gradient of a random score combination stays the same under tiny steps.

    scores: x (1, C, H, W) float64 -> (1, classes); the step is relative to the largest |x|.
    True means piecewise linear: the gradient repeats to rounding at most probes. Most, not all,
    because a step may cross a kink of a piecewise-linear network; most, not one, because a smooth
    network may be flat to rounding somewhere, where its sigmoids saturate.

    Raises:
        RuntimeError: the scores are not float64, so their gradient cannot tell.
    """
    generator = torch.Generator(device="cpu").manual_seed(seed)
    step = _STEP * x.abs().amax()

    def gradient(at: Tensor, weights: Tensor) -> Tensor:
        at = at.detach().requires_grad_()
        with torch.enable_grad():
            (g,) = torch.autograd.grad((scores(at) * weights).sum(), at)
        return g

    def change() -> float:
        point = x * torch.rand(1, generator=generator, dtype=x.dtype).to(x.device)
        direction = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
        weights = torch.randn(1, classes, generator=generator, dtype=x.dtype).to(x.device)
        before = gradient(point, weights)
        after = gradient(point + step * direction / direction.norm(), weights)
        scale = before.norm().clamp_min(torch.finfo(x.dtype).tiny)
        return float((after - before).norm() / scale)

    with torch.no_grad():
        first = scores(x)
    if first.dtype != torch.float64:
        raise RuntimeError(f"scores are {first.dtype}, expected float64")
    classes = first.shape[1]
    repeats = sum(change() < _SAME for _ in range(probes))
    return repeats > probes // 2
