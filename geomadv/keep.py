"""Parts of long experiments, which a caller may keep so that a killed run does not repeat them."""

from collections.abc import Callable
from typing import Protocol

import xarray as xr


class Keep(Protocol):
    """Returns the dataset of a part: the one kept under its name, else the one computed now.

    What is returned must not depend on which of the two it was. `geomadv.results.PartStore` keeps
    parts on disk.
    """

    def __call__(self, part: str, compute: Callable[[], xr.Dataset]) -> xr.Dataset: ...  # noqa: D102


def keep_nothing(part: str, compute: Callable[[], xr.Dataset]) -> xr.Dataset:
    """Computes every part anew: the default of the experiments."""
    del part
    return compute()


def within(keep: Keep, name: str) -> Keep:
    """The same store for one of several equal experiments: its parts bear the name in front."""
    return lambda part, compute: keep(f"{name}.{part}", compute)
