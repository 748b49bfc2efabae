"""Fooling rates of random vectors from the normals' leading subspace, on held-out images."""

from dataclasses import dataclass
from typing import Any

from common import (
    Flags,
    check_same_network,
    compute_once,
    load_images,
    load_network,
    main,
    mean_norm,
    result_path,
)

import geomadv as ga


@dataclass(kw_only=True)
class RandomSubspaceFooling(Flags):
    """Flags of this script."""

    count: int = 1000
    """Held-out (test) images; all if there are fewer."""
    dimensions: tuple[int, ...] = (1, 2, 5, 10, 20, 50, 100)
    """Dimensions m of the leading normal subspace; those beyond the stored rank are left out."""
    relative_norms: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
    """Norms of the perturbation as shares of the mean image norm."""
    draws: int = 10
    """Random vectors per dimension."""


def run(flags: RandomSubspaceFooling) -> None:
    """Fooling rates against dimension and norm, beside uniform directions."""
    net = load_network(flags)
    images = load_images(flags, "test", flags.count)
    path = result_path(flags, net, "normal_svd")
    svd = ga.load(path)
    check_same_network(svd, path, net)
    typical = mean_norm(images)
    rank = svd.sizes["rank"]
    config: dict[str, Any] = {
        "count": flags.count,
        "dimensions": [m for m in flags.dimensions if m <= rank],
        "relative_norms": flags.relative_norms,
        "draws": flags.draws,
        "seed": flags.seed,
        "directions": ga.results.digest(svd.attrs),
    }
    ds = compute_once(
        flags,
        net,
        images,
        "random_subspace_fooling",
        config,
        lambda keep: ga.experiments.random_subspace_fooling(
            net,
            images,
            svd["direction"].to_numpy().reshape(rank, -1).T,
            config["dimensions"],
            [share * typical for share in flags.relative_norms],
            flags.draws,
            flags.seed,
            keep=keep,
            batch_size=flags.batch_size,
            progress=True,
        ),
    )
    best = ds["fooling_rate"].mean("draw").max("m")
    for share, inside, uniform in zip(
        flags.relative_norms, best, ds["uniform_fooling_rate"].mean("draw"), strict=True
    ):
        print(
            f"norm {100 * share:3.0f} % of image: normal subspace {100 * float(inside):5.1f} % "
            f"fooled, uniform {100 * float(uniform):5.1f} %"
        )


if __name__ == "__main__":
    main(RandomSubspaceFooling, run)
