"""Figures 1 to 4 and table 1 of "With Friends Like These" from the results of some networks."""

from pathlib import Path
from typing import Annotated

import pandas as pd
import tyro

import geomadv as ga

FIGURES = (
    "curvature_profile",
    "curvature_directions",
    "score_curves",
    "direction_sweep",
    "subspace_accuracy",
    "norm_fractions",
    "first_order_twin",
    "confined_deepfool",
    "confined_examples",
    "resampling",
)


def main(folders: Annotated[tuple[Path, ...], tyro.conf.Positional]) -> None:
    """Draws each network's figures in its folder, and prints table 1 of all of them.

    Args:
        folders: of the networks' results, such as results/digits-cnn.
    """
    table = {}
    for folder in folders:
        ga.pipeline.draw(folder, only=FIGURES)
        resampled = ga.load(folder / "resampling.h5")
        rates = resampled["fooling_rate"].assign_coords(
            share=("d_low", resampled["d_low"].to_numpy() / int(resampled["d_low"].max()))
        )
        table[folder.name] = rates.swap_dims(d_low="share").to_pandas().round(3)
    print("fooled by the original network's perturbations times f, images resampled to a share:")
    print(pd.concat(table, names=["network", "share"]))


if __name__ == "__main__":
    tyro.cli(main)
