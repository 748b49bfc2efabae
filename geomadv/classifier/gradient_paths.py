"""Whether the gradient of the scores reaches the image, and is theirs.

A forward that computes under `no_grad`, detaches, goes through NumPy or counts in whole numbers
has scores but no gradient of them, or a part of it. All geometry here stands on gradients, so such
a network is refused, with what cuts the gradient.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from geomadv.classifier.normalised import copied, differs_in_double
from geomadv.classifier.probes import ORDERS, REPEATS, allowance, class_spread, scores_differ
from geomadv.errors import InputError

Scores = Callable[[Tensor], Tensor]

# Calls that leave the graph of gradients on purpose.
_LEAVES = {"detach", "detach_", "data", "numpy", "__array__", "tolist", "item"}
# Steps of the derivative check, as shares of what the scores vary by.
_SHARES = (1e-7, 1e-3, 1e-2, 1e-1)
# Without a suspicion a slope may be off by a factor 2 (kinks, curvature); with one, by 10 %.
_LOOSE, _STRICT, _ACROSS = 0.5, 0.1, 0.3
# What re-entrant checkpointing says of torch.autograd.grad, in torch and where it was copied from.
_RECOMPUTES = re.compile(r"(not |in)compatible with \.grad\(\)")
_STEPS = "the scores are steps (rounding, thresholds, quantisation)"
_MOST_CLASSES = 64
# Longest step, as a share of the range of the pixels.
_STEP, _HALVINGS = 0.01, 20
# Shares of its norm by which a gradient differs: one kink crossed by rounding in a layer of some
# thousands, and several in a small network.
_SAME, _ROUGHLY = 1e-3, 0.1


class _Witness(TorchFunctionMode):
    """Notes where, in a forward pass, something that has a gradient gives one without."""

    def __init__(self) -> None:
        super().__init__()
        self.left: list[str] = []  # calls out of the graph, in order
        self.discrete: list[str] = []  # calls whose results are whole numbers

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.requires_grad:
            return result
        inputs = tree_leaves((args, kwargs or {}))
        if any(isinstance(t, Tensor) and t.requires_grad for t in inputs):
            self._note(func, result)
        return result

    def _note(self, func: Any, result: Any) -> None:
        name = getattr(func, "__name__", "")
        if name == "__get__":
            name = getattr(getattr(func, "__self__", None), "__name__", "")
        outputs = [t for t in tree_leaves(result) if isinstance(t, Tensor)]
        if any(t.requires_grad for t in outputs):
            return
        if name in _LEAVES:
            self.left.append(f"its forward calls Tensor.{name}")
        elif torch.is_inference_mode_enabled():
            self.left.append("its forward computes in torch.inference_mode")
        elif not torch.is_grad_enabled():
            self.left.append("its forward computes under torch.no_grad")
        elif any("int" in str(t.dtype) for t in outputs):
            quantised = any(t.is_quantized for t in outputs)
            what = "quantised values" if quantised else "whole numbers"
            self.discrete.append(f"its forward computes with {what} (Tensor.{name})")

    def reason(self) -> str:
        found = (self.left + self.discrete)[:1]
        return found[0] if found else ""


@dataclass(frozen=True)
class Gradient:
    """The gradient of sum_k weights_ik F_k at the generic probes."""

    x: Tensor  # (n, C, H, W)
    value: Tensor  # (n, C, H, W)
    scores: Tensor  # (n, classes)
    weights: Tensor  # (n, classes): every class that varies has the same share in the value
    rows: Tensor  # (n,) int64, which of the probes these are
    doubt: str  # why the gradient may be that of a part of the scores only; "" for no reason

    def at(self, images: Any) -> "Gradient":
        """At some of the images only."""
        names = ("x", "value", "scores", "weights", "rows")
        return replace(self, **{name: getattr(self, name)[images] for name in names})


def class_weights(scores: Tensor, seed: int = 0) -> Tensor:
    """Weights (classes,) of both signs under which every class varies as much; 0 for constants."""
    generator = torch.Generator().manual_seed(seed)
    sign = torch.rand(scores.shape[1], generator=generator, dtype=torch.float64) + 0.5
    sign[::2] *= -1
    spread = class_spread(scores).cpu()
    varying = spread > 0
    least = spread[varying].min() if varying.any() else spread.sum()
    weights = torch.where(varying, sign * least / spread, 0.0)
    return weights.to(scores)


def gradient_of(scores: Scores, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Scores (n, classes) at x, and the gradient (n, C, H, W) of their weighted sums.

    Raises:
        RuntimeError, and whatever else the network raises: it has no gradient.
    """
    # Tensors made in inference mode have no gradients ever.
    with torch.inference_mode(False), torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        values = scores(x)
        (gradient,) = torch.autograd.grad((values * weights).sum(), x)
    return values.detach(), gradient


def find_gradient(module: nn.Module, x: Tensor, scores: Tensor, name: str) -> Gradient:
    """The gradient at the images x (n, C, H, W) of a module that gives them `scores`.

    scores: (m, classes) of all probes, of which x are the first.

    Raises:
        InputError: no gradient comes through; the message says what cuts it.
    """
    weights, witness = class_weights(scores), _Witness()

    def watched(at: Tensor) -> Tensor:
        with witness:
            values: Tensor = module(at)
        return values

    try:
        with torch.no_grad():
            module(x)  # a module that keeps the scores of its last images has none to give now
        values, gradient = gradient_of(watched, x, weights)
    except Exception as error:  # a foreign module may raise anything
        raise _refusal(module, x, name, witness.reason(), error) from error
    expected = scores[: len(x)]
    other = scores_differ(values, expected, allowance(scores, ORDERS)[: len(x)]).any()
    if other and differs_in_double(module, x, _with_gradients):
        raise InputError(
            f"network {name!r} gives other scores where gradients are taken than under "
            "torch.no_grad: its forward asks for the gradient mode. Let it compute the same."
        )
    finite = gradient.flatten(1).isfinite().all(1)
    if not finite.any():
        raise InputError(
            f"network {name!r} has finite scores, but their gradients are not finite: a square "
            "root or norm at 0, or a 0 / 0 in its forward, or scores too large for "
            f"{x.dtype}. Keep such values off 0 by a small constant."
        )
    hooks = any(m._backward_hooks or m._backward_pre_hooks for m in module.modules())
    doubts = ["it has hooks on gradients"] * hooks + witness.left[:1]
    rows, each = torch.arange(len(x), device=x.device), weights.expand(len(x), -1)
    found = Gradient(x, gradient, values, each, rows, " and ".join(doubts))
    return found.at(finite)


def _with_gradients(module: nn.Module, x: Tensor) -> Tensor:
    with torch.enable_grad():
        scores: Tensor = module(x.detach().clone().requires_grad_())
    return scores.detach()


def _refusal(module: nn.Module, x: Tensor, name: str, reason: str, error: Exception) -> InputError:
    if _RECOMPUTES.search(str(error)):
        return InputError(
            f"network {name!r} uses re-entrant checkpointing, whose parts are recomputed in a "
            "backward pass of their own: no gradient in the image can be asked for. Checkpoint "
            "with use_reentrant=False, or not at all: nothing is trained here."
        )
    if not reason and _ignores(module, x):
        reason = "they do not depend on the image"
    elif not reason and _has_gradient(module, x.lerp(x.flip(0), 0.1)):
        reason = "its forward gives kept scores for images that it saw under torch.no_grad"
    line = str(error).strip().split("\n")[0]
    return InputError(
        f"network {name!r} gives scores without a gradient in the image: "
        f"{reason or f'torch says: {line}'}. Every result here stands on that gradient; let the "
        "forward be differentiable in its input."
    )


def _has_gradient(module: nn.Module, x: Tensor) -> bool:
    try:
        gradient_of(module, x, x.new_ones(()))
    except Exception:  # a foreign module may raise anything
        return False
    return True


@torch.no_grad()
def _ignores(module: nn.Module, x: Tensor) -> bool:
    return bool((module(x) == module(x.flip(0))).all()) and len(x) > 1


def check_derivative(
    scores: nn.Module, module: nn.Module, gradient: Gradient, all_scores: Tensor, name: str
) -> None:
    """The gradient must be the slope of the scores: central differences along it say so.

    Where something in the forward raises a doubt, random directions and single classes must, too.

    scores: computes the same as the module, perhaps faster.

    Raises:
        InputError: it is not: a part of it is cut off or changed.
    """
    if _is_staircase(scores, gradient):
        raise InputError(
            f"network {name!r} gives gradients that are not the slopes of its scores: {_STEPS}. "
            "Give the network without them."
        )
    if not gradient.value.any():
        gradient = replace(gradient, doubt=f"all gradients are zero: {_STEPS}")
    if gradient.doubt:
        _check_classes(scores, gradient, name)
    few = gradient.at(slice(1))  # mostly enough
    if any(_slopes_agree(scores, g, all_scores) for g in (few, gradient)):
        return
    # Where scores saturate, steps that rise above the rounding of float32 can be too long.
    if gradient.x.dtype == torch.float32 and _doubles_agree(module, gradient, all_scores):
        return
    cause = gradient.doubt or f"a part of it is cut off or changed, or {_STEPS}"
    raise InputError(
        f"network {name!r} gives gradients that are not the slopes of its scores: {cause}. "
        "Every result here stands on them; let the forward be differentiable in its input."
    )


@torch.no_grad()
def _is_staircase(scores: Scores, gradient: Gradient) -> bool:
    """Whether, at most images, a step that should be 200 roundings of the scores moves none."""
    g, x = gradient.value.double(), gradient.x
    norm = g.flatten(1).norm(dim=1)
    eps = torch.finfo(x.dtype).eps
    if gradient.scores.abs().amax() < torch.finfo(x.dtype).tiny / eps:
        return False  # steps of the number format, of which the walks speak
    rounding = eps * (gradient.weights * gradient.scores).double().abs().sum(1)
    pixels = eps * x.double().flatten(1).norm(dim=1)
    step = torch.maximum(200 * rounding / norm, 200 * pixels)
    move = torch.where(norm > 0, step / norm, 0.0).nan_to_num(0.0, 0.0, 0.0)
    ahead = x + (g * move.reshape(-1, *[1] * (x.ndim - 1))).to(x)
    going = 0
    for i, here in enumerate(x.split(1)):
        # At most images one or the other is mostly known from the first.
        still = move[i] > 0 and bool((scores(ahead[i : i + 1]) == scores(here)).all())
        going += not still
        if 2 * going >= len(x):
            return False
    return True


def _doubles_agree(module: nn.Module, gradient: Gradient, all_scores: Tensor) -> bool:
    try:
        double = copied(module).double()
        x, weights = gradient.x.double(), gradient.weights.double()
        values, value = gradient_of(double, x, weights)
        found = replace(gradient, x=x, value=value, scores=values, weights=weights)
        return values.dtype == torch.float64 and _slopes_agree(double, found, all_scores)
    except Exception:  # foreign code, or a device, without float64: nothing more to say
        return False


@torch.no_grad()
def _slopes_agree(scores: Scores, gradient: Gradient, all_scores: Tensor) -> bool:
    """Whether, at half of the images or more, one of some steps shows the slope of the gradient."""
    g = gradient.value.double()
    norm = g.flatten(1).norm(dim=1)
    if not (norm > 0).all():
        return True  # a dead network
    along = g / _over(norm, g)
    if not gradient.doubt:
        return _slope_agrees(scores, gradient, all_scores, along, _LOOSE)
    noise = torch.randn(g.shape, generator=torch.Generator().manual_seed(4), dtype=g.dtype)
    noise = noise.to(g.device)
    across = noise / _over(noise.flatten(1).norm(dim=1), g)
    return _slope_agrees(scores, gradient, all_scores, along, _STRICT) and _slope_agrees(
        scores, gradient, all_scores, across, _ACROSS
    )


def _slope_agrees(
    scores: Scores, gradient: Gradient, all_scores: Tensor, along: Tensor, allowed: float
) -> bool:
    """along: unit vectors (n, C, H, W) float64; allowed: error as a share of an ordinary slope."""
    g = gradient.value.double()
    expected = (g * along).flatten(1).sum(1)
    ordinary = g.flatten(1).norm(dim=1) / g[0].numel() ** 0.5
    scale = torch.maximum(expected.abs(), ordinary)
    weights = gradient.weights.double()
    varied = (weights.abs() * class_spread(all_scores).to(weights)).sum(1)
    rounded = torch.finfo(gradient.x.dtype).eps * (weights * gradient.scores.double()).abs().sum(1)
    # A slope so small that no step inside the image's range shows it is not judged.
    longest = _STEP * (gradient.x.amax() - gradient.x.amin()).double() * g[0].numel() ** 0.5
    good = torch.maximum(_SHARES[0] * varied, 1e3 * rounded) > scale * longest
    for share in _SHARES:
        step = torch.maximum(share * varied, 1e3 * rounded) / scale
        move = (along * _over(step, along)).to(gradient.x)
        ahead, behind = gradient.x + move, gradient.x - move
        length = (ahead - behind).double().flatten(1).norm(dim=1)
        gained = scores(torch.cat([ahead, behind])).double().chunk(2)
        change = ((gained[0] - gained[1]) * weights).sum(1)
        good |= (change / length - expected).abs() <= allowed * scale
        if 2 * good.sum() >= len(good):
            return True
    return False


def _over(row: Tensor, images: Tensor) -> Tensor:
    return row.reshape(-1, *[1] * (images.ndim - 1))


def _check_classes(scores: Scores, gradient: Gradient, name: str) -> None:
    """No class may have a zero gradient at all images and yet change under small steps.

    Raises:
        InputError: one does.
    """
    classes = gradient.scores.shape[1]
    chosen = torch.linspace(0, classes - 1, min(classes, _MOST_CLASSES)).round().long().unique()
    sign = torch.randn(gradient.x.shape, generator=torch.Generator().manual_seed(3)).sign()
    step = _STEP * (gradient.x.amax() - gradient.x.amin()) * sign.to(gradient.x)
    ends = gradient.x, gradient.x + step
    with torch.no_grad():
        before, after = scores(ends[0]), scores(ends[1])
    allowed = allowance(torch.cat([before, after]), REPEATS)[: len(before)]
    moves = (after - before).abs().double() > allowed
    for k in chosen.tolist():
        for i in moves[:, k].nonzero().flatten().tolist():
            interval = ends[0][i : i + 1], ends[1][i : i + 1]
            if _moves_without_gradient(scores, *interval, k, float(allowed[i, k])):
                raise InputError(
                    f"network {name!r} gives class {k} a score without a gradient in the image: "
                    f"{gradient.doubt}. Let the forward be differentiable in its input for all "
                    "classes."
                )


def _moves_without_gradient(scores: Scores, a: Tensor, b: Tensor, k: int, allowed: float) -> bool:
    """Whether score k changes from a to b, (1, C, H, W) each, but has no gradient where it does.

    Halving the way follows the change into the transition between two flat parts, if it is one.
    """

    def at(x: Tensor) -> tuple[float, bool]:
        one = torch.zeros(classes, dtype=x.dtype, device=x.device)
        one[k] = 1
        values, gradient = gradient_of(scores, x, one)
        return float(values[0, k]), bool(gradient.any())

    with torch.no_grad():
        classes = scores(a).shape[1]
    (low, sloped), (high, sloping) = at(a), at(b)
    for _ in range(_HALVINGS):
        if sloped or sloping or not abs(high - low) > allowed:
            break
        middle = (a + b) / 2
        value, sloped = at(middle)
        if abs(value - low) >= abs(high - value):
            b, high = middle, value
        else:
            a, low = middle, value
    return not (sloped or sloping)


def gradients_differ(found: Tensor, expected: Tensor) -> bool:
    """Whether two gradients (n, C, H, W) of the same function are further apart than rounding.

    A ReLU at its kink to rounding sends the gradient either way, so half of the images must
    agree to rounding, and the others roughly.
    """
    found, expected = found.double(), expected.double()
    norm = expected.flatten(1).norm(dim=1)
    apart = (found - expected).flatten(1).norm(dim=1)
    share = torch.where(apart > 0, apart / norm, apart)
    return not bool(share.median() <= _SAME and share.max() <= _ROUGHLY)
