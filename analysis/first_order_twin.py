"""Accuracy of images projected on the singular vectors of perturbations and of normals."""

from dataclasses import dataclass
from typing import Any

import xarray as xr
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
class FirstOrderTwin(Flags):
    """Flags of this script."""

    count: int | None = None
    """Images of either split; default: 10,000, for images of over 1,024 numbers 1,000."""
    dimensions: tuple[int, ...] = ()
    """The d to visit, directions in all; default: all where few, else about 50."""


def run(flags: FirstOrderTwin) -> None:
    """Train and test accuracy on S_hi and S_lo of DeepFool perturbations and of normals."""
    net = load_network(flags)
    train = load_images(flags, "train", None)
    boundary = earlier_result(flags, net, "boundary", train)
    count = image_count(net) if flags.count is None else flags.count
    splits = {name: load_images(flags, name, count) for name in ("train", "test")}
    config: dict[str, Any] = {
        "train_sha256": train.sha256,
        "count": count,
        "dimensions": flags.dimensions,
        "seed": flags.seed,
        "boundary": ga.results.digest(boundary.attrs),
        "boundary_images": boundary.attrs["dataset_sha256"],
    }

    def compute(keep: ga.experiments.Keep) -> xr.Dataset:
        rows = {"perturbation": boundary["direction"], "normal": boundary["normal"]}
        families = {
            f"{name}_{end}": nested
            for name, values in rows.items()
            for end, nested in ga.experiments.singular_families(
                values.to_numpy(), flags.seed, f"{name}s"
            ).items()
        }
        return ga.experiments.subspace_accuracy(
            net,
            splits,
            mean_image(train),
            families,
            flags.dimensions or None,
            keep=keep,
            batch_size=flags.batch_size,
            progress=True,
        )

    ds = compute_once(flags, net, splits["test"], "first_order_twin", config, compute)
    tell_accuracy(ds)


if __name__ == "__main__":
    main(FirstOrderTwin, run)
