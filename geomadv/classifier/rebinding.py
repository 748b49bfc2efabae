"""Functions that a copied module keeps, made to call the copy's layers in place of the original's.

A deep copy shares functions: a lambda that holds a layer, a hook, the forward of an instance.
"""

import types
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


def rebind(module: nn.Module, copies: Mapping[int, Any]) -> None:
    """Replaces functions among the attributes of a copied module's layers, and in their lists.

    copies: id of an original object -> its copy, as `copy.deepcopy` leaves them in its memo.
    """
    rebinding = _Rebinding(copies)
    for layer in module.modules():
        rebinding.replace(vars(layer), depth=2)


class _Rebinding:
    """Copies of functions, each once, which share among them the variables that the originals do.

    A function may refer to itself, or to one that refers to it.
    """

    def __init__(self, copies: Mapping[int, Any]) -> None:
        self.copies = copies
        # With the originals, which keep their ids from others.
        self.functions: dict[int, tuple[types.FunctionType, Any]] = {}
        self.cells: dict[int, tuple[types.CellType, Any]] = {}

    def replace(self, kept: Any, depth: int) -> None:
        for key, value in list(kept.items() if isinstance(kept, dict) else enumerate(kept)):
            if isinstance(value, types.FunctionType):
                kept[key] = self.function(value)
            elif depth and isinstance(value, dict | list):
                self.replace(value, depth - 1)

    def function(self, function: types.FunctionType) -> types.FunctionType:
        if not (function.__closure__ or function.__defaults__ or function.__kwdefaults__):
            return function
        if id(function) not in self.functions:
            cells = tuple(map(self.cell, function.__closure__ or ()))
            bound = types.FunctionType(
                function.__code__, function.__globals__, function.__name__, None, cells or None
            )
            # Known before what it holds is bound, which may be itself.
            self.functions[id(function)] = bound, function
            for cell, original in zip(cells, function.__closure__ or (), strict=True):
                self.fill(cell, original)
            bound.__defaults__ = tuple(map(self.value, function.__defaults__ or ())) or None
            named = function.__kwdefaults__ or {}
            bound.__kwdefaults__ = {name: self.value(v) for name, v in named.items()} or None
            bound.__qualname__ = function.__qualname__
            bound.__dict__.update(function.__dict__)
        return self.functions[id(function)][0]

    def cell(self, original: types.CellType) -> types.CellType:
        return self.cells.setdefault(id(original), (types.CellType(), original))[0]

    def fill(self, cell: types.CellType, original: types.CellType) -> None:
        if not _is_empty(cell) or _is_empty(original):
            return
        held = original.cell_contents
        cell.cell_contents = held  # while what it holds is bound, which may lead here again
        cell.cell_contents = self.value(held)

    def value(self, value: Any) -> Any:
        if isinstance(value, types.FunctionType):
            return self.function(value)
        if isinstance(value, types.MethodType) and id(value.__self__) in self.copies:
            return types.MethodType(value.__func__, self.copies[id(value.__self__)])
        return self.copies.get(id(value), value) if isinstance(value, nn.Module | Tensor) else value


def _is_empty(cell: types.CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return True
    return False
