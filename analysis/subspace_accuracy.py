"""Accuracy of images projected on the curved and on the flat directions of all classes."""

from dataclasses import dataclass
from typing import Any

from common import (
    Flags,
    compute_once,
    earlier_result,
    image_count,
    load_images,
    load_network,
    main,
    mean_image,
    tell_accuracy,
)

import geomadv as ga


@dataclass(kw_only=True)
class SubspaceAccuracy(Flags):
    """Flags of this script."""

    count: int | None = None
    """Images of either split; default: 10,000, for images of over 1,024 numbers 1,000."""
    dimensions: tuple[int, ...] = ()
    """The d to visit, directions per class; default: all where few, else about 50."""


def run(flags: SubspaceAccuracy) -> None:
    """Train and test accuracy on S_pos, S_neg, both and S_flat for growing d."""
    net = load_network(flags)
    train = load_images(flags, "train", None)
    curvature = earlier_result(flags, net, "curvature", train)
    count = image_count(net) if flags.count is None else flags.count
    splits = {name: load_images(flags, name, count) for name in ("train", "test")}
    config: dict[str, Any] = {
        "train_sha256": train.sha256,
        "count": count,
        "dimensions": flags.dimensions,
        "seed": flags.seed,
        "curvature": ga.results.digest(curvature.attrs),
    }
    ds = compute_once(
        flags,
        net,
        splits["test"],
        "subspace_accuracy",
        config,
        lambda keep: ga.experiments.subspace_accuracy(
            net,
            splits,
            mean_image(train),
            ga.experiments.curvature_families(
                ga.experiments.stored_curvatures(curvature), flags.seed
            ),
            flags.dimensions or None,
            keep=keep,
            batch_size=flags.batch_size,
            progress=True,
        ),
    )
    tell_accuracy(ds)


if __name__ == "__main__":
    main(SubspaceAccuracy, run)
