"""Collects boundary points and normals of training images with DeepFool, resumably."""

from dataclasses import dataclass
from typing import Any

from common import Flags, compute_once, load_images, load_network, main

import geomadv as ga


@dataclass(kw_only=True)
class Boundary(Flags):
    """Flags of this script."""

    count: int = 2000
    """Training images to start from; all if there are fewer."""
    fraction: float | None = None
    """Share of DeepFool's perturbation to go (paper preset: 0.8); default: onto the boundary."""
    nearest: bool = False
    """Slide on to the nearest boundary point."""
    overshoot: float = 0.02
    """DeepFool's overshoot."""
    max_iter: int = 50
    """DeepFool's most steps."""
    candidates: int = 10
    """Best-scoring classes that DeepFool considers."""


def run(flags: Boundary) -> None:
    """One boundary point per image."""
    net = load_network(flags)
    images = load_images(flags, "train", flags.count)
    settings: dict[str, Any] = {
        "position": "refine" if flags.fraction is None else flags.fraction,
        "nearest": flags.nearest,
        "overshoot": flags.overshoot,
        "max_iter": flags.max_iter,
        "candidates": flags.candidates,
    }
    # Three image-sized arrays a sample, once in parts and once joined.
    ga.results.check_writable(flags.results, 2 * 3 * 4 * net.dimension * len(images))
    ds = compute_once(
        flags,
        net,
        images,
        "boundary",
        settings,
        lambda keep: ga.experiments.boundary(
            net, images, keep=keep, batch_size=flags.batch_size, progress=True, **settings
        ),
    )
    print(
        f"{int(ds['converged'].sum())} of {ds.sizes['sample']} boundary points converged, "
        f"median distance {float(ds['distance'].where(ds['converged']).median()):.4g} image units"
    )


if __name__ == "__main__":
    main(Boundary, run)
