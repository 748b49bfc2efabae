"""Figures, table and supplement of "With Friends Like These", networks side by side."""

from pathlib import Path
from typing import Annotated

import tyro

import geomadv as ga
from geomadv.plotting import friends


def main(
    folders: Annotated[tuple[Path, ...], tyro.conf.Positional],
    to: Path = Path("results/side_by_side"),
) -> None:
    """Draws the paper's figures, a column for each network.

    Args:
        folders: of the networks' results, such as results/digits-cnn. A missing result leaves an
            empty panel with the command that makes it.
        to: folder of the figures.
    """
    found = ga.pipeline.results_of(*folders)
    sweeps, resampled = found("direction_sweep"), found("resampling")
    drawn = {
        "figure_1": friends.score_curves(found("score_curves")),
        "figure_2": friends.sweeps(sweeps),
        "figure_3": friends.subspaces(found("subspace_accuracy"), found("norm_fractions")),
        "figure_4": friends.singular_subspaces(found("first_order_twin"), resampled),
        "figure_5": friends.confined(found("confined_deepfool")),
        "table_1": friends.rescaling(resampled),
        "supplement_negative": friends.sweeps(sweeps, "negative"),
        "supplement_flat": friends.sweeps(sweeps, "flat"),
    }
    for name, figure in drawn.items():
        print(ga.plotting.save_figure(figure, to, f"friends_{name}"))


if __name__ == "__main__":
    tyro.cli(main)
