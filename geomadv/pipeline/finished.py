"""The results of several networks as their folders hold them: what is there, missing or stale."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import xarray as xr

from geomadv import results
from geomadv.errors import InputError, LackingError
from geomadv.pipeline.experiment import Experiment
from geomadv.pipeline.identity import layout
from geomadv.pipeline.table import EXPERIMENTS
from geomadv.results.files import entries, read_attrs
from geomadv.results.identity import Identity


@dataclass(frozen=True)
class Finished:
    """What there is of one network.

    Attributes:
        folder: of its results.
        name: the network's; with the folder where others of that name are beside it.
        results: experiment -> dataset, in the order of the experiments.
        identities: experiment -> what makes the result the same result.
        notes: experiment -> "missing", or why the result is stale.
    """

    folder: Path
    name: str
    results: Mapping[str, xr.Dataset]
    identities: Mapping[str, Identity]
    notes: Mapping[str, str]

    def config(self, experiment: str) -> dict[str, Any]:
        """Settings and seed of a result as they were asked for."""
        return dict(json.loads(str(self.results[experiment].attrs.get("config", "{}"))))


def finished(
    folders: Sequence[str | os.PathLike[str]],
    experiments: Iterable[Experiment] = EXPERIMENTS,
    *,
    nameless: bool = False,
) -> list[Finished]:
    """The results of all folders, one network each; from the files alone, nothing is computed.

    A result is stale by its files where its experiment or layout is another by now, or where one
    that it starts from has gone or changed.

    Args:
        folders: of one network's results each.
        experiments: those that are read.
        nameless: take results that do not say what makes them the same result, too, of which
            nobody knows whether they are stale: of geomadv 0.1, or saved by `ga.save`.

    Raises:
        InputError: a folder is named twice, is none of one network's results, or holds a damaged
            one; or the same experiment's results are laid out differently.
    """
    table = tuple(experiments)
    paths = _places(folders)
    found = [_read(path, table, nameless) for path in paths]
    names = [one.name for one in found]
    found = [
        one if names.count(one.name) == 1 else replace(one, name=f"{one.name} ({one.folder})")
        for one in found
    ]
    for experiment in table:
        _check_layouts(experiment.name, found)
    return found


def results_of(
    *folders: str | os.PathLike[str],
) -> Callable[[str], dict[str, xr.Dataset | None]]:
    """Reads results of several networks, experiment by experiment, for figures side by side.

    Args:
        *folders: of one network's results each; they need not hold all experiments.

    Returns:
        Experiment's name -> {network: its result, or None where there is none}.

    Raises:
        InputError: no folder, or one that does not exist or is named twice; the function it
            returns: a damaged result.
    """
    paths = _places(folders)
    names: dict[str, Path] = {}
    for path in paths:
        if not path.is_dir():
            raise InputError(f"{path}: no such folder; expected that of one network's results.")
        there = sorted(path.glob("*.h5"))
        name = str(results.load(there[0]).attrs.get("network") or path.name) if there else path.name
        names[f"{name} ({path})" if name in names else name] = path

    def found(experiment: str) -> dict[str, xr.Dataset | None]:
        files = {name: path / f"{experiment}.h5" for name, path in names.items()}
        return {n: results.load(file) if file.exists() else None for n, file in files.items()}

    return found


def _places(folders: Sequence[Any]) -> list[Path]:
    """The folders; raises an `InputError` where there is none, one twice, or no path."""
    if other := [word for word in folders if not isinstance(word, str | os.PathLike)]:
        raise InputError(
            f"folders: found a {type(other[0]).__name__}, expected paths of networks' results, "
            "such as results/digits-cnn."
        )
    paths = [Path(folder) for folder in folders]
    if not paths:
        raise InputError("folders: none; name those of the networks' results, results/digits-cnn.")
    places = [path.resolve() for path in paths]
    if twice := [str(path) for path in paths if places.count(path.resolve()) > 1]:
        raise InputError(f"folders: {', '.join(twice)} are one folder: name each network's once.")
    return paths


def _read(folder: Path, table: Sequence[Experiment], nameless: bool) -> Finished:
    there = [e.name for e in table if (folder / f"{e.name}.h5").exists()]
    if not there:
        inner = sorted({path.parent for path in folder.glob("*/*.h5")})
        remedy = f": name {' '.join(map(str, inner))} instead" if inner else ": run `geomadv paper`"
        kind = "several networks" if inner else "no results"
        refusal = InputError if inner else LackingError
        raise refusal(f"{folder}: expected the folder of one network, found {kind}{remedy}.")
    loaded = {name: results.load(folder / f"{name}.h5") for name in there}
    known = {
        name: {}
        if nameless and not entries(folder / f"{name}.h5", loaded[name].attrs, "identity")
        else results.stored_identity(folder / f"{name}.h5")
        for name in there
    }
    if other := _foreign({name: ds.attrs for name, ds in loaded.items()}, known, table):
        raise InputError(
            f"{folder}: {'; '.join(f'{name}.h5 is {why}' for name, why in other.items())}. Keep "
            "the results of each network and data set in a --results folder of their own."
        )
    notes = _aged(table, known)
    for name in [e.name for e in table if e.name not in known]:
        notes[name] = "unfinished" if results.unfinished(folder / f"{name}.h5") else "missing"
    network = str(loaded[there[0]].attrs["network"])
    return Finished(folder, network, loaded, known, notes)


def doubts(folder: Path, table: Sequence[Experiment]) -> dict[str, str]:
    """Experiment -> why its result in a folder is stale, or of another network or images.

    Damaged files are left to whoever reads them.
    """
    attrs: dict[str, Mapping[str, Any]] = {}
    known: dict[str, Identity] = {}
    for e in table:
        path = folder / f"{e.name}.h5"
        with suppress(InputError):
            known[e.name] = results.stored_identity(path)
            attrs[e.name] = read_attrs(path)
    return {**_foreign(attrs, known, table), **_aged(table, known)}


def _foreign(
    found: Mapping[str, Mapping[str, Any]],
    identities: Mapping[str, Identity],
    table: Sequence[Experiment],
) -> dict[str, str]:
    """Which results, by their attributes, are of another network or images than those before."""
    foreign: dict[str, str] = {}
    known = {e.name: e for e in table}
    for attribute in ("weights_sha256", "dataset"):
        common: dict[str, str] = {}
        for name, attrs in found.items():
            named = str(attrs.get("dataset_sha256", ""))
            split = _split(known[name], named, identities, known)
            of = split if attribute == "dataset" else "all"
            value = str(attrs.get(attribute, "")) if of else ""
            # A result may take no images at all, or made-up ones.
            if value and value != "toy problem" and value != common.setdefault(of, value):
                foreign[name] = f"of another {attribute} ({value}) than {common[of]!r}"
    return foreign


def _split(
    e: Experiment, named: str, identities: Mapping[str, Identity], table: Mapping[str, Experiment]
) -> str:
    """Of which split the images are that a file names by checksum: its own, or its inputs'.

    Older files name the first images, whatever the numbers are measured on. "": nobody knows, since
    the inputs are others by now.
    """
    for other in (e, *(table[i] for i in e.inputs if i in table)):
        known = identities.get(other.name, {}).get("images", {})
        if role := next((r for r in other.images if named and known.get(r) == named), None):
            return other.images[role].split
    return "" if named and not e.images else _first_split(e, table)


def _first_split(e: Experiment, table: Mapping[str, Experiment]) -> str:
    if e.images:
        return e.images[e.measured_on or next(iter(e.images))].split
    return _first_split(table[e.inputs[0]], table) if e.inputs else ""


def _aged(table: Iterable[Experiment], known: Mapping[str, Identity]) -> dict[str, str]:
    """Why results of a folder are stale, by experiment."""
    notes: dict[str, str] = {}
    for e in table:
        if e.name in known and (reason := _stale(e, known, notes)):
            notes[e.name] = f"stale: {reason}"
    return notes


def _stale(e: Experiment, known: Mapping[str, Identity], notes: Mapping[str, str]) -> str:
    """Why a result is no longer what it would be; "" where its files show nothing."""
    identity = known[e.name]
    if not identity:
        return ""
    if identity.get("version") != e.version or identity.get("schema") != layout(e):
        return "this geomadv computes or lays it out otherwise"
    for name, digest in identity.get("inputs", {}).items():
        if name not in known:
            return f"{name}, from which it starts, is missing"
        if results.digest(known[name]) != digest:
            return f"{name}, from which it starts, is another by now"
        if notes.get(name, "").startswith("stale"):
            return f"{name}, from which it starts, is stale"
    return ""


def _check_layouts(name: str, found: Sequence[Finished]) -> None:
    """Raises an `InputError` where results of one experiment cannot stand side by side."""
    holders = [one for one in found if name in one.results]
    for other in holders[1:]:
        before, here = (one.identities[name].get("schema", {}) for one in (holders[0], other))
        if before != here:
            differing = sorted(v for v in {*before, *here} if before.get(v) != here.get(v))
            paths = " and ".join(str(one.folder / f"{name}.h5") for one in (holders[0], other))
            raise InputError(
                f"{paths} are laid out differently ({', '.join(differing[:5])}), since different "
                f"versions of geomadv made them: compute the older one again, `geomadv run {name} "
                "--refresh` with its network."
            )
