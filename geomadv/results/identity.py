"""What makes two results the same result: equal identities give equal numbers.

An identity is a nested mapping of JSON values. `geomadv.pipeline.identity` forms those of the
experiments; here they are compared.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

Identity = dict[str, Any]

# What a network computes: numbers with rounding.
BEHAVIOUR = "behaviour"


def plain(value: Any) -> Any:
    """The value in JSON terms: arrays and tuples as lists, infinities and other objects as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=str)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return str(value)


def digest(identity: Mapping[str, Any]) -> str:
    """Checksum of an identity, which stands for it in the identities of what starts from it.

    What networks compute has rounding and is left out: each result compares it by itself.
    """
    exact = json.dumps(_exact(identity), sort_keys=True)
    return hashlib.sha256(exact.encode()).hexdigest()


def _exact(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _exact(item) for key, item in value.items() if key != BEHAVIOUR}
    return value


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Entries in which two nested mappings of plain values differ, as ``name: old -> new``."""
    lines: list[str] = []
    for key in sorted(set(old) | set(new)):
        before, after = old.get(key, _MISSING), new.get(key, _MISSING)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += differences(before, after, f"{prefix}{key}.")
        elif before != after and not (key == BEHAVIOUR and _alike(before, after)):
            lines.append(f"{prefix}{key}: {_short(before)} -> {_short(after)}")
    return lines


def _alike(before: Any, after: Any) -> bool:
    """Whether a network's scores on its probe images repeat, on whatever machine.

    Another batch size or processor changes scores by some 1e-6 of their range, another function
    by a good part of it.
    """
    if not (isinstance(before, list) and isinstance(after, list) and len(before) == len(after)):
        return False
    if not all(isinstance(number, int | float) for number in (*before, *after)):
        return False  # of a file that was changed
    old, new = np.array(before, dtype=float), np.array(after, dtype=float)
    return bool(np.all(np.abs(old - new) <= 1e-4 * np.abs(old).max(initial=0.0)))


_MISSING = object()


def _short(value: Any) -> str:
    if value is _MISSING:
        return "(absent)"
    if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value):
        return f"{value[:8]}..."
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
