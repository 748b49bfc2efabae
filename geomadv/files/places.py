"""Where data sets and weights lie: folders that environment variables name."""

import os
from pathlib import Path

import pooch

from geomadv.errors import InputError

DATA_VARIABLE = "GEOMADV_DATA"
CACHE_VARIABLE = "GEOMADV_CACHE"


def data_dir() -> Path | None:
    """The folder of data sets and weights that the variable GEOMADV_DATA names.

    Returns:
        The folder (with sub-folders such as `mnist/` and `weights/`), or None where the variable
        is unset or empty.

    Raises:
        InputError: the variable names something that is not a folder.
    """
    named = os.environ.get(DATA_VARIABLE)
    if not named:
        return None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise InputError(
            f"{DATA_VARIABLE}={named} is not a folder. Set it to the folder that holds mnist/, "
            "cifar10/, weights/ and so on, or unset it to use the cache and downloads."
        )
    return folder


def cache_dir() -> Path:
    """The folder for downloads and trained networks; it need not exist yet.

    The variable GEOMADV_CACHE names it; without, the usual per-user cache folder of the system.
    """
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named).expanduser() if named else Path(pooch.os_cache("geomadv"))
