"""Which part of what a module gives are the scores."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from geomadv.errors import InputError


def scores_in(value: Any, output: str | int | None) -> tuple[Any, str]:
    """The scores in what a module gives, and the name of the field that they are ("": all of it).

    Without a name these are a tensor alone, the field `logits` of a mapping, a tuple with names or
    an object, or the only field; anything else is given back as it is.

    output: name of the field, or its place in a tuple.

    Raises:
        InputError: there is no field of that name.
    """
    if output is None and isinstance(value, Tensor):
        return value, ""
    parts = _parts(value)
    name = "logits" if output is None else str(output)
    if name in parts:
        return parts[name], name
    attribute = getattr(value, name, None) if not isinstance(value, Tensor) else None
    if isinstance(attribute, Tensor):
        return attribute, name
    if output is not None:
        has = f"{listed(value)}: name one" if listed(value) else "a tensor alone: leave output away"
        raise InputError(f"output={output!r}: the network gives no such field, but {has}.")
    if len(parts) == 1:
        return next(iter(parts.values())), next(iter(parts))
    return value, ""


def listed(value: Any) -> str:
    """The fields of what a module gives and their shapes; "" where it has none."""
    return ", ".join(
        f"{name!r} {tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__}"
        for name, part in _parts(value).items()
    )


def _parts(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {str(name): part for name, part in value.items()}
    if isinstance(value, tuple | list):
        names = getattr(value, "_fields", range(len(value)))
        return {str(name): part for name, part in zip(names, value, strict=False)} | {
            str(i): part for i, part in enumerate(value)
        }
    return {} if isinstance(value, Tensor) else dict(getattr(value, "__dict__", {}))
