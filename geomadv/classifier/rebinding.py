"""Functions that a copied module keeps, made to call the copy's layers in place of the original's.

A deep copy shares functions: a lambda that holds a layer, a hook, the forward of an instance.
"""

import types
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn


def rebind(module: nn.Module, copies: Mapping[int, Any]) -> None:
    """Replaces functions among the attributes of a copied module's layers, and in their lists.

    copies: id of an original object -> its copy, as `copy.deepcopy` leaves them in its memo.
    """
    for layer in module.modules():
        _replace(vars(layer), copies, depth=2)


def _replace(kept: Any, copies: Mapping[int, Any], depth: int) -> None:
    for key, value in list(kept.items() if isinstance(kept, dict) else enumerate(kept)):
        if isinstance(value, types.FunctionType):
            kept[key] = _bound(value, copies)
        elif depth and isinstance(value, dict | list):
            _replace(value, copies, depth - 1)


def _bound(function: types.FunctionType, copies: Mapping[int, Any]) -> types.FunctionType:
    """The same function of the copies; itself where it holds no original."""
    try:
        held = [cell.cell_contents for cell in function.__closure__ or ()]
    except ValueError:  # a cell that is empty yet
        return function
    defaults = function.__defaults__ or ()
    cells, given = _copies(held, copies), _copies(defaults, copies)
    if _same(cells, held) and _same(given, defaults):
        return function
    closure = tuple(map(types.CellType, cells)) if cells else None
    bound = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, tuple(given) or None, closure
    )
    bound.__kwdefaults__ = function.__kwdefaults__
    bound.__dict__.update(function.__dict__)
    return bound


def _copies(values: Iterable[Any], copies: Mapping[int, Any]) -> list[Any]:
    def copy_of(value: Any) -> Any:
        if isinstance(value, types.FunctionType):
            return _bound(value, copies)
        return copies.get(id(value), value) if isinstance(value, nn.Module | Tensor) else value

    return list(map(copy_of, values))


def _same(found: Iterable[Any], before: Iterable[Any]) -> bool:
    return all(one is two for one, two in zip(found, before, strict=True))
