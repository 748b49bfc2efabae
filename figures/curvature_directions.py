"""The most positive and most negative curvature directions as images, per class."""

from pathlib import Path

from drawing import draw, main

import geomadv as ga

EXPERIMENT = "curvature"


def draw_figure(folder: Path) -> None:
    """Draws it for the network whose results lie in the folder."""
    draw(folder, EXPERIMENT, "curvature_directions", ga.plotting.curvature_directions)


if __name__ == "__main__":
    main(draw_figure)
