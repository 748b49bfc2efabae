"""Fooling rates of each network's universal perturbation on every other network for the same data.

The result lies with those of --network, which comes first.
"""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import tyro
import xarray as xr
from common import (
    Flags,
    compute_once,
    load_images,
    load_network,
    main,
    mean_norm,
    paper_share,
    zoo_beside,
)

import geomadv as ga


@dataclass(kw_only=True)
class Transfer(Flags):
    """Flags of this script."""

    networks: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="NAME...")] = None
    """Further networks; default: all of the zoo for the same data that are at hand or train in
    minutes."""
    count: int = 500
    """Training images of the sample set."""
    held_out: int = 1000
    """Test images; all if there are fewer."""
    relative_radius: float | None = None
    """Norm of the perturbations as a share of the mean image norm; default: the paper's 4 %, for
    grey images ten times that."""
    passes: int = 3
    """Passes over the sample set at most."""
    draws: int = 10
    """Random perturbations of the same norm."""


def run(flags: Transfer) -> None:
    """One search for each network, then all pairs."""
    first = load_network(flags)
    nets = [first, *zoo_beside(flags, flags.networks)]
    ga.experiments.check_networks(nets)
    images = load_images(flags, "train", flags.count)
    held_out = load_images(flags, "test", flags.held_out)
    relative = paper_share(first) if flags.relative_radius is None else flags.relative_radius
    radius = relative * mean_norm(images)
    config = {
        "networks": {net.name: net.weights_sha256 for net in nets},
        "count": flags.count,
        "held_out": flags.held_out,
        "held_out_sha256": held_out.sha256,
        "relative_radius": relative,
        "passes": flags.passes,
        "draws": flags.draws,
        "seed": flags.seed,
    }

    def perturbation(net: ga.Classifier) -> xr.Dataset:
        print(f"universal perturbation for {net.name}", flush=True)
        found = ga.universal_perturbation(
            net,
            images,
            radius,
            target_rate=1.0,
            passes=flags.passes,
            seed=flags.seed,
            batch_size=flags.batch_size,
            progress=True,
        )
        return xr.Dataset({"delta": (("channel", "row", "column"), found.delta.cpu().numpy())})

    def compute(keep: ga.experiments.Keep) -> xr.Dataset:
        found = [keep(net.name, partial(perturbation, net)) for net in nets]
        return ga.experiments.transfer(
            nets,
            [ds["delta"].to_numpy() for ds in found],
            held_out,
            draws=flags.draws,
            seed=flags.seed,
            batch_size=flags.batch_size,
            progress=True,
        )

    ds = compute_once(flags, first, images, "transfer", config, compute)
    for name in ds["network"].to_numpy():
        column = 100 * ds["fooling_rate"].sel(network=name)
        rates = ", ".join(f"{float(rate):.0f}" for rate in column)
        noise = 100 * float(ds["random_fooling_rate"].sel(network=name).mean())
        print(f"{name}: {rates} % fooled by the perturbations in this order, random {noise:.0f} %")


if __name__ == "__main__":
    main(Transfer, run)
