"""The plain network: normalisation and a frozen copy of the caller's module."""

import copy
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from geomadv.classifier.outputs import scores_in
from geomadv.classifier.precision import FullPrecision, is_low
from geomadv.classifier.probes import allowance, scores_differ
from geomadv.classifier.rebinding import rebind
from geomadv.errors import InputError

# Roundings of float64 that may lie between two computations: many, and yet far below float32.
_DOUBLE, _CANCELLED = 1e6, 1e4
_CONSTANTS, _PLACES = (bool, int, float, str, type(None)), (dict, OrderedDict, list, set)
_NESTED = (list, tuple, dict)


class Normalised(nn.Module):
    """x -> module((x - mean) / std): image space to scores (N, classes) in the images' dtype.

    Attributes:
        pairs: one image alone is evaluated twice and counted once, for modules that drop a batch
            dimension of 1.
        lifted: casts to other precisions and autocast inside the module have no effect.
        recast: the scores are cast to the dtype of the images.
        output: which field of what the module gives the scores are; None: see `scores_in`.
        taken: the field that was taken at the last call, "" for a tensor alone.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        module: nn.Module,
        mean: Tensor | None,
        std: Tensor | None,
        output: str | int | None = None,
    ) -> None:
        super().__init__()
        self.module, self.output, self.taken = module, output, ""
        self.normalises = mean is not None or std is not None
        self.pairs = self.lifted = self.recast = False
        if self.normalises:
            # Numbers without dimensions go with images on any device.
            self.register_buffer("mean", torch.zeros(()) if mean is None else mean)
            self.register_buffer("std", torch.ones(()) if std is None else std)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of images (N, C, H, W)."""
        own = self._own(x)
        doubled = self.pairs and len(own) == 1
        if doubled:
            own = torch.cat([own, own])
        with FullPrecision(x.dtype, x.device.type) if self.lifted else nullcontext():
            scores, self.taken = scores_in(self.module(own), self.output)
        if self.recast:
            scores = scores.to(x.dtype)
        result: Tensor = scores[:1] if doubled else scores
        return result

    def _own(self, x: Tensor) -> Tensor:
        """The module may work in place or call `view`: it gets its own, dense copy."""
        if not self.normalises:
            return x.clone(memory_format=torch.contiguous_format)
        return ((x - self.mean.to(x.dtype)) / self.std.to(x.dtype)).contiguous()

    def around(self, module: nn.Module) -> "Normalised":
        """The same with another module inside, which computes the same."""
        other = copy.copy(self)
        other._modules, other._buffers = {"module": module}, dict(self._buffers)
        return other


def frozen_copy(module: nn.Module, name: str) -> tuple[nn.Module, list[str]]:
    """A copy in evaluation mode whose parameters take no gradient, and what was adapted.

    Raises:
        InputError: the module cannot be copied.
    """
    notes: list[str] = []
    # A wrapper without a hook of its own calls what it wraps and nothing else.
    while (inner := _wrapped(module)) is not None:
        module = inner
    try:
        frozen = copied(module).eval()
    except (RuntimeError, TypeError, NotImplementedError, AttributeError) as error:
        raise InputError(
            f"network {name!r} cannot be copied: {error} Build it anew and load its state_dict."
        ) from error
    if _unwrap_children(frozen):
        notes.append("compiled parts are evaluated uncompiled")
    if any(is_low(t.dtype) for t in numbers(frozen)):
        notes.append(_half_note(frozen))
        lift_numbers(frozen)
    freeze(frozen)
    return frozen, notes


def copied(module: nn.Module, shared: Iterable[Tensor] = ()) -> nn.Module:
    """A deep copy, but for the shared tensors.

    Tensors with a history (an old-style weight norm, pruning, kept features) lose it: torch does
    not copy them otherwise.
    """
    memo: dict[int, Any] = {id(t): t.detach().clone() for t in _computed(module)}
    memo.update({id(t): t for t in shared})
    for layer in module.modules():
        _copy_layer(layer, memo)
    made = copy.deepcopy(module, memo)
    rebind(made, memo)
    return made


def _copy_layer(layer: nn.Module, memo: dict[int, Any]) -> None:
    """Puts the copy of an ordinary layer of torch into the memo, many times faster.

    Ordinary: its attributes are its numbers, constants and empty places for hooks and layers.
    """
    kind = type(layer)
    if not kind.__module__.startswith("torch.nn.modules."):
        return
    made: dict[str, Any] = {}
    for name, value in vars(layer).items():
        if name in ("_parameters", "_buffers"):
            made[name] = {key: copy.deepcopy(t, memo) for key, t in value.items()}
        elif type(value) in _PLACES and not value:
            made[name] = memo.setdefault(id(value), type(value)())
        elif all(type(v) in _CONSTANTS for v in (value if type(value) is tuple else (value,))):
            made[name] = value
        else:
            return
    memo[id(layer)] = new = kind.__new__(kind)
    vars(new).update(made)


@torch.no_grad()
def differs_in_double(
    module: nn.Module, x: Tensor, other: Callable[[nn.Module, Tensor], Tensor]
) -> bool:
    """Whether `other` gives other scores of the first images of x than the module, in float64.

    Scores that hardly depend on the image differ by rounding as much as by anything else; float64
    tells. True where the module does not run in float64.
    """
    try:
        double, at = copied(module).double(), x.double()
        scores, found = double(at), other(double, at)
    except Exception:  # foreign code, or a device, without float64
        return True
    if scores.dtype != torch.float64:
        return True
    # A score near 0 is a sum of terms as large as those of the others; a mask is not.
    ordinary = scores.abs().median(1, keepdim=True).values
    size = torch.maximum(scores.abs(), ordinary)
    allowed = allowance(scores, _DOUBLE) + _CANCELLED * torch.finfo(torch.float64).eps * size
    return bool(scores_differ(found, scores[: len(found)], allowed[: len(found)]).any())


def freeze(module: nn.Module) -> None:
    """Its parameters take no gradient."""
    for parameter in module.parameters():
        if not is_lazy(parameter):
            parameter.detach_()


def numbers(module: nn.Module) -> list[Tensor]:
    """Parameters and buffers."""
    return [*module.parameters(), *module.buffers()]


def checksum(raw: nn.Module, module: nn.Module, beta: float | None) -> str:
    """SHA-256 (hex) of the kinds of layers of `raw`, the numbers of `module`, and beta."""
    digest = hashlib.sha256()
    for key, layer in raw.named_modules():
        digest.update(f"{key} {type(layer).__qualname__}".encode())
    values = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for key, value in sorted(values.items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    if beta is not None:
        digest.update(f"softplus {beta!r}".encode())
    return digest.hexdigest()


def first_floating(module: nn.Module) -> Tensor | None:
    """Any floating parameter or buffer: it tells the network's device and dtype."""
    return next((t for t in numbers(module) if t.is_floating_point()), None)


def lift_numbers(module: nn.Module) -> None:
    """Parameters and buffers below float32 become float32, their values unchanged."""
    module._apply(lambda t: t.float() if is_low(t.dtype) else t)


def _half_note(module: nn.Module) -> str:
    low = sorted({str(t.dtype) for t in numbers(module) if is_low(t.dtype)})
    return f"weights in {', '.join(low)} are computed with in torch.float32"


def _wrapped(module: nn.Module) -> nn.Module | None:
    """What a compiled module or one spread over devices stands for."""
    inner: Any = None
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        inner = module.module
    elif type(module).__name__ == "OptimizedModule":
        inner = getattr(module, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) and not _hooks(module) else None


def _unwrap_children(module: nn.Module) -> bool:
    """Replaces compiled parts by what they compile; whether there were any."""
    found = False
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            while (inner := _wrapped(child)) is not None:
                setattr(parent, name, inner)
                child, found = inner, True
    return found


_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)


def has_hooks(module: nn.Module) -> bool:
    """Whether a call of the module does more, or else, than its class's forward."""
    return _hooks(module) or "forward" in vars(module)


def _hooks(module: nn.Module) -> bool:
    return any(vars(module).get(hooks) for hooks in _HOOKS)


def _computed(module: nn.Module) -> Iterator[Tensor]:
    """Tensors with a history that the modules keep."""
    for part in module.modules():
        try:
            values = list(vars(part).values())
        except TypeError:
            continue
        yield from _histories(values, 0)


def _histories(values: Any, depth: int) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            if value.requires_grad and not value.is_leaf:
                yield value
        elif depth < 3 and isinstance(value, _NESTED) and value:
            inside = value.values() if isinstance(value, dict) else value
            yield from _histories(list(inside), depth + 1)
