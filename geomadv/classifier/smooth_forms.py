"""Smooth stand-ins for non-smooth calls: softplus for kinks, log-sum-exp for maxima.

Functional calls such as `F.relu` leave no trace among a network's modules, so the stand-ins take
the place of the calls that a forward pass makes. As beta grows they approach the originals
uniformly: softplus(beta) is at most log(2)/beta above ReLU, the maximum of k values log(k)/beta.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# (beta, the call's arguments) -> what the call returns; None where there is no smooth form.
Smooth = Callable[..., Any]


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


# A bound so close above 0, or below 1, keeps numbers off a division by 0 or the logarithm of 0.
_GUARD = 1e-2


def _guards(bound: Any, beta: float) -> bool:
    """Whether a bound only guards: variances and norms are far below what a softplus smooths.

    Not at a beta of 1, at which a network is asked whether calls without a smooth form bend it.
    """
    near = isinstance(bound, int | float) and (0 < bound <= _GUARD or 1 - _GUARD <= bound < 1)
    return near and beta > 1


def _clamp(beta: float, x: Tensor, min: Any = None, max: Any = None) -> Tensor:
    if min is not None:
        x = x.clamp(min=min) if _guards(min, beta) else min + _softplus(x - min, beta)
    if max is not None:
        x = x.clamp(max=max) if _guards(max, beta) else max - _softplus(max - x, beta)
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


def _elu(
    beta: float, x: Tensor, alpha: float = 1.0, *_: Any, scale: float = 1.0, **__: Any
) -> Tensor:
    """As alpha ELU(1) + (1 - alpha) ReLU: the slope of ELU(1) is continuous."""
    return scale * (alpha * F.elu(x) + (1 - alpha) * _softplus(x, beta))


# Klambauer et al., "Self-normalizing neural networks" (2017); digits as in PyTorch.
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


def _selu(beta: float, x: Tensor, *_: Any, **__: Any) -> Tensor:
    return _elu(beta, x, _SELU_ALPHA, scale=_SELU_SCALE)


def _rrelu(
    beta: float, x: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, *_: Any, **__: Any
) -> Tensor:
    """In evaluation mode the slope is the mean of the bounds."""
    return _leaky_relu(beta, x, (lower + upper) / 2)


def _threshold(
    beta: float, x: Tensor, threshold: float, value: float, *_: Any, **__: Any
) -> Tensor | None:
    return threshold + _softplus(x - threshold, beta) if value == threshold else None


def _hardsigmoid(beta: float, x: Tensor, *_: Any, **__: Any) -> Tensor:
    return _relu6(beta, x + 3) / 6


def _hardswish(beta: float, x: Tensor, *_: Any, **__: Any) -> Tensor:
    return x * _hardsigmoid(beta, x)


def _softshrink(beta: float, x: Tensor, lambd: float = 0.5, *_: Any, **__: Any) -> Tensor:
    return _softplus(x - lambd, beta) - _softplus(-x - lambd, beta)


def _abs(beta: float, x: Tensor, *_: Any, **__: Any) -> Tensor:
    return _softplus(x, beta) + _softplus(-x, beta)


def _maximum(beta: float, x: Tensor, other: Tensor, **__: Any) -> Tensor:
    return other + _softplus(x - other, beta)


def _minimum(beta: float, x: Tensor, other: Tensor, **__: Any) -> Tensor:
    return other - _softplus(other - x, beta)


def _amax(beta: float, x: Tensor, dim: Any = (), keepdim: bool = False, **__: Any) -> Tensor:
    dims = tuple(range(x.ndim)) if dim == () else dim
    return torch.logsumexp(beta * x, dim=dims, keepdim=keepdim) / beta


def _amin(beta: float, x: Tensor, dim: Any = (), keepdim: bool = False, **__: Any) -> Tensor:
    return -_amax(beta, -x, dim, keepdim)


def _max(beta: float, x: Tensor, dim: Any = (), keepdim: bool = False, **named: Any) -> Any:
    """Three functions of one name: of all values, along a dimension, of two tensors."""
    other = named.get("other", dim)
    if isinstance(other, Tensor):
        return _maximum(beta, x, other)
    values = _amax(beta, x, dim, keepdim)
    if dim == ():
        return values
    return torch.return_types.max((values, x.argmax(dim, keepdim)))


def _min(beta: float, x: Tensor, dim: Any = (), keepdim: bool = False, **named: Any) -> Any:
    other = named.get("other", dim)
    if isinstance(other, Tensor):
        return _minimum(beta, x, other)
    values = _amin(beta, x, dim, keepdim)
    if dim == ():
        return values
    return torch.return_types.min((values, x.argmin(dim, keepdim)))


def _adaptive_max_pool2d(
    beta: float, x: Tensor, output_size: Any, return_indices: bool = False
) -> Tensor | None:
    """Where the windows are all alike."""
    wanted = output_size if isinstance(output_size, Iterable) else (output_size, output_size)
    sizes = [n if k is None else int(k) for n, k in zip(x.shape[-2:], wanted, strict=True)]
    if return_indices or any(n % k for n, k in zip(x.shape[-2:], sizes, strict=True)):
        return None
    return _max_pool2d(beta, x, tuple(n // k for n, k in zip(x.shape[-2:], sizes, strict=True)))


def _max_pool1d(
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
    kernel, pad, dil = (1, _pair(kernel_size)[0]), (0, _pair(padding)[0]), (1, _pair(dilation)[0])
    step = None if stride is None or stride == [] else (1, _pair(stride)[0])
    return _max_pool2d(beta, x.unsqueeze(-2), kernel, step, pad, dil, ceil_mode).squeeze(-2)


def calls_named(*names: str) -> tuple[Any, ...]:
    """The functions of these names in torch, torch.nn.functional and torch.Tensor."""
    places = (torch, F, torch.Tensor)
    return tuple(getattr(p, name) for name in names for p in places if hasattr(p, name))


_FORMS: list[tuple[tuple[str, ...], Smooth]] = [
    (("relu", "relu_"), _relu),
    (("relu6",), _relu6),
    (("leaky_relu", "leaky_relu_"), _leaky_relu),
    (("prelu",), _prelu),
    (("rrelu", "rrelu_"), _rrelu),
    (("elu", "elu_"), _elu),
    (("selu", "selu_"), _selu),
    (("threshold", "threshold_"), _threshold),
    (("hardtanh", "hardtanh_"), _hardtanh),
    (("hardsigmoid",), _hardsigmoid),
    (("hardswish",), _hardswish),
    (("softshrink",), _softshrink),
    (("clamp", "clamp_", "clip", "clip_", "clamp_min", "clamp_min_"), _clamp),
    (("clamp_max", "clamp_max_"), _clamp_max),
    (("abs", "abs_", "absolute", "absolute_"), _abs),
    (("maximum", "fmax"), _maximum),
    (("minimum", "fmin"), _minimum),
    (("max",), _max),
    (("min",), _min),
    (("amax",), _amax),
    (("amin",), _amin),
    (("max_pool1d",), _max_pool1d),
    (("max_pool2d",), _max_pool2d),
    (("adaptive_max_pool2d",), _adaptive_max_pool2d),
]
SMOOTH = {call: smooth for names, smooth in _FORMS for call in calls_named(*names)}


class SmoothActivations(TorchFunctionMode):
    """Inside this context non-smooth calls that have a smooth form are made smooth with beta."""

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if _all_constant((*args, *kwargs.values())):
            # A clamp on parameters bends nothing.
            result = func(*args, **kwargs)
            if isinstance(result, Tensor):
                result._geomadv_constant = True  # type: ignore[attr-defined]
            return result
        result = self._smooth(func, args, kwargs) if func in SMOOTH else None
        return func(*args, **kwargs) if result is None else result

    def _smooth(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """The smooth form of a call; None where there is none for its arguments."""
        x = (*args, kwargs.get("input"))[0]
        # Maxima of indices and moduli of complex numbers stay as they are.
        if not (isinstance(x, Tensor) and x.is_floating_point()):
            return None
        inplace = func.__name__.endswith("_") or kwargs.get("inplace")
        named = {name: value for name, value in kwargs.items() if name != "input"}
        result = SMOOTH[func](self.beta, x.clone() if inplace else x, *args[1:], **named)
        # Who reads x afterwards must find the new values there, as with the original call.
        return x.copy_(result) if inplace and result is not None else result


def _all_constant(values: Iterable[Any]) -> bool:
    """Whether the tensors among them are parameters or were computed from parameters alone."""
    tensors = [v for v in values if isinstance(v, Tensor)]
    return bool(tensors) and all(
        isinstance(t, nn.Parameter) or hasattr(t, "_geomadv_constant") for t in tensors
    )
