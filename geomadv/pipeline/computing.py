"""How one result is computed: by one process or several, kept part by part, finished as a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import xarray as xr

from geomadv import distributed, results
from geomadv.classifier import Classifier
from geomadv.classifier.batching import until_it_fits
from geomadv.errors import InputError
from geomadv.files.writing import check_writable
from geomadv.images import ImageSet
from geomadv.pipeline.experiment import Experiment, Run, checked
from geomadv.pipeline.provenance import Asked, provenance
from geomadv.pipeline.study import Study
from geomadv.results.identity import Identity
from geomadv.results.shared import waiting

Say = Callable[[str], None]
Images = Mapping[str, ImageSet | None]
Inputs = Mapping[str, xr.Dataset | None]


@dataclass(frozen=True)
class Computation:
    """All that it takes, and the identity of what it gives.

    Attributes:
        needed: whether there is no result of this identity yet.
    """

    experiment: Experiment
    asked: Asked
    networks: tuple[Classifier, ...]
    images: Images
    identity: Identity
    needed: bool = True


def compute(what: Computation, study: Study, inputs: Inputs, room: int, say: Say) -> float:
    """Computes a result and finishes its file.

    Args:
        what: to compute.
        study: whose result it is.
        inputs: name of an earlier result -> what it holds; None: there is none.
        room: bytes that parts and result may take.
        say: where notes go.

    Returns:
        Seconds that it took.

    Raises:
        InputError: too little room on the disk, or what the experiment refuses.
    """
    one = _One(what, study, inputs, say)
    if what.experiment.divided:
        stores: list[results.Store] = []  # on the main process alone
        distributed.on_main(lambda: stores.append(one.store(room)))
        seconds = one.computed(stores[0] if stores else None)
        distributed.barrier()
        return seconds
    if distributed.size() > 1:
        say(f"{what.experiment.name} is computed by one process; {waiting(1)}")
    return distributed.on_main(lambda: one.computed(one.store(room)))


@dataclass(frozen=True)
class _One:
    """One computation, on each process."""

    what: Computation
    study: Study
    inputs: Inputs
    say: Say

    def computed(self, store: results.Store | None) -> float:
        """Computes the result and, with a store, keeps it; the seconds that this took."""
        with store or nullcontext():
            run = self._run(store)
            started = time.perf_counter()
            with self._lacking_nothing():
                ds = self._fitting(run)
            seconds = time.perf_counter() - started
            if store:
                self._check_unchanged(store)
                attrs = {**self._provenance(), "wall_time_s": seconds}
                store.finish(checked(ds, self.what.experiment), attrs)
        return seconds

    def _check_unchanged(self, store: results.Store) -> None:
        """Refuses images in memory that are others than at first; what is kept is of a mixture."""
        images, known = self.what.images, self.what.identity["images"]
        changed = [
            repr(part.name)
            for role, part in images.items()
            if part is not None and part.afresh().sha256 != known[role]
        ]
        if changed:
            store.discard()
            raise InputError(
                f"images {', '.join(changed)} were changed in memory before "
                f"{self.what.experiment.name} was done: it is not kept. Give images that nothing "
                "else writes to, as geomadv.ImageSet(pixels.copy(), ...), and run it again."
            )

    def _run(self, store: results.Store | None) -> Run:
        study, place, name = self.study, self.study.place, self.what.experiment.name

        def tell(line: str) -> None:
            self.say(f"{name}: {line}")

        keep = store if store and distributed.size() == 1 else results.SharedKeep(store, tell)
        progress = place.progress and distributed.is_main()
        pace = {"batch_size": place.batch_size, "progress": progress}
        seed, networks = self.what.asked.seed, self.what.networks
        return Run(study.net, seed, keep, pace, networks, place.memory, self.say)

    def _provenance(self) -> dict[str, object]:
        what = self.what
        before = [ds.attrs for ds in self.inputs.values() if ds is not None]
        return provenance(
            self.study, what.experiment, what.asked, what.images, what.identity, before
        )

    @contextmanager
    def _lacking_nothing(self) -> Iterator[None]:
        """Names the results that a computation starts from, where one lacks a variable."""
        paths = [str(self.study.path(name)) for name in self.what.identity["inputs"]]
        try:
            yield
        except KeyError as error:
            if not paths or "No variable named" not in str(error):
                raise
            raise InputError(
                f"{self.what.experiment.name} starts from {', '.join(paths)}, of which one was "
                f"changed since it was computed ({error.args[0]}): compute it again (--refresh)."
            ) from error

    def _fitting(self, run: Run) -> xr.Dataset:
        """The dataset, computed again with smaller batches where memory runs out.

        Processes that work together cannot begin again one by one.
        """
        what = self.what

        def once() -> xr.Dataset:
            return what.experiment.compute(run, what.asked.settings, **what.images, **self.inputs)

        return once() if distributed.size() > 1 else until_it_fits(once, what.networks, self.say)

    def store(self, room: int) -> results.Store:
        """Where parts and result go; refuses a disk with too little room for what is not there."""
        study, what = self.study, self.what
        again = study.place.overwrite or study.place.refresh
        path = study.path(what.experiment.name)
        store = results.Store(path, what.identity, memo=what.asked.config, overwrite=again)
        try:  # what is kept already needs no room any more
            check_writable(study.folder, room - store.kept_bytes)
        except BaseException:
            store.close()
            raise
        return store
