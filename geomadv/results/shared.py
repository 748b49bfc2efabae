"""One store for several processes: the main one keeps, all of them get what is kept."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import xarray as xr

from geomadv.distributed import from_main, size
from geomadv.keep import Compute, keep_nothing
from geomadv.results.store import Store


class SharedKeep:
    """What keeps parts that all processes under torchrun compute together; see `Keep`.

    All processes ask for the same parts in the same order. Without torchrun it is the store.

    Args:
        store: of the main process; None on the others.
    """

    def __init__(self, store: Store | None) -> None:
        self._store = store

    def __call__(self, part: str, compute: Compute) -> xr.Dataset:
        """The main process's dataset of a part: the kept one, else the one computed now by all."""
        ready = from_main(self._store is not None and self._store.has(part))
        ds = xr.Dataset() if ready else compute()
        return from_main(ds if self._store is None else self._store(part, lambda: ds))

    def rows(self, parts: Mapping[str, Compute], dim: str) -> xr.Dataset:
        """All parts joined: as the store does on the main process, in memory on the others."""
        if self._store is None:
            shared = {part: partial(self, part, compute) for part, compute in parts.items()}
            return keep_nothing.rows(shared, dim)
        for part, compute in parts.items() if size() > 1 else ():
            self(part, compute)
        return self._store.rows(parts, dim)

    def state(self, name: str) -> Path | None:
        """A file of the store on the main process, nowhere on the others."""
        return None if self._store is None else self._store.state(name)
