"""One store for several processes: they divide the parts, the main one keeps them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import xarray as xr

from geomadv.distributed import by_itself, from_main, gather, on_main, rank, size
from geomadv.errors import InputError
from geomadv.keep import Compute, Done, keep_nothing, nothing, one_by_one
from geomadv.results.store import Store

# Of one process in a round: what it computed, or why not.
_Outcome = tuple[xr.Dataset | None, InputError | None]


class SharedKeep:
    """What keeps parts that the processes under torchrun compute; see `Keep`.

    All processes ask for the same parts in the same order. Without torchrun it is the store.

    Args:
        store: of the main process; None on the others.
        say: where the main process tells that there are fewer parts than processes.
    """

    def __init__(self, store: Store | None, say: Callable[[str], None] = print) -> None:
        self._store, self._say = store, say

    def __call__(self, part: str, compute: Compute) -> xr.Dataset:
        """The main process's dataset of a part: the kept one, else what it computes by itself."""
        return on_main(partial(self._own, part, compute))

    def _own(self, part: str, compute: Compute) -> xr.Dataset:
        return compute() if self._store is None else self._store(part, compute)

    def _of_all(self, part: str, compute: Compute) -> xr.Dataset:
        """The same, computed by all processes together."""
        ready = from_main(self._store is not None and self._store.has(part))
        ds = xr.Dataset() if ready else compute()
        return from_main(self._own(part, partial(_given, ds)))

    def each(self, parts: Mapping[str, Compute], done: Done = nothing) -> list[xr.Dataset]:
        """The main process's datasets of the parts, which the processes divide in rounds."""
        if size() == 1:
            return one_by_one(self, parts, done)
        return list(self._divided(parts, done))

    def rows(self, parts: Mapping[str, Compute], dim: str, *, together: bool = False) -> xr.Dataset:
        """All parts joined: as the store does on the main process, in memory on the others."""
        if size() == 1:
            keep = keep_nothing if self._store is None else self._store
            return keep.rows(parts, dim)
        shared = (self._of_all(part, compute) for part, compute in parts.items())
        computed = shared if together else self._divided(parts, nothing)
        if self._store is None:
            return xr.concat(list(computed), dim, join="exact", combine_attrs="override")
        for _ in computed:  # one at a time is in memory
            pass
        return self._store.rows(parts, dim)

    def state(self, name: str) -> Path | None:
        """A file of the store on the main process, nowhere on the others."""
        return None if self._store is None else self._store.state(name)

    def _divided(self, parts: Mapping[str, Compute], done: Done) -> Iterator[xr.Dataset]:
        """The datasets of the parts in order; in a round each process computes one."""
        store = self._store
        missing = from_main([p for p in parts if store is not None and not store.has(p)])
        self._tell_waiting(len(missing))
        starts = set(missing[:: size()])
        for part in parts:
            if part in starts:
                k = missing.index(part)
                self._round(parts, missing[k : k + size()])
            yield from_main(xr.Dataset() if store is None else store(part, xr.Dataset))
            done()

    def _round(self, parts: Mapping[str, Compute], names: list[str]) -> None:
        """Parts that the processes compute at the same time, kept by the main process.

        Raises:
            InputError: of any of them, on all of them; the parts of the others are kept.
        """
        outcome: _Outcome = (None, None)
        if rank() < len(names):
            compute = parts[names[rank()]]
            try:
                with by_itself():
                    outcome = (compute(), None)
            except InputError as error:
                outcome = (None, error)
        refused: InputError | None = None
        for name, (ds, failure) in zip(names, gather(outcome), strict=False):
            refused = refused or failure
            if ds is not None and self._store is not None:
                self._store(name, partial(_given, ds))
        if refused is not None:
            raise refused

    def _tell_waiting(self, parts: int) -> None:
        """Says once that some processes have nothing to do."""
        if self._store is not None and 0 < parts < size():
            self._say(f"{parts} part{'s' * (parts > 1)} for {size()} processes; {waiting(parts)}")
            self._say = _not_again


def waiting(working: int) -> str:
    """Who waits while some processes work."""
    idle = size() - working
    return "the other waits" if idle == 1 else f"the other {idle} wait"


def _not_again(line: str) -> None:
    del line


def _given(ds: xr.Dataset) -> xr.Dataset:
    return ds
