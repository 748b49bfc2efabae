"""Where a network is not smooth: the names of its calls, and what its gradient does.

Piecewise-linear networks (ReLU, max-pooling) have an exact Hessian that is zero almost everywhere,
so second-order geometry needs to know (definitions, "Second order"). Names only make messages: a
clamp may never bend anything, and what has kinks may be called anything.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
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
    weights = _contrasts(torch.randn(len(start), classes, generator=generator).to(start))

    def gradient(at: Tensor) -> Tensor:
        return _gradient(scores, at.detach().requires_grad_(), weights)

    scales = [h * (bounds[1] - bounds[0]) for h in SCALES[dtype]]
    return bool(change_on_lines(gradient, start, end, scales, dtype).jumps.any())


# In float64 a piecewise-constant gradient repeats to rounding (about 1e-16); a smooth network's
# changes by step * curvature / slope, 1e-7 for ordinary networks. The threshold lies between. The
# step is so small that even networks of millions of ReLUs rarely cross a kink in it.
_STEP, _SAME = 1e-7, 1e-13
# Change of the pixels that float64 shows and float32, inside a network, does not.
_UNSEEN = 1e-13
# One change may be a kink that was crossed; from as many points in a row it is curvature.
_TRIES = 3
# Roundings of the gradient that may be left of second derivatives that cancel.
_CANCELLED = 16
# Share of noise in each point: a constant image lies on kinks, such as the ties of max-pooling.
_NOISE = 0.05


def gradient_is_piecewise_constant(
    scores: Callable[[Tensor], Tensor],
    images: Tensor,
    bounds: tuple[float, float],
    together: int = 1,
) -> bool:
    """Whether the gradient of random score combinations stays the same under tiny steps.

    scores: (n, C, H, W) float64 -> (n, classes). images: (n, C, H, W) float64 in the bounds, as
    different as can be: a smooth part may be switched off, or saturated, at most of them, and one
    where the gradient changes says that the network is not piecewise linear. What would change
    it by less than 1e-6 of itself over the range of the pixels is taken for rounding. together:
    images per pass.

    Raises:
        RuntimeError: the scores are computed below float64, so their gradient cannot tell.
    """
    some = images[:2]
    with torch.no_grad():
        first = scores(some)
        coarse = bool((scores(some + _UNSEEN * some.flip(3)) == first).all())
    if coarse or first.dtype != torch.float64:
        raise RuntimeError(f"computed in {'float32' if coarse else first.dtype}, expected float64")
    step = _STEP * images.abs().amax()
    places = _Places(bounds, first.shape[1])

    def curved(part: Tensor) -> bool:
        for _ in range(_TRIES):
            points, direction, weights = places.draw(part)
            part = part[_changes(scores, points, step * direction, weights)]
        return len(part) > 0

    return not any(curved(part) for part in images.split(together))


def hessian_vanishes(
    scores: Callable[[Tensor], Tensor],
    images: Tensor,
    bounds: tuple[float, float],
    together: int = 1,
) -> bool:
    """Whether exact Hessian products of random score combinations are rounding.

    For networks that do not run in float64: in float32 no step shows curvature above rounding
    that does not cross kinks, but double backward takes no step. Kinks add exact zeros; what
    cancels leaves a few roundings of the gradient, and as much change of it over the range of the
    pixels is taken for that. Arguments as above, images in the dtype of the network.

    Raises:
        RuntimeError: there is no double backward.
    """
    with torch.no_grad():
        places = _Places(bounds, scores(images[:1]).shape[1])

    def curved(part: Tensor) -> bool:
        points, direction, weights = places.draw(part)
        at = points.requires_grad_()
        with torch.enable_grad():
            total = (scores(at) * weights).sum()
            (g,) = torch.autograd.grad(total, at, create_graph=True)
            if not g.requires_grad:
                return False
            (product,) = torch.autograd.grad((g * direction).sum(), at, materialize_grads=True)
        # Of what all scores share, roundings are left.
        shared = _gradient(scores, at, weights.abs())
        change, rounding = change_and_rounding(product, (g.detach(), shared), bounds)
        return bool((change > rounding).any())

    return not any(curved(part) for part in images.split(together))


def change_and_rounding(
    products: Tensor, gradients: Sequence[Tensor], bounds: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """What Hessian products (n, ...) change over the pixels' range, (n,), and what is rounding.

    Second derivatives that cancel leave a few roundings of the gradients (n, ...) that they are
    made of.
    """
    change: Tensor = (bounds[1] - bounds[0]) * products.flatten(1).norm(dim=1)
    pieces = torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).sum(0)
    return change, _CANCELLED * torch.finfo(products.dtype).eps * pieces


class _Places:
    """Random points near images, directions there and combinations of scores, always the same."""

    def __init__(self, bounds: tuple[float, float], classes: int) -> None:
        self.bounds, self.classes = bounds, classes
        self.generator = torch.Generator(device="cpu").manual_seed(0)

    def draw(self, part: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Points and unit vectors like the images (n, C, H, W), and weights (n, classes)."""
        low, high = self.bounds
        noise = low + (high - low) * self._random(torch.rand, part.shape)
        # What is pooled over an image hardly feels pixels of random signs, so colours too.
        pixels, colours = (
            self._random(torch.randn, (*part.shape[:2], *size)) for size in (part.shape[2:], (1, 1))
        )
        direction = F.normalize((pixels + colours).flatten(1)).view_as(part)
        weights = _contrasts(self._random(torch.randn, (len(part), self.classes)))
        return part.lerp(noise.to(part), _NOISE), direction.to(part), weights.to(part)

    def _random(self, draw: Callable[..., Tensor], shape: Sequence[int]) -> Tensor:
        return draw(*shape, generator=self.generator, dtype=torch.float64)


def _contrasts(weights: Tensor) -> Tensor:
    """Weights (n, classes) of sum 0: what all scores share moves no boundary and decides nothing.

    A shared slope would hide the curvature of score differences, the log of a softmax that of a
    piecewise-linear network's absence.
    """
    return weights - weights.mean(1, keepdim=True)


def _changes(
    scores: Callable[[Tensor], Tensor], x: Tensor, steps: Tensor, weights: Tensor
) -> Tensor:
    """Whether (n,) the gradient of sum_k weights_ik F_k changes from x to x + steps."""
    if not len(x):
        return x.new_zeros(0, dtype=torch.bool)
    at = torch.cat([x, x + steps]).requires_grad_()
    before, after = _gradient(scores, at, weights.repeat(2, 1)).chunk(2)
    change = (after - before).norm(dim=1)
    found: Tensor = (change > 0) & (change >= _SAME * before.norm(dim=1))
    if found.any():  # Of what all scores share, roundings are left.
        shared = _gradient(scores, x.detach().requires_grad_(), weights.abs()).norm(dim=1)
        found &= change > _CANCELLED * torch.finfo(change.dtype).eps * shared
    return found


def _gradient(scores: Callable[[Tensor], Tensor], at: Tensor, weights: Tensor) -> Tensor:
    """Gradients (n, D) of sum_k weights_ik F_k at points that require them."""
    with torch.enable_grad():
        (g,) = torch.autograd.grad((scores(at) * weights).sum(), at)
    flat: Tensor = g.flatten(1)
    return flat
