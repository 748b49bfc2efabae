"""The toy problem of the tilting plane: one picture in two and in many dimensions."""

import math
from dataclasses import dataclass

import numpy as np
from common import Flags, StoredImages, compute_once, load_network, main
from tilting_plane import CLASSIFIERS

import geomadv as ga


@dataclass(kw_only=True)
class TiltingToy(Flags):
    """Flags of this script; the network only says where the results go."""

    dimensions: tuple[int, ...] = (2, 784)
    """Numbers of pixels, even."""
    samples: int = 200
    """Images of each class, for training and as many for the test."""
    values: int = 25
    """Values of C, from 1e-5 to 1e3."""


def run(flags: TiltingToy) -> None:
    """The sweep over C in every number of dimensions."""
    classifier = CLASSIFIERS["svm"]
    sweep = [float(c) for c in np.logspace(-5, 3, flags.values)]
    config = {
        "classifier": str(classifier),
        "C": sweep,
        "dimensions": flags.dimensions,
        "samples": flags.samples,
        "seed": flags.seed,
    }
    ds = compute_once(
        flags,
        load_network(flags),
        StoredImages("toy problem", ""),
        "tilting_toy",
        config,
        lambda _: ga.experiments.tilting_toy(
            classifier, sweep, flags.dimensions, flags.samples, flags.seed
        ),
    )
    for dimension in flags.dimensions:
        at = ds.sel(dimension=dimension)
        first, last = (math.degrees(float(at["angle"][i])) for i in (0, -1))
        before, after = (100 * float(at["test_error"][i]) for i in (0, -1))
        print(
            f"{dimension} dimensions: angle {first:.2f} to {last:.2f} degrees, "
            f"test error {before:.2f} to {after:.2f} %"
        )
    spread = ds["angle"].max("dimension") - ds["angle"].min("dimension")
    print(f"largest difference of the angles: {math.degrees(float(spread.max())):.2g} degrees")


if __name__ == "__main__":
    main(TiltingToy, run)
