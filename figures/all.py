"""The figures of all papers from the results of some networks, side by side."""

from pathlib import Path
from typing import Annotated

import boundary_tilting
import four_categories
import last_layer
import tyro
import universal_perturbations
import with_friends_like_these

PAPERS = (
    with_friends_like_these,
    universal_perturbations,
    boundary_tilting,
    last_layer,
    four_categories,
)


def main(
    folders: Annotated[tuple[Path, ...], tyro.conf.Positional],
    to: Path = Path("results/side_by_side"),
) -> None:
    """Draws every paper's figures.

    Args:
        folders: of the networks' results, such as results/digits-cnn.
        to: folder of the figures.
    """
    for paper in PAPERS:
        print(f"\n{(paper.__doc__ or '').splitlines()[0]}")
        paper.main(folders, to)


if __name__ == "__main__":
    tyro.cli(main)
