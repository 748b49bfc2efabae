"""Figures of the last layer's adversarial directions from the results of some networks."""

from pathlib import Path
from typing import Annotated

import pandas as pd
import tyro

import geomadv as ga

FIGURES = ("softmax_null_space", "softmax_boundary_angles", "feature_collisions")


def main(folders: Annotated[tuple[Path, ...], tyro.conf.Positional]) -> None:
    """Draws each network's figures in its folder, and prints the dimensions of all of them.

    Args:
        folders: of the networks' results, such as results/digits-cnn.
    """
    table = {}
    for folder in folders:
        ga.pipeline.draw(folder, only=FIGURES)
        ds = ga.load(folder / "softmax_directions.h5")
        table[folder.name] = {
            "features": ds.sizes["feature"],
            "adversarial directions": int(ds["adversarial_dimension"]),
            "published bound": int(ds["published_bound"]),
            "unbounded regions": int(ds["region_unbounded"].sum()),
        }
    print(pd.DataFrame(table).T)


if __name__ == "__main__":
    tyro.cli(main)
