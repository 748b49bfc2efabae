"""The four categories of vulnerability, for several networks on the same images side by side.

The result lies with those of --network, which comes first.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import tyro
import xarray as xr
from common import Flags, compute_once, load_images, load_network, main, mean_norm, zoo_beside

import geomadv as ga


@dataclass(kw_only=True)
class Categories(Flags):
    """Flags of this script."""

    networks: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="NAME...")] = None
    """Further networks; default: all of the zoo for the same data that are at hand or train in
    minutes."""
    count: int = 200
    """Test images; all if there are fewer."""
    norms: int = 10
    """Norms, equally spaced in their logarithm."""
    relative_norms: tuple[float, float] = (0.002, 2.0)
    """Smallest and largest norm as shares of the mean image norm."""
    levels: tuple[float, ...] = (0.5,)
    """Shares of images that count as fooled; the figure shows the first."""
    draws: int = 20
    """Random directions."""
    passes: int = 2
    """Passes of each universal search at most."""


def run(flags: Categories) -> None:
    """The three curves and the categories of every network."""
    low, high = flags.relative_norms
    if not 0 < low < high < np.inf or flags.norms < 1:
        raise ga.InputError(
            f"--relative-norms {low} {high} must be positive, finite and ascending, and --norms "
            f"{flags.norms} at least 1."
        )
    first = load_network(flags)
    nets = [first, *zoo_beside(flags, flags.networks)]
    ga.experiments.check_same_task(nets)
    images = load_images(flags, "test", flags.count)
    typical = mean_norm(images)
    relative = np.geomspace(low, high, flags.norms)
    config = {
        "networks": {net.name: net.weights_sha256 for net in nets},
        "count": flags.count,
        "relative_norms": relative.tolist(),
        "levels": flags.levels,
        "draws": flags.draws,
        "passes": flags.passes,
        "seed": flags.seed,
    }

    def one(net: ga.Classifier, keep: ga.experiments.Keep) -> xr.Dataset:
        print(f"categories of {net.name}", flush=True)
        return ga.experiments.categories(
            net,
            images,
            (typical * relative).tolist(),
            flags.levels,
            flags.draws,
            flags.seed,
            search={"passes": flags.passes},
            keep=ga.experiments.within(keep, net.name),
            batch_size=flags.batch_size,
            progress=True,
        )

    def compute(keep: ga.experiments.Keep) -> xr.Dataset:
        each = [one(net, keep).expand_dims(network=[net.name]) for net in nets]
        return xr.concat(each, "network", join="exact", combine_attrs="override")

    ds = compute_once(flags, first, images, "categories", config, compute)
    share = 100 * ds["radius"] / typical
    for name in ds["network"].to_numpy():
        category = ds["category"].isel(level=0).sel(network=name)
        begins = [
            f"{k} from {float(share[category >= k].min()):.2g} %"
            for k in (2, 3, 4)
            if bool((category >= k).any())
        ]
        print(f"{name}: category 1, {', '.join(begins)} of the mean image norm")


if __name__ == "__main__":
    main(Categories, run)
