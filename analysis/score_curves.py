"""Response curves of single test images along each class's most curved and flattest directions."""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from common import (
    Flags,
    check_line,
    compute_once,
    earlier_result,
    load_images,
    load_network,
    main,
    told,
)

import geomadv as ga


@dataclass(kw_only=True)
class ScoreCurves(Flags):
    """Flags of this script."""

    count: int = 200
    """Test images; all if there are fewer."""
    directions: int = 1
    """Directions per class and family."""
    steps: int = 20
    """Scales on either side of zero, at least 3."""
    reach: float | None = None
    """Largest scale in image units; default: where the directions have led into their classes."""
    draws: int = 1000
    """Bootstrap resamplings of the images, for the intervals of the shares of variance."""


def run(flags: ScoreCurves) -> None:
    """All classes along their positive, negative and flat directions."""
    check_line(flags.reach, flags.steps, 3)
    net = load_network(flags)
    curvature = earlier_result(flags, net, "curvature", load_images(flags, "train", None))
    images = load_images(flags, "test", flags.count)
    config = {
        "count": flags.count,
        "directions": flags.directions,
        "steps": flags.steps,
        "reach": flags.reach,
        "draws": flags.draws,
        "seed": flags.seed,
        "curvature": ga.results.digest(curvature.attrs),
    }

    def compute(keep: ga.experiments.Keep) -> xr.Dataset:
        curved = ga.experiments.curved_directions(curvature, flags.directions, flags.seed)
        reach = flags.reach
        if reach is None:
            reach = ga.experiments.sweep_reach(net, images, curved, batch_size=flags.batch_size)
        return ga.experiments.class_score_curves(
            net,
            images,
            curved,
            np.linspace(-reach, reach, 2 * flags.steps + 1),
            draws=flags.draws,
            seed=flags.seed,
            keep=keep,
            batch_size=flags.batch_size,
            progress=True,
        )

    ds = compute_once(flags, net, images, "score_curves", config, compute)
    print(f"scales to ±{float(ds['scale'].max()):.3g} image units; median over classes,")
    shown = ("symmetry_median", "monotonicity_median", "separability", "shape_share")
    for family in ds["family"].to_numpy():
        one = ds.sel(family=family).isel(direction=0)
        words = [
            f"{name.removesuffix('_median').replace('_', ' ')} {float(one[name].median()):.2f}"
            for name in shown
        ]
        print(f"leading {family} direction{told(ds, family)}: {', '.join(words)}")


if __name__ == "__main__":
    main(ScoreCurves, run)
