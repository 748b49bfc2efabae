"""The root attributes of a result file: what was computed, from what, by which program."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import PurePath
from typing import Any, Protocol

import numpy as np
import torch


class NetworkLike(Protocol):
    """What provenance reads of a `geomadv.Classifier`."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def weights_sha256(self) -> str: ...  # noqa: D102
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


# Values that stand for "there is none": netCDF attributes cannot be null, and a reader should find
# the same attributes in every file.
_ABSENT: dict[str, Any] = {
    "experiment": "",
    "config": "{}",
    "network": "",
    "weights_sha256": "",
    "dataset": "",
    "dataset_sha256": "",
    "seed": -1,
    "device": "",
    "dtype": "",
    "wall_time_s": math.nan,
}

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
        Plain JSON values under experiment, network, weights_sha256, dataset, dataset_sha256 (empty
        text where there is none) and config (a nested mapping). It serves as the `config` of a
        `ChunkStore`.
    """
    return {
        "experiment": experiment,
        "network": "" if net is None else net.name,
        "weights_sha256": "" if net is None else net.weights_sha256,
        "dataset": "" if images is None else images.name,
        "dataset_sha256": "" if images is None else images.sha256,
        "config": plain(config),
    }


def provenance(
    experiment: str,
    *,
    net: NetworkLike | None = None,
    images: ImagesLike | None = None,
    config: Mapping[str, Any],
    seed: int | None = None,
    wall_time_s: float | None = None,
) -> dict[str, Any]:
    """Root attributes of a result file.

    Args:
        experiment: name of the experiment, as in the file name.
        net: the network, if one takes part.
        images: the images, if any take part.
        config: every setting that can change the numbers; stored as JSON with sorted keys.
        seed: seed of the random choices; None: ``config["seed"]``.
        wall_time_s: duration of the computation, in seconds.

    Returns:
        The attributes named in the format description. Where there is none of a thing, texts are
        empty, seed is -1 and wall_time_s is NaN.
    """
    attrs = identity(experiment, net=net, images=images, config=config)
    attrs["config"] = json.dumps(attrs["config"], sort_keys=True)
    chosen = config.get("seed") if seed is None else seed
    if chosen is not None:
        attrs["seed"] = int(chosen)
    if net is not None:
        attrs |= {"device": str(net.device), "dtype": str(net.dtype).removeprefix("torch.")}
    if wall_time_s is not None:
        attrs["wall_time_s"] = float(wall_time_s)
    return complete_attrs(attrs)


def complete_attrs(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes in storable form, with the missing ones of the format filled in."""
    filled = {
        "geomadv_version": program_version(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": _command(),
        "torch_version": str(torch.__version__),
        **_ABSENT,
        **storable(attrs),
    }
    return {**filled, "complete": 1}


def storable(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes as netCDF can hold them: no booleans, no nulls; nested values as JSON text."""
    return {str(name): _storable(value) for name, value in attrs.items() if value is not None}


def _storable(value: Any) -> Any:
    if isinstance(value, bool | np.bool_):
        return int(value)
    if isinstance(value, str | int | float | np.number):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in "iuf":
        return value
    if isinstance(value, list | tuple) and value and all(isinstance(item, str) for item in value):
        return list(value)
    simple = plain(value)
    return simple if isinstance(simple, str) else json.dumps(simple, sort_keys=True)


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
    found["config"] = json.loads(str(attrs.get("config", "{}")))
    return found


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Entries in which two nested mappings of plain values differ, as ``name: old -> new``."""
    lines: list[str] = []
    for key in sorted(set(old) | set(new)):
        before, after = old.get(key, _MISSING), new.get(key, _MISSING)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            lines.append(f"{prefix}{key}: {_short(before)} -> {_short(after)}")
    return lines


_MISSING = object()


def _short(value: Any, limit: int = 60) -> str:
    if value is _MISSING:
        return "(absent)"
    text = json.dumps(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def program_version() -> str:
    """Version of the installed package."""
    try:
        return metadata.version("geomadv")
    except metadata.PackageNotFoundError:
        return "unknown"


def _command() -> str:
    """The command line, its program without the folders of this machine."""
    program, *arguments = sys.argv or [""]
    name = PurePath(program).name
    if name.startswith("ipykernel_launcher"):
        return "notebook"
    return shlex.join([name, *arguments])
