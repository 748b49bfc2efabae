"""Accuracy of images projected on singular vectors of perturbations and of normals."""

from pathlib import Path

from drawing import draw, main

import geomadv as ga

EXPERIMENT = "first_order_twin"


def draw_figure(folder: Path) -> None:
    """Draws it for the network whose results lie in the folder."""
    draw(folder, EXPERIMENT, "first_order_twin", ga.plotting.first_order_twin)


if __name__ == "__main__":
    main(draw_figure)
