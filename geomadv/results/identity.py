"""What makes two results the same result: equal identities must give equal numbers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np


class NetworkLike(Protocol):
    """What provenance reads of a `geomadv.Classifier`."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def weights_sha256(self) -> str: ...  # noqa: D102
    @property
    def behaviour(self) -> Sequence[float]: ...  # noqa: D102
    @property
    def device(self) -> Any: ...  # noqa: D102
    @property
    def dtype(self) -> Any: ...  # noqa: D102


class ImagesLike(Protocol):
    """What provenance reads of a `geomadv.ImageSet`."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def sha256(self) -> str: ...  # noqa: D102


_IDENTITY = ("experiment", "network", "weights_sha256", "dataset", "dataset_sha256")


def identity(
    experiment: str,
    *,
    net: NetworkLike | None = None,
    images: ImagesLike | None = None,
    config: Mapping[str, Any],
) -> dict[str, Any]:
    """What makes two runs the same run: equal identities must give equal numbers.

    Args:
        experiment: name of the experiment, as in the file name.
        net: the network, if one takes part.
        images: the images, if any take part.
        config: every setting that can change the numbers, the seed included.

    Returns:
        Plain JSON values under experiment, network, weights_sha256, behaviour, dataset,
        dataset_sha256 (empty where there is none) and config (a nested mapping, in which a result
        that this one starts from stands by its `digest`). It serves as the `identity` of a
        `Store`.
    """
    return {
        "experiment": experiment,
        "network": "" if net is None else net.name,
        "weights_sha256": "" if net is None else net.weights_sha256,
        # What a forward computes beyond its weights: another activation, another stride.
        "behaviour": [] if net is None else list(net.behaviour),
        "dataset": "" if images is None else images.name,
        "dataset_sha256": "" if images is None else images.sha256,
        "config": plain(config),
    }


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


def stored_identity(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """The `identity` that the root attributes of a file tell."""
    found: dict[str, Any] = {name: str(attrs.get(name, "")) for name in _IDENTITY}
    found["behaviour"] = json.loads(str(attrs.get("behaviour", "[]")))
    found["config"] = json.loads(str(attrs.get("config", "{}")))
    return found


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Entries in which two nested mappings of plain values differ, as ``name: old -> new``."""
    lines: list[str] = []
    for key in sorted(set(old) | set(new)):
        before, after = old.get(key, _MISSING), new.get(key, _MISSING)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += differences(before, after, f"{prefix}{key}.")
        elif before != after and not (key == "behaviour" and _alike(before, after)):
            lines.append(f"{prefix}{key}: {_short(before)} -> {_short(after)}")
    return lines


def _alike(before: Any, after: Any) -> bool:
    """Whether a network's scores on its probe images repeat, on whatever machine.

    Another batch size or processor changes scores by some 1e-6 of their range, another function
    by a good part of it.
    """
    if not (isinstance(before, list) and isinstance(after, list) and len(before) == len(after)):
        return False
    old, new = np.array(before, dtype=float), np.array(after, dtype=float)
    return bool(np.all(np.abs(old - new) <= 1e-4 * np.abs(old).max(initial=0.0)))


def is_of_network(attrs: Mapping[str, Any], net: NetworkLike) -> bool:
    """Whether a stored result is of this network: the same weights, computing the same."""
    stored = stored_identity(attrs)
    behaviour = _alike(stored["behaviour"], list(net.behaviour))
    return bool(stored["weights_sha256"] == net.weights_sha256) and behaviour


def digest(attrs: Mapping[str, Any]) -> str:
    """Checksum of the identity of a stored result, for the identities of what starts from it.

    As its own identity holds the digests of its inputs, it stands for all results before it. The
    behaviour of the network has rounding and is left out: each result compares it by itself.
    """
    known = {name: value for name, value in stored_identity(attrs).items() if name != "behaviour"}
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


_MISSING = object()


def _short(value: Any, limit: int = 60) -> str:
    if value is _MISSING:
        return "(absent)"
    text = json.dumps(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
