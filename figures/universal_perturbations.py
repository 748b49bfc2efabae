"""Tables and figures of "Universal adversarial perturbations", networks side by side."""

from pathlib import Path
from typing import Annotated

import tyro

import geomadv as ga
from geomadv.plotting import beside

# Figure -> the experiment of its results.
FIGURES = {
    "transfer": "transfer",
    "norm_comparison": "norm_comparison",
    "normal_spectrum": "normal_svd",
    "random_subspace_fooling": "random_subspace_fooling",
    "label_graph": "label_graph",
    "finetuning": "finetuning",
    "universal": "universal",
}


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
    drawn = {"fooling_table": beside.fooling_table(found("universal"))}
    drawn |= {name: beside.beside(found(source), name) for name, source in FIGURES.items()}
    for name, figure in drawn.items():
        print(ga.plotting.save_figure(figure, to, f"universal_{name}"))


if __name__ == "__main__":
    tyro.cli(main)
