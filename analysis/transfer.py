"""Fooling rates of each network's universal perturbation on every other network for the same data.

The result lies with those of --network, which comes first.
"""

from dataclasses import dataclass
from typing import Annotated

import tyro
from common import Flags, compute_once, dataset_name, load_images, load_network, main

import geomadv as ga
from geomadv.networks import ZOO


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
    nets = [first, *(load_other(flags, first, name) for name in others(flags, flags.networks))]
    ga.experiments.check_networks(nets)
    images = load_images(flags, "train", flags.count)
    held_out = load_images(flags, "test", flags.held_out)
    paper = 0.4 if first.input_shape[0] == 1 else 0.04
    relative = paper if flags.relative_radius is None else flags.relative_radius
    radius = relative * images.images.flatten(1).norm(dim=1).mean().item()
    config = {
        "networks": {net.name: net.weights_sha256 for net in nets},
        "count": flags.count,
        "held_out": flags.held_out,
        "relative_radius": relative,
        "passes": flags.passes,
        "draws": flags.draws,
        "seed": flags.seed,
    }

    def perturbation(net: ga.Classifier) -> ga.UniversalPerturbation:
        print(f"universal perturbation for {net.name}", flush=True)
        return ga.universal_perturbation(
            net,
            images,
            radius,
            target_rate=1.0,
            passes=flags.passes,
            seed=flags.seed,
            batch_size=flags.batch_size,
            progress=True,
        )

    ds = compute_once(
        flags,
        first,
        images,
        "transfer",
        config,
        lambda: ga.experiments.transfer(
            nets,
            [perturbation(net).delta for net in nets],
            held_out,
            draws=flags.draws,
            seed=flags.seed,
            batch_size=flags.batch_size,
            progress=True,
        ),
    )
    for name in ds["network"].to_numpy():
        column = 100 * ds["fooling_rate"].sel(network=name)
        rates = ", ".join(f"{float(rate):.0f}" for rate in column)
        noise = 100 * float(ds["random_fooling_rate"].sel(network=name).mean())
        print(f"{name}: {rates} % fooled by the perturbations in this order, random {noise:.0f} %")


def others(flags: Flags, named: tuple[str, ...] | None) -> tuple[str, ...]:
    """The further networks: as named, else those of the zoo for the same data.

    Left out are networks that train for hours (the zoo states no accuracy for them).
    """
    if named is not None:
        return named
    data = dataset_name(flags)
    return tuple(
        name
        for name, spec in ZOO.items()
        if spec.dataset == data and spec.accuracy is not None and name != flags.network
    )


def load_other(flags: Flags, first: ga.Classifier, name: str) -> ga.Classifier:
    """Another network of the zoo, on the device of the first."""
    return ga.load_network(name, device=first.device)


if __name__ == "__main__":
    main(Transfer, run)
