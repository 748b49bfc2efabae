"""Whether an existing result answers the present question."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from geomadv.errors import InputError
from geomadv.results.files import entries, load, read_attrs
from geomadv.results.identity import Identity, differences
from geomadv.results.workarea import tidy

# Entries of an identity that hold further ones.
_NESTED = ("schema", "settings", "network", "networks", "images", "class_names", "inputs")


def stored_identity(path: str | os.PathLike[str]) -> Identity:
    """The identity of a result file.

    Raises:
        InputError: no complete result file, or one that does not say all that makes a result the
            same result, as those of geomadv 0.1.
    """
    path = Path(path)
    attrs = read_attrs(path)
    known = entries(path, attrs, "identity")
    if not known:
        raise InputError(
            f"{path} was written by geomadv {attrs['geomadv_version']}, whose files do not say all "
            "that makes a result the same result: use --refresh to compute it anew, or another "
            "--results folder to keep it."
        )
    if wrong := [name for name in _NESTED if not isinstance(known.get(name, {}), dict)]:
        raise InputError(
            f"{path} was changed since it was computed (its identity holds a "
            f"{type(known[wrong[0]]).__name__} as {wrong[0]}): compute it again (--refresh)."
        )
    return known


def reuse(
    path: str | os.PathLike[str], identity: Mapping[str, Any], *, refresh: bool = False
) -> xr.Dataset | None:
    """The existing result of an identity, if any.

    Args:
        path: the result file.
        identity: of the result that is wanted.
        refresh: give up a result of another identity, or of none, instead of refusing it.

    Returns:
        The dataset, or None where it is to be computed.

    Raises:
        InputError: the file holds a result of another identity (the message lists what differs),
            or is no complete geomadv result.
    """
    path = Path(path)
    if not path.exists():
        return None
    if refresh and not entries(path, read_attrs(path), "identity"):
        return None
    changed = differences(stored_identity(path), identity)
    if changed and refresh:
        return None
    if changed:
        raise InputError(
            f"{path} is stale, since what it was computed from has changed ({'; '.join(changed)}): "
            "use --refresh to compute it anew, or another --results folder to keep both."
        )
    tidy(path, identity)
    return load(path)
