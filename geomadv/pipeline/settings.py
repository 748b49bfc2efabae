"""Settings as dataclasses: from JSON, TOML and the command line, and back."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import numpy as np

from geomadv.errors import InputError, closest
from geomadv.results.identity import plain

Given = Mapping[str, Any]

_fields = dataclasses.fields

# Numbers of an image beyond which default settings ask for less: what a night affords on a CPU.
LARGE_IMAGE = 4096


@dataclass(frozen=True)
class Bound:
    """What numbers of a setting must be, as `Annotated[int, Bound(1)]`; of a list, each of them.

    Attributes:
        least: the smallest number.
        above: greater than `least`, and finite.
        some: a list must not be empty.
        most: the largest number.
    """

    least: float
    above: bool = False
    some: bool = False
    most: float = math.inf

    def check(self, value: Any, where: str) -> None:
        """Raises an `InputError` for a value out of bounds; texts and None have none."""
        several = isinstance(value, tuple)
        numbers = [v for v in (value if several else [value]) if isinstance(v, int | float)]
        fits = all(
            self.least < v < math.inf if self.above else self.least <= v <= self.most
            for v in numbers
        )
        if not fits or (several and self.some and not value):
            words = f"> {self.least:g} and finite" if self.above else f"at least {self.least:g}"
            words += f" and at most {self.most:g}" if self.most < math.inf else ""
            count = f"a list{' of one or more numbers' * self.some}, each " if several else ""
            raise InputError(f"{where} = {plain(value)}: expected {count}{words}.")


# No whole number of a setting is larger: images, passes, dimensions. Seeds and bytes are: they are
# stored as int64.
MOST = 10**9
_MOST_STORED = 2**63 - 1

Count = Annotated[int, Bound(1)]
CountOrAll = Annotated[int | None, Bound(1)]
Draws = Annotated[int, Bound(1, most=10**6)]
Counts = Annotated[tuple[int, ...], Bound(1)]
Shares = Annotated[tuple[float, ...], Bound(0, above=True, some=True)]


def field_names(settings: Any) -> list[str]:
    """Names of the fields of a dataclass."""
    return [field.name for field in _fields(settings)]


def with_given(settings: Any, given: Given, where: str = "") -> Any:
    """The settings with those that are given, nested as they are.

    Args:
        settings: a dataclass.
        given: field -> value; nested mappings for nested dataclasses; values in JSON terms (lists
            for tuples, "inf" for infinity) or as they are.
        where: in front of the names in messages, such as "curvature.".

    Raises:
        InputError: no such field, or a value of another type or out of its `Bound`.
    """
    kinds = typing.get_type_hints(type(settings), include_extras=True)
    changes = {}
    for name, value in given.items():
        known = field_names(settings)
        if name not in known:
            raise InputError(
                f"{where}{name} is no setting.{closest(name, known)} There are {', '.join(known)}."
            )
        now = getattr(settings, name)
        if dataclasses.is_dataclass(now) and isinstance(value, Mapping):
            changes[name] = with_given(now, value, f"{where}{name}.")
        elif dataclasses.is_dataclass(value) and type(value) is type(now):
            changes[name] = normalised(value)
        else:
            changes[name] = _restored(kinds[name], value, f"{where}{name}")
    return dataclasses.replace(settings, **changes)


def _restored(kind: Any, value: Any, where: str) -> Any:
    """The value as its type annotation says; JSON and TOML know neither tuples, infinity nor None.

    Raises:
        InputError: it is of another type, or out of bounds.
    """
    bounds: list[Any] = []
    if typing.get_origin(kind) is Annotated:
        kind, *bounds = typing.get_args(kind)
    options = typing.get_args(kind) if _is_union(kind) else (kind,)
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value == "None" and type(None) in options:
        return None
    for option in options:
        try:
            found = _one(option, value)
        except (TypeError, ValueError):
            continue
        for bound in (*bounds, Bound(-math.inf, most=MOST) if _is_whole(found) else None):
            if isinstance(bound, Bound):
                bound.check(found, where)
        return found
    raise InputError(f"{where} = {value!r}: expected {_words(kind)}.")


def _is_whole(value: Any) -> bool:
    values = value if isinstance(value, tuple) else (value,)
    return all(isinstance(v, int) for v in values)


def check_whole(name: str, value: Any, least: int, most: int = _MOST_STORED) -> None:
    """Raises an `InputError` for what is neither None nor a whole number in bounds."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if value is not None and not (whole and least <= value <= most):
        raise InputError(
            f"{name}={value!r}: expected a whole number, at least {least} and at most {most}."
        )


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (Union, types.UnionType)


def _one(kind: Any, value: Any) -> Any:
    """The value as one type without alternatives; raises ValueError if it is none."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind in (None, type(None)) and value is None:
        return None
    if origin is Literal and value in arguments:
        return value
    if origin is tuple and isinstance(value, list | tuple | range):
        if arguments[-1] is not Ellipsis and len(arguments) != len(value):
            raise ValueError
        each = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        return tuple(_one(k, v) for k, v in zip(each, value, strict=True))
    if kind is float and not isinstance(value, bool):
        number = float(value)
        if isinstance(value, str) and math.isfinite(number):
            raise ValueError
        return number
    if kind is str and type(value) is int:  # classes, by name or number
        return str(value)
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    if kind in (int, str, bool) and type(value) is kind:
        return value
    raise ValueError


def _words(kind: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    names |= {Path: "a path"}
    if dataclasses.is_dataclass(kind):
        return f"settings by name: {', '.join(field.name for field in _fields(kind))}"
    if _is_union(kind):
        return " or ".join(_words(k) for k in typing.get_args(kind))
    if typing.get_origin(kind) is Literal:
        return " or ".join(map(repr, typing.get_args(kind)))
    if typing.get_origin(kind) is tuple:
        return f"a list, each {_words(typing.get_args(kind)[0])}"
    return "nothing" if kind in (None, type(None)) else names.get(kind, str(kind))


def normalised(settings: Any) -> Any:
    """The same settings with every value of the type that its field says: 1 becomes 1.0."""
    return with_given(settings, {n: getattr(settings, n) for n in field_names(settings)})


def differing(now: Any, base: Any) -> dict[str, Any]:
    """The fields, in JSON terms and nested, in which settings differ from others of their class."""
    found: dict[str, Any] = {}
    for field in _fields(now):
        new, old = getattr(now, field.name), getattr(base, field.name)
        if dataclasses.is_dataclass(new) and type(new) is type(old):
            if inner := differing(new, old):
                found[field.name] = inner
        elif plain(new) != plain(old):
            found[field.name] = plain(new)
    return found


def merged(settings: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with those given in their places, of settings within settings each by itself."""
    both = {
        n for n in given if isinstance(given[n], Mapping) and isinstance(settings.get(n), Mapping)
    }
    return {**settings, **given, **{n: merged(settings[n], given[n]) for n in both}}


def flat(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Settings within settings under dotted names, as their flags have them."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        nested = isinstance(value, Mapping)
        found |= flat(value, f"{above}{name}.") if nested else {f"{above}{name}": value}
    return found
