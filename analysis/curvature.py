"""Principal curvatures of the boundaries around every class, class by class, resumably.

Under `torchrun --nproc-per-node=N` the boundary points are divided over N processes.
"""

import sys
import time
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
import xarray as xr
from common import Flags, load_images, load_network, main, result_path

import geomadv as ga
from geomadv import distributed
from geomadv.experiments import CurvatureSettings
from geomadv.experiments.principal.all_classes import class_numbers

EXPERIMENT = "curvature"

# The full spectrum takes D products and D^2 numbers a class: on a CPU up to MNIST's D = 784, on a
# GPU up to the largest dense matrix that is supported.
_FULL_CPU, _FULL_GPU, _PAIRS = 1024, 4096, 20

_ENDS = ("positive", "negative")


@dataclass(kw_only=True)
class Curvature(Flags):
    """Flags of this script."""

    preset: Literal["default", "paper"] = "default"
    """paper: the numbers of "With Friends Like These"; default: better ones. Flags below win."""
    classes: tuple[str, ...] = ()
    """Target classes by name or number; default: all."""
    count: int | None = None
    """Training images of other classes to start from, per class."""
    pairs: Annotated[int | Literal["auto"] | None, tyro.conf.arg(metavar="K|auto|None")] = "auto"
    """Eigenpairs at each end, None for the full spectrum; auto: full where cheap, else 20."""
    boundary: Literal["region", "pair"] | None = None
    """Of the class's region (default), or between it and the source class (paper preset)."""
    hvp: Literal["auto", "exact", "finite-difference", "smoothed"] | None = None
    """Hessian-vector product; auto: exact for smooth networks, else finite differences."""
    step: float | None = None
    """Step of finite differences, in image units."""
    step_distances: float | None = None
    """The step as a multiple of the median distance of a class's boundary points, for example 0.5:
    beyond 1 it is coarser than the boundary's distance."""
    beta: float | None = None
    """Sharpness of the smoothed network."""
    tolerance: float | None = None
    """Relative residual at which an eigenpair counts as converged."""
    memory: int | None = None
    """Bytes for what exact products keep for reuse; default: from the machine."""


def run(flags: Curvature) -> None:
    """One class after the other, then how far two halves of the points agree."""
    # The line of each class tells how many pairs converged, and the file each residual.
    warnings.filterwarnings("ignore", message=".* eigenpairs have residuals above")
    distributed.start()
    try:
        with distributed.main_first():
            net = load_network(flags)
        images = load_images(flags, "train", None)
        targets = class_numbers(net, flags.classes)
        settings = _settings(flags, net).fitted(net.dimension)
        config: dict[str, Any] = {"preset": flags.preset, "classes": targets, "settings": settings}
        config["seed"] = flags.seed
        path = result_path(flags, net, EXPERIMENT)
        what: dict[str, Any] = {"net": net, "images": images, "config": config}
        finished = distributed.is_main() and ga.results.reuse(
            path, experiment=EXPERIMENT, overwrite=flags.overwrite, **what
        )
        if not distributed.from_main(bool(finished)):
            _compute(flags, path, targets, settings, what)
        if distributed.is_main():
            _report(ga.load(path))
            print(f"{EXPERIMENT}: {path}")
    finally:
        distributed.stop()


def _compute(
    flags: Curvature,
    path: Path,
    targets: list[int],
    settings: CurvatureSettings,
    what: dict[str, Any],
) -> None:
    """Each class stored as soon as it is done, by the main process; then joined."""
    started = time.perf_counter()
    store = None
    if distributed.is_main():
        identity = ga.results.identity(EXPERIMENT, **what)
        store = ga.results.Store(path, identity, overwrite=flags.overwrite)
    with store or nullcontext():
        ds = ga.experiments.curvature(
            what["net"],
            what["images"],
            targets,
            settings,
            keep=ga.results.SharedKeep(store),
            memory=flags.memory,
            batch_size=flags.batch_size,
            progress=True,
            tell=_tell,
        )
        if store:
            seconds = time.perf_counter() - started
            store.finish(ds, ga.results.provenance(EXPERIMENT, **what, wall_time_s=seconds))


def _settings(flags: Curvature, net: ga.Classifier) -> CurvatureSettings:
    """The preset with the flags that were given."""
    pairs = flags.pairs
    if pairs == "auto":
        affordable = _FULL_GPU if net.device.type == "cuda" else _FULL_CPU
        pairs = None if net.dimension <= affordable else _PAIRS
    named = ("count", "boundary", "hvp", "step", "step_distances", "beta", "tolerance")
    given = {n: getattr(flags, n) for n in named if getattr(flags, n) is not None}
    given |= {"pairs": pairs, "seed": flags.seed}
    if flags.preset == "paper":
        if flags.hvp not in (None, "finite-difference"):
            given["step"] = flags.step
        return ga.experiments.paper_settings(net, **given)
    return CurvatureSettings(**given)


def _tell(ds: xr.Dataset, name: str) -> None:
    """One line a class."""
    used, tried = int(ds["points_used"][0]), int(ds["points_tried"][0])
    line = f"class {name}: {used} of {tried} boundary points"
    if third := int(ds["points_third"][0]):
        line += f" ({third} with a third class on top)"
    values = ds["hessian_value"].to_numpy()[0]
    if used < 2:
        print(f"{line}: skipped, at least 2 are needed", file=sys.stderr)
        return
    doubt = ga.experiments.class_doubt(ds)
    least, middle, most = ds["hessian_residual_range"].to_numpy()[0]
    shares = ds["hessian_sign_share"].isel(extreme=0).to_numpy()[0]
    parts = [
        f"{line}, curvatures {values[0]:.3g} to {values[-1]:.3g}",
        f"{int(ds['hessian_converged'].sum())} of {len(values)} pairs converged",
        f"residuals {least:.2g} to {most:.2g}, median {middle:.2g}",
        f"sign shared by {100 * shares[0]:.0f} % and {100 * shares[1]:.0f} % of the points",
        f"asymmetry {float(ds['hessian_asymmetry'][0]):.1g}",
        *filter(None, [doubt.words, ga.experiments.cancellation(ds)]),
        f"{float(ds['wall_time'][0]):.1f} s",
    ]
    note = f" ({ds.attrs['note']})" if ds["fallback"][0] else ""
    print(", ".join(parts) + note)


def _report(ds: xr.Dataset) -> None:
    """How far the leading directions of two halves of the boundary points agree."""
    if not ds["hessian_value"].notnull().any():
        print("no class had enough boundary points", file=sys.stderr)
        return
    for d in ds["half_dimension"].to_numpy():
        one = {"half_dimension": d}
        angles = ds["half_angle"].sel(one)
        shown = {end: float(np.degrees(angles.sel(end=end).median())) for end in _ENDS}
        random = float(np.degrees(ds["random_angle"].sel(one).median()))
        print(
            f"{d} leading directions of two halves of the points, median principal angle: positive "
            f"{shown['positive']:.0f}°, negative {shown['negative']:.0f}°, random {random:.0f}°"
        )


if __name__ == "__main__":
    main(Curvature, run)
