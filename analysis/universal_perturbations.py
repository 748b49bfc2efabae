"""Universal adversarial perturbations (Moosavi-Dezfooli, Fawzi, Fawzi and Frossard, CVPR 2017).

One vector fools a network on most images. Why it exists: boundary normals of different images lie
in a common subspace of few dimensions. This recipe measures both, and what the paper tries besides.
"""

from functools import partial
from pathlib import Path

import tyro

import geomadv as ga


def main(network: str = "digits-cnn", results: Path = Path("results")) -> None:
    """Runs the paper's experiments on a network of the zoo and prints what they answer."""
    run = partial(ga.run, net=network, results=results)

    # Algorithm 1 at growing sizes of the sample set, and figure 6: the labels that images get.
    universal = run("universal")
    rates = universal[["fooling_rate", "held_out_fooling_rate"]].mean("repeat").to_dataframe()
    print("fooling rates by size of the sample set:", rates.round(3), sep="\n")
    graph = run("label_graph")
    print("labels received:", graph["received_share"].to_series().nlargest(3).round(2), sep="\n")

    # Section 4: the spectrum of the normals, and what random vectors of their span fool.
    run("boundary")
    svd = run("normal_svd")
    print(
        f"effective rank of the normals {float(svd['normal_effective_rank']):.1f}, of random "
        f"directions {float(svd['baseline_effective_rank'].mean()):.1f}"
    )
    span = run("random_subspace_fooling")
    print("fooled from the span:", span["fooling_rate"].mean("draw").to_pandas().round(3), sep="\n")

    # Figure 8: other perturbations of the same norm; table 2: other networks; section 3.2:
    # fine-tuning on perturbations.
    kinds = run("norm_comparison")["fooling_rate"].mean("draw")
    print("fooled by kind and norm:", kinds.to_pandas().round(2), sep="\n")
    print(run("transfer")["fooling_rate"].to_pandas().round(2))
    rounds = run("finetuning")
    print("fooled, round after round:", rounds["fooling_rate"].mean("member").to_series())


if __name__ == "__main__":
    tyro.cli(main)
