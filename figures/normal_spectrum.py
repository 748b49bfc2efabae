"""Singular values of the normal matrix beside the random baseline."""

from pathlib import Path

from drawing import draw, main

import geomadv as ga

EXPERIMENT = "normal_svd"


def draw_figure(folder: Path) -> None:
    """Draws it for the network whose results lie in the folder."""
    draw(folder, EXPERIMENT, "normal_spectrum", ga.plotting.normal_spectrum)


if __name__ == "__main__":
    main(draw_figure)
