"""Fooling rates of random vectors from the normals' leading subspace."""

from pathlib import Path

from drawing import draw, main

import geomadv as ga

EXPERIMENT = "random_subspace_fooling"


def draw_figure(folder: Path) -> None:
    """Draws it for the network whose results lie in the folder."""
    draw(
        folder,
        EXPERIMENT,
        "random_subspace_fooling",
        ga.plotting.random_subspace_fooling,
    )


if __name__ == "__main__":
    main(draw_figure)
