"""Nothing is computed below float32: finding what is, and lifting it.

Boundary residuals, normals and Hessians of float16 and bfloat16 scores are rounding. Weights in
such a type are taken as they are and computed with in float32; casts and autocast inside a forward
are made without effect where that is possible.
"""

import functools
import inspect
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from geomadv.classifier.batching import until_it_fits
from geomadv.classifier.dispatch import Dispatch
from geomadv.errors import SmallerBatchWarning

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


@contextmanager
def gpu_arithmetic(tf32: bool) -> Iterator[None]:
    """Products of float32 numbers on a GPU as such, or in TF32, and the same ones every time.

    TF32 keeps 10 bits of the mantissa, PyTorch's default for convolutions: 1e-3 of the scores,
    while boundary points are found to 1e-5.
    """
    cudnn: Any = torch.backends.cudnn  # whose types differ between versions of PyTorch
    matmul: Any = torch.backends.cuda.matmul
    wanted: list[tuple[Any, str, Any]] = [
        (cudnn, "deterministic", True),
        (cudnn, "benchmark", False),
    ]
    if hasattr(matmul, "fp32_precision"):  # PyTorch 2.9, which refuses to mix both ways
        kind = "tf32" if tf32 else "ieee"
        wanted += [(part, "fp32_precision", kind) for part in (matmul, cudnn.conv, cudnn.rnn)]
    else:
        wanted += [(part, "allow_tf32", tf32) for part in (matmul, cudnn)]
    with ExitStack() as stack:
        for owner, name, value in wanted:
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        yield


@dataclass
class _Fused:
    """A switch of the whole process, which the first of its threads turns and the last one back."""

    lock: Any = field(default_factory=threading.Lock)
    users: int = 0
    before: bool = True


_FUSED = _Fused()


@contextmanager
def one_form_of_attention() -> Iterator[None]:
    """Transformer layers compute without gradients what they compute with them.

    In evaluation mode and without gradients an `nn.TransformerEncoderLayer` would be one fused
    operation, as an `nn.MultiheadAttention`: its GELU is the exact one whatever the layer's is, and
    it calls none of the layers inside.
    """
    mha = torch.backends.mha
    with _FUSED.lock:
        if not _FUSED.users:
            _FUSED.before = mha.get_fastpath_enabled()
            mha.set_fastpath_enabled(False)
        _FUSED.users += 1
    try:
        yield
    finally:
        with _FUSED.lock:
            _FUSED.users -= 1
            if not _FUSED.users:
                mha.set_fastpath_enabled(_FUSED.before)


def arithmetic(net: Any) -> AbstractContextManager[Any]:
    """How a network is computed with: no autocast of the caller, on a GPU as `gpu_arithmetic`.

    It is one function with gradients and without.
    """
    stack = ExitStack()
    stack.enter_context(one_form_of_attention())
    device = "cpu" if net is None else net.device.type
    stack.enter_context(full_precision(device))
    if device == "cuda":
        stack.enter_context(gpu_arithmetic(net.tf32))
    return stack


P = ParamSpec("P")
R = TypeVar("R")


def computes(function: Callable[P, R]) -> Callable[P, R]:
    """Makes a function of a network compute alike in whatever mode it is called.

    A caller's autocast would round what stands between the network's calls to half precision, and
    tensors made in inference mode have no gradients ever. Where memory runs out, a function that
    takes a batch size begins again with half of it, and a `SmallerBatchWarning` says so.

    function: its parameter `net` is the network, or the first one has it as `_net`.
    """
    names = list(inspect.signature(function).parameters)
    place = names.index("net") if "net" in names else 0
    batched = "batch_size" in names and "net" in names

    def warn(line: str) -> None:
        warnings.warn(line, SmallerBatchWarning, stacklevel=4)

    @functools.wraps(function)
    def plainly(*args: P.args, **kwargs: P.kwargs) -> R:
        given = args[place] if place < len(args) else kwargs.get(names[place])
        net = getattr(given, "_net", given)
        known = hasattr(net, "limit")
        with torch.inference_mode(False), arithmetic(net if known else None):
            if not (batched and known):
                return function(*args, **kwargs)
            return until_it_fits(lambda: function(*args, **kwargs), [net], warn)  # type: ignore[list-item]

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


class _Types(Dispatch):
    """Notes the floating types of all arrays that are computed, below autograd and autocast."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[torch.dtype] = set()

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


def tf32_errors(exact: Any, fast: Any, images: Tensor) -> tuple[float, float]:
    """Largest relative errors of scores and of gradients that TF32 makes at images (n, C, H, W).

    exact, fast: the network without and with it. Scores are measured by their spread over the
    classes, gradients (of the score on top) by their norm.
    """
    scores, gradients = [], []
    for net in (exact, fast):
        with torch.enable_grad(), arithmetic(net):
            x = images.detach().requires_grad_()
            found = net.scores(x)
            (gradient,) = torch.autograd.grad(found.amax(1).sum(), x)
        scores.append(found.detach().double())
        gradients.append(gradient.flatten(1).double())
    spread = scores[0].std(dim=1, keepdim=True)
    length = gradients[0].norm(dim=1)
    apart = (gradients[1] - gradients[0]).norm(dim=1) / length.clamp(min=length.max() * 1e-6)
    return float(((scores[1] - scores[0]).abs() / spread).max()), float(apart.max())
