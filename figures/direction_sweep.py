"""Scores and transitions along the curved and flat directions of one class."""

from pathlib import Path

from drawing import draw, main

import geomadv as ga

EXPERIMENT = "direction_sweep"


def draw_figure(folder: Path) -> None:
    """Draws it for the network whose results lie in the folder."""
    draw(folder, EXPERIMENT, "direction_sweep", ga.plotting.direction_sweep)


if __name__ == "__main__":
    main(draw_figure)
