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

from geomadv.results.identity import ImagesLike, NetworkLike, identity, plain

# Values that stand for "there is none": netCDF attributes cannot be null, and a reader should find
# the same attributes in every file.
_ABSENT: dict[str, Any] = {
    "experiment": "",
    "config": "{}",
    "network": "",
    "weights_sha256": "",
    "behaviour": "[]",
    "dataset": "",
    "dataset_sha256": "",
    "seed": -1,
    "device": "",
    "dtype": "",
    "wall_time_s": math.nan,
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
    attrs["behaviour"] = json.dumps(attrs["behaviour"])
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
