"""Where a network is not smooth: the names of its calls, and what its gradient does.

Piecewise-linear networks (ReLU, max-pooling) have an exact Hessian that is zero almost everywhere,
so second-order geometry needs to know (definitions, "Second order"). Names only make messages: a
clamp may never bend anything, and what has kinks may be called anything.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from geomadv.classifier.jumps import SCALES, change_on_lines
from geomadv.classifier.smooth_forms import SMOOTH, calls_named

_KINKED = set(
    calls_named(
        *("max_pool3d", "adaptive_max_pool1d", "adaptive_max_pool3d", "fractional_max_pool2d"),
        *("max_pool1d_with_indices", "max_pool2d_with_indices", "max_pool3d_with_indices"),
        *("hardshrink", "sort", "topk", "kthvalue", "median", "nanmedian", "quantile"),
        *("nanquantile", "aminmax", "cummax", "cummin", "l1_loss", "pdist"),
    )
)
# What has kinks with some arguments only.
_SUSPECT = set(
    calls_named(
        *("where", "masked_fill", "masked_fill_", "masked_scatter", "sign", "sgn", "round"),
        *("floor", "ceil", "trunc", "frac", "remainder", "fmod", "heaviside", "norm", "dist"),
        *("cdist", "grid_sample", "copysign", "floor_divide", "bucketize", "searchsorted"),
    )
) | {torch.linalg.vector_norm, torch.linalg.norm, torch.linalg.matrix_norm}


class _CallRecorder(TorchFunctionMode):
    """Notes the names of the functions of values that depend on the image, by kind."""

    def __init__(self) -> None:
        super().__init__()
        self.smoothable: set[str] = set()
        self.other: set[str] = set()
        self.suspect: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        values = [v for v in (*args, *kwargs.values()) if isinstance(v, Tensor)]
        if any(v.requires_grad for v in values):
            self._note(func, args, kwargs)
        return func(*args, **kwargs)

    def _note(self, func: Any, args: Any, kwargs: Any) -> None:
        name = getattr(func, "__name__", "").strip("_")
        if name == "elu" and (*args[1:2], kwargs.get("alpha", 1.0))[0] == 1:
            return  # its slope does not jump
        for calls, names in (
            (SMOOTH, self.smoothable),
            (_KINKED, self.other),
            (_SUSPECT, self.suspect),
        ):
            if func in calls:
                names.add(name)


def _record(module: nn.Module, x: Tensor) -> _CallRecorder:
    recorder = _CallRecorder()
    with torch.inference_mode(False), torch.enable_grad(), recorder:
        module(x.detach().clone().requires_grad_().clone())
    return recorder


def kinks(module: nn.Module, x: Tensor) -> tuple[list[str], list[str]]:
    """Names of the non-smooth functions called on x: (those with a smooth form here, others).

    Only calls on values that depend on x count.
    """
    found = _record(module, x)
    return sorted(found.smoothable), sorted(found.other)


def responsible(module: nn.Module, x: Tensor) -> str:
    """A clause that names the calls which may make a kink."""
    found = _record(module, x)
    calls = sorted(found.smoothable | found.other | found.suspect)
    if not calls:
        return "hidden in a compiled module, a mask such as x * (x > 0) or a custom function"
    return f"calls that may be responsible: {', '.join(calls)}"


def has_jumps(
    scores: Callable[[Tensor], Tensor],
    images: Tensor,
    bounds: tuple[float, float],
    dtype: torch.dtype,
) -> bool:
    """Whether the gradient of a random score combination jumps between images.

    scores: images (n >= 2, C, H, W) -> (n, classes), computed in dtype. Lines run from every image
    to the next, from the darkest possible image to the first one and to the brightest one.

    Raises:
        RuntimeError: the scores are of another dtype.
    """
    low, high = (torch.full_like(images[:1], b) for b in bounds)
    start, end = torch.cat([images[:-1], low, low]), torch.cat([images[1:], images[:1], high])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        first = scores(images[:1])
    if first.dtype != dtype:
        raise RuntimeError(f"scores are {first.dtype}, expected {dtype}")
    classes = first.shape[1]
    weights = torch.randn(len(start), classes, generator=generator).to(start)

    def gradient(at: Tensor) -> Tensor:
        at = at.detach().requires_grad_()
        with torch.enable_grad():
            (g,) = torch.autograd.grad((scores(at) * weights).sum(), at)
        return g

    scales = [h * (bounds[1] - bounds[0]) for h in SCALES[dtype]]
    return bool(change_on_lines(gradient, start, end, scales, dtype).jumps.any())


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
