"""Curvature along the extreme directions against the step of the finite difference."""

from pathlib import Path

from drawing import draw, main

import geomadv as ga

EXPERIMENT = "curvature"


def draw_figure(folder: Path) -> None:
    """Draws it for the network whose results lie in the folder."""
    draw(folder, EXPERIMENT, "scale_sweep", ga.plotting.scale_sweep)


if __name__ == "__main__":
    main(draw_figure)
