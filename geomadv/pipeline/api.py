"""`ga.run`: from Python what `geomadv run` does."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from geomadv.classifier import Classifier
from geomadv.errors import InputError
from geomadv.images import ImageSet
from geomadv.pipeline.experiment import Experiment
from geomadv.pipeline.runner import Runner
from geomadv.pipeline.study import Place, study_of
from geomadv.pipeline.table import EXPERIMENTS


def run(
    experiment: str | Experiment,
    net: Classifier | str = "digits-cnn",
    images: ImageSet | str | os.PathLike[str] | Mapping[str, ImageSet] | None = None,
    *,
    results: str | os.PathLike[str] = "results",
    seed: int | None = None,
    batch_size: int | None = None,
    overwrite: bool = False,
    refresh: bool = False,
    progress: bool = True,
    also: Sequence[Experiment] = (),
    **settings: Any,
) -> xr.Dataset:
    """The result of an experiment, as a file that is reused: what `geomadv run` does.

    Results that it starts from run first where they are missing. A result that exists is returned
    if it is the same result: of the same network, images, settings and earlier results.

    Args:
        experiment: name (``geomadv list`` shows them), or one of your own.
        net: the network, or its name.
        images: data set by name, or a folder, .npz or .h5 file; or {"train": ImageSet, "test":
            ImageSet}; or one ImageSet, which is divided once into two halves without common images.
            Default: those that a named network is for.
        results: folder of the result files; each network has its own below it.
        seed: of every random choice; None: that of the existing result, else 0.
        batch_size: images per pass; default from memory.
        overwrite: compute anew, and replace a result of other settings.
        refresh: compute anew what is stale.
        progress: show progress bars.
        also: further experiments of your own, which this one may start from.
        **settings: of the experiment, as `geomadv run EXPERIMENT --help` shows; those not given
            are those of the existing result, else the defaults.

    Returns:
        The dataset; `attrs` say where it comes from.

    Raises:
        InputError: no such experiment or setting; an existing result of other settings (without
            `overwrite`), or one that is stale (without `refresh`); or what the experiment itself
            refuses.
    """
    if not isinstance(experiment, str | Experiment):
        raise InputError(
            f"experiment: found a {type(experiment).__name__}, expected a name such as "
            f"{EXPERIMENTS[0].name!r}, or a geomadv.pipeline.Experiment."
        )
    own = [experiment, *also] if isinstance(experiment, Experiment) else [*also]
    name = experiment.name if isinstance(experiment, Experiment) else experiment
    place = Place(
        results=Path(results),
        batch_size=batch_size,
        overwrite=overwrite,
        refresh=refresh,
        progress=progress,
    )
    study = study_of(net, images, place, seed, {name: settings})
    if own:  # which no command line can name
        study.flags = None
    return Runner(study, [*EXPERIMENTS, *own]).run(name)
