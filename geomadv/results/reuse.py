"""Whether an existing result answers the present question."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from geomadv.errors import InputError
from geomadv.results.files import load, read_attrs
from geomadv.results.identity import (
    ImagesLike,
    NetworkLike,
    differences,
    identity,
    stored_identity,
)
from geomadv.results.workarea import discard_assembled


def reuse(
    path: str | os.PathLike[str],
    config: Mapping[str, Any],
    *,
    experiment: str,
    net: NetworkLike | None = None,
    images: ImagesLike | None = None,
    overwrite: bool = False,
) -> xr.Dataset | None:
    """The existing result of the same experiment, network, images and configuration, if any.

    Args:
        path: the result file.
        config: as given to `provenance`; the seed belongs to it.
        experiment: name of the experiment.
        net: the network, if one takes part.
        images: the images, if any take part.
        overwrite: compute anew whatever exists.

    Returns:
        The dataset, or None where it is to be computed.

    Raises:
        InputError: the file holds a result of another identity (the message lists what differs),
            or is no complete geomadv result.
    """
    path = Path(path)
    if overwrite or not path.exists():
        return None
    wanted = identity(experiment, net=net, images=images, config=config)
    changed = differences(stored_identity(read_attrs(path)), wanted)
    if changed:
        raise InputError(
            f"{path} holds another result ({'; '.join(changed)}): use --overwrite to replace it, "
            "or another --results folder to keep both."
        )
    discard_assembled(path, wanted)
    return load(path)
