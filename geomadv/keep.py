"""Parts of long experiments, which a caller may keep so that a killed run does not repeat them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import xarray as xr

Compute = Callable[[], xr.Dataset]


class Keep(Protocol):
    """Keeps finished parts of an experiment; `geomadv.results.Store` keeps them on disk.

    What is returned never depends on whether a part was kept or has been computed now.
    """

    def __call__(self, part: str, compute: Compute) -> xr.Dataset:
        """The dataset of a part: the one kept under its name, else the one computed now."""
        ...

    def rows(self, parts: Mapping[str, Compute], dim: str) -> xr.Dataset:
        """All parts, joined in order along their common dimension `dim`, which comes first.

        Every variable has the dimension. The rows together may be larger than memory: a store
        reads them when they are used.
        """
        ...

    def state(self, name: str) -> Path | None:
        """Where a computation may keep a file of its own until its part is finished; or nowhere."""
        ...


class KeepNothing:
    """Computes every part anew and holds all rows in memory: the default of the experiments."""

    def __call__(self, part: str, compute: Compute) -> xr.Dataset:
        """What `compute` returns."""
        del part
        return compute()

    def rows(self, parts: Mapping[str, Compute], dim: str) -> xr.Dataset:
        """All parts, joined in memory."""
        computed = [compute() for compute in parts.values()]
        return xr.concat(computed, dim, join="exact", combine_attrs="override")

    def state(self, name: str) -> Path | None:
        """Nowhere."""
        del name
        return None


keep_nothing = KeepNothing()


class _Within:
    """A store in which all names bear the same beginning."""

    def __init__(self, keep: Keep, name: str) -> None:
        self._keep, self._name = keep, name

    def __call__(self, part: str, compute: Compute) -> xr.Dataset:
        return self._keep(f"{self._name}.{part}", compute)

    def rows(self, parts: Mapping[str, Compute], dim: str) -> xr.Dataset:
        return self._keep.rows({f"{self._name}.{part}": c for part, c in parts.items()}, dim)

    def state(self, name: str) -> Path | None:
        return self._keep.state(f"{self._name}.{name}")


def within(keep: Keep, name: str) -> Keep:
    """The same store for one of several equal experiments: its parts bear the name in front."""
    return _Within(keep, name)
