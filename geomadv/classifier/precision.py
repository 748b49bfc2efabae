"""Nothing is computed below float32: finding what is, and lifting it.

Boundary residuals, normals and Hessians of float16 and bfloat16 scores are rounding. Weights in
such a type are taken as they are and computed with in float32; casts and autocast inside a forward
are made without effect where that is possible.
"""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

_CASTS = {
    torch.Tensor.half,
    torch.Tensor.bfloat16,
    torch.Tensor.float,
    torch.Tensor.double,
}


def is_low(dtype: torch.dtype) -> bool:
    """Whether a floating type has fewer digits than float32."""
    return dtype.is_floating_point and dtype.itemsize < 4


def full_precision(device: str) -> AbstractContextManager[Any]:
    """No autocast of the caller on this kind of device; nothing where there is none."""
    if torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()


P = ParamSpec("P")
R = TypeVar("R")


def computes(function: Callable[P, R]) -> Callable[P, R]:
    """Makes a function compute alike in whatever mode it is called: gradients, full precision.

    A caller's autocast would round what stands between the network's calls to half precision, and
    tensors made in inference mode have no gradients ever.
    """

    @functools.wraps(function)
    def plainly(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.inference_mode(False), full_precision("cpu"), full_precision("cuda"):
            return function(*args, **kwargs)

    return plainly


class FullPrecision(TorchFunctionMode):
    """Inside this context every floating number is computed in one type, whatever is asked for."""

    def __init__(self, dtype: torch.dtype, device: str) -> None:
        super().__init__()
        self.dtype, self.device = dtype, device

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map(self._lift, (args, dict(kwargs or {})))
        if func in _CASTS or (func is torch.Tensor.type and len(args) > 1 and _floats(args[1])):
            func, args, kwargs = torch.Tensor.to, (args[0], self.dtype), {}
        with torch.autocast(self.device, enabled=False):
            result = func(*args, **kwargs)
        return tree_map(self._lift_tensor, result)

    def _lift(self, value: Any) -> Any:
        if isinstance(value, torch.dtype):
            return self.dtype if value.is_floating_point else value
        return self._lift_tensor(value)

    def _lift_tensor(self, value: Any) -> Any:
        if isinstance(value, Tensor) and value.is_floating_point() and value.dtype != self.dtype:
            return value.to(self.dtype)
        return value


def _floats(name: Any) -> bool:
    """Whether 'torch.HalfTensor' or `torch.HalfTensor` names a floating type."""
    return any(kind in str(name) for kind in ("Half", "BFloat16", "Float", "Double"))


class _Types(TorchDispatchMode):
    """Notes the floating types of all arrays that are computed, below autograd and autocast."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: set[torch.dtype] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # To skip it, torch would import its compiler, which takes seconds.
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for t in (result,) if isinstance(result, Tensor) else tree_leaves(result):
            # Numbers without dimensions do not decide in which type anything is computed.
            if isinstance(t, Tensor) and t.ndim and t.is_floating_point():
                self.seen.add(t.dtype)
        return result


@torch.no_grad()
def types_computed(call: Callable[[Tensor], Any], x: Tensor) -> tuple[Any, set[torch.dtype]]:
    """The value of the call, and the floating types below that of x in which it computes."""
    with _Types() as types:
        value = call(x)
    digits = torch.finfo(x.dtype).eps
    return value, {t for t in types.seen if torch.finfo(t).eps > digits}
