"""Angles between boundary normals and centroid directions, standard and robust networks."""

from pathlib import Path

from drawing import draw, main

import geomadv as ga

EXPERIMENT = "normal_tilt"


def draw_figure(folder: Path) -> None:
    """Draws it for the network whose results lie in the folder."""
    draw(folder, EXPERIMENT, "normal_tilt", ga.plotting.normal_tilt)


if __name__ == "__main__":
    main(draw_figure)
