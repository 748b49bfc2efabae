"""Figures of the results in a folder, from the files alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import xarray as xr

from geomadv import results
from geomadv.errors import InputError, closest
from geomadv.files.writing import refusals
from geomadv.pipeline.experiment import Drawing, Experiment
from geomadv.pipeline.finished import doubts
from geomadv.pipeline.table import EXPERIMENTS
from geomadv.plotting.figure import save_figure
from geomadv.results.files import entries, holding

Say = Callable[[str], None]


def draw_experiment(
    experiment: Experiment,
    folder: Path,
    say: Say = print,
    only: Sequence[str] = (),
    only_newer: bool = False,
    ds: xr.Dataset | None = None,
) -> int:
    """Draws the figures of one result to `figures/` below its folder.

    Args:
        experiment: whose figures.
        folder: of the network's results.
        say: where the paths of the files go.
        only: names of the figures to draw; none: all.
        only_newer: leave figures that are newer than all they show.
        ds: the result, where it has been read.

    Returns:
        How many were drawn.

    Raises:
        InputError: the result is damaged, or is none that the figure can show.
    """
    source = folder / f"{experiment.name}.h5"
    wanted = {n: d for n, d in experiment.figures.items() if not only or n in only}
    if not wanted or not source.exists():
        return 0
    drawn, ds = 0, results.load(source) if ds is None else ds
    for name, drawing in wanted.items():
        if not _shows_something(drawing, ds):
            say(f"{name}: {source.name} holds no {drawing.variable}")
        elif not (only_newer and _is_newer(folder, name, experiment, drawing)):
            beside = [_beside(folder / f"{other}.h5", ds, name, say) for other in drawing.beside]
            with refusals(folder / "figures"):
                say(str(save_figure(drawing.plot(ds, *beside), folder / "figures", name)))
            drawn += 1
    return drawn


def drawn_files(experiment: Experiment, folder: Path, ds: xr.Dataset) -> dict[str, Path]:
    """The PNG or HTML file of each figure of a result that was drawn, in the table's order."""
    found: dict[str, Path] = {}
    for name, drawing in experiment.figures.items():
        if _shows_something(drawing, ds):
            for suffix in ("png", "html"):
                path = folder / "figures" / f"{name}.{suffix}"
                if path.exists():
                    found[name] = path
    return found


def _shows_something(drawing: Drawing, ds: xr.Dataset) -> bool:
    name = drawing.variable
    return name is None or (name in ds and bool(ds[name].notnull().any()))


def _beside(path: Path, ds: xr.Dataset, figure: str, say: Say) -> xr.Dataset | None:
    """The result that a figure shows beside another, if it is of the same network and directions.

    Both may start from the same result, of which one may be left from before it was computed anew.
    """
    if not path.exists():
        return None
    other = results.load(path)
    mine, its = (entries(path, one.attrs, "identity") for one in (ds, other))
    common = {*mine.get("inputs", {})} & {*its.get("inputs", {})}
    before, here = (
        {"network": one.get("network", {}), "inputs": {i: one["inputs"][i] for i in common}}
        for one in (its, mine)
    )
    if changed := results.differences(before, here):
        say(f"note: {figure} without {path.name}, which is of another ({'; '.join(changed)})")
        return None
    return other


def _is_newer(folder: Path, name: str, experiment: Experiment, drawing: Drawing) -> bool:
    shown = [folder / f"{other}.h5" for other in (experiment.name, *drawing.beside)]
    made = [*(folder / "figures").glob(f"{name}.*")]
    latest = max(path.stat().st_mtime_ns for path in shown if path.exists())
    return bool(made) and all(path.stat().st_mtime_ns >= latest for path in made)


def draw(
    folder: str | os.PathLike[str],
    only: Sequence[str] = (),
    *,
    experiments: Iterable[Experiment] = EXPERIMENTS,
    say: Say = print,
) -> None:
    """Draws what the results in a folder allow, to `figures/` below it.

    Args:
        folder: of one network's results, such as results/digits-cnn.
        only: names of the figures to draw; none: all.
        experiments: all that are known.
        say: where the paths of the files go, and what is stale or of another network.

    Raises:
        InputError: no such figure; the folder holds no result with one, or some that cannot be
            drawn; the others then are.
    """
    table = tuple(experiments)
    known = [name for experiment in table for name in experiment.figures]
    if unknown := [name for name in only if name not in known]:
        raise InputError(
            f"{', '.join(unknown)}: no figure.{closest(unknown[0], known)} There are "
            f"{', '.join(known)}."
        )
    drawn, failed, notes = 0, [], doubts(Path(folder), table)
    for experiment in table:
        try:
            with holding(Path(folder) / f"{experiment.name}.h5", "a figure"):
                count = draw_experiment(experiment, Path(folder), say, only)
        except InputError as error:
            failed.append(f"{experiment.name}: {error}")
            continue
        if count and experiment.name in notes:
            say(f"note: {experiment.name} is {notes[experiment.name]}")
        drawn += count
    if failed:
        raise InputError("; ".join(failed))
    if drawn == 0:
        raise InputError(f"{folder} holds no results to draw: run `geomadv paper` first.")
