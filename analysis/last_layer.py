"""Adversarial directions of the last layer: what the softmax cannot see.

Features may move along the null space of the (centred) last layer without any change of the
softmax; regions of classes are unbounded; and images with the features of another class exist.
"""

from functools import partial
from pathlib import Path

import tyro

import geomadv as ga


def main(network: str = "digits-cnn", results: Path = Path("results")) -> None:
    """Runs the experiments on a network of the zoo and prints what they answer."""
    run = partial(ga.run, net=network, results=results)
    ds = run("softmax_directions")

    # Theorem 1: at least l - m adversarial directions for l features and m classes.
    print(
        f"{int(ds['adversarial_dimension'])} adversarial of {ds.sizes['feature']} directions, "
        f"published bound {int(ds['published_bound'])}"
    )
    changes = ds["softmax_change"].max("sample").to_series()
    print("largest change of the softmax, features moved by so many norms:", changes, sep="\n")

    # Theorem 2 and the boundaries' angles.
    print(f"unbounded regions: {int(ds['region_unbounded'].sum())} of {ds.sizes['class']}")
    print(f"most parallel boundaries: |cos| {float(ds['parallel_cosine'].max()):.3f}")

    # The conjecture: how far an image must move to take the features of another class's image.
    share = 100 * ds["epsilon"] / ds["mean_image_norm"]
    for radius, rate in zip(share.to_numpy(), ds["collision"].mean("pair").to_numpy(), strict=True):
        print(f"within {radius:.2g} % of the image norm {100 * rate:.0f} % of pairs collide")


if __name__ == "__main__":
    tyro.cli(main)
