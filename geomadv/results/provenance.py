"""The root attributes of a result file: what was computed, from what, by which program."""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import PurePath
from typing import Any

import numpy as np
import torch

from geomadv.results.identity import plain

# Values that stand for "there is none": netCDF attributes cannot be null, and a reader should find
# the same attributes in every file.
_ABSENT: dict[str, Any] = {
    "experiment": "",
    "identity": "{}",
    "config": "{}",
    "images": "{}",
    "inputs": "{}",
    "network": "",
    "weights_sha256": "",
    "dataset": "",
    "dataset_sha256": "",
    "seed": -1,
    "device": "",
    "dtype": "",
    "wall_time_s": math.nan,
}


def provenance(identity: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Root attributes of a result file.

    Args:
        identity: what makes the result the same result, see `geomadv.results.identity`.
        **more: further attributes, of any type that JSON has.

    Returns:
        The attributes named in the format description. Where there is none of a thing, texts are
        empty, seed is -1 and wall_time_s is NaN.
    """
    exact = plain(identity)
    told = {name: exact[name] for name in ("experiment", "seed") if name in exact}
    return complete_attrs({"identity": json.dumps(exact, sort_keys=True), **told, **more})


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
