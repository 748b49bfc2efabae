"""With Friends Like These, Who Needs Adversaries? (Jetley, Lord and Torr, NeurIPS 2018).

The paper's thesis: networks classify with a few curved directions of their decision boundaries, and
these are the directions in which they are fooled. This recipe asks one network for all of it; every
result is a file that is reused, so change a line and run it again.
"""

from functools import partial
from pathlib import Path

import tyro

import geomadv as ga


def main(network: str = "digits-cnn", results: Path = Path("results")) -> None:
    """Runs the paper's experiments on a network of the zoo and prints what they answer."""
    net = ga.load_network(network)
    run = partial(ga.run, net=network, results=results)

    # Section 2: mean Hessians of the boundaries around every class, and their eigenvectors.
    curvature = run("curvature")
    used = curvature["points_used"].to_series()
    print(f"boundary points a class: {used.min()} to {used.max()}; {net}")

    # Figure 1 and 2: what happens along the most curved and along flat directions.
    curves = run("score_curves")
    for family, one in curves.isel(direction=0).groupby("family"):
        print(
            f"{family}: symmetry of the curves about their centre "
            f"{float(one['symmetry_median'].median()):.2f}"
        )
    sweep = run("direction_sweep").isel(direction=0)
    print(
        "images that enter the class:", sweep["transition"].max("scale").median("class").to_series()
    )

    # Figure 3 and 4: accuracy of projected images, and the shares of perturbations in them.
    accuracy = run("subspace_accuracy").sel(split="test")
    print("accuracy on d directions a class:", accuracy["accuracy"].to_pandas().round(2), sep="\n")
    fractions = run("norm_fractions").sel(d=2, method="nearest")
    print("shares of the norm:", fractions["mean_fraction"].to_pandas().round(2), sep="\n")

    # The same asked of the leading singular vectors of the perturbations, and of attacks confined.
    twin = run("first_order_twin").sel(split="test")
    print("accuracy on singular vectors:", twin["accuracy"].to_pandas().round(2), sep="\n")
    confined = run("confined_deepfool")
    print(
        "norm of confined attacks:",
        confined["norm"].median("sample").to_pandas().round(2),
        sep="\n",
    )

    # Table 1: images resampled in front of the network.
    table = run("resampling")
    print("fooled after resampling:", table["fooling_rate"].to_pandas().round(2), sep="\n")


if __name__ == "__main__":
    tyro.cli(main)
