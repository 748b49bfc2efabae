"""Figures of the last layer's adversarial directions, networks side by side."""

from pathlib import Path
from typing import Annotated

import tyro

import geomadv as ga
from geomadv.plotting import beside

FIGURES = ("softmax_null_space", "softmax_boundary_angles")


def main(
    folders: Annotated[tuple[Path, ...], tyro.conf.Positional],
    to: Path = Path("results/side_by_side"),
) -> None:
    """Draws null space and angles, a column for each network, and each one's collisions by itself.

    Args:
        folders: of the networks' results, such as results/digits-cnn. A missing result leaves an
            empty panel with the command that makes it.
        to: folder of the figures.
    """
    results = ga.pipeline.results_of(*folders)("softmax_directions")
    for name in FIGURES:
        figure = beside.beside(results, name)
        print(ga.plotting.save_figure(figure, to, f"last_layer_{name.removeprefix('softmax_')}"))
    for folder in folders:
        if (folder / "softmax_directions.h5").exists():
            ga.pipeline.draw(folder, only=["feature_collisions"])


if __name__ == "__main__":
    tyro.cli(main)
