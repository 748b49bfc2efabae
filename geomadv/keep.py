"""Parts of long experiments, which a caller may keep so that a killed run does not repeat them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import xarray as xr

Compute = Callable[[], xr.Dataset]
Done = Callable[[], object]


def nothing() -> None:
    """What is done where nothing is to be done."""


def one_by_one(keep: "Keep", parts: Mapping[str, Compute], done: Done) -> list[xr.Dataset]:
    """The parts of `Keep.each`, one after the other."""
    found = []
    for part, compute in parts.items():
        found.append(keep(part, compute))
        done()
    return found


class Keep(Protocol):
    """Keeps finished parts of an experiment; `geomadv.results.Store` keeps them on disk.

    What is returned never depends on whether a part was kept or has been computed now.
    """

    def __call__(self, part: str, compute: Compute) -> xr.Dataset:
        """The dataset of a part: the one kept under its name, else the one computed now.

        Under torchrun the main process computes it by itself.
        """
        ...

    def each(self, parts: Mapping[str, Compute], done: Done = nothing) -> list[xr.Dataset]:
        """The datasets of parts that do not need each other, in order.

        Processes under torchrun divide them: what computes one runs on one process, and must not
        wait for the others. done: called after each part, kept or computed.
        """
        ...

    def rows(self, parts: Mapping[str, Compute], dim: str, *, together: bool = False) -> xr.Dataset:
        """All parts, joined in order along their common dimension `dim`, which comes first.

        Every variable has the dimension. The rows together may be larger than memory: a store
        reads them when they are used. Processes divide the parts as in `each`, or, together, all
        of them work at each part.
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

    def each(self, parts: Mapping[str, Compute], done: Done = nothing) -> list[xr.Dataset]:
        """What the parts return."""
        return one_by_one(self, parts, done)

    def rows(self, parts: Mapping[str, Compute], dim: str, *, together: bool = False) -> xr.Dataset:
        """All parts, joined in memory."""
        del together
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

    def each(self, parts: Mapping[str, Compute], done: Done = nothing) -> list[xr.Dataset]:
        return self._keep.each(self._named(parts), done)

    def rows(self, parts: Mapping[str, Compute], dim: str, *, together: bool = False) -> xr.Dataset:
        return self._keep.rows(self._named(parts), dim, together=together)

    def _named(self, parts: Mapping[str, Compute]) -> dict[str, Compute]:
        return {f"{self._name}.{part}": compute for part, compute in parts.items()}

    def state(self, name: str) -> Path | None:
        return self._keep.state(f"{self._name}.{name}")


def within(keep: Keep, name: str) -> Keep:
    """The same store for one of several equal experiments: its parts bear the name in front."""
    return _Within(keep, name)
