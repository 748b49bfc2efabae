"""Adversarial directions of the last layer: null space, regions, boundaries, feature collisions."""

from dataclasses import asdict, dataclass, field

import numpy as np
from common import Flags, compute_once, load_images, load_network, main

import geomadv as ga
from geomadv.experiments import CollisionSettings


@dataclass(kw_only=True)
class SoftmaxDirections(Flags):
    """Flags of this script."""

    count: int = 300
    """Test images; all if there are fewer."""
    collisions: CollisionSettings = field(default_factory=CollisionSettings)
    """Search for images with the features of another class's image."""
    layer: str | None = None
    """Module whose input is taken for the features; default: the last product with weights."""
    angle_sample: int = 2_000_000
    """Pairs of boundaries above which the histogram of angles is that of a random sample."""


def run(flags: SoftmaxDirections) -> None:
    """What the last layer does not see, and whether images can hide there."""
    net = load_network(flags)
    images = load_images(flags, "test", flags.count)
    config = {
        "count": flags.count,
        "collisions": asdict(flags.collisions),
        "angle_sample": flags.angle_sample,
        "seed": flags.seed,
        **({} if flags.layer is None else {"layer": flags.layer}),
    }
    ds = compute_once(
        flags,
        net,
        images,
        "softmax_directions",
        config,
        lambda keep: ga.experiments.softmax_directions(
            net,
            images,
            flags.collisions,
            angle_sample=flags.angle_sample,
            seed=flags.seed,
            layer=flags.layer,
            keep=keep,
            batch_size=flags.batch_size,
            progress=True,
        ),
    )
    print(
        f"adversarial directions: {int(ds['adversarial_dimension'])} of {ds.sizes['feature']} "
        f"(rank {int(ds['rank'])}; published bound {int(ds['published_bound'])})"
    )
    if ds.sizes["adversarial"] > 0:
        print(
            f"largest change of the softmax, features moved by {float(ds['displacement'][-1]):.0e} "
            f"norms: {float(ds['softmax_change'][-1].max()):.1e}"
        )
    print(
        f"unbounded regions: {int(ds['region_unbounded'].sum())} of {ds.sizes['class']}, within "
        f"the visible directions {int(ds['region_unbounded_visible'].sum())}"
    )
    cosine = float(ds["parallel_cosine"].max())
    print(f"most parallel boundaries: |cos| {cosine:.3f}, {np.degrees(np.arccos(cosine)):.1f}°")
    hidden = 100 * float(ds["hidden_share"].where(ds["perturbation_converged"]).mean())
    noise = 100 * float(ds["noise_hidden_share"].mean())
    print(f"energy of the feature change hidden: DeepFool {hidden:.0f} %, noise {noise:.0f} %")
    rates = ", ".join(
        f"{100 * float(e / ds['mean_image_norm']):.2g} %: {100 * float(rate):.0f} %"
        for e, rate in zip(ds["epsilon"], ds["collision"].mean("pair"), strict=True)
    )
    print(f"collisions by radius (of the mean image norm): {rates}")


if __name__ == "__main__":
    main(SoftmaxDirections, run)
