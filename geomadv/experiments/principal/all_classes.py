"""Principal curvatures of the boundaries around every class, class by class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from geomadv.classifier import Classifier
from geomadv.distributed import is_main, size
from geomadv.errors import InputError
from geomadv.experiments.principal.layout import SCHEMA, CurvatureSettings
from geomadv.experiments.principal.principal_curvature import class_curvature
from geomadv.experiments.principal.uncertainty import random_subspace_angles
from geomadv.images import ImageSet
from geomadv.keep import Keep, keep_nothing
from geomadv.labels import described

Tell = Callable[[xr.Dataset, str], object]


def curvature(
    net: Classifier,
    images: ImageSet,
    classes: Sequence[int | str] | None = None,
    settings: CurvatureSettings | None = None,
    *,
    keep: Keep = keep_nothing,
    memory: int | None = None,
    batch_size: int | None = None,
    progress: bool = False,
    tell: Tell | None = None,
) -> xr.Dataset:
    """Principal curvatures of the boundaries into each class; see `class_curvature`.

    Under torchrun all processes call this together, with a `keep` that works on all of them
    (`geomadv.results.SharedKeep`). They divide the classes, or, where there are fewer classes than
    processes, the points of each class.

    Args:
        net: the network.
        images: training images with labels; those of other classes than a target are its start.
        classes: target classes by name or number; default: all.
        settings: see `CurvatureSettings`.
        keep: what keeps finished classes, and the state of long solves; default nothing. See
            `Keep`.
        memory: bytes for what exact products keep for reuse; default from the machine.
        batch_size: images per pass; default from memory.
        progress: show progress bars, on the main process.
        tell: called on the main process with the dataset and the name of each class that it
            computed now, once it is kept.

    Returns:
        The datasets of the classes, joined along class, whose coordinate holds their names, with
        `random_angle` (random, half_dimension, angle): principal angles between random subspaces.

    Raises:
        InputError: no such class, and see `class_curvature`.
    """
    settings = (settings or CurvatureSettings()).fitted(net.dimension)
    untold: list[tuple[xr.Dataset, str]] = []

    def tell_kept() -> None:
        while untold:
            one, name = untold.pop()
            if tell is not None and is_main():
                tell(one, name)

    def compute(target: int) -> xr.Dataset:
        tell_kept()
        ds = class_curvature(
            net,
            images,
            target,
            settings,
            batch_size=batch_size,
            memory=memory,
            checkpoint=keep.state(f"solve-{target}"),
            progress=progress,
        )
        untold.append((ds, net.class_names[target]))
        return ds

    targets = class_numbers(net, classes)
    parts = {f"class-{target}": partial(compute, target) for target in targets}
    ds = keep.rows(parts, "class", together=len(parts) < size())
    tell_kept()
    for attrs in (ds.attrs, ds["kind"].attrs):
        attrs.pop("note", None)  # of the first class alone
    names = [net.class_names[target] for target in targets]
    return ds.merge(described(SCHEMA, {"class": names, "random_angle": _angles(net, settings)}))


def class_numbers(net: Classifier, classes: Sequence[int | str] | None) -> list[int]:
    """Classes by name or number as numbers, each once; names win where a name is a number.

    Raises:
        InputError: a class that the network has not.
    """
    numbers = {str(i): i for i in range(net.num_classes)}
    numbers |= {name: i for i, name in enumerate(net.class_names)}
    unknown = [str(name) for name in classes or () if str(name) not in numbers]
    if unknown:
        raise InputError(
            f"classes: network {net.name!r} has no class {', '.join(unknown)}; it has "
            f"{', '.join(net.class_names[:20])}{' ...' if net.num_classes > 20 else ''}."
        )
    return list(dict.fromkeys(numbers[str(name)] for name in classes or ())) or [
        *range(net.num_classes)
    ]


def _angles(net: Classifier, settings: CurvatureSettings) -> NDArray[np.float64]:
    return random_subspace_angles(
        net.dimension, settings.half_dimensions, settings.random_draws, settings.seed
    )
