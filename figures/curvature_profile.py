"""Sorted eigenvalues of the mean Hessian and shape operator, one line per class."""

from pathlib import Path

from drawing import draw, main

import geomadv as ga

EXPERIMENT = "curvature"


def draw_figure(folder: Path) -> None:
    """Draws it for the network whose results lie in the folder."""
    draw(folder, EXPERIMENT, "curvature_profile", ga.plotting.curvature_profile)


if __name__ == "__main__":
    main(draw_figure)
