"""What a forward pass of the frozen copy does beside computing: chance, and numbers not its own."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves

from geomadv.classifier.dispatch import Dispatch


class Watch(Dispatch):
    """Notes whether the calls draw random numbers, and whether they read given tensors.

    Args:
        foreign: tensors that a copy has no business with.
    """

    def __init__(self, foreign: Iterable[Tensor]) -> None:
        super().__init__()
        self._foreign = {_place(t) for t in foreign} - {0}
        self.random, self.borrows = "", False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags and not _told_not_to(func, args, kwargs):
            self.random = self.random or str(func).split(".")[1]
        if self._foreign and not self.borrows:
            read = (t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor))
            self.borrows = any(_place(t) in self._foreign for t in read)
        return func(*args, **(kwargs or {}))


def _told_not_to(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether a call could draw random numbers and is told not to: fused attention, RReLU."""
    names = [argument.name for argument in func._schema.arguments]
    given = {**dict(zip(names, args, strict=False)), **(kwargs or {})}
    return any(name in names and not given.get(name) for name in ("dropout_p", "training"))


def _place(t: Tensor) -> int:
    """Where its numbers lie; 0: nowhere."""
    known = not is_lazy(t) and t.layout is torch.strided and t.device.type != "meta"
    return t.untyped_storage().data_ptr() if known else 0
