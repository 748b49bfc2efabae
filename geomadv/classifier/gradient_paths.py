"""Whether the gradient of the scores reaches the image; `slopes` asks whether it is theirs.

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

from geomadv.classifier.normalised import differs_in_double
from geomadv.classifier.probes import ORDERS, allowance, class_spread, scores_differ
from geomadv.errors import InputError

Scores = Callable[[Tensor], Tensor]

# Calls that leave the graph of gradients on purpose.
_LEAVES = {"detach", "detach_", "data", "numpy", "__array__", "tolist", "item"}
# Calls that take no more than the shape of what they are given, by the ends of their names.
_SHAPES = ("_like", "new_zeros", "new_ones", "new_empty", "new_full")
# What re-entrant checkpointing says of torch.autograd.grad, in torch and where it was copied from.
_RECOMPUTES = re.compile(r"(not |in)compatible with \.grad\(\)")
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
        elif any(t.is_floating_point() for t in outputs) and not name.endswith(_SHAPES):
            self.left.append(f"its forward copies values without their gradient (torch.{name})")

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


def class_weights(scores: Tensor) -> Tensor:
    """Weights (classes,) of both signs under which every class varies as much; 0 for constants."""
    generator = torch.Generator().manual_seed(0)
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
    weights, witness, own = class_weights(scores), _Witness(), list[str]()

    def watched(at: Tensor) -> Tensor:
        with witness:
            values: Tensor = module(at)
        own.extend(_own_derivatives(values))
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
    doubts = [*_doubts(module), *witness.left[:1], *own[:1]]
    rows, each = torch.arange(len(x), device=x.device), weights.expand(len(x), -1)
    found = Gradient(x, gradient, values, each, rows, " and ".join(doubts))
    return found.at(finite)


def _doubts(module: nn.Module) -> list[str]:
    """Why its gradient may be another one than its calls, seen from outside, suggest."""
    modules = list(module.modules())
    hooks = any(m._backward_hooks or m._backward_pre_hooks for m in modules)
    scripted = any(isinstance(m, torch.jit.ScriptModule) for m in modules)
    return ["it has hooks on gradients"] * hooks + ["a part of it is scripted"] * scripted


def _own_derivatives(values: Tensor) -> list[str]:
    """Clauses on the derivatives that a forward brings along, by what autograd has of it."""
    found: list[str] = []
    seen: set[Any] = {None}
    ahead: list[Any] = [values.grad_fn]
    while ahead:
        node = ahead.pop()
        if node not in seen:
            seen.add(node)
            ahead += [before for before, _ in node.next_functions]
            if isinstance(node, torch.autograd.function.BackwardCFunction):
                name = type(node).__name__.removesuffix("Backward")
                found.append(f"its forward has a derivative of its own ({name})")
    return found


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
