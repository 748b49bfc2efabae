"""Figures of "Universal adversarial perturbations" from the results of some networks."""

from pathlib import Path
from typing import Annotated

import pandas as pd
import tyro

import geomadv as ga

FIGURES = (
    "universal",
    "label_graph",
    "normal_spectrum",
    "leading_directions",
    "random_subspace_fooling",
    "norm_comparison",
    "transfer",
    "finetuning",
    "categories",
)


def main(folders: Annotated[tuple[Path, ...], tyro.conf.Positional]) -> None:
    """Draws each network's figures in its folder, and prints the fooling rates of all of them.

    Args:
        folders: of the networks' results, such as results/digits-cnn.
    """
    table = {}
    for folder in folders:
        ga.pipeline.draw(folder, only=FIGURES)
        universal = ga.load(folder / "universal.h5")
        largest = universal.isel(size=-1)
        table[folder.name] = {
            "norm, % of images'": 100 * float(universal["radius"] / universal["mean_image_norm"]),
            "fooled, sample": 100 * float(largest["fooling_rate"].mean()),
            "fooled, held out": 100 * float(largest["held_out_fooling_rate"].mean()),
            "random, same norm": 100 * float(universal["random_fooling_rate"].mean()),
        }
    print(pd.DataFrame(table).T.round(1))


if __name__ == "__main__":
    tyro.cli(main)
