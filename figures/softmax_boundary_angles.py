"""Angles between the class boundaries of the last layer."""

from pathlib import Path

from drawing import draw, main

import geomadv as ga

EXPERIMENT = "softmax_directions"


def draw_figure(folder: Path) -> None:
    """Draws it for the network whose results lie in the folder."""
    draw(folder, EXPERIMENT, "softmax_boundary_angles", ga.plotting.softmax_boundary_angles)


if __name__ == "__main__":
    main(draw_figure)
