"""The four categories of what fools a network, networks side by side."""

from pathlib import Path
from typing import Annotated

import tyro

import geomadv as ga
from geomadv.plotting import beside


def main(
    folders: Annotated[tuple[Path, ...], tyro.conf.Positional],
    to: Path = Path("results/side_by_side"),
) -> None:
    """Draws curves and categories against the norm, a column for each network, and all overlaid.

    Args:
        folders: of the networks' results, such as results/digits-cnn. A missing result leaves an
            empty panel with the command that makes it.
        to: folder of the figures.
    """
    results = ga.pipeline.results_of(*folders)("categories")
    print(ga.plotting.save_figure(beside.categories(results), to, "categories"))
    if any(ds is not None for ds in results.values()):
        overlaid = ga.plotting.overlaid(results)
        print(ga.plotting.save_figure(overlaid, to, "categories_overlaid"))


if __name__ == "__main__":
    tyro.cli(main)
