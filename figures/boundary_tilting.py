"""Figures of the boundary tilting perspective from the results of some networks."""

from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import tyro

import geomadv as ga

FIGURES = (
    "tilting_plane",
    "tilting_sweep",
    "tilting_images",
    "tilting_space",
    "tilting_slider",
    "tilting_toy",
    "normal_tilt",
)


def main(folders: Annotated[tuple[Path, ...], tyro.conf.Positional]) -> None:
    """Draws each network's figures in its folder, and prints the tilt of all of them.

    Args:
        folders: of the networks' results, such as results/digits-cnn.
    """
    table = {}
    for folder in folders:
        ga.pipeline.draw(folder, only=FIGURES)
        tilt = ga.load(folder / "normal_tilt.h5")
        for name, part in tilt.groupby("network_name"):
            table[str(name)] = {
                "median angle, degrees": float(np.degrees(part["angle"].median())),
                "median distance": float(part["distance"].median()),
            }
    print(pd.DataFrame(table).T.round(3))


if __name__ == "__main__":
    tyro.cli(main)
