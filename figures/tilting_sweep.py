"""Angle, errors, distance and adversarial norm of a linear classifier against regularisation."""

from pathlib import Path

from drawing import draw, main

import geomadv as ga

EXPERIMENT = "tilting_plane"


def draw_figure(folder: Path) -> None:
    """Draws it for the network whose results lie in the folder."""
    draw(folder, EXPERIMENT, "tilting_sweep", ga.plotting.tilting_sweep)


if __name__ == "__main__":
    main(draw_figure)
