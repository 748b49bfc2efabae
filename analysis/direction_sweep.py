"""Class scores of test images along each class's most curved and flattest directions."""

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
class DirectionSweep(Flags):
    """Flags of this script."""

    count: int = 300
    """Test images; all if there are fewer."""
    directions: int = 2
    """Directions per class and family."""
    steps: int = 15
    """Scales on either side of zero."""
    reach: float | None = None
    """Largest scale in image units; default: where the directions have led into their classes."""


def run(flags: DirectionSweep) -> None:
    """All classes along their positive, negative and flat directions."""
    check_line(flags.reach, flags.steps)
    net = load_network(flags)
    curvature = earlier_result(flags, net, "curvature", load_images(flags, "train", None))
    images = load_images(flags, "test", flags.count)
    config = {
        "count": flags.count,
        "directions": flags.directions,
        "steps": flags.steps,
        "reach": flags.reach,
        "seed": flags.seed,
        "curvature": ga.results.digest(curvature.attrs),
    }

    def compute(keep: ga.experiments.Keep) -> xr.Dataset:
        curved = ga.experiments.curved_directions(curvature, flags.directions, flags.seed)
        reach = flags.reach
        if reach is None:
            reach = ga.experiments.sweep_reach(net, images, curved, batch_size=flags.batch_size)
        return ga.experiments.class_direction_sweep(
            net,
            images,
            curved,
            np.linspace(-reach, reach, 2 * flags.steps + 1),
            keep=keep,
            batch_size=flags.batch_size,
            progress=True,
        )

    ds = compute_once(flags, net, images, "direction_sweep", config, compute)
    print(f"scales to ±{float(ds['scale'].max()):.3g} image units; median over classes,")
    for family in ds["family"].to_numpy():
        one = ds.sel(family=family).isel(direction=0)
        enter = 100 * float(one["transition"].max("scale").median())
        stay = 100 * float(one["retention"].min("scale").median())
        own = "none is of the class" if np.isnan(stay) else f"at least {stay:.0f} % of its own stay"
        print(
            f"leading {family} direction{told(ds, family)}: up to {enter:.0f} % of other images "
            f"enter the class, {own}"
        )


if __name__ == "__main__":
    main(DirectionSweep, run)
