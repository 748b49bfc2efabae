"""The figures of all papers from the results of some networks."""

from pathlib import Path
from typing import Annotated

import boundary_tilting
import last_layer
import tyro
import universal_perturbations
import with_friends_like_these

PAPERS = (with_friends_like_these, universal_perturbations, boundary_tilting, last_layer)


def main(folders: Annotated[tuple[Path, ...], tyro.conf.Positional]) -> None:
    """Draws every paper's figures.

    Args:
        folders: of the networks' results, such as results/digits-cnn.
    """
    for paper in PAPERS:
        print(f"\n{(paper.__doc__ or '').splitlines()[0]}")
        paper.main(folders)


if __name__ == "__main__":
    tyro.cli(main)
